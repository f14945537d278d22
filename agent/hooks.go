package agent

import (
	"context"
	"errors"
	"time"

	v1 "k8s.io/api/core/v1"

	"github.com/podkeeper/podkeeper/agent/inputs"
	"github.com/podkeeper/podkeeper/agent/node"
	"github.com/podkeeper/podkeeper/agent/plan"
	"github.com/podkeeper/podkeeper/probes"
)

var hooks = []plan.Verb{plan.PostStart, plan.PreStop}

// hookLane is the lane of a hook, beside that of its container: one that hangs hides no exit and blocks no kill.
func hookLane(hook plan.Verb, container string) string { return "/" + string(hook) + "/" + container }

// hook is what a handler asks for.
func (w *worker) hook(t node.Target, h *v1.LifecycleHandler) (probes.Hook, error) {
	return probes.NewHook(h, probes.Target{PodIP: w.address(t), Container: t.Container}, func(ctx context.Context, command []string) (int, []byte, error) {
		return w.host.Exec(ctx, t, inputs.Static(t.Container, command))
	})
}

// address is where probes and hooks find a Pod.
func (w *worker) address(t node.Target) func() string {
	if t.Pod.Spec.HostNetwork {
		return func() string { return first(w.hostIPs()) } // which may change
	}
	return func() string { return first(t.IPs) }
}

// postStart runs the hook of an instance that was started, for as long as it takes. It runs again where an agent was killed
// amid it: it is run at least once.
func (w *worker) postStart(d *deed) {
	t := w.target(d.action.Container)
	hook, err := w.hook(t, t.Container.Lifecycle.PostStart)
	d.lane, d.free = hookLane(plan.PostStart, t.Container.Name), true
	d.do = func(ctx context.Context) error {
		if err != nil {
			return err
		}
		return hook(ctx)
	}
	d.done = func() {
		if rec := w.present(t); rec != nil {
			rec.PostStarted = true
		}
	}
	d.failed = func(err error) {
		if rec := w.present(t); rec != nil && !errors.Is(err, context.Canceled) {
			rec.HookFailed = err.Error()
			w.event(t.Container.Name, v1.EventTypeWarning, "FailedPostStartHook", "PostStartHook failed: "+err.Error())
		}
	}
}

// preStop runs the hook of an instance that is to be stopped, until the time of that is up.
func (w *worker) preStop(d *deed, now time.Time) {
	t := w.target(d.action.Container)
	hook, err := w.hook(t, t.Container.Lifecycle.PreStop)
	d.lane, d.free = hookLane(plan.PreStop, t.Container.Name), true
	d.begin = func() func() {
		if rec := w.inst.Containers[t.Container.Name]; rec.PreStop == nil {
			rec.PreStop = &plan.Stop{Why: d.action.Why, Since: now, Grace: d.action.Grace}
			w.event(t.Container.Name, v1.EventTypeNormal, "Killing", killing(t.Pod, d.action))
		}
		w.cancel(hookLane(plan.PostStart, t.Container.Name))
		return nil
	}
	d.do = func(ctx context.Context) error {
		if err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(ctx, d.action.Grace)
		defer cancel()
		return hook(ctx)
	}
	d.done = func() {
		if rec := w.present(t); rec != nil {
			rec.PreStopDone = true
		}
	}
	d.failed = func(err error) {
		if rec := w.present(t); rec != nil && !errors.Is(err, context.Canceled) {
			rec.PreStopDone = true
			w.event(t.Container.Name, v1.EventTypeWarning, "FailedPreStopHook", "PreStopHook failed: "+err.Error())
		}
	}
}

// latest is the record of an instance, nil where it is the latest no more.
func (w *worker) latest(t node.Target) *record {
	if w.inst == nil || w.inst.Pod.UID != t.Pod.UID {
		return nil
	}
	if rec := w.inst.Containers[t.Container.Name]; rec != nil && rec.Attempt == t.Attempt {
		return rec
	}
	return nil
}

// present is the record of an instance, nil where it has ended or is the latest no more.
func (w *worker) present(t node.Target) *record {
	if rec := w.latest(t); rec != nil && rec.Exit == nil {
		return rec
	}
	return nil
}

// cancel gives up what is under way in a lane.
func (w *worker) cancel(lane string) {
	if f, under := w.flights[lane]; under {
		f.cancel()
	}
}

// endHooks gives up the hooks of a container, and forgets what was wrong with them.
func (w *worker) endHooks(container string) {
	for _, hook := range hooks {
		w.cancel(hookLane(hook, container))
		delete(w.faults, hookLane(hook, container))
	}
}

// hooking says whether a hook of a container is under way, or could not be run just now.
func (w *worker) hooking(container string, now time.Time) bool {
	for _, hook := range hooks {
		if lane := hookLane(hook, container); w.busy(lane) || w.retryAt(lane).After(now) {
			return true
		}
	}
	return false
}

// hooksRetryAt is when a hook that could not be run is tried again.
func (w *worker) hooksRetryAt() (next time.Time) {
	for _, c := range plan.Containers(w.inst.Pod) {
		for _, hook := range hooks {
			next = earliest(next, w.retryAt(hookLane(hook, c.Name)))
		}
	}
	return next
}

// isHooked says whether nothing is missing of the start of a container that runs.
func isHooked(c *v1.Container, rec *record) bool {
	return c.Lifecycle == nil || c.Lifecycle.PostStart == nil || rec.PostStarted
}
