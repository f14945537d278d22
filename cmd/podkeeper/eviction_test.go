package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
	v1 "k8s.io/api/core/v1"
)

// deaf sleeps, and does not end when it is told to.
const deaf = "trap '' TERM; while true; do sleep 1000; done"

// evictedFor waits until a Pod has failed, and fails the test unless it was for that.
func (n *node) evictedFor(name, message string) *v1.Pod {
	n.t.Helper()
	pod := n.awaitPhase(name, v1.PodFailed)
	if pod.Status.Reason != "Evicted" || !strings.HasPrefix(pod.Status.Message, message) {
		n.t.Errorf("%s failed for %s: %q, want %q", name, pod.Status.Reason, pod.Status.Message, message)
	}
	for _, s := range pod.Status.ContainerStatuses {
		if s.State.Terminated == nil {
			n.t.Errorf("container %s is %+v", s.Name, s.State)
		}
	}
	return pod
}

// events are the messages of all events of a reason.
func (n *node) events(reason string) (messages []string) {
	n.t.Helper()
	all, err := n.client().Events(context.Background())
	if err != nil {
		n.t.Fatal(err)
	}
	for _, e := range all.Items {
		if e.Reason == reason {
			messages = append(messages, e.Message)
		}
	}
	return messages
}

// TestWhoHasTooMuchOnDiskGoes has Pods write more than they may: into their writable layer, their log, and emptyDirs.
func TestWhoHasTooMuchOnDiskGoes(t *testing.T) {
	t.Parallel()
	n := launch(t)
	pod := func(name, script string) string {
		return fmt.Sprintf(`apiVersion: v1
kind: Pod
metadata: {name: %[1]s}
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 5
  volumes: [{name: some, emptyDir: {sizeLimit: 2Mi}}, {name: any, emptyDir: {}}]
  containers:
  - {name: app, image: %[2]s, command: [/bin/sh, -c, %[3]q], resources: {limits: {ephemeral-storage: 3Mi}}, volumeMounts: [{name: some, mountPath: /some}, {name: any, mountPath: /any}]}
  - {name: other, image: %[2]s, command: [/bin/sh, -c, %[4]q], resources: {limits: {ephemeral-storage: 4Mi}}}
`, name, image, script+"; "+deaf, forever)
	}
	const write = "head -c %dm /dev/zero > %s"
	n.apply("pods.yaml", strings.Join([]string{
		pod("layer", fmt.Sprintf(write, 4, "/tmp/file")),
		pod("log", "yes 'a line that is told again and again' | head -c 2m"),
		pod("volume", fmt.Sprintf(write, 3, "/some/file")),
		pod("all", fmt.Sprintf(write, 8, "/any/file")),
		pod("hosts", fmt.Sprintf(write, 5, "/etc/hosts")+"; "+fmt.Sprintf(write, 5, "/dev/termination-log")),
		pod("modest", fmt.Sprintf(write+"; "+write+"; "+write, 1, "/tmp/file", 1, "/some/file", 3, "/any/file")),
		pod("sparse", "truncate -s 1G /some/file; ln /some/file /some/name; ln -s /proc/kcore /some/kcore"),
	}, "---\n"))
	n.awaitReady("modest")
	for name, message := range map[string]string{
		"layer":  `Container app exceeded its local ephemeral storage limit "3Mi". `,
		"log":    `Container app exceeded its local ephemeral storage limit "3Mi". `,
		"volume": `Usage of EmptyDir volume "some" exceeds the limit "2Mi". `,
		"hosts":  "Pod ephemeral local storage usage exceeds the total limit of containers 7Mi. ",
		"all":    "Pod ephemeral local storage usage exceeds the total limit of containers 7Mi. ",
	} {
		pod := n.evictedFor(name, message)
		if !slices.Contains(n.events("Evicted"), message) {
			t.Errorf("no event says why %s goes", name)
		}
		n.eventually("what "+name+" had is given back, but for its log", func() error {
			_, err := os.Stat(n.path("root", "pods", string(pod.UID), "volumes"))
			if !errors.Is(err, os.ErrNotExist) {
				return fmt.Errorf("its volumes are there: %w", err)
			}
			return nil
		})
	}
	if lines := n.logLines(n.awaitPhase("log", v1.PodFailed), "app", 0); len(lines) == 0 {
		t.Error("the log of who has gone cannot be read")
	}
	n.awaitReady("modest")
	n.awaitReady("sparse")
}

// onSmallDisk starts the node's agent anew, with a root directory on a file system of 32 MiB, and answers that.
func (n *node) onSmallDisk() string {
	n.t.Helper()
	dir := filepath.Join(labDir, "small", n.namespace)
	_ = unix.Unmount(dir, unix.MNT_DETACH) // of a run that was killed
	if err := errors.Join(os.MkdirAll(dir, 0o755), unix.Mount("tmpfs", dir, "tmpfs", 0, "size=32m,mode=755")); err != nil {
		n.t.Fatal(err)
	}
	n.stopAgent()
	n.flags = append(n.flags, "--root-dir", dir)
	n.t.Cleanup(func() {
		files, _ := filepath.Glob(n.path("manifests", "*"))
		for _, f := range files {
			_ = os.Remove(f)
		}
		if err := wait(func() error {
			if left, _ := os.ReadDir(filepath.Join(dir, "pods")); len(left) > 0 {
				return fmt.Errorf("%d records are left", len(left))
			}
			return nil
		}); err != nil {
			n.t.Error(err)
		}
		n.stopAgent()
		n.agent = nil
		if err := errors.Join(unix.Unmount(dir, 0), os.RemoveAll(filepath.Dir(dir))); err != nil {
			n.t.Error(err)
		}
	})
	n.restart()
	return dir
}

// TestANodeWhoseDiskIsFull fills a node's disk: who may be spared goes, in the time that he has, while the agent is killed; nobody
// begins, whatever agent comes; and when there is room again all are back.
func TestANodeWhoseDiskIsFull(t *testing.T) {
	t.Parallel()
	n := launch(t, "evictionHard: {memory.available: 0%}", "evictionSoft: {nodefs.available: 50%}", "evictionSoftGracePeriod: {nodefs.available: 1ms}",
		"evictionMaxPodGracePeriod: 8", "evictionPressureTransitionPeriod: 3s")
	disk := n.onSmallDisk()
	n.apply("web.yaml", strings.Replace(simple("web", deaf), "PeriodSeconds: 2", "PeriodSeconds: 30", 1))
	n.apply("vital.yaml", simple("vital", forever, "  priorityClassName: system-node-critical"))
	n.awaitReady("vital")
	before := n.awaitReady("web")
	ballast := filepath.Join(disk, "ballast")
	if err := os.WriteFile(ballast, make([]byte, 20<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	n.eventually("web has to go", func() error {
		if !strings.Contains(n.log.String(), "pod is evicted") {
			return errors.New("nobody has")
		}
		return nil
	})
	if pod, err := n.get("web"); err != nil || pod.Status.Phase != v1.PodRunning {
		t.Errorf("it is no more, at once: %v", err)
	}
	for reason, want := range map[string]string{"EvictionThresholdMet": "Attempting to reclaim ephemeral-storage", "NodeHasDiskPressure": "Node testnode status is now: NodeHasDiskPressure"} {
		if !slices.Contains(n.events(reason), want) {
			t.Errorf("%s: people are told %q", reason, n.events(reason))
		}
	}
	n.kill()
	n.restart()
	n.apply("late.yaml", simple("late", forever))
	const message = "The node was low on resource: ephemeral-storage. Threshold quantity: 16Mi, available: "
	if pod := n.evictedFor("web", message); pod.UID != before.UID || !slices.ContainsFunc(pod.Status.Conditions, func(c v1.PodCondition) bool {
		return c.Type == v1.DisruptionTarget && c.Status == v1.ConditionTrue && c.Reason == v1.PodReasonTerminationByKubelet && c.Message == pod.Status.Message
	}) {
		t.Errorf("its conditions are %+v", pod.Status.Conditions)
	}
	n.heldFor("late", "Evicted", "The node had condition: [DiskPressure]. ")
	n.kill()
	n.restart()
	n.evictedFor("web", message)
	n.heldFor("late", "Evicted", "The node had condition: [DiskPressure]. ")
	if restarts := containerStatus(n.awaitReady("vital"), "app").RestartCount; restarts != 0 {
		t.Errorf("what the node does not work without was restarted %d times", restarts)
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	n.awaitReady("late")
	if after := n.awaitReady("web"); after.UID == before.UID || after.Status.Reason != "" {
		t.Errorf("it is back as %s, %s", after.UID, after.Status.Reason)
	}
}

// TestImagesAndDeadContainersGoBeforePods has a node that wants more room for images than any disk has: what nobody needs goes, and
// what a Pod that has ended has to say stays.
func TestImagesAndDeadContainersGoBeforePods(t *testing.T) {
	t.Parallel()
	const gc = "imageGCHighThresholdPercent: 100\nimageMinimumGCAge: 1ms\n" // only for want of room
	n := launch(t, gc, "evictionHard: {memory.available: 0%}")
	n.demo(n.runtime())
	unneeded := lab.registry + "/" + n.namespace + "/unneeded:v1"
	pushUnlike(t, unneeded)
	n.apply("old.yaml", strings.Replace(simple("old", forever), image, unneeded, 1))
	n.awaitReady("old")
	n.remove("old.yaml")
	n.awaitGone("old")
	vital := func(name, script string) string {
		return simple(name, script, "  priorityClassName: system-node-critical", "  restartPolicy: Never")
	}
	n.apply("done.yaml", vital("done", "echo said; echo written > /tmp/file"))
	n.apply("runs.yaml", vital("runs", forever))
	done := n.awaitPhase("done", v1.PodSucceeded)
	n.awaitReady("runs")
	has := func(what string) error {
		c, ctx, err := n.ctr()
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if what == unneeded {
			_, err = c.ImageService().Get(ctx, what)
		} else {
			_, err = c.SnapshotService("").Stat(ctx, what)
		}
		if err != nil && !errdefs.IsNotFound(err) {
			t.Fatal(err)
		}
		return err
	}
	layer := strings.TrimPrefix(containerStatus(done, "app").ContainerID, "containerd://")
	if err := errors.Join(has(unneeded), has(layer)); err != nil {
		t.Fatal(err)
	}
	n.stopAgent()
	n.config = gc + "evictionHard: {imagefs.available: 1Ei}"
	n.restart()
	n.eventually("what nobody needs is gone", func() error {
		if has(unneeded) == nil || has(layer) == nil {
			return errors.New("it is there")
		}
		return nil
	})
	if restarts := containerStatus(n.awaitReady("runs"), "app").RestartCount; restarts != 0 {
		t.Errorf("it was restarted %d times", restarts)
	}
	done = n.awaitPhase("done", v1.PodSucceeded)
	if lines := n.logLines(done, "app", 0); !slices.Equal(lines, []string{"said"}) || containerStatus(done, "app").State.Terminated == nil {
		t.Errorf("it has said %q, and is %+v", lines, containerStatus(done, "app").State)
	}
}
