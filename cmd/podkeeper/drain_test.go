package main

import (
	"os/exec"
	"strings"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
)

// TestDrain drains a node amid which the agent is killed: Pods end by their priority, and are back when the node is resumed; what had
// ended by itself is left alone.
func TestDrain(t *testing.T) {
	t.Parallel()
	n := launch(t)
	n.apply("critical.yaml", simple("critical", "trap 'exit 0' TERM; while true; do sleep 0.1; done", "  priorityClassName: system-node-critical"))
	n.apply("web.yaml", simple("web", "trap 'sleep 1; exit 0' TERM; while true; do sleep 0.1; done"))
	n.apply("done.yaml", simple("done", "true", "  restartPolicy: Never"))
	critical, web := n.awaitReady("critical"), n.awaitReady("web")
	done := n.awaitPhase("done", v1.PodSucceeded)
	ask := func(args ...string) string {
		t.Helper()
		out, err := exec.Command(lab.podkeeper, append(args, "--run-dir", n.path("run"))...).CombinedOutput()
		if err != nil {
			t.Fatalf("podkeeper %v: %v: %s", args, err, out)
		}
		return string(out)
	}
	begin := time.Now()
	if said := ask("drain"); said != "2 Pods end\n" {
		t.Error(said)
	}
	n.kill()
	n.restart()
	ask("drain", "--wait")
	if took := time.Since(begin); took < time.Second {
		t.Errorf("all has ended after %v", took)
	}
	n.apply("late.yaml", simple("late", forever))
	for _, name := range []string{"web", "critical", "late"} {
		n.heldFor(name, "Drained", "the node is drained: podkeeper resume brings its Pods back")
	}
	var order []string
	for line := range strings.Lines(n.log.String()) {
		for _, pod := range []string{"web", "critical"} {
			if strings.Contains(line, `action="tear down"`) && strings.Contains(line, "pod=default/"+pod) {
				order = append(order, pod)
			}
		}
	}
	if strings.Join(order, " ") != "web critical" {
		t.Errorf("they ended as %v", order)
	}
	n.kill()
	n.restart()
	n.heldFor("late", "Drained", "the node is drained")
	ask("resume")
	for name, was := range map[string]*v1.Pod{"critical": critical, "web": web, "late": {}} {
		if now := n.awaitReady(name); now.UID == was.UID {
			t.Errorf("%s is the instance that was ended", name)
		}
	}
	if now := n.awaitPhase("done", v1.PodSucceeded); now.UID != done.UID {
		t.Error("what had ended has begun anew")
	}
}
