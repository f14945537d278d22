package agent

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/podkeeper/podkeeper/agent/evict"
	"github.com/podkeeper/podkeeper/agent/node"
	"github.com/podkeeper/podkeeper/manifests"
	"github.com/podkeeper/podkeeper/server"
)

// hanging is a node that does not tell what it has left.
type hanging struct {
	*dials
	release chan struct{}
}

func (h hanging) NodeUsage() (node.Usage, error) {
	<-h.release
	return node.Usage{Limit: 1}, nil
}

// What hangs in a loop without which Pods are not kept is told once it lasts too long, and not once it goes on; who waits is well.
func TestWhatHangsIsTold(t *testing.T) {
	web := manifests.Pod{Pod: &v1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web"}}, Revision: "1"}
	none := func() map[types.NamespacedName]string { return nil }
	for want, c := range map[string]struct {
		limit time.Duration
		hang  func(a *Agent, release chan struct{}) (do func())
	}{
		"what follows from manifests": {stuckAfter, func(a *Agent, release chan struct{}) func() {
			a.sources.drained = func(*v1.Pod) Ruling { <-release; return hold("x", "y") }
			return func() { a.offerManifests(manifests.Set{Pods: []manifests.Pod{web}}) }
		}},
		"what follows from objects": {stuckAfter, func(a *Agent, release chan struct{}) func() {
			a.sources.tell(SourceDirectory, manifests.Set{Pods: []manifests.Pod{web}})
			a.sources.drained = func(*v1.Pod) Ruling { <-release; return hold("x", "y") }
			return a.offerObjects
		}},
		"who hands out what is wanted": {stuckAfter, func(a *Agent, release chan struct{}) func() {
			a.sources.tell(SourceDirectory, manifests.Set{Pods: []manifests.Pod{web}})
			a.sources.drained = func(*v1.Pod) Ruling { <-release; return hold("x", "y") }
			return func() { a.rule(key(web.Pod), "1", Ruling{}) }
		}},
		"the look at what the node has left": {stuckEvicting, func(a *Agent, release chan struct{}) func() {
			e := newEvictor(hanging{&dials{}, release}, evict.Policy{Thresholds: []evict.Threshold{{Signal: evict.MemoryAvailable}}}, a.events, discard())
			e.lap, e.workers, e.changed = &a.laps.evictions, a.all, func(context.Context) {}
			return func() { e.pass(a.ctx) }
		}},
		"who tells of changes": {stuckAfter, func(a *Agent, release chan struct{}) func() {
			if _, err := a.PutObject(id("persistentvolumeclaims", "shop", "data"), aClaim("data"), server.Condition{}); err != nil {
				panic(err)
			}
			go func() { _ = a.Follow(a.ctx, func(server.Change) error { return nil }) }()
			synctest.Wait()
			a.bound = func() map[types.NamespacedName]string { <-release; return none() }
			return a.feed.Wake
		}},
	} {
		t.Run(want, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				a := follows(t)
				ctx, cancel := context.WithCancel(t.Context())
				a.ctx = ctx
				a.rule = func(types.NamespacedName, string, Ruling) { a.handOut() }
				time.Sleep(time.Hour)
				if err := a.Alive(); err != nil {
					t.Errorf("who waits is well, but for %v", err)
				}
				release := make(chan struct{})
				go c.hang(a, release)()
				time.Sleep(c.limit)
				if err := a.Alive(); err != nil {
					t.Errorf("in its time: %v", err)
				}
				time.Sleep(time.Second)
				if err := a.Alive(); err == nil || !strings.Contains(err.Error(), "has not come round for "+(c.limit+time.Second).String()) {
					t.Errorf("after its time: %v", err)
				} else if !strings.HasPrefix(err.Error(), want) {
					t.Errorf("it is about %v", err)
				}
				close(release)
				synctest.Wait()
				if err := a.Alive(); err != nil {
					t.Errorf("once it goes on: %v", err)
				}
				cancel()
				a.running.Wait()
			})
		})
	}
}

// A notice waits for nothing but a worker's lock, with which no bubble's clock would go on.
func TestANoticeThatHangsIsTold(t *testing.T) {
	t.Parallel()
	a := reporting(reportedPod("web", v1.PodRunning, v1.ConditionTrue))
	w := a.all()[0]
	w.mu.Lock()
	done := make(chan struct{})
	go func() {
		defer close(done)
		a.notice(node.Notice{})
	}()
	for a.laps.notices.since.Load() == 0 {
		time.Sleep(time.Millisecond)
	}
	a.laps.notices.since.Add(-int64(stuckAfter + time.Second))
	if err := a.Alive(); err == nil || !strings.HasPrefix(err.Error(), "what follows from notices of the runtime") {
		t.Errorf("it is about %v", err)
	}
	w.mu.Unlock()
	<-done
	if err := a.Alive(); err != nil {
		t.Errorf("once it goes on: %v", err)
	}
}

// A worker's step that hangs is told, too.
func TestAStepThatHangsIsTold(t *testing.T) {
	inBubble(t, func(a *agency) {
		release := make(chan struct{})
		a.w.allocatable = func() v1.ResourceList { <-release; return nil }
		a.want("1", "app")
		agent := &Agent{surroundings: a.w.surroundings}
		time.Sleep(stuckAfter + time.Second)
		if err := agent.Alive(); err == nil || err.Error() != "the worker of default/web has not come round for 2m1s" {
			t.Errorf("it is about %v", err)
		}
		close(release)
		synctest.Wait()
		if err := agent.Alive(); err != nil {
			t.Errorf("once it goes on: %v", err)
		}
	})
}
