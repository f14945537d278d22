package agent

import (
	"context"
	"errors"
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/podkeeper/podkeeper/manifests"
)

// limited is a Pod whose container is limited to so much CPU, and asks for it.
func (a *agency) limited(cpu string, restarts ...v1.ResourceName) *v1.Pod {
	p := a.pod("app")
	limit := v1.ResourceList{v1.ResourceCPU: resource.MustParse(cpu), v1.ResourceMemory: resource.MustParse("64Mi")}
	p.Spec.Containers[0].Resources = v1.ResourceRequirements{Limits: limit, Requests: limit.DeepCopy()}
	for _, name := range restarts {
		p.Spec.Containers[0].ResizePolicy = append(p.Spec.Containers[0].ResizePolicy, v1.ContainerResizePolicy{ResourceName: name, RestartPolicy: v1.RestartContainer})
	}
	return manifests.Normalise(p)
}

// resizeOf is what a Pod's conditions tell of a resize: types and reasons.
func resizeOf(w *worker) string {
	var all []string
	for _, c := range w.published.Load().Status.Conditions {
		if c.Type == v1.PodResizePending || c.Type == v1.PodResizeInProgress {
			all = append(all, strings.TrimSuffix(string(c.Type)+" "+c.Reason, " "))
		}
	}
	return strings.Join(all, ", ")
}

// hasCPU compares what the spec of app says, what it is allocated and what it has.
func (a *agency) hasCPU(spec, allocated, actual string) {
	a.Helper()
	s, pod := a.status("app"), a.w.published.Load()
	if got := pod.Spec.Containers[0].Resources.Requests.Cpu().String(); got != spec {
		a.Errorf("it asks for %s, want %s", got, spec)
	}
	if got := s.AllocatedResources.Cpu().String(); got != allocated {
		a.Errorf("it is allocated %s, want %s", got, allocated)
	}
	if got := s.Resources.Limits.Cpu().String(); got != actual {
		a.Errorf("it has %s, want %s", got, actual)
	}
}

func TestAnEditOfResourcesRestartsNothing(t *testing.T) {
	inBubble(t, func(a *agency) {
		a.wish(a.limited("100m"), "1")
		a.pass(1)
		a.wish(a.limited("200m"), "2")
		a.pass(2)
		a.wish(a.limited("50m"), "3")
		a.pass(3)
		a.expect("resize", "1 resize app, its Pod to 200m, then 200m", "2 resize app, its Pod to 200m, then 50m")
		a.expect("start", "0 start app 0")
		a.hasCPU("50m", "50m", "50m")
		if got := resizeOf(a.w); got != "" {
			t.Errorf("it still is %s", got)
		}
		for _, reason := range []string{"ResizeStarted", "ResizeCompleted"} {
			if got := a.reasons(reason); len(got) != 2 || !strings.Contains(got[1], `"name":"app","resources":{"limits":{"cpu":"50m"`) {
				t.Errorf("%s: %q", reason, got)
			}
		}
		a.host.exit("app", 1)
		a.pass(20)
		a.hasCPU("50m", "50m", "50m")
		a.expect("resize app", "1 resize app, its Pod to 200m, then 200m", "2 resize app, its Pod to 200m, then 50m") // its next instance began with what it has
	})
}

func TestAContainerThatAsksForItRestartsWithItsResources(t *testing.T) {
	inBubble(t, func(a *agency) {
		a.host.deaf = true
		a.wish(a.limited("100m", v1.ResourceCPU), "1")
		a.pass(1)
		edited := a.limited("50m", v1.ResourceCPU)
		a.wish(edited, "2")
		a.pass(2)
		a.expect("resize", "1 resize , its Pod to 100m, then 100m") // it runs with what it had until it has ended
		a.hasCPU("50m", "50m", "100m")
		if got := resizeOf(a.w); got != "PodResizeInProgress" {
			t.Errorf("it is %q", got)
		}
		a.pass(40)
		a.expect("start", "0 start app 0", "31 start app 1")
		a.expect("resize", "1 resize , its Pod to 100m, then 100m", "31 resize , its Pod to 100m, then 50m")
		a.hasCPU("50m", "50m", "50m")
		if got := resizeOf(a.w); got != "" {
			t.Errorf("it still is %s", got)
		}
		if got := a.reasons("Killing"); len(got) != 1 || got[0] != "Container app resize requires restart" {
			t.Errorf("%q", got)
		}
		memory := edited.DeepCopy()
		memory.Spec.Containers[0].Resources.Limits[v1.ResourceMemory] = resource.MustParse("65Mi")
		memory.Spec.Containers[0].Resources.Requests[v1.ResourceMemory] = resource.MustParse("65Mi")
		a.wish(memory, "3")
		a.pass(80)
		a.expect("start", "0 start app 0", "31 start app 1") // that is of no policy
	})
}

func TestResourcesAreGrantedWhenThereIsRoom(t *testing.T) {
	inBubble(t, func(a *agency) {
		a.room("2")
		second := a.another("second")
		web, other := wishFor(a.limited("1"), "1"), a.asking("second", "500m")
		a.hand([]*worker{a.w, second}, web, other)
		a.pass(1)
		web = wishFor(a.limited("1800m"), "2")
		a.hand([]*worker{a.w, second}, web, other)
		a.pass(2)
		a.hasCPU("1800m", "1", "1")
		const message = "Node didn't have enough resource: cpu, requested: 1800, used: 500, capacity: 2000"
		if got := a.w.published.Load().Status.Conditions; resizeOf(a.w) != "PodResizePending Deferred" || got[len(got)-1].Message != message {
			t.Errorf("%+v", got)
		}
		third := a.another("third")
		late := a.asking("third", "300m")
		a.hand([]*worker{a.w, second, third}, web, other, late)
		a.pass(3)
		if begun(third) {
			t.Error("a newcomer was given the room that a resize waits for")
		}
	})
}

func TestRoomThatIsGivenBackGrantsResources(t *testing.T) {
	inBubble(t, func(a *agency) {
		a.room("2")
		second := a.another("second")
		web := wishFor(a.limited("1"), "1")
		a.hand([]*worker{a.w, second}, web, a.asking("second", "500m"))
		a.pass(1)
		web = wishFor(a.limited("1800m"), "2")
		a.hand([]*worker{a.w, second}, web, a.asking("second", "500m"))
		a.pass(2)
		a.hand([]*worker{a.w, second}, web)
		a.pass(40)
		a.hasCPU("1800m", "1800m", "1800m")
		if got := a.reasons("ResizeDeferred"); len(got) != 1 || !strings.HasPrefix(got[0], `Pod resize Deferred: {"containers":[{"name":"app",`) {
			t.Errorf("%q", got)
		}
		a.hand([]*worker{a.w, second}, wishFor(a.limited("3"), "3"))
		a.pass(41)
		if got := resizeOf(a.w); got != "PodResizePending Infeasible" {
			t.Errorf("more than the node has is %q", got)
		}
		a.hasCPU("3", "1800m", "1800m")
		a.hand([]*worker{a.w, second}, wishFor(a.limited("1800m"), "4"))
		a.pass(42)
		if got := resizeOf(a.w); got != "" {
			t.Errorf("what was taken back is %q", got)
		}
		a.expect("start app", "0 start app 0", "0 start app 0")
	})
}

func TestAResizeThatFailsIsTriedAgain(t *testing.T) {
	inBubble(t, func(a *agency) {
		tries := 0
		a.host.resize = func(context.Context) error {
			if tries++; tries < 3 {
				return errors.New("cannot decrease memory limits")
			}
			return nil
		}
		a.wish(a.limited("100m"), "1")
		a.pass(1)
		a.wish(a.limited("50m"), "2")
		a.pass(2)
		a.hasCPU("50m", "50m", "100m")
		if got := resizeOf(a.w); got != "PodResizeInProgress Error" {
			t.Errorf("it is %q", got)
		}
		a.pass(20)
		a.hasCPU("50m", "50m", "50m")
		if got := a.reasons("ResizeError"); len(got) != 1 || !strings.Contains(got[0], `"error":"cannot decrease memory limits"`) {
			t.Errorf("%q", got)
		}
	})
}

func TestAResizeGoesOnUnderTheNextAgent(t *testing.T) {
	inBubble(t, func(a *agency) {
		a.host.resize = func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
		a.wish(a.limited("100m"), "1")
		a.pass(1)
		a.wish(a.limited("200m"), "2")
		a.pass(2)
		a.host.set(func() { a.host.resize = nil })
		a.succeed()
		a.pass(3)
		a.expect("resize", "1 resize app, its Pod to 200m, then 200m", "2 resize app, its Pod to 200m, then 200m")
		a.hasCPU("200m", "200m", "200m")
		a.expect("start", "0 start app 0")
	})
}

// TestAResizeThatWasTakenBackIsUndone has the agent be killed when a container has what it was to get, which is not recorded yet, and
// the edit be taken back.
func TestAResizeThatWasTakenBackIsUndone(t *testing.T) {
	inBubble(t, func(a *agency) {
		has := func(milliCPU int64) {
			t.Helper()
			a.host.set(func() {
				for _, k := range a.host.tasks {
					if k.cpu != milliCPU {
						t.Errorf("%s has %d thousandths of a CPU, want %d", k.name, k.cpu, milliCPU)
					}
				}
			})
		}
		a.wish(a.limited("100m"), "1")
		a.pass(1)
		a.host.resize = func(ctx context.Context) error {
			a.host.set(func() {
				for _, k := range a.host.tasks {
					k.cpu = 200
				}
			})
			<-ctx.Done()
			return ctx.Err()
		}
		a.wish(a.limited("200m"), "2")
		a.pass(2)
		has(200)
		a.dismiss()
		a.host.set(func() { a.host.resize = nil })
		a.employ(a.written())
		a.wish(a.limited("100m"), "3")
		a.pass(10)
		has(100)
		a.hasCPU("100m", "100m", "100m")
	})
}

func TestAtMost(t *testing.T) {
	t.Parallel()
	list := func(cpu, memory string) v1.ResourceList {
		l := v1.ResourceList{}
		for name, text := range map[v1.ResourceName]string{v1.ResourceCPU: cpu, v1.ResourceMemory: memory} {
			if text != "" {
				l[name] = resource.MustParse(text)
			}
		}
		return l
	}
	got := atMost(&v1.ResourceRequirements{Requests: list("1", "1Mi"), Limits: list("2", "")}, &v1.ResourceRequirements{Requests: list("", "2Mi"), Limits: list("1", "3Mi")})
	if r, l := got.Requests, got.Limits; r.Cpu().String() != "1" || r.Memory().String() != "2Mi" || l.Cpu().String() != "2" || len(l) != 1 {
		t.Errorf("%+v", got)
	}
}
