package status

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/podkeeper/podkeeper/agent/plan"
)

var t0 = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

func ptr[T any](v T) *T { return &v }

// pod makes a Pod: its containers are told apart by their names, "init…", "side…" and all others.
func pod(policy v1.RestartPolicy, names ...string) *v1.Pod {
	p := &v1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web", UID: "u-1", Generation: 3},
		Spec:       v1.PodSpec{RestartPolicy: policy},
	}
	for _, name := range names {
		c := v1.Container{Name: name, Image: name + ":1"}
		switch {
		case strings.HasPrefix(name, "side"):
			c.RestartPolicy = ptr(v1.ContainerRestartPolicyAlways)
			fallthrough
		case strings.HasPrefix(name, "init"):
			p.Spec.InitContainers = append(p.Spec.InitContainers, c)
		default:
			p.Spec.Containers = append(p.Spec.Containers, c)
		}
	}
	return p
}

func always(names ...string) *v1.Pod    { return pod(v1.RestartPolicyAlways, names...) }
func onFailure(names ...string) *v1.Pod { return pod(v1.RestartPolicyOnFailure, names...) }
func never(names ...string) *v1.Pod     { return pod(v1.RestartPolicyNever, names...) }

// one is a container as it was seen, and what is reported beside.
type one struct {
	seen  plan.Container
	facts Container
}

func exit(code int32) *v1.ContainerStateTerminated {
	return &v1.ContainerStateTerminated{ExitCode: code, FinishedAt: metav1.NewTime(t0)}
}

func up() one {
	return one{plan.Container{State: plan.Running, Started: true, StartedAt: t0.Add(-time.Minute)}, Container{ID: "containerd://x", Ready: true}}
}

func starting() one {
	c := up()
	c.seen.Started, c.facts.Ready = false, false
	return c
}

func notReady() one {
	c := up()
	c.facts.Ready = false
	return c
}

func ended(code int) one {
	return one{plan.Container{State: plan.Exited, ExitCode: code, FinishedAt: t0, CreatedAt: t0.Add(-time.Second)}, Container{Exit: exit(int32(code))}}
}

// crashing waits for its restart; again is being started again.
func crashing(code int) one {
	c := ended(code)
	c.seen.Attempt, c.seen.Backoff = 3, 40*time.Second
	return c
}

func again() one { return one{plan.Container{Attempt: 4}, Container{Last: exit(1)}} }

// hidden is the same container when it cannot be told whether it runs; forEdit, one that was stopped for its image.
func hidden(c one) one {
	c.seen.State = plan.Unknown
	return c
}

func forEdit(c one) one {
	c.seen.Stop = &plan.Stop{Why: plan.SpecChanged}
	return c
}

func forProbe(c one) one {
	c.seen.Stop = &plan.Stop{Why: plan.LivenessFailed}
	return c
}

// own gives the first container, or init container, a restart policy and rules of its own; onExit is a rule that restarts it.
func own(pod *v1.Pod, policy v1.ContainerRestartPolicy, rules ...v1.ContainerRestartRule) *v1.Pod {
	c := plan.Containers(pod)[0]
	c.RestartPolicy, c.RestartPolicyRules = &policy, rules
	return pod
}

func onExit(code int32) v1.ContainerRestartRule {
	return v1.ContainerRestartRule{
		Action:    v1.ContainerRestartRuleActionRestart,
		ExitCodes: &v1.ContainerRestartRuleOnExitCodes{Operator: v1.ContainerRestartRuleOnExitCodesOpIn, Values: []int32{code}},
	}
}

func faulty(c one, reason, message string) one {
	c.facts.Waiting = &Fault{reason, message}
	return c
}

func facts(containers map[string]one) Facts {
	f := Facts{Seen: plan.Seen{Sandbox: plan.Sandbox{State: plan.Running, Attached: true}, Containers: map[string]plan.Container{}}, Containers: map[string]Container{}}
	for name, c := range containers {
		f.Seen.Containers[name], f.Containers[name] = c.seen, c.facts
	}
	return f
}

type all map[string]one

func TestPhase(t *testing.T) {
	t.Parallel()
	lost := func(f Facts) Facts { f.Seen.Sandbox.State = plan.None; return f }
	before := func(phase v1.PodPhase, f Facts) Facts { f.Previous.Phase = phase; return f }
	for sentence, r := range map[string]struct {
		pod   *v1.Pod
		facts Facts
		want  v1.PodPhase
	}{
		"nothing has started":                                {always("a"), facts(nil), v1.PodPending},
		"everything runs":                                    {always("a", "b"), facts(all{"a": up(), "b": up()}), v1.PodRunning},
		"what is not ready runs all the same":                {always("a"), facts(all{"a": starting()}), v1.PodRunning},
		"one has never started":                              {always("a", "b"), facts(all{"a": up()}), v1.PodPending},
		"an init container runs":                             {always("init1", "a"), facts(all{"init1": up()}), v1.PodPending},
		"an init container fails again and again":            {always("init1", "a"), facts(all{"init1": crashing(1)}), v1.PodPending},
		"an init container has failed for good":              {never("init1", "a"), facts(all{"init1": ended(1)}), v1.PodFailed},
		"a sidecar that still runs does not change that":     {never("side1", "init1", "a"), facts(all{"side1": up(), "init1": ended(1)}), v1.PodFailed},
		"a failed init container comes before a waiting one": {never("init1", "init2", "a"), facts(all{"init1": ended(2)}), v1.PodFailed},
		"init is done, the rest not begun":                   {always("init1", "a"), facts(all{"init1": ended(0)}), v1.PodPending},
		"a sidecar has not started":                          {always("side1", "a"), facts(all{"side1": starting()}), v1.PodPending},
		"a sidecar has started, the rest not begun":          {always("side1", "a"), facts(all{"side1": up()}), v1.PodPending},
		"a sidecar restarts beside a running container":      {always("side1", "a"), facts(all{"side1": again(), "a": up()}), v1.PodRunning},
		"a sidecar crashes beside a running container":       {always("side1", "a"), facts(all{"side1": crashing(1), "a": up()}), v1.PodRunning},
		"CrashLoopBackOff is Running":                        {always("a"), facts(all{"a": crashing(1)}), v1.PodRunning},
		"so is a restart that is being made":                 {always("a"), facts(all{"a": again()}), v1.PodRunning},
		"and one whose image cannot be had any more":         {always("a"), facts(all{"a": faulty(ended(1), "ImagePullBackOff", "")}), v1.PodRunning},
		"Always: exit 0 is no end":                           {always("a"), facts(all{"a": ended(0)}), v1.PodRunning},
		"OnFailure: one in failure restarts":                 {onFailure("a", "b"), facts(all{"a": ended(1), "b": ended(0)}), v1.PodRunning},
		"OnFailure: all have succeeded":                      {onFailure("a", "b"), facts(all{"a": ended(0), "b": ended(0)}), v1.PodSucceeded},
		"Never: all have succeeded":                          {never("a", "b"), facts(all{"a": ended(0), "b": ended(0)}), v1.PodSucceeded},
		"Never: one has failed":                              {never("a", "b"), facts(all{"a": ended(0), "b": ended(1)}), v1.PodFailed},
		"Never: one has failed, one runs":                    {never("a", "b"), facts(all{"a": ended(1), "b": up()}), v1.PodRunning},
		"a sidecar runs after all have succeeded":            {never("side1", "a"), facts(all{"side1": up(), "a": ended(0)}), v1.PodRunning},
		"a sidecar's exit code counts for nothing":           {never("side1", "a"), facts(all{"side1": ended(137), "a": ended(0)}), v1.PodSucceeded},
		"Never: the sandbox is lost before all have started": {never("init1", "a"), lost(facts(all{"init1": ended(0)})), v1.PodFailed},
		"OnFailure: the sandbox is lost after all is done":   {onFailure("a"), lost(facts(all{"a": ended(0)})), v1.PodSucceeded},
		"one that cannot be told of runs on":                 {always("a", "b"), facts(all{"a": hidden(up()), "b": up()}), v1.PodRunning},
		"Never: the Pod has not failed for it":               {never("a", "b"), facts(all{"a": ended(1), "b": hidden(up())}), v1.PodRunning},
		"a sidecar that cannot be told of has started":       {always("side1", "a"), facts(all{"side1": hidden(up()), "a": up()}), v1.PodRunning},
		"a start that was cut off and cannot be told of":     {always("a"), facts(all{"a": hidden(one{})}), v1.PodPending},
		"Never: init was stopped for its image":              {never("init1", "a"), facts(all{"init1": forEdit(ended(143))}), v1.PodPending},
		"and that is so if it ended with 0":                  {never("init1", "a"), facts(all{"init1": forEdit(ended(0))}), v1.PodPending},
		"Never: so was a container":                          {never("a"), facts(all{"a": forEdit(ended(143))}), v1.PodRunning},
		"Never, but Always of its own: exit 0 is no end":     {own(never("a"), v1.ContainerRestartPolicyAlways), facts(all{"a": ended(0)}), v1.PodRunning},
		"Always, but Never of its own: one in failure":       {own(always("a"), v1.ContainerRestartPolicyNever), facts(all{"a": ended(1)}), v1.PodFailed},
		"and one that has succeeded":                         {own(always("a"), v1.ContainerRestartPolicyNever), facts(all{"a": ended(0)}), v1.PodSucceeded},
		"beside one that restarts":                           {own(always("a", "b"), v1.ContainerRestartPolicyNever), facts(all{"a": ended(1), "b": crashing(1)}), v1.PodRunning},
		"Never: a rule of its own restarts it":               {own(never("a"), v1.ContainerRestartPolicyNever, onExit(42)), facts(all{"a": ended(42)}), v1.PodRunning},
		"and does not after another exit code":               {own(never("a"), v1.ContainerRestartPolicyNever, onExit(42)), facts(all{"a": ended(1)}), v1.PodFailed},
		"Always, but Never of the init container's own":      {own(always("init1", "a"), v1.ContainerRestartPolicyNever), facts(all{"init1": ended(1)}), v1.PodFailed},
		"Never, but OnFailure of the init container's own":   {own(never("init1", "a"), v1.ContainerRestartPolicyOnFailure), facts(all{"init1": crashing(1)}), v1.PodPending},
		"a sidecar crashes before the rest has begun":        {always("side1", "a"), facts(all{"side1": crashing(1)}), v1.PodPending},
		"Never: exit 0 when a probe asked for it is success": {never("a"), facts(all{"a": forProbe(ended(0))}), v1.PodSucceeded},
		"OnFailure: it restarts":                             {onFailure("a"), facts(all{"a": forProbe(ended(0))}), v1.PodRunning},
		"Succeeded is never left":                            {never("a"), before(v1.PodSucceeded, facts(nil)), v1.PodSucceeded},
		"Failed is never left":                               {always("a"), before(v1.PodFailed, facts(all{"a": up()})), v1.PodFailed},
		"Pending is":                                         {always("a"), before(v1.PodPending, facts(all{"a": up()})), v1.PodRunning},
	} {
		t.Run(sentence, func(t *testing.T) {
			t.Parallel()
			if got := Make(r.pod, r.facts, t0).Phase; got != r.want {
				t.Errorf("got %s, want %s", got, r.want)
			}
		})
	}
}

// tell prints a container's status as kubectl's users read it.
func tell(s v1.ContainerStatus) string {
	out := "none"
	switch {
	case s.State.Running != nil:
		out = "running"
	case s.State.Waiting != nil:
		out = "waiting " + s.State.Waiting.Reason
		if m := s.State.Waiting.Message; m != "" {
			out += ": " + m
		}
	case s.State.Terminated != nil:
		out = "terminated"
	}
	if s.LastTerminationState.Terminated != nil {
		out += ", last terminated"
	}
	if *s.Started {
		out += ", started"
	}
	if s.Ready {
		out += ", ready"
	}
	if s.RestartCount > 0 {
		out += ", restarts " + string('0'+s.RestartCount)
	}
	return out
}

func TestContainers(t *testing.T) {
	t.Parallel()
	bounded := func(longest time.Duration, f Facts) Facts { f.Seen.Backoff.Max = longest; return f }
	for sentence, r := range map[string]struct {
		pod   *v1.Pod
		facts Facts
		want  []string // init containers first
	}{
		"one that is being made":                             {always("a"), facts(nil), []string{"waiting ContainerCreating"}},
		"behind init containers":                             {always("init1", "a"), facts(nil), []string{"waiting PodInitializing", "waiting PodInitializing"}},
		"one that runs":                                      {always("a"), facts(all{"a": up()}), []string{"running, started, ready"}},
		"one that has not started":                           {always("a"), facts(all{"a": starting()}), []string{"running"}},
		"one that is not ready":                              {always("a"), facts(all{"a": notReady()}), []string{"running, started"}},
		"a readiness from before a restart is worth nothing": {always("a"), facts(all{"a": {facts: Container{Ready: true}}}), []string{"waiting ContainerCreating"}},
		"its image cannot be had":                            {always("a"), facts(all{"a": faulty(one{}, "ErrImagePull", "no such host")}), []string{"waiting ErrImagePull: no such host"}},
		"it cannot be made":                                  {always("a"), facts(all{"a": faulty(one{}, "CreateContainerConfigError", "no key")}), []string{"waiting CreateContainerConfigError: no key"}},
		"a fault of one that runs is not its state":          {always("a"), facts(all{"a": faulty(up(), "RuntimeError", "x")}), []string{"running, started, ready"}},
		"CrashLoopBackOff has the end behind it": {always("a"), facts(all{"a": crashing(1)}),
			[]string{"waiting CrashLoopBackOff: back-off 40s restarting failed container=a pod=web_default(u-1), last terminated, restarts 3"}},
		"one that cannot be told of is as it was":                   {always("a", "b"), facts(all{"a": hidden(up()), "b": hidden(notReady())}), []string{"running, started, ready", "running, started"}},
		"and counts its restarts":                                   {always("a"), facts(all{"a": hidden(one{plan.Container{Attempt: 2, Started: true, StartedAt: t0}, Container{Ready: true, Last: exit(1)}})}), []string{"running, last terminated, started, ready, restarts 2"}},
		"unless its start was cut off":                              {always("a"), facts(all{"a": hidden(again())}), []string{"waiting ContainerCreating, last terminated, restarts 3"}},
		"an init container that was stopped for its image":          {always("init1", "a"), facts(all{"init1": forEdit(ended(0))}), []string{"terminated", "waiting PodInitializing"}},
		"an exit that is due for its restart is terminated":         {always("a"), facts(all{"a": ended(1)}), []string{"terminated"}},
		"a restart that is being made is not counted yet":           {always("a"), facts(all{"a": again()}), []string{"waiting ContainerCreating, last terminated, restarts 3"}},
		"a restart whose image is gone":                             {always("a"), facts(all{"a": faulty(ended(1), "ErrImagePull", "gone")}), []string{"waiting ErrImagePull: gone, last terminated"}},
		"an end for good is terminated":                             {never("a", "b"), facts(all{"a": crashing(1), "b": up()}), []string{"terminated, restarts 3", "running, started, ready"}},
		"and stays so, whatever fault":                              {never("a", "b"), facts(all{"a": faulty(ended(0), "RuntimeError", "x"), "b": up()}), []string{"terminated", "running, started, ready"}},
		"an init container that runs has started, and is not ready": {always("init1", "a"), facts(all{"init1": up()}), []string{"running, started", "waiting PodInitializing"}},
		"a wait that was cut is told as it is": {always("a"), bounded(20*time.Second, facts(all{"a": crashing(1)})),
			[]string{"waiting CrashLoopBackOff: back-off 20s restarting failed container=a pod=web_default(u-1), last terminated, restarts 3"}},
		"an init container that succeeded is ready": {always("init1", "a"), facts(all{"init1": ended(0), "a": up()}), []string{"terminated, ready", "running, started, ready"}},
		"one that failed is not":                    {never("init1", "a"), facts(all{"init1": ended(1)}), []string{"terminated", "waiting PodInitializing"}},
		"Init:CrashLoopBackOff": {onFailure("init1", "a"), facts(all{"init1": crashing(1)}),
			[]string{"waiting CrashLoopBackOff: back-off 40s restarting failed container=init1 pod=web_default(u-1), last terminated, restarts 3", "waiting PodInitializing"}},
		"a sidecar counts like a container": {always("side1", "a"), facts(all{"side1": up(), "a": up()}), []string{"running, started, ready", "running, started, ready"}},
		"one that exited 0 is not ready":    {never("side1", "a"), facts(all{"side1": ended(0), "a": ended(0)}), []string{"terminated", "terminated"}},
	} {
		t.Run(sentence, func(t *testing.T) {
			t.Parallel()
			s := Make(r.pod, r.facts, t0)
			var got []string
			for _, c := range append(s.InitContainerStatuses, s.ContainerStatuses...) {
				got = append(got, tell(c))
			}
			if diff := cmp.Diff(r.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestConditions(t *testing.T) {
	t.Parallel()
	creating := facts(nil)
	creating.Seen.Sandbox = plan.Sandbox{State: plan.None, Busy: true}
	sandboxed := func(s plan.Sandbox) Facts { f := facts(nil); f.Seen.Sandbox = s; return f }
	unboxed := func(f Facts) Facts { f.Seen.Sandbox = plan.Sandbox{}; return f }
	blind := func(f Facts) Facts { f.Seen.Sandbox.State = plan.Unknown; return f }
	const unready, uninitialized = "ContainersNotReady: containers with unready status: ", "ContainersNotInitialized: containers with incomplete status: "
	for sentence, r := range map[string]struct {
		pod   *v1.Pod
		facts Facts
		want  []string // PodReadyToStartContainers, Initialized, Ready and ContainersReady, PodScheduled
	}{
		"the sandbox is being made": {always("a"), creating, []string{"False PodSandboxNotReady: pod sandbox is not ready", "True", "False " + unready + "[a]", "True"}},
		"there is no sandbox yet": {always("a"), sandboxed(plan.Sandbox{Attempt: -1}),
			[]string{"False PodSandboxNotReady: no pod sandbox exists", "True", "False " + unready + "[a]", "True"}},
		"its network is not there yet": {always("a"), sandboxed(plan.Sandbox{State: plan.Running}),
			[]string{"False PodSandboxNotReady: pod sandbox has no IP address", "True", "False " + unready + "[a]", "True"}},
		"everything is well":     {always("init1", "side1", "a"), facts(all{"init1": ended(0), "side1": up(), "a": up()}), []string{"True", "True", "True", "True"}},
		"nothing can be told of": {always("side1", "a"), blind(facts(all{"side1": hidden(up()), "a": hidden(up())})), []string{"True", "True", "True", "True"}},
		"init was stopped for its image": {always("init1", "a"), facts(all{"init1": forEdit(ended(0))}),
			[]string{"True", "False " + uninitialized + "[init1]", "False " + unready + "[a]", "True"}},
		"init is not done": {always("init1", "side1", "a"), facts(all{"init1": up()}),
			[]string{"True", "False " + uninitialized + "[init1 side1]", "False " + unready + "[side1 a]", "True"}},
		"a sidecar is not started": {always("init1", "side1", "a"), facts(all{"init1": ended(0), "side1": starting()}),
			[]string{"True", "False " + uninitialized + "[side1]", "False " + unready + "[side1 a]", "True"}},
		"a sidecar restarts after init": {always("side1", "a"), facts(all{"side1": again(), "a": up()}), []string{"True", "True", "False " + unready + "[side1]", "True"}},
		"a sidecar's readiness counts":  {never("side1", "a"), facts(all{"side1": notReady(), "a": up()}), []string{"True", "True", "False " + unready + "[side1]", "True"}},
		"several are not ready":         {always("a", "b"), facts(all{"a": notReady(), "b": crashing(1)}), []string{"True", "True", "False " + unready + "[a b]", "True"}},
		"the Pod has succeeded":         {never("init1", "a"), facts(all{"init1": ended(0), "a": ended(0)}), []string{"True", "True PodCompleted: ", "False PodCompleted: ", "True"}},
		"and its sandbox is gone": {never("a"), unboxed(facts(all{"a": ended(0)})),
			[]string{"False PodSandboxNotReady: pod sandbox is not ready", "True PodCompleted: ", "False PodCompleted: ", "True"}},
		"the Pod has failed": {never("a"), facts(all{"a": ended(1)}), []string{"True", "True", "False PodFailed: ", "True"}},
		"init has failed":    {never("init1", "a"), facts(all{"init1": ended(1)}), []string{"True", "False " + uninitialized + "[init1]", "False PodFailed: ", "True"}},
	} {
		t.Run(sentence, func(t *testing.T) {
			t.Parallel()
			all := Make(r.pod, r.facts, t0).Conditions
			order := []v1.PodConditionType{v1.PodReadyToStartContainers, v1.PodInitialized, v1.PodReady, v1.ContainersReady, v1.PodScheduled}
			want := []string{r.want[0], r.want[1], r.want[2], r.want[2], r.want[3]}
			if len(all) != len(order) {
				t.Fatalf("%d conditions, want %d", len(all), len(order))
			}
			for i, c := range all {
				got := string(c.Status)
				if c.Reason != "" {
					got += " " + c.Reason + ": " + c.Message
				}
				if c.Type != order[i] || got != want[i] || c.ObservedGeneration != 3 || !c.LastTransitionTime.Time.Equal(t0) {
					t.Errorf("got %s %s since %v, generation %d; want %s %s", c.Type, got, c.LastTransitionTime, c.ObservedGeneration, order[i], want[i])
				}
			}
		})
	}
}

func TestHeld(t *testing.T) {
	t.Parallel()
	const message = "0/1 nodes are available: 1 Insufficient cpu."
	held := func(message string, previous v1.PodStatus, now time.Time) v1.PodStatus {
		return Held(always("init1", "a"), v1.PodReasonUnschedulable, message, previous, now)
	}
	want := v1.PodStatus{
		ObservedGeneration: 3, Phase: v1.PodPending, QOSClass: v1.PodQOSBestEffort,
		Conditions: []v1.PodCondition{{
			Type: v1.PodScheduled, Status: v1.ConditionFalse, Reason: v1.PodReasonUnschedulable, Message: message, ObservedGeneration: 3,
			LastTransitionTime: metav1.NewTime(t0),
		}},
	}
	first := held(message, v1.PodStatus{}, t0)
	if diff := cmp.Diff(want, first); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	later := held("another", first, t0.Add(time.Hour)).Conditions[0]
	if !later.LastTransitionTime.Time.Equal(t0) || later.Message != "another" {
		t.Errorf("held on for another reason: %+v", later)
	}
	if s := Held(always("a"), "NodeAffinity", message, first, t0); s.Reason != "NodeAffinity" || s.Message != message || s.Conditions[0].Reason != "NodeAffinity" {
		t.Errorf("held in the kubelet's words: %+v", s)
	}
	ran := Make(always("a"), facts(all{"a": up()}), t0)
	if after := held(message, ran, t0.Add(time.Hour)); after.Phase != v1.PodPending || !after.Conditions[0].LastTransitionTime.Time.Equal(t0.Add(time.Hour)) {
		t.Errorf("held after it ran: %+v", after)
	}
}

func TestTransitionTimes(t *testing.T) {
	t.Parallel()
	p := always("a")
	f := facts(all{"a": notReady()})
	f.Previous = Make(p, f, t0)
	f.Containers["a"] = up().facts
	got := Make(p, f, t0.Add(time.Hour))
	changed := map[v1.PodConditionType]bool{v1.PodReady: true, v1.ContainersReady: true}
	for _, c := range got.Conditions {
		want := t0
		if changed[c.Type] {
			want = t0.Add(time.Hour)
		}
		if !c.LastTransitionTime.Time.Equal(want) {
			t.Errorf("%s: last transition at %v, want %v", c.Type, c.LastTransitionTime, want)
		}
	}
}

func TestPodAsAWhole(t *testing.T) {
	t.Parallel()
	f := facts(all{"a": up()})
	f.HostIPs, f.PodIPs, f.StartTime, f.Reason, f.Message = []string{"10.0.0.1", "fd00::1"}, []string{"10.88.0.2", "fd88::2"}, t0, "FailedCreatePodSandBox", "no network"
	c := f.Containers["a"]
	c.Image, c.ImageID = "docker.io/library/a:1", "docker.io/library/a@sha256:1"
	f.Containers["a"] = c
	s := Make(always("a"), f, t0)
	want := v1.PodStatus{
		ObservedGeneration: 3, Phase: v1.PodRunning, Reason: "FailedCreatePodSandBox", Message: "no network",
		HostIP: "10.0.0.1", HostIPs: []v1.HostIP{{IP: "10.0.0.1"}, {IP: "fd00::1"}},
		PodIP: "10.88.0.2", PodIPs: []v1.PodIP{{IP: "10.88.0.2"}, {IP: "fd88::2"}},
		StartTime: &metav1.Time{Time: t0}, QOSClass: v1.PodQOSBestEffort, Conditions: s.Conditions,
		ContainerStatuses: []v1.ContainerStatus{{
			Name: "a", Image: "docker.io/library/a:1", ImageID: "docker.io/library/a@sha256:1", ContainerID: "containerd://x",
			State: v1.ContainerState{Running: &v1.ContainerStateRunning{StartedAt: metav1.NewTime(t0.Add(-time.Minute))}}, Ready: true, Started: ptr(true),
			Resources: &v1.ResourceRequirements{},
		}},
		AllocatedResources: v1.ResourceList{}, Resources: &v1.ResourceRequirements{Requests: v1.ResourceList{}, Limits: v1.ResourceList{}},
	}
	if diff := cmp.Diff(want, s); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	bare := Make(always("a"), facts(nil), t0)
	if bare.HostIP != "" || bare.PodIP != "" || bare.PodIPs != nil || bare.ContainerStatuses[0].Image != "a:1" {
		t.Errorf("before anything is known: %+v", bare)
	}
}

func TestWhatAContainerHasIsTold(t *testing.T) {
	t.Parallel()
	pod := always("a", "b")
	cpu, memory := v1.ResourceList{v1.ResourceCPU: resource.MustParse("100m")}, v1.ResourceList{v1.ResourceMemory: resource.MustParse("64Mi")}
	pod.Spec.Containers[0].Resources = v1.ResourceRequirements{Requests: cpu, Limits: memory}
	pod.Spec.Containers[0].VolumeMounts = []v1.VolumeMount{{Name: "data", MountPath: "/data"}, {Name: "etc", MountPath: "/etc/app", ReadOnly: true},
		{Name: "deep", MountPath: "/deep", ReadOnly: true, RecursiveReadOnly: ptr(v1.RecursiveReadOnlyEnabled)},
		{Name: "may", MountPath: "/may", ReadOnly: true, RecursiveReadOnly: ptr(v1.RecursiveReadOnlyIfPossible)}}
	f := facts(all{"a": up()})
	c := f.Containers["a"]
	c.StopSignal, c.User = ptr(v1.SIGQUIT), &v1.ContainerUser{Linux: &v1.LinuxContainerUser{UID: 7}}
	f.Containers["a"] = c
	s := Make(pod, f, t0)
	a, b := s.ContainerStatuses[0], s.ContainerStatuses[1]
	mounts := func(ifPossible v1.RecursiveReadOnlyMode) []v1.VolumeMountStatus {
		return []v1.VolumeMountStatus{
			{Name: "data", MountPath: "/data"}, {Name: "etc", MountPath: "/etc/app", ReadOnly: true, RecursiveReadOnly: ptr(v1.RecursiveReadOnlyDisabled)},
			{Name: "deep", MountPath: "/deep", ReadOnly: true, RecursiveReadOnly: ptr(v1.RecursiveReadOnlyEnabled)},
			{Name: "may", MountPath: "/may", ReadOnly: true, RecursiveReadOnly: &ifPossible},
		}
	}
	if diff := cmp.Diff(mounts(v1.RecursiveReadOnlyDisabled), a.VolumeMounts); diff != "" {
		t.Errorf("mounts (-want +got):\n%s", diff)
	}
	f.RecursiveReadOnly = true
	if diff := cmp.Diff(mounts(v1.RecursiveReadOnlyEnabled), Make(pod, f, t0).ContainerStatuses[0].VolumeMounts); diff != "" {
		t.Errorf("mounts where the node can do it (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(&pod.Spec.Containers[0].Resources, a.Resources); diff != "" || !cmp.Equal(a.AllocatedResources, cpu) || *a.StopSignal != v1.SIGQUIT {
		t.Errorf("resources (-want +got):\n%s, allocated %v, signal %v", diff, a.AllocatedResources, a.StopSignal)
	}
	if a.User == nil || a.User.Linux.UID != 7 {
		t.Errorf("it runs as %v", a.User)
	}
	if b.Resources != nil || b.AllocatedResources != nil {
		t.Errorf("one that was never made has %v", b.Resources)
	}
	if !cmp.Equal(s.AllocatedResources, cpu) || !cmp.Equal(s.Resources.Limits, memory) {
		t.Errorf("the Pod has %v, allocated %v", s.Resources, s.AllocatedResources)
	}
}

func TestAPodThatIsDoneKeepsItsAddress(t *testing.T) {
	t.Parallel()
	f := facts(all{"a": ended(0)})
	f.Previous.PodIP, f.Previous.PodIPs = "10.88.0.2", []v1.PodIP{{IP: "10.88.0.2"}}
	if s := Make(never("a"), f, t0); s.Phase != v1.PodSucceeded || s.PodIP != "10.88.0.2" || len(s.PodIPs) != 1 {
		t.Errorf("it is %s at %q", s.Phase, s.PodIP)
	}
	if s := Make(always("a"), f, t0); s.PodIP != "" {
		t.Errorf("one that goes on keeps %q", s.PodIP)
	}
}

func TestAPodInWhichAllRestart(t *testing.T) {
	t.Parallel()
	pod := never("init1", "a")
	pod.Spec.Containers[0].RestartPolicyRules = []v1.ContainerRestartRule{{Action: v1.ContainerRestartRuleActionRestartAllContainers}}
	told := func(f Facts) (v1.PodCondition, v1.PodStatus) {
		s := Make(pod, f, t0)
		return s.Conditions[len(s.Conditions)-1], s
	}
	quiet := facts(all{"init1": ended(0), "a": up()})
	if c, _ := told(quiet); c.Type != v1.AllContainersRestarting || c.Status != v1.ConditionFalse {
		t.Errorf("before: %+v", c)
	}
	restarting := facts(all{"init1": ended(0), "a": ended(88)})
	restarting.Seen.Restarting = true
	c, s := told(restarting)
	if c.Status != v1.ConditionTrue || c.Reason != "RestartAllContainersStarted" || s.Phase != v1.PodRunning {
		t.Errorf("then: %+v, %s", c, s.Phase)
	}
	if a := s.ContainerStatuses[0]; a.State.Waiting == nil || a.State.Waiting.Reason != RestartingAll || a.LastTerminationState.Terminated == nil {
		t.Errorf("its container: %+v", a)
	}
	if c, s := told(facts(all{"init1": ended(0), "a": ended(1)})); c.Reason != "PodFailed" || s.Phase != v1.PodFailed {
		t.Errorf("in the end: %+v, %s", c, s.Phase)
	}
}

// Once a Pod is initialised it stays so, though its init containers run again (kubernetes/kubernetes pkg/kubelet/status,
// GeneratePodInitializedCondition).
func TestWhatIsInitializedStaysSo(t *testing.T) {
	t.Parallel()
	redo := ended(88)
	redo.seen.Redo = true
	for sentence, r := range map[string]struct {
		before v1.ConditionStatus
		want   string
	}{
		"it was":           {v1.ConditionTrue, "True"},
		"it was not":       {v1.ConditionFalse, "False ContainersNotInitialized"},
		"it is told first": {"", "False ContainersNotInitialized"},
	} {
		t.Run(sentence, func(t *testing.T) {
			t.Parallel()
			f := facts(all{"init1": up(), "a": redo})
			if r.before != "" {
				f.Previous.Conditions = []v1.PodCondition{{Type: v1.PodInitialized, Status: r.before, LastTransitionTime: metav1.NewTime(t0)}}
			}
			s := Make(never("init1", "a"), f, t0.Add(time.Hour))
			c := s.Conditions[1]
			if got := strings.TrimSpace(string(c.Status) + " " + c.Reason); c.Type != v1.PodInitialized || got != r.want {
				t.Errorf("%s is %s, want %s", c.Type, got, r.want)
			}
			if ready := s.Conditions[2]; ready.Status != v1.ConditionFalse {
				t.Errorf("%s is %s", ready.Type, ready.Status)
			}
		})
	}
}

func TestGates(t *testing.T) {
	t.Parallel()
	p := always("a")
	p.Spec.ReadinessGates = []v1.PodReadinessGate{{ConditionType: "x/one"}, {ConditionType: "x/two"}}
	is := func(of v1.PodConditionType, status v1.ConditionStatus) v1.PodCondition {
		return v1.PodCondition{Type: of, Status: status}
	}
	for sentence, c := range map[string]struct {
		container one
		others    []v1.PodCondition
		want      v1.PodCondition
	}{
		"containers come first": {notReady(), []v1.PodCondition{is("x/one", "True"), is("x/two", "True")},
			v1.PodCondition{Status: "False", Reason: "ContainersNotReady", Message: "containers with unready status: [a]"}},
		"no gate is open": {up(), nil, v1.PodCondition{Status: "False", Reason: "ReadinessGatesNotReady",
			Message: `corresponding condition of pod readiness gate "x/one" does not exist., corresponding condition of pod readiness gate "x/two" does not exist.`}},
		"one is closed": {up(), []v1.PodCondition{is("x/one", "True"), is("x/two", "Unknown")},
			v1.PodCondition{Status: "False", Reason: "ReadinessGatesNotReady", Message: `the status of pod readiness gate "x/two" is not "True", but Unknown`}},
		"all are open": {up(), []v1.PodCondition{is("x/two", "True"), is("x/one", "True"), is("x/three", "False")}, v1.PodCondition{Status: "True"}},
	} {
		f := facts(all{"a": c.container})
		f.Conditions = c.others
		s := Make(p, f, t0)
		got := conditionOf(v1.PodReady, s.Conditions)
		c.want.Type, c.want.ObservedGeneration, c.want.LastTransitionTime = v1.PodReady, 3, metav1.NewTime(t0)
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", sentence, diff)
		}
		if again := WithOthers(p, s.Conditions, c.others, t0); cmp.Diff(s.Conditions, again) != "" {
			t.Errorf("%s: written again: %s", sentence, cmp.Diff(s.Conditions, again))
		}
		if len(s.Conditions) != 5+len(c.others) {
			t.Errorf("%s: there are %d conditions", sentence, len(s.Conditions))
		}
	}
}

func TestFinal(t *testing.T) {
	t.Parallel()
	for sentence, c := range map[string]struct {
		containers all
		phase      v1.PodPhase
		reason     string
	}{
		"all have succeeded":          {all{"a": ended(0), "b": ended(0)}, v1.PodSucceeded, "PodCompleted"},
		"one has failed":              {all{"a": ended(0), "b": ended(1)}, v1.PodFailed, "PodFailed"},
		"one has never run":           {all{"a": ended(0)}, v1.PodFailed, "PodFailed"},
		"one was running to the last": {all{"a": ended(0), "b": up()}, v1.PodFailed, "PodFailed"},
	} {
		p := always("a", "b")
		p.Status = Make(p, facts(c.containers), t0)
		final := Final(p, t0)
		ready := conditionOf(v1.PodReady, final.Conditions)
		if final.Phase != c.phase || ready.Status != v1.ConditionFalse || ready.Reason != c.reason || p.Status.Phase == c.phase {
			t.Errorf("%s: it is %s, and ready %+v; before it was %s", sentence, final.Phase, ready, p.Status.Phase)
		}
	}
	gone := never("a")
	gone.Status = Make(gone, facts(all{"a": ended(1)}), t0)
	if diff := cmp.Diff(gone.Status, Final(gone, t0.Add(time.Hour))); diff != "" {
		t.Errorf("what had ended already: %s", diff)
	}
}
