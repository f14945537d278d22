package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/containerd/containerd/api/services/tasks/v1"
	"github.com/containerd/errdefs"
	"github.com/containerd/errdefs/pkg/errgrpc"
	v1 "k8s.io/api/core/v1"

	"github.com/podkeeper/podkeeper/server"
)

// agent is podkeeper in the lab.
type agent struct {
	lab    *lab
	client *server.Client
	cmd    *exec.Cmd // nil while it does not run
	flags  []string  // besides those of the lab
	broken error     // why nothing of it can be measured
}

// newAgent starts podkeeper and has it import the image.
func newAgent(ctx context.Context, l *lab) *agent {
	a := &agent{lab: l, client: server.NewClient(l.path("run"))}
	a.broken = a.open(ctx)
	return a
}

func (a *agent) open(ctx context.Context) error {
	config := "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\ncgroupRoot: /" + a.lab.name + "\npodCIDR: " + podCIDR +
		"\ncontainerLogMaxSize: 200Mi\n" + // the log that is measured is one file
		"evictionHard: {memory.available: 0%}\n" // however little the host has left, no Pod goes for it
	if err := os.WriteFile(a.lab.path("config.yaml"), []byte(config), 0o600); err != nil {
		return fmt.Errorf("write podkeeper's configuration: %w", err)
	}
	if err := a.start(a.lab.binary); err != nil {
		return err
	}
	imported := func() (bool, error) {
		if err := a.alive(); err != nil {
			return false, err
		}
		image, err := a.lab.pods.GetImage(ctx, demoImage)
		if err != nil {
			return false, err
		}
		return image.IsUnpacked(ctx, snapshotter)
	}
	if err := poll(ctx, 50*time.Millisecond, imported); err != nil {
		return errors.Join(fmt.Errorf("wait for podkeeper to import the image: %w", err), a.lastWords())
	}
	return nil
}

// start starts the process of a binary and does not wait.
func (a *agent) start(binary string, env ...string) (err error) {
	l := a.lab
	a.cmd, err = start(l.path("agent.log"), env, append([]string{binary, "agent",
		"--config", l.path("config.yaml"), "--pod-manifest-path", l.path("manifests"), "--root-dir", l.path("root"),
		"--run-dir", l.path("run"), "--pod-logs-dir", l.path("logs"), "--container-runtime-endpoint", "unix://" + l.socket(),
		"--containerd-namespace", l.name, "--image-dir", l.path("images"), "--cni-conf-dir", l.path("cni"), "--cni-bin-dir", cniBin}, a.flags...)...)
	return err
}

// restart ends the process and starts another, beside the Pods that there are.
func (a *agent) restart(sig syscall.Signal, binary string, env ...string) error {
	if err := a.stop(sig); err != nil {
		return err
	}
	return a.start(binary, env...)
}

// alive fails with errOver when the process has ended by itself.
func (a *agent) alive() error {
	stat, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(a.cmd.Process.Pid), "stat"))
	if err != nil || strings.Contains(string(stat), ") Z ") {
		return fmt.Errorf("podkeeper has ended: %w", errOver)
	}
	return nil
}

// reset gives the next part a new agent without Pods, after one that failed.
func (a *agent) reset(ctx context.Context) error {
	files, err := filepath.Glob(a.file("*"))
	if err != nil {
		return fmt.Errorf("list manifests: %w", err)
	}
	for _, file := range files {
		if err := os.Remove(file); err != nil {
			return fmt.Errorf("remove manifest: %w", err)
		}
	}
	if err := a.restart(syscall.SIGKILL, a.lab.binary); err != nil {
		return err
	}
	empty := func() (bool, error) {
		if err := a.alive(); err != nil {
			return false, err
		}
		list, err := a.client.Pods(ctx)
		return err == nil && len(list.Items) == 0, err
	}
	if err := poll(ctx, 50*time.Millisecond, empty); err != nil {
		return errors.Join(fmt.Errorf("wait for an agent without Pods: %w", err), a.lastWords())
	}
	return nil
}

// stop ends the process; Pods run on.
func (a *agent) stop(sig syscall.Signal) error {
	if a.cmd == nil {
		return nil
	}
	cmd := a.cmd
	a.cmd = nil
	return end(cmd, sig)
}

// lastWords is the end of the agent's log, as an error, for people.
func (a *agent) lastWords() error {
	log, err := os.ReadFile(a.lab.path("agent.log"))
	if err != nil {
		return fmt.Errorf("read the agent's log: %w", err)
	}
	lines := strings.Split(strings.TrimSpace(string(log)), "\n")
	return errors.New("the agent's log ends:\n" + strings.Join(lines[max(0, len(lines)-20):], "\n"))
}

// warnings are the lines of the agent's log that say that something went wrong: a figure beside which there are some
// may hold a wait before a second try.
func (a *agent) warnings() ([]string, error) {
	log, err := os.ReadFile(a.lab.path("agent.log"))
	if err != nil {
		return nil, fmt.Errorf("read the agent's log: %w", err)
	}
	return slices.DeleteFunc(strings.Split(strings.TrimSpace(string(log)), "\n"), func(line string) bool {
		return !strings.Contains(line, "level=WARN") && !strings.Contains(line, "level=ERROR") || strings.Contains(line, "oom_score_adj")
	}), nil
}

// podCIDR has room for every crowd.
const podCIDR = "10.189.0.0/16"

// manifest is a Pod of one container, for podkeeper and podman alike.
const manifest = `apiVersion: v1
kind: Pod
metadata:
  name: %[1]s
spec:
  terminationGracePeriodSeconds: 10
  containers:
  - name: app
    image: %[2]s
    imagePullPolicy: IfNotPresent
    command: ["/bin/sh", "-c", %[3]q]
    resources:
      requests: {cpu: 10m, memory: 16Mi}
      limits: {cpu: "1", memory: 64Mi}
    volumeMounts:
    - {name: out, mountPath: /out}
  volumes:
  - name: out
    hostPath: {path: %[4]q}
`

func (l *lab) manifest(pod string) []byte {
	return fmt.Appendf(nil, manifest, pod, demoImage, command(pod), l.out)
}

func (a *agent) file(pod string) string { return a.lab.path("manifests", pod+".yaml") }

// drop renames the manifests of Pods into the directory and answers when it began.
func (a *agent) drop(pods []string) (time.Time, error) {
	manifests := map[string][]byte{}
	for _, pod := range pods {
		manifests[pod] = a.lab.manifest(pod)
	}
	return a.dropAll(manifests)
}

// dropAll renames manifests into the directory, each under the name of its Pod, and answers when it began.
func (a *agent) dropAll(manifests map[string][]byte) (time.Time, error) {
	for pod, manifest := range manifests {
		if err := os.WriteFile(a.lab.path(pod+".yaml"), manifest, 0o644); err != nil {
			return time.Time{}, fmt.Errorf("write manifest: %w", err)
		}
	}
	begin := time.Now()
	for pod := range manifests {
		if err := os.Rename(a.lab.path(pod+".yaml"), a.file(pod)); err != nil {
			return begin, fmt.Errorf("drop manifest: %w", err)
		}
	}
	return begin, nil
}

// run drops manifests and answers, in the order of the Pods, how long it took until each one's main process ran.
func (a *agent) run(ctx context.Context, pods []string) ([]time.Duration, error) {
	if a.broken != nil {
		return nil, a.broken
	}
	begin, err := a.drop(pods)
	if err != nil {
		return nil, err
	}
	return a.lab.starts.wait(ctx, pods, begin)
}

// remove removes the manifests of Pods, answers how long it took until all their tasks and addresses were gone, and
// waits until nothing of them is left.
func (a *agent) remove(ctx context.Context, pods []string) (time.Duration, error) {
	ids, err := a.containers(ctx, pods)
	if err != nil {
		return 0, err
	}
	leases, err := a.leases(ctx, pods)
	if err != nil {
		return 0, err
	}
	begin := time.Now()
	for _, pod := range pods {
		if err := os.Remove(a.file(pod)); err != nil {
			return 0, fmt.Errorf("remove manifest: %w", err)
		}
	}
	gone := func() (bool, error) {
		for len(leases) > 0 { // these first: to ask for them costs nothing
			if _, err := os.Stat(leases[0]); !errors.Is(err, fs.ErrNotExist) {
				return false, err
			}
			leases = leases[1:]
		}
		for len(ids) > 0 {
			_, err := a.lab.pods.TaskService().Get(ctx, &tasks.GetRequest{ContainerID: ids[0]})
			if err == nil || !errdefs.IsNotFound(errgrpc.ToNative(err)) {
				return false, err
			}
			ids = ids[1:]
		}
		return true, nil
	}
	if err := poll(ctx, time.Millisecond, gone); err != nil {
		return 0, fmt.Errorf("wait for tasks and addresses to go: %w", err)
	}
	return time.Since(begin), a.awaitGone(ctx, pods)
}

// awaitGone waits until podkeeper tells of none of these Pods.
func (a *agent) awaitGone(ctx context.Context, pods []string) error {
	forgotten := func() (bool, error) {
		list, err := a.client.Pods(ctx)
		return err == nil && !slices.ContainsFunc(list.Items, func(p v1.Pod) bool { return slices.Contains(pods, p.Name) }), err
	}
	if err := poll(ctx, 20*time.Millisecond, forgotten); err != nil {
		return fmt.Errorf("wait for Pods to go: %w", err)
	}
	return nil
}

// containers answers the ids of all containers of Pods, by the labels of podkeeper's contract.
func (a *agent) containers(ctx context.Context, pods []string) ([]string, error) {
	records, err := a.lab.pods.ContainerService().List(ctx)
	if err != nil {
		return nil, fmt.Errorf("list containers: %w", err)
	}
	var ids []string
	for _, r := range records {
		if slices.Contains(pods, r.Labels["io.kubernetes.pod.name"]) {
			ids = append(ids, r.ID)
		}
	}
	return ids, nil
}

// leases answers the files in which host-local holds the addresses of Pods.
func (a *agent) leases(ctx context.Context, pods []string) ([]string, error) {
	list, err := a.client.Pods(ctx)
	if err != nil {
		return nil, fmt.Errorf("ask for addresses: %w", err)
	}
	addresses := map[string]bool{}
	for _, p := range list.Items {
		if slices.Contains(pods, p.Name) && p.Status.PodIP != "" {
			addresses[p.Status.PodIP] = true
		}
	}
	var files []string
	err = filepath.WalkDir(a.lab.path("run"), func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && addresses[d.Name()] {
			files = append(files, path)
		}
		return nil // what has vanished meanwhile holds no address
	})
	if err == nil && len(files) != len(pods) {
		err = fmt.Errorf("%d of %d Pods have one", len(files), len(pods))
	}
	if err != nil {
		return nil, fmt.Errorf("find addresses: %w", err)
	}
	return files, nil
}

// get asks the agent's socket for something, and reads it to its end.
func (a *agent) get(ctx context.Context, path string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://podkeeper"+path, nil)
	if err != nil {
		return err
	}
	res, err := a.client.Transport().RoundTrip(req)
	if err != nil {
		return fmt.Errorf("ask for %s: %w", path, err)
	}
	_, err = io.Copy(io.Discard, res.Body)
	return errors.Join(err, res.Body.Close())
}

// mainPID answers the host's pid of a Pod's main process.
func (a *agent) mainPID(ctx context.Context, pod string) (int, error) {
	records, err := a.lab.pods.ContainerService().List(ctx,
		fmt.Sprintf(`labels."io.kubernetes.pod.name"==%s,labels."io.kubernetes.container.name"==app`, pod))
	if err != nil {
		return 0, fmt.Errorf("list containers: %w", err)
	}
	if len(records) != 1 {
		return 0, fmt.Errorf("find main process of Pod %s: it has %d containers named app", pod, len(records))
	}
	answer, err := a.lab.pods.TaskService().Get(ctx, &tasks.GetRequest{ContainerID: records[0].ID})
	if err != nil {
		return 0, fmt.Errorf("find main process of Pod %s: %w", pod, errgrpc.ToNative(err))
	}
	return int(answer.Process.Pid), nil
}

// awaitReady waits until podkeeper says of so many Pods that they run and are ready.
func (a *agent) awaitReady(ctx context.Context, n int) error {
	ready := func() (bool, error) {
		if err := a.alive(); err != nil {
			return false, err
		}
		list, err := a.client.Pods(ctx)
		if err != nil {
			return false, err
		}
		count := 0
		for _, p := range list.Items {
			if p.Status.Phase == v1.PodRunning && slices.ContainsFunc(p.Status.Conditions, isReady) {
				count++
			}
		}
		return count == n, nil
	}
	if err := poll(ctx, 2*time.Millisecond, ready); err != nil {
		return fmt.Errorf("wait for %d Pods to be ready: %w", n, err)
	}
	return nil
}

func isReady(c v1.PodCondition) bool { return c.Type == v1.PodReady && c.Status == v1.ConditionTrue }
