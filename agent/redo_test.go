package agent

import (
	"testing"

	v1 "k8s.io/api/core/v1"
)

// watched is a Pod whose container watch asks for a restart of all with exit code 88.
func watched(a *agency) *v1.Pod {
	p := a.pod("app", "watch")
	p.Spec.RestartPolicy = v1.RestartPolicyNever
	p.Spec.InitContainers = []v1.Container{{Name: "init", Image: "init:1"}}
	never := v1.ContainerRestartPolicyNever
	watch := &p.Spec.Containers[1]
	watch.RestartPolicy = &never
	watch.RestartPolicyRules = []v1.ContainerRestartRule{{
		Action:    v1.ContainerRestartRuleActionRestartAllContainers,
		ExitCodes: &v1.ContainerRestartRuleOnExitCodes{Operator: v1.ContainerRestartRuleOnExitCodesOpIn, Values: []int32{88}},
	}}
	return p
}

func (a *agency) condition(kind v1.PodConditionType) v1.ConditionStatus {
	for _, c := range a.w.published.Load().Status.Conditions {
		if c.Type == kind {
			return c.Status
		}
	}
	return ""
}

func TestAnExitRestartsAllContainers(t *testing.T) {
	inBubble(t, func(a *agency) {
		a.wantPod(watched(a))
		a.pass(1)
		a.host.exit("init", 0)
		a.pass(5)
		a.host.exit("watch", 88)
		a.pass(6)
		a.expect("kill", "5 kill app 0")
		a.expect("start", "0 start init 0", "1 start app 0", "1 start watch 0", "5 start init 1")
		if got := a.condition(v1.AllContainersRestarting); got != v1.ConditionFalse {
			t.Errorf("the condition is %q", got)
		}
		if got := a.condition(v1.PodInitialized); got != v1.ConditionTrue {
			t.Errorf("initialized is %q", got)
		}
		s := a.status("watch")
		if s.State.Waiting == nil || s.LastTerminationState.Terminated == nil || s.LastTerminationState.Terminated.ExitCode != 88 || s.RestartCount != 0 {
			t.Errorf("watch is told as %+v", s)
		}
		a.host.exit("init", 0)
		a.pass(7)
		a.expect("start", "0 start init 0", "1 start app 0", "1 start watch 0", "5 start init 1", "6 start app 1", "6 start watch 1")
		a.expect("sandbox", "0 sandbox 0")
		if s := a.status("watch"); s.RestartCount != 1 || s.State.Running == nil {
			t.Errorf("then it is %+v", s)
		}
	})
}

func TestARestartOfAllSurvivesTheAgent(t *testing.T) {
	inBubble(t, func(a *agency) {
		a.wantPod(watched(a))
		a.pass(1)
		a.host.exit("init", 0)
		a.pass(5)
		a.host.exit("watch", 88)
		a.pass(6)
		a.succeed()
		a.host.exit("init", 0)
		a.pass(8)
		a.expect("start", "0 start init 0", "1 start app 0", "1 start watch 0", "5 start init 1", "6 start app 1", "6 start watch 1")
	})
}

func TestAnotherExitIsThePodsEnd(t *testing.T) {
	inBubble(t, func(a *agency) {
		a.wantPod(watched(a))
		a.pass(1)
		a.host.exit("init", 0)
		a.pass(5)
		a.host.exit("watch", 1)
		a.host.exit("app", 0)
		a.pass(6)
		a.expect("start", "0 start init 0", "1 start app 0", "1 start watch 0")
		if phase := a.w.published.Load().Status.Phase; phase != v1.PodFailed {
			t.Errorf("the Pod is %s", phase)
		}
	})
}

func TestARestartOfAllEndsEphemeralContainersForGood(t *testing.T) {
	inBubble(t, func(a *agency) {
		a.wantPod(watched(a))
		a.pass(1)
		a.host.exit("init", 0)
		a.pass(3)
		if err := a.add(looking); err != nil {
			t.Fatal(err)
		}
		a.pass(5)
		a.host.exit("watch", 88)
		a.pass(6)
		a.host.exit("init", 0)
		a.pass(10)
		a.expect("start look", "3 start look 0")
		if s := a.ephemeral(); s.State.Terminated == nil || s.State.Terminated.ExitCode != 137 || s.RestartCount != 0 {
			t.Errorf("it is told as %+v", s)
		}
	})
}
