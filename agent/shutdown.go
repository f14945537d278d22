package agent

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/component-helpers/scheduling/corev1"

	"github.com/podkeeper/podkeeper/agent/plan"
)

// ShutdownGroup is how long Pods of at least a priority, and below that of the next group, have to end when the host shuts down
// (shutdownGracePeriodByPodPriority).
type ShutdownGroup struct {
	Priority int32
	Period   time.Duration
}

// What is said of Pods and the node at a shutdown (kubernetes/kubernetes pkg/kubelet/nodeshutdown/nodeshutdown_manager.go).
var (
	shutDown   = hold("NodeShutdown", "Pod was rejected as the node is shutting down.")
	terminated = Ruling{Verdict: Evicted, Reason: "Terminated", Message: "Pod was terminated in response to imminent node shutdown.", Disrupts: true}
)

// shutdown is the end of the host. Nothing of it is remembered but what was ruled about Pods: whether the host shuts down is to be asked
// anew by each agent.
type shutdown struct {
	groups []ShutdownGroup // the lowest priority first
	on     atomic.Bool
}

// hold says whether a Pod may begin.
func (s *shutdown) hold() Ruling {
	if s.on.Load() {
		return shutDown
	}
	return Ruling{}
}

// groupOf is the index of the group that a Pod belongs to: the last one that is not above it. Those below all belong to the first.
func (s *shutdown) groupOf(pod *v1.Pod) (index int) {
	for i, g := range s.groups {
		if g.Priority <= corev1.PodPriority(pod) {
			index = i
		}
	}
	return index
}

// returns says whether a Pod was ended for a shutdown and is wanted anew after it. Nobody else would make it again, whoever has made
// it. One that was to run once is over.
func returns(pod *v1.Pod, ruling Ruling) bool {
	return ruling.Verdict == Evicted && ruling.Reason == terminated.Reason && pod.Spec.RestartPolicy != v1.RestartPolicyNever
}

// inherited is what still stands of what was ruled about an instance that an earlier agent has left. Why a Pod was held is worked out
// anew, and one that was ended for a shutdown is wanted again by the first agent that finds none under way.
func (s *shutdown) inherited(inst *instance) Ruling {
	if inst.Ruling.Verdict != Evicted || returns(inst.Pod, inst.Ruling) && !s.on.Load() {
		return Ruling{}
	}
	return inst.Ruling
}

// ShutsDown tells the agent that the host is about to shut down, or that this was cancelled. From then on no Pod begins, or those are
// back that were ended for it. It may be told before Run.
func (a *Agent) ShutsDown(ctx context.Context, on bool) {
	if a.shutdown.on.Swap(on) == on {
		return
	}
	a.log.Info("node shuts down", "is", on)
	what := "event"
	if !on {
		what = "cancellation"
		a.bringBack()
	}
	a.events.addNode(v1.EventTypeNormal, shutDown.Reason, "Shutdown manager detected shutdown "+what)
	a.heart.hasten() // also for who asks once
	a.notePressure(ctx)
}

// ShuttingDown says whether the host is about to shut down.
func (a *Agent) ShuttingDown() bool { return a.shutdown.on.Load() }

// bringBack has Pods that were ended for a shutdown be wanted again.
func (a *Agent) bringBack() {
	for _, w := range a.all() {
		w.mu.Lock()
		wanted := w.wanted
		w.mu.Unlock()
		if wanted != nil && returns(wanted.Pod.Pod, wanted.Ruling) {
			a.sources.rule(w.key, wanted.Pod.Revision, Ruling{})
		}
	}
	a.handOut()
}

// recordPatience is how long a shutdown waits for records once all time of Pods is over: for as long as a look may take, and a moment.
const recordPatience = lookPatience + time.Second

// EndPods ends the Pods of a host that shuts down, those of one group after the other, and returns when all have ended or their time is
// over, or ctx ends, which goes before ShutsDown is told otherwise. By then the records say why they end. Who has ended by itself is
// left alone.
func (a *Agent) EndPods(ctx context.Context) {
	var records sync.WaitGroup
	for i := 0; i < len(a.shutdown.groups) && ctx.Err() == nil; i++ {
		a.endGroup(ctx, i, &records)
	}
	written := make(chan struct{})
	go func() {
		defer close(written)
		records.Wait()
	}()
	select {
	case <-written:
	case <-time.After(recordPatience):
		a.log.Warn("not all records say that their pods end for the shutdown")
	}
}

// endGroup gives the Pods of one group the time of the group.
func (a *Agent) endGroup(ctx context.Context, index int, records *sync.WaitGroup) {
	group := a.shutdown.groups[index]
	until := time.Now().Add(group.Period)
	ctx, cancel := context.WithDeadline(ctx, until)
	defer cancel()
	ticker := time.NewTicker(drainPoll)
	defer ticker.Stop()
	for told := map[types.UID]bool{}; ; {
		var left []*v1.Pod
		for _, pod := range a.stillStanding() {
			if a.shutdown.groupOf(pod) == index {
				left = append(left, pod)
			}
		}
		if len(left) == 0 {
			return
		}
		a.terminate(left, until)
		for _, pod := range left {
			if !told[pod.UID] {
				told[pod.UID] = true
				a.log.Info("pod ends for the shutdown", "pod", key(pod).String(), "priority", corev1.PodPriority(pod), "within", time.Until(until).Round(time.Second))
				records.Go(func() { a.record(pod, until) })
			}
		}
		select {
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.Canceled) {
				return
			}
			a.log.Warn("node shuts down before all pods have ended", "priority", group.Priority, "period", group.Period, "left", len(left))
			return
		case <-ticker.C:
		}
	}
}

// terminate rules that Pods end by a time, unless that was ruled. Who is wanted otherwise meanwhile is ruled about anew.
func (a *Agent) terminate(pods []*v1.Pod, until time.Time) {
	var fresh []*v1.Pod
	for _, pod := range pods {
		if w := a.named(key(pod)); w != nil && pod.DeletionTimestamp == nil && w.ruling().Verdict != Evicted {
			fresh = append(fresh, pod)
		}
	}
	if len(fresh) == 0 {
		return
	}
	wishes := a.sources.wishes()
	for _, pod := range fresh {
		if wish := wishes[key(pod)]; wish != nil {
			ruling := terminated
			ruling.Grace = graceUntil(pod, until)
			a.sources.rule(key(pod), wish.Pod.Revision, ruling)
		}
	}
	a.handOut()
}

// graceUntil is the grace period of a Pod, cut off at a time. It is never none.
func graceUntil(pod *v1.Pod, until time.Time) time.Duration {
	return max(min(plan.Grace(pod), time.Until(until)), time.Second)
}

// record waits until it is on disk that a Pod ends, which its worker sees to before it does anything. One that ends for another
// reason has no longer than that either.
func (a *Agent) record(pod *v1.Pod, until time.Time) {
	_ = a.ask(key(pod), func(w *worker) error { // one that is gone has ended
		if w.inst == nil {
			return nil
		}
		if w.inst.Ending != nil {
			_ = w.shorten(graceUntil(pod, until))
		}
		w.save()
		return nil
	})
}
