package agent

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"

	"github.com/podkeeper/podkeeper/agent/node"
	"github.com/podkeeper/podkeeper/manifests"
)

// mortal is the host as an agent sees it that is killed at one of its steps: before something is done to the host, or after it and
// before the agent has heard of that. From then on it does nothing more, and writes nothing down.
type mortal struct {
	*pretended
	dir string // of records

	mu      sync.Mutex
	steps   int
	last    int               // the step at which it is killed
	records map[string][]byte // what was written down until then, by the name of the file; nil while it lives
}

var errKilled = errors.New("the agent was killed")

// step is called before and after each deed.
func (m *mortal) step(ctx context.Context) error {
	m.mu.Lock()
	m.steps++
	if m.steps == m.last {
		m.records = m.read()
	}
	dead := m.records != nil
	m.mu.Unlock()
	if !dead {
		return nil
	}
	<-ctx.Done()
	return errKilled
}

// read answers the records. What is being written meanwhile has another name then.
func (m *mortal) read() map[string][]byte {
	files, _ := filepath.Glob(filepath.Join(m.dir, "*", "*"))
	records := map[string][]byte{}
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			return m.read()
		}
		records[file] = content
	}
	return records
}

// do does something to the host between two steps.
func do[T any](ctx context.Context, m *mortal, deed func() (T, error)) (T, error) {
	var none T
	if err := m.step(ctx); err != nil {
		return none, err
	}
	done, err := deed()
	if killed := m.step(ctx); killed != nil {
		return none, killed
	}
	return done, err
}

func (m *mortal) try(ctx context.Context, deed func() error) error {
	_, err := do(ctx, m, func() (struct{}, error) { return struct{}{}, deed() })
	return err
}

func (m *mortal) CreateSandbox(ctx context.Context, t node.Target) ([]string, error) {
	return do(ctx, m, func() ([]string, error) { return m.pretended.CreateSandbox(ctx, t) })
}

func (m *mortal) Attach(ctx context.Context, t node.Target) ([]string, error) {
	return do(ctx, m, func() ([]string, error) { return m.pretended.Attach(ctx, t) })
}

func (m *mortal) RemoveSandbox(ctx context.Context, t node.Target, made ...node.Target) error {
	return m.try(ctx, func() error { return m.pretended.RemoveSandbox(ctx, t, made...) })
}

func (m *mortal) Prepare(ctx context.Context, t node.Target, told node.Pulling) (node.Pull, error) {
	return do(ctx, m, func() (node.Pull, error) { return m.pretended.Prepare(ctx, t, told) })
}

func (m *mortal) Create(ctx context.Context, t node.Target, image node.Image) (*v1.ContainerUser, error) {
	return do(ctx, m, func() (*v1.ContainerUser, error) { return m.pretended.Create(ctx, t, image) })
}

func (m *mortal) Start(ctx context.Context, t node.Target) (time.Time, error) {
	return do(ctx, m, func() (time.Time, error) { return m.pretended.Start(ctx, t) })
}

func (m *mortal) Signal(ctx context.Context, t node.Target, kill bool) error {
	return m.try(ctx, func() error { return m.pretended.Signal(ctx, t, kill) })
}

func (m *mortal) Clean(ctx context.Context, t node.Target) error {
	return m.try(ctx, func() error { return m.pretended.Clean(ctx, t) })
}

func (m *mortal) RemoveOld(ctx context.Context, t node.Target) error {
	return m.try(ctx, func() error { return m.pretended.RemoveOld(ctx, t) })
}

func (m *mortal) Refresh(ctx context.Context, t node.Target) error {
	return m.try(ctx, func() error { return m.pretended.Refresh(ctx, t) })
}

func (m *mortal) Resize(ctx context.Context, t node.Target, containers []node.Resize, after *v1.Pod) ([]string, error) {
	return do(ctx, m, func() ([]string, error) { return m.pretended.Resize(ctx, t, containers, after) })
}

func (m *mortal) Teardown(ctx context.Context, t node.Target, attempts map[string]int) error {
	return m.try(ctx, func() error { return m.pretended.Teardown(ctx, t, attempts) })
}

func (m *mortal) Release(ctx context.Context, t node.Target, detached bool) error {
	return m.try(ctx, func() error { return m.pretended.Release(ctx, t, detached) })
}

func (m *mortal) Forget(pod *v1.Pod) error {
	ended, cancel := context.WithCancel(context.Background())
	cancel() // nothing ends what Forget waits for
	return m.try(ended, func() error { return m.pretended.Forget(pod) })
}

// newMortal has the agent that a fate begins with be killed at a step.
func newMortal(f *fate, step int) *mortal {
	m := &mortal{pretended: f.host, dir: f.dir, last: step}
	f.seen, f.host.undoing = m, m.step
	f.dismiss()
	f.employ(nil)
	return m
}

// pass lets time pass. Where the agent has been killed, another one takes over.
func (m *mortal) pass(f *fate, seconds int) {
	for range seconds {
		time.Sleep(time.Second)
		m.mu.Lock()
		killed := m.records != nil
		m.mu.Unlock()
		if killed && f.seen != nil {
			f.seen = nil
			f.dismiss()
			f.host.set(func() { f.host.undoing = nil })
			m.bury()
			f.takeOver()
		}
	}
}

// bury has the records be those that the killed agent has left, once it is gone.
func (m *mortal) bury() {
	dirs, _ := filepath.Glob(filepath.Join(m.dir, "*"))
	for _, dir := range dirs {
		_ = os.RemoveAll(dir)
	}
	for file, content := range m.records {
		_ = os.MkdirAll(filepath.Dir(file), 0o700)
		_ = os.WriteFile(file, content, 0o600)
	}
}

// atEachStep has an agent live a life once for each step that this takes, or for some of them by chance, and be killed at it. Another
// one goes on; at the end nothing is wanted, and nothing is left.
func atEachStep(t *testing.T, live func(f *fate, pass func(seconds int))) {
	t.Parallel()
	stride := 1
	if testing.Short() {
		stride = 8
	}
	seed := rand.Uint64()
	for step, was := 1, true; was && !t.Failed(); step += 1 + rand.IntN(stride) {
		was = killedAt(t, seed, step, live)
	}
}

// killedAt says whether there was such a step.
func killedAt(t *testing.T, seed uint64, step int, live func(f *fate, pass func(seconds int))) (was bool) {
	t.Run(fmt.Sprintf("step %d of seed %d", step, seed), func(t *testing.T) {
		alone(t, func(a *agency) {
			f := newFate(a, seed)
			f.calm = true
			f.attend()
			m := newMortal(f, step)
			pass := func(seconds int) { m.pass(f, seconds) }
			live(f, pass)
			f.pod = nil
			f.w.want(nil)
			pass(600)
			was = f.seen == nil
			f.nothingIsLeft()
		})
	})
	return was
}

// TestKilledBetweenAnyTwoSteps has a Pod meet an edit, an edit in place, an end of a container, a probe that fails, and the end of its
// sandbox: what runs is what is wanted, in its order and once.
func TestKilledBetweenAnyTwoSteps(t *testing.T) {
	atEachStep(t, func(f *fate, pass func(seconds int)) {
		f.wantSome()
		pass(60)
		for _, event := range []func(){
			f.wantSome,
			f.resizeSome,
			func() { f.host.exit("app", 1) },
			func() { f.set("more", true) },
			f.host.loseSandbox,
		} {
			event()
			pass(60)
			f.set("more", false)
			pass(400)
			if got := f.host.running(); !slices.Equal(got, []string{"app", "more", "side"}) || f.w.published.Load() == nil || !f.ready() {
				f.Fatalf("there run %v\n%s\n%s", got, f.told(), strings.Join(f.host.log, "\n"))
			}
			if got := f.limits(); got != f.sizes() {
				f.Errorf("limits are %s, want %s", got, f.sizes())
			}
		}
	})
}

// TestAJobRunsOnceWhereverItsAgentIsKilled has a Pod that never restarts come to its end, by way of a network that fails at first.
func TestAJobRunsOnceWhereverItsAgentIsKilled(t *testing.T) {
	atEachStep(t, func(f *fate, pass func(seconds int)) {
		failed := false
		runs := map[string]int{}
		f.host.set(func() {
			f.host.start, f.host.command = nil, nil
			f.host.attach = func(context.Context) error {
				time.Sleep(time.Second) // the first container is made meanwhile
				if !held(f.host, &failed) {
					f.host.set(func() { failed = true })
					return errors.New("no address is free")
				}
				return nil
			}
			f.host.started = func(t node.Target) {
				f.host.set(func() { runs[t.Container.Name]++ })
				go func() {
					time.Sleep(2 * time.Second)
					f.host.end(t.ID(), 0)
				}()
			}
		})
		f.pod = f.agency.pod("app")
		f.pod.Spec.RestartPolicy = v1.RestartPolicyNever
		f.pod.Spec.InitContainers = []v1.Container{{Name: "init", Image: "i:1"}}
		f.pod.Labels = map[string]string{"version": "1"}
		f.pod = manifests.Normalise(f.pod)
		f.tell()
		pass(300)
		if got := f.w.published.Load(); got == nil || got.Status.Phase != v1.PodSucceeded || fmt.Sprint(runs) != "map[app:1 init:1]" {
			f.Errorf("runs %v; %s", runs, f.told())
		}
	})
}

// set has the probes of a container fail or not.
func (f *fate) set(container string, sick bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.sick[container] = sick
}
