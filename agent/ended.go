package agent

import (
	"context"
	"errors"

	v1 "k8s.io/api/core/v1"

	"github.com/podkeeper/podkeeper/agent/objects"
	"github.com/podkeeper/podkeeper/agent/reclaim"
	"github.com/podkeeper/podkeeper/manifests"
	"github.com/podkeeper/podkeeper/server"
)

// noteEnded hears that a Pod has ended, or that it is time to look.
func (a *Agent) noteEnded() {
	select {
	case a.endings <- struct{}{}:
	default:
	}
}

// keepFewEnded removes, until ctx ends, Pods that were made through an API and have ended, when there are too many: whoever has
// made them may have forgotten them. Those of the manifest directory are the user's.
func (a *Agent) keepFewEnded(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-a.endings:
		}
		for _, pod := range reclaim.Ended(a.madeForGood(), a.cfg.MaxEnded) {
			if err := a.removeEnded(pod); err != nil {
				a.log.Warn("pod that has ended stays until the next one ends", "pod", key(pod).String(), "error", err)
			}
		}
	}
}

// madeForGood are the Pods that were made through an API, but for those that have ended for a shutdown only, and are to be back.
func (a *Agent) madeForGood() (made []*v1.Pod) {
	for _, w := range a.all() {
		if pod := w.published.Load(); pod != nil && w.source() == SourceAPI && !returns(pod, w.ruling()) {
			made = append(made, pod)
		}
	}
	return made
}

// removeEnded removes the object of a Pod that has ended, unless it is another one by now.
func (a *Agent) removeEnded(pod *v1.Pod) error {
	o, err := a.objects.Get(objects.IDOf(manifests.PodKey(key(pod))))
	if err != nil || uidOf(o) != pod.UID || objects.Ending(o.Content) {
		return nil
	}
	a.log.Info("remove pod that has ended: there are too many", "pod", key(pod).String(), "created", pod.CreationTimestamp.Time)
	id := server.ObjectID{Resource: podResource, Namespace: pod.Namespace, Name: pod.Name}
	_, _, err = a.DeleteObject(id, server.Condition{Revision: o.Revision}, nil)
	if errors.Is(err, server.ErrChanged) || errors.Is(err, server.ErrNoObject) {
		return nil
	}
	return err
}
