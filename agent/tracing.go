package agent

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.opentelemetry.io/otel/attribute"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"
	v1 "k8s.io/api/core/v1"
	"k8s.io/kubectl/pkg/util/podutils"

	"github.com/podkeeper/podkeeper/agent/node"
	"github.com/podkeeper/podkeeper/agent/plan"
)

// tracedStart is the span of the start of an instance, which everything that is done until then is a child of. Where nobody
// wants traces there is none, and nothing is done for it.
type tracedStart struct {
	span    trace.Span
	tracer  trace.Tracer
	begun   time.Time
	started bool // every container has
}

// startPatience is how long a start may take until its span ends without it: one that does not end is told to nobody.
const startPatience = 30 * time.Minute

// traceStart begins the span of an instance that has just begun, from when its manifest was seen.
func (w *worker) traceStart(seen time.Time) {
	if w.tracer == nil {
		return
	}
	pod := w.inst.Pod
	_, span := w.tracer.Start(context.Background(), "start pod", trace.WithNewRoot(), trace.WithTimestamp(seen), trace.WithAttributes(
		semconv.K8SNamespaceName(pod.Namespace), semconv.K8SPodName(pod.Name), semconv.K8SPodUID(string(pod.UID))))
	span.AddEvent("admitted")
	w.traced = &tracedStart{span: span, tracer: w.tracer, begun: time.Now()}
}

// traceDeed begins the span of a deed, which is a child of the start that it is for; [node.EndPart] ends it. It is called in the
// worker's goroutine.
func (w *worker) traceDeed(ctx context.Context, d deed) (context.Context, trace.Span) {
	if w.traced == nil {
		return ctx, trace.SpanFromContext(ctx)
	}
	pod := w.inst.Pod
	attributes := []attribute.KeyValue{semconv.K8SNamespaceName(pod.Namespace), semconv.K8SPodName(pod.Name), semconv.K8SPodUID(string(pod.UID))}
	for _, c := range plan.Containers(pod) {
		if c.Name == d.action.Container {
			attributes = append(attributes, semconv.K8SContainerName(c.Name), semconv.ContainerImageName(c.Image), semconv.K8SContainerRestartCount(d.action.Attempt))
		}
	}
	return w.traced.tracer.Start(trace.ContextWithSpan(ctx, w.traced.span), string(d.action.Verb), trace.WithAttributes(attributes...))
}

// noteStart ends the span of a start that is over: the Pod is ready, has ended, or is not ready in time.
func (w *worker) noteStart(status *v1.PodStatus, now time.Time) {
	t := w.traced
	if t == nil {
		return
	}
	if !t.started && w.seenAt.IsZero() { // which measure has found
		t.started = true
		t.span.AddEvent("started")
	}
	switch {
	case podutils.IsPodReady(&v1.Pod{Status: *status}):
		w.endTrace(nil)
	case status.Phase == v1.PodFailed:
		w.endTrace(errors.New("the Pod has failed"))
	case status.Phase == v1.PodSucceeded:
		w.endTrace(nil)
	case now.Sub(t.begun) >= startPatience:
		w.endTrace(fmt.Errorf("the Pod is not ready after %s", startPatience))
	}
}

// endTrace ends the span of the start, where it has one that has not ended.
func (w *worker) endTrace(err error) {
	if w.traced != nil {
		node.EndPart(w.traced.span, err)
		w.traced = nil
	}
}
