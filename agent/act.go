package agent

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/podkeeper/podkeeper/agent/plan"
	"github.com/podkeeper/podkeeper/runtime"
)

// result is what became of an action. apply records it, in the worker's goroutine.
type result struct {
	action plan.Action
	err    error
	apply  func()
}

// begin records what must be known before an action is done.
func (w *worker) begin(a plan.Action, now time.Time) {
	rec := w.inst.Containers[a.Container]
	switch a.Verb {
	case plan.CreateSandbox:
		w.register(w.target("").sandboxID(), nil)
		w.inst.Sandbox = sandboxRecord{Attempt: a.Attempt, Made: true}
	case plan.RemoveSandbox:
		w.inst.Sandbox.Ready = false
	case plan.Start:
		w.beginStart(rec, a, now)
	case plan.Terminate:
		if rec.Stop == nil || rec.Signalled {
			rec.Stop, rec.Signalled = &plan.Stop{Why: a.Why, Since: now, Grace: a.Grace}, false
		}
	}
}

// beginStart makes the record that of the next instance: from here on something of it may be there.
func (w *worker) beginStart(rec *record, a plan.Action, now time.Time) {
	cutOff := rec.Launched && rec.Exit == nil && rec.Attempt == a.Attempt
	last := rec.Last
	if rec.Exit != nil {
		last = rec.Exit
	}
	image := w.prepared[a.Container].image
	w.register(w.target(a.Container).id(), nil) // the last instance has nothing more to tell
	*rec = record{
		Attempt: a.Attempt, Sandbox: w.inst.Sandbox.Attempt, CreatedAt: now, Launched: true, leftover: cutOff, Backoff: a.Backoff,
		Last: last, Image: image.Name, ImageID: image.Digest, StopSignal: image.Config.StopSignal,
	}
}

// launch does an action in its own goroutine.
func (w *worker) launch(ctx context.Context, a plan.Action) {
	if w.rest != nil {
		w.rest.Reset(restAfter)
	}
	w.log.Info("act", "pod", w.key.String(), "action", a.String())
	ctx, cancel := context.WithCancel(ctx)
	w.flights[a.Container] = flight{action: a, cancel: cancel}
	t := w.target(a.Container)
	do := w.doing(a, t)
	if a.Verb == plan.Start {
		w.register(t.id(), w)
	}
	go func() {
		defer cancel()
		bounded := ctx
		if a.Verb != plan.Prepare { // a pull takes as long as it takes
			var done context.CancelFunc
			bounded, done = context.WithTimeout(ctx, w.timeout)
			defer done()
		}
		apply, err := w.inTurn(bounded, a, do)
		w.results <- result{action: a, err: err, apply: apply}
	}()
}

// inTurn does an action when its turn comes, if its kind takes turns.
func (w *worker) inTurn(ctx context.Context, a plan.Action, do func(context.Context) (func(), error)) (func(), error) {
	if turns, ok := w.turns[a.Verb]; ok {
		give, err := turns.take(ctx)
		if err != nil {
			return nil, err
		}
		defer give()
	}
	return do(ctx)
}

// doing answers a function that does an action and says what is to be recorded when it succeeded. That function must not
// touch the worker's own fields: it runs beside the worker. What it says is recorded in the worker's goroutine.
func (w *worker) doing(a plan.Action, t target) func(context.Context) (func(), error) {
	switch a.Verb {
	case plan.CreateSandbox:
		return w.createSandbox(t)
	case plan.RemoveSandbox:
		return func(ctx context.Context) (func(), error) {
			return func() { w.inst.Sandbox.Made, w.inst.Sandbox.IPs = false, nil }, w.host.RemoveSandbox(ctx, t)
		}
	case plan.Prepare:
		return w.prepare(a, t)
	case plan.Start:
		return w.start(a, t)
	case plan.Terminate:
		w.killing(a)
		return func(ctx context.Context) (func(), error) {
			return func() { w.inst.Containers[a.Container].Signalled = true }, w.host.Signal(ctx, t, false)
		}
	case plan.Kill:
		return func(ctx context.Context) (func(), error) { return nil, w.host.Signal(ctx, t, true) }
	case plan.Clean:
		return func(ctx context.Context) (func(), error) {
			return func() { w.cleaned(a.Container) }, w.host.Clean(ctx, t)
		}
	case plan.Teardown:
		attempts := map[string]int{}
		for name, rec := range w.inst.Containers {
			attempts[name] = rec.Attempt
		}
		return func(ctx context.Context) (func(), error) { return w.tornDown, w.host.Teardown(ctx, t, attempts) }
	default:
		return func(context.Context) (func(), error) { return nil, fmt.Errorf("%s: no such action", a.Verb) }
	}
}

func (w *worker) createSandbox(t target) func(context.Context) (func(), error) {
	return func(ctx context.Context) (func(), error) {
		begin := time.Now()
		ips, err := w.host.CreateSandbox(ctx, t)
		if err != nil {
			return nil, err
		}
		w.metrics.sandbox.Observe(time.Since(begin).Seconds())
		return func() { w.inst.Sandbox.Ready, w.inst.Sandbox.IPs = true, ips }, nil
	}
}

func (w *worker) prepare(a plan.Action, t target) func(context.Context) (func(), error) {
	rec := w.inst.Containers[a.Container]
	clean := rec.Exit != nil && !rec.Cleaned
	t.attempt = a.Attempt
	return func(ctx context.Context) (func(), error) {
		pull, err := w.host.Prepare(ctx, t, clean, func() {
			w.events.add(t.pod, a.Container, v1.EventTypeNormal, "Pulling", fmt.Sprintf("Pulling image %q", t.container.Image))
		})
		if err != nil {
			return nil, err
		}
		message := fmt.Sprintf("Container image %q already present on machine", t.container.Image)
		if pull.Pulled {
			w.metrics.pull.Observe(pull.Took.Seconds())
			message = fmt.Sprintf("Successfully pulled image %q in %s (%s including waiting). Image size: %d bytes.", t.container.Image,
				pull.Took.Truncate(time.Millisecond), pull.Waiting.Truncate(time.Millisecond), pull.Image.Size)
		}
		w.events.add(t.pod, a.Container, v1.EventTypeNormal, "Pulled", message)
		return func() {
			w.prepared[a.Container] = prepared{attempt: a.Attempt, image: pull.Image}
			if clean {
				w.cleaned(a.Container)
			}
		}, nil
	}
}

func (w *worker) start(a plan.Action, t target) func(context.Context) (func(), error) {
	image := w.prepared[a.Container].image
	return func(ctx context.Context) (func(), error) {
		startedAt, err := w.host.Start(ctx, t, image)
		if err != nil {
			return nil, err
		}
		w.events.add(t.pod, a.Container, v1.EventTypeNormal, "Created", "Created container: "+a.Container)
		w.events.add(t.pod, a.Container, v1.EventTypeNormal, "Started", "Started container "+a.Container)
		if a.Attempt > 0 {
			w.metrics.restarts.Inc()
		}
		return func() { w.inst.Containers[a.Container].StartedAt = startedAt }, nil
	}
}

// killing tells people that, and why, a container is stopped.
func (w *worker) killing(a plan.Action) {
	message := "Stopping container " + a.Container
	switch a.Why {
	case plan.LivenessFailed:
		message = fmt.Sprintf("Container %s failed liveness probe, will be restarted", a.Container)
	case plan.StartupFailed:
		message = fmt.Sprintf("Container %s failed startup probe, will be restarted", a.Container)
	}
	w.events.add(w.inst.Pod, a.Container, v1.EventTypeNormal, "Killing", message)
}

// cleaned records that nothing of an ended instance is left in the runtime, and completes what is told of its end.
func (w *worker) cleaned(name string) {
	rec := w.inst.Containers[name]
	rec.Cleaned = true
	c := w.container(name)
	if rec.Exit.Message == "" && rec.Exit.ExitCode != 0 && c.TerminationMessagePolicy == v1.TerminationMessageFallbackToLogsOnError {
		rec.Exit.Message = w.host.LogMessage(w.target(name))
	}
}

// tornDown lets go of the instance. What is left of it on disk is swept beside whatever comes next.
func (w *worker) tornDown() {
	pod := w.inst.Pod
	w.register(w.target("").sandboxID(), nil)
	for name := range w.inst.Containers {
		w.register(w.target(name).id(), nil)
		w.endProbes(name)
	}
	if err := w.host.Sweep(pod); err != nil {
		w.sweep(pod, err)
	}
	w.inst = nil
	w.published.Store(nil)
}

// sweep tries until it succeeds, or the agent ends: its next life will go on with it.
func (w *worker) sweep(pod *v1.Pod, err error) {
	w.events.add(pod, "", v1.EventTypeWarning, "FailedCleanup", err.Error())
	w.log.Warn("pod is not swept", "pod", w.key.String(), "error", err)
	w.mu.Lock()
	w.unswept[pod.UID] = true
	w.mu.Unlock()
	delay := time.Second
	var again func()
	again = func() {
		if err := w.host.Sweep(pod); err != nil {
			w.events.add(pod, "", v1.EventTypeWarning, "FailedCleanup", err.Error())
			delay = min(2*delay, time.Minute)
			time.AfterFunc(delay, again)
			return
		}
		w.mu.Lock()
		delete(w.unswept, pod.UID)
		w.mu.Unlock()
		w.Wake()
	}
	time.AfterFunc(delay, again)
}

// take records the result of an action.
func (w *worker) take(ctx context.Context, r result) {
	name := r.action.Container
	delete(w.flights, name)
	if r.err == nil {
		if r.action.Verb != plan.RemoveSandbox { // what made its removal necessary may happen again
			delete(w.faults, name)
		}
		if r.action.Verb == plan.Kill { // the end is an event of its own: again only if that does not come
			w.delay(name, firstRetry, maxRetry)
		}
		if r.apply != nil {
			r.apply()
		}
		return
	}
	if ctx.Err() != nil || w.inst.Ending != nil && startsSomething(r.action) {
		return // given up on purpose
	}
	w.log.Warn("action failed", "pod", w.key.String(), "action", r.action.String(), "error", r.err)
	w.judge(r)
}

// judge decides what the failure of an action means.
func (w *worker) judge(r result) {
	name := r.action.Container
	event := func(reason, message string) {
		w.events.add(w.inst.Pod, name, v1.EventTypeWarning, reason, message)
	}
	var config *configFault
	switch {
	case r.action.Verb == plan.Prepare:
		w.failPull(name, r.err)
	case r.action.Verb == plan.Start && errors.As(r.err, &config):
		event("Failed", "Error: "+r.err.Error())
		w.fail(name, config.reason, r.err)
	case r.action.Verb == plan.Start && !passing(r.err):
		event("Failed", "Error: "+r.err.Error())
		w.startError(name, r.err)
	case r.action.Verb == plan.CreateSandbox:
		event("FailedCreatePodSandBox", "Failed to create pod sandbox: "+r.err.Error())
		w.fail(name, "FailedCreatePodSandBox", r.err)
	default:
		w.fail(name, "RuntimeError", r.err)
	}
}

// passing says whether an error is about the way to the runtime and not about what was asked of it.
func passing(err error) bool {
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) || runtime.IsUnavailable(err)
}

// startError records an instance whose main process could not be started as one that ended at once, as containerd does
// under CRI (StartError, 128): the back-off applies.
func (w *worker) startError(name string, err error) {
	rec := w.inst.Containers[name]
	now := metav1.Now()
	rec.Exit = &v1.ContainerStateTerminated{
		ExitCode: 128, Reason: "StartError", Message: err.Error(), StartedAt: metav1.NewTime(rec.CreatedAt), FinishedAt: now,
		ContainerID: "containerd://" + w.target(name).id(),
	}
	rec.StartedAt = rec.CreatedAt
}

// fault is why the last action on something failed, and when it is tried again.
type fault struct {
	reason, message string
	delay           time.Duration
	retryAt         time.Time
}

// Delays between tries.
const (
	firstRetry     = time.Second
	maxRetry       = 30 * time.Second
	firstPullRetry = 10 * time.Second // kubernetes/kubernetes pkg/kubelet/images
	maxPullRetry   = 300 * time.Second
)

func (w *worker) retryAt(name string) time.Time {
	if f := w.faults[name]; f != nil {
		return f.retryAt
	}
	return time.Time{}
}

// fail notes a failure; the next try waits, longer each time.
func (w *worker) fail(name, reason string, err error) {
	w.delay(name, firstRetry, maxRetry)
	w.faults[name].reason, w.faults[name].message = reason, err.Error()
}

func (w *worker) delay(name string, first, limit time.Duration) {
	f := w.faults[name]
	if f == nil {
		f = &fault{}
		w.faults[name] = f
	}
	f.delay = min(max(2*f.delay, first), limit)
	f.retryAt = time.Now().Add(f.delay)
}

// failPull notes a failed pull in Kubernetes' words: the second failure on is a back-off.
func (w *worker) failPull(name string, err error) {
	reason := "CreateContainerError"
	for _, known := range []error{runtime.ErrInvalidImageName, runtime.ErrImageNeverPull, runtime.ErrImagePull, runtime.ErrImageInspect} {
		if errors.Is(err, known) {
			reason = known.Error()
		}
	}
	message := strings.TrimPrefix(err.Error(), reason+": ")
	w.events.add(w.inst.Pod, name, v1.EventTypeWarning, "Failed", "Failed to pull image: "+message)
	w.events.add(w.inst.Pod, name, v1.EventTypeWarning, "Failed", "Error: "+reason)
	repeated := w.faults[name] != nil
	w.delay(name, firstPullRetry, maxPullRetry)
	f := w.faults[name]
	f.reason, f.message = reason, message
	if repeated && reason == runtime.ErrImagePull.Error() {
		image := w.container(name).Image
		f.reason, f.message = "ImagePullBackOff", fmt.Sprintf("Back-off pulling image %q: %s: %s", image, reason, message)
		w.events.add(w.inst.Pod, name, v1.EventTypeNormal, "BackOff", fmt.Sprintf("Back-off pulling image %q", image))
	}
}
