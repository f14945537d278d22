package traces

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// unset takes all of OpenTelemetry's variables away that a test's environment may have.
func unset(t *testing.T) {
	t.Helper()
	for _, name := range []string{
		"OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_PROTOCOL", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL",
		"OTEL_SDK_DISABLED", "OTEL_TRACES_EXPORTER", "OTEL_RESOURCE_ATTRIBUTES", "OTEL_SERVICE_NAME",
	} {
		t.Setenv(name, "")
	}
}

func TestWhatTheEnvironmentAsksFor(t *testing.T) {
	const here = "http://127.0.0.1:9"
	for name, c := range map[string]struct {
		variables map[string]string
		sends     bool
		fault     string
	}{
		"nothing":                {},
		"an endpoint":            {map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": here}, true, ""},
		"one of traces alone":    {map[string]string{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": here}, true, ""},
		"the protocol we have":   {map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": here, "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}, true, ""},
		"another protocol":       {map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": here, "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, false, "OTEL_EXPORTER_OTLP_PROTOCOL: grpc: must be http/protobuf"},
		"another exporter":       {map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": here, "OTEL_TRACES_EXPORTER": "zipkin"}, false, "OTEL_TRACES_EXPORTER: zipkin: must be otlp or none"},
		"no exporter":            {map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": here, "OTEL_TRACES_EXPORTER": "none"}, false, ""},
		"no SDK":                 {map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": here, "OTEL_SDK_DISABLED": "true"}, false, ""},
		"a protocol for nothing": {map[string]string{"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, false, ""},
	} {
		t.Run(name, func(t *testing.T) {
			unset(t)
			for name, value := range c.variables {
				t.Setenv(name, value)
			}
			spans, err := Open(t.Context(), Config{Log: slog.New(slog.DiscardHandler)})
			if (err == nil) != (c.fault == "") || err != nil && err.Error() != c.fault {
				t.Errorf("it says %v", err)
			}
			if (spans.Tracer("test") != nil) != c.sends {
				t.Errorf("spans are sent: %v", !c.sends)
			}
			spans.Close()
		})
	}
}

func TestSpansReachACollectorWithTheirResource(t *testing.T) {
	unset(t)
	var mu sync.Mutex
	var got []string
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		var request collector.ExportTraceServiceRequest
		if err := proto.Unmarshal(body, &request); err != nil || r.URL.Path != "/v1/traces" {
			t.Errorf("%s: %v", r.URL.Path, err)
		}
		mu.Lock()
		defer mu.Unlock()
		for _, of := range request.ResourceSpans {
			for _, a := range of.Resource.Attributes {
				got = append(got, a.Key+"="+a.Value.GetStringValue())
			}
			for _, scope := range of.ScopeSpans {
				for _, span := range scope.Spans {
					got = append(got, scope.Scope.Name+" "+span.Name)
				}
			}
		}
	}))
	defer server.Close()
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", server.URL)
	t.Setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=lab")
	spans, err := Open(t.Context(), Config{Version: "v1", Node: "here", Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	_, span := spans.Tracer("mine").Start(t.Context(), "work")
	span.End()
	spans.Close()
	for _, want := range []string{"service.name=podkeeper", "service.version=v1", "host.name=here", "k8s.node.name=here", "deployment.environment.name=lab", "mine work"} {
		if !slices.Contains(got, want) {
			t.Errorf("%s is not in %q", want, got)
		}
	}
}

func TestACollectorThatHangsDelaysNobodyForLong(t *testing.T) {
	unset(t)
	release := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release }))
	defer server.Close()
	defer close(release)
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", server.URL)
	var said bytes.Buffer
	spans, err := Open(t.Context(), Config{Log: slog.New(slog.NewTextHandler(&said, nil))})
	if err != nil {
		t.Fatal(err)
	}
	tracer := spans.Tracer("mine")
	for range 10_000 { // more than are kept
		_, span := tracer.Start(context.Background(), "work")
		span.End()
	}
	begin := time.Now()
	spans.Close()
	if took := time.Since(begin); took > time.Minute { // the exporter itself would try for that long
		t.Errorf("its end took %s", took)
	}
	if !strings.Contains(said.String(), "traces cannot be sent") {
		t.Errorf("it says %q", said.String())
	}
}

func TestComplaintsAreFew(t *testing.T) {
	var said bytes.Buffer
	c := &complaints{log: slog.New(slog.NewTextHandler(&said, nil))}
	for range 3 {
		c.Handle(context.DeadlineExceeded)
	}
	if n := strings.Count(said.String(), "cannot be sent"); n != 1 {
		t.Errorf("it complains %d times", n)
	}
}
