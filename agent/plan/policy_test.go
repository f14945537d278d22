package plan

import (
	"testing"

	v1 "k8s.io/api/core/v1"
)

// own gives the first container, or init container, a restart policy and rules of its own.
func own(pod *v1.Pod, policy v1.ContainerRestartPolicy, rules ...v1.ContainerRestartRule) *v1.Pod {
	c := Containers(pod)[0]
	c.RestartPolicy, c.RestartPolicyRules = &policy, rules
	return pod
}

func on(action v1.ContainerRestartRuleAction, operator v1.ContainerRestartRuleOnExitCodesOperator, codes ...int32) v1.ContainerRestartRule {
	return v1.ContainerRestartRule{Action: action, ExitCodes: &v1.ContainerRestartRuleOnExitCodes{Operator: operator, Values: codes}}
}

func TestPoliciesOfContainers(t *testing.T) {
	const (
		restart, all = v1.ContainerRestartRuleActionRestart, v1.ContainerRestartRuleActionRestartAllContainers
		in, notIn    = v1.ContainerRestartRuleOnExitCodesOpIn, v1.ContainerRestartRuleOnExitCodesOpNotIn
		onlyFailed   = v1.ContainerRestartPolicyOnFailure
		atOnce       = v1.ContainerRestartPolicyNever
	)
	next := func(c Container) Seen { return Seen{Sandbox: box, Containers: map[string]Container{"a": c}} }
	two := func(a, b Container) Seen {
		return Seen{Sandbox: box, Containers: map[string]Container{"a": a, "b": b}}
	}
	again := []string{"prepare a (attempt 1)"}
	check(t, map[string]row{
		"Always of its own, in a Pod that never restarts": {pod: own(never("a"), v1.ContainerRestartPolicyAlways), seen: next(ended(0)), want: again},
		"Never of its own: the Pod is done":               {pod: own(always("a"), atOnce), seen: next(ended(1)), want: []string{"remove sandbox"}},
		"but not while another runs":                      {pod: own(always("a", "b"), atOnce), seen: two(ended(1), up())},
		"or restarts":                                     {pod: own(always("a", "b"), atOnce), seen: two(ended(1), ended(0)), want: []string{"prepare b (attempt 1)"}},
		"OnFailure of its own: a failure restarts":        {pod: own(never("a"), onlyFailed), seen: next(ended(1)), want: again},
		"a success does not":                              {pod: own(always("a"), onlyFailed), seen: next(ended(0)), want: []string{"remove sandbox"}},
		"a liveness stop that exits 0 is a failure":       {pod: own(never("a"), onlyFailed), seen: next(ended(0, told(LivenessFailed, -1, 30))), want: again},

		"where the sandbox of a Pod that never restarts is lost, one with Always has the whole period, too": {pod: own(never("a", "b"), v1.ContainerRestartPolicyAlways),
			seen: Seen{Sandbox: broken, Containers: map[string]Container{"a": up(), "b": ended(0, finished(-10))}}, want: []string{"stop a (pod is done) within 30s"}},

		"a rule that matches restarts":              {pod: own(never("a"), atOnce, on(restart, in, 3, 42)), seen: next(ended(42)), want: again},
		"one that does not leaves it at the policy": {pod: own(never("a"), atOnce, on(restart, in, 3, 42)), seen: next(ended(1)), want: []string{"remove sandbox"}},
		"NotIn matches all others":                  {pod: own(never("a"), atOnce, on(restart, notIn, 0)), seen: next(ended(1)), want: again},
		"and not those":                             {pod: own(never("a"), atOnce, on(restart, notIn, 0)), seen: next(ended(0)), want: []string{"remove sandbox"}},
		"the first that matches counts":             {pod: own(never("a"), atOnce, on(restart, in, 42), on(all, in, 42)), seen: next(ended(42)), want: again},
		"an end by a probe is about no rule":        {pod: own(never("a"), atOnce, on(restart, in, 42)), seen: next(ended(42, told(LivenessFailed, -1, 30))), want: []string{"remove sandbox"}},
		"rules wait like policies":                  {pod: own(never("a"), atOnce, on(restart, in, 42)), seen: next(ended(42, backoff(20))), wake: 20},

		"Never of an init container: its failure is the Pod's": {pod: own(always("init1", "a"), atOnce),
			seen: Seen{Sandbox: box, Containers: map[string]Container{"init1": ended(1)}}, want: []string{"remove sandbox"}},
		"OnFailure of an init container: it is tried again": {pod: own(never("init1", "a"), onlyFailed),
			seen: Seen{Sandbox: box, Containers: map[string]Container{"init1": ended(1)}}, want: []string{"prepare init1 (attempt 1)"}},
		"its success is enough": {pod: own(never("init1", "a"), onlyFailed),
			seen: Seen{Sandbox: box, Containers: map[string]Container{"init1": ended(0)}}, want: []string{"prepare a"}},
	})
}

func TestAllContainersRestart(t *testing.T) {
	redo := func(c *Container) { c.Redo = true }
	pod := never("init1", "side1", "a", "b")
	check(t, map[string]row{
		"what runs is killed at once, in no order": {pod: pod,
			seen: Seen{Sandbox: box, Restarting: true, Containers: all{"init1": ended(0), "side1": up(), "a": up(), "b": ended(88)}},
			want: []string{"kill side1", "kill a"}},
		"what is busy is waited for": {pod: pod, seen: Seen{Sandbox: box, Restarting: true, Containers: all{"init1": ended(0), "side1": ended(137), "a": up(busy), "b": ended(88)}}},
		"the end of the Pod comes first": {pod: pod,
			seen: Seen{Sandbox: box, Restarting: true, Ending: ending(0), Containers: all{"side1": ended(0), "a": up(), "b": ended(88)}}, want: []string{"stop a (pod ends) within 30s"}, wake: 30},
		"then it begins with the first init container": {pod: pod,
			seen: Seen{Sandbox: box, Containers: all{"init1": ended(0, redo), "side1": ended(137, redo), "a": ended(0, redo), "b": ended(88, redo)}},
			want: []string{"prepare init1 (attempt 1)"}},
		"goes on with the sidecar": {pod: pod,
			seen: Seen{Sandbox: box, Containers: all{"init1": ended(0, attempt(1)), "side1": ended(137, redo), "a": ended(0, redo), "b": ended(88, redo)}},
			want: []string{"prepare side1 (attempt 1)"}},
		"and ends with all others": {pod: pod,
			seen: Seen{Sandbox: box, Containers: all{"init1": ended(0, attempt(1)), "side1": up(attempt(1)), "a": ended(0, redo), "b": ended(88, redo)}},
			want: []string{"prepare a (attempt 1)", "prepare b (attempt 1)"}},
		"each waits as long as any restart of its own": {pod: pod,
			seen: Seen{Sandbox: box, Containers: all{"init1": ended(0, redo, backoff(10)), "side1": ended(137, redo), "a": ended(0, redo), "b": ended(88, redo)}}, wake: 10},
	})
}
