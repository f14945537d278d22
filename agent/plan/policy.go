package plan

import (
	"slices"

	v1 "k8s.io/api/core/v1"
)

// restartPolicy is what decides about a container: its own policy, else the Pod's.
func restartPolicy(pod *v1.Pod, c *v1.Container) v1.RestartPolicy {
	if c.RestartPolicy != nil {
		return v1.RestartPolicy(*c.RestartPolicy)
	}
	return pod.Spec.RestartPolicy
}

// RestartsOnFailure says whether a container that a probe gives up starts again: by its policy, its rules not counting, for
// it has not ended yet (kubernetes/kubernetes pkg/kubelet/kuberuntime, computePodActions).
func RestartsOnFailure(pod *v1.Pod, name string) bool {
	return !slices.ContainsFunc(Containers(pod), func(c *v1.Container) bool {
		return c.Name == name && restartPolicy(pod, c) == v1.RestartPolicyNever
	})
}

// rule is the first of a container's restartPolicyRules that matches an exit code (pkg/api/v1/pod/util.go,
// FindMatchingContainerRestartRule). Without a restartPolicy of its own a container has no rules.
func rule(c *v1.Container, code int) (v1.ContainerRestartRule, bool) {
	if c.RestartPolicy == nil {
		return v1.ContainerRestartRule{}, false
	}
	for _, r := range c.RestartPolicyRules {
		if r.ExitCodes == nil {
			continue
		}
		listed := slices.Contains(r.ExitCodes.Values, int32(code))
		if listed == (r.ExitCodes.Operator == v1.ContainerRestartRuleOnExitCodesOpIn) {
			return r, true
		}
	}
	return v1.ContainerRestartRule{}, false
}

// RestartsAll says whether a container's end by itself, with an exit code, asks for a restart of all containers of its Pod
// (kubernetes.io/docs "restart all containers").
func RestartsAll(c *v1.Container, code int) bool {
	r, ok := rule(c, code)
	return ok && r.Action == v1.ContainerRestartRuleActionRestartAllContainers
}

// MayRestartAll says whether some end of a container of the Pod asks for a restart of all.
func MayRestartAll(pod *v1.Pod) bool {
	return slices.ContainsFunc(Containers(pod), func(c *v1.Container) bool {
		return slices.ContainsFunc(c.RestartPolicyRules, func(r v1.ContainerRestartRule) bool {
			return r.Action == v1.ContainerRestartRuleActionRestartAllContainers
		})
	})
}

// shouldRestart applies the restart policy to a container that has ended: its own rules and policy, else the Pod's. What was
// stopped for an edit, or is to be done over, starts again under every policy, and an init container always runs again in a
// new sandbox. An end that a probe asked for is a failure, and about no rule.
func (n *next) shouldRestart(c *v1.Container, seen Container) bool {
	if IsEphemeral(n.pod, c.Name) {
		return false
	}
	if seen.Redo || seen.Stop.ForEdit() || IsSidecar(c) {
		return true
	}
	earlier, initial := seen.Sandbox != n.seen.Sandbox.Attempt, isInit(n.pod, c.Name)
	if initial && earlier {
		return true
	}
	if !seen.Stop.byProbe() {
		if _, ok := rule(c, seen.ExitCode); ok {
			return true // both actions are a restart
		}
	}
	switch policy := restartPolicy(n.pod, c); {
	case policy == v1.RestartPolicyNever:
		return false
	case policy == v1.RestartPolicyOnFailure || initial:
		return !succeeded(seen)
	default:
		return true
	}
}

// restartAll ends all containers at once, whatever their grace and hooks (kubernetes.io/docs "restart all containers"). When
// nothing runs any more, whoever asked for it says of all of them that they are to be done over.
func (n *next) restartAll() {
	for _, c := range Containers(n.pod) {
		if seen := n.seen.Containers[c.Name]; seen.mayRun() {
			n.kill(c.Name)
		}
	}
}
