package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strconv"
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

	"github.com/podkeeper/podkeeper/agent/node"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// pretended is a host in memory, with the clock of a synctest bubble. What its fields say may be changed by a test.
type pretended struct {
	forgets bool  // what it has made
	leaves  error // of a removal of a sandbox
	begin   time.Time
	wake    func(id string)

	mu        sync.Mutex
	sandboxes map[string]bool
	tasks     map[string]*task
	log       []string // what was done, with the seconds since the beginning

	sandbox  func(t node.Target)                            // before one is made, under no lock
	attach   func(ctx context.Context) error                // before the network is there
	prepare  func(ctx context.Context, t node.Target) error // before an image is there
	pulled   func(told node.Pulling)                        // before that
	pull     node.Pull                                      // what it comes to
	start    func(ctx context.Context, t node.Target) error // before a container is
	started  func(t node.Target)                            // after it is, under no lock
	signal   func(ctx context.Context, t node.Target, kill bool) error
	exec     func(t node.Target) (int, error)
	command  func(ctx context.Context, t node.Target, command []string) (int, error) // instead of exec
	oomKills uint64                                                                  // of every Pod
	deaf     bool                                                                    // SIGTERM is ignored
	blind    error                                                                   // of every look
	sweeps   error                                                                   // of the first sweep
	undoing  func(ctx context.Context) error                                         // amid the removal of a container that was never started
	hostIP   string
	hangs    string // a container that looks hang on
	lost     string // a container that the runtime has lost sight of
	clean    func() // before a task is deleted
	release  func(ctx context.Context) error
	refresh  func(ctx context.Context) error
	tear     func()          // before an instance is torn down
	looked   func()          // once, in the middle of a look, under no lock
	mute     map[string]bool // containers whose log cannot be opened
	services []*v1.Service   // that there are
	resize   func(ctx context.Context) error
	quotas   map[types.UID]int64 // of the Pods' cgroups, in thousandths of a CPU; 0 is none
	cramped  []string            // containers that had more than the cgroup of their Pod, which no kernel has
	given    string              // what objects said under the key a at the last start or refresh
}

type task struct {
	name     string
	pod      types.UID
	made     bool  // and never started
	cpu      int64 // that it is limited to, in thousandths
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
func (h *pretended) exit(name string, code int) { h.exitOf("", name, code) }

// exitOf ends those of a Pod, of every one for "".
func (h *pretended) exitOf(pod types.UID, name string, code int) {
	h.mu.Lock()
	var ids []string
	for id, k := range h.tasks {
		if k.name == name && k.running && (pod == "" || k.pod == pod) {
			k.running, k.code, k.exitedAt = false, code, time.Now()
			ids = append(ids, id)
		}
	}
	h.mu.Unlock()
	for _, id := range ids {
		h.wake(id)
	}
}

func (h *pretended) runs(id string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	k := h.tasks[id]
	return k != nil && k.running
}

// end ends one container, if it runs.
func (h *pretended) end(id string, code int) {
	h.mu.Lock()
	if k := h.tasks[id]; k != nil && k.running {
		k.running, k.code, k.exitedAt = false, code, time.Now()
		defer h.wake(id)
	}
	h.mu.Unlock()
}

// loseSandbox ends the pause processes.
func (h *pretended) loseSandbox() {
	h.mu.Lock()
	var lost []string
	for id, alive := range h.sandboxes {
		if alive {
			h.sandboxes[id] = false
			lost = append(lost, id)
		}
	}
	h.mu.Unlock()
	for _, id := range lost {
		h.wake(id)
	}
}

// died says whether a sandbox was made and has lost its pause process.
func (h *pretended) died(id string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	alive, made := h.sandboxes[id]
	return made && !alive
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

func (h *pretended) LookSandbox(_ context.Context, t node.Target) (bool, error) {
	if looked := held(h, &h.looked); looked != nil {
		h.set(func() { h.looked = nil })
		looked()
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.sandboxes[t.SandboxID()], h.blind
}

func (h *pretended) LookContainer(ctx context.Context, t node.Target) (node.Container, error) {
	if held(h, &h.hangs) == t.Container.Name && !t.Overdue {
		<-ctx.Done()
		return node.Container{}, ctx.Err()
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	c := node.Container{State: node.Absent}
	if k := h.tasks[t.ID()]; k != nil {
		c.State, c.ExitCode, c.ExitedAt = node.Stopped, k.code, k.exitedAt
		if k.made {
			c.State = node.Created
		}
		if k.running {
			c.State = node.Running
			if h.lost == t.Container.Name {
				c.State, h.lost = node.Lost, ""
			}
		}
	}
	return c, h.blind
}

func (h *pretended) CreateSandbox(_ context.Context, t node.Target) ([]string, error) {
	h.note("sandbox %d", t.Sandbox)
	if hook := held(h, &h.sandbox); hook != nil {
		hook(t)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.sandboxes[t.SandboxID()] = true
	h.limit(t.Room)
	return nil, nil
}

func (h *pretended) Attach(ctx context.Context, t node.Target) ([]string, error) {
	h.note("attach %d", t.Sandbox)
	if hook := held(h, &h.attach); hook != nil {
		if err := hook(ctx); err != nil {
			return nil, err
		}
	}
	return []string{"10.88.0.2"}, nil
}

func (h *pretended) RemoveSandbox(ctx context.Context, t node.Target, made ...node.Target) error {
	h.note("no sandbox %d", t.Sandbox)
	for _, of := range made {
		if err := h.undo(ctx, of); err != nil {
			return err
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.sandboxes, t.SandboxID())
	return h.leaves
}

// undo removes a container that was made. Of one that was never started containerd says, before it is gone, that it has ended with 0.
func (h *pretended) undo(ctx context.Context, t node.Target) error {
	h.mu.Lock()
	if k := h.tasks[t.ID()]; k != nil {
		k.made, k.running = false, false
	}
	h.mu.Unlock()
	if undoing := held(h, &h.undoing); undoing != nil {
		if err := undoing(ctx); err != nil {
			return err
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.tasks, t.ID())
	return nil
}

func (h *pretended) Prepare(ctx context.Context, t node.Target, told node.Pulling) (node.Pull, error) {
	if pulled := held(h, &h.pulled); pulled != nil {
		pulled(told)
	}
	h.note("prepare %s %d", t.Container.Name, t.Attempt)
	if hook := held(h, &h.prepare); hook != nil {
		if err := hook(ctx, t); err != nil {
			return node.Pull{}, err
		}
	}
	pull := held(h, &h.pull)
	pull.Image.Name = "docker.io/" + t.Container.Image
	return pull, ctx.Err()
}

func (h *pretended) Create(ctx context.Context, t node.Target, _ node.Image) (*v1.ContainerUser, error) {
	h.note("create %s %d", t.Container.Name, t.Attempt)
	if t.Leftover {
		if err := h.undo(ctx, t); err != nil {
			return nil, err
		}
	}
	for _, s := range t.Services {
		h.note("told of %s", s.Name)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.forgets {
		h.tasks[t.ID()] = &task{name: t.Container.Name, pod: t.Pod.UID, made: true, cpu: t.Container.Resources.Limits.Cpu().MilliValue()}
	}
	h.check("create " + t.Container.Name)
	return &v1.ContainerUser{Linux: &v1.LinuxContainerUser{UID: 7}}, nil
}

// give notes what the objects of a Pod say.
func (h *pretended) give(t node.Target) {
	var said []string
	for key, o := range t.Objects {
		said = append(said, key.Name+"="+o.Object.(*v1.ConfigMap).Data["a"])
	}
	slices.Sort(said)
	h.set(func() { h.given = strings.Join(said, " ") })
}

func (h *pretended) Start(ctx context.Context, t node.Target) (time.Time, error) {
	h.give(t)
	h.note("start %s %d", t.Container.Name, t.Attempt)
	if hook := held(h, &h.start); hook != nil {
		if err := hook(ctx, t); err != nil {
			return time.Time{}, err
		}
	}
	h.mu.Lock()
	k := h.tasks[t.ID()]
	if k == nil || !k.made {
		h.mu.Unlock()
		return time.Time{}, errors.New("no such task")
	}
	h.tasks[t.ID()] = &task{name: t.Container.Name, pod: t.Pod.UID, running: true, cpu: k.cpu}
	h.mu.Unlock()
	if hook := held(h, &h.started); hook != nil {
		hook(t)
	}
	return time.Now(), nil
}

func (h *pretended) RemoveOld(ctx context.Context, t node.Target) error {
	h.note("tidy %s %d", t.Container.Name, t.Attempt-1)
	if t.Uncleaned {
		_ = h.Clean(ctx, t.Of(t.Attempt-1))
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if _, there := h.tasks[t.Of(t.Attempt-1).ID()]; there {
		return errors.New("it still has its task")
	}
	return nil
}

func (h *pretended) Refresh(ctx context.Context, t node.Target) error {
	h.note("refresh %s", t.Pod.Labels["version"])
	h.give(t)
	if refresh := held(h, &h.refresh); refresh != nil {
		return refresh(ctx)
	}
	return nil
}

func (h *pretended) Resize(ctx context.Context, t node.Target, containers []node.Resize, after *v1.Pod) (given []string, err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	cpu := func(p *v1.Pod) string { return p.Spec.Containers[0].Resources.Limits.Cpu().String() }
	for _, c := range containers {
		given = append(given, c.Container.Name)
	}
	h.note("resize %s, its Pod to %s, then %s", strings.Join(given, " "), cpu(t.Room), cpu(after))
	time.Sleep(time.Millisecond) // what comes at the same time may be first
	h.set(func() { h.limit(t.Room) })
	if resize := held(h, &h.resize); resize != nil {
		if err := resize(ctx); err != nil {
			return nil, err
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, c := range containers {
		if k := h.tasks[c.ID()]; k != nil {
			k.cpu = c.Container.Resources.Limits.Cpu().MilliValue()
		}
	}
	h.limit(after)
	return given, nil
}

// limit gives the cgroup of a Pod the sum of what its containers are limited to.
func (h *pretended) limit(pod *v1.Pod) {
	if h.quotas == nil {
		h.quotas = map[types.UID]int64{}
	}
	h.quotas[pod.UID] = 0
	for _, c := range pod.Spec.Containers {
		h.quotas[pod.UID] += c.Resources.Limits.Cpu().MilliValue()
	}
	h.check("limit")
}

// check notes whose limit is above that of its Pod.
func (h *pretended) check(when string) {
	for _, k := range h.tasks {
		if quota := h.quotas[k.pod]; quota > 0 && k.cpu > quota {
			h.cramped = append(h.cramped, fmt.Sprintf("%v %s: %s has %d of %d", time.Since(h.begin).Seconds(), when, k.name, k.cpu, quota))
		}
	}
}

func (h *pretended) Signal(ctx context.Context, t node.Target, kill bool) error {
	verb, code := "term", 143
	if kill {
		verb, code = "kill", 137
	}
	h.note("%s %s %d", verb, t.Container.Name, t.Attempt)
	if hook := held(h, &h.signal); hook != nil {
		if err := hook(ctx, t, kill); err != nil {
			return err
		}
	}
	if kill || !held(h, &h.deaf) {
		h.exitOf(t.Pod.UID, t.Container.Name, code)
	}
	return nil
}

func (h *pretended) Clean(_ context.Context, t node.Target) error {
	if clean := held(h, &h.clean); clean != nil {
		clean()
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.tasks, t.ID())
	return nil
}

func (h *pretended) OOMKills(node.Target) (node.OOMKills, error) {
	return node.OOMKills{Own: h.oomKills, Shmem: 40 << 20}, nil
}

func (h *pretended) Exit(_ node.Target, c node.Container, startedAt time.Time) *v1.ContainerStateTerminated {
	return &v1.ContainerStateTerminated{ExitCode: int32(c.ExitCode), StartedAt: metav1.NewTime(startedAt), FinishedAt: metav1.NewTime(c.ExitedAt)}
}

func (h *pretended) LogMessage(node.Target) string { return "the last lines" }

func (h *pretended) Exec(ctx context.Context, t node.Target, command []string) (int, []byte, error) {
	if run := held(h, &h.command); run != nil {
		h.note("exec %s %s", t.Container.Name, strings.Join(command, " "))
		code, err := run(ctx, t, command)
		return code, []byte("said"), err
	}
	code, err := held(h, &h.exec)(t)
	return code, []byte("said"), err
}

func (h *pretended) Teardown(_ context.Context, t node.Target, _ map[string]int) error {
	h.note("tear down")
	if tear := held(h, &h.tear); tear != nil {
		tear()
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	own := func(_ string, k *task) bool { return k.pod == t.Pod.UID }
	for id, k := range h.tasks {
		if k.running && own(id, k) {
			return errors.New("a container still runs")
		}
	}
	maps.DeleteFunc(h.tasks, own)
	delete(h.sandboxes, t.SandboxID())
	return nil
}

func (h *pretended) Carry(t node.Target) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.mute[t.Container.Name] {
		return errors.New("no space left on device")
	}
	return nil
}

func (h *pretended) Release(ctx context.Context, _ node.Target, _ bool) error {
	h.note("sweep")
	if release := held(h, &h.release); release != nil {
		return release(ctx)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	err := h.sweeps
	h.sweeps = nil
	return err
}

func (h *pretended) Forget(pod *v1.Pod) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return os.RemoveAll(podsOf(pod))
}

// podsOf is where the record of a Pod is; it is carried in an annotation, for Forget is told nothing else.
func podsOf(pod *v1.Pod) string { return pod.Annotations["dir"] + "/" + string(pod.UID) }

// agency is a worker and all that it needs, in a bubble.
type agency struct {
	*testing.T
	host *pretended
	seen host // the host as the next worker sees it; nil is as it is
	w    *worker
	dir  string

	roster *roster
	others []func() // end further workers
	cancel context.CancelFunc
	done   chan struct{}
}

// inBubble runs a test with a worker that wants nothing yet. At its end the worker is ended, and everything with it.
func inBubble(t *testing.T, test func(a *agency)) {
	t.Helper()
	t.Parallel()
	alone(t, test)
}

// alone is inBubble beside no other test.
func alone(t *testing.T, test func(a *agency)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		a := &agency{T: t, dir: memoryDir(t)}
		a.host = &pretended{hostIP: "192.0.2.1", begin: time.Now(), sandboxes: map[string]bool{}, tasks: map[string]*task{}, wake: a.wake}
		a.employ(nil)
		defer func() { a.dismiss() }()
		test(a)
	})
}

// memoryDir is a folder in memory, where there can be one: records are synchronised with the disk, which takes its time.
func memoryDir(t *testing.T) string {
	dir, err := os.MkdirTemp("/dev/shm", "podkeeper-test-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func (a *agency) wake(id string) {
	if w := a.roster.of(id); w != nil {
		w.Wake()
	}
}

// employ starts a worker, with the instance that an earlier one has left.
func (a *agency) employ(inst *instance) {
	a.roster = newRoster(node.NewObject("node", nil))
	around := &surroundings{
		roster: a.roster, host: cmp.Or[host](a.seen, a.host), podsDir: a.dir, hostIPs: func() []string { return []string{held(a.host, &a.host.hostIP)} }, timeout: 2 * time.Minute,
		events: newEvents("node"), metrics: newMetrics(prometheus.NewRegistry(), &Agent{}), log: discard(), started: time.Now(),
	}
	around.freeUsers = oneByOne
	around.freeLevel = func([]string) (string, bool) { return "s0:c1,c2", true }
	around.services = func(*v1.Pod) []*v1.Service { return held(a.host, &a.host.services) }
	around.rule = func(_ types.NamespacedName, revision string, ruling Ruling) {
		a.w.mu.Lock()
		wanted := a.w.wanted
		a.w.mu.Unlock()
		if wanted != nil && wanted.Pod.Revision == revision {
			a.w.want(&Wish{Pod: wanted.Pod, Source: wanted.Source, Ruling: ruling})
		}
	}
	a.w = newWorker(types.NamespacedName{Namespace: "default", Name: "web"}, around)
	if inst != nil {
		a.w.adopt(inst)
	} else {
		a.w.awaiting = true // the first wish is still to come
	}
	a.roster.enlist(a.w)
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
	for _, end := range a.others {
		end()
	}
	a.others = nil
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
	for i := range p.Spec.Containers {
		p.Spec.Containers[i].Args = []string{revision}
	}
	a.wish(p, revision)
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

func (a *agency) wantPod(p *v1.Pod) { a.wish(p, "1") }

func (a *agency) wish(p *v1.Pod, revision string) {
	a.w.want(wishFor(p, revision))
}

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

// seconds is when something was done.
func seconds(t *testing.T, noted string) float64 {
	t.Helper()
	at, _, _ := strings.Cut(noted, " ")
	n, err := strconv.ParseFloat(at, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

func execProbe(period, threshold int32) *v1.Probe {
	return &v1.Probe{
		ProbeHandler:  v1.ProbeHandler{Exec: &v1.ExecAction{Command: []string{"check"}}},
		PeriodSeconds: period, FailureThreshold: threshold, SuccessThreshold: 1, TimeoutSeconds: 1,
	}
}
