package agent

import (
	"cmp"
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
	"go.opentelemetry.io/otel/trace"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/component-helpers/scheduling/corev1"

	"github.com/podkeeper/podkeeper/agent/evict"
	"github.com/podkeeper/podkeeper/agent/node"
	"github.com/podkeeper/podkeeper/agent/objects"
	"github.com/podkeeper/podkeeper/agent/reclaim"
	"github.com/podkeeper/podkeeper/agent/usage"
	"github.com/podkeeper/podkeeper/manifests"
)

// Config is what an agent is told.
type Config struct {
	Manifests  manifests.Config
	ObjectsDir string                 // of the objects that are made through an API
	CA         func() ([]byte, error) // answers that of the API that is served from them, in PEM; nil where none is: then no namespaces are made for it
	ImageDir   string                 // archives found here are imported; empty is none
	Timeout    time.Duration          // of one deed (runtimeRequestTimeout)
	MaxBackoff time.Duration          // between restarts of a container (crashLoopBackOff.maxContainerRestartPeriod); 0 is five minutes
	Images     reclaim.Policy         // which images go
	Evictions  evict.Policy           // when Pods go that the node has no room for
	Shutdown   []ShutdownGroup        // how long Pods have when the host shuts down, the lowest priority first; none is that nobody tells of it
	MaxEnded   int                    // how many Pods that were made through an API and have ended are kept; 0 is all
	Version    string                 // of this build
	Tracer     trace.Tracer           // of the starts of Pods; nil where nobody wants traces
	Log        *slog.Logger
	AtRest     func() // called while nothing is done for a while, such as to give memory back; may be nil
}

// restAfter is how long nothing must have been done for the agent to be at rest, and restEvery how often it is told so then.
const (
	restAfter = 5 * time.Second
	restEvery = 30 * time.Second
)

// Agent is the set of workers, one a Pod.
type Agent struct {
	cfg       Config
	node      *node.Node
	registry  *prometheus.Registry
	sources   *sources
	objects   *objects.Store // nil before Run
	feed      *feed
	meter     *usage.Meter
	images    *images
	drain     *drain
	shutdown  *shutdown
	evictor   *evictor
	endings   chan struct{} // of size 1: a Pod has ended
	leftovers chan struct{} // of size 1: there is something left of a network
	offering  sync.Mutex    // held while objects are handed out

	bound      func() map[types.NamespacedName]string // what claims are bound to; never changed
	namespaces *namespaces
	heart      *heartbeat
	addresses  addresses
	*surroundings

	handing sync.Mutex
	laps    laps
	running sync.WaitGroup
	ctx     context.Context // of Run; nil before
}

// New makes an agent for a node. Run starts it.
func New(cfg Config, n *node.Node) *Agent {
	a := &Agent{cfg: cfg, node: n, registry: prometheus.NewRegistry(), sources: newSources(SourceDirectory, SourceAPI), feed: newFeed(), endings: make(chan struct{}, 1), leftovers: make(chan struct{}, 1), namespaces: newNamespaces(), heart: newHeartbeat(n), bound: n.Bound}
	a.sources.bound = a.bound
	a.sources.handles = func(name string) bool { return n.Runtime.CheckHandler(name) == nil }
	a.surroundings = &surroundings{
		roster: newRoster(n.Object()), host: n, podsDir: node.PodsDir(n.RootDir), hostIPs: n.HostIPs, timeout: cfg.Timeout, backoff: cfg.MaxBackoff,
		turns: newTurns(2 * goruntime.NumCPU()), exits: newTurns(8 * goruntime.NumCPU()), // for ends mostly wait
		events: newEvents(n.Name), log: cfg.Log, recursiveReadOnly: node.RecursiveReadOnly(), appArmor: node.AppArmor(), seLinux: node.SELinux(),
		allocatable: n.Allocatable, freeUsers: n.FreeUsers, freeLevel: node.FreeLevel, tracer: cfg.Tracer,
	}
	a.rule = func(pod types.NamespacedName, revision string, ruling Ruling) {
		a.sources.rule(pod, revision, ruling)
		a.handOut()
	}
	a.shown = func() {
		a.feed.Wake()
		a.namespaces.Wake()
	}
	a.noted = a.noteEnd
	a.leftover = func() {
		select {
		case a.leftovers <- struct{}{}:
		default:
		}
	}
	a.events.told = a.feed.Wake
	a.meter = usage.New(n.Name, n, a.Pods, cfg.Log)
	a.services = a.servicesFor
	a.images = newImages(n, cfg.Images, cfg.Log)
	a.images.wanted, a.images.tell = a.wantedImages, a.warnOfNode
	a.images.freed = func() { a.forgive(forgiveAll) }
	a.pulled, a.ended = a.images.notePull, a.noteEnded
	a.metrics = newMetrics(a.registry, a)
	a.evictor = newEvictor(n, cfg.Evictions, a.events, cfg.Log)
	a.evictor.lap = &a.laps.evictions
	a.evictor.workers, a.evictor.rule, a.evictor.changed, a.evictor.reclaim = a.all, a.Rule, a.notePressure, a.makeRoom
	a.heart.under = a.evictor.conditions
	a.shutdown = &shutdown{groups: cfg.Shutdown}
	a.heart.ends = a.ShuttingDown
	a.drain = openDrain(filepath.Join(n.RootDir, "drained"))
	a.pressed, a.sources.drained = a.mayBegin, a.mayStay
	a.registry.MustRegister(a.images.counted, a.evictor.counted)
	if cfg.AtRest != nil {
		a.rest = time.AfterFunc(restAfter, func() {
			cfg.AtRest()
			a.rest.Reset(restEvery) // what is done by the clock uses a little, too
		})
	}
	return a
}

// Metrics are the agent's metrics.
func (a *Agent) Metrics() prometheus.Gatherer { return a.registry }

// Run keeps Pods until ctx ends. It waits for containerd, and takes over what an earlier agent has left: containers run
// on, what is no longer wanted is ended. adopted, which may be nil, is called when everything that ran before has its worker.
func (a *Agent) Run(ctx context.Context, adopted func()) error {
	a.ctx = ctx
	a.objects = objects.Open(objects.Config{Dir: a.cfg.ObjectsDir, Write: node.WriteDurably, Now: time.Now(), Complete: a.complete, Log: a.log})
	if err := a.awaitRuntime(ctx); err != nil {
		return nil // stopped before there was anything to do
	}
	a.started = time.Now()
	if err := a.adopt(ctx); err != nil {
		return err
	}
	a.evictor.look(ctx) // before anything begins
	a.offerObjects()
	if adopted != nil {
		adopted()
	}
	a.running.Go(func() { a.watchObjects(ctx) })
	a.running.Go(func() { a.feed.run(ctx, a) })
	a.running.Go(func() { a.emptyNamespaces(ctx) })
	a.running.Go(func() { a.keepBeating(ctx) })
	a.running.Go(func() { a.node.Watch(ctx, a.notice) })
	if a.cfg.ImageDir != "" {
		a.running.Go(func() { a.node.ImportImages(ctx, a.cfg.ImageDir, func() { a.forgive(forgiveAll) }) })
	}
	a.running.Go(func() { a.node.WatchRegistries(ctx, func() { a.forgive(forgiveAll) }) })
	a.running.Go(func() { a.housekeep(ctx) })
	a.running.Go(func() { a.images.run(ctx) })
	a.running.Go(func() { a.evictor.run(ctx) })
	a.running.Go(func() { a.keepFewEnded(ctx) })
	a.running.Go(func() { a.keepDrained(ctx) })
	a.running.Go(func() { freeNetworks(ctx, a.leftovers, a.collectNetworks) })
	a.running.Go(func() { a.node.Keep(ctx, a.wakeAll) })
	err := manifests.Watch(ctx, a.cfg.Manifests, a.offerManifests)
	a.running.Wait()
	if err != nil {
		return fmt.Errorf("watch manifests: %w", err)
	}
	return a.node.Close()
}

// offerManifests takes over what stands in the manifest directory.
func (a *Agent) offerManifests(set manifests.Set) {
	a.laps.manifests.begin()
	defer a.laps.manifests.end()
	a.offer(SourceDirectory, set)
	a.provideForTokens()
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
		err := a.node.Ping(limited)
		cancel()
		if err == nil {
			return nil
		}
		if !told {
			a.log.Warn("wait for containerd: is it running?", "error", err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(runtimeRetry):
		}
	}
}

// offer takes over what a source wants. While a source cannot be read nothing of it is taken away.
func (a *Agent) offer(source string, set manifests.Set) {
	if set.Err != nil {
		a.log.Error("manifests cannot be read", "source", source, "error", set.Err)
	}
	if source == SourceDirectory {
		set = a.address(set)
	}
	before := a.sources.refused()
	a.sources.tell(source, set)
	for _, r := range a.sources.refused() {
		if !slices.Contains(before, r) {
			a.tellRefusal(r)
		}
	}
	a.handOut()
	a.feed.Wake()
}

// Rule says whether a Pod, as it is wanted now, may run. It stands until the Pod is wanted otherwise, or is ruled about anew,
// and over restarts of the agent. Pods are Admitted unless it says otherwise.
func (a *Agent) Rule(pod types.NamespacedName, ruling Ruling) {
	if wish := a.sources.wishes()[pod]; wish != nil {
		a.rule(pod, wish.Pod.Revision, ruling)
	}
}

// Retry makes everything be tried at once that waits in a Pod: restarts, whose back-off starts over, what has failed
// before, and the return of one that was evicted. What has ended for good stays so. The error says why there is no such Pod.
func (a *Agent) Retry(pod types.NamespacedName) error {
	if w := a.named(pod); w != nil {
		if reported := w.published.Load(); reported != nil && comesBack(w, reported) {
			a.Rule(pod, Ruling{})
		}
		w.Retry()
		return nil
	}
	for _, r := range a.refused() {
		if r.Of.Covers(manifests.PodKey(pod)) {
			return fmt.Errorf("%s has nothing to retry: its manifest is refused: %s", pod, r.Error())
		}
	}
	return fmt.Errorf("there is no Pod %s", pod)
}

// handOut gives each worker what is wanted of its Pod.
func (a *Agent) handOut() {
	a.handing.Lock()
	defer a.handing.Unlock()
	a.laps.handing.begin()
	defer a.laps.handing.end()
	wishes := a.sources.wishes()
	a.expect(wishes, a.sources.counted(), time.Now())
	for _, w := range a.all() {
		if wishes[w.key] == nil && a.sources.gone(w.source(), w.key) {
			w.want(nil)
		}
	}
	byPriority := func(x, y types.NamespacedName) int { // of a crowd the most important ones begin first
		return cmp.Compare(corev1.PodPriority(wishes[y].Pod.Pod), corev1.PodPriority(wishes[x].Pod.Pod))
	}
	for _, key := range slices.SortedFunc(maps.Keys(wishes), byPriority) {
		wish := wishes[key]
		if hired := a.hand(key, wish, func() *worker { return newWorker(key, a.surroundings) }); hired != nil {
			a.running.Go(func() { hired.run(a.ctx) })
		}
	}
}

// tellRefusal tells of a fault that is new.
func (a *Agent) tellRefusal(r manifests.Refusal) {
	a.log.Error("manifest refused", "fault", r.Error())
	if mayBePod(r) {
		pod := &v1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: r.Of.Namespace, Name: r.Of.Name}}
		a.events.add(pod, "", v1.EventTypeWarning, "InvalidManifest", r.Error())
	}
}

// notice wakes who has to look again.
func (a *Agent) notice(n node.Notice) {
	a.laps.notices.begin()
	defer a.laps.notices.end()
	switch w := a.of(n.ID); {
	case n.ID == "": // containerd is back, or has just been met
		a.forgive(forgiveAway)
	case w == nil:
	case n.OOM:
		w.OOM(n.ID)
	default:
		w.Wake()
	}
}

// wakeAll makes every worker look again.
func (a *Agent) wakeAll() {
	for _, w := range a.all() {
		w.Wake()
	}
}

// forgive makes every worker try again at once what had failed.
func (a *Agent) forgive(which forgiveness) {
	for _, w := range a.all() {
		w.Forgive(which)
	}
}

// key is the name of a Pod.
func key(pod *v1.Pod) types.NamespacedName {
	return types.NamespacedName{Namespace: pod.Namespace, Name: pod.Name}
}
