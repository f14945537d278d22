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
	"github.com/podkeeper/podkeeper/manifests"
)

// volumesLane is where files in volumes are brought up to date, beside what containers do.
const volumesLane = "/volumes"

// refer gives the Pod the objects that it refers to as they are from now on. What it needs and is there no more goes on to be
// what it was last. A Pod that asks for it is recreated where they are others.
func (w *worker) refer(now inputs.Objects) {
	if now.Same(w.offered) {
		return
	}
	w.offered = now
	next, complete := maps.Clone(now), true
	for key, needed := range inputs.References(w.inst.Pod) {
		if _, has := now[key]; has || !needed {
			continue
		}
		was, had := w.objects[key]
		if complete = complete && had; had {
			next[key] = was
			w.event("", v1.EventTypeWarning, "ObjectNotFound", fmt.Sprintf("%s is gone: the Pod goes on with what it said last", key))
		}
	}
	if next.Same(w.objects) {
		return
	}
	w.objects, w.stale = next, w.stale || w.objects != nil // a new instance is made with them
	if complete {
		w.recreateOnChange()
	}
}

// recreateOnChange ends an instance that was given other objects than there are now, if its Pod asks for that.
func (w *worker) recreateOnChange() {
	was, now := w.inst.Given, w.objects.Digest()
	if w.inst.Pod.Annotations[manifests.RecreateOnChange] != "true" {
		now = ""
	}
	w.inst.Given = now
	if was != "" && now != "" && was != now {
		w.end("a ConfigMap or Secret that it refers to was changed", Ruling{})
	}
}

// refresh brings the files in the Pod's volumes up to date where they may not be: what they tell was changed, or was when an
// agent ended, or a token in them is old. It answers when to try again.
func (w *worker) refresh() (next time.Time) {
	w.stale = w.stale || !w.renewAt.IsZero() && !time.Now().Before(w.renewAt)
	if !w.stale {
		return w.renewAt
	}
	if w.unknown() || w.inst.rebuilt || w.inst.Ending != nil || !w.inst.Sandbox.Ready || w.busy("") || w.busy(volumesLane) {
		return next
	}
	if at := w.retryAt(volumesLane); at.After(time.Now()) {
		return at
	}
	t := w.target("")
	w.stale, w.renewAt = false, inputs.RenewAt(t.Pod, time.Now())
	if !slices.ContainsFunc(t.Pod.Spec.Volumes, func(v v1.Volume) bool { return inputs.HasFiles(&v) }) {
		return next
	}
	next = w.renewAt
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
