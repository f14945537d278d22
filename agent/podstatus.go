package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/podkeeper/podkeeper/agent/status"
	"github.com/podkeeper/podkeeper/manifests"
	"github.com/podkeeper/podkeeper/server"
)

// PutStatus takes conditions that are not the kubelet's own, such as those of readiness gates, into a Pod that has begun. All
// else of the status, and what stands beside it, is the agent's to say, and left out.
func (a *Agent) PutStatus(id server.ObjectID, body []byte, want server.Condition) ([]byte, error) {
	if id.Resource != podResource {
		return nil, server.As(server.ErrNoObject, id.Resource+": nobody but the agent says what their status is")
	}
	var now v1.Pod
	if err := json.Unmarshal(body, &now); err != nil {
		return nil, server.As(server.ErrInvalid, fmt.Sprintf("pods %q: not a Pod: %v", id.Name, err))
	}
	pod := types.NamespacedName{Namespace: id.Namespace, Name: id.Name}
	return a.askReported(pod, func(w *worker) error { return w.putConditions(&now, want.DryRun) })
}

// putConditions makes the conditions of others those of a Pod that was written.
func (w *worker) putConditions(written *v1.Pod, dryRun bool) error {
	switch {
	case w.inst == nil:
		return fmt.Errorf("%w: %s has not begun", server.ErrConflict, w.key)
	case written.UID != "" && written.UID != w.inst.Pod.UID:
		return fmt.Errorf("%w: %s is another one than it was: its UID is %s now", server.ErrConflict, w.key, w.inst.Pod.UID)
	}
	of := slices.DeleteFunc(slices.Clone(written.Status.Conditions), func(c v1.PodCondition) bool { return status.IsOwn(c.Type) })
	was := withStatus(w.inst)
	now := was.DeepCopy()
	now.Status.Conditions = status.WithOthers(w.inst.Pod, was.Status.Conditions, of, time.Now())
	if faults := manifests.CheckStatusEdit(now, was); len(faults) > 0 {
		return fmt.Errorf("%w: %w", server.ErrInvalid, faults.ToAggregate())
	}
	if dryRun {
		return nil
	}
	before, statusBefore := w.inst.Conditions, w.inst.Status
	w.inst.Conditions, w.inst.Status = of, now.Status
	if !w.save() {
		w.inst.Conditions, w.inst.Status = before, statusBefore
		return errors.New("the record of the Pod cannot be written")
	}
	after := withStatus(w.inst)
	w.changed(w.show(after), after)
	return nil
}
