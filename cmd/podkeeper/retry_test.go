package main

import (
	"bytes"
	"os"
	"strings"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
)

// runRetry runs the command and answers what it said.
func runRetry(t *testing.T, args ...string) (said string, err error) {
	t.Helper()
	var out bytes.Buffer
	cmd := command()
	cmd.SetArgs(append([]string{"retry"}, args...))
	cmd.SetOut(&out)
	err = cmd.ExecuteContext(t.Context())
	return out.String(), err
}

func TestRetryWantsPodsOrAll(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{}, {"--all", "web"}} {
		if _, err := runRetry(t, args...); err == nil || err.Error() != "name Pods, or give --all" {
			t.Errorf("%q: %v", args, err)
		}
	}
}

func TestARetryEndsTheWaitForARestart(t *testing.T) {
	t.Parallel()
	n := launch(t)
	n.apply("loop.yaml", strings.Replace(simple("loop", "[ -e /out/mended ] || exit 1; "+forever,
		"  volumes: [{name: out, hostPath: {path: "+n.path("out")+"}}]"), "args:", "volumeMounts: [{name: out, mountPath: /out}]\n    args:", 1))
	n.apply("refused.yaml", strings.Replace(simple("refused", forever), "image:", "imgae:", 1))
	waits := n.await("loop", "waits for 20 s", func(p *v1.Pod) bool {
		s := containerStatus(p, "app")
		return s.RestartCount == 2 && s.State.Waiting != nil && s.State.Waiting.Reason == "CrashLoopBackOff"
	})
	ended := containerStatus(waits, "app").LastTerminationState.Terminated.FinishedAt
	if err := os.WriteFile(n.path("out", "mended"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := runRetry(t, "--run-dir", n.path("run"), "nosuch", "shop/web"); err == nil || err.Error() != "there is no Pod default/nosuch\nthere is no Pod shop/web" {
		t.Errorf("of Pods that are not there: %v", err)
	}
	said, err := runRetry(t, "--run-dir", n.path("run"), "--all")
	if want := "default/loop: what waits is tried now\n"; err != nil || said != want {
		t.Errorf("it said %q, want %q: %v", said, want, err)
	}
	s := containerStatus(n.awaitReady("loop"), "app")
	if waited := s.State.Running.StartedAt.Sub(ended.Time); waited > 15*time.Second || s.RestartCount != 3 {
		t.Errorf("it waited %v for restart %d", waited, s.RestartCount)
	}
}
