// Package nodetest tests podkeeper as the service of a host of its own: systemd starts, kills and restarts it, its
// directories are the real ones, and the host reboots. The expected figures are computed by hand from Kubernetes'
// documentation, never with podkeeper's own packages.
//
// hack/nodetest/run carries these tests into a guest. They take over the host they run on, so that everywhere else they
// are skipped.
package nodetest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/errdefs"
	v1 "k8s.io/api/core/v1"

	"github.com/podkeeper/podkeeper/server"
)

const (
	manifestDir = "/etc/podkeeper/manifests"
	configFile  = "/etc/podkeeper/config.yaml"
	runDir      = "/run/podkeeper"
	namespace   = "podkeeper" // in containerd
	// patience is how long anything may take: the guest is emulated, and its host is busy.
	patience = 4 * time.Minute
)

// host is the disposable machine that a test runs on.
type host struct {
	t      *testing.T
	client *server.Client
}

// open skips the test on a host that is dear to someone; else it sees to it that the service is installed and runs.
func open(t *testing.T) *host {
	t.Helper()
	h := disposable(t)
	if h.property("LoadState") != "loaded" {
		h.install()
	}
	h.systemctl("start", "podkeeper")
	return h
}

// disposable skips the test on a host that is dear to someone.
func disposable(t *testing.T) *host {
	t.Helper()
	if os.Getenv("PODKEEPER_NODE") != "disposable" {
		t.Skip("this takes over the host, its services and its Pods: hack/nodetest/run does it in a guest (PODKEEPER_NODE=disposable allows it here)")
	}
	h := &host{t: t, client: server.NewClient(runDir)}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the journal's end:\n%s", h.output("journalctl", "-b", "-n", "80", "-o", "short-precise", "--no-pager", "-u", "podkeeper", "-u", "podkeeper-api", "-u", "containerd"))
		}
	})
	return h
}

// install does in the guest what `make install` does after it has laid the files into PODKEEPER_NODE_FILES/root.
func (h *host) install() {
	h.t.Helper()
	h.run("cp", "-a", filepath.Join(os.Getenv("PODKEEPER_NODE_FILES"), "root")+"/.", "/")
	h.run("systemd-sysusers", "podkeeper.conf")
	h.systemctl("daemon-reload")
	h.systemctl("enable", "podkeeper.service", apiSocket)
	h.systemctl("restart", "podkeeper.service", apiSocket)
}

// run runs a command that must succeed, and answers its output.
func (h *host) run(name string, args ...string) string {
	h.t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		h.t.Fatalf("%s %s: %v: %s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// output is what a command says, whether it succeeds or not.
func (h *host) output(name string, args ...string) string {
	out, _ := exec.Command(name, args...).CombinedOutput()
	return string(out)
}

func (h *host) systemctl(args ...string) {
	h.t.Helper()
	h.run("systemctl", args...)
}

// property is a property of podkeeper.service.
func (h *host) property(name string) string {
	h.t.Helper()
	return h.propertyOf("podkeeper", name)
}

// propertyOf is a property of a unit.
func (h *host) propertyOf(unit, name string) string {
	h.t.Helper()
	return strings.TrimSpace(h.run("systemctl", "show", "--value", "-p", name, unit))
}

// write writes a file, and its folder where there is none.
func (h *host) write(file, text string) {
	h.t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(text), 0o644)); err != nil {
		h.t.Fatal(err)
	}
}

// read is a file without its last line's end.
func (h *host) read(file string) string {
	h.t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		h.t.Fatal(err)
	}
	return strings.TrimSuffix(string(text), "\n")
}

// eventually fails the test unless what is tried succeeds at last.
func (h *host) eventually(what string, try func() error) {
	h.t.Helper()
	deadline := time.Now().Add(patience)
	for err := try(); err != nil; err = try() {
		if time.Now().After(deadline) {
			h.t.Fatalf("%s: %v", what, err)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// becomes waits until a property of the service has a value.
func (h *host) becomes(property, value string) {
	h.t.Helper()
	h.eventually(property+" becomes "+value, func() error {
		if got := h.property(property); got != value {
			return fmt.Errorf("it is %q", got)
		}
		return nil
	})
}

// apply writes a manifest in one step.
func (h *host) apply(file, text string) {
	h.t.Helper()
	tmp := filepath.Join(manifestDir, "."+file)
	h.write(tmp, text)
	if err := os.Rename(tmp, filepath.Join(manifestDir, file)); err != nil {
		h.t.Fatal(err)
	}
}

// clear removes all manifests, and waits until the last Pod is gone.
func (h *host) clear() {
	h.t.Helper()
	files, _ := filepath.Glob(filepath.Join(manifestDir, "*"))
	for _, file := range files {
		if err := os.Remove(file); err != nil {
			h.t.Fatal(err)
		}
	}
	h.eventually("all Pods are gone", func() error {
		list, err := h.client.Pods(context.Background())
		if err == nil && len(list.Items) > 0 {
			err = fmt.Errorf("%d are left", len(list.Items))
		}
		return err
	})
}

// pods are the node's Pods as the socket reports them, by name.
func (h *host) pods() (map[string]*v1.Pod, error) {
	list, err := h.client.Pods(context.Background())
	if err != nil {
		return nil, err
	}
	byName := map[string]*v1.Pod{}
	for i := range list.Items {
		byName[list.Items[i].Name] = &list.Items[i]
	}
	return byName, nil
}

// ready waits until the Pods are just these, and all of them Ready.
func (h *host) ready(names ...string) map[string]*v1.Pod {
	h.t.Helper()
	var pods map[string]*v1.Pod
	h.eventually("Pods become ready", func() (err error) {
		if pods, err = h.pods(); err != nil {
			return err
		}
		return allReady(pods, names)
	})
	return pods
}

func allReady(pods map[string]*v1.Pod, names []string) error {
	if len(pods) != len(names) {
		return fmt.Errorf("there are %d Pods, not %d", len(pods), len(names))
	}
	for _, name := range names {
		if pods[name] == nil {
			return fmt.Errorf("there is no %s", name)
		}
		if !isReady(pods[name]) {
			return fmt.Errorf("%s is not ready: %+v", name, pods[name].Status)
		}
	}
	return nil
}

func isReady(p *v1.Pod) bool {
	for _, c := range p.Status.Conditions {
		if c.Type == v1.PodReady {
			return c.Status == v1.ConditionTrue && p.DeletionTimestamp == nil
		}
	}
	return false
}

// statuses are those of a Pod's init containers and containers.
func statuses(p *v1.Pod) []v1.ContainerStatus {
	return append(append([]v1.ContainerStatus{}, p.Status.InitContainerStatuses...), p.Status.ContainerStatuses...)
}

// task is the main process of a container, or a pause process.
type task struct {
	id  string
	uid string // the Pod's
	pid int
}

// tasks are all of them, by "pod/container"; a sandbox's pause process is "pod/".
func (h *host) tasks() map[string]task {
	h.t.Helper()
	c, err := client.New("/run/containerd/containerd.sock")
	if err != nil {
		h.t.Fatal(err)
	}
	defer c.Close()
	ctx := namespaces.WithNamespace(context.Background(), namespace)
	all, err := c.Containers(ctx)
	if err != nil {
		h.t.Fatal(err)
	}
	found := map[string]task{}
	for _, container := range all {
		labels, err := container.Labels(ctx)
		if errdefs.IsNotFound(err) {
			continue // it has been removed
		}
		if err != nil {
			h.t.Fatal(err)
		}
		running, err := container.Task(ctx, nil)
		if err != nil {
			continue // it has ended
		}
		if status, err := running.Status(ctx); err != nil || status.Status == client.Stopped {
			continue // and is still to be cleaned up
		}
		name := labels["io.kubernetes.pod.name"] + "/" + labels["io.kubernetes.container.name"]
		found[name] = task{id: container.ID(), uid: labels["io.kubernetes.pod.uid"], pid: int(running.Pid())}
	}
	for name, of := range maps.Clone(found) {
		var box struct {
			ID  string
			PID int
		}
		content, err := os.ReadFile(filepath.Join(runDir, "pods", of.uid, "sandbox.json"))
		if err != nil || json.Unmarshal(content, &box) != nil {
			continue // it has ended, too
		}
		pod, _, _ := strings.Cut(name, "/")
		found[pod+"/"] = task{id: box.ID, uid: of.uid, pid: box.PID}
	}
	return found
}

// number is a number that a kernel's file holds.
func (h *host) number(file string) int {
	h.t.Helper()
	n, err := strconv.Atoi(h.read(file))
	if err != nil {
		h.t.Fatalf("%s: %v", file, err)
	}
	return n
}
