package runtime

import (
	"context"
	"time"

	apievents "github.com/containerd/containerd/api/events"
	"github.com/containerd/containerd/v2/core/events"
	"github.com/containerd/typeurl/v2"
)

// Event says which container to look at again: its main process ended, or it ran out of memory. An empty ID means all of
// them: events may have been missed.
type Event struct {
	ID  string
	OOM bool // a process of the container was killed for memory; its main process may run on
}

// Events calls see for every event until ctx ends. It survives restarts of containerd, after each of which, and at the
// start, it asks to look at everything.
func (r *Runtime) Events(ctx context.Context, see func(Event)) {
	for ctx.Err() == nil {
		stream, errs := r.client.EventService().Subscribe(ctx,
			`namespace==`+r.cfg.Namespace+`,topic=="/tasks/exit"`, `namespace==`+r.cfg.Namespace+`,topic=="/tasks/oom"`)
		if _, err := r.Version(ctx); err == nil {
			see(Event{})
			// What happened before containerd had the subscription in place is found by the second look.
			settled := time.AfterFunc(time.Second, func() { see(Event{}) })
			r.pass(ctx, stream, errs, see)
			settled.Stop()
		}
		select {
		case <-ctx.Done():
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// pass hands on events until the stream breaks.
func (r *Runtime) pass(ctx context.Context, stream <-chan *events.Envelope, errs <-chan error, see func(Event)) {
	for {
		select {
		case err := <-errs:
			if err != nil && ctx.Err() == nil {
				r.cfg.Log.Warn("containerd's event stream broke", "error", err)
			}
			return
		case envelope := <-stream:
			decoded, err := typeurl.UnmarshalAny(envelope.Event)
			if err != nil {
				r.cfg.Log.Warn("containerd sent an event that cannot be read", "topic", envelope.Topic, "error", err)
				continue
			}
			switch e := decoded.(type) {
			case *apievents.TaskExit:
				if e.ID == e.ContainerID { // else the end of an exec
					see(Event{ID: e.ContainerID})
				}
			case *apievents.TaskOOM:
				see(Event{ID: e.ContainerID, OOM: true})
			}
		}
	}
}
