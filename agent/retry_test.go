package agent

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/podkeeper/podkeeper/agent/node"
	"github.com/podkeeper/podkeeper/manifests"
)

func TestARetryRestartsAtOnceAndBackoffStartsOver(t *testing.T) {
	inBubble(t, func(a *agency) {
		a.host.started = func(node.Target) { time.AfterFunc(time.Second, func() { a.host.exit("app", 1) }) }
		a.want("1", "app")
		a.pass(40) // in the midst of 40 s
		a.expect("start", "0 start app 0", "1 start app 1", "12 start app 2", "33 start app 3")
		if s := a.status("app").State.Waiting; s == nil || s.Reason != "CrashLoopBackOff" {
			t.Fatalf("%+v", s)
		}
		a.w.Retry()
		synctest.Wait()
		if s := a.status("app"); s.State.Running == nil || s.RestartCount != 4 {
			t.Errorf("%+v", s)
		}
		a.pass(60)
		a.expect("start", "0 start app 0", "1 start app 1", "12 start app 2", "33 start app 3", "40 start app 4", "51 start app 5")
	})
}

func TestARetryOfWhatIsAboutToEndCounts(t *testing.T) {
	inBubble(t, func(a *agency) {
		a.host.started = func(node.Target) { time.AfterFunc(5*time.Second, func() { a.host.exit("app", 1) }) }
		a.want("1", "app")
		a.pass(22) // it runs, and would wait for 20 s next
		a.w.Retry()
		a.pass(30)
		a.expect("start", "0 start app 0", "5 start app 1", "20 start app 2", "25 start app 3")
	})
}

func TestARetryOutlivesTheAgent(t *testing.T) {
	inBubble(t, func(a *agency) {
		a.want("1", "app")
		a.pass(1)
		a.host.exit("app", 1)
		a.pass(2)
		a.w.Retry()
		a.pass(3)
		a.succeed()
		a.host.exit("app", 1)
		a.pass(4)
		a.expect("start", "0 start app 0", "1 start app 1", "3 start app 2")
	})
}

func TestARetryTriesWhatHasFailed(t *testing.T) {
	inBubble(t, func(a *agency) {
		a.host.prepare = func(context.Context, node.Target) error {
			return &node.Fault{Reason: node.ErrImagePull, Err: errors.New("no such host")}
		}
		a.want("1", "app")
		a.pass(75)
		a.w.Retry()
		a.pass(100)
		a.expect("prepare", "0 prepare app 0", "10 prepare app 0", "30 prepare app 0", "70 prepare app 0", "75 prepare app 0", "85 prepare app 0")
		a.host.set(func() { a.host.prepare = nil })
		a.w.Retry()
		synctest.Wait()
		a.expect("start", "100 start app 0")
	})
}

func TestARetryLeavesWhatHasEndedForGood(t *testing.T) {
	inBubble(t, func(a *agency) {
		p := a.pod("app")
		p.Spec.RestartPolicy = v1.RestartPolicyNever
		a.wantPod(p)
		a.pass(1)
		a.host.exit("app", 1)
		a.pass(5)
		a.w.Retry()
		a.pass(10)
		a.expect("start", "0 start app 0")
	})
}

func TestARetryOfWhatIsNotThere(t *testing.T) {
	t.Parallel()
	a := &Agent{sources: newSources(SourceDirectory), feed: newFeed(), surroundings: &surroundings{roster: newRoster(node.NewObject("node", nil))}}
	web, db := types.NamespacedName{Namespace: "default", Name: "web"}, types.NamespacedName{Namespace: "default", Name: "db"}
	a.sources.tell(SourceDirectory, manifests.Set{Refused: []manifests.Refusal{{File: "db.yaml", Line: 3, Reason: "no", Of: manifests.PodKey(db)}}})
	if err := a.Retry(web); err == nil || err.Error() != "there is no Pod default/web" {
		t.Errorf("unknown: %v", err)
	}
	if err := a.Retry(db); err == nil || !strings.Contains(err.Error(), "its manifest is refused: db.yaml:3: no") {
		t.Errorf("refused: %v", err)
	}
	w := &worker{key: web, wake: make(chan struct{}, 1)}
	a.enlist(w)
	if err := a.Retry(web); err != nil || !w.retrying || len(w.wake) != 1 {
		t.Errorf("known: %v", err)
	}
}
