package agent

import (
	"fmt"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/podkeeper/podkeeper/agent/plan"
	"github.com/podkeeper/podkeeper/agent/status"
)

// publish reports the Pod, for everyone who asks.
func (w *worker) publish(seen plan.Seen, now time.Time) {
	facts := status.Facts{
		Seen: seen, Containers: map[string]status.Container{}, HostIPs: w.hostIPs(), PodIPs: w.target("").IPs,
		StartTime: w.inst.Pod.CreationTimestamp.Time, Previous: w.inst.Status,
		Conditions: w.inst.Conditions, Resize: w.resizeStatus(),
		RecursiveReadOnly: w.recursiveReadOnly,
	}
	for _, lane := range []string{"", networkLane, lookLane, recordLane} {
		if f := w.faults[lane]; f != nil {
			facts.Reason, facts.Message = f.reason, f.message
		}
	}
	for name, rec := range w.inst.Containers {
		c := status.Container{Image: rec.Image, ImageID: rec.ImageID, Ready: rec.Ready, Exit: rec.Exit, Last: rec.Last, User: rec.User, Given: rec.Given}
		if rec.Launched {
			t := w.target(name)
			c.ID = "containerd://" + t.ID()
			if t.StopSignal != "" {
				c.StopSignal = ptr.To(v1.Signal(t.StopSignal))
			}
		}
		if rec.HookFailed != "" && rec.Exit == nil {
			c.Waiting = &status.Fault{Reason: "PostStartHookError", Message: rec.HookFailed}
		}
		if f := w.faults[name]; f != nil {
			c.Waiting = &status.Fault{Reason: f.reason, Message: f.message}
		}
		if f := w.flights[name]; f.deed.tells != nil {
			if said := f.deed.tells(); said != "" {
				c.Waiting = &status.Fault{Reason: "ContainerCreating", Message: said}
			}
		}
		facts.Containers[name] = c
	}
	w.inst.Status = status.Make(w.inst.Pod, facts, now)
	after := withStatus(w.inst)
	w.changed(w.show(after), after)
	w.measure()
	w.noteStart(&w.inst.Status, now)
}

// show makes a Pod what is reported, nil where there is none, and answers the one before.
func (w *worker) show(pod *v1.Pod) (before *v1.Pod) {
	before = w.published.Swap(pod)
	if w.shown != nil {
		w.shown()
	}
	if w.ended != nil && pod != nil && isTerminal(pod.Status.Phase) && (before == nil || !isTerminal(before.Status.Phase)) {
		w.ended()
	}
	return before
}

// vanish has the Pod be reported no more.
func (w *worker) vanish() {
	if last := w.published.Load(); last != nil && w.noted != nil {
		w.noted(last)
	}
	w.show(nil)
}

// withStatus is the Pod as it is reported: a copy of its top only, for neither side changes what is below.
func withStatus(inst *instance) *v1.Pod {
	pod := *inst.desired()
	pod.Status = inst.Status
	if inst.Ending != nil && inst.Ruling.Verdict != Evicted {
		until := inst.Ending.Until(inst.Pod)
		grace := int64(until.Sub(inst.Ending.Since) / time.Second)
		pod.DeletionTimestamp = &metav1.Time{Time: until}
		pod.DeletionGracePeriodSeconds = &grace
	}
	return &pod
}

// tellBackoff tells people once an instance that the restart of a container waits.
func (w *worker) tellBackoff(seen plan.Seen, now time.Time) {
	for _, c := range plan.Containers(w.inst.Pod) {
		rec := w.inst.Containers[c.Name]
		if rec.Exit == nil || rec.told || plan.BackingOff(w.inst.Pod, seen, c, now).IsZero() {
			continue
		}
		rec.told = true
		w.event(c.Name, v1.EventTypeWarning, "BackOff", fmt.Sprintf("Back-off restarting failed container %s in pod %s_%s(%s)",
			c.Name, w.inst.Pod.Name, w.inst.Pod.Namespace, w.inst.Pod.UID))
	}
}

// measure notes how long it took from the manifest to every container started, once.
func (w *worker) measure() {
	if w.seenAt.IsZero() {
		return
	}
	for _, s := range w.inst.Status.ContainerStatuses {
		if s.State.Running == nil && s.State.Terminated == nil {
			return
		}
	}
	w.metrics.podStart.Observe(time.Since(w.seenAt).Seconds())
	w.metrics.lastStart.SetToCurrentTime()
	w.seenAt = time.Time{}
}
