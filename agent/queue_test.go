package agent

import (
	"testing"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/utils/ptr"
)

// room has the node have so much CPU for Pods.
func (a *agency) room(cpu string) {
	a.w.allocatable = func() v1.ResourceList {
		return v1.ResourceList{v1.ResourceCPU: resource.MustParse(cpu), v1.ResourceMemory: resource.MustParse("1Gi"), v1.ResourcePods: resource.MustParse("10")}
	}
}

// asking is a wish for a Pod of this name that asks for so much CPU.
func (a *agency) asking(name, cpu string, change ...func(*v1.Pod)) *Wish {
	p := a.pod("app")
	p.Name = name
	p.Spec.Containers[0].Resources.Requests = v1.ResourceList{v1.ResourceCPU: resource.MustParse(cpu)}
	for _, c := range change {
		c(p)
	}
	return wishFor(p, cpu)
}

func important(p *v1.Pod) { p.Spec.Priority = ptr.To(int32(1000)) }

// hand has workers be wanted all at once, in an order of the caller's, as the agent does.
func (a *agency) hand(workers []*worker, wishes ...*Wish) {
	a.give(counted{}, workers, wishes...)
}

// begun says whether a worker's Pod has its place on the node.
func begun(w *worker) bool { return scheduled(w).Status == v1.ConditionTrue }

func TestAPodWaitsForRoomOnTheNode(t *testing.T) {
	inBubble(t, func(a *agency) {
		a.room("2")
		second := a.another("second")
		first, wants := a.asking("web", "1500m"), a.asking("second", "1")
		a.hand([]*worker{a.w}, first)
		a.pass(1)
		a.hand([]*worker{a.w, second}, first, wants)
		a.pass(2)
		const want = "0/1 nodes are available: 1 Insufficient cpu. Of cpu it asks for 1, and 1500m of 2 are taken"
		if c := scheduled(second); begun(second) || c.Reason != v1.PodReasonUnschedulable || c.Message != want {
			t.Errorf("beside one that has the most: %+v", c)
		}
		if second.published.Load().Status.Phase != v1.PodPending {
			t.Errorf("it is %s", second.published.Load().Status.Phase)
		}
		a.hand([]*worker{a.w, second}, a.asking("web", "500m"), wants)
		a.pass(40)
		if !begun(a.w) || !begun(second) {
			t.Errorf("after the other one was edited to ask for less: %+v", scheduled(second))
		}
		third := a.another("third")
		a.hand([]*worker{a.w, second, third}, a.asking("web", "500m"), wants, a.asking("third", "1"))
		a.pass(41)
		if begun(third) {
			t.Error("a third one began on a node that is full")
		}
		a.hand([]*worker{a.w, second, third}, wants, a.asking("third", "1"))
		a.pass(80)
		if !begun(third) {
			t.Errorf("after one was removed: %+v", scheduled(third))
		}
	})
}

func TestAPodThatIsDoneLeavesItsRoom(t *testing.T) {
	inBubble(t, func(a *agency) {
		a.room("1")
		second := a.another("second")
		once := func(p *v1.Pod) { p.Spec.RestartPolicy = v1.RestartPolicyNever }
		first, wants := a.asking("web", "1", once), a.asking("second", "1", func(p *v1.Pod) { p.Spec.Containers[0].Name = "other" })
		a.hand([]*worker{a.w}, first)
		a.pass(1)
		a.hand([]*worker{a.w, second}, first, wants)
		a.pass(2)
		if !begun(a.w) || begun(second) {
			t.Errorf("the first one has begun: %v, the second: %v", begun(a.w), begun(second))
		}
		a.host.exit("app", 0)
		a.pass(3)
		if !begun(second) {
			t.Errorf("after the first one was done: %+v", scheduled(second))
		}
	})
}

func TestWhoIsMoreImportantIsGivenRoomFirst(t *testing.T) {
	inBubble(t, func(a *agency) {
		a.room("1")
		low, high := a.another("low"), a.another("high")
		a.hand([]*worker{low, high}, a.asking("low", "1"), a.asking("high", "1", important))
		a.pass(1)
		if begun(low) || !begun(high) {
			t.Errorf("the one that is asked for first began: %v, the more important: %v", begun(low), begun(high))
		}
		a.hand([]*worker{high, low}, a.asking("low", "1"))
		a.pass(40)
		if !begun(low) {
			t.Errorf("after the more important one has gone: %+v", scheduled(low))
		}
	})
}

func TestWhoIsHeldForAnotherReasonKeepsNoRoom(t *testing.T) {
	inBubble(t, func(a *agency) {
		a.room("1")
		low, high := a.another("low"), a.another("high")
		gated := a.asking("high", "1", important, func(p *v1.Pod) { p.Spec.SchedulingGates = []v1.PodSchedulingGate{{Name: "example.com/later"}} })
		a.hand([]*worker{low, high}, a.asking("low", "1"), gated)
		a.pass(1)
		if !begun(low) || begun(high) {
			t.Errorf("the one that may began: %v, the one that may not: %v: %+v", begun(low), begun(high), scheduled(low))
		}
	})
}

// TestARunningPodIsNotAskedAgain has an agent begin anew on a node that has less than before.
func TestARunningPodIsNotAskedAgain(t *testing.T) {
	inBubble(t, func(a *agency) {
		a.room("1")
		a.hand([]*worker{a.w}, a.asking("web", "1"))
		a.pass(1)
		a.succeed()
		a.room("100m")
		second := a.another("second")
		a.hand([]*worker{second, a.w}, a.asking("web", "1"), a.asking("second", "50m"))
		a.pass(10)
		if !begun(a.w) || begun(second) {
			t.Errorf("what ran is there: %v, what came later: %v", begun(a.w), begun(second))
		}
		a.expect("start", "0 start app 0")
	})
}
