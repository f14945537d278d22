package agent

import (
	"errors"
	"fmt"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/podkeeper/podkeeper/manifests"
	"github.com/podkeeper/podkeeper/server"
)

// AddEphemeral adds an ephemeral container, a v1.EphemeralContainer in JSON, to a Pod that runs. It answers the Pod with it.
// The error is server.ErrNoPod, server.ErrConflict where the Pod does not run, server.ErrInvalid with what is wrong with the
// container, or that the record cannot be written.
func (a *Agent) AddEphemeral(pod types.NamespacedName, container []byte) (*v1.Pod, error) {
	published, err := a.askOf(pod, func(w *worker) error { return w.addEphemeral(container) })
	if err != nil {
		return nil, err
	}
	reported := a.reported(published)
	return &reported, nil
}

func (w *worker) addEphemeral(container []byte) error {
	switch {
	case w.inst == nil:
		return fmt.Errorf("%w: %s has not begun", server.ErrConflict, w.key)
	case w.inst.Ending != nil || w.inst.TornDown:
		return fmt.Errorf("%w: %s ends", server.ErrConflict, w.key)
	case w.inst.rebuilt:
		return fmt.Errorf("%w: what %s is made of is not known yet", server.ErrConflict, w.key)
	case isTerminal(w.inst.Status.Phase):
		return fmt.Errorf("%w: %s is done", server.ErrConflict, w.key)
	}
	pod, err := manifests.AddEphemeral(w.inst.Pod, container)
	if err != nil {
		return fmt.Errorf("%w: %w", server.ErrInvalid, err)
	}
	before := w.inst.Pod
	w.inst.Pod = pod
	w.inst.complete()
	if !w.save() {
		delete(w.inst.Containers, pod.Spec.EphemeralContainers[len(pod.Spec.EphemeralContainers)-1].Name)
		w.inst.Pod = before
		return errors.New("the record of the Pod cannot be written")
	}
	w.show(withStatus(w.inst))
	return nil
}
