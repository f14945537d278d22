package main

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
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

	v1 "k8s.io/api/core/v1"

	"github.com/podkeeper/podkeeper/hack/daemon"
	"github.com/podkeeper/podkeeper/runtime"
)

// TestRestartOfTheAgent checks that nothing a user can see changes when the agent is stopped, or killed, and comes back.
func TestRestartOfTheAgent(t *testing.T) {
	t.Parallel()
	n := launch(t)
	n.apply("stay.yaml", simple("stay", forever)+`    readinessProbe: {exec: {command: ["true"]}, periodSeconds: 1, timeoutSeconds: 30}
    livenessProbe: {exec: {command: ["true"]}, periodSeconds: 1, timeoutSeconds: 30}
    startupProbe: {exec: {command: ["true"]}, periodSeconds: 1, timeoutSeconds: 30}
---
`+simple("crash", "echo up; sleep 0.2; exit 1"))
	before := n.awaitReady("stay")
	crashed := n.await("crash", "backs off", func(p *v1.Pod) bool {
		return containerStatus(p, "app").RestartCount == 1 && p.Status.ContainerStatuses[0].State.Waiting != nil
	})
	for _, end := range []func(){n.stopAgent, n.kill} {
		end()
		n.restart()
		// From the very first answer on, the Pod is as it was.
		after, err := n.get("stay")
		if err != nil {
			t.Fatal(err)
		}
		if !isReady(after) || containerStatus(after, "app").RestartCount != 0 ||
			containerStatus(after, "app").ContainerID != containerStatus(before, "app").ContainerID {
			t.Errorf("after a restart it is %+v", after.Status)
		}
		for i, c := range after.Status.Conditions {
			if !c.LastTransitionTime.Time.Equal(before.Status.Conditions[i].LastTransitionTime.Truncate(time.Second)) {
				t.Errorf("condition %s flipped", c.Type)
			}
		}
	}
	now, err := n.get("crash")
	if err != nil {
		t.Fatal(err)
	}
	if got, want := containerStatus(now, "app"), containerStatus(crashed, "app"); got.RestartCount < want.RestartCount || now.UID != crashed.UID {
		t.Errorf("the back-off of crash was forgotten: %+v", got)
	}

	// What ends while no agent runs is seen when one is back.
	pid := n.pid(before, "app")
	n.kill()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	n.restart()
	n.await("stay", "was restarted once", func(p *v1.Pod) bool {
		s := containerStatus(p, "app")
		return isReady(p) && s.RestartCount == 1 && s.LastTerminationState.Terminated.ExitCode == 137
	})

	// What is removed while no agent runs is ended when one is back, with its grace period.
	n.kill()
	n.remove("stay.yaml")
	n.restart()
	n.awaitGone("stay")
	n.awaitGone("crash")
	n.eventually("nothing is left", n.leftovers)
}

// TestKilledAtAnyMoment kills the agent at random moments of a Pod's life: the Pod arrives where it should each time.
func TestKilledAtAnyMoment(t *testing.T) {
	t.Parallel()
	n := launch(t)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	manifest := func(i int) string {
		return fmt.Sprintf(`apiVersion: v1
kind: Pod
metadata: {name: any}
spec:
  terminationGracePeriodSeconds: 1
  initContainers:
  - {name: init, image: %[1]s, command: [/bin/sh, -c, "echo init %[2]d"]}
  - {name: side, image: %[1]s, restartPolicy: Always, command: [/bin/sh, -c, %[3]q]}
  containers:
  - {name: app, image: %[1]s, command: [/bin/sh, -c, %[4]q]}
`, image, i, forever, fmt.Sprintf("echo app %d; %s", i, forever))
	}
	for i := range 30 {
		if i%3 == 2 {
			n.remove("any.yaml")
		} else {
			n.apply("any.yaml", manifest(i))
		}
		time.Sleep(time.Duration(random.IntN(600)) * time.Millisecond)
		n.kill()
		n.restart()
		if i%3 == 2 {
			n.awaitGone("any")
			continue
		}
		pod := n.await("any", fmt.Sprintf("runs edit %d", i), func(p *v1.Pod) bool {
			return isReady(p) && slices.Contains(n.logLines(p, "app", int(containerStatus(p, "app").RestartCount)), fmt.Sprintf("app %d", i))
		})
		for _, s := range append(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses...) {
			if s.RestartCount > 1 {
				t.Errorf("round %d: %s was restarted %d times", i, s.Name, s.RestartCount)
			}
		}
		n.onlyOne(pod)
	}
}

// onlyOne fails the test where a container of a Pod runs twice.
func (n *node) onlyOne(pod *v1.Pod) {
	n.t.Helper()
	c, ctx, err := n.ctr()
	if err != nil {
		n.t.Fatal(err)
	}
	defer c.Close()
	all, err := c.Containers(ctx)
	if err != nil {
		n.t.Fatal(err)
	}
	running := map[string]int{}
	for _, found := range all {
		labels, _ := found.Labels(ctx)
		if task, err := found.Task(ctx, nil); err == nil {
			if status, err := task.Status(ctx); err == nil && status.Status == "running" {
				running[labels["io.kubernetes.pod.name"]+"/"+labels["io.kubernetes.container.name"]]++
			}
		}
	}
	for name, count := range running {
		if count > 1 {
			n.t.Errorf("%d containers run for %s", count, name)
		}
	}
}

// TestOutputSurvives checks that not a line is lost while agents are killed and containers end in between.
func TestOutputSurvives(t *testing.T) {
	t.Parallel()
	n := launch(t)
	n.apply("count.yaml", simple("count", "i=0; while [ $i -lt 4000 ]; do i=$((i+1)); echo line $i; [ $((i%100)) = 0 ] && sleep 0.1; done; echo partial 1>&2; printf end",
		"  restartPolicy: Never"))
	n.await("count", "runs", func(p *v1.Pod) bool { return p.Status.Phase == v1.PodRunning })
	for range 4 {
		time.Sleep(300 * time.Millisecond)
		n.kill()
		time.Sleep(200 * time.Millisecond)
		n.restart()
	}
	n.kill()
	time.Sleep(3 * time.Second) // it ends while nobody reads
	n.restart()
	pod := n.awaitPhase("count", v1.PodSucceeded)
	var next int
	lines := n.logLines(pod, "app", 0)
	for _, line := range lines {
		number, isLine := strings.CutPrefix(line, "line ")
		if !isLine {
			continue
		}
		i, err := strconv.Atoi(number)
		if err != nil || i > next+1 {
			t.Fatalf("line %q follows line %d", line, next)
		}
		next = max(next, i)
	}
	if next != 4000 || !slices.Contains(lines, "partial") || !slices.Contains(lines, "end") {
		t.Errorf("the log ends at %d with %q", next, lines[max(0, len(lines)-3):])
	}
}

// TestHungPodDelaysNoOther has a registry that never answers.
func TestHungPodDelaysNoOther(t *testing.T) {
	t.Parallel()
	n := launch(t)
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	hung := strings.Replace(simple("hung", forever), image, silent.Addr().String()+"/never:v1", 1)
	n.apply("a.yaml", hung)
	n.await("hung", "pulls", func(p *v1.Pod) bool { return p.Status.Phase == v1.PodPending })
	var all strings.Builder
	for i := range 20 {
		all.WriteString("---\n" + simple(fmt.Sprintf("healthy%d", i), forever))
	}
	n.apply("b.yaml", all.String())
	for i := range 20 {
		n.awaitReady(fmt.Sprintf("healthy%d", i))
	}
	begin := time.Now()
	n.remove("a.yaml")
	n.awaitGone("hung")
	if took := time.Since(begin); took > 30*time.Second {
		t.Errorf("its removal waited %v for the pull", took)
	}
}

// TestContainerdDies kills containerd, and then the agent, which must not need the one to start.
func TestContainerdDies(t *testing.T) {
	n := launch(t) // not parallel: all nodes share the daemon
	n.apply("stays.yaml", simple("stays", forever))
	before := n.awaitReady("stays")
	pid := n.pid(before, "app")
	if err := lab.containerd.Kill(); err != nil {
		t.Fatal(err)
	}
	n.apply("more.yaml", simple("more", forever))
	time.Sleep(300 * time.Millisecond)
	if err := syscall.Kill(pid, 0); err != nil {
		t.Fatalf("the container died with containerd: %v", err)
	}
	n.kill() // the next agent finds no containerd, and waits for it
	started := make(chan error, 1)
	go func() { started <- n.start() }()
	n.eventually("the agent waits", func() error {
		if !strings.Contains(n.log.String(), "wait for containerd") {
			return errors.New("it does not say so")
		}
		return nil
	})
	restartContainerd(t)
	if err := <-started; err != nil {
		t.Fatal(err)
	}
	n.awaitReady("more")
	after := n.awaitReady("stays")
	if containerStatus(after, "app").ContainerID != containerStatus(before, "app").ContainerID || containerStatus(after, "app").RestartCount != 0 {
		t.Errorf("a restart of containerd restarted the container: %+v", after.Status.ContainerStatuses)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	n.await("stays", "is restarted", func(p *v1.Pod) bool { return isReady(p) && containerStatus(p, "app").RestartCount == 1 })
}

// TestNoProbeFailsForContainerd has containerd answer nobody for a while, and then be gone: that says nothing of containers.
func TestNoProbeFailsForContainerd(t *testing.T) {
	t.Parallel()
	n := prepare(t)
	n.startOwn()
	n.restart()
	n.apply("probed.yaml", simple("probed", forever)+`    readinessProbe: {exec: {command: ["true"]}, periodSeconds: 1, failureThreshold: 1}
    livenessProbe: {exec: {command: ["true"]}, periodSeconds: 1, failureThreshold: 1}
`)
	before := n.awaitReady("probed")
	if err := syscall.Kill(n.own.Pid(), syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	time.Sleep(4 * time.Second)
	if err := syscall.Kill(n.own.Pid(), syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	time.Sleep(time.Second)
	if err := n.own.Kill(); err != nil {
		t.Fatal(err)
	}
	time.Sleep(3 * time.Second)
	n.startOwn()
	time.Sleep(2 * time.Second)
	after := n.awaitReady("probed")
	if containerStatus(after, "app").RestartCount != 0 || !readySince(after).Equal(readySince(before)) {
		t.Errorf("it was %+v, it is %+v", before.Status, after.Status)
	}
}

// TestNoPodFailsForItsShim has a host that can start no shim for a while: a Pod that is never restarted waits for it, and then runs.
func TestNoPodFailsForItsShim(t *testing.T) {
	t.Parallel()
	n := prepare(t)
	broken := n.path("broken")
	real, err := exec.LookPath(shimProgram)
	if other := os.Getenv("PODKEEPER_TEST_CONTAINERD"); other != "" {
		real, err = filepath.Join(other, shimProgram), nil
	}
	if err != nil {
		t.Fatal(err)
	}
	script := fmt.Sprintf("#!/bin/sh\n[ ! -e %q ] || { echo resource temporarily unavailable; exit 1; }\nexec %q \"$@\"\n", broken, real)
	if err := errors.Join(os.MkdirAll(n.path("bin"), 0o755), os.WriteFile(n.path("bin", shimProgram), []byte(script), 0o755), os.WriteFile(broken, nil, 0o644)); err != nil {
		t.Fatal(err)
	}
	n.startOwn(n.path("bin"))
	n.restart()
	n.apply("job.yaml", "apiVersion: v1\nkind: Pod\nmetadata: {name: job}\nspec:\n  restartPolicy: Never\n  containers: [{name: app, image: "+image+", command: [\"true\"]}]\n")
	n.await("job", "waits for a shim", func(p *v1.Pod) bool {
		waiting := containerStatus(p, "app").State.Waiting
		return waiting != nil && waiting.Reason == "CreateContainerError" && strings.Contains(waiting.Message, "shim")
	})
	if err := os.Remove(broken); err != nil {
		t.Fatal(err)
	}
	after := n.await("job", "is done", func(p *v1.Pod) bool { return p.Status.Phase == v1.PodSucceeded || p.Status.Phase == v1.PodFailed })
	if after.Status.Phase != v1.PodSucceeded || containerStatus(after, "app").RestartCount != 0 {
		t.Errorf("%+v", after.Status)
	}
}

// shimProgram is the program of runc's shim.
const shimProgram = "containerd-shim-runc-v2"

func restartContainerd(t *testing.T) {
	t.Helper()
	var err error
	if lab.containerd, err = startDaemon(filepath.Join(labDir, "containerd")); err != nil {
		t.Fatal(err)
	}
}

// startDaemon starts the containerd that is tested, with its state below dir, and finds its programs in other folders first.
func startDaemon(dir string, folders ...string) (*daemon.Daemon, error) {
	if other := os.Getenv("PODKEEPER_TEST_CONTAINERD"); other != "" {
		return daemon.Start(filepath.Join(other, "containerd"), dir, append(folders, other)...)
	}
	return daemon.Start("containerd", dir, folders...)
}

// startOwn starts a containerd of the node's own, below its folder.
func (n *node) startOwn(folders ...string) {
	n.t.Helper()
	own, err := startDaemon(n.path("containerd"), folders...)
	if err != nil {
		n.t.Fatal(err)
	}
	n.own = own
}

// TestNoShimTakesAnothersPlace has containerd's way to start a shim for one more container meet a shim that is there, but
// too busy to be connected to, and guarded as the agent guards it while it creates containers.
func TestNoShimTakesAnothersPlace(t *testing.T) {
	t.Parallel()
	n := launch(t)
	n.apply("busy.yaml", simple("busy", forever))
	pod := n.awaitReady("busy")
	shim := parentOf(t, n.pid(pod, "app"))
	args, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", shim))
	if err != nil {
		t.Fatal(err)
	}
	words, sandbox := strings.Split(string(args), "\x00"), runtime.ID(string(pod.UID), "", 0)
	socket := fmt.Sprintf("/run/containerd/s/%x", sha256.Sum256([]byte(lab.containerd.Socket()+"/"+n.namespace+"/"+sandbox)))
	before, err := os.Stat(socket)
	if err != nil {
		t.Fatal(err)
	}

	if err := syscall.Mount(socket, socket, "", syscall.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	if os.Getenv("PODKEEPER_TEST_CONTAINERD") == "" { // containerd 2 alone can start its shim, in the same way
		out, err := startShim(t, words[0], n.namespace, sandbox, crowd(t, shim, socket))
		if err == nil || !strings.Contains(out, "remove pre-existing socket") {
			t.Errorf("it says %v: %s", err, out)
		}
	}
	if after, err := os.Stat(socket); err != nil || !os.SameFile(before, after) {
		t.Errorf("the shim's socket is another one: %v", err)
	}

	n.remove("busy.yaml") // and with it the guard, as of an agent that was killed
	n.awaitGone("busy")
	n.eventually("the shim's socket goes with it", func() error {
		if _, err := os.Stat(socket); err == nil {
			return errors.New("it is there")
		}
		return nil
	})
}

// startShim starts a shim for a container of a sandbox, as containerd 1.6 does, and then calls release.
func startShim(t *testing.T, program, namespace, sandbox string, release func()) (out string, err error) {
	t.Helper()
	defer release()
	bundle := t.TempDir()
	spec := fmt.Sprintf(`{"annotations": {"io.containerd.runc.v2.group": %q}}`, sandbox)
	if err := os.WriteFile(filepath.Join(bundle, "config.json"), []byte(spec), 0o600); err != nil {
		t.Fatal(err)
	}
	start := exec.Command(program, "-namespace", namespace, "-address", lab.containerd.Socket(), "-id", "another", "start")
	start.Dir = bundle
	said, err := start.CombinedOutput()
	return string(said), err
}

// crowd makes a process that listens at a socket take no more connections, until release is called.
func crowd(t *testing.T, pid int, socket string) (release func()) {
	t.Helper()
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	var fds []int
	release = sync.OnceFunc(func() {
		_ = syscall.Kill(pid, syscall.SIGCONT)
		for _, fd := range fds {
			_ = syscall.Close(fd)
		}
	})
	t.Cleanup(release)
	for {
		fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		fds = append(fds, fd)
		err = syscall.Connect(fd, &syscall.SockaddrUnix{Name: socket})
		if errors.Is(err, syscall.EAGAIN) {
			return release
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// TestTwoAgentsSideBySide checks that two agents with different directories do not disturb each other.
func TestTwoAgentsSideBySide(t *testing.T) {
	t.Parallel()
	a := launch(t)
	t.Run("b", func(t *testing.T) {
		b := launch(t)
		a.apply("same.yaml", simple("same", forever))
		b.apply("same.yaml", simple("same", forever))
		one, two := a.awaitReady("same"), b.awaitReady("same")
		if one.UID == two.UID || one.Status.PodIP == two.Status.PodIP {
			t.Errorf("they share %s %s", one.UID, one.Status.PodIP)
		}
		b.remove("same.yaml")
		b.awaitGone("same")
		if still := a.awaitReady("same"); still.UID != one.UID {
			t.Error("the other agent's Pod was disturbed")
		}
	})
}

// TestReload has the agent start anew with another configuration on SIGHUP, unless that is broken.
func TestReload(t *testing.T) {
	t.Parallel()
	n := launch(t)
	n.apply("kept.yaml", simple("kept", forever))
	before := n.awaitReady("kept")
	config, err := os.ReadFile(n.path("config.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	reload := func(more, told string) {
		t.Helper()
		if err := os.WriteFile(n.path("config.yaml"), []byte(string(config)+more), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := n.agent.Process.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		n.eventually("the log tells "+told, func() error {
			if !strings.Contains(n.log.String(), told) {
				return fmt.Errorf("it does not")
			}
			return nil
		})
	}
	reload("nodeStatusMaxImages: 3\n", "nodeStatusMaxImages: not supported")
	reload("containerLogMaxFiles: 3\n", "agent starts anew")
	after := n.awaitReady("kept")
	if containerStatus(after, "app").ContainerID != containerStatus(before, "app").ContainerID {
		t.Error("a new configuration restarted the container")
	}
}
