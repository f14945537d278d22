package agent

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"

	v1 "k8s.io/api/core/v1"

	"github.com/podkeeper/podkeeper/server"
)

const looking = `{"name": "look", "image": "look:1", "targetContainerName": "app"}`

func (a *agency) add(container string) error {
	return a.w.request(func() error { return a.w.addEphemeral([]byte(container)) })
}

func (a *agency) ephemeral() v1.ContainerStatus {
	a.Helper()
	all := a.w.published.Load().Status.EphemeralContainerStatuses
	if len(all) != 1 {
		a.Fatalf("%d ephemeral containers are told of", len(all))
	}
	return all[0]
}

func TestAnEphemeralContainerRunsOnce(t *testing.T) {
	inBubble(t, func(a *agency) {
		a.want("1", "app")
		a.pass(5)
		if err := a.add(looking); err != nil {
			t.Fatal(err)
		}
		a.pass(6)
		a.expect("start", "0 start app 0", "5 start look 0")
		if s := a.ephemeral(); s.State.Running == nil || s.Ready {
			t.Errorf("it is told as %+v", s)
		}
		a.host.exit("look", 3)
		a.pass(100)
		a.expect("start", "0 start app 0", "5 start look 0")
		if s := a.ephemeral(); s.State.Terminated == nil || s.State.Terminated.ExitCode != 3 {
			t.Errorf("it has ended as %+v", s)
		}
		if !a.ready() {
			t.Error("the Pod is not ready for it")
		}
		a.w.want(nil)
		a.pass(101)
		a.expect("tear down", "100 tear down")
	})
}

func TestAnEphemeralContainerSurvivesTheAgentAndEdits(t *testing.T) {
	inBubble(t, func(a *agency) {
		p := a.want("1", "app")
		a.pass(5)
		if err := a.add(looking); err != nil {
			t.Fatal(err)
		}
		a.pass(6)
		a.succeed()
		edited := p.DeepCopy()
		edited.Labels = map[string]string{"a": "b"}
		a.wish(edited, "2")
		a.pass(10)
		if a.ephemeral().State.Running == nil || a.w.published.Load().Labels["a"] != "b" {
			t.Errorf("it is lost: %+v", a.w.published.Load().Status)
		}
		a.expect("start", "0 start app 0", "5 start look 0")
		a.expect("term")
		a.wish(a.pod("app", "more"), "3")
		a.pass(20)
		if got := a.w.published.Load(); len(got.Spec.EphemeralContainers) != 0 {
			t.Error("it is in another Pod")
		}
		a.expect("term", "10 term app 0", "10 term look 0")
	})
}

func TestEphemeralContainersDoNotDecideAPodsFate(t *testing.T) {
	inBubble(t, func(a *agency) {
		p := a.pod("app")
		p.Spec.RestartPolicy = v1.RestartPolicyNever
		p.Spec.InitContainers = []v1.Container{{Name: "init", Image: "init:1"}}
		a.wantPod(p)
		a.pass(1)
		if err := a.add(`{"name": "look", "image": "look:1"}`); err != nil { // beside an init container
			t.Fatal(err)
		}
		a.pass(2)
		a.host.exit("init", 0)
		a.pass(3)
		a.host.exit("app", 0)
		a.pass(5)
		a.expect("start", "0 start init 0", "1 start look 0", "2 start app 0")
		a.expect("term", "3 term look 0")
		if phase := a.w.published.Load().Status.Phase; phase != v1.PodSucceeded {
			t.Errorf("the Pod is %s", phase)
		}
		if err := a.add(`{"name": "late", "image": "look:1"}`); !errors.Is(err, server.ErrConflict) {
			t.Errorf("one is added to a Pod that is done: %v", err)
		}
	})
}

func TestEphemeralContainersThatAreRefused(t *testing.T) {
	inBubble(t, func(a *agency) {
		if err := a.add(looking); !errors.Is(err, server.ErrConflict) {
			t.Errorf("to a Pod that has not begun: %v", err)
		}
		a.want("1", "app")
		a.pass(1)
		if err := a.add(`{"name": "app", "image": "look:1"}`); !errors.Is(err, server.ErrInvalid) {
			t.Errorf("with a name that is taken: %v", err)
		}
		for i := range 2 {
			if err := a.add(fmt.Sprintf(`{"name": "look%d", "image": "look:1"}`, i)); err != nil {
				t.Error(err)
			}
		}
		a.pass(2)
		a.expect("start look", "1 start look0 0", "1 start look1 0")
		a.w.want(nil)
		a.pass(3)
		synctest.Wait()
		if err := a.add(looking); !errors.Is(err, server.ErrNoPod) && !errors.Is(err, server.ErrConflict) {
			t.Errorf("to a Pod that is gone: %v", err)
		}
	})
}
