package agent

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	v1 "k8s.io/api/core/v1"

	"github.com/podkeeper/podkeeper/agent/inputs"
	"github.com/podkeeper/podkeeper/agent/plan"
)

// volumesLane is where files in volumes are brought up to date, beside what containers do.
const volumesLane = "/volumes"

// refer gives the Pod the objects that it refers to as they are from now on. What it needs and is there no more goes on to be
// what it was last.
func (w *worker) refer(now inputs.Objects) {
	if now.Same(w.offered) {
		return
	}
	w.offered = now
	next := maps.Clone(now)
	for key, needed := range inputs.References(w.inst.Pod) {
		was, had := w.objects[key]
		if _, has := now[key]; had && !has && needed {
			next[key] = was
			w.event("", v1.EventTypeWarning, "ObjectNotFound", fmt.Sprintf("%s is gone: the Pod goes on with what it said last", key))
		}
	}
	if !next.Same(w.objects) {
		w.objects, w.stale = next, true
	}
}

// refresh brings the files in the Pod's volumes up to date where they may not be: what they tell was changed, or was when an
// agent ended. It answers when to try again.
func (w *worker) refresh() (next time.Time) {
	if !w.stale || w.inst.rebuilt || w.inst.Ending != nil || !w.inst.Sandbox.Ready || w.busy("") || w.busy(volumesLane) {
		return next
	}
	if at := w.retryAt(volumesLane); at.After(time.Now()) {
		return at
	}
	w.stale = false
	t := w.target("")
	if !slices.ContainsFunc(t.Pod.Spec.Volumes, func(v v1.Volume) bool { return inputs.HasFiles(&v) }) {
		return next
	}
	w.next[volumesLane] = deed{
		lane: volumesLane, action: plan.Action{Verb: plan.Refresh},
		do: func(ctx context.Context) error { return w.host.Refresh(ctx, t) },
		failed: func(err error) {
			w.stale = true
			w.event("", v1.EventTypeWarning, "FailedMount", err.Error())
			w.delay(volumesLane, firstRetry, maxRetry)
		},
	}
	return next
}
