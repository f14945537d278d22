package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"

	"github.com/podkeeper/podkeeper/logind/logindtest"
	"github.com/podkeeper/podkeeper/server"
)

// leaving is a Pod that writes to a file of the host when its preStop hook begins, and when that has ended.
func leaving(n *node, name string, seconds int, spec ...string) string {
	return fmt.Sprintf(`apiVersion: v1
kind: Pod
metadata: {name: %[1]s, namespace: default}
spec:
  volumes: [{name: out, hostPath: {path: %[2]s}}]
%[3]s
  containers:
  - name: app
    image: %[4]s
    command: [/bin/sh, -c, %[5]q]
    volumeMounts: [{name: out, mountPath: /out}]
    lifecycle:
      preStop: {exec: {command: [/bin/sh, -c, "echo %[1]s leaves >> /out/order; sleep %[6]d; echo %[1]s left >> /out/order"]}}
`, name, n.path("out"), strings.Join(spec, "\n"), image, forever, seconds)
}

// terminated waits until a Pod was ended for a shutdown.
func (n *node) terminated(name string) {
	n.t.Helper()
	pod := n.await(name, "was ended for the shutdown", func(p *v1.Pod) bool {
		return p.Status.Phase == v1.PodFailed && p.Status.Reason == "Terminated" && p.Status.Message == "Pod was terminated in response to imminent node shutdown."
	})
	disrupted := func(c v1.PodCondition) bool {
		return c.Type == v1.DisruptionTarget && c.Status == v1.ConditionTrue && c.Reason == v1.PodReasonTerminationByKubelet
	}
	if !slices.ContainsFunc(pod.Status.Conditions, disrupted) {
		n.t.Errorf("%s has the conditions %+v", name, pod.Status.Conditions)
	}
}

// inhibits waits until so many inhibitors are held.
func (n *node) inhibits(l *logindtest.Logind, count int) {
	n.t.Helper()
	n.eventually(fmt.Sprintf("%d inhibitors are held", count), func() error {
		if held := l.Held(); held != count {
			return fmt.Errorf("%d are", held)
		}
		return nil
	})
}

// order is what Pods have written of their end since it was asked last.
func (n *node) order() string {
	n.t.Helper()
	file := n.path("out", "order")
	text, err := os.ReadFile(file)
	if err != nil {
		n.t.Fatal(err)
	}
	if err := os.Remove(file); err != nil {
		n.t.Fatal(err)
	}
	return strings.ReplaceAll(strings.TrimSpace(string(text)), "\n", ", ")
}

// TestShutdown has a host be about to shut down, with agents that are killed amid it, and go on running, or boot.
func TestShutdown(t *testing.T) {
	t.Parallel()
	l := logindtest.Start(t, time.Hour)
	n := launch(t)
	n.stopAgent()
	n.config = "shutdownGracePeriodByPodPriority:\n- {priority: 0, shutdownGracePeriodSeconds: 120}\n- {priority: 2000000000, shutdownGracePeriodSeconds: 120}\n"
	n.env = []string{"DBUS_SYSTEM_BUS_ADDRESS=" + l.Address()}
	n.restart()
	n.inhibits(l, 1)
	if got := l.Asked(); !slices.Equal(got, []string{"shutdown: podkeeper: Pods end by their priority, each in its own time: delay"}) {
		t.Errorf("it was asked for %q", got)
	}

	n.examined("logind waits for 1h0m0s, and Pods have 4m0s")

	n.apply("critical.yaml", leaving(n, "critical", 0, "  priorityClassName: system-node-critical"))
	n.apply("web.yaml", leaving(n, "web", 1))
	n.apply("once.yaml", simple("once", forever, "  restartPolicy: Never"))
	n.apply("done.yaml", simple("done", "true", "  restartPolicy: Never"))
	made := server.ObjectID{Resource: "pods", Namespace: "default", Name: "made"}
	if _, err := n.make(made, strings.Replace(simple("made", forever, "  restartPolicy: OnFailure"), "{name: made}", "{name: made, namespace: default}", 1), server.Condition{New: true}); err != nil {
		t.Fatal(err)
	}
	everybody := []string{"critical", "web", "once", "made"}
	for _, name := range everybody {
		n.awaitReady(name)
	}
	n.awaitPhase("done", v1.PodSucceeded)

	l.Set(true)
	n.inhibits(l, 0)
	for _, name := range everybody {
		n.terminated(name)
	}
	n.isReady(`False KubeletNotReady: node is shutting down`)
	if got := n.order(); got != "web leaves, web left, critical leaves, critical left" {
		t.Errorf("they ended as %s", got)
	}
	n.awaitPhase("done", v1.PodSucceeded)
	n.apply("late.yaml", simple("late", forever))
	n.heldFor("late", "NodeShutdown", "Pod was rejected as the node is shutting down.")
	if err := n.agent.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	n.hasLogged(`the old one stays" error="the host shuts down"`)

	n.kill()
	n.restart() // amid the shutdown
	for _, name := range everybody {
		n.terminated(name)
	}
	n.heldFor("late", "NodeShutdown", "Pod was rejected as the node is shutting down.")
	l.Set(false)
	n.back(l)

	l.StopBus()
	n.hasLogged("the connection to the system bus is lost")
	l.StartBus(time.Hour)
	n.eventually("it asks the new bus", func() error {
		if got := len(l.Asked()); got < 3 {
			return fmt.Errorf("it has asked %d times", got)
		}
		return nil
	})
	n.inhibits(l, 1)

	l.Set(true)
	n.inhibits(l, 0)
	n.kill() // with the host
	l.Set(false)
	n.restart()
	n.back(l)
	if got := n.order(); got != "web leaves, web left, critical leaves, critical left" {
		t.Errorf("they ended as %s", got)
	}
	_ = os.Remove(n.path("out", "order"))
}

// back waits until all Pods are that are to be.
func (n *node) back(l *logindtest.Logind) {
	n.t.Helper()
	for _, name := range []string{"critical", "web", "made", "late"} {
		n.awaitReady(name)
	}
	n.terminated("once")
	n.awaitPhase("done", v1.PodSucceeded)
	n.inhibits(l, 1)
	n.isReady("True KubeletReady: kubelet is posting ready status")
}

// isReady fails the test unless the node says that of being ready.
func (n *node) isReady(want string) {
	n.t.Helper()
	told, err := n.client().Node(context.Background())
	if err != nil {
		n.t.Fatal(err)
	}
	for _, c := range told.Status.Conditions {
		if got := fmt.Sprintf("%s %s: %s", c.Status, c.Reason, c.Message); c.Type == v1.NodeReady && got != want {
			n.t.Errorf("of being ready the node says %s", got)
		}
	}
}

// hasLogged waits until the agent has said something.
func (n *node) hasLogged(text string) {
	n.t.Helper()
	n.eventually("it says "+text, func() error {
		if !strings.Contains(n.log.String(), text) {
			return errors.New("it does not")
		}
		return nil
	})
}

// TestThereIsNoLogind has an agent say what does not work, and keep Pods.
func TestThereIsNoLogind(t *testing.T) {
	t.Parallel()
	n := launch(t)
	n.stopAgent()
	n.config = "shutdownGracePeriod: 5s\n"
	n.env = []string{"DBUS_SYSTEM_BUS_ADDRESS=unix:path=" + n.path("nothing")}
	n.restart()
	n.hasLogged("pods may have no time of their own when the host shuts down (shutdownGracePeriod): logind is not to be had, and is tried again")
	n.examined("systemd-logind is not to be had")
	n.apply("web.yaml", simple("web", forever))
	n.awaitReady("web")
}

// examined fails the test unless the doctor says something of shutdowns.
func (n *node) examined(want string) {
	n.t.Helper()
	cmd := exec.Command(lab.podkeeper, "doctor", "--config", n.path("config.yaml"), "--container-runtime-endpoint", "unix://"+lab.containerd.Socket())
	cmd.Env = append(os.Environ(), n.env...)
	out, _ := cmd.CombinedOutput() // whatever else this host lacks
	for line := range strings.Lines(string(out)) {
		if strings.Contains(line, "  shutdown  ") && strings.Contains(line, want) {
			return
		}
	}
	n.t.Errorf("the doctor says %s", out)
}
