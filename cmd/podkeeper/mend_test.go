package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/errdefs"
	v1 "k8s.io/api/core/v1"
)

// record is the file that the agent remembers a Pod in.
func (n *node) record(p *v1.Pod) string { return n.path("root", "pods", string(p.UID), "pod.json") }

// TestARecordThatCannotBeRead has a loss of power leave an empty record, a newer program one of its own, and someone remove
// it: what runs is found again by what containerd knows of it.
func TestARecordThatCannotBeRead(t *testing.T) {
	t.Parallel()
	n := launch(t)
	n.apply("kept.yaml", simple("kept", forever))
	before := n.awaitReady("kept")
	spoil := map[string]func(string) error{
		"empty":   func(file string) error { return os.Truncate(file, 0) },
		"newer":   func(file string) error { return os.WriteFile(file, []byte(`{"version": 99}`), 0o600) },
		"missing": os.Remove,
	}
	for _, how := range []string{"empty", "newer", "missing"} {
		n.kill()
		if err := spoil[how](n.record(before)); err != nil {
			t.Fatal(err)
		}
		n.restart()
		after := n.awaitReady("kept")
		if a, b := containerStatus(after, "app"), containerStatus(before, "app"); a.ContainerID != b.ContainerID || a.RestartCount != b.RestartCount ||
			after.UID != before.UID || after.Status.PodIP != before.Status.PodIP {
			t.Errorf("%s: it was %+v, and is %+v", how, before.Status, after.Status)
		}
		if _, err := os.Stat(n.record(before) + ".unreadable"); err != nil && how != "missing" {
			t.Errorf("%s: the record is not set aside: %v", how, err)
		}
	}
	pid := n.pid(before, "app")
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	n.await("kept", "is restarted", func(p *v1.Pod) bool { return isReady(p) && containerStatus(p, "app").RestartCount == 1 })

	// Not wanted any more, it is ended in peace.
	now := n.awaitReady("kept")
	n.kill()
	if err := os.Truncate(n.record(now), 0); err != nil {
		t.Fatal(err)
	}
	n.remove("kept.yaml")
	n.restart()
	n.awaitGone("kept")
	n.eventually("nothing is left", n.leftovers)
}

// runs says whether a process runs; one that has ended, and whose parent has not looked, does not.
func runs(pid int) bool {
	state, _, there := statOf(pid)
	return there && state != "Z"
}

// statOf is the state of a process, and its parent.
func statOf(pid int) (state string, parent int, there bool) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return "", 0, false
	}
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	parent, err = strconv.Atoi(fields[1])
	return fields[0], parent, err == nil
}

// awaitEnd waits until a process does not run.
func (n *node) awaitEnd(what string, pid int) {
	n.t.Helper()
	n.eventually(what, func() error {
		if runs(pid) {
			return fmt.Errorf("%d runs", pid)
		}
		return nil
	})
}

// shims are the pids of the shims of a node's Pods.
func (n *node) shims() []int {
	var pids []int
	lines, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, file := range lines {
		line, _ := os.ReadFile(file)
		args := strings.Split(string(line), "\x00")
		if i := slices.Index(args, "-namespace"); i >= 0 && strings.Contains(args[0], "containerd-shim") && args[i+1] == n.namespace {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(file)))
			pids = append(pids, pid)
		}
	}
	return pids
}

// TestAShimThatHangs has a Pod end whose shim does not answer, while another Pod does not notice.
func TestAShimThatHangs(t *testing.T) {
	t.Parallel()
	n := launch(t)
	n.apply("hangs.yaml", simple("hangs", forever))
	pod := n.awaitReady("hangs")
	pid := n.pid(pod, "app")
	shims := n.shims()
	if len(shims) != 1 {
		t.Fatalf("%d shims", len(shims))
	}
	n.apply("other.yaml", simple("other", forever))
	n.awaitReady("other")
	if err := syscall.Kill(shims[0], syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Kill(shims[0], syscall.SIGCONT) })
	n.remove("hangs.yaml")
	n.awaitEnd("its process ends", pid)
	n.awaitGone("hangs")
	if other := n.awaitReady("other"); containerStatus(other, "app").RestartCount != 0 {
		t.Error("the other Pod was disturbed")
	}
	n.remove("other.yaml")
	n.awaitGone("other")
	n.eventually("nothing is left", n.leftovers)
}

// TestAShimThatDies has a container whose shim is killed come back, with one process only.
func TestAShimThatDies(t *testing.T) {
	t.Parallel()
	n := launch(t)
	n.apply("dies.yaml", simple("dies", forever))
	pod := n.awaitReady("dies")
	pid := n.pid(pod, "app")
	for _, shim := range n.shims() {
		if err := syscall.Kill(shim, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
	}
	n.await("dies", "is back", func(p *v1.Pod) bool { return isReady(p) && containerStatus(p, "app").RestartCount == 1 })
	if runs(pid) {
		t.Error("the process of the lost one runs")
	}
}

// TestFailingStartsLeaveNothing has a command that does not exist tried again and again.
func TestFailingStartsLeaveNothing(t *testing.T) {
	t.Parallel()
	n := launch(t, "crashLoopBackOff: {maxContainerRestartPeriod: 1s}")
	n.apply("none.yaml", strings.Replace(simple("none", forever), `"/bin/sh", "-c"`, `"/no/such"`, 1))
	pod := n.await("none", "was tried five times", func(p *v1.Pod) bool { return containerStatus(p, "app").RestartCount >= 5 })
	c, ctx, err := n.ctr()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	n.eventually("one dead instance is kept, beside the sandbox", func() error {
		containers, err := c.Containers(ctx)
		if err != nil {
			return err
		}
		logs, _ := filepath.Glob(n.path("logs", fmt.Sprintf("default_none_%s", pod.UID), "app", "*"))
		messages, _ := filepath.Glob(n.path("root", "pods", string(pod.UID), "termination", "*"))
		links, _ := filepath.Glob(n.path("containers", "*"))
		if len(containers) > 3 || len(logs) > 3 || len(messages) > 3 || len(links) > 3 {
			return fmt.Errorf("%d records, %d logs, %d messages, %d links", len(containers), len(logs), len(messages), len(links))
		}
		return nil
	})
}

// TestASecondAgentInTheSameNamespace is refused by name; and where the first one is dead, what it has made is left alone.
func TestASecondAgentInTheSameNamespace(t *testing.T) {
	t.Parallel()
	n := launch(t)
	n.apply("first.yaml", simple("first", forever))
	before := n.awaitReady("first")
	pid := n.pid(before, "app")
	second := &node{t: t, dir: filepath.Join(n.dir, "second"), namespace: n.namespace, log: &syncBuffer{}}
	for _, dir := range []string{"manifests", "net.d"} {
		if err := os.MkdirAll(second.path(dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := second.start(); err == nil {
		second.kill()
		t.Fatal("it was let in")
	}
	if !strings.Contains(second.log.String(), n.path("root")) {
		t.Errorf("it does not name the other one's root directory: %s", second.log.String())
	}
	n.kill()
	if err := second.start(); err != nil {
		t.Fatal(err)
	}
	n.eventually("it tells whose the containers are", func() error {
		if !strings.Contains(second.log.String(), "containers of another root directory are left alone") {
			return errors.New("it does not")
		}
		return nil
	})
	time.Sleep(time.Second)
	second.stopAgent()
	if err := syscall.Kill(pid, 0); err != nil {
		t.Errorf("the other agent's container: %v", err)
	}
	n.restart()
	if after := n.awaitReady("first"); containerStatus(after, "app").ContainerID != containerStatus(before, "app").ContainerID {
		t.Error("it was restarted")
	}
}

// TestTwoPodsWithOneHostPort has the second wait with the reason until the port is free.
func TestTwoPodsWithOneHostPort(t *testing.T) {
	t.Parallel()
	n := launch(t)
	const port = "    ports: [{containerPort: 8080, hostPort: 18473}]\n"
	n.apply("a.yaml", simple("one", forever)+port)
	n.awaitReady("one")
	n.apply("b.yaml", simple("two", forever)+port)
	n.await("two", "waits", func(p *v1.Pod) bool {
		return p.Status.Phase == v1.PodPending && len(p.Status.Conditions) == 1 && p.Status.Conditions[0].Reason == "Unschedulable" &&
			strings.Contains(p.Status.Conditions[0].Message, "hostPort 18473/TCP is in use by default/one")
	})
	n.remove("a.yaml")
	n.awaitReady("two")
}

// TestAPodRenamedWithItsUID has two names share one UID, one after another.
func TestAPodRenamedWithItsUID(t *testing.T) {
	t.Parallel()
	n := launch(t)
	manifest := func(name string) string {
		return strings.Replace(simple(name, "trap '' TERM; while :; do sleep 0.1; done"),
			"name: "+name+"}", "name: "+name+", uid: 11111111-2222-3333-4444-555555555555}", 1)
	}
	n.apply("pod.yaml", manifest("old"))
	if pod := n.awaitReady("old"); pod.UID != "11111111-2222-3333-4444-555555555555" {
		t.Fatalf("uid %s", pod.UID)
	}
	n.apply("pod.yaml", manifest("new"))
	n.await("new", "waits for its UID", func(p *v1.Pod) bool {
		return len(p.Status.Conditions) == 1 && strings.Contains(p.Status.Conditions[0].Message, "is that of default/old, which still ends")
	})
	n.awaitReady("new")
	if _, err := n.get("old"); !errors.Is(err, errNoPod) {
		t.Errorf("the old one: %v", err)
	}
}

// TestEditsInPlace has labels change without any restart, and an image restart its container alone.
func TestEditsInPlace(t *testing.T) {
	t.Parallel()
	n := launch(t)
	manifest := func(label, first string) string {
		return fmt.Sprintf(`apiVersion: v1
kind: Pod
metadata: {name: edited, labels: {app: %s}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - {name: first, image: %s, command: [/bin/sh, -c, %[3]q]}
  - {name: second, image: %[4]s, command: [/bin/sh, -c, %[3]q]}
`, label, first, forever, image)
	}
	n.apply("edited.yaml", manifest("one", image))
	before := n.awaitReady("edited")
	n.apply("edited.yaml", manifest("two", image))
	n.await("edited", "has its label", func(p *v1.Pod) bool { return p.Labels["app"] == "two" })
	c, ctx, err := n.ctr()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	tagged, err := c.ImageService().Get(ctx, image)
	if err != nil {
		t.Fatal(err)
	}
	tagged.Name = "podkeeper.local/demo:v2"
	if _, err := c.ImageService().Create(ctx, tagged); err != nil {
		t.Fatal(err)
	}
	n.apply("edited.yaml", manifest("two", tagged.Name))
	after := n.await("edited", "has its image", func(p *v1.Pod) bool {
		return isReady(p) && containerStatus(p, "first").RestartCount == 1
	})
	if after.UID != before.UID || containerStatus(after, "second").ContainerID != containerStatus(before, "second").ContainerID {
		t.Errorf("more than the container was restarted: %+v", after.Status)
	}
}

// TestWhatBelongsToNoPodIsSwept has what is left of a Pod that nobody knows go by itself: folders with a mount among the
// volumes, what is behind which stays, and a writable layer without a container.
func TestWhatBelongsToNoPodIsSwept(t *testing.T) {
	t.Parallel()
	n := launch(t)
	n.stopAgent()
	precious := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(precious, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	stale := n.path("root", "pods", "99999999-2222-3333-4444-555555555555")
	mounted := filepath.Join(stale, "volumes", "data")
	if err := os.MkdirAll(mounted, 0o750); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount(filepath.Dir(precious), mounted, "", syscall.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	c, ctx, err := n.ctr()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	identity, err := os.ReadFile(n.path("root", "identity"))
	if err != nil {
		t.Fatal(err)
	}
	layer := strings.Repeat("0f", 32) // as if the agent had been killed before the container's record was made
	if _, err := c.SnapshotService("").Prepare(ctx, layer, "", snapshots.WithLabels(map[string]string{
		"containerd.io/gc.root": "now", "io.kubernetes.pod.uid": "99999999-2222-3333-4444-555555555555",
		"io.kubernetes.container.name": "app", "podkeeper/root": strings.TrimSpace(string(identity)),
	})); err != nil {
		t.Fatal(err)
	}
	n.restart()
	n.eventually("the layer is swept", func() error {
		if _, err := c.SnapshotService("").Stat(ctx, layer); !errdefs.IsNotFound(err) {
			return errors.New("it is there")
		}
		return nil
	})
	n.eventually("the folders are swept", func() error {
		if _, err := os.Stat(stale); !errors.Is(err, os.ErrNotExist) {
			return errors.New("it is there")
		}
		return nil
	})
	if _, err := os.Stat(precious); err != nil {
		t.Errorf("what was behind the mount: %v", err)
	}
}

// TestAnEditWhileNoAgentRan ends what ran in full before what is wanted now begins.
func TestAnEditWhileNoAgentRan(t *testing.T) {
	t.Parallel()
	n := launch(t)
	n.apply("pod.yaml", simple("edited", forever))
	before := n.awaitReady("edited")
	pid := n.pid(before, "app")
	n.kill()
	n.apply("pod.yaml", simple("edited", "echo anew; "+forever))
	n.restart()
	after := n.await("edited", "is another", func(p *v1.Pod) bool { return isReady(p) && p.UID != before.UID })
	if runs(pid) {
		t.Error("the old one runs beside it")
	}
	n.onlyOne(after)
}

// TestLogsAreLinked has log collectors find a container's log where a kubelet puts a link to it.
func TestLogsAreLinked(t *testing.T) {
	t.Parallel()
	n := launch(t)
	n.apply("talks.yaml", simple("talks", "echo heard; "+forever))
	pod := n.awaitReady("talks")
	id := strings.TrimPrefix(containerStatus(pod, "app").ContainerID, "containerd://")
	n.eventually("the log is read through its link", func() error {
		content, err := os.ReadFile(n.path("containers", "talks_default_app-"+id+".log"))
		if err == nil && !strings.Contains(string(content), "heard") {
			err = fmt.Errorf("it says %q", content)
		}
		return err
	})
}

// TestWhatIsGivenIsReadOnlyWithTheRoot has a container with a read-only root fail to write the files that it is given.
func TestWhatIsGivenIsReadOnlyWithTheRoot(t *testing.T) {
	t.Parallel()
	n := launch(t)
	n.apply("sealed.yaml", simple("sealed", "for f in hosts hostname resolv.conf; do echo x >> /etc/$f && exit 1; done; exit 0", "  restartPolicy: Never")+
		"    securityContext: {readOnlyRootFilesystem: true}\n")
	n.apply("open.yaml", simple("open", "echo x >> /etc/hosts", "  restartPolicy: Never"))
	n.awaitPhase("sealed", v1.PodSucceeded)
	n.awaitPhase("open", v1.PodSucceeded)
}
