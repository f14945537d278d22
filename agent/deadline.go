package agent

import (
	"time"

	v1 "k8s.io/api/core/v1"
)

// exceeded is the ruling about a Pod that was active for longer than its activeDeadlineSeconds (kubernetes/kubernetes
// pkg/kubelet/active_deadline.go).
var exceeded = Ruling{Verdict: Evicted, Reason: "DeadlineExceeded", Message: "Pod was active on the node longer than the specified deadline"}

// deadline asks for the end of a Pod that has been active for as long as it may, and answers when that is. The time counts from
// the Pod's start, whatever its containers do.
func (w *worker) deadline(now time.Time) time.Time {
	seconds, phase := w.inst.Pod.Spec.ActiveDeadlineSeconds, w.inst.Status.Phase
	if seconds == nil || w.inst.rebuilt || w.inst.Ending != nil || isTerminal(phase) {
		return time.Time{}
	}
	at := w.inst.Pod.CreationTimestamp.Add(time.Duration(*seconds) * time.Second)
	if now.Before(at) {
		return at
	}
	if w.told != exceeded {
		w.told = exceeded
		w.event("", v1.EventTypeNormal, exceeded.Reason, exceeded.Message)
	}
	w.rule(w.key, w.inst.Revision, exceeded)
	return now.Add(firstRetry) // until a source that wants the Pod has been heard, nobody can be asked
}
