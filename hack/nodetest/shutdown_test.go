package nodetest

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"
)

const (
	// leaves is where preStop hooks write to when they begin, and when they are done.
	leaves = "/var/lib/podkeeper-nodetest/leaves"
	// shutdownConfig is more than logind waits for by itself.
	shutdownConfig = "shutdownGracePeriod: 90s\nshutdownGracePeriodCriticalPods: 45s\n"
)

// leaving is a Pod whose preStop hook takes a while, and tells of it.
func leaving(name string, seconds int, spec string) string {
	hook := fmt.Sprintf("echo %[1]s leaves >>/leaves/order; sleep %[2]d; echo %[1]s left >>/leaves/order", name, seconds)
	return fmt.Sprintf("---\napiVersion: v1\nkind: Pod\nmetadata: {name: %s}\nspec:\n  %s\n  volumes: [{name: leaves, hostPath: {path: %s, type: DirectoryOrCreate}}]\n  containers:\n", name, spec, leaves) +
		container("app", forever, "", fmt.Sprintf(", volumeMounts: [{name: leaves, mountPath: /leaves}], lifecycle: {preStop: {exec: {command: [/bin/sh, -c, %q]}}}", hook))
}

// TestShutdownIsAhead prepares for TestShutdownEndedPodsInTheirOrder: logind is told to wait.
func TestShutdownIsAhead(t *testing.T) {
	h := open(t)
	h.clear()
	if err := os.RemoveAll(leaves); err != nil {
		t.Fatal(err)
	}
	h.reload(h.read(configFile)+"\n"+shutdownConfig, "shutdowns of the host wait for pods")
	h.waitsForPods()
	h.apply("leaving.yaml", leaving("critical", 1, "priorityClassName: system-node-critical")+leaving("ordinary", 3, "restartPolicy: OnFailure")+leaving("once", 0, "restartPolicy: Never"))
	h.ready("critical", "ordinary", "once")
}

// waitsForPods fails the test unless logind waits with a shutdown for as long as is configured.
func (h *host) waitsForPods() {
	h.t.Helper()
	const manager = "org.freedesktop.login1.Manager"
	if got := strings.TrimSpace(h.run("busctl", "get-property", "org.freedesktop.login1", "/org/freedesktop/login1", manager, "InhibitDelayMaxUSec")); got != "t 90000000" {
		h.t.Errorf("logind waits for %s", got)
	}
	if got := h.run("systemd-inhibit", "--list", "--no-pager"); !strings.Contains(got, "podkeeper") {
		h.t.Errorf("the inhibitors are %s", got)
	}
}

// TestShutdownEndedPodsInTheirOrder looks at what the boot before has left, and what this one makes of it.
func TestShutdownEndedPodsInTheirOrder(t *testing.T) {
	h := open(t)
	h.eventually("Pods are back, but for the one that runs once", func() error {
		pods, err := h.pods()
		if err != nil {
			return err
		}
		once := pods["once"]
		if once == nil || once.Status.Phase != v1.PodFailed || once.Status.Reason != "Terminated" {
			return fmt.Errorf("of once is told %+v", once)
		}
		delete(pods, "once")
		return allReady(pods, []string{"critical", "ordinary"})
	})
	lines := strings.Split(h.read(leaves+"/order"), "\n")
	at := map[string]int{}
	for i, line := range lines {
		at[line] = i
	}
	if len(lines) != 6 || len(at) != 6 || at["critical leaves"] != 4 || at["critical left"] != 5 {
		t.Errorf("they ended as %q", lines)
	}
	h.waitsForPods()
	if _, err := os.Stat("/etc/systemd/logind.conf.d"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("something is left for later boots: %v", err)
	}
}
