package node

import (
	"context"

	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
)

// Part begins a span of a part of what ctx is for, where that is traced; else it costs nothing. [EndPart] ends it.
func Part(ctx context.Context, name string) (context.Context, trace.Span) {
	whole := trace.SpanFromContext(ctx)
	if !whole.IsRecording() {
		return ctx, whole
	}
	return whole.TracerProvider().Tracer(Tracer).Start(ctx, name)
}

// Tracer is the name under which spans are made.
const Tracer = "github.com/podkeeper/podkeeper/agent"

// EndPart ends a span that was begun, with what came of it. One that is not recorded, such as that of a whole that is not
// traced, stays as it is.
func EndPart(span trace.Span, err error) {
	if !span.IsRecording() {
		return
	}
	if err != nil {
		span.RecordError(err)
		span.SetStatus(codes.Error, err.Error())
	}
	span.End()
}
