package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/podkeeper/podkeeper/runtime"
)

// box is the pid of a Pod's pause process.
func (n *node) box(p *v1.Pod) int {
	n.t.Helper()
	pid, err := n.boxOf(p.UID)
	if err != nil {
		n.t.Fatalf("sandbox of %s: %v", p.Name, err)
	}
	return pid
}

// boxOf is the same by the Pod's UID.
func (n *node) boxOf(uid types.UID) (int, error) {
	var rec struct{ PID int }
	content, err := os.ReadFile(n.path("run", "pods", string(uid), "sandbox.json"))
	if err == nil {
		err = json.Unmarshal(content, &rec)
	}
	if err == nil && rec.PID <= 0 {
		err = fmt.Errorf("it has no process: %s", content)
	}
	return rec.PID, err
}

// ns is a namespace of a process.
func ns(t *testing.T, process any, kind string) string {
	t.Helper()
	to, err := os.Readlink(fmt.Sprintf("/proc/%v/ns/%s", process, kind))
	if err != nil {
		t.Fatal(err)
	}
	return to
}

// TestNamespacesOfPods makes Pods of every combination of what a Pod may say of its namespaces, and compares those of their
// processes.
func TestNamespacesOfPods(t *testing.T) {
	t.Parallel()
	n := launch(t)
	fields := []string{"shareProcessNamespace", "hostNetwork", "hostPID", "hostIPC"}
	kinds := []string{"pid", "net", "uts", "ipc", "mnt"}
	for set := range 1 << len(fields) {
		has := func(field string) bool { return set&(1<<slices.Index(fields, field)) != 0 }
		if has("shareProcessNamespace") && has("hostPID") {
			continue // refused
		}
		var lines []string
		for _, field := range fields {
			if has(field) {
				lines = append(lines, "  "+field+": true")
			}
		}
		name := fmt.Sprintf("ns%d", set)
		t.Run(strings.ReplaceAll(strings.Join(append([]string{name}, lines...), ","), " ", ""), func(t *testing.T) {
			// Parallel, it would outlive the node.
			n.apply(name+".yaml", simple(name, forever, lines...))
			pod := n.awaitReady(name)
			app, box := n.pid(pod, "app"), n.box(pod)
			for _, kind := range kinds {
				host, own, shared := ns(t, "self", kind), ns(t, app, kind), ns(t, box, kind)
				var wantHost, wantShared bool
				switch kind {
				case "pid":
					wantHost, wantShared = has("hostPID"), has("shareProcessNamespace") || has("hostPID")
				case "net", "uts":
					wantHost, wantShared = has("hostNetwork"), true
				case "ipc":
					wantHost, wantShared = has("hostIPC"), true
				case "mnt":
				}
				if (own == host) != wantHost || (own == shared) != wantShared {
					t.Errorf("%s: the container's is %s, the sandbox's %s, the host's %s", kind, own, shared, host)
				}
				if kind == "mnt" && shared == host {
					t.Error("the sandbox sees the host's mounts")
				}
			}
			group, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", box))
			id := runtime.ID(string(pod.UID), "", 0)
			for line := range strings.Lines(string(group)) {
				hierarchy := strings.SplitN(line, ":", 3)[1]
				if strings.Contains(line, "perf_event") || strings.Contains(line, "misc") {
					continue
				}
				if !strings.Contains(line, n.namespace) || !strings.Contains(line, id) {
					t.Errorf("in hierarchy %q the sandbox is in %s: %v", hierarchy, line, err)
				}
			}
			n.remove(name + ".yaml")
			n.awaitGone(name)
			if runs(box) {
				t.Error("the sandbox outlives its Pod")
			}
		})
	}
	n.eventually("nothing is left", n.leftovers)
}

// TestASandboxThatDies has the pause process killed: the Pod gets another one, and with it a container that shares it.
func TestASandboxThatDies(t *testing.T) {
	t.Parallel()
	n := launch(t)
	n.apply("dies.yaml", simple("dies", forever, "  shareProcessNamespace: true"))
	for round := range 3 {
		pod := n.await("dies", fmt.Sprintf("runs for the %d. time", round+1), func(p *v1.Pod) bool {
			return isReady(p) && int(containerStatus(p, "app").RestartCount) == round
		})
		app, box := n.pid(pod, "app"), n.box(pod)
		if ns(t, app, "pid") != ns(t, box, "pid") || ns(t, app, "uts") != ns(t, box, "uts") {
			t.Error("the container is of another sandbox")
		}
		if round == 1 { // also when it dies while nobody looks
			n.kill()
		}
		if err := syscall.Kill(box, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		if round == 1 {
			n.restart()
		}
		n.awaitEnd("its containers end with it", app)
	}
	n.remove("dies.yaml")
	n.awaitGone("dies")
	n.eventually("nothing is left", n.leftovers)
}

// TestANetworkNamespaceThatIsGone has somebody take the namespace away under a Pod: it is seen with the next thing that happens.
func TestANetworkNamespaceThatIsGone(t *testing.T) {
	t.Parallel()
	n := launch(t)
	n.apply("net.yaml", simple("net", forever))
	pod := n.awaitReady("net")
	ns := n.path("run", "netns", runtime.ID(string(pod.UID), "", 0))
	if err := errors.Join(syscall.Unmount(ns, syscall.MNT_DETACH), os.Remove(ns)); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(n.pid(pod, "app"), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	n.await("net", "has a network again", func(p *v1.Pod) bool {
		return isReady(p) && containerStatus(p, "app").RestartCount == 1 && p.Status.PodIP != "" && p.Status.PodIP != pod.Status.PodIP
	})
	n.remove("net.yaml")
	n.awaitGone("net")
}

// TestASandboxIsKept has the agent killed, its record of the Pod lost, and the record of the sandbox lost, too.
func TestASandboxIsKept(t *testing.T) {
	t.Parallel()
	n := launch(t)
	n.apply("kept.yaml", simple("kept", forever))
	pod := n.awaitReady("kept")
	box, app := n.box(pod), n.pid(pod, "app")
	for _, what := range []string{"", n.record(pod)} {
		n.kill()
		if what != "" {
			if err := os.Remove(what); err != nil {
				t.Fatal(err)
			}
		}
		n.restart()
		pod = n.awaitReady("kept")
		if n.box(pod) != box || n.pid(pod, "app") != app || !runs(box) || !runs(app) {
			t.Errorf("without %q it was made anew", what)
		}
		n.eventually("it is recorded in full", func() error {
			if content, err := os.ReadFile(n.record(pod)); err != nil || !strings.Contains(string(content), image) {
				return fmt.Errorf("it is %s: %w", content, err)
			}
			return nil
		})
	}
	// A sandbox of which nothing at all is known is replaced, and ended.
	n.kill()
	if err := os.Remove(n.path("run", "pods", string(pod.UID), "sandbox.json")); err != nil {
		t.Fatal(err)
	}
	n.restart()
	pod = n.await("kept", "is made anew", func(p *v1.Pod) bool { return isReady(p) && containerStatus(p, "app").RestartCount == 1 })
	if runs(app) || n.box(pod) == box {
		t.Error("the old container runs")
	}
	// One of a Pod of which nothing else is known is swept.
	n.kill()
	last, id := n.box(pod), strings.TrimPrefix(containerStatus(pod, "app").ContainerID, "containerd://")
	n.remove("kept.yaml")
	r := n.runtime()
	if err := errors.Join(r.Delete(t.Context(), id), r.Delete(t.Context(), runtime.ID(string(pod.UID), "app", 0)), os.Remove(n.record(pod))); err != nil {
		t.Fatal(err)
	}
	for _, logs := range []string{"logs", "containers"} { // which nobody knows any more, and a person may want to see
		if err := os.RemoveAll(n.path(logs)); err != nil {
			t.Fatal(err)
		}
	}
	n.restart()
	n.eventually("it is ended", func() error {
		if runs(last) || runs(box) {
			return fmt.Errorf("it runs: %v, and the one before: %v", runs(last), runs(box))
		}
		return nil
	})
	n.eventually("nothing is left", n.leftovers)
}

// TestNoContainerReachesIntoItsSandbox has containers that see the pause process look for what it has.
func TestNoContainerReachesIntoItsSandbox(t *testing.T) {
	t.Parallel()
	n := launch(t)
	// Only who may trace processes gets there, and sees a read-only folder with one program, and pipes that are the Pod's own.
	look := `for p in $(grep -sl ^/pause /proc/[0-9]*/cmdline); do
  p=${p%/cmdline}
  case "$(cat $p/cgroup 2>/dev/null)" in *$POD*|0::/../[!.]*) ;; *) continue ;; esac # another Pod's, which may be just ending
  for f in root cwd exe fd/1 fd/2 environ mem maps; do cat $p/$f >/dev/null 2>&1 && echo reads $f; done
  for f in root cwd exe fd/1 ns/mnt; do readlink $p/$f && echo finds $f; done
  ls $p/root/ 2>/dev/null | grep . && echo lists
  (echo >$p/root/new) 2>/dev/null && echo writes
done
echo tried; ` + forever
	for name, lines := range map[string][]string{
		"shared":   {"  shareProcessNamespace: true"},
		"hostpid":  {"  hostPID: true"},
		"sameuser": {"  shareProcessNamespace: true", "  securityContext: {runAsUser: 65535, runAsGroup: 65535}"},
	} {
		n.apply(name+".yaml", simple(name, look, lines...)+"    env: [{name: POD, valueFrom: {fieldRef: {fieldPath: metadata.uid}}}]\n")
		pod := n.awaitReady(name)
		n.eventually(name+" has tried", func() error {
			if got := n.logLines(pod, "app", 0); !slices.Equal(got, []string{"tried"}) {
				return fmt.Errorf("it says %q", got)
			}
			return nil
		})
		if !runs(n.box(pod)) {
			t.Errorf("%s has ended its sandbox", name)
		}
	}
}
