package agent

import (
	"slices"
	"testing"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/utils/ptr"
)

// lower has a container of a name of its own, for signals are noted by it.
func lower(p *v1.Pod) { p.Spec.Containers[0].Name = "lower" }

func TestWhoIsMoreImportantIsGivenTheRoomOfOthers(t *testing.T) {
	inBubble(t, func(a *agency) {
		a.room("1")
		first, high := a.asking("web", "1", lower), a.another("high")
		a.hand([]*worker{a.w}, first)
		a.pass(1)
		wants := a.asking("high", "1", important)
		a.host.set(func() { a.host.deaf = true })
		a.hand([]*worker{a.w, high}, first, wants)
		a.pass(2)
		ends := a.w.published.Load()
		i := slices.IndexFunc(ends.Status.Conditions, func(c v1.PodCondition) bool { return c.Type == v1.DisruptionTarget })
		if i < 0 || ends.DeletionTimestamp == nil || ends.Status.Conditions[i].Reason != v1.PodReasonPreemptionByScheduler {
			t.Errorf("who has to go: %v, %+v", ends.DeletionTimestamp, ends.Status.Conditions)
		}
		if begun(high) {
			t.Error("it began before there was room")
		}
		a.pass(60)
		if !begun(high) || begun(a.w) {
			t.Errorf("the more important one is there: %v, the other: %v", begun(high), begun(a.w))
		}
		if c := scheduled(a.w); c.Reason != v1.PodReasonUnschedulable {
			t.Errorf("who had to go waits for %+v", c)
		}
		a.expect("term lower", "1 term lower 0")
		a.host.set(func() { a.host.deaf = false })
		high.want(nil)
		a.hand([]*worker{a.w}, first)
		a.pass(120)
		if !begun(a.w) {
			t.Errorf("after the more important one has gone: %+v", scheduled(a.w))
		}
		preempted := 0
		for _, e := range a.w.events.List() {
			if e.Reason == "Preempted" && e.Message == "Preempted by pod default/high on node node" {
				preempted++
			}
		}
		if preempted != 1 {
			t.Errorf("%d events say so", preempted)
		}
	})
}

func TestNobodyHasToGo(t *testing.T) {
	for sentence, change := range map[string]func(*v1.Pod){
		"for one of the same priority": func(*v1.Pod) {},
		"for one that goes for nobody": func(p *v1.Pod) { important(p); p.Spec.PreemptionPolicy = ptr.To(v1.PreemptNever) },
		"for one that may not begin":   func(p *v1.Pod) { important(p); p.Spec.NodeName = "there" },
		"for one that would not fit then": func(p *v1.Pod) {
			important(p)
			p.Spec.Containers[0].Resources.Requests[v1.ResourceCPU] = resource.MustParse("3")
		},
	} {
		t.Run(sentence, func(t *testing.T) {
			inBubble(t, func(a *agency) {
				a.room("1")
				first, high := a.asking("web", "1", lower), a.another("high")
				a.hand([]*worker{a.w}, first)
				a.pass(1)
				a.hand([]*worker{a.w, high}, first, a.asking("high", "1", change))
				a.pass(60)
				if begun(high) || !begun(a.w) {
					t.Errorf("the later one is there: %v, the other: %v", begun(high), begun(a.w))
				}
				a.expect("term")
			})
		})
	}
}
