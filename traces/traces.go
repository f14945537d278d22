// Package traces is the room of the way that spans take to whoever collects them: OTLP over HTTP, where OpenTelemetry's
// variables of the environment ask for it, and nothing at all elsewhere. It must not know what is traced.
package traces

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"
)

// Config says who sends spans.
type Config struct {
	Version string // of the service podkeeper
	Node    string // its host
	Log     *slog.Logger
}

// Traces sends spans. A nil one sends none.
type Traces struct{ provider *sdktrace.TracerProvider }

// Open begins to send spans where OTEL_EXPORTER_OTLP_ENDPOINT or OTEL_EXPORTER_OTLP_TRACES_ENDPOINT is set, and is nil
// elsewhere. The other variables are OpenTelemetry's own (opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables):
// headers, certificates, sampler, resource attributes, batches. Nobody waits for what is sent: what the collector does not take
// in time is lost, which is logged now and then.
func Open(ctx context.Context, cfg Config) (*Traces, error) {
	endpoint := first("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
	if endpoint == "" || strings.EqualFold(os.Getenv("OTEL_SDK_DISABLED"), "true") || os.Getenv("OTEL_TRACES_EXPORTER") == "none" {
		return nil, nil
	}
	if protocol := first("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"); protocol != "" && protocol != "http/protobuf" {
		return nil, fmt.Errorf("OTEL_EXPORTER_OTLP_PROTOCOL: %s: must be http/protobuf", protocol)
	}
	if exporter := os.Getenv("OTEL_TRACES_EXPORTER"); exporter != "" && exporter != "otlp" {
		return nil, fmt.Errorf("OTEL_TRACES_EXPORTER: %s: must be otlp or none", exporter)
	}
	otel.SetErrorHandler(&complaints{log: cfg.Log})
	exporter, err := otlptracehttp.New(ctx)
	if err != nil {
		return nil, fmt.Errorf("send traces: %w", err)
	}
	self, err := resource.New(ctx, resource.WithAttributes(semconv.ServiceName("podkeeper"), semconv.ServiceVersion(cfg.Version), semconv.HostName(cfg.Node),
		semconv.K8SNodeName(cfg.Node)), resource.WithTelemetrySDK(), resource.WithFromEnv())
	if err != nil && !errors.Is(err, resource.ErrPartialResource) {
		return nil, fmt.Errorf("send traces: %w", err)
	}
	return &Traces{sdktrace.NewTracerProvider(sdktrace.WithBatcher(exporter), sdktrace.WithResource(self))}, nil
}

func first(names ...string) string {
	for _, name := range names {
		if value := os.Getenv(name); value != "" {
			return value
		}
	}
	return ""
}

// Tracer makes spans, under the name of who makes them. It is nil where none are sent.
func (t *Traces) Tracer(name string) trace.Tracer {
	if t == nil {
		return nil
	}
	return t.provider.Tracer(name)
}

// closeTime is how long a collector may take for the last spans.
const closeTime = 2 * time.Second

// Close sends what is not sent yet, within two seconds.
func (t *Traces) Close() {
	if t == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), closeTime)
	defer cancel()
	if err := t.provider.Shutdown(ctx); err != nil {
		otel.Handle(err)
	}
}

// complainEvery is how often it is logged that spans are lost.
const complainEvery = 5 * time.Minute

// complaints logs why spans are lost, not more often than that.
type complaints struct {
	log  *slog.Logger
	mu   sync.Mutex
	last time.Time
}

// Handle implements otel.ErrorHandler.
func (c *complaints) Handle(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now := time.Now(); c.last.IsZero() || now.Sub(c.last) >= complainEvery {
		c.last = now
		c.log.Warn("traces cannot be sent", "error", err)
	}
}
