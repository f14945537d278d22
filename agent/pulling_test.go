package agent

import (
	"testing"
	"time"

	"github.com/podkeeper/podkeeper/agent/node"
)

func TestPeopleAreToldHowFarAPullIs(t *testing.T) {
	inBubble(t, func(a *agency) {
		a.host.pulled = func(told node.Pulling) {
			told.Begin("app:1")
			for done := int64(0); done < 10; done++ {
				told.Progress(done<<20+1, 10<<20)
				time.Sleep(time.Second)
			}
		}
		a.wantPod(a.pod("app"))
		for _, c := range []struct {
			at   float64
			want string
		}{{0.5, `Pulling image "app:1": 0 of 10 MiB`}, {4.5, `Pulling image "app:1": 4 of 10 MiB`}} {
			a.pass(c.at)
			if s := a.status("app"); s.State.Waiting == nil || s.State.Waiting.Reason != "ContainerCreating" || s.State.Waiting.Message != c.want {
				t.Errorf("after %v s: %+v, want %s", c.at, s.State.Waiting, c.want)
			}
		}
		a.pass(11)
		if s := a.status("app"); s.State.Running == nil {
			t.Errorf("in the end: %+v", s.State)
		}
	})
}
