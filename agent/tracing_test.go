package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	v1 "k8s.io/api/core/v1"

	"github.com/podkeeper/podkeeper/agent/node"
)

// told is what spans tell: a line each of the name, the container, the second of the bubble in which it began and ended, and what
// was wrong; the names of what are no children of the start are in brackets.
func told(spans tracetest.SpanStubs, begin time.Time) []string {
	roots := map[string]bool{}
	for _, s := range spans {
		if !s.Parent.IsValid() {
			roots[s.SpanContext.SpanID().String()] = true
		}
	}
	var lines []string
	for _, s := range spans {
		container := ""
		for _, a := range s.Attributes {
			if a.Key == "k8s.container.name" {
				container = " " + a.Value.AsString()
			}
		}
		name := s.Name
		if !roots[s.Parent.SpanID().String()] {
			name = "[" + name + "]"
		}
		line := fmt.Sprintf("%s%s %d-%d", name, container, int(s.StartTime.Sub(begin).Seconds()), int(s.EndTime.Sub(begin).Seconds()))
		if s.Status.Code == codes.Error {
			line += " " + s.Status.Description
		}
		lines = append(lines, line)
	}
	slices.Sort(lines)
	return lines
}

func TestAStartIsOneTrace(t *testing.T) {
	for name, c := range map[string]struct {
		begin func(*agency)
		want  []string
	}{
		"a Pod that starts": {func(a *agency) { a.want("1", "app") }, []string{
			"[start pod] 0-0", "attach 0-0", "create app 0-0", "create sandbox 0-0", "prepare app 0-0", "start app 0-0",
		}},
		"one that is ready later": {func(a *agency) {
			p := a.pod("app")
			p.Spec.Containers[0].ReadinessProbe = execProbe(10, 3)
			p.Spec.Containers[0].ReadinessProbe.InitialDelaySeconds = 7
			a.wantPod(p)
		}, []string{"[start pod] 0-7", "attach 0-0", "create app 0-0", "create sandbox 0-0", "prepare app 0-0", "start app 0-0"}},
		"one that has ended": {func(a *agency) {
			a.host.started = func(node.Target) { time.AfterFunc(time.Second, func() { a.host.exit("app", 3) }) }
			p := a.pod("app")
			p.Spec.RestartPolicy = v1.RestartPolicyNever
			p.Spec.Containers[0].ReadinessProbe = execProbe(10, 3)
			p.Spec.Containers[0].ReadinessProbe.InitialDelaySeconds = 7
			a.wantPod(p)
		}, []string{"[start pod] 0-1 the Pod has failed", "attach 0-0", "clean app 1-1", "create app 0-0", "create sandbox 0-0", "prepare app 0-0", "start app 0-0"}},
		"one that is removed before": {func(a *agency) {
			p := a.pod("app")
			p.Spec.Containers[0].ReadinessProbe = execProbe(10, 3)
			p.Spec.Containers[0].ReadinessProbe.InitialDelaySeconds = 7
			a.wantPod(p)
			a.pass(3)
			a.w.want(nil)
		}, []string{"[start pod] 0-3 the Pod ends: the manifest was removed", "attach 0-0", "create app 0-0", "create sandbox 0-0", "prepare app 0-0", "start app 0-0"}},
		"one that is never ready": {func(a *agency) {
			p := a.pod("app")
			p.Spec.ReadinessGates = []v1.PodReadinessGate{{ConditionType: "example.com/never"}}
			a.wantPod(p)
		}, []string{
			"[start pod] 0-1800 the Pod is not ready after 30m0s", "attach 0-0", "create app 0-0", "create sandbox 0-0", "prepare app 0-0", "start app 0-0",
		}},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(a *agency) {
				exporter := tracetest.NewInMemoryExporter()
				provider := sdktrace.NewTracerProvider(sdktrace.WithSyncer(exporter))
				a.w.tracer = provider.Tracer("test")
				begin := time.Now()
				a.host.set(func() { a.host.exec = func(node.Target) (int, error) { return 0, nil } })
				c.begin(a)
				a.pass(3600)
				if got := told(exporter.GetSpans(), begin); !slices.Equal(got, c.want) {
					t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(c.want, "\n"))
				}
			})
		})
	}
}

func TestAFailureOfAStartIsToldInItsTrace(t *testing.T) {
	inBubble(t, func(a *agency) {
		exporter := tracetest.NewInMemoryExporter()
		a.w.tracer = sdktrace.NewTracerProvider(sdktrace.WithSyncer(exporter)).Tracer("test")
		begin := time.Now()
		a.host.set(func() { a.host.attach = func(context.Context) error { return errors.New("no room") } })
		a.want("1", "app")
		synctest.Wait()
		a.host.set(func() { a.host.attach = nil })
		a.pass(60)
		got := told(exporter.GetSpans(), begin)
		if !slices.Contains(got, "attach 0-0 no room") || !slices.ContainsFunc(got, func(s string) bool { return strings.HasPrefix(s, "[start pod] 0-") }) {
			t.Errorf("it tells %q", got)
		}
	})
}

func TestWhereNobodyWantsTracesTheyCostNothing(t *testing.T) {
	w := newWorker(key(&v1.Pod{}), &surroundings{})
	w.inst = newInstance(t.TempDir(), &v1.Pod{}, "1")
	ctx, d, now := t.Context(), deed{}, time.Now()
	if n := testing.AllocsPerRun(100, func() {
		w.traceStart(now)
		_, span := w.traceDeed(ctx, d)
		node.EndPart(span, context.Canceled)
		_, part := node.Part(ctx, "part")
		part.AddEvent("event")
		node.EndPart(part, nil)
		w.noteStart(&w.inst.Status, now)
		w.endTrace(context.Canceled)
	}); n != 0 {
		t.Errorf("it allocates %v times", n)
	}
}
