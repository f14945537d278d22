package main

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	ggcr "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sys/unix"
	v1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	archive "github.com/podkeeper/podkeeper/hack/image"
	"github.com/podkeeper/podkeeper/runtime"
)

// kubeadmManifests are what kubeadm writes for a control plane at planeAddress.
const (
	kubeadmManifests = "../../manifests/testdata/kubeadm"
	planeAddress     = "192.0.2.1"
)

// plane is a node with the static Pods that kubeadm writes, and nothing else.
type plane struct {
	*node
	manifests map[string]string // by the names of the Pods, which are those of their containers, programs and files, too
	pods      map[string]*v1.Pod
}

// TestStaticPodsOfAControlPlane runs the manifests that kubeadm writes as they are, with stand-ins in their images. The real
// programs are run by TestKubeadmsControlPlane.
func TestStaticPodsOfAControlPlane(t *testing.T) {
	t.Parallel()
	standin, err := buildStandin()
	if errors.Is(err, exec.ErrNotFound) {
		t.Skip("there is no Go to build hack/standin with, and PODKEEPER_TEST_STANDIN names none")
	} else if err != nil {
		t.Fatal(err)
	}
	p := newPlane(t)
	p.read(kubeadmManifests)
	for _, name := range p.names() {
		p.image(name, standin)
		for _, file := range filesOf(p.pods[name]) {
			if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(file+"\n"), 0o600)); err != nil {
				t.Fatal(err)
			}
		}
	}
	p.begins()
	p.isAsWritten()
	p.probesAreHeeded()
	p.etcdDies()
	if text, err := os.ReadFile("/var/lib/etcd/started"); err != nil || string(text) != "started\nstarted\n" {
		t.Errorf("etcd's folder on the host says %q, %v", text, err)
	}
	p.agentDies()
}

// TestKubeadmsControlPlane has kubeadm write certificates, kubeconfigs and static Pods, runs these as they are with etcd and
// Kubernetes' own programs, and asks the API server for what a control plane does.
func TestKubeadmsControlPlane(t *testing.T) {
	t.Parallel()
	programs := os.Getenv("PODKEEPER_TEST_CONTROLPLANE")
	if programs == "" {
		t.Skip("PODKEEPER_TEST_CONTROLPLANE names no control plane: make test-controlplane builds one")
	}
	p := newPlane(t)
	kubeadm := func(args ...string) string { return host(t, filepath.Join(programs, "kubeadm"), args...) }
	config := p.path("kubeadm.yaml")
	err := os.WriteFile(config, fmt.Appendf(nil, kubeadmConfig, planeAddress, strings.TrimSpace(kubeadm("version", "-o", "short"))), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	phases := func(all ...string) {
		t.Helper()
		for _, phase := range all {
			kubeadm(append(append([]string{"init", "phase"}, strings.Fields(phase)...), "--config", config)...)
		}
	}
	phases("certs all", "kubeconfig all", "etcd local", "control-plane all")
	p.read(kubeadmManifests)
	known := maps.Clone(p.manifests)
	p.read("/etc/kubernetes/manifests")
	if diff := cmp.Diff(known, p.manifests); diff != "" {
		t.Errorf("kubeadm no longer writes what is in %s (-there +written):\n%s", kubeadmManifests, diff)
	}
	for _, name := range p.names() {
		p.image(name, filepath.Join(programs, name))
	}
	p.begins()
	p.isAsWritten()
	phases("upload-config kubeadm", "bootstrap-token") // who joins is told of it
	if out, err := p.kubectl("get configmap cluster-info -n kube-public -o jsonpath={.data.kubeconfig}"); err != nil || !strings.Contains(out, planeAddress) {
		t.Errorf("cluster-info says %q, %v", out, err)
	}
	p.controls(2)
	p.etcdDies()
	p.controls(3)
	p.agentDies()
	p.controls(1)
}

// kubeadmConfig is what kubeadm would ask the internet and containerd's CRI for.
const kubeadmConfig = `apiVersion: kubeadm.k8s.io/v1beta4
kind: InitConfiguration
localAPIEndpoint: {advertiseAddress: %s}
nodeRegistration: {name: node, criSocket: unix:///run/containerd/containerd.sock}
---
apiVersion: kubeadm.k8s.io/v1beta4
kind: ClusterConfiguration
kubernetesVersion: %s
`

// buildStandin builds what stands in for the programs of a control plane, when the first test asks.
var buildStandin = sync.OnceValues(func() (string, error) {
	if built := os.Getenv("PODKEEPER_TEST_STANDIN"); built != "" {
		return built, nil
	}
	path := filepath.Join(labDir, "standin")
	build := exec.Command("go", "build", "-o", path, "../../hack/standin")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build standin: %w: %s", err, out)
	}
	return path, nil
})

// newPlane makes a node that is alone on a host of its own: with a network, a containerd, and folders that kubeadm's Pods mount.
func newPlane(t *testing.T) *plane {
	t.Helper()
	p := &plane{node: prepare(t), manifests: map[string]string{}, pods: map[string]*v1.Pod{}}
	ownHost(t, planeAddress)
	host(t, "ip", "route", "add", "default", "dev", "outer") // a host's address is the one that it would leave by
	p.ownFiles("/etc", "/var/lib", "/usr/share", "/usr/local/share")
	if err := os.MkdirAll(p.path("archives"), 0o755); err != nil {
		t.Fatal(err)
	}
	p.flags = []string{"--image-dir", p.path("archives")}
	p.startOwn()
	return p
}

// ownFiles has what the test's thread, and all that it starts, change in folders of the host be below the node's folder instead.
// ownHost comes before: the thread must end with the test.
func (n *node) ownFiles(dirs ...string) {
	n.t.Helper()
	if err := errors.Join(unix.Unshare(unix.CLONE_NEWNS), unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, "")); err != nil {
		n.t.Fatal(err)
	}
	for _, dir := range dirs {
		upper, work := n.path("host", dir, "upper"), n.path("host", dir, "work")
		err := errors.Join(os.MkdirAll(upper, 0o755), os.MkdirAll(work, 0o755),
			unix.Mount("overlay", dir, "overlay", 0, fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s", dir, upper, work)))
		if err != nil {
			n.t.Fatal(err)
		}
	}
}

// read takes over kubeadm's manifests.
func (p *plane) read(dir string) {
	p.t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.yaml"))
	if err != nil || len(files) != 4 {
		p.t.Fatalf("in %s there are %q: %v", dir, files, err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			p.t.Fatal(err)
		}
		pod := &v1.Pod{}
		if err := yaml.Unmarshal(text, pod); err != nil {
			p.t.Fatal(err)
		}
		p.manifests[pod.Name], p.pods[pod.Name] = string(text), pod
	}
}

func (p *plane) names() []string { return slices.Sorted(maps.Keys(p.manifests)) }

// filesOf are the files that a Pod's command names.
func filesOf(pod *v1.Pod) (files []string) {
	for _, arg := range pod.Spec.Containers[0].Command {
		if flag, value, _ := strings.Cut(arg, "="); filepath.IsAbs(value) && flag != "--data-dir" {
			files = append(files, value)
		}
	}
	return files
}

// image makes the archive of a Pod's image, which is but a program.
func (p *plane) image(name, binary string) {
	p.t.Helper()
	layer := filepath.Join(p.t.TempDir(), "layer.tar")
	if err := writeLayer(layer, "usr/local/bin/"+name, binary); err != nil {
		p.t.Fatal(err)
	}
	files := func() (io.ReadCloser, error) { return os.Open(layer) }
	config := ggcr.Config{Env: []string{"PATH=/usr/local/bin"}}
	if err := archive.Write(p.path("archives", name+".tar"), p.pods[name].Spec.Containers[0].Image, files, config); err != nil {
		p.t.Fatal(err)
	}
}

// writeLayer writes a tar of one program.
func writeLayer(to, name, binary string) error {
	in, err := os.Open(binary)
	if err != nil {
		return err
	}
	defer in.Close()
	info, err := in.Stat()
	if err != nil {
		return err
	}
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	defer out.Close()
	w := tar.NewWriter(out)
	if err := w.WriteHeader(&tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o755, Size: info.Size()}); err != nil {
		return err
	}
	if _, err := io.Copy(w, in); err != nil {
		return err
	}
	return w.Close()
}

// begins starts the agent, drops the manifests once there are the images, and waits for the Pods.
func (p *plane) begins() {
	p.t.Helper()
	p.restart()
	r := p.runtime()
	for _, name := range p.names() {
		p.eventually("the image of "+name+" is there", func() error {
			_, err := r.EnsureImage(p.t.Context(), runtime.Request{Image: p.pods[name].Spec.Containers[0].Image, Policy: v1.PullNever})
			return err
		})
	}
	dropped := time.Now()
	for name, text := range p.manifests {
		p.apply(name+".yaml", text)
	}
	p.allReady(func(string, *v1.Pod) bool { return true })
	p.t.Logf("ready %v after the manifests were dropped; started anew: %v", time.Since(dropped).Round(100*time.Millisecond), p.restarts())
}

// allReady waits until all Pods are ready and as wanted, and notes them. Real ones may take as long as kubeadm lets them: its
// startup probes fail after four minutes.
func (p *plane) allReady(is func(name string, pod *v1.Pod) bool) {
	p.t.Helper()
	var err error
	for range 4 {
		if err = wait(func() error {
			for _, name := range p.names() {
				pod, err := p.get(name)
				if err != nil {
					return err
				}
				if !isReady(pod) || !is(name, pod) {
					return fmt.Errorf("%s is %+v", name, pod.Status)
				}
				p.pods[name] = pod
			}
			return nil
		}); err == nil {
			return
		}
	}
	p.sayLogs()
	p.t.Fatal("the control plane is not ready: ", err)
}

// sayLogs tells what the programs of the control plane said last.
func (p *plane) sayLogs() {
	for name, pod := range p.pods {
		lines := p.logLines(pod, name, int(containerStatus(pod, name).RestartCount))
		p.t.Logf("%s says:\n%s", name, strings.Join(lines[max(0, len(lines)-30):], "\n"))
	}
}

// isAsWritten compares the Pods, and the kernel's view of their processes, with what the manifests say.
func (p *plane) isAsWritten() {
	p.t.Helper()
	own, err := os.Readlink("/proc/thread-self/ns/net")
	if err != nil {
		p.t.Fatal(err)
	}
	for name, pod := range p.pods {
		if *pod.Spec.Priority != 2000001000 || pod.Spec.PriorityClassName != "system-node-critical" || pod.Namespace != "kube-system" {
			p.t.Errorf("%s/%s has priority %d, %q", pod.Namespace, name, *pod.Spec.Priority, pod.Spec.PriorityClassName)
		}
		if pod.Status.PodIP != planeAddress || pod.Status.HostIP != planeAddress || len(pod.Status.PodIPs) != 1 {
			p.t.Errorf("%s is at %s %v, its host at %s", name, pod.Status.PodIP, pod.Status.PodIPs, pod.Status.HostIP)
		}
		status := containerStatus(pod, name)
		if status.Started == nil || !*status.Started || pod.Status.QOSClass != v1.PodQOSBurstable {
			p.t.Errorf("%s is %+v", name, pod.Status)
		}
		// Startup probes come first, and each has an initialDelaySeconds of 10, from the second of the start.
		if ready := readySince(pod); status.State.Running == nil || ready.Sub(status.State.Running.StartedAt.Time) < 10*time.Second {
			p.t.Errorf("%s is ready since %v: %+v", name, ready, status.State)
		}
		p.kernelSays(p.pid(pod, name), own)
	}
}

// kernelSays checks a process of a control plane, which is in a network.
func (p *plane) kernelSays(pid int, network string) {
	p.t.Helper()
	proc := fmt.Sprintf("/proc/%d", pid)
	if got, want := oomScoreAdj(p.t, pid), max(-997, lowestOOMScoreAdj(slog.New(slog.DiscardHandler))); got != want {
		p.t.Errorf("%s has oom_score_adj %d, want %d", proc, got, want)
	}
	if status := statusOf(p.t, proc); status["Seccomp"] != "2" {
		p.t.Errorf("%s has Seccomp: %s", proc, status["Seccomp"])
	}
	if in, err := os.Readlink(proc + "/ns/net"); err != nil || in != network {
		p.t.Errorf("%s is in %s, %v, not in the host's %s", proc, in, err, network)
	}
}

// probesAreHeeded has a stand-in say, by HTTPS, that it is not ready, and then that it is.
func (p *plane) probesAreHeeded() {
	p.t.Helper()
	const name = "kube-scheduler"
	for _, ready := range []bool{false, true} {
		if err := syscall.Kill(p.pid(p.pods[name], name), syscall.SIGUSR1); err != nil {
			p.t.Fatal(err)
		}
		p.await(name, fmt.Sprintf("has ready %v", ready), func(pod *v1.Pod) bool { return isReady(pod) == ready })
	}
	if said := p.events("Unhealthy"); !slices.Contains(said, "Readiness probe failed: HTTP probe failed with statuscode: 500") {
		p.t.Errorf("events say %q", said)
	}
	p.allReady(func(name string, pod *v1.Pod) bool { return containerStatus(pod, name).RestartCount == 0 })
}

// etcdDies kills etcd. It alone is started anew, but for who lost his lease meanwhile, and ends for that.
func (p *plane) etcdDies() {
	p.t.Helper()
	before := p.restarts()
	if err := syscall.Kill(p.pid(p.pods["etcd"], "etcd"), syscall.SIGKILL); err != nil {
		p.t.Fatal(err)
	}
	p.allReady(func(name string, pod *v1.Pod) bool {
		return name != "etcd" || containerStatus(pod, name).RestartCount == before[name]+1
	})
	if last := containerStatus(p.pods["etcd"], "etcd").LastTerminationState.Terminated; last == nil || last.ExitCode != 137 {
		p.t.Errorf("etcd ended as %+v", last)
	}
	before["etcd"]++
	for name, count := range p.restarts() {
		said := strings.Join(p.logLines(p.pods[name], name, int(count)-1), "\n")
		if count != before[name] && !strings.Contains(said, "leaderelection lost") {
			p.t.Errorf("%s was started anew %d times, want %d; it says\n%s", name, count, before[name], said)
		}
	}
}

// agentDies kills the agent, and starts another: nothing else is.
func (p *plane) agentDies() {
	p.t.Helper()
	before := p.pods
	p.pods = map[string]*v1.Pod{}
	p.kill()
	p.restart()
	p.allReady(func(string, *v1.Pod) bool { return true })
	for name, was := range before {
		now := p.pods[name]
		if was.UID != now.UID || containerStatus(was, name).ContainerID != containerStatus(now, name).ContainerID || !readySince(was).Equal(readySince(now)) {
			p.t.Errorf("%s was %+v, it is %+v", name, was.Status, now.Status)
		}
	}
}

// restarts is how often each was started anew.
func (p *plane) restarts() map[string]int32 {
	counts := map[string]int32{}
	for name, pod := range p.pods {
		counts[name] = containerStatus(pod, name).RestartCount
	}
	return counts
}

// controls has the API server keep a number, the controller manager make as many Pods of a Deployment, and the scheduler say that
// there is no node for them.
func (p *plane) controls(replicas int) {
	p.t.Helper()
	asked := fmt.Sprintf(deployment, replicas)
	if out, err := p.kubectl("apply -f -", asked); err != nil {
		p.t.Fatalf("%v: %s", err, out)
	}
	if out, err := p.kubectl("get configmap asked -o jsonpath={.data.replicas}"); err != nil || out != strconv.Itoa(replicas) {
		p.t.Errorf("the ConfigMap says %q, %v", out, err)
	}
	const reasons = `get pods -l app=idle -o 'jsonpath={range .items[*]}{.metadata.ownerReferences[0].kind} {.status.phase} {.status.conditions[?(@.type=="PodScheduled")].message}{"\n"}{end}'`
	want := strings.Repeat("ReplicaSet Pending no nodes available to schedule pods\n", replicas)
	p.eventually("Pods are made, and wait for a node", func() error {
		out, err := p.kubectl(reasons)
		if err == nil && out != want {
			err = fmt.Errorf("they are\n%s", out)
		}
		return err
	})
}

const deployment = `apiVersion: v1
kind: ConfigMap
metadata: {name: asked}
data: {replicas: "%[1]d"}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: idle}
spec:
  replicas: %[1]d
  selector: {matchLabels: {app: idle}}
  template:
    metadata: {labels: {app: idle}}
    spec: {containers: [{name: idle, image: podkeeper.local/demo:v1}]}
`

// kubectl asks the control plane, as who installs it.
func (p *plane) kubectl(line string, stdin ...string) (string, error) {
	api, err := buildAPI()
	if err != nil {
		return "", stop(err)
	}
	ctx, cancel := context.WithTimeout(p.t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, api, append([]string{"kubectl", "--kubeconfig", "/etc/kubernetes/super-admin.conf"}, words(line)...)...)
	cmd.Env = append(os.Environ(), "HOME="+p.dir)
	cmd.Stdin = strings.NewReader(strings.Join(stdin, ""))
	out, err := cmd.Output()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		err = fmt.Errorf("%w: %s", err, exit.Stderr)
	}
	return string(out), err
}
