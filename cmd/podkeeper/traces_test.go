package main

import (
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

// receiver takes spans over OTLP.
type receiver struct {
	mu       sync.Mutex
	spans    map[string]*tracepb.Span // by id
	services map[string]bool
}

func (r *receiver) ServeHTTP(_ http.ResponseWriter, req *http.Request) {
	body, _ := io.ReadAll(req.Body)
	var got collector.ExportTraceServiceRequest
	if proto.Unmarshal(body, &got) != nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, of := range got.ResourceSpans {
		for _, a := range of.Resource.Attributes {
			r.services[a.Key+"="+a.Value.GetStringValue()] = true
		}
		for _, scope := range of.ScopeSpans {
			for _, span := range scope.Spans {
				r.spans[hex.EncodeToString(span.SpanId)] = span
			}
		}
	}
}

// paths are the spans of a Pod's start, each after those that it is a part of; of what went wrong with an exclamation mark.
func (r *receiver) paths(pod string) []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var name func(span *tracepb.Span) string
	name = func(span *tracepb.Span) string {
		text := span.Name
		for _, a := range span.Attributes {
			if a.Key == "k8s.container.name" {
				text += " " + a.Value.GetStringValue()
			}
		}
		if span.Status.GetCode() == tracepb.Status_STATUS_CODE_ERROR {
			text += "!"
		}
		if len(span.ParentSpanId) == 0 {
			return text
		}
		parent := r.spans[hex.EncodeToString(span.ParentSpanId)]
		if parent == nil {
			return "?/" + text
		}
		return name(parent) + "/" + text
	}
	trace := ""
	for _, span := range r.spans {
		for _, a := range span.Attributes {
			if a.Key == "k8s.pod.name" && a.Value.GetStringValue() == pod {
				trace = string(span.TraceId)
			}
		}
	}
	var out []string
	for _, span := range r.spans {
		if string(span.TraceId) == trace {
			out = append(out, name(span))
		}
	}
	slices.Sort(out)
	return out
}

// The start of a Pod is one trace, with a span for everything that was done for it.
func TestTheStartOfAPodIsTraced(t *testing.T) {
	t.Parallel()
	n := launch(t)
	r := &receiver{spans: map[string]*tracepb.Span{}, services: map[string]bool{}}
	server := httptest.NewServer(r)
	defer server.Close()
	n.stopAgent()
	n.env = []string{"OTEL_EXPORTER_OTLP_ENDPOINT=" + server.URL, "OTEL_RESOURCE_ATTRIBUTES=site=lab", "OTEL_BSP_SCHEDULE_DELAY=100"}
	n.restart()
	hook := `
    lifecycle: {postStart: {exec: {command: ["true"]}}}
    volumeMounts: [{name: v, mountPath: /v}]
`
	n.apply("web.yaml", simple("web", forever, "  volumes: [{name: v, emptyDir: {}}]", "  initContainers: [{name: init, image: "+image+`, command: ["true"]}]`)+hook)
	n.awaitReady("web")
	want := []string{
		"start pod", "start pod/attach", "start pod/create app", "start pod/create init", "start pod/create sandbox", "start pod/create sandbox/set up volumes",
		"start pod/postStart of app", "start pod/prepare app", "start pod/prepare app/ensure image", "start pod/prepare app/prepare layer",
		"start pod/prepare init", "start pod/prepare init/ensure image", "start pod/prepare init/prepare layer", "start pod/start app", "start pod/start init",
	}
	n.eventually("the spans of web are told", func() error {
		got := slices.DeleteFunc(r.paths("web"), func(path string) bool { return strings.HasPrefix(path, "start pod/clean init") })
		if !slices.Equal(got, want) {
			return fmt.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
		return nil
	})
	for _, want := range []string{"service.name=podkeeper", "k8s.node.name=testnode", "site=lab"} {
		if !r.services[want] {
			t.Errorf("%s is not told", want)
		}
	}
	server.CloseClientConnections()
	server.Close() // the collector goes, and Pods start all the same
	n.apply("other.yaml", simple("other", forever))
	n.awaitReady("other")
	n.eventually("it is told that spans are lost", func() error {
		if !strings.Contains(n.log.String(), "traces cannot be sent") {
			return fmt.Errorf("the log does not say so")
		}
		return nil
	})
	n.env = nil
}
