package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/podkeeper/podkeeper/manifests"
	"github.com/podkeeper/podkeeper/runtime"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// pretended is a host in memory, with the clock of a synctest bubble. What its fields say may be changed by a test.
type pretended struct {
	begin time.Time
	wake  func(id string)

	mu        sync.Mutex
	sandboxes map[string]bool
	tasks     map[string]*task
	log       []string // what was done, with the seconds since the beginning

	prepare  func(ctx context.Context, t target) error // before an image is there
	start    func(ctx context.Context, t target) error // before a container is
	started  func(t target)                            // after it is, under no lock
	signal   func(ctx context.Context, t target, kill bool) error
	exec     func(t target) (int, error)
	oomKills uint64 // of every Pod
	deaf     bool   // SIGTERM is ignored
	blind    error  // of every look
	sweeps   error  // of the first sweep
}

type task struct {
	name     string
	running  bool
	code     int
	exitedAt time.Time
}

func (h *pretended) note(format string, args ...any) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.log = append(h.log, fmt.Sprintf("%v ", time.Since(h.begin).Seconds())+fmt.Sprintf(format, args...))
}

// held reads a field that a test may change meanwhile; set changes them.
func held[T any](h *pretended, field *T) T {
	h.mu.Lock()
	defer h.mu.Unlock()
	return *field
}

func (h *pretended) set(change func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	change()
}

// noted is what was done that begins so, after the seconds.
func (h *pretended) noted(prefix string) []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	var out []string
	for _, line := range h.log {
		if _, what, _ := strings.Cut(line, " "); strings.HasPrefix(what, prefix) {
			out = append(out, line)
		}
	}
	return out
}

// exit ends every running container of a name.
func (h *pretended) exit(name string, code int) {
	h.mu.Lock()
	var ids []string
	for id, k := range h.tasks {
		if k.name == name && k.running {
			k.running, k.code, k.exitedAt = false, code, time.Now()
			ids = append(ids, id)
		}
	}
	h.mu.Unlock()
	for _, id := range ids {
		h.wake(id)
	}
}

func (h *pretended) running() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	var names []string
	for _, k := range h.tasks {
		if k.running {
			names = append(names, k.name)
		}
	}
	slices.Sort(names)
	return names
}

func (h *pretended) LookSandbox(_ context.Context, t target) (bool, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.sandboxes[t.sandboxID()], h.blind
}

func (h *pretended) LookContainer(_ context.Context, t target) (runtime.Container, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	c := runtime.Container{ID: t.id(), State: runtime.Absent}
	if k := h.tasks[t.id()]; k != nil {
		c.State, c.ExitCode, c.ExitedAt = runtime.Stopped, k.code, k.exitedAt
		if k.running {
			c.State = runtime.Running
		}
	}
	return c, h.blind
}

func (h *pretended) CreateSandbox(_ context.Context, t target) ([]string, error) {
	h.note("sandbox %d", t.sandbox)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.sandboxes[t.sandboxID()] = true
	return []string{"10.88.0.2"}, nil
}

func (h *pretended) RemoveSandbox(_ context.Context, t target) error {
	h.note("no sandbox %d", t.sandbox)
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.sandboxes, t.sandboxID())
	return nil
}

func (h *pretended) Prepare(ctx context.Context, t target, clean bool, _ func()) (runtime.Pull, error) {
	h.note("prepare %s %d", t.container.Name, t.attempt)
	if hook := held(h, &h.prepare); hook != nil {
		if err := hook(ctx, t); err != nil {
			return runtime.Pull{}, err
		}
	}
	if clean {
		last := t
		last.attempt--
		_ = h.Clean(ctx, last)
	}
	return runtime.Pull{Image: runtime.Image{Name: "docker.io/" + t.container.Image}}, ctx.Err()
}

func (h *pretended) Start(ctx context.Context, t target, _ runtime.Image) (time.Time, error) {
	h.note("start %s %d", t.container.Name, t.attempt)
	if hook := held(h, &h.start); hook != nil {
		if err := hook(ctx, t); err != nil {
			return time.Time{}, err
		}
	}
	h.mu.Lock()
	h.tasks[t.id()] = &task{name: t.container.Name, running: true}
	h.mu.Unlock()
	if hook := held(h, &h.started); hook != nil {
		hook(t)
	}
	return time.Now(), nil
}

func (h *pretended) Signal(ctx context.Context, t target, kill bool) error {
	verb, code := "term", 143
	if kill {
		verb, code = "kill", 137
	}
	h.note("%s %s %d", verb, t.container.Name, t.attempt)
	if hook := held(h, &h.signal); hook != nil {
		if err := hook(ctx, t, kill); err != nil {
			return err
		}
	}
	if kill || !held(h, &h.deaf) {
		h.exit(t.container.Name, code)
	}
	return nil
}

func (h *pretended) Clean(_ context.Context, t target) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.tasks, t.id())
	return nil
}

func (h *pretended) OOMKilled(target, uint64) (bool, uint64) { return h.oomKills > 0, h.oomKills }

func (h *pretended) Exit(_ target, c runtime.Container, startedAt time.Time) *v1.ContainerStateTerminated {
	return &v1.ContainerStateTerminated{ExitCode: int32(c.ExitCode), StartedAt: metav1.NewTime(startedAt), FinishedAt: metav1.NewTime(c.ExitedAt)}
}

func (h *pretended) LogMessage(target) string { return "the last lines" }

func (h *pretended) Exec(_ context.Context, t target, _ []string) (int, []byte, error) {
	code, err := held(h, &h.exec)(t)
	return code, []byte("said"), err
}

func (h *pretended) Teardown(_ context.Context, t target, _ map[string]int) error {
	h.note("tear down")
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, k := range h.tasks {
		if k.running {
			return errors.New("a container still runs")
		}
	}
	clear(h.tasks)
	clear(h.sandboxes)
	return nil
}

func (h *pretended) Sweep(pod *v1.Pod) error {
	h.note("sweep")
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := h.sweeps; err != nil {
		h.sweeps = nil
		return err
	}
	return os.RemoveAll(podsOf(pod))
}

// podsOf is where the record of a Pod is; it is carried in an annotation, for Sweep is told nothing else.
func podsOf(pod *v1.Pod) string { return pod.Annotations["dir"] + "/" + string(pod.UID) }

// agency is a worker and all that it needs, in a bubble.
type agency struct {
	*testing.T
	host *pretended
	w    *worker
	dir  string

	mu     sync.Mutex
	ids    map[string]*worker
	cancel context.CancelFunc
	done   chan struct{}
}

// inBubble runs a test with a worker that wants nothing yet. At its end the worker is ended, and everything with it.
func inBubble(t *testing.T, test func(a *agency)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := &agency{T: t, dir: t.TempDir(), ids: map[string]*worker{}}
		a.host = &pretended{begin: time.Now(), sandboxes: map[string]bool{}, tasks: map[string]*task{}, wake: a.wake}
		a.employ(nil)
		defer func() { a.dismiss() }()
		test(a)
	})
}

func (a *agency) wake(id string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if w := a.ids[id]; w != nil {
		w.Wake()
	}
}

// employ starts a worker, with the instance that an earlier one has left.
func (a *agency) employ(inst *instance) {
	around := &surroundings{
		host: a.host, podsDir: a.dir, hostIPs: func() []string { return []string{"192.0.2.1"} }, timeout: 2 * time.Minute,
		events: newEvents("node"), metrics: newMetrics(prometheus.NewRegistry(), &Agent{}), log: slog.New(slog.DiscardHandler), started: time.Now(),
		register: func(id string, w *worker) {
			a.mu.Lock()
			defer a.mu.Unlock()
			a.ids[id] = w
		},
		retire: func(w *worker) bool {
			w.mu.Lock()
			defer w.mu.Unlock()
			return w.wanted == nil && a.host.begin.Before(time.Now()) // a first want is still to come
		},
	}
	a.w = newWorker(types.NamespacedName{Namespace: "default", Name: "web"}, around, inst)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	a.cancel, a.done = cancel, done
	w := a.w
	go func() {
		defer close(done)
		w.run(ctx)
	}()
}

// dismiss ends the worker as the end of the agent does.
func (a *agency) dismiss() {
	a.cancel()
	<-a.done
	synctest.Wait()
}

// succeed ends the worker and starts another one from what it has written.
func (a *agency) succeed() {
	a.Helper()
	a.dismiss()
	a.employ(a.written())
	synctest.Wait()
}

func (a *agency) written() *instance {
	a.Helper()
	whole, broken, err := loadInstances(a.dir)
	if err != nil || len(broken) > 0 || len(whole) != 1 {
		a.Fatalf("%d whole instances, %d broken: %v", len(whole), len(broken), err)
	}
	return whole[0]
}

// pass lets time pass until this many seconds after the beginning.
func (a *agency) pass(until float64) {
	time.Sleep(time.Until(a.host.begin.Add(time.Duration(until * float64(time.Second)))))
	synctest.Wait()
}

// want wants a Pod of some containers.
func (a *agency) want(revision string, names ...string) *v1.Pod {
	p := a.pod(names...)
	a.w.want(&manifests.Pod{Pod: p, Revision: revision})
	return p
}

func (a *agency) pod(names ...string) *v1.Pod {
	p := &v1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web", Annotations: map[string]string{"dir": a.dir}}}
	p.Spec.RestartPolicy = v1.RestartPolicyAlways
	for _, name := range names {
		p.Spec.Containers = append(p.Spec.Containers, v1.Container{Name: name, Image: name + ":1"})
	}
	return p
}

func (a *agency) wantPod(p *v1.Pod) { a.w.want(&manifests.Pod{Pod: p, Revision: "1"}) }

// status is the published status of a container.
func (a *agency) status(name string) v1.ContainerStatus {
	a.Helper()
	pod := a.w.published.Load()
	if pod == nil {
		a.Fatal("no Pod is published")
	}
	for _, s := range append(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses...) {
		if s.Name == name {
			return s
		}
	}
	a.Fatalf("no status of %s", name)
	return v1.ContainerStatus{}
}

func (a *agency) ready() bool {
	for _, c := range a.w.published.Load().Status.Conditions {
		if c.Type == v1.PodReady {
			return c.Status == v1.ConditionTrue
		}
	}
	return false
}

// expect compares what was done that begins with prefix. What is done at one time has no order.
func (a *agency) expect(prefix string, want ...string) {
	a.Helper()
	slices.Sort(want)
	if got := slices.Sorted(slices.Values(a.host.noted(prefix))); !slices.Equal(got, want) {
		a.Errorf("%s: got %q, want %q", prefix, got, want)
	}
}

func execProbe(period, threshold int32) *v1.Probe {
	return &v1.Probe{
		ProbeHandler:  v1.ProbeHandler{Exec: &v1.ExecAction{Command: []string{"check"}}},
		PeriodSeconds: period, FailureThreshold: threshold, SuccessThreshold: 1, TimeoutSeconds: 1,
	}
}
