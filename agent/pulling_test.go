package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
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

func TestPullsAreToldInTheKubeletsWords(t *testing.T) {
	for sentence, r := range map[string]struct {
		pull node.Pull
		want string
	}{
		"an image that is there": {node.Pull{}, `Container image "app:1" already present on machine`},
		"one that was pulled": {node.Pull{Pulled: true, Took: 1200*time.Millisecond + 345*time.Microsecond, Waiting: 1300 * time.Millisecond, Image: node.Image{Size: 5 << 20}},
			`Successfully pulled image "app:1" in 1.2s (1.3s including waiting). Image size: 5242880 bytes.`},
	} {
		t.Run(sentence, func(t *testing.T) {
			inBubble(t, func(a *agency) {
				a.host.pulled = func(told node.Pulling) {
					if r.pull.Pulled {
						told.Begin("app:1")
					}
				}
				a.host.pull = r.pull
				a.wantPod(a.pod("app"))
				a.pass(1)
				if got := a.reasons("Pulled"); !slices.Equal(got, []string{r.want}) {
					t.Errorf("got %q, want %q", got, r.want)
				}
				if got := a.reasons("Pulling"); slices.Equal(got, []string{`Pulling image "app:1"`}) != r.pull.Pulled {
					t.Errorf("before, people are told %q", got)
				}
			})
		})
	}
}

func TestImagesThatAreNotToBeHad(t *testing.T) {
	for sentence, r := range map[string]struct {
		err         error
		event, want string
	}{
		"it must not be pulled":  {fmt.Errorf("%s: %s", node.ErrImageNeverPull, "Container image is not present"), "ErrImageNeverPull", "Container image is not present"},
		"its name is none":       {fmt.Errorf("%s: %q: no name", node.InvalidImageName, "A:1"), "InspectFailed", `Failed to apply default image tag "A:1": no name`},
		"it cannot be read":      {fmt.Errorf("%s: image %q: disk", node.ImageInspectError, "app:1"), "InspectFailed", `Failed to inspect image "app:1": disk`},
		"it is not the registry": {fmt.Errorf("%s: no space", node.CreateContainerError), "Failed", "no space"},
	} {
		t.Run(sentence, func(t *testing.T) {
			inBubble(t, func(a *agency) {
				reason, message, _ := strings.Cut(r.err.Error(), ": ")
				a.host.prepare = func(context.Context, node.Target) error { return &node.Fault{Reason: reason, Err: r.err} }
				a.wantPod(a.pod("app"))
				a.pass(25)
				if got := a.reasons(r.event); len(got) == 0 || got[0] != r.want {
					t.Errorf("people are told %q, want %q", got, r.want)
				}
				if got := a.reasons("Failed"); got[len(got)-1] != "Error: "+reason {
					t.Errorf("people are told %q, which does not end in %s", got, reason)
				}
				if s := a.status("app").State.Waiting; s == nil || s.Reason != reason || s.Message != message {
					t.Errorf("it waits as %+v", s)
				}
				a.expect("prepare", "0 prepare app 0", "10 prepare app 0")
			})
		})
	}
}

// refusing has the registry refuse an image when told to.
func (a *agency) refusing(image string, refused *atomic.Bool) {
	a.host.prepare = func(_ context.Context, t node.Target) error {
		if t.Container.Image == image && refused.Load() {
			return &node.Fault{Reason: node.ErrImagePull, Err: errors.New("no such host")}
		}
		return nil
	}
}

func TestAnotherImageDoesNotWaitForThePullOfTheOneBefore(t *testing.T) {
	inBubble(t, func(a *agency) {
		var refused atomic.Bool
		refused.Store(true)
		a.refusing("app:1", &refused)
		p := a.pod("app")
		a.wantPod(p)
		a.pass(15)
		mended := p.DeepCopy()
		mended.Spec.Containers[0].Image = "app:2"
		a.wish(mended, "2")
		a.pass(16)
		a.expect("prepare", "0 prepare app 0", "10 prepare app 0", "15 prepare app 0")
		a.expect("start", "15 start app 0")
	})
}

// A pull that succeeds ends the back-off of those that failed, where the kubelet remembers it for ten minutes.
func TestTheBackoffOfPullsStartsOverWithASuccess(t *testing.T) {
	inBubble(t, func(a *agency) {
		var refused atomic.Bool
		refused.Store(true)
		a.refusing("app:1", &refused)
		a.want("1", "app")
		a.pass(25)
		refused.Store(false)
		a.pass(40)
		refused.Store(true)
		a.host.exit("app", 1)
		a.pass(55)
		a.expect("prepare", "0 prepare app 0", "10 prepare app 0", "30 prepare app 0", "40 prepare app 1", "50 prepare app 1")
	})
}
