package plan

import (
	v1 "k8s.io/api/core/v1"
)

// sandbox makes a sandbox where there is none, after everything of a broken one is gone. Images are prepared meanwhile.
func (n *next) sandbox() {
	if n.seen.Sandbox.State == Exited {
		if n.stopAll(SandboxGone) {
			n.last(RemoveSandbox)
		}
		return
	}
	if n.ready(n.seen.Sandbox.Busy, n.seen.Sandbox.RetryAt) {
		n.plan.do(Action{Verb: CreateSandbox, Attempt: n.seen.Sandbox.Attempt + 1})
	}
	for _, c := range n.first() {
		seen := n.seen.Containers[c.Name]
		wanted := seen.State == None || seen.State == Exited && n.shouldRestart(&c, seen)
		if wanted && !seen.Prepared && n.ready(seen.Busy, seen.RetryAt) {
			n.plan.do(Action{Verb: Prepare, Container: c.Name, Attempt: nextAttempt(seen)})
		}
	}
}

// first are the containers that start as soon as there is a sandbox.
func (n *next) first() []v1.Container {
	if len(n.pod.Spec.InitContainers) > 0 {
		return n.pod.Spec.InitContainers[:1]
	}
	return n.pod.Spec.Containers
}

// nextAttempt is the number of the instance that will be started next.
func nextAttempt(c Container) int {
	if c.State == Exited {
		return c.Attempt + 1
	}
	return c.Attempt
}

// stopAll stops every container that runs, without order, and says whether none does. What ended is cleaned.
func (n *next) stopAll(why Why) bool {
	stopped := true
	for _, of := range Containers(n.pod) {
		name, c := of.Name, n.seen.Containers[of.Name]
		switch {
		case c.Busy:
			stopped = false
		case !c.mayRun():
			n.clean(name)
		case c.Lost:
			stopped = false
			n.kill(name)
		case c.Stop == nil:
			stopped = false
			n.terminate(name, why, Grace(n.pod))
		default:
			stopped = false
			n.killWhenDue(name)
		}
	}
	return stopped
}
