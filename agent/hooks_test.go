package agent

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/containerd/errdefs"
	v1 "k8s.io/api/core/v1"

	"github.com/podkeeper/podkeeper/agent/node"
	"github.com/podkeeper/podkeeper/server"
)

func execHandler(command ...string) *v1.LifecycleHandler {
	return &v1.LifecycleHandler{Exec: &v1.ExecAction{Command: command}}
}

func sleepHandler(seconds int64) *v1.LifecycleHandler {
	return &v1.LifecycleHandler{Sleep: &v1.SleepAction{Seconds: seconds}}
}

// hang is a command that does not end before it is given up.
func hang(ctx context.Context, _ node.Target, _ []string) (int, error) {
	<-ctx.Done()
	return 0, ctx.Err()
}

func (a *agency) reasons(reason string) (messages []string) {
	for _, e := range a.w.events.List() {
		if e.Reason == reason {
			messages = append(messages, e.Message)
		}
	}
	return messages
}

func TestNothingIsToldToRunBeforePostStartHasSucceeded(t *testing.T) {
	inBubble(t, func(a *agency) {
		p := a.pod("app", "other")
		p.Spec.Containers[0].Lifecycle = &v1.Lifecycle{PostStart: sleepHandler(5)}
		p.Spec.Containers[0].ReadinessProbe = execProbe(1, 1)
		a.host.exec = func(node.Target) (int, error) { a.host.note("probe"); return 0, nil }
		a.wantPod(p)
		a.pass(4)
		if s := a.status("app"); s.State.Waiting == nil || s.State.Waiting.Reason != "ContainerCreating" || *s.Started {
			t.Errorf("it is told as %+v", s.State)
		}
		if phase := a.w.published.Load().Status.Phase; phase != v1.PodPending {
			t.Errorf("the Pod is %s", phase)
		}
		if !a.status("other").Ready {
			t.Error("another container waits for it")
		}
		a.pass(5.5)
		if s := a.status("app"); s.State.Running == nil || !s.Ready {
			t.Errorf("then it is %+v", s)
		}
		if first := a.host.noted("probe")[0]; seconds(t, first) < 5 {
			t.Errorf("it is probed before: %s", first)
		}
	})
}

func TestASidecarHasNotStartedBeforeItsHook(t *testing.T) {
	inBubble(t, func(a *agency) {
		p := a.pod("app")
		always := v1.ContainerRestartPolicyAlways
		p.Spec.InitContainers = []v1.Container{{Name: "side", Image: "side:1", RestartPolicy: &always, Lifecycle: &v1.Lifecycle{PostStart: sleepHandler(3)}}}
		a.wantPod(p)
		a.pass(10)
		a.expect("start", "0 start side 0", "3 start app 0")
	})
}

func TestAFailingPostStartKills(t *testing.T) {
	inBubble(t, func(a *agency) {
		p := a.pod("app")
		p.Spec.Containers[0].Lifecycle = &v1.Lifecycle{PostStart: execHandler("greet")}
		a.host.command = func(context.Context, node.Target, []string) (int, error) { return 3, nil }
		a.wantPod(p)
		a.pass(5)
		a.expect("exec", "0 exec app greet", "0 exec app greet")
		a.expect("term", "0 term app 0", "0 term app 1")
		if s := a.status("app"); s.State.Waiting == nil || s.State.Waiting.Reason != "CrashLoopBackOff" || s.RestartCount != 1 {
			t.Errorf("it is %+v", s)
		}
		if got := a.reasons("FailedPostStartHook"); len(got) != 1 || !strings.Contains(got[0], "exited with 3: said") {
			t.Errorf("people are told %q", got)
		}
	})
}

// A container that is stopped because its hook failed says so until it has ended; its preStop hook is run.
func TestAFailedPostStartIsToldUntilTheEnd(t *testing.T) {
	inBubble(t, func(a *agency) {
		p := a.pod("app")
		p.Spec.Containers[0].Lifecycle = &v1.Lifecycle{PostStart: execHandler("greet"), PreStop: sleepHandler(2)}
		a.host.command = func(_ context.Context, t node.Target, _ []string) (int, error) { return 1 - min(t.Attempt, 1), nil }
		a.host.deaf = true
		a.wantPod(p)
		for _, at := range []float64{1, 29} {
			a.pass(at)
			if s := a.status("app"); s.State.Waiting == nil || s.State.Waiting.Reason != "PostStartHookError" || *s.Started {
				t.Errorf("after %v s it is told as %+v", at, s.State)
			}
		}
		a.pass(31)
		a.expect("term", "2 term app 0")
		a.expect("kill", "30 kill app 0")
		a.expect("start", "0 start app 0", "30 start app 1")
		if s := a.status("app"); s.State.Running == nil || s.RestartCount != 1 {
			t.Errorf("then it is %+v", s)
		}
	})
}

func TestAPostStartThatHangsHidesNoExitAndBlocksNoEnd(t *testing.T) {
	inBubble(t, func(a *agency) {
		p := a.pod("app")
		p.Spec.Containers[0].Lifecycle = &v1.Lifecycle{PostStart: execHandler("greet")}
		a.host.command = hang
		a.wantPod(p)
		a.pass(1)
		a.host.exit("app", 1)
		a.pass(2)
		a.expect("start", "0 start app 0", "1 start app 1")
		a.w.want(nil)
		a.pass(3)
		a.expect("tear down", "2 tear down")
	})
}

func TestAPostStartIsRunByTheNextAgent(t *testing.T) {
	inBubble(t, func(a *agency) {
		p := a.pod("app")
		p.Spec.Containers[0].Lifecycle = &v1.Lifecycle{PostStart: sleepHandler(5)}
		a.wantPod(p)
		a.pass(2)
		a.succeed()
		a.pass(6)
		if a.status("app").State.Running != nil {
			t.Error("its hook is taken for done")
		}
		a.pass(8)
		if a.status("app").State.Running == nil {
			t.Error("its hook is not run again")
		}
		a.expect("start", "0 start app 0")
	})
}

// TestPreStopIsPartOfTheGrace has hooks that take a while, and one that hangs; the order of the end is that of the signals.
func TestPreStopIsPartOfTheGrace(t *testing.T) {
	inBubble(t, func(a *agency) {
		grace := int64(10)
		p := a.pod("quick", "slow", "none")
		p.Spec.TerminationGracePeriodSeconds = &grace
		always := v1.ContainerRestartPolicyAlways
		p.Spec.InitContainers = []v1.Container{{Name: "side", Image: "side:1", RestartPolicy: &always, Lifecycle: &v1.Lifecycle{PreStop: execHandler("bye")}}}
		p.Spec.Containers[0].Lifecycle = &v1.Lifecycle{PreStop: sleepHandler(3)}
		p.Spec.Containers[1].Lifecycle = &v1.Lifecycle{PreStop: execHandler("bye")}
		a.host.command = func(ctx context.Context, t node.Target, _ []string) (int, error) {
			if t.Container.Name == "side" {
				return 0, nil
			}
			return hang(ctx, t, nil)
		}
		a.wantPod(p)
		a.pass(5)
		a.host.set(func() { a.host.deaf = true })
		a.w.want(nil)
		a.pass(30)
		a.expect("exec", "5 exec side bye", "5 exec slow bye")
		a.expect("term", "5 term none 0", "8 term quick 0", "15 term side 0", "15 term slow 0")
		a.expect("kill", "15 kill none 0", "15 kill quick 0", "17 kill side 0", "17 kill slow 0")
		a.expect("tear down", "17 tear down")
	})
}

func TestNoPreStopForWhatHasEnded(t *testing.T) {
	inBubble(t, func(a *agency) {
		p := a.pod("app")
		p.Spec.RestartPolicy = v1.RestartPolicyNever
		p.Spec.Containers[0].Lifecycle = &v1.Lifecycle{PreStop: execHandler("bye")}
		a.host.command = hang
		a.wantPod(p)
		a.pass(5)
		a.host.exit("app", 0)
		a.pass(6)
		a.w.want(nil)
		a.pass(7)
		a.expect("exec")
		a.expect("tear down", "6 tear down")
	})
}

// TestAnExitDuringPreStopEndsIt has a container that ends by itself while its hook hangs.
func TestAnExitDuringPreStopEndsIt(t *testing.T) {
	inBubble(t, func(a *agency) {
		p := a.pod("app")
		p.Spec.Containers[0].Lifecycle = &v1.Lifecycle{PreStop: execHandler("bye")}
		a.host.command = hang
		a.wantPod(p)
		a.pass(5)
		a.w.want(nil)
		a.pass(6)
		a.host.exit("app", 0)
		a.pass(7)
		a.expect("term")
		a.expect("tear down", "6 tear down")
	})
}

// TestAFailedPreStopStopsAllTheSame has liveness ask for the stop.
func TestAFailedPreStopStopsAllTheSame(t *testing.T) {
	inBubble(t, func(a *agency) {
		p := a.pod("app")
		p.Spec.Containers[0].Lifecycle = &v1.Lifecycle{PreStop: &v1.LifecycleHandler{TCPSocket: &v1.TCPSocketAction{}}}
		p.Spec.Containers[0].LivenessProbe = execProbe(5, 1)
		bad := true
		a.host.command = func(context.Context, node.Target, []string) (int, error) {
			if bad {
				bad = false
				return 1, nil
			}
			return 0, nil
		}
		a.wantPod(p)
		a.pass(3)
		a.expect("term", "0 term app 0")
		a.expect("start", "0 start app 0", "0 start app 1")
		if got := a.reasons("FailedPreStopHook"); len(got) != 1 || !strings.Contains(got[0], "invalid handler") {
			t.Errorf("people are told %q", got)
		}
		if got := a.reasons("Killing"); len(got) != 1 || got[0] != "Container app failed liveness probe, will be restarted" {
			t.Errorf("people are told %q", got)
		}
	})
}

// TestAPreStopIsGoneOnWithByTheNextAgent counts the time of both.
func TestAPreStopIsGoneOnWithByTheNextAgent(t *testing.T) {
	inBubble(t, func(a *agency) {
		grace := int64(10)
		p := a.pod("app")
		p.Spec.TerminationGracePeriodSeconds = &grace
		p.Spec.Containers[0].Lifecycle = &v1.Lifecycle{PreStop: execHandler("bye")}
		a.host.command = hang
		a.wantPod(p)
		a.pass(5)
		a.w.want(nil)
		a.pass(8)
		a.succeed()
		a.w.want(nil)
		a.pass(30)
		a.expect("exec", "5 exec app bye", "8 exec app bye")
		a.expect("term", "15 term app 0")
	})
}

func TestAHookThatCannotBeRunIsTriedAgain(t *testing.T) {
	inBubble(t, func(a *agency) {
		p := a.pod("app")
		p.Spec.Containers[0].Lifecycle = &v1.Lifecycle{PostStart: execHandler("greet")}
		away := time.Now().Add(2 * time.Second)
		a.host.command = func(context.Context, node.Target, []string) (int, error) {
			if time.Now().Before(away) {
				return 0, fmt.Errorf("dial: %w", errdefs.ErrUnavailable)
			}
			return 0, nil
		}
		a.wantPod(p)
		a.pass(10)
		a.expect("exec", "0 exec app greet", "1 exec app greet", "3 exec app greet")
		a.expect("term")
		if !a.status("app").Ready {
			t.Error("it is not ready")
		}
	})
}

// TestAnEndCanBeShortened has a hook that sleeps, and one container whose stop is under way.
func TestWhoAsksMeetsWhatIsWantedNow(t *testing.T) {
	inBubble(t, func(a *agency) {
		a.host.deaf = true
		p := a.pod("app")
		p.Name, p.Spec.TerminationGracePeriodSeconds = "other", new(int64(100))
		for range 20 { // of two that come while the worker looks, the first that it hears of is chance
			w := a.another("other")
			w.want(wishFor(p, "1"))
			synctest.Wait()
			asked := make(chan error)
			a.host.set(func() {
				a.host.looked = func() {
					w.want(nil)
					go func() { asked <- w.request(func() error { return w.shorten(time.Second) }) }()
					time.Sleep(time.Millisecond) // until it asks
				}
			})
			w.Wake()
			if err := <-asked; err != nil {
				t.Fatalf("one that is not wanted any more: %v", err)
			}
			time.Sleep(10 * time.Second)
			synctest.Wait()
		}
	})
}

func TestAnEndCanBeShortened(t *testing.T) {
	inBubble(t, func(a *agency) {
		grace := int64(100)
		p := a.pod("hooked", "plain")
		p.Spec.TerminationGracePeriodSeconds = &grace
		p.Spec.Containers[0].Lifecycle = &v1.Lifecycle{PreStop: sleepHandler(90)}
		shorten := func(d time.Duration) error { return a.w.request(func() error { return a.w.shorten(d) }) }
		a.wantPod(p)
		a.pass(5)
		a.host.set(func() { a.host.deaf = true })
		if err := shorten(time.Second); !errors.Is(err, server.ErrConflict) {
			t.Errorf("one that does not end: %v", err)
		}
		a.w.want(nil)
		a.pass(10)
		for _, d := range []time.Duration{300 * time.Second, 10 * time.Second} { // a longer one changes nothing
			if err := shorten(d); err != nil {
				t.Error(err)
			}
		}
		a.pass(11)
		a.succeed()
		a.w.want(nil)
		a.pass(12)
		if got := a.w.published.Load(); *got.DeletionGracePeriodSeconds != 15 {
			t.Errorf("it is told to have %d seconds", *got.DeletionGracePeriodSeconds)
		}
		a.pass(60)
		a.expect("term hooked", "20 term hooked 0")
		a.expect("kill", "20 kill plain 0", "22 kill hooked 0")
		a.expect("tear down", "22 tear down")
	})
}

func TestAnEndMayBeGivenMoreTime(t *testing.T) {
	inBubble(t, func(a *agency) {
		grace := int64(10)
		p := a.pod("app")
		p.Spec.TerminationGracePeriodSeconds = &grace
		a.wantPod(p)
		a.pass(5)
		a.host.set(func() { a.host.deaf = true })
		longer := 30 * time.Second
		a.w.allot(&longer)
		a.w.want(nil)
		a.pass(6)
		a.succeed()
		a.w.want(nil)
		a.pass(7)
		if got := a.w.published.Load(); *got.DeletionGracePeriodSeconds != 30 {
			t.Errorf("it is told to have %d seconds", *got.DeletionGracePeriodSeconds)
		}
		a.pass(60)
		a.expect("kill", "35 kill app 0")
	})
}
