package plan

import (
	"time"

	v1 "k8s.io/api/core/v1"
)

// minGrace is what a container gets between its signal and SIGKILL even when the Pod's time is up
// (minimumGracePeriodInSeconds in kubernetes/kubernetes pkg/kubelet/kuberuntime).
const minGrace = 2 * time.Second

// Done says whether a Pod has come to its end by itself: an init container failed for good, or every container other than
// init containers has ended and will not be restarted, sidecars not counting. Under restartPolicy Never a Pod whose
// sandbox is lost is done as well.
func Done(pod *v1.Pod, seen Seen) bool {
	if seen.Restarting {
		return false
	}
	n := next{pod: pod, seen: seen}
	if n.initFailed() || n.lost() {
		return true
	}
	for i := range pod.Spec.Containers {
		c := &pod.Spec.Containers[i]
		s := seen.Containers[c.Name]
		if s.State != Exited || n.shouldRestart(c, s) {
			return false
		}
	}
	return true
}

// lost says whether the Pod may never restart anything and has no sandbox any more to go on in.
func (n *next) lost() bool {
	if n.pod.Spec.RestartPolicy != v1.RestartPolicyNever || n.seen.Sandbox.State == Running || n.seen.Sandbox.State == Unknown || n.seen.Sandbox.Attempt < 0 {
		return false
	}
	for name, c := range n.seen.Containers {
		if c.State != None && !IsEphemeral(n.pod, name) {
			return true
		}
	}
	return false
}

// initFailed says whether an init container has failed and will not run again.
func (n *next) initFailed() bool {
	for i := range n.pod.Spec.InitContainers {
		c := &n.pod.Spec.InitContainers[i]
		if s := n.seen.Containers[c.Name]; !IsSidecar(c) && s.State == Exited && !succeeded(s) && !n.shouldRestart(c, s) {
			return true
		}
	}
	return false
}

// finish stops what still runs of a Pod that is done, in the order of termination, and then removes the sandbox. The
// records of the containers stay.
func (n *next) finish() {
	since := n.doneSince()
	if n.stopInOrder(PodDone, since, since.Add(Grace(n.pod))) && n.seen.Sandbox.State != None {
		n.last(RemoveSandbox)
	}
}

// doneSince is when the last container that decided the Pod's fate has ended. Where one still runs, because the sandbox
// was lost, it is when that one was told to stop.
func (n *next) doneSince() time.Time {
	var since time.Time
	for _, c := range Containers(n.pod) {
		s, at := n.seen.Containers[c.Name], n.now
		switch {
		case isInit(n.pod, c.Name) && IsSidecar(c) || s.State == None || IsEphemeral(n.pod, c.Name):
			continue
		case s.State == Exited:
			at = s.FinishedAt
		case s.Stop != nil:
			at = s.Stop.Since
		}
		if at.After(since) {
			since = at
		}
	}
	if since.IsZero() {
		return n.now
	}
	return since
}

// end stops everything in order within the grace period, counted from when the end began, and then tears down.
func (n *next) end() {
	if n.stopInOrder(PodEnds, n.seen.Ending.Since, n.seen.Ending.Until(n.pod)) {
		n.last(Teardown)
	}
}

// last does what takes away the ground under the containers, alone: what they have left is cleaned before.
func (n *next) last(verb Verb) {
	if len(n.plan.Actions) == 0 && !n.seen.Sandbox.Attaching && n.ready(n.seen.Sandbox.Busy, n.seen.Sandbox.RetryAt) {
		n.plan.do(Action{Verb: verb})
	}
}

// stopInOrder stops containers and says whether none runs any more: all but the sidecars at once, then the sidecars in
// reverse order, each when the main containers and the sidecars after it are gone, or when the time is up
// (kubernetes/kubernetes pkg/kubelet/kuberuntime/kuberuntime_termination_order.go). A container that does not run never
// holds up another; nor does an init container that is no sidecar, or an ephemeral one.
func (n *next) stopInOrder(why Why, since, deadline time.Time) bool {
	n.deadline = deadline
	// Whole seconds that have passed are taken off, so that the first container gets the whole period.
	grace := max(deadline.Sub(since)-n.now.Sub(since).Truncate(time.Second), minGrace)
	ordered, others := true, true // those that sidecars wait for are gone, and those that nothing waits for
	for _, c := range n.pod.Spec.Containers {
		ordered = n.stopOne(c.Name, why, grace) && ordered
	}
	for _, c := range ephemeral(n.pod) {
		others = n.stopOne(c.Name, why, grace) && others
	}
	for i := len(n.pod.Spec.InitContainers) - 1; i >= 0; i-- {
		c := &n.pod.Spec.InitContainers[i]
		switch {
		case !IsSidecar(c):
			others = n.stopOne(c.Name, why, grace) && others
		case !ordered && n.now.Before(n.deadline):
			n.plan.wake(n.deadline)
			n.preStop(c.Name, why, grace) // the order is that of the signals
			n.killWhenDue(c.Name)
		default:
			ordered = n.stopOne(c.Name, why, grace) && ordered
		}
	}
	return ordered && others
}

// stopOne stops one container and says whether it has ended.
func (n *next) stopOne(name string, why Why, grace time.Duration) bool {
	c := n.seen.Containers[name]
	if c.Busy {
		return false
	}
	if !c.mayRun() {
		if n.seen.Ending == nil { // else all of it is removed in a moment
			n.clean(name)
		}
		return true
	}
	if c.Lost {
		n.kill(name)
		return false
	}
	// A second: what truncating has given away at different times is no reason for a second signal.
	if c.Stop == nil || c.Stop.Since.Add(c.Stop.Grace).After(n.now.Add(grace+time.Second)) {
		n.terminate(name, why, grace)
		return false
	}
	n.killWhenDue(name)
	return false
}

// terminate tells a container to end, after its preStop hook, whose time is part of the grace. A stop that was recorded for a
// longer time is shortened, not repeated, and none is shorter than minGrace.
func (n *next) terminate(name string, why Why, grace time.Duration) {
	c := n.seen.Containers[name]
	if !n.preStop(name, why, grace) {
		return
	}
	if c.PreStop != nil { // whole seconds that it took are taken off
		grace = min(grace, c.PreStop.Grace-n.now.Sub(c.PreStop.Since).Truncate(time.Second))
	}
	if n.ready(c.Busy, c.RetryAt) {
		n.plan.do(Action{Verb: Terminate, Container: name, Why: why, Grace: max(grace, minGrace)})
	}
}

// preStop runs the preStop hook of a container that runs, once, before the first signal, and says whether it has ended or its
// time is up. An agent that was killed amid a hook leaves it to the next one to run it again.
func (n *next) preStop(name string, why Why, grace time.Duration) bool {
	c := n.seen.Containers[name]
	if !c.mayRun() || c.Lost || c.Stop != nil || !c.PreStopDue {
		return true
	}
	until := n.now.Add(grace)
	if !n.deadline.IsZero() {
		until = earlier(until, n.deadline)
	}
	if c.PreStop != nil {
		until, why = earlier(until, c.PreStop.Since.Add(c.PreStop.Grace)), c.PreStop.Why
	}
	if !until.After(n.now) {
		return true
	}
	n.plan.wake(until)
	if !c.Hooking || c.PreStop == nil {
		n.plan.do(Action{Verb: PreStop, Container: name, Why: why, Grace: until.Sub(n.now)})
	}
	return false
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// killWhenDue kills a container that runs though its time is up, again and again until it is gone.
func (n *next) killWhenDue(name string) {
	c := n.seen.Containers[name]
	if !c.mayRun() || c.Stop == nil || c.Busy {
		return
	}
	if due := c.Stop.Since.Add(c.Stop.Grace); due.After(n.now) {
		n.plan.wake(due)
		return
	}
	n.kill(name)
}

func (n *next) kill(name string) {
	if c := n.seen.Containers[name]; n.ready(c.Busy, c.RetryAt) {
		n.plan.do(Action{Verb: Kill, Container: name})
	}
}
