// Package plan decides what a Pod needs next. It is pure: Next looks at the Pod, at what was seen of it, and at the time it
// is given, and answers actions that are independent of each other; order lives between plans. It must not know how
// anything is seen or done.
//
// The rules are Kubernetes' own: kubernetes/kubernetes pkg/kubelet/kuberuntime (computePodActions, doBackOff, the
// termination order), pkg/api/v1/pod/util.go.
package plan

import (
	"fmt"
	"time"

	v1 "k8s.io/api/core/v1"
)

// State is what a container, or the sandbox, is doing.
type State string

// The states. A container that was never started, or whose start was cut off, is None. What is Unknown was started, and
// whether it runs cannot be told now: it is left alone, unless it has to end.
const (
	None    State = ""
	Running State = "running"
	Exited  State = "exited"
	Unknown State = "unknown"
)

// Seen is one look at a Pod.
type Seen struct {
	Sandbox    Sandbox
	Containers map[string]Container // by name; one that is missing is None
	Ending     *Ending              // set once the instance has to go
	Restarting bool                 // all containers are being ended, to be done over
	Backoff    Backoff              // between restarts of a container
}

// Sandbox is what was seen of the Pod's sandbox. Exited means that something of it is left but it holds nothing together.
type Sandbox struct {
	State     State
	Attempt   int  // of the latest sandbox, -1 before the first
	Busy      bool // an action on it is in flight
	RetryAt   time.Time
	Attached  bool // its network is there
	Attaching bool // and is being set up
}

// Ending says since when an instance is being ended, and why.
type Ending struct {
	Since    time.Time `json:"since"`
	Reason   string    `json:"reason"`            // for people: "the manifest was removed"
	Deadline time.Time `json:"deadline,omitzero"` // that was asked for in place of the Pod's own; zero is none
}

// Until is when the grace period of a Pod that ends is over.
func (e *Ending) Until(pod *v1.Pod) time.Time {
	if !e.Deadline.IsZero() {
		return e.Deadline
	}
	return e.Since.Add(Grace(pod))
}

// Container is what was seen of the latest instance of a container.
type Container struct {
	State      State
	Attempt    int       // of this instance, from 0
	Sandbox    int       // the attempt of the sandbox it was made in
	CreatedAt  time.Time // when it was let start: back-off counts from here
	StartedAt  time.Time
	FinishedAt time.Time
	ExitCode   int
	Backoff    time.Duration // that the next restart has to wait, counted from FinishedAt
	Stop       *Stop         // why it was told to stop, if it was

	Started bool // its startup probe, if any, has passed
	Redo    bool // it is to run again whatever its policy says, as if it had not run in this sandbox
	Changed bool // it was made from what the Pod no longer says of it, and runs or has ended
	Resized bool // it runs with other resources than the Pod gives it, and has to be made anew to get them
	Failed  Why  // why it has to be restarted: the verdict of a liveness or startup probe, or its postStart hook

	Unhooked   bool  // its postStart hook has not succeeded yet: it does not count as running
	PreStop    *Stop // its preStop hook was begun, and why, when, and for how long
	PreStopDue bool  // it has such a hook, which has not ended
	Hooking    bool  // one of its hooks is under way

	Lost     bool      // it runs, and the runtime has lost sight of it: only the kernel can end it
	Busy     bool      // an action on it is in flight
	Leftover bool      // it has ended and still has its task
	Prepared bool      // image and writable layer of the next instance are ready
	Created  bool      // this instance is made in the present sandbox, of what the Pod says now, and was never started
	Tidying  bool      // the instance before this one is being removed, and has its pipes and files still
	RetryAt  time.Time // an action on it failed: not before then
}

// mayRun says whether it runs, for all that is known.
func (c Container) mayRun() bool { return c.State == Running || c.State == Unknown }

// Stop is the record of a stop, made before the first signal.
type Stop struct {
	Why   Why           `json:"why"`
	Since time.Time     `json:"since"`
	Grace time.Duration `json:"grace"` // after which it is killed
}

// Why says why a container is stopped.
type Why string

// The reasons to stop a container.
const (
	PodEnds        Why = "pod ends"
	PodDone        Why = "pod is done"
	SandboxGone    Why = "sandbox is gone"
	LivenessFailed Why = "liveness failed"
	StartupFailed  Why = "startup failed"
	SpecChanged    Why = "its image was changed"
	ResizeRestarts Why = "resize requires restart"
	HookFailed     Why = "its postStart hook failed"
)

// byProbe says that a probe asked for the stop: then the exit counts as a failure, whatever its code.
func (s *Stop) byProbe() bool {
	return s != nil && (s.Why == LivenessFailed || s.Why == StartupFailed)
}

// ForEdit says that an edit asked for the stop: then the exit counts as nothing, whatever its code.
func (s *Stop) ForEdit() bool { return s != nil && (s.Why == SpecChanged || s.Why == ResizeRestarts) }

// Verb is what an action does.
type Verb string

// The verbs. All of them are idempotent.
const (
	CreateSandbox Verb = "create sandbox"  // network namespace, pause process, volumes
	Attach        Verb = "attach"          // set up the network of the sandbox
	RemoveSandbox Verb = "remove sandbox"  // what is left of it; no container runs in it any more
	Prepare       Verb = "prepare"         // image and writable layer of the next instance
	Create        Verb = "create"          // make the instance that was prepared
	Start         Verb = "start"           // start the main process of the instance that was made
	PostStart     Verb = "postStart of"    // run the hook of an instance that was started
	PreStop       Verb = "preStop of"      // run the hook of an instance that is to be stopped
	Terminate     Verb = "stop"            // record why, and send the stop signal; a hook that still runs is given up
	Kill          Verb = "kill"            // SIGKILL to everything in the container
	Clean         Verb = "clean"           // delete the task of an instance that has ended
	Teardown      Verb = "tear down"       // remove everything that the instance has had in the runtime and on the network
	Tidy          Verb = "tidy"            // remove the instance before another one: never planned here
	Refresh       Verb = "refresh volumes" // bring the files in volumes up to date: never planned here
	Resize        Verb = "resize"          // give what runs the resources that the Pod has by now: never planned here
	Sweep         Verb = "sweep"           // remove the rest of an instance that is torn down: never planned here, for nothing waits for it
)

// Action is one thing to do now. Actions of one plan do not depend on each other.
type Action struct {
	Verb      Verb
	Container string        // empty for the sandbox and the whole Pod
	Attempt   int           // CreateSandbox, Prepare, Create, Start: which one to make
	Backoff   time.Duration // Create: what the restart after this instance will have to wait
	Why       Why           // PreStop, Terminate
	Grace     time.Duration // PreStop: time until the signal; Terminate: time until Kill
}

// String prints an action for people and logs: "stop web (liveness failed)".
func (a Action) String() string {
	s := string(a.Verb)
	if a.Container != "" {
		s += " " + a.Container
	}
	switch {
	case a.Why != "":
		s += fmt.Sprintf(" (%s)", a.Why)
	case a.Attempt > 0:
		s += fmt.Sprintf(" (attempt %d)", a.Attempt)
	}
	return s
}

// Plan is what to do now, and when to look again even if nothing happens.
type Plan struct {
	Actions []Action
	Wake    time.Time // zero: nothing is waited for but events
}

func (p *Plan) do(a Action) { p.Actions = append(p.Actions, a) }

// wake asks for a look at a time, the earliest that was asked for.
func (p *Plan) wake(at time.Time) {
	if p.Wake.IsZero() || at.Before(p.Wake) {
		p.Wake = at
	}
}

// Next plans. The steps are alternatives, tried in this order:
//
//  1. the instance has to go: stop its containers in order, then tear everything down;
//     or all of its containers are to be done over: kill them;
//  2. it is done (every container ended for good): stop the sidecars, then remove the sandbox;
//  3. its sandbox cannot be told of: begin nothing, and kill what should be dead;
//  4. its sandbox is broken: stop what runs, remove the sandbox; or there is none: create it, and prepare images meanwhile;
//  5. run: attach the sandbox to the network; init containers and sidecars one after another, then all others together, each
//     restarted by its policy. What is made need not wait for the network, unless it is told the Pod's address; what starts does.
func Next(pod *v1.Pod, seen Seen, now time.Time) Plan {
	n := next{pod: pod, seen: seen, now: now}
	switch {
	case seen.Ending != nil:
		n.end()
	case seen.Restarting:
		n.restartAll()
	case Done(pod, seen):
		n.finish()
	case seen.Sandbox.State == Running:
		n.run()
	case seen.Sandbox.State == Unknown:
		n.wait()
	default:
		n.sandbox()
	}
	return n.plan
}

// next is one planning.
type next struct {
	pod  *v1.Pod
	seen Seen
	now  time.Time
	plan Plan

	deadline time.Time // of the end of the Pod, once that has begun
}

// ready says whether an action on something may begin now, and if not, sees to it that it is looked at in time.
func (n *next) ready(busy bool, retryAt time.Time) bool {
	if busy {
		return false
	}
	if retryAt.After(n.now) {
		n.plan.wake(retryAt)
		return false
	}
	return true
}

// IsSidecar says whether an init container is a sidecar: it keeps running beside the containers after it
// (kubernetes.io/docs "sidecar containers"). Of another container it says that it is always restarted.
func IsSidecar(c *v1.Container) bool {
	return c.RestartPolicy != nil && *c.RestartPolicy == v1.ContainerRestartPolicyAlways
}

// Grace is how long a Pod's containers have to end: terminationGracePeriodSeconds, at least a second.
func Grace(pod *v1.Pod) time.Duration {
	if s := pod.Spec.TerminationGracePeriodSeconds; s != nil {
		return max(time.Duration(*s)*time.Second, time.Second)
	}
	return v1.DefaultTerminationGracePeriodSeconds * time.Second
}
