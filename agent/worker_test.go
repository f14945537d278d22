package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	v1 "k8s.io/api/core/v1"

	"github.com/podkeeper/podkeeper/agent/node"
	"github.com/podkeeper/podkeeper/agent/plan"
	"github.com/podkeeper/podkeeper/probes"
)

func TestPodComesUp(t *testing.T) {
	inBubble(t, func(a *agency) {
		p := a.pod("app", "log")
		p.Spec.InitContainers = []v1.Container{{Name: "init", Image: "init:1"}}
		a.wantPod(p)
		a.pass(1)
		if s := a.status("init"); s.State.Running == nil || a.w.published.Load().Status.Phase != v1.PodPending {
			t.Errorf("while init runs: %+v, %s", s, a.w.published.Load().Status.Phase)
		}
		a.host.exit("init", 0)
		synctest.Wait()
		a.expect("start", "0 start init 0", "1 start app 0", "1 start log 0")
		status := a.w.published.Load().Status
		if status.Phase != v1.PodRunning || !a.ready() || status.PodIP != "10.88.0.2" || status.HostIP != "192.0.2.1" {
			t.Errorf("%+v", status)
		}
		if s := a.status("app"); s.Image != "docker.io/app:1" || s.ContainerID == "" || !s.Ready {
			t.Errorf("%+v", s)
		}
		var reasons []string
		for _, e := range a.w.events.List() {
			if e.InvolvedObject.FieldPath == "spec.initContainers{init}" {
				reasons = append(reasons, e.Reason)
			}
		}
		if !slices.Equal(reasons, []string{"Pulled", "Created", "Started"}) {
			t.Errorf("events of init: %q", reasons)
		}
		a.pass(3600) // nothing happens to a Pod at rest
		a.expect("start", "0 start init 0", "1 start app 0", "1 start log 0")
	})
}

func TestCrashLoopWaitsExactly(t *testing.T) {
	inBubble(t, func(a *agency) {
		a.host.started = func(node.Target) { time.AfterFunc(time.Second, func() { a.host.exit("app", 0) }) }
		a.want("1", "app")
		a.pass(5)
		if s := a.status("app"); s.State.Waiting == nil || s.State.Waiting.Reason != "CrashLoopBackOff" || s.RestartCount != 1 || s.LastTerminationState.Terminated == nil {
			t.Errorf("%+v", s)
		}
		if got := a.w.published.Load().Status.Phase; got != v1.PodRunning {
			t.Errorf("phase %s", got)
		}
		if got, want := a.reasons("BackOff"), fmt.Sprintf("Back-off restarting failed container app in pod web_default(%s)", a.w.published.Load().UID); !slices.Equal(got, []string{want}) {
			t.Errorf("people are told %q, want %q", got, want)
		}
		a.pass(1000)
		a.expect("start", "0 start app 0", "1 start app 1", "12 start app 2", "33 start app 3", "74 start app 4", "155 start app 5",
			"316 start app 6", "617 start app 7", "918 start app 8")
		a.host.set(func() { a.host.started = nil })
		a.pass(2000) // more than ten minutes of running
		a.host.exit("app", 1)
		synctest.Wait()
		a.host.exit("app", 1)
		a.pass(3000)
		want := []string{"2000 start app 10", "2010 start app 11"}
		if got := a.host.noted("start"); !slices.Equal(got[len(got)-2:], want) {
			t.Errorf("after ten minutes of running: got %q, want %q", got[len(got)-3:], want)
		}
	})
}

func TestLivenessRestarts(t *testing.T) {
	inBubble(t, func(a *agency) {
		var sick atomic.Bool
		a.host.deaf = true
		a.host.exec = func(node.Target) (int, error) {
			if sick.Load() {
				return 1, nil
			}
			return 0, nil
		}
		p := a.pod("app", "other")
		p.Spec.Containers[0].LivenessProbe = execProbe(10, 3)
		p.Spec.Containers[0].LivenessProbe.TerminationGracePeriodSeconds = new(int64(7))
		a.wantPod(p)
		a.pass(15)
		sick.Store(true)
		a.pass(45)
		sick.Store(false)
		a.pass(1000)
		a.expect("term", "40 term app 0")
		a.expect("kill", "47 kill app 0")
		a.expect("start", "0 start app 0", "0 start other 0", "47 start app 1")
		for reason, want := range map[string]string{"Killing": "Container app failed liveness probe, will be restarted", "Unhealthy": "Liveness probe failed: said"} {
			i := slices.IndexFunc(a.w.events.List(), func(e v1.Event) bool { return e.Reason == reason })
			if i < 0 || a.w.events.List()[i].Message != want {
				t.Errorf("no event %s: %s", reason, want)
			}
		}
	})
}

func TestAStopIsToldInTheKubeletsWords(t *testing.T) {
	t.Parallel()
	p := &v1.Pod{}
	p.Spec.RestartPolicy = v1.RestartPolicyNever
	never, onFailure := v1.ContainerRestartPolicyNever, v1.ContainerRestartPolicyOnFailure
	p.Spec.InitContainers = []v1.Container{sidecar("side")}
	p.Spec.Containers = []v1.Container{{Name: "app"}, {Name: "again", RestartPolicy: &onFailure}, {Name: "once", RestartPolicy: &never}}
	for sentence, r := range map[string]struct {
		container string
		why       plan.Why
		want      string
	}{
		"what never restarts is not said to":    {"app", plan.LivenessFailed, "Container app failed liveness probe"},
		"a policy of its own counts":            {"again", plan.LivenessFailed, "Container again failed liveness probe, will be restarted"},
		"in both ways":                          {"once", plan.StartupFailed, "Container once failed startup probe"},
		"a sidecar is an init container":        {"side", plan.StartupFailed, "Init container side failed startup probe"},
		"an edit restarts whatever policy says": {"app", plan.SpecChanged, "Container app definition changed, will be restarted"},
		"of a sidecar, too":                     {"side", plan.SpecChanged, "Init container side definition changed"},
		"the end of a Pod is no restart":        {"app", plan.PodEnds, "Stopping container app"},
		"a hook that failed":                    {"app", plan.HookFailed, "FailedPostStartHook"},
	} {
		t.Run(sentence, func(t *testing.T) {
			t.Parallel()
			if got := killing(p, plan.Action{Container: r.container, Why: r.why}); got != r.want {
				t.Errorf("got %q, want %q", got, r.want)
			}
		})
	}
}

func TestStartupProbeHoldsTheOthersBack(t *testing.T) {
	inBubble(t, func(a *agency) {
		var code atomic.Int32
		code.Store(1)
		a.host.exec = func(node.Target) (int, error) { return int(code.Load()), nil }
		p := a.pod("app")
		p.Spec.Containers[0].StartupProbe, p.Spec.Containers[0].ReadinessProbe = execProbe(10, 3), execProbe(5, 1)
		a.wantPod(p)
		a.pass(15)
		if s := a.status("app"); *s.Started || s.Ready {
			t.Errorf("before the startup probe has passed: %+v", s)
		}
		a.succeed() // a takeover makes nothing started that was not
		if s := a.status("app"); *s.Started || s.Ready {
			t.Errorf("after a takeover: %+v", s)
		}
		code.Store(0)
		a.pass(40)
		if s := a.status("app"); !*s.Started || !s.Ready {
			t.Errorf("after the startup probe has passed: %+v", s)
		}
		a.expect("term")
	})
}

// The startup probe is asked until it has passed and never again, by the next agent neither; the others are asked at once then.
func TestTheOthersAreProbedOnceTheStartupProbeHasPassed(t *testing.T) {
	inBubble(t, func(a *agency) {
		var up atomic.Bool
		a.host.command = func(_ context.Context, _ node.Target, command []string) (int, error) {
			if command[0] == "started" && !up.Load() {
				return 1, nil
			}
			return 0, nil
		}
		probe := func(command string, period int32) *v1.Probe {
			p := execProbe(period, 10)
			p.Exec.Command = []string{command}
			return p
		}
		p := a.pod("app")
		c := &p.Spec.Containers[0]
		c.StartupProbe, c.ReadinessProbe, c.LivenessProbe = probe("started", 3), probe("ready", 20), probe("alive", 10)
		a.wantPod(p)
		a.pass(5)
		up.Store(true)
		a.pass(27)
		a.expect("exec", "0 exec app started", "3 exec app started", "6 exec app started",
			"6 exec app ready", "6 exec app alive", "16 exec app alive", "26 exec app ready", "26 exec app alive")
		a.succeed()
		a.pass(60)
		if got := a.host.noted("exec app started"); len(got) != 3 || !a.ready() {
			t.Errorf("the startup probe was asked at %q, ready: %v", got, a.ready())
		}
	})
}

func TestPeopleAreToldOfChecks(t *testing.T) {
	for sentence, r := range map[string]struct {
		report       probes.Report
		reason, want string
	}{
		"that failed":             {probes.Report{Kind: probes.Readiness, Result: probes.Failure, Output: "no"}, "Unhealthy", "Readiness probe failed: no"},
		"that were led elsewhere": {probes.Report{Kind: probes.Liveness, Result: probes.Warning, Output: "there"}, "ProbeWarning", "Liveness probe warning: there"},
		"that could not be made": {probes.Report{Kind: probes.Startup, Result: probes.Unknown, Err: errors.New("no shim")},
			"Unhealthy", "Startup probe errored and resulted in unknown state: no shim"},
	} {
		t.Run(sentence, func(t *testing.T) {
			inBubble(t, func(a *agency) {
				p := a.pod("app")
				a.w.report(p, "app", r.report)
				if got := a.reasons(r.reason); !slices.Equal(got, []string{r.want}) {
					t.Errorf("got %q, want %q", got, r.want)
				}
				if e := a.w.events.List()[0]; e.Type != v1.EventTypeWarning || e.InvolvedObject.FieldPath != "spec.containers{app}" {
					t.Errorf("it is a %s event of %s", e.Type, e.InvolvedObject.FieldPath)
				}
			})
		})
	}
}

func TestStartupFailureRestarts(t *testing.T) {
	inBubble(t, func(a *agency) {
		a.host.exec = func(node.Target) (int, error) { return 1, nil }
		p := a.pod("app")
		p.Spec.Containers[0].StartupProbe = execProbe(10, 3)
		a.wantPod(p)
		a.pass(50)
		a.expect("start", "0 start app 0", "20 start app 1", "50 start app 2")
	})
}

func TestManyEditsEndInTheLast(t *testing.T) {
	inBubble(t, func(a *agency) {
		a.host.deaf = true
		for i := range 50 {
			a.want(strconv.Itoa(i), "app")
			time.Sleep(time.Duration(i%7) * 300 * time.Millisecond)
		}
		a.pass(200)
		if got := a.host.running(); !slices.Equal(got, []string{"app"}) {
			t.Errorf("%q run", got)
		}
		if inst := a.written(); inst.Revision != "49" || inst.Ending != nil {
			t.Errorf("revision %s, ending %v", inst.Revision, inst.Ending)
		}
	})
}

func TestEditStopsInFullBeforeItStarts(t *testing.T) {
	inBubble(t, func(a *agency) {
		a.host.deaf = true
		a.want("1", "app")
		a.pass(10)
		a.want("2", "app")
		a.pass(20)
		if pod := a.w.published.Load(); pod.DeletionTimestamp == nil || pod.DeletionTimestamp.Sub(a.host.begin) != 40*time.Second {
			t.Errorf("deletion at %v", pod.DeletionTimestamp)
		}
		a.pass(100)
		a.expect("term", "10 term app 0")
		a.expect("kill", "40 kill app 0")
		a.expect("start", "0 start app 0", "40 start app 0")
		a.expect("tear down", "40 tear down")
	})
}

func TestEditBackBeforeItIsSeenChangesNothing(t *testing.T) {
	inBubble(t, func(a *agency) {
		a.want("1", "app")
		a.pass(10)
		a.host.set(func() {
			a.host.looked = func() { // the worker is in the middle of a round
				a.want("2", "app")
				a.want("1", "app")
			}
		})
		a.w.Wake()
		a.pass(20)
		a.expect("start", "0 start app 0")
		a.expect("term")
	})
}

func TestRemovalDoesNotWaitForAPull(t *testing.T) {
	inBubble(t, func(a *agency) {
		a.host.prepare = func(ctx context.Context, _ node.Target) error {
			<-ctx.Done()
			return &node.Fault{Reason: node.ErrImagePull, Err: ctx.Err()}
		}
		a.want("1", "app")
		a.pass(5)
		a.w.want(nil)
		synctest.Wait()
		a.expect("tear down", "5 tear down")
		select {
		case <-a.done:
		default:
			t.Error("the worker is still there")
		}
		if left, _ := os.ReadDir(a.dir); len(left) > 0 {
			t.Errorf("left: %v", left)
		}
	})
}

func TestHungStartDelaysNoOther(t *testing.T) {
	inBubble(t, func(a *agency) {
		a.host.start = func(ctx context.Context, t node.Target) error {
			if t.Container.Name != "app" {
				return nil
			}
			<-ctx.Done()
			return fmt.Errorf("create task: %w", ctx.Err())
		}
		a.host.started = func(t node.Target) {
			if t.Attempt == 0 {
				time.AfterFunc(time.Second, func() { a.host.exit("other", 1) })
			}
		}
		a.want("1", "app", "other")
		a.pass(130)
		a.expect("start other", "0 start other 0", "1 start other 1")
		a.expect("start app", "0 start app 0", "121 start app 0") // given up after two minutes, tried again a second later
		a.w.want(nil)
		synctest.Wait()
		a.expect("tear down", "130 tear down")
	})
}

func TestTakeoverRestartsNothing(t *testing.T) {
	inBubble(t, func(a *agency) {
		var code, checks atomic.Int32
		a.host.exec = func(node.Target) (int, error) { checks.Add(1); return int(code.Load()), nil }
		p := a.pod("app", "job")
		p.Spec.InitContainers = []v1.Container{{Name: "init", Image: "init:1"}}
		p.Spec.Containers[0].ReadinessProbe = execProbe(10, 1)
		a.wantPod(p)
		synctest.Wait()
		a.host.exit("init", 0)
		a.pass(5)
		before := a.w.published.Load()
		for range 5 {
			a.succeed()
			if !a.ready() {
				t.Fatal("Ready was lost")
			}
		}
		if n := checks.Load(); n != 1 {
			t.Errorf("%d checks", n)
		}
		after := a.w.published.Load()
		for i, c := range after.Status.Conditions {
			if !c.LastTransitionTime.Time.Equal(before.Status.Conditions[i].LastTransitionTime.Time) {
				t.Errorf("%s changed at %v", c.Type, c.LastTransitionTime)
			}
		}
		if after.UID != before.UID {
			t.Error("another UID")
		}
		a.host.exit("job", 1)
		a.pass(20)
		code.Store(1)
		a.pass(30)
		if a.ready() {
			t.Error("readiness is not probed any more")
		}
		a.expect("start", "0 start init 0", "0 start app 0", "0 start job 0", "5 start job 1")
		a.expect("sandbox", "0 sandbox 0")
	})
}

func TestTakeoverOfBackoff(t *testing.T) {
	inBubble(t, func(a *agency) {
		a.host.started = func(node.Target) { time.AfterFunc(time.Second, func() { a.host.exit("app", 1) }) }
		a.want("1", "app")
		a.pass(20)
		a.succeed()
		if s := a.status("app"); s.State.Waiting == nil || s.State.Waiting.Reason != "CrashLoopBackOff" || s.RestartCount != 2 {
			t.Errorf("%+v", s)
		}
		a.pass(70)
		a.expect("start", "0 start app 0", "1 start app 1", "12 start app 2", "33 start app 3")
	})
}

func TestTakeoverOfTermination(t *testing.T) {
	inBubble(t, func(a *agency) {
		a.host.deaf = true
		a.want("1", "app")
		a.pass(10)
		a.w.want(nil)
		a.pass(22)
		a.succeed()
		a.pass(100)
		a.expect("term", "10 term app 0")
		a.expect("kill", "40 kill app 0")
		a.expect("tear down", "40 tear down")
	})
}

func TestExitWhileNoAgentRan(t *testing.T) {
	inBubble(t, func(a *agency) {
		p := a.pod("app")
		p.Spec.RestartPolicy = v1.RestartPolicyNever
		a.wantPod(p)
		a.pass(5)
		a.dismiss()
		a.host.exit("app", 3)
		time.Sleep(time.Minute)
		a.employ(a.written())
		synctest.Wait()
		s := a.status("app").State.Terminated
		if s == nil || s.ExitCode != 3 || s.FinishedAt.Sub(a.host.begin) != 5*time.Second || a.w.published.Load().Status.Phase != v1.PodFailed {
			t.Errorf("%+v", s)
		}
		a.expect("no sandbox", "65 no sandbox 0")
	})
}

func TestTaskLostWhileNoAgentRan(t *testing.T) {
	inBubble(t, func(a *agency) {
		a.want("1", "app")
		a.pass(5)
		a.dismiss()
		a.host.set(func() { clear(a.host.tasks) })
		a.employ(a.written())
		a.pass(6)
		last := a.status("app").LastTerminationState.Terminated
		if last == nil || last.ExitCode != 137 || last.Reason != "ContainerStatusUnknown" ||
			last.Message != "The container could not be located when the pod was terminated" {
			t.Errorf("%+v", last)
		}
		a.expect("start", "0 start app 0", "5 start app 1")
	})
}

func TestKillsForWantOfMemoryAreTold(t *testing.T) {
	for sentence, r := range map[string]struct {
		code   int
		kills  uint64
		reason string
	}{
		"a kill":                               {137, 3, "OOMKilled"},
		"killed by someone":                    {137, 0, ""},
		"a child was killed, and main gave up": {1, 3, "OOMKilled"},
		"a child was killed, and main made do": {0, 3, ""},
	} {
		t.Run(sentence, func(t *testing.T) {
			inBubble(t, func(a *agency) {
				a.want("1", "app")
				a.pass(5)
				a.host.set(func() { a.host.oomKills = r.kills })
				a.host.exit("app", r.code)
				a.pass(1)
				last := a.status("app").LastTerminationState.Terminated
				if last == nil || last.Reason != r.reason {
					t.Errorf("%+v", last)
				}
			})
		})
	}
}

// A stop whose reason was recorded before the agent was killed, the signal not being known to be sent.
func TestTakeoverOfAStopThatWasNotSent(t *testing.T) {
	for sentence, r := range map[string]struct {
		ended bool
		want  []string
	}{
		"it runs: it is signalled":                              {false, []string{"5 term app 0"}},
		"it has ended with 0: OnFailure takes it for a failure": {true, nil},
	} {
		t.Run(sentence, func(t *testing.T) {
			inBubble(t, func(a *agency) {
				p := a.pod("app")
				p.Spec.RestartPolicy = v1.RestartPolicyOnFailure
				p.Spec.Containers[0].LivenessProbe = execProbe(10, 3)
				a.host.exec = func(node.Target) (int, error) { return 0, nil }
				a.wantPod(p)
				a.pass(5)
				a.dismiss()
				inst := a.written()
				inst.Containers["app"].Stop = &plan.Stop{Why: plan.LivenessFailed, Since: time.Now(), Grace: 30 * time.Second}
				if r.ended {
					a.host.exit("app", 0)
				}
				a.employ(inst)
				a.pass(6)
				a.expect("term", r.want...)
				a.expect("start", "0 start app 0", "5 start app 1")
			})
		})
	}
}

func TestStopThatTheRuntimeRefusesEndsInAKill(t *testing.T) {
	inBubble(t, func(a *agency) {
		a.host.signal = func(_ context.Context, _ node.Target, kill bool) error {
			if kill {
				return nil
			}
			return errors.New("the shim does not answer")
		}
		a.want("1", "app")
		a.pass(10)
		a.w.want(nil)
		a.pass(100)
		if got := a.host.noted("kill"); len(got) != 1 || seconds(t, got[0]) > 72 {
			t.Errorf("killed: %q", got)
		}
		select {
		case <-a.done:
		default:
			t.Error("the Pod is still there")
		}
	})
}

func TestKillThatDoesNotHelpIsRepeatedInPeace(t *testing.T) {
	inBubble(t, func(a *agency) {
		a.host.deaf = true
		a.want("1", "app")
		a.pass(10)
		a.w.want(nil)
		var id string
		var stuck *task
		a.host.set(func() {
			for id, stuck = range a.host.tasks {
				stuck.name = "in the kernel"
			}
		})
		a.pass(45)
		if got := a.host.noted("kill"); len(got) < 2 || len(got) > 6 {
			t.Errorf("killed: %q", got)
		}
		a.host.set(func() { stuck.running, stuck.exitedAt = false, time.Now() })
		a.wake(id)
		synctest.Wait()
		a.expect("tear down", "45 tear down")
	})
}

func TestStartError(t *testing.T) {
	inBubble(t, func(a *agency) {
		a.host.start = func(context.Context, node.Target) error { return errors.New(`exec: "nothing": not found`) }
		a.want("1", "app")
		a.pass(5)
		s := a.status("app")
		if s.State.Waiting == nil || s.State.Waiting.Reason != "CrashLoopBackOff" || s.RestartCount != 1 {
			t.Errorf("%+v", s)
		}
		if last := s.LastTerminationState.Terminated; last == nil || last.ExitCode != 128 || last.Reason != "StartError" || last.Message != `exec: "nothing": not found` {
			t.Errorf("%+v", last)
		}
		a.pass(75)
		a.expect("start", "0 start app 0", "0 start app 1", "10 start app 2", "30 start app 3", "70 start app 4")
	})
}

func TestConfigErrorIsTriedAgain(t *testing.T) {
	inBubble(t, func(a *agency) {
		a.host.start = func(context.Context, node.Target) error {
			return &node.Fault{Reason: node.CreateContainerConfigError, Err: errors.New("no such uid")}
		}
		a.want("1", "app")
		a.pass(0.5)
		if s := a.status("app"); s.State.Waiting == nil || s.State.Waiting.Reason != "CreateContainerConfigError" || s.State.Waiting.Message != "no such uid" || s.RestartCount != 0 {
			t.Errorf("%+v", s)
		}
		a.pass(10)
		a.expect("start", "0 start app 0", "1 start app 0", "3 start app 0", "7 start app 0")
	})
}

func TestImagePullBackOff(t *testing.T) {
	inBubble(t, func(a *agency) {
		a.host.prepare = func(context.Context, node.Target) error {
			return &node.Fault{Reason: node.ErrImagePull, Err: errors.New("ErrImagePull: no such host")}
		}
		a.want("1", "app")
		a.pass(5)
		if s := a.status("app").State.Waiting; s == nil || s.Reason != "ErrImagePull" || s.Message != "no such host" {
			t.Errorf("%+v", s)
		}
		a.pass(75)
		if s := a.status("app").State.Waiting; s == nil || s.Reason != "ImagePullBackOff" || s.Message != `Back-off pulling image "app:1": ErrImagePull: no such host` {
			t.Errorf("%+v", s)
		}
		a.expect("prepare", "0 prepare app 0", "10 prepare app 0", "30 prepare app 0", "70 prepare app 0")
		a.pass(1000)
		want := []string{"70 prepare app 0", "150 prepare app 0", "310 prepare app 0", "610 prepare app 0", "910 prepare app 0"}
		if got := a.host.noted("prepare"); !slices.Equal(got[3:], want) {
			t.Errorf("then it is tried at %q, want %q", got[3:], want)
		}
		for reason, want := range map[string][]string{
			"Failed":  {`Failed to pull image "app:1": no such host`, "Error: ErrImagePull", "Error: ImagePullBackOff"},
			"BackOff": {`Back-off pulling image "app:1"`},
		} {
			got := a.reasons(reason)
			slices.Sort(got)
			slices.Sort(want)
			if !slices.Equal(got, want) {
				t.Errorf("people are told %q, want %q", got, want)
			}
		}
		a.host.set(func() { a.host.prepare = nil })
		a.w.Forgive(forgiveAll)
		a.pass(1001)
		a.expect("start", "1000 start app 0")
	})
}

func TestSandboxLost(t *testing.T) {
	inBubble(t, func(a *agency) {
		p := a.pod("app")
		p.Spec.InitContainers = []v1.Container{{Name: "init", Image: "init:1"}}
		a.wantPod(p)
		a.pass(1)
		a.host.exit("init", 0)
		a.pass(5)
		a.host.set(func() { clear(a.host.sandboxes) })
		a.w.Wake()
		a.pass(6)
		a.host.exit("init", 0)
		a.pass(7)
		a.expect("sandbox", "0 sandbox 0", "5 sandbox 1")
		a.expect("no sandbox", "5 no sandbox 0")
		a.expect("start", "0 start init 0", "1 start app 0", "5 start init 1", "6 start app 1")
	})
}

func TestWhatIsLeftOfANetworkIsToldOfOnceASandboxHasTakenItsPlace(t *testing.T) {
	inBubble(t, func(a *agency) {
		a.w.leftover = func() { a.host.note("left of a network") }
		a.want("1", "app")
		a.pass(5)
		a.host.set(func() {
			clear(a.host.sandboxes)
			a.host.leaves = &node.Leftover{Err: errors.New("the plugin failed")}
		})
		a.w.Wake()
		a.pass(10)
		a.expect("sandbox", "0 sandbox 0", "5 sandbox 1")
		a.expect("left", "5 left of a network")
	})
}

func TestWhatIsLeftOfNetworksIsFreedInTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		said, begin := make(chan struct{}, 1), time.Now()
		var tries []time.Duration
		go freeNetworks(ctx, said, func(context.Context) error {
			if tries = append(tries, time.Since(begin)); len(tries) < 3 {
				return errors.New("the plugin fails")
			}
			return nil
		})
		said <- struct{}{}
		time.Sleep(time.Hour)
		synctest.Wait()
		cancel()
		synctest.Wait()
		if want := []time.Duration{0, time.Second, 3 * time.Second}; !slices.Equal(tries, want) {
			t.Errorf("it was tried after %v, want %v", tries, want)
		}
	})
}

func TestRuntimeThatDoesNotAnswerChangesNothing(t *testing.T) {
	inBubble(t, func(a *agency) {
		a.want("1", "app")
		a.pass(5)
		a.host.set(func() { a.host.blind = errors.New("no containerd") })
		a.w.Wake()
		a.pass(6)
		if s := a.w.published.Load().Status; s.Reason != "RuntimeUnavailable" || s.Phase != v1.PodRunning {
			t.Errorf("%s: %s", s.Phase, s.Reason)
		}
		a.host.set(func() { a.host.blind = nil })
		a.pass(100)
		if s := a.w.published.Load().Status; s.Reason != "" || !a.ready() {
			t.Errorf("%s: %s", s.Phase, s.Reason)
		}
		a.expect("start", "0 start app 0")
		a.expect("term")
	})
}

func TestLeavingLosesNothing(t *testing.T) {
	inBubble(t, func(a *agency) {
		a.host.start = func(context.Context, node.Target) error { time.Sleep(10 * time.Second); return nil }
		a.want("1", "app")
		a.pass(5)
		a.dismiss() // the start is too far to be given up
		if rec := a.written().Containers["app"]; rec.StartedAt.Sub(a.host.begin) != 10*time.Second {
			t.Errorf("started at %v", rec.StartedAt)
		}
		a.employ(a.written())
		a.pass(30)
		a.expect("start", "0 start app 0")
		if !a.ready() {
			t.Error("not ready")
		}
	})
}

func TestAStartThatWasCutOffIsMadeAgain(t *testing.T) {
	inBubble(t, func(a *agency) {
		a.host.start = func(ctx context.Context, _ node.Target) error { <-ctx.Done(); return ctx.Err() }
		a.want("1", "app")
		a.pass(5)
		a.dismiss()
		a.host.set(func() { a.host.start = nil })
		a.employ(a.written())
		a.pass(6)
		a.expect("start", "0 start app 0", "5 start app 0")
	})
}

func TestWhatTheRuntimeHasMadeAndDoesNotKnowIsTriedAgainInPeace(t *testing.T) {
	inBubble(t, func(a *agency) {
		a.host.forgets = true
		a.want("1", "app")
		a.pass(3)
		a.expect("create", "0 create app 0", "1 create app 0", "2 create app 0", "3 create app 0")
		a.host.set(func() { a.host.forgets = false })
		a.pass(5)
		a.expect("start", "4 start app 0")
	})
}

func TestSweepThatFailsHoldsUpNoSuccessor(t *testing.T) {
	inBubble(t, func(a *agency) {
		a.host.sweeps = errors.New("device or resource busy")
		a.want("1", "app")
		a.pass(10)
		a.want("2", "app")
		a.pass(15)
		a.expect("start", "0 start app 0", "10 start app 0")
		a.expect("sweep", "10 sweep", "11 sweep")
		if a.written().Revision != "2" {
			t.Error("the wrong record is left")
		}
	})
}

func TestSuccessorOfTheSameUIDWaitsForTheSweep(t *testing.T) {
	inBubble(t, func(a *agency) {
		a.host.sweeps = errors.New("device or resource busy")
		for i, at := range []float64{10, 20} {
			p := a.pod("app")
			p.UID = "given"
			p.Spec.Hostname = fmt.Sprint("h", i)
			a.wish(p, strconv.Itoa(i))
			a.pass(at)
		}
		a.expect("start", "0 start app 0", "11 start app 0")
		if a.written().Revision != "1" {
			t.Error("the wrong record is left")
		}
		a.host.set(func() { a.host.sweeps = errors.New("device or resource busy") })
		a.w.want(nil)
		a.pass(22)
		select {
		case <-a.done:
		default:
			t.Error("the worker is still there")
		}
	})
}

func TestFallbackToLogs(t *testing.T) {
	inBubble(t, func(a *agency) {
		p := a.pod("app")
		p.Spec.RestartPolicy = v1.RestartPolicyNever
		p.Spec.Containers[0].TerminationMessagePolicy = v1.TerminationMessageFallbackToLogsOnError
		a.wantPod(p)
		a.pass(1)
		a.host.exit("app", 1)
		a.pass(2)
		if s := a.status("app").State.Terminated; s == nil || s.Message != "the last lines" {
			t.Errorf("%+v", s)
		}
	})
}

// Every status that is published says of each container what it does.
func TestNoStatusIsEmpty(t *testing.T) {
	inBubble(t, func(a *agency) {
		check := func(context.Context, node.Target) error {
			for _, s := range a.w.published.Load().Status.ContainerStatuses {
				if s.State.Running == nil && s.State.Waiting == nil && s.State.Terminated == nil {
					t.Errorf("%s has no state", s.Name)
				}
			}
			return nil
		}
		a.host.start, a.host.prepare = check, check
		a.want("1", "app")
		for i := range 5 {
			a.pass(float64(100 * i))
			a.host.exit("app", 1)
		}
	})
}
