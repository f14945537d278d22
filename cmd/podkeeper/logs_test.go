package main

import (
	"context"
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
)

// logs runs `podkeeper logs`.
func (n *node) logs(args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	out, err := exec.CommandContext(ctx, lab.podkeeper, append([]string{"logs", "--run-dir", n.path("run")}, args...)...).CombinedOutput()
	return string(out), err
}

// TestLogs reads what containers have written, follows one through many rotations to its end, and names what is not there.
func TestLogs(t *testing.T) {
	t.Parallel()
	n := launch(t, "containerLogMaxSize: 20Ki", "containerLogMaxFiles: 100")
	const count = 10000
	n.apply("count.yaml", strings.Replace(simple("count", fmt.Sprintf("i=0; while [ $i -lt %d ]; do echo line $i; i=$((i+1)); done; sleep 1", count)),
		"spec:", "spec:\n  restartPolicy: Never", 1))
	n.await("count", "has begun", func(p *v1.Pod) bool { return p.Status.Phase != v1.PodPending })
	var want strings.Builder
	for i := range count {
		fmt.Fprintln(&want, "line", i)
	}
	followed, err := n.logs("-f", "count")
	if err != nil || followed != want.String() {
		t.Errorf("followed, it has %d bytes and not %d: %v: it ends with %q", len(followed), want.Len(), err, followed[max(0, len(followed)-200):])
	}
	n.awaitPhase("count", v1.PodSucceeded)
	whole, err := n.logs("default/count")
	if err != nil || whole != want.String() {
		t.Errorf("at its end it has %d bytes and not %d: %v", len(whole), want.Len(), err)
	}
	if last, err := n.logs("--tail", "2", "count", "app"); err != nil || last != fmt.Sprintf("line %d\nline %d\n", count-2, count-1) {
		t.Errorf("its last lines are %q, %v", last, err)
	}

	n.apply("again.yaml", simple("again", "echo life; sleep 1; exit 3"))
	n.await("again", "has restarted", func(p *v1.Pod) bool { return containerStatus(p, "app").RestartCount > 0 })
	before := time.Now()
	if previous, err := n.logs("-p", "--timestamps", "again"); err != nil || !strings.HasSuffix(previous, " life\n") ||
		previous[:4] != before.UTC().Format("2006") {
		t.Errorf("the instance before has said %q, %v", previous, err)
	}
	for what, want := range map[string]string{
		"none":                   "no such Pod: default/none",
		"again -c other":         "container other is not valid for pod again",
		"count -p":               `previous terminated container "app" in pod "count" not found`,
		"count --limit-bytes=-1": "limitBytes: Invalid value: -1: must be greater than 0",
	} {
		if out, err := n.logs(strings.Fields(what)...); err == nil || !strings.Contains(out, want) {
			t.Errorf("logs %s: %q, %v, want %q", what, out, err, want)
		}
	}
}
