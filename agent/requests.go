package agent

import (
	"fmt"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/podkeeper/podkeeper/server"
)

// request is something that others ask of a worker, which does it in its own goroutine.
type request struct {
	do     func() error
	answer chan error
}

// request has the worker do something between two steps, and look then.
func (w *worker) request(do func() error) error {
	r := request{do: do, answer: make(chan error, 1)}
	select {
	case w.requests <- r:
		return <-r.answer
	case <-w.gone:
		return fmt.Errorf("%w: %s", server.ErrNoPod, w.key)
	}
}

// ask has the worker of a Pod do something. The error is what came of it, or server.ErrNoPod.
func (a *Agent) ask(pod types.NamespacedName, do func(w *worker) error) error {
	w := a.named(pod)
	if w == nil {
		return fmt.Errorf("%w: %s", server.ErrNoPod, pod)
	}
	return w.request(func() error { return do(w) })
}

// askOf has the worker of a Pod do something, and answers the Pod as it is reported then.
func (a *Agent) askOf(pod types.NamespacedName, do func(w *worker) error) (*v1.Pod, error) {
	var reported *v1.Pod
	err := a.ask(pod, func(w *worker) error {
		err := do(w)
		reported = w.published.Load()
		return err
	})
	if err == nil && reported == nil {
		err = fmt.Errorf("%w: %s", server.ErrNoPod, pod)
	}
	return reported, err
}

// Shorten has a Pod that ends be over within a time, at least a second, from now. A longer time than it has left is none
// (kubernetes/kubernetes pkg/kubelet/pod_workers.go, calculateEffectiveGracePeriod). The error is server.ErrNoPod, or server.ErrConflict where the Pod does not end.
func (a *Agent) Shorten(pod types.NamespacedName, grace time.Duration) error {
	return a.ask(pod, func(w *worker) error { return w.shorten(grace) })
}

func (w *worker) shorten(grace time.Duration) error {
	if w.inst == nil || w.inst.Ending == nil {
		return fmt.Errorf("%w: %s does not end: remove its manifest first", server.ErrConflict, w.key)
	}
	if deadline := deadlineIn(grace); deadline.Before(w.inst.Ending.Until(w.inst.Pod)) {
		w.endBy(deadline)
	}
	return nil
}

// allot gives the end that the next removal of the Pod begins a time of its own, be it longer than the Pod's; nil is none.
func (w *worker) allot(grace *time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.allotted = grace
}

func (w *worker) endBy(deadline time.Time) {
	ending := *w.inst.Ending
	ending.Deadline = deadline
	w.inst.Ending = &ending
}

func deadlineIn(grace time.Duration) time.Time { return time.Now().Add(max(grace, time.Second)) }
