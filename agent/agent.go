package agent

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"path/filepath"
	goruntime "runtime"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/podkeeper/podkeeper/agent/plan"
	"github.com/podkeeper/podkeeper/manifests"
	"github.com/podkeeper/podkeeper/network"
	"github.com/podkeeper/podkeeper/runtime"
)

// Config is what an agent is told.
type Config struct {
	Manifests manifests.Config
	ImageDir  string // archives found here are imported; empty is none
	Log       *slog.Logger
	AtRest    func() // called when nothing was done for a while, such as to give memory back; may be nil
}

// restAfter is how long nothing must have been done for the agent to be at rest.
const restAfter = 5 * time.Second

// Agent is the set of workers, one a Pod.
type Agent struct {
	cfg      Config
	node     *Node
	events   *Events
	metrics  *metrics
	registry *prometheus.Registry
	around   *surroundings

	mu      sync.Mutex
	workers map[types.NamespacedName]*worker
	ids     map[string]*worker // by container id, for containerd's events
	set     manifests.Set
	running sync.WaitGroup
	ctx     context.Context // of Run; nil before
}

// New makes an agent for a node. Run starts it.
func New(cfg Config, node *Node) *Agent {
	a := &Agent{
		cfg: cfg, node: node, events: newEvents(node.Name), registry: prometheus.NewRegistry(),
		workers: map[types.NamespacedName]*worker{}, ids: map[string]*worker{},
	}
	a.metrics = newMetrics(a.registry, a)
	a.around = &surroundings{
		turns: map[plan.Verb]turns{plan.CreateSandbox: newTurns(2 * goruntime.NumCPU()), plan.Start: newTurns(2 * goruntime.NumCPU())},
		host:  node, podsDir: filepath.Join(node.RootDir, "pods"), hostIPs: (&hostAddresses{}).list, timeout: node.Timeout,
		events: a.events, metrics: a.metrics, log: cfg.Log, register: a.register, retire: a.retire,
	}
	if cfg.AtRest != nil {
		a.around.rest = time.AfterFunc(restAfter, cfg.AtRest)
	}
	return a
}

// Metrics are the agent's metrics.
func (a *Agent) Metrics() prometheus.Gatherer { return a.registry }

// hostAddresses are the node's addresses. They are read anew after a while only: that costs a dump of all links and
// routes, of which every Pod has one.
type hostAddresses struct {
	mu   sync.Mutex
	ips  []string
	read time.Time
}

// addressesStay is how long they are believed.
const addressesStay = 10 * time.Second

// list answers them, or those last known where they cannot be told.
func (h *hostAddresses) list() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	if time.Since(h.read) < addressesStay {
		return h.ips
	}
	if ips, err := network.HostIPs(); err == nil {
		h.ips = nil
		for _, ip := range ips {
			h.ips = append(h.ips, ip.String())
		}
	}
	h.read = time.Now()
	return h.ips
}

// Run keeps Pods until ctx ends. It waits for containerd, and takes over what an earlier agent has left: containers run
// on, what is no longer wanted is ended. adopted, which may be nil, is called when everything that ran before was looked at.
func (a *Agent) Run(ctx context.Context, adopted func()) error {
	a.ctx = ctx
	if err := a.awaitRuntime(ctx); err != nil {
		return nil // stopped before there was anything to do
	}
	a.around.started = time.Now()
	instances, err := a.adopt(ctx)
	if err != nil {
		return err
	}
	for _, inst := range instances {
		a.startWorker(types.NamespacedName{Namespace: inst.Pod.Namespace, Name: inst.Pod.Name}, inst)
	}
	if adopted != nil {
		adopted()
	}
	a.running.Go(func() { a.node.Runtime.Events(ctx, a.event) })
	if a.cfg.ImageDir != "" {
		a.running.Go(func() { a.node.Runtime.ImportDir(ctx, a.cfg.ImageDir, a.forgive) })
	}
	err = manifests.Watch(ctx, a.cfg.Manifests, a.apply)
	a.running.Wait()
	if err != nil {
		return fmt.Errorf("watch manifests: %w", err)
	}
	return a.node.Close()
}

// runtimeRetry is how soon a containerd that does not answer is asked again, and how long it may think.
const (
	runtimeRetry    = time.Second
	runtimePatience = 10 * time.Second
)

// awaitRuntime waits until containerd answers: it may be started after us. It fails only when ctx ends.
func (a *Agent) awaitRuntime(ctx context.Context) error {
	for told := false; ; told = true {
		limited, cancel := context.WithTimeout(ctx, runtimePatience)
		_, err := a.node.Runtime.Version(limited)
		cancel()
		if err == nil {
			return nil
		}
		if !told {
			a.cfg.Log.Warn("wait for containerd: is it running?", "error", err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(runtimeRetry):
		}
	}
}

// adopt reads what earlier agents have left, and removes what belongs to nothing.
func (a *Agent) adopt(ctx context.Context) ([]*instance, error) {
	instances, broken, err := loadInstances(a.around.podsDir)
	if err != nil {
		return nil, err
	}
	var kept []*instance
	byKey := map[types.NamespacedName]bool{}
	for _, inst := range instances {
		key := types.NamespacedName{Namespace: inst.Pod.Namespace, Name: inst.Pod.Name}
		if byKey[key] { // the successor of one that could not be swept
			broken = append(broken, string(inst.Pod.UID))
			continue
		}
		byKey[key] = true
		kept = append(kept, inst)
	}
	if err := a.removeStrays(ctx, kept); err != nil {
		return nil, err
	}
	for _, uid := range broken {
		pod := &v1.Pod{ObjectMeta: metav1.ObjectMeta{UID: types.UID(uid)}}
		if err := a.node.sweepDirs(pod); err != nil {
			a.cfg.Log.Warn("leftover of a pod stays", "uid", uid, "error", err)
		}
	}
	return kept, nil
}

// removeStrays removes containers and networks that no instance knows: an agent was killed between two steps, or its
// records were deleted.
func (a *Agent) removeStrays(ctx context.Context, instances []*instance) error {
	known := map[string]bool{}
	var sandboxes []string
	for _, inst := range instances {
		t := target{pod: inst.Pod, sandbox: inst.Sandbox.Attempt}
		if inst.Sandbox.Made {
			known[t.sandboxID()] = true
			sandboxes = append(sandboxes, t.sandboxID())
		}
		for _, c := range allContainers(inst.Pod) {
			t.container, t.attempt = c, inst.Containers[c.Name].Attempt
			known[t.id()] = true
		}
	}
	all, err := a.node.Runtime.List(ctx)
	if err != nil {
		return err
	}
	for id, labels := range all {
		if labels[labelUID] == "" || known[id] {
			continue
		}
		a.cfg.Log.Info("remove stray container", "id", id, "pod", labels[labelNamespace]+"/"+labels[labelPod], "container", labels[labelContainer])
		remove := func() error { return a.node.Runtime.Delete(ctx, id) }
		if labels[labelContainer] == "" {
			dir := filepath.Join(a.node.RunDir, "pods", labels[labelUID])
			if owned(instances, labels[labelUID]) {
				dir = "" // its pipes and shm are the present sandbox's
			}
			remove = func() error { return a.node.Runtime.DeleteSandbox(ctx, id, dir) }
		}
		if err := remove(); err != nil {
			a.cfg.Log.Warn("stray container stays", "id", id, "error", err)
		}
	}
	a.node.Runtime.EndLostShims(func(sandbox string) bool { return a.hasTask(ctx, sandbox, instances) })
	if err := a.node.Network.GC(ctx, sandboxes); err != nil {
		a.cfg.Log.Warn("leftovers of networks stay", "error", err)
	}
	return nil
}

// hasTask says whether containerd knows a task of the instance with this sandbox, or cannot tell.
func (a *Agent) hasTask(ctx context.Context, sandbox string, instances []*instance) bool {
	ids := []string{sandbox}
	for _, inst := range instances {
		t := target{pod: inst.Pod, sandbox: inst.Sandbox.Attempt}
		if t.sandboxID() != sandbox {
			continue
		}
		for _, c := range allContainers(inst.Pod) {
			t.container, t.attempt = c, inst.Containers[c.Name].Attempt
			ids = append(ids, t.id())
		}
	}
	return slices.ContainsFunc(ids, func(id string) bool {
		c, err := a.node.Runtime.Look(ctx, id)
		return err != nil || c.State != runtime.Absent
	})
}

func owned(instances []*instance, uid string) bool {
	return slices.ContainsFunc(instances, func(i *instance) bool { return string(i.Pod.UID) == uid })
}

// apply takes over a set of manifests. While the directory cannot be read nothing is taken away.
func (a *Agent) apply(set manifests.Set) {
	a.tell(set)
	wanted := map[types.NamespacedName]*manifests.Pod{}
	for i := range set.Pods {
		p := &set.Pods[i]
		wanted[types.NamespacedName{Namespace: p.Namespace, Name: p.Name}] = p
	}
	a.mu.Lock()
	a.set = set
	workers := maps.Clone(a.workers)
	a.mu.Unlock()
	for key, w := range workers {
		if wanted[key] != nil {
			continue
		}
		if set.Err == nil {
			w.want(nil)
		}
	}
	for key, p := range wanted {
		a.want(key, p)
	}
}

// tell tells of faults that are new.
func (a *Agent) tell(set manifests.Set) {
	if set.Err != nil {
		a.cfg.Log.Error("manifests cannot be read", "error", set.Err)
	}
	for _, r := range set.Refused {
		if slices.Contains(a.refused(), r) {
			continue
		}
		a.cfg.Log.Error("manifest refused", "fault", r.Error())
		if r.Pod.Name != "" {
			pod := &v1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: r.Pod.Namespace, Name: r.Pod.Name}}
			a.events.add(pod, "", v1.EventTypeWarning, "InvalidManifest", r.Error())
		}
	}
}

// want hands a Pod to its worker, which is made if there is none.
func (a *Agent) want(key types.NamespacedName, p *manifests.Pod) {
	a.mu.Lock()
	w := a.workers[key]
	if w != nil {
		w.want(p) // under the lock, so that it does not retire meanwhile
	}
	a.mu.Unlock()
	if w == nil {
		w = a.newWorker(key, nil)
		w.want(p)
		a.running.Go(func() { w.run(a.ctx) })
	}
}

func (a *Agent) startWorker(key types.NamespacedName, inst *instance) {
	w := a.newWorker(key, inst)
	a.running.Go(func() { w.run(a.ctx) })
}

func (a *Agent) newWorker(key types.NamespacedName, inst *instance) *worker {
	w := newWorker(key, a.around, inst)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.workers[key] = w
	return w
}

// retire lets a worker go that has nothing left, unless something is wanted of it again.
func (a *Agent) retire(w *worker) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.wanted != nil {
		return false
	}
	delete(a.workers, w.key)
	return true
}

// register says whose container an id is.
func (a *Agent) register(id string, w *worker) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if w == nil {
		delete(a.ids, id)
		return
	}
	a.ids[id] = w
}

// event wakes who has to look again.
func (a *Agent) event(e runtime.Event) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if w := a.ids[e.ID]; w != nil {
		w.Wake()
		return
	}
	if e.ID == "" {
		for _, w := range a.workers {
			w.Wake()
		}
	}
}

// forgive makes every worker try again at once what had failed.
func (a *Agent) forgive() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, w := range a.workers {
		w.Forgive()
	}
}
