package agent

import (
	"slices"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// preemption is what has an instance make room for a Pod of higher priority.
type preemption struct {
	uid types.UID // of the instance
	by  types.NamespacedName
}

// preempt asks that an instance make room for another Pod.
func (w *worker) preempt(uid types.UID, by types.NamespacedName) {
	w.mu.Lock()
	w.preempted = preemption{uid, by}
	w.mu.Unlock()
	w.Wake()
}

// giveWay ends the instance to make room, in peace. What follows it waits for its turn, as any Pod does. The words are the
// scheduler's, with the name of the other Pod in place of its UID (kubernetes/kubernetes
// pkg/scheduler/framework/preemption/executor.go).
func (w *worker) giveWay(by types.NamespacedName) {
	w.disrupt(v1.PodReasonPreemptionByScheduler, v1.DefaultSchedulerName+": preempting to accommodate a higher priority pod")
	w.event("", v1.EventTypeNormal, "Preempted", "Preempted by pod "+by.String()+" on node "+w.node().Name)
	w.end("it makes room for "+by.String(), Ruling{})
}

// disrupt says of the instance that it ends for others' sake.
func (w *worker) disrupt(reason, message string) {
	kept := slices.DeleteFunc(slices.Clone(w.inst.Conditions), func(c v1.PodCondition) bool { return c.Type == v1.DisruptionTarget })
	kept = append(kept, v1.PodCondition{
		Type: v1.DisruptionTarget, Status: v1.ConditionTrue, Reason: reason, Message: message, LastTransitionTime: metav1.NewTime(time.Now()),
	})
	w.inst.Conditions = kept // what was is published
}
