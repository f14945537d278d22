package plan

import (
	"slices"
	"time"

	v1 "k8s.io/api/core/v1"
)

// Back-off between restarts of a container, and how long it must have run for the back-off to start over
// (kubernetes/kubernetes pkg/kubelet/kubelet.go, client-go/util/flowcontrol/backoff.go).
const (
	FirstBackoff = 10 * time.Second
	MaxBackoff   = 300 * time.Second
	backoffReset = 600 * time.Second
)

// Backoff bounds the wait between restarts. The zero value is Kubernetes' default.
type Backoff struct {
	Max time.Duration // crashLoopBackOff.maxContainerRestartPeriod; 0 is MaxBackoff
}

// limits are the first wait after an immediate restart and the longest one: a Max below the usual first wait is both
// (kubernetes/enhancements KEP-4603).
func (b Backoff) limits() (first, longest time.Duration) {
	longest = b.Max
	if longest <= 0 {
		longest = MaxBackoff
	}
	return min(FirstBackoff, longest), longest
}

// run brings on what is not there yet and restarts what has ended.
func (n *next) run() {
	if s := n.seen.Sandbox; !s.Attached && !s.Attaching {
		n.plan.do(Action{Verb: Attach})
	}
	for _, c := range ephemeral(n.pod) {
		n.once(c)
	}
	if !n.init() {
		return
	}
	for i := range n.pod.Spec.Containers {
		n.keep(&n.pod.Spec.Containers[i])
	}
}

// init brings on init containers and sidecars in order, and says whether all others may start. Once one of those has
// started in this sandbox, init containers never run again, even if all trace of them is gone; sidecars are kept up.
func (n *next) init() bool {
	mainStarted := n.mainStarted()
	latest := n.latestInit()
	for i := range n.pod.Spec.InitContainers {
		c := &n.pod.Spec.InitContainers[i]
		seen := n.seen.Containers[c.Name]
		switch {
		case IsSidecar(c):
			n.keep(c)
			if !mainStarted && i >= latest && (!n.inSandbox(c.Name) || seen.State != Running || !seen.Started) {
				return false
			}
		case mainStarted || i < latest:
			n.clean(c.Name)
		case n.inSandbox(c.Name) && seen.State == Exited && succeeded(seen):
			n.clean(c.Name)
		default:
			n.keep(c)
			return false
		}
	}
	return true
}

// latestInit is the last init container or sidecar that has an instance in this sandbox: init containers before it are
// done, sidecars before it have started once.
func (n *next) latestInit() int {
	latest := 0
	for i, c := range n.pod.Spec.InitContainers {
		if n.inSandbox(c.Name) {
			latest = i
		}
	}
	return latest
}

// mainStarted says whether a container other than the init containers has an instance in this sandbox.
func (n *next) mainStarted() bool {
	for _, c := range n.pod.Spec.Containers {
		if n.inSandbox(c.Name) {
			return true
		}
	}
	return false
}

// inSandbox says whether the container has an instance that was made in the present sandbox, or is being made or was cut
// off while it was. One that is to be done over is as good as none.
func (n *next) inSandbox(name string) bool {
	c := n.seen.Containers[name]
	return (c.State != None || !c.CreatedAt.IsZero()) && c.Sandbox == n.seen.Sandbox.Attempt && !c.Redo
}

// keep starts a container that is not there, restarts one that has ended by its policy and back-off, and stops one that a
// probe has given up.
func (n *next) keep(c *v1.Container) {
	seen := n.seen.Containers[c.Name]
	switch seen.State {
	case Running:
		if seen.Lost {
			n.kill(c.Name)
			return
		}
		switch {
		case seen.Stop != nil || seen.Busy:
		case seen.PreStop != nil:
			n.terminate(c.Name, seen.PreStop.Why, seen.PreStop.Grace)
			return
		case seen.Failed != "":
			n.terminate(c.Name, seen.Failed, n.failGrace(c, seen.Failed))
			return
		case seen.Changed:
			n.terminate(c.Name, SpecChanged, Grace(n.pod))
			return
		case seen.Resized:
			n.terminate(c.Name, ResizeRestarts, Grace(n.pod))
			return
		case seen.Unhooked && !seen.Hooking:
			n.plan.do(Action{Verb: PostStart, Container: c.Name})
			return
		}
		n.killWhenDue(c.Name)
	case Exited:
		if !n.shouldRestart(c, seen) {
			n.clean(c.Name)
			return
		}
		n.restart(c, seen)
	case Unknown:
		n.killWhenDue(c.Name)
	case None:
		n.bring(c, seen.Attempt, seen.Backoff)
	}
}

// once starts an ephemeral container that never was. One that has ended stays so.
func (n *next) once(c *v1.Container) {
	switch seen := n.seen.Containers[c.Name]; {
	case seen.State == None && (seen.CreatedAt.IsZero() || n.inSandbox(c.Name)):
		n.bring(c, seen.Attempt, 0)
	case seen.Lost && !seen.Busy:
		n.kill(c.Name)
	default:
		n.killWhenDue(c.Name)
		n.clean(c.Name)
	}
}

// wait kills what should be dead, and begins nothing.
func (n *next) wait() {
	for _, c := range Containers(n.pod) {
		n.killWhenDue(c.Name)
	}
}

// bring prepares an instance, makes it and starts it, each when the one before is done and what it needs is there.
func (n *next) bring(c *v1.Container, attempt int, backoff time.Duration) {
	seen := n.seen.Containers[c.Name]
	attached := n.seen.Sandbox.Attached
	switch {
	case !n.ready(seen.Busy, seen.RetryAt):
	case seen.Created:
		if attached {
			n.plan.do(Action{Verb: Start, Container: c.Name, Attempt: attempt})
		}
	case !seen.Prepared:
		n.plan.do(Action{Verb: Prepare, Container: c.Name, Attempt: attempt})
	case !seen.Tidying && (attached || n.seen.Sandbox.RetryAt.IsZero() && !isToldAddress(c)): // after a failure nothing is made in vain
		n.plan.do(Action{Verb: Create, Container: c.Name, Attempt: attempt, Backoff: backoff})
	}
}

// isToldAddress says whether a container has the Pod's address in its environment from its making on.
func isToldAddress(c *v1.Container) bool {
	return slices.ContainsFunc(c.Env, func(e v1.EnvVar) bool {
		if e.ValueFrom == nil || e.ValueFrom.FieldRef == nil {
			return false
		}
		path := e.ValueFrom.FieldRef.FieldPath
		return path == "status.podIP" || path == "status.podIPs"
	})
}

// restart starts the next instance when the back-off has passed; until then what the last one has left is cleaned.
func (n *next) restart(c *v1.Container, seen Container) {
	due, following := n.backoff(seen)
	if due.After(n.now) {
		n.plan.wake(due)
		n.clean(c.Name)
		return
	}
	n.bring(c, seen.Attempt+1, following)
}

// backoff says when a container that has ended may start again, and what the restart after that will have to wait. The
// first restart is immediate, and so is one after more than ten minutes since the container was let start. Neither a new
// sandbox nor an edit is a failure of the container.
func (n *next) backoff(c Container) (due time.Time, following time.Duration) {
	if c.Sandbox != n.seen.Sandbox.Attempt {
		return n.now, c.Backoff
	}
	first, longest := n.seen.Backoff.limits()
	switch wait := min(c.Backoff, longest); {
	case c.Stop.ForEdit() || c.Changed:
		return c.FinishedAt, 0
	case wait == 0 || c.FinishedAt.Sub(c.CreatedAt) > backoffReset:
		return c.FinishedAt, first
	default:
		return c.FinishedAt.Add(wait), min(2*wait, longest)
	}
}

// BackingOff says until when the restart of a container waits; the zero time if it does not wait.
func BackingOff(pod *v1.Pod, seen Seen, c *v1.Container, now time.Time) time.Time {
	n := next{pod: pod, seen: seen, now: now}
	container := seen.Containers[c.Name]
	if seen.Ending != nil || container.State != Exited || !n.shouldRestart(c, container) || Done(pod, seen) {
		return time.Time{}
	}
	if due, _ := n.backoff(container); due.After(now) {
		return due
	}
	return time.Time{}
}

// Restarts says whether a container that has ended starts again, unless the whole Pod is done or ends.
func Restarts(pod *v1.Pod, seen Seen, c *v1.Container) bool {
	n := next{pod: pod, seen: seen}
	return n.shouldRestart(c, seen.Containers[c.Name])
}

func isInit(pod *v1.Pod, name string) bool {
	for _, c := range pod.Spec.InitContainers {
		if c.Name == name {
			return true
		}
	}
	return false
}

// succeeded says whether an instance ended well: with exit code 0, and not because a probe or an edit had it stopped.
func succeeded(c Container) bool { return c.ExitCode == 0 && !c.Stop.byProbe() && !c.Stop.ForEdit() }

// clean removes what an instance that has ended has left in the runtime.
func (n *next) clean(name string) {
	if c := n.seen.Containers[name]; c.Leftover && c.State == Exited && n.ready(c.Busy, c.RetryAt) {
		n.plan.do(Action{Verb: Clean, Container: name})
	}
}

// failGrace is the time a container gets that has failed: after a probe the probe's own, else the Pod's.
func (n *next) failGrace(c *v1.Container, why Why) time.Duration {
	var probe *v1.Probe
	switch why {
	case LivenessFailed:
		probe = c.LivenessProbe
	case StartupFailed:
		probe = c.StartupProbe
	}
	if probe != nil && probe.TerminationGracePeriodSeconds != nil {
		return time.Duration(*probe.TerminationGracePeriodSeconds) * time.Second
	}
	return Grace(n.pod)
}
