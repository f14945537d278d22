package agent

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/uuid"

	"github.com/podkeeper/podkeeper/agent/plan"
	"github.com/podkeeper/podkeeper/manifests"
	"github.com/podkeeper/podkeeper/runtime"
)

// host is what a worker does to the world: Node, or in tests something that pretends to be one. Every method is
// idempotent, and may be cancelled and called again.
type host interface {
	LookSandbox(ctx context.Context, t target) (running bool, err error)
	LookContainer(ctx context.Context, t target) (runtime.Container, error)
	CreateSandbox(ctx context.Context, t target) (ips []string, err error)
	RemoveSandbox(ctx context.Context, t target) error
	Prepare(ctx context.Context, t target, clean bool, pulling func()) (runtime.Pull, error)
	Start(ctx context.Context, t target, image runtime.Image) (startedAt time.Time, err error)
	Signal(ctx context.Context, t target, kill bool) error
	Clean(ctx context.Context, t target) error
	Exit(t target, c runtime.Container, startedAt time.Time) *v1.ContainerStateTerminated
	OOMKilled(t target, told uint64) (killed bool, now uint64)
	LogMessage(t target) string
	Exec(ctx context.Context, t target, command []string) (int, []byte, error)
	Teardown(ctx context.Context, t target, attempts map[string]int) error
	Sweep(pod *v1.Pod) error
}

// surroundings is what all workers share.
type surroundings struct {
	host    host
	podsDir string
	hostIPs func() []string
	timeout time.Duration       // of one action's requests, pulls excepted
	turns   map[plan.Verb]turns // of actions that start a shim
	events  *Events
	metrics *metrics
	log     *slog.Logger
	rest    *time.Timer // strikes when nothing was done for a while; may be nil
	started time.Time   // of the agent: probes that it takes over are spread over their first period

	register func(id string, w *worker) // for the events of containerd; nil worker forgets
	retire   func(w *worker) bool       // the worker has nothing left to do; false: there is something again
}

// safetyLook is how often a Pod is looked at when nothing happens.
const safetyLook = 5 * time.Minute

// worker keeps one Pod, that is one namespace/name, in the state that is wanted. It alone starts and stops what belongs to
// the Pod. Everything below wake is its goroutine's own.
type worker struct {
	key types.NamespacedName
	*surroundings

	mu        sync.Mutex
	wanted    *manifests.Pod // nil: no such Pod is wanted
	wantedAt  time.Time
	unswept   map[types.UID]bool // instances that are gone but for what a sweep could not remove yet
	forgive   bool               // forget failures: what they were about may have been mended
	published atomic.Pointer[v1.Pod]
	wake      chan struct{} // of size 1, carries no data
	results   chan result
	stepping  atomic.Int64 // when the present step began, in nanoseconds since 1970; 0 between steps

	inst     *instance
	flights  map[string]flight // by container, "" for the sandbox
	prepared map[string]prepared
	faults   map[string]*fault
	probing  map[string]*probing
	seenAt   time.Time // when the manifest was first seen, zero once the start was measured
}

// flight is an action that is under way.
type flight struct {
	action plan.Action
	cancel context.CancelFunc
}

// prepared is the instance of a container that is ready to be started.
type prepared struct {
	attempt int
	image   runtime.Image
}

func newWorker(key types.NamespacedName, s *surroundings, inst *instance) *worker {
	w := &worker{
		key: key, surroundings: s, inst: inst,
		unswept: map[types.UID]bool{}, wake: make(chan struct{}, 1), results: make(chan result, 16),
		flights: map[string]flight{}, prepared: map[string]prepared{}, faults: map[string]*fault{}, probing: map[string]*probing{},
	}
	if inst != nil {
		// Until the manifests were read, what runs is wanted, unless it was already ending.
		if inst.Ending == nil {
			w.wanted = &manifests.Pod{Pod: inst.Pod, Revision: inst.Revision}
		}
		w.published.Store(withStatus(inst))
	}
	return w
}

// want says what is wanted from now on; nil is nothing.
func (w *worker) want(pod *manifests.Pod) {
	w.mu.Lock()
	same := (pod == nil) == (w.wanted == nil) && (pod == nil || pod.Revision == w.wanted.Revision)
	w.wanted = pod
	if !same {
		w.wantedAt = time.Now()
	}
	w.mu.Unlock()
	if !same {
		w.Wake()
	}
}

// Wake makes the worker look again.
func (w *worker) Wake() {
	select {
	case w.wake <- struct{}{}:
	default: // it will look anyway
	}
}

// Forgive makes the worker try at once what had failed.
func (w *worker) Forgive() {
	w.mu.Lock()
	w.forgive = true
	w.mu.Unlock()
	w.Wake()
}

// run looks, plans and acts until ctx ends or nothing is wanted and nothing is left. It returns when no action is under way.
func (w *worker) run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		next := w.step(ctx)
		if w.inst == nil && len(w.flights) == 0 && w.swept() && w.retire(w) {
			return
		}
		wait := safetyLook
		if !next.IsZero() {
			wait = min(wait, time.Until(next))
		}
		timer.Reset(wait)
		select {
		case <-ctx.Done():
			w.leave(ctx)
			return
		case <-w.wake:
		case <-timer.C:
		case r := <-w.results:
			w.take(ctx, r)
		}
	}
}

func (w *worker) swept() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.unswept) == 0
}

// leave ends the worker but not the Pod: actions are cancelled and awaited, their results still recorded.
func (w *worker) leave(ctx context.Context) {
	for name := range w.probing {
		w.endProbes(name)
	}
	for _, f := range w.flights {
		f.cancel()
	}
	for len(w.flights) > 0 {
		w.take(ctx, <-w.results)
	}
	if w.inst != nil {
		w.save()
	}
}

// step is one round: take what is wanted, look, plan, act. It answers when to look again even if nothing happens.
func (w *worker) step(ctx context.Context) time.Time {
	w.stepping.Store(time.Now().UnixNano())
	defer w.stepping.Store(0)
	for {
		select {
		case r := <-w.results:
			w.take(ctx, r)
			continue
		default:
		}
		break
	}
	w.adjust()
	if w.inst == nil {
		return time.Time{}
	}
	now := time.Now()
	seen, err := w.look(ctx)
	if err != nil {
		w.fail(lookFault, "RuntimeUnavailable", err)
		w.publish(seen, now)
		return w.retryAt(lookFault)
	}
	delete(w.faults, lookFault)
	p := plan.Next(w.inst.Pod, seen, now)
	w.tellBackoff(seen, now)
	w.publish(seen, now) // before the records are those of the next instances
	for _, action := range p.Actions {
		w.begin(action, now)
	}
	w.save() // before anything is done
	for _, action := range p.Actions {
		w.launch(ctx, action)
	}
	return p.Wake
}

// adjust brings what is wanted and what there is together: a first instance begins, one that is not wanted any more, or not
// as it is, has to end.
func (w *worker) adjust() {
	w.mu.Lock()
	wanted, wantedAt, forgive := w.wanted, w.wantedAt, w.forgive
	w.forgive = false
	unswept := wanted != nil && w.unswept[wanted.UID]
	w.mu.Unlock()
	if forgive {
		w.faults = map[string]*fault{}
	}
	switch {
	case w.inst == nil && unswept: // the manifest gives the UID: what is swept would be the successor's
	case w.inst == nil && wanted != nil:
		pod := wanted.DeepCopy()
		if pod.UID == "" {
			pod.UID = uuid.NewUUID()
		}
		pod.CreationTimestamp = metav1.NewTime(time.Now())
		pod.Status = v1.PodStatus{}
		w.inst = newInstance(w.podsDir, pod, wanted.Revision)
		w.faults, w.prepared, w.seenAt = map[string]*fault{}, map[string]prepared{}, wantedAt
	case w.inst != nil && w.inst.Ending == nil && wanted == nil:
		w.end("the manifest was removed")
	case w.inst != nil && w.inst.Ending == nil && wanted.Revision != w.inst.Revision:
		w.end("the manifest was changed")
	}
}

// end begins the end of the instance. Starts that are under way are given up, stops are not.
func (w *worker) end(reason string) {
	w.inst.Ending = &plan.Ending{Since: time.Now(), Reason: reason}
	w.log.Info("pod ends", "pod", w.key.String(), "reason", reason)
	for _, f := range w.flights {
		if startsSomething(f.action) {
			f.cancel()
		}
	}
	clear(w.faults)
}

// startsSomething says whether an action is in vain once the instance has to go.
func startsSomething(a plan.Action) bool {
	return a.Verb == plan.CreateSandbox || a.Verb == plan.Prepare || a.Verb == plan.Start
}

func (w *worker) save() {
	if err := w.inst.save(); err != nil {
		w.log.Error("record of pod cannot be written", "pod", w.key.String(), "error", err)
	}
}

// target is a container of the instance, by name, or its sandbox for "".
func (w *worker) target(name string) target {
	t := target{pod: w.inst.Pod, revision: w.inst.Revision, sandbox: w.inst.Sandbox.Attempt, ips: w.inst.Sandbox.IPs}
	if name == "" {
		return t
	}
	rec := w.inst.Containers[name]
	t.container, t.attempt, t.signal = w.container(name), rec.Attempt, rec.StopSignal
	t.leftover = rec.leftover
	return t
}

func (w *worker) container(name string) *v1.Container {
	for _, c := range allContainers(w.inst.Pod) {
		if c.Name == name {
			return c
		}
	}
	return nil
}
