package agent

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/podkeeper/podkeeper/agent/node"
	"github.com/podkeeper/podkeeper/agent/plan"
	"github.com/podkeeper/podkeeper/agent/status"
	"github.com/podkeeper/podkeeper/manifests"
)

// resizing is what is remembered of a Pod that was granted other resources than it had, until all of it has them and nothing is
// left that has others.
type resizing struct {
	Generation int64               `json:"generation"`      // of the Pod when they were granted
	Most       manifests.Resources `json:"most"`            // that any of it may have meanwhile
	Begun      []string            `json:"begun,omitempty"` // containers that may have more or less by now than is recorded of them
	Error      string              `json:"error,omitempty"`
}

// resizeLane is where what runs is given other resources, beside what containers do.
const resizeLane = "/resize"

// resize brings the resources of the Pod towards those that are wanted: they are granted once the node has room for them, then
// given to what runs. It answers when to try again.
func (w *worker) resize() time.Time {
	if w.inst.Ending != nil || w.inst.rebuilt {
		return time.Time{}
	}
	w.grantResources()
	return w.giveResources()
}

// grantResources grants the resources that are wanted where the node has room for them.
func (w *worker) grantResources() {
	pending := status.Fault{}
	switch wanted := w.inst.desired(); {
	case w.inst.Wanted != nil:
		if pending.Reason, pending.Message = w.reallot(w, wanted, w.room()); pending.Reason == "" {
			w.granted(wanted)
		}
	case w.pending.Reason != "": // it waits no longer
		w.reallot(w, wanted, nil)
	}
	if pending.Reason != "" && pending.Reason != w.pending.Reason {
		w.tellResize(v1.EventTypeWarning, "Resize"+pending.Reason, "Pod resize "+pending.Reason, w.inst.desired(), pending.Message)
	}
	w.pending = pending
}

// desired is the Pod with the resources that are wanted for it.
func (i *instance) desired() *v1.Pod {
	if i.Wanted == nil {
		return i.Pod
	}
	return i.Wanted.In(i.Pod)
}

// granted makes a Pod with other resources the one that is run.
func (w *worker) granted(pod *v1.Pod) {
	had := resizing{Most: manifests.ResourcesOf(w.inst.Pod)}
	if w.inst.Resizing != nil {
		had = *w.inst.Resizing
	}
	w.inst.Pod, w.inst.Wanted = pod, nil
	w.inst.Resizing = &resizing{Generation: pod.Generation, Most: most(had.Most, manifests.ResourcesOf(pod)), Begun: had.Begun}
	w.stale = true // files in volumes may tell of resources
	w.widened = false
	delete(w.faults, resizeLane)
	w.tellResize(v1.EventTypeNormal, "ResizeStarted", "Pod resize started", pod, "")
}

// giveResources gives the resources that the Pod has by now to its cgroup and to the containers that run. Those that must be made
// anew to get them keep what they have until they are, and the Pod's cgroup has room for that as long as anything of them is left.
// It answers when to try again.
func (w *worker) giveResources() (next time.Time) {
	if w.inst.Resizing == nil || !w.inst.Sandbox.Ready || w.busy("") || w.busy(resizeLane) || w.anyFlight(func(d deed) bool { return d.action.Verb == plan.Create }) {
		return next
	}
	if at := w.retryAt(resizeLane); at.After(time.Now()) {
		return at
	}
	those, settled := w.toResize()
	if w.widened && len(those) == 0 && !settled {
		return next // until that is gone
	}
	t := w.target("")
	after := t.Room
	if settled {
		after = t.Pod
	}
	for _, c := range those {
		if begun := &w.inst.Resizing.Begun; !slices.Contains(*begun, c.Container.Name) {
			*begun = append(*begun, c.Container.Name)
		}
	}
	if !w.save() { // or the next agent would not know what there may be of it
		return next
	}
	var given []string
	w.next[resizeLane] = deed{
		lane: resizeLane, action: plan.Action{Verb: plan.Resize},
		do: func(ctx context.Context) (err error) {
			given, err = w.host.Resize(ctx, t, those, after)
			return err
		},
		done: func() {
			w.noteGiven(t.Pod, given)
			if w.widened = true; settled && w.inst.Pod == t.Pod {
				w.inst.Resizing = nil
				w.tellResize(v1.EventTypeNormal, "ResizeCompleted", "Pod resize completed", t.Pod, "")
			}
		},
		failed: func(err error) {
			w.noteGiven(t.Pod, given)
			w.delay(resizeLane, firstRetry, maxRetry)
			w.widened = true // which comes first, and what is not wide enough is told of by whoever needs it
			if message := err.Error(); w.inst.Resizing != nil && w.inst.Resizing.Error != message {
				w.inst.Resizing.Error = message
				w.tellResize(v1.EventTypeWarning, "ResizeError", "Pod resize error", t.Pod, message)
			}
		},
	}
	return next
}

// toResize are the containers that run, and may have other resources than the Pod gives them. settled is that they are all that is
// left that does.
func (w *worker) toResize() (those []node.Resize, settled bool) {
	settled = true
	of := w.inst.Resizing
	for _, c := range plan.Containers(w.inst.Pod) {
		rec, begun := w.inst.Containers[c.Name], slices.Contains(of.Begun, c.Name)
		switch {
		case rec.Uncleaned || rec.Exit != nil && !rec.Cleaned || rec.runs() && rec.restartsFor(w.inst.Pod, c):
			settled = false
		case rec.runs() && begun:
			most := of.Most.Containers[c.Name]
			those = append(those, node.Resize{Target: w.target(c.Name), Given: &most, GivenPod: of.Most.Pod})
		case rec.runs() && !rec.has(w.inst.Pod, c):
			those = append(those, node.Resize{Target: w.target(c.Name), Given: rec.Given, GivenPod: rec.GivenPod})
		}
	}
	return those, settled
}

// noteGiven records which containers have the resources that a version of the Pod gives them.
func (w *worker) noteGiven(pod *v1.Pod, names []string) {
	for _, c := range plan.Containers(pod) {
		if rec := w.inst.Containers[c.Name]; rec.runs() && slices.Contains(names, c.Name) {
			rec.give(pod, c)
		}
	}
	if of := w.inst.Resizing; of != nil {
		of.Begun = slices.DeleteFunc(of.Begun, func(name string) bool { return slices.Contains(names, name) })
	}
}

// give records that the present instance of a container has the resources that a version of its Pod gives it.
func (r *record) give(pod *v1.Pod, c *v1.Container) {
	r.Given, r.GivenPod = c.Resources.DeepCopy(), pod.Spec.Resources.DeepCopy()
}

// runs says whether there is an instance that was not seen to end.
func (r *record) runs() bool { return r.Launched && r.Exit == nil }

// has says whether the present instance of a container has the resources that its Pod gives it.
func (r *record) has(pod *v1.Pod, c *v1.Container) bool {
	return r.Given != nil && equality.Semantic.DeepEqual(*r.Given, c.Resources) && equality.Semantic.DeepEqual(r.GivenPod, pod.Spec.Resources)
}

// given is the limit of a resource that the present instance has; zero is none.
func (r *record) given(name v1.ResourceName) resource.Quantity {
	if r.Given == nil {
		return resource.Quantity{}
	}
	return limitOf(name, r.Given, r.GivenPod)
}

// limitOf is what a container is limited to: by a limit of its own, else by that of its Pod.
func limitOf(name v1.ResourceName, own, pod *v1.ResourceRequirements) resource.Quantity {
	if q := own.Limits[name]; !q.IsZero() || pod == nil {
		return q
	}
	return pod.Limits[name]
}

// restartsFor says whether a container has to be made anew to get the resources that its Pod gives it by now.
func (r *record) restartsFor(pod *v1.Pod, c *v1.Container) bool {
	if r.Given == nil {
		return false
	}
	for _, policy := range c.ResizePolicy {
		name := policy.ResourceName
		requests, requested := c.Resources.Requests[name], r.Given.Requests[name]
		limit, limited := limitOf(name, &c.Resources, pod.Spec.Resources), r.given(name)
		if policy.RestartPolicy == v1.RestartContainer && (requests.Cmp(requested) != 0 || limit.Cmp(limited) != 0) {
			return true
		}
	}
	return false
}

// most are resources that have room for both of two versions of a Pod.
func most(a, b manifests.Resources) manifests.Resources {
	both := manifests.Resources{Pod: atMost(a.Pod, b.Pod), Containers: map[string]v1.ResourceRequirements{}}
	for name, of := range b.Containers {
		if had, ok := a.Containers[name]; ok {
			of = *atMost(&had, &of)
		}
		both.Containers[name] = of
	}
	return both
}

// atMost are resources that have room for both of two: a limit that one of them lacks is none.
func atMost(a, b *v1.ResourceRequirements) *v1.ResourceRequirements {
	if a == nil || b == nil {
		return nil
	}
	most := &v1.ResourceRequirements{Requests: maps.Clone(b.Requests), Limits: v1.ResourceList{}}
	for name, q := range a.Requests {
		if other, ok := most.Requests[name]; !ok || q.Cmp(other) > 0 {
			if most.Requests == nil {
				most.Requests = v1.ResourceList{}
			}
			most.Requests[name] = q
		}
	}
	for name, q := range a.Limits {
		if other, ok := b.Limits[name]; ok {
			if q.Cmp(other) < 0 {
				q = other
			}
			most.Limits[name] = q
		}
	}
	return most
}

// resizeStatus is what is told of the way to other resources.
func (w *worker) resizeStatus() (r status.Resize) {
	if w.pending.Reason != "" {
		r.Pending = &status.Fault{Reason: w.pending.Reason, Message: w.pending.Message}
	}
	if of := w.inst.Resizing; of != nil {
		r.InProgress, r.Generation, r.Error = true, of.Generation, of.Error
	}
	return r
}

// tellResize tells people of a resize, and what it is about, as the kubelet does (kubernetes/kubernetes pkg/kubelet/events).
func (w *worker) tellResize(kind, reason, what string, pod *v1.Pod, fault string) {
	type container struct {
		Name      string                  `json:"name"`
		Resources v1.ResourceRequirements `json:"resources,omitempty"`
	}
	about := struct {
		Init       []container `json:"initContainers,omitempty"`
		Containers []container `json:"containers,omitempty"`
		Generation int64       `json:"generation"`
		Error      string      `json:"error,omitempty"`
	}{Generation: pod.Generation, Error: fault}
	for i := range pod.Spec.InitContainers {
		about.Init = append(about.Init, container{pod.Spec.InitContainers[i].Name, pod.Spec.InitContainers[i].Resources})
	}
	for i := range pod.Spec.Containers {
		about.Containers = append(about.Containers, container{pod.Spec.Containers[i].Name, pod.Spec.Containers[i].Resources})
	}
	text, err := json.Marshal(about)
	if err != nil {
		text = []byte(err.Error())
	}
	w.event("", kind, reason, fmt.Sprintf("%s: %s", what, text))
}
