package agent

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/podkeeper/podkeeper/agent/evict"
	"github.com/podkeeper/podkeeper/agent/node"
)

// gauges tell what there is of the node, and what Pods use: node.Node, or in tests something that pretends to be one.
type gauges interface {
	NodeUsage() (node.Usage, error)
	Usage(pod *v1.Pod, id string) (node.Usage, error)
	Processes(pod *v1.Pod) (int, error)
	Storage(ctx context.Context, pod *v1.Pod, ids map[string]string) (node.Storage, error)
	Disks(ctx context.Context) (node.Disks, error)
	Tasks() (running, most int64, err error)
	WatchMemory(ctx context.Context, short func()) error
}

// How often the node is looked at, as the kubelet does; how long a Pod that was evicted is waited for before the next one is, and
// how often it is looked for.
const (
	evictEvery    = 10 * time.Second
	evictPatience = 30 * time.Second
	evictPoll     = time.Second
)

// What may be spent on Pods that have limits on disk: of the time of a CPU one part in walkShare, unless one has not been measured for
// walkAtMost; and how long one walk may take.
const (
	walkShare   = 500
	walkAtMost  = 5 * time.Minute
	walkTimeout = 30 * time.Second
)

// evictor watches what there is of the node, and what Pods have on disk. It measures, and asks that Pods be ended; whether, and
// which, says package evict.
type evictor struct {
	of      gauges
	policy  evict.Policy
	workers func() []*worker
	rule    func(pod types.NamespacedName, ruling Ruling)
	reclaim func(ctx context.Context) // makes room on disk without any Pod that is wanted
	changed func(ctx context.Context) // the conditions of the node are others
	events  *Events
	counted *prometheus.CounterVec // by signal
	lap     *lap                   // of looks at the node
	log     *slog.Logger

	pressure atomic.Pointer[[]v1.NodeConditionType]
	ruling   sync.Mutex              // held while a Pod is evicted, for one reason
	due      map[types.UID]time.Time // when Pods that have limits on disk are to be measured again; watchLimits' own

	// The rest is that goroutine's own that looks at the node.
	state evict.State
	since map[types.UID]time.Time // when Pods were first seen evicted
	deaf  error                   // what could not be read, as was told last
}

func newEvictor(of gauges, policy evict.Policy, events *Events, log *slog.Logger) *evictor {
	return &evictor{
		of: of, policy: policy, events: events, log: log, due: map[types.UID]time.Time{}, since: map[types.UID]time.Time{}, lap: &lap{},
		counted: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "kubelet_evictions", Help: "Cumulative number of pod evictions by eviction signal",
		}, []string{"eviction_signal"}),
	}
}

// conditions are the pressures that the node is under.
func (e *evictor) conditions() []v1.NodeConditionType {
	if now := e.pressure.Load(); now != nil {
		return *now
	}
	return nil
}

// hold says whether a Pod may begin under the pressure that there is.
func (e *evictor) hold(pod *v1.Pod) Ruling {
	if why := evict.Hold(pod, e.conditions()); why != "" {
		return hold(evict.Reason, why)
	}
	return Ruling{}
}

// run watches until ctx ends: the node, what Pods have on disk, which may take its time, and whether memory is short, which may be
// long before it is looked for again: then the kernel tells.
func (e *evictor) run(ctx context.Context) {
	var beside sync.WaitGroup
	defer beside.Wait()
	beside.Go(func() { e.watchLimits(ctx) })
	short := make(chan struct{}, 1)
	if e.policy.Watches(evict.MemoryAvailable) {
		beside.Go(func() { e.watchMemory(ctx, short) })
	}
	for _, w := range e.leaving() { // whom an earlier agent has told to
		e.await(ctx, w, short)
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-short:
			if e.memoryStarved() == nil {
				continue
			}
		case <-timer.C:
		}
		wait := evictEvery
		if gone := e.pass(ctx); gone != nil {
			e.await(ctx, gone, short)
			wait = 0
		}
		timer.Reset(wait)
	}
}

// watchMemory tells, until ctx ends, when the kernel says that memory is short.
func (e *evictor) watchMemory(ctx context.Context, short chan<- struct{}) {
	err := e.of.WatchMemory(ctx, func() {
		select {
		case short <- struct{}{}:
		default:
		}
	})
	if err != nil {
		e.log.Info("memory is only looked at from time to time: the kernel does not tell when it is short", "error", err)
	}
}

// watchLimits evicts, until ctx ends, who has more on disk than he may.
func (e *evictor) watchLimits(ctx context.Context) {
	ticker := time.NewTicker(evictEvery)
	defer ticker.Stop()
	for ctx.Err() == nil {
		e.overLimits(ctx)
		select {
		case <-ctx.Done():
		case <-ticker.C:
		}
	}
}

// memoryStarved are the thresholds of memory for which something is to be done now.
func (e *evictor) memoryStarved() []evict.Threshold {
	r := evict.Readings{}
	if err := e.readMemory(r); err != nil {
		return nil // which is told when all is read
	}
	return e.policy.Look(e.state, r, time.Now()).Starved
}

// pass is one look at the node, with what follows from it. It answers who was evicted, of whom there is at most one.
func (e *evictor) pass(ctx context.Context) (gone *worker) {
	e.lap.begin()
	defer e.lap.end()
	readings := e.look(ctx)
	e.logPass(readings)
	e.bringBack()
	if len(e.state.Starved) == 0 {
		return nil
	}
	worst := e.state.Starved[0]
	e.log.Warn("node is short", "signal", worst.Signal, "available", readings[worst.Signal].Available, "capacity", readings[worst.Signal].Capacity)
	e.events.addNode(v1.EventTypeWarning, "EvictionThresholdMet", "Attempting to reclaim "+string(worst.Signal.Resource()))
	if worst.Signal.Condition() == v1.NodeDiskPressure {
		e.reclaim(ctx)
		readings = e.read(ctx)
	}
	reading, read := readings[worst.Signal]
	if !read || worst.Relieved(reading) {
		e.log.Info("no pod has to go: there is room, or it cannot be told", "signal", worst.Signal)
		return nil
	}
	return e.evictOne(ctx, worst, reading)
}

// look reads what there is of the node, and tells of its conditions.
func (e *evictor) look(ctx context.Context) evict.Readings {
	readings := e.read(ctx)
	was := e.conditions()
	e.state = e.policy.Look(e.state, readings, time.Now())
	is := e.state.Pressure
	if slices.Equal(was, is) {
		return readings
	}
	e.pressure.Store(&is)
	for _, c := range pressures {
		if before, now := slices.Contains(was, c.of), slices.Contains(is, c.of); before != now {
			reason := c.relieved
			if now {
				reason = c.short
			}
			e.events.addNode(v1.EventTypeNormal, "NodeHas"+reason, "Node "+e.events.node+" status is now: NodeHas"+reason)
			e.log.Warn("node condition", "condition", c.of, "is", now)
		}
	}
	e.changed(ctx)
	return readings
}

// read reads all that a threshold is about. What cannot be read is left out.
func (e *evictor) read(ctx context.Context) evict.Readings {
	r := evict.Readings{}
	var errs []error
	if e.policy.Watches(evict.MemoryAvailable) {
		errs = append(errs, e.readMemory(r))
	}
	if e.policy.Watches(evict.PIDAvailable) {
		running, most, err := e.of.Tasks()
		if errs = append(errs, err); err == nil {
			r[evict.PIDAvailable] = evict.Reading{Available: most - running, Capacity: most}
		}
	}
	if e.watchesDisks() {
		d, err := e.of.Disks(ctx)
		if errs = append(errs, err); err == nil {
			note := func(space, inodes evict.Signal, d node.Disk) {
				r[space] = evict.Reading{Available: int64(d.Available), Capacity: int64(d.Capacity)}
				if d.Inodes > 0 { // else the file system makes them as they are needed
					r[inodes] = evict.Reading{Available: int64(d.InodesFree), Capacity: int64(d.Inodes)}
				}
			}
			note(evict.NodeFSAvailable, evict.NodeFSInodesFree, d.Root)
			note(evict.ImageFSAvailable, evict.ImageFSInodesFree, d.Images)
			note(evict.ContainerFSAvailable, evict.ContainerFSInodesFree, d.Layers)
		}
	}
	e.tell(errors.Join(errs...))
	return r
}

func (e *evictor) watchesDisks() bool {
	return slices.ContainsFunc(e.policy.Thresholds, func(t evict.Threshold) bool { return t.Signal.Condition() == v1.NodeDiskPressure })
}

func (e *evictor) readMemory(r evict.Readings) error {
	u, err := e.of.NodeUsage()
	if err == nil {
		r[evict.MemoryAvailable] = evict.Reading{Available: int64(u.Limit - min(u.WorkingSet, u.Limit)), Capacity: int64(u.Limit)}
	}
	return err
}

// tell logs what cannot be read, once.
func (e *evictor) tell(err error) {
	if err != nil && (e.deaf == nil || e.deaf.Error() != err.Error()) {
		e.log.Warn("not all of the node can be looked at", "error", err)
	}
	e.deaf = err
}

// resident is a Pod that may have to go, as it was when the node was looked at.
type resident struct {
	*worker
	pod *v1.Pod
}

// residents are the Pods that have begun, and were not told to end.
func (e *evictor) residents() (all []resident) {
	for _, w := range e.workers() {
		pod := w.published.Load()
		if pod != nil && pod.Status.StartTime != nil && pod.DeletionTimestamp == nil && !isTerminal(pod.Status.Phase) && w.ruling().Verdict == Admitted {
			all = append(all, resident{w, pod})
		}
	}
	return all
}

// overLimits evicts who has more on disk than he may. Who has no limits is not measured; who has some, the less often the longer
// that takes, and the more there are.
func (e *evictor) overLimits(ctx context.Context) {
	limited := slices.DeleteFunc(e.residents(), func(r resident) bool { return !evict.Limited(r.pod) })
	due := map[types.UID]time.Time{}
	for _, r := range limited {
		due[r.pod.UID] = e.due[r.pod.UID]
	}
	e.due = due
	for _, r := range limited {
		if ctx.Err() != nil || time.Now().Before(due[r.pod.UID]) {
			continue
		}
		usage, cost, err := e.storage(ctx, r.pod)
		due[r.pod.UID] = time.Now().Add(min(cost*walkShare*time.Duration(len(limited)), walkAtMost))
		if err != nil {
			e.log.Warn("what a pod has on disk cannot be told", "pod", key(r.pod).String(), "error", err)
			continue
		}
		if signal, message := evict.Over(r.pod, usage); message != "" {
			e.evict(r, signal, Ruling{Message: message, Grace: time.Second})
		}
	}
}

// evictOne evicts the first of the node's Pods for a threshold, by their rank.
func (e *evictor) evictOne(ctx context.Context, t evict.Threshold, reading evict.Reading) *worker {
	var layout evict.Layout
	if t.Signal.Condition() == v1.NodeDiskPressure {
		d, err := e.of.Disks(ctx)
		if err != nil {
			return nil // which is told when it is read
		}
		layout = evict.Layout{ImagesApart: d.Images.ID != d.Root.ID, LayersApart: d.Layers.ID != d.Root.ID}
	}
	of := map[*v1.Pod]resident{}
	var candidates []evict.Candidate
	for _, r := range e.residents() {
		e.lap.begin() // each may take its time, and there may be many
		of[r.pod] = r
		candidates = append(candidates, evict.Candidate{Pod: r.pod, Usage: e.usage(ctx, t.Signal, r.pod)})
	}
	ranked := layout.Rank(t.Signal, candidates)
	e.logRank(t, ranked)
	for _, c := range ranked {
		ruling := Ruling{Message: evict.Message(t, reading, c), Grace: e.policy.Grace(t, c.Pod), Disrupts: true}
		if r := of[c.Pod]; e.evict(r, t.Signal, ruling) {
			return r.worker
		}
	}
	e.log.Warn("node is short, and there is no pod that could go", "signal", t.Signal)
	return nil
}

// usage is what a Pod uses of what a signal is about, nil where that cannot be told.
func (e *evictor) usage(ctx context.Context, s evict.Signal, pod *v1.Pod) *evict.Usage {
	var u *evict.Usage
	var err error
	switch s.Condition() {
	case v1.NodeDiskPressure:
		u, _, err = e.storage(ctx, pod)
	case v1.NodePIDPressure:
		var count int
		count, err = e.of.Processes(pod)
		u = &evict.Usage{Processes: int64(count)}
	default:
		u, err = e.memory(pod)
	}
	if err != nil {
		e.log.Warn("what a pod uses cannot be told", "pod", key(pod).String(), "error", err)
		return nil
	}
	return u
}

// memory is what a Pod uses of it. What is gone meanwhile uses nothing.
func (e *evictor) memory(pod *v1.Pod) (*evict.Usage, error) {
	whole, err := e.of.Usage(pod, "")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	u := &evict.Usage{Memory: int64(whole.WorkingSet), Containers: map[string]evict.Container{}}
	for name, id := range containerIDs(pod, true) {
		if one, err := e.of.Usage(pod, id); err == nil { // the rest is only told of
			u.Containers[name] = evict.Container{Memory: int64(one.WorkingSet)}
		}
	}
	return u, nil
}

// storage is what a Pod has on disk, and what it cost to find out.
func (e *evictor) storage(ctx context.Context, pod *v1.Pod) (*evict.Usage, time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, walkTimeout)
	defer cancel()
	s, err := e.of.Storage(ctx, pod, containerIDs(pod, false))
	if err != nil {
		return nil, s.Cost, err
	}
	amount := func(t node.Taken) evict.Amount { return evict.Amount{Bytes: int64(t.Bytes), Inodes: int64(t.Inodes)} }
	u := &evict.Usage{Containers: map[string]evict.Container{}, Volumes: map[string]evict.Amount{}, Files: amount(s.Files)}
	for name := range s.Logs {
		u.Containers[name] = evict.Container{Layer: amount(s.Layers[name]), Logs: amount(s.Logs[name])}
	}
	for name, taken := range s.Volumes {
		u.Volumes[name] = amount(taken)
	}
	return u, s.Cost, nil
}

// containerIDs are those of a Pod's containers that are there, or only of those that run, by name.
func containerIDs(pod *v1.Pod, running bool) map[string]string {
	ids := map[string]string{}
	for _, s := range slices.Concat(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses, pod.Status.EphemeralContainerStatuses) {
		if _, id, ok := strings.Cut(s.ContainerID, "://"); ok && (!running || s.State.Running != nil) {
			ids[s.Name] = id
		}
	}
	return ids
}

// evict asks that a Pod be ended, and says whether anybody heard.
func (e *evictor) evict(r resident, signal evict.Signal, ruling Ruling) bool {
	e.ruling.Lock()
	defer e.ruling.Unlock()
	if r.ruling().Verdict != Admitted {
		return false // for another reason
	}
	ruling.Verdict, ruling.Reason = Evicted, evict.Reason
	e.rule(r.key, ruling)
	if r.ruling() != ruling {
		return false // no source wants it, or not any more
	}
	e.log.Warn("pod is evicted", "pod", r.key.String(), "signal", signal, "message", ruling.Message)
	e.events.add(r.pod, "", v1.EventTypeWarning, evict.Reason, ruling.Message)
	e.counted.WithLabelValues(string(signal)).Inc()
	return true
}

// leaving are the workers of Pods that were evicted, and have not ended.
func (e *evictor) leaving() (all []*worker) {
	for _, w := range e.workers() {
		if pod := w.published.Load(); pod != nil && !isTerminal(pod.Status.Phase) && w.ruling().Verdict == Evicted {
			all = append(all, w)
		}
	}
	return all
}

// await waits until a Pod has ended, and what it had is given back, for its time and a while. Nobody waits for one that has much time
// when memory must be had at once.
func (e *evictor) await(ctx context.Context, gone *worker, short <-chan struct{}) {
	grace := gone.ruling().Grace
	ctx, cancel := context.WithTimeout(ctx, grace+evictPatience)
	defer cancel()
	ticker := time.NewTicker(evictPoll)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-short:
			if urgent := e.memoryStarved(); grace > time.Second && len(urgent) > 0 && urgent[0].Hard() {
				return
			}
		case <-ticker.C:
			if pod := gone.published.Load(); (pod == nil || isTerminal(pod.Status.Phase)) && !gone.unswept.Load() {
				return
			}
		}
	}
}

// bringBack admits Pods that were evicted a while ago, once the node is under no pressure: those that nobody else would make anew.
func (e *evictor) bringBack() {
	since, now := map[types.UID]time.Time{}, time.Now()
	for _, w := range e.workers() {
		pod := w.published.Load()
		if pod == nil || !comesBack(w, pod) {
			continue
		}
		at, known := e.since[pod.UID]
		if !known {
			at = now
		}
		if len(e.state.Pressure) == 0 && now.Sub(at) >= e.policy.Transition {
			e.log.Info("pod that was evicted comes back", "pod", w.key.String())
			e.rule(w.key, Ruling{})
			continue
		}
		since[pod.UID] = at
	}
	e.since = since
}

// comesBack says whether a Pod was evicted and is to be back: where it stands in a file it is wanted for good.
func comesBack(w *worker, pod *v1.Pod) bool {
	return pod.Status.Phase == v1.PodFailed && pod.Status.Reason == evict.Reason &&
		w.source() == SourceDirectory && pod.Spec.RestartPolicy == v1.RestartPolicyAlways
}

// ruling is what was ruled about the Pod last.
func (w *worker) ruling() Ruling {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.wanted == nil {
		return Ruling{}
	}
	return w.wanted.Ruling
}

// obey ends the instance because it may not run.
func (w *worker) obey(r Ruling) {
	if r.Disrupts {
		w.disrupt(v1.PodReasonTerminationByKubelet, r.Message)
	}
	w.end(r.Message, r)
	if r.Grace > 0 {
		w.endBy(deadlineIn(r.Grace))
	}
}
