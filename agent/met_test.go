package agent

import (
	"context"
	"slices"
	"sync/atomic"
	"testing"

	v1 "k8s.io/api/core/v1"

	"github.com/podkeeper/podkeeper/agent/node"
)

// The tests of this file are stories of docs/met-elsewhere.md, with their numbers.

func sidecar(name string) v1.Container {
	always := v1.ContainerRestartPolicyAlways
	return v1.Container{Name: name, Image: name + ":1", RestartPolicy: &always}
}

// 13: what is put back while it ends comes back, once.
func TestAPodThatIsPutBackWhileItEndsComesBack(t *testing.T) {
	inBubble(t, func(a *agency) {
		p := a.want("1", "app")
		a.pass(5)
		a.host.set(func() { a.host.deaf = true })
		a.w.want(nil)
		a.pass(6)
		a.wish(p, "1")
		a.pass(10)
		a.w.want(nil)
		a.pass(11)
		a.wish(p, "1")
		a.pass(50)
		a.expect("term", "5 term app 0")
		a.expect("kill", "35 kill app 0")
		a.expect("start", "0 start app 0", "35 start app 0")
	})
}

// 16: under Never a sidecar whose startup probe fails once is restarted, and the others start after it.
func TestASidecarThatDoesNotStartAtOnceHoldsUpNothingForGood(t *testing.T) {
	inBubble(t, func(a *agency) {
		var good atomic.Bool
		a.host.exec = func(node.Target) (int, error) {
			if good.Load() {
				return 0, nil
			}
			return 1, nil
		}
		p := a.pod("app")
		p.Spec.RestartPolicy = v1.RestartPolicyNever
		p.Spec.InitContainers = []v1.Container{sidecar("side")}
		p.Spec.InitContainers[0].StartupProbe = execProbe(1, 3)
		a.wantPod(p)
		a.pass(2.5)
		good.Store(true)
		a.pass(20)
		a.expect("start", "0 start side 0", "2 start side 1", "3 start app 0")
	})
}

// 17: a Pod with a sidecar that was never ready ends.
func TestAPodWhoseSidecarWasNeverReadyEnds(t *testing.T) {
	inBubble(t, func(a *agency) {
		a.host.exec = func(node.Target) (int, error) { return 1, nil }
		p := a.pod("app")
		p.Spec.InitContainers = []v1.Container{sidecar("side")}
		p.Spec.InitContainers[0].ReadinessProbe = execProbe(1, 1)
		a.wantPod(p)
		a.pass(5)
		a.w.want(nil)
		a.pass(6)
		a.expect("term", "5 term app 0", "5 term side 0")
		a.expect("tear down", "5 tear down")
	})
}

// 19, 20: after a reboot all init containers run again, in order; without one none does, though containerd has lost it.
func TestInitContainersRunAgainAfterARebootOnly(t *testing.T) {
	inBubble(t, func(a *agency) {
		a.host.started = func(t node.Target) {
			if t.Container.Name == "init" {
				go a.host.end(t.ID(), 0)
			}
		}
		p := a.pod("app")
		p.Spec.InitContainers = []v1.Container{{Name: "init", Image: "init:1"}}
		a.wantPod(p)
		a.pass(5)
		a.host.set(func() { // somebody prunes containers that have ended
			for id, k := range a.host.tasks {
				if k.name == "init" {
					delete(a.host.tasks, id)
				}
			}
		})
		a.succeed()
		a.host.exit("app", 1)
		a.pass(6)
		a.expect("start", "0 start init 0", "0 start app 0", "5 start app 1")
		a.dismiss() // and now all is gone
		a.host.set(func() { clear(a.host.tasks); clear(a.host.sandboxes) })
		a.employ(a.written())
		a.pass(20)
		a.expect("sandbox", "0 sandbox 0", "6 sandbox 1")
		a.expect("start", "0 start init 0", "0 start app 0", "5 start app 1", "6 start init 1", "6 start app 2")
		if s := a.status("app"); s.RestartCount != 2 || !s.Ready {
			t.Errorf("it is told as %+v", s)
		}
	})
}

// 21: a sidecar's readiness counts under every policy.
func TestASidecarsReadinessCountsUnderEveryPolicy(t *testing.T) {
	for _, policy := range []v1.RestartPolicy{v1.RestartPolicyAlways, v1.RestartPolicyOnFailure, v1.RestartPolicyNever} {
		t.Run(string(policy), func(t *testing.T) {
			inBubble(t, func(a *agency) {
				var good atomic.Bool
				a.host.exec = func(node.Target) (int, error) {
					if good.Load() {
						return 0, nil
					}
					return 1, nil
				}
				p := a.pod("app")
				p.Spec.RestartPolicy = policy
				p.Spec.InitContainers = []v1.Container{sidecar("side")}
				p.Spec.InitContainers[0].ReadinessProbe = execProbe(1, 1)
				a.wantPod(p)
				a.pass(5)
				if a.ready() {
					t.Error("the Pod is ready without its sidecar")
				}
				good.Store(true)
				a.pass(7)
				if !a.ready() {
					t.Error("the Pod is not ready")
				}
			})
		})
	}
}

// 28: in the end liveness is asked no more, readiness is.
func TestInTheEndReadinessAloneIsProbed(t *testing.T) {
	inBubble(t, func(a *agency) {
		a.host.exec = func(t node.Target) (int, error) {
			a.host.note("probe %s", t.Container.Name)
			if t.Container.Name == "begun" { // it never has
				return 1, nil
			}
			return 0, nil
		}
		p := a.pod("ready", "alive", "begun")
		p.Spec.Containers[0].ReadinessProbe = execProbe(2, 1)
		p.Spec.Containers[1].LivenessProbe = execProbe(2, 1)
		p.Spec.Containers[2].StartupProbe = execProbe(2, 100)
		a.wantPod(p)
		a.pass(5)
		a.host.set(func() { a.host.deaf = true })
		a.w.want(nil)
		a.pass(50)
		last := func(prefix string) float64 {
			noted := a.host.noted(prefix)
			return seconds(t, noted[len(noted)-1])
		}
		if alive, begun, ready := last("probe alive"), last("probe begun"), last("probe ready"); alive > 5 || begun > 5 || ready < 30 {
			t.Errorf("the last check of liveness was at %v, of startup at %v, of readiness at %v", alive, begun, ready)
		}
	})
}

// 29: a stop that liveness asks for is told of at once, though a hook holds up the signal. Meanwhile the container is as ready
// as its readiness probe says, for it may still answer: as with the kubelet, whose Ready knows of no other probe
// (kubernetes/kubernetes pkg/kubelet/prober, UpdatePodStatus).
func TestAStopForLivenessIsToldBeforeItsHookEnds(t *testing.T) {
	inBubble(t, func(a *agency) {
		var unready atomic.Bool
		a.host.command = func(_ context.Context, t node.Target, command []string) (int, error) {
			if command[0] == "alive" && t.Attempt == 0 || command[0] == "ready" && unready.Load() {
				return 1, nil
			}
			return 0, nil
		}
		probe := func(command string) *v1.Probe {
			p := execProbe(1, 1)
			p.Exec.Command = []string{command}
			return p
		}
		p := a.pod("app", "unasked")
		for i := range p.Spec.Containers { // the second has no readiness probe: it is ready as long as it runs
			p.Spec.Containers[i].LivenessProbe = probe("alive")
			p.Spec.Containers[i].LivenessProbe.InitialDelaySeconds = 5
			p.Spec.Containers[i].Lifecycle = &v1.Lifecycle{PreStop: sleepHandler(20)}
		}
		p.Spec.Containers[0].ReadinessProbe = probe("ready")
		a.wantPod(p)
		a.pass(5)
		if got := a.reasons("Killing"); !slices.Equal(slices.Sorted(slices.Values(got)), []string{
			"Container app failed liveness probe, will be restarted", "Container unasked failed liveness probe, will be restarted",
		}) {
			t.Errorf("when it is given up, people are told %q", got)
		}
		a.expect("term")
		a.pass(10)
		if app, unasked := a.status("app"), a.status("unasked"); !app.Ready || !unasked.Ready || !a.ready() || app.State.Running == nil {
			t.Errorf("while its hook runs it is %+v, and another %+v", app, unasked)
		}
		unready.Store(true)
		a.pass(12)
		if a.status("app").Ready || !a.status("unasked").Ready || a.ready() {
			t.Error("it is ready, though its readiness probe says that it is not")
		}
		unready.Store(false)
		a.pass(30)
		a.expect("term", "25 term app 0", "25 term unasked 0")
		a.expect("start", "0 start app 0", "0 start unasked 0", "25 start app 1", "25 start unasked 1")
		if got := a.reasons("Killing"); len(got) != 2 || !a.ready() {
			t.Errorf("in the end it is ready: %v, and people were told %q", a.ready(), got)
		}
	})
}

// 30: after a verdict of liveness nothing is asked of that instance again.
func TestAVerdictIsHeardOnce(t *testing.T) {
	inBubble(t, func(a *agency) {
		a.host.exec = func(t node.Target) (int, error) {
			a.host.note("probe %d", t.Attempt)
			return 1, nil
		}
		a.host.deaf = true
		p := a.pod("app")
		p.Spec.Containers[0].LivenessProbe = execProbe(1, 3)
		grace := int64(10)
		p.Spec.Containers[0].LivenessProbe.TerminationGracePeriodSeconds = &grace
		a.wantPod(p)
		a.pass(11)
		a.expect("probe", "0 probe 0", "1 probe 0", "2 probe 0")
		a.expect("term", "2 term app 0")
	})
}

// 31: a preStop hook that takes the whole grace leaves two seconds, not another grace.
func TestAHookDoesNotDoubleTheGrace(t *testing.T) {
	inBubble(t, func(a *agency) {
		grace := int64(20)
		p := a.pod("app")
		p.Spec.TerminationGracePeriodSeconds = &grace
		p.Spec.Containers[0].Lifecycle = &v1.Lifecycle{PreStop: sleepHandler(19)}
		a.wantPod(p)
		a.pass(5)
		a.host.set(func() { a.host.deaf = true })
		a.w.want(nil)
		a.pass(60)
		a.expect("term", "24 term app 0")
		a.expect("kill", "26 kill app 0")
	})
}

// 34: the end does not wait for the grace once the process has ended.
func TestTheEndWaitsForTheProcessOnly(t *testing.T) {
	inBubble(t, func(a *agency) {
		p := a.pod("app")
		p.Spec.Containers[0].Lifecycle = &v1.Lifecycle{PreStop: sleepHandler(3)}
		a.wantPod(p)
		a.pass(5)
		a.w.want(nil)
		a.pass(9)
		a.expect("tear down", "8 tear down")
		if got := a.host.running(); !slices.Equal(got, nil) {
			t.Errorf("%v run", got)
		}
	})
}
