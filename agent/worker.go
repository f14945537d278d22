package agent

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/trace"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/uuid"
	"k8s.io/component-helpers/scheduling/corev1"

	"github.com/podkeeper/podkeeper/agent/admit"
	"github.com/podkeeper/podkeeper/agent/inputs"
	"github.com/podkeeper/podkeeper/agent/node"
	"github.com/podkeeper/podkeeper/agent/plan"
	"github.com/podkeeper/podkeeper/agent/status"
	"github.com/podkeeper/podkeeper/manifests"
)

// host is what a worker does to the world: node.Node, or in tests something that pretends to be one. Every method is
// idempotent, and may be cancelled and called again.
type host interface {
	LookSandbox(ctx context.Context, t node.Target) (running bool, err error)
	LookContainer(ctx context.Context, t node.Target) (node.Container, error)
	CreateSandbox(ctx context.Context, t node.Target) (warnings []string, err error)
	Attach(ctx context.Context, t node.Target) (ips []string, err error)
	RemoveSandbox(ctx context.Context, t node.Target, made ...node.Target) error
	Prepare(ctx context.Context, t node.Target, told node.Pulling) (node.Pull, error)
	Create(ctx context.Context, t node.Target, image node.Image) (*v1.ContainerUser, error)
	Start(ctx context.Context, t node.Target) (startedAt time.Time, err error)
	Carry(t node.Target) error
	Signal(ctx context.Context, t node.Target, kill bool) error
	Clean(ctx context.Context, t node.Target) error
	RemoveOld(ctx context.Context, t node.Target) error
	Refresh(ctx context.Context, t node.Target) error
	Exit(t node.Target, c node.Container, startedAt time.Time) *v1.ContainerStateTerminated
	OOMKills(t node.Target) (node.OOMKills, error)
	LogMessage(t node.Target) string
	Resize(ctx context.Context, t node.Target, containers []node.Resize, after *v1.Pod) (given []string, err error)
	Exec(ctx context.Context, t node.Target, command []string) (int, []byte, error)
	Teardown(ctx context.Context, t node.Target, attempts map[string]int) error
	Release(ctx context.Context, t node.Target, detached bool) error
	Forget(pod *v1.Pod) error
}

// surroundings is what all workers share.
type surroundings struct {
	*roster
	host              host
	podsDir           string
	hostIPs           func() []string
	timeout           time.Duration                                                  // of one deed, its wait for a turn excepted
	backoff           time.Duration                                                  // the longest between restarts; 0 is Kubernetes' default
	turns             *turns                                                         // of Pods that start something; nil is no limit
	exits             *turns                                                         // of Pods that are torn down; likewise
	rule              func(pod types.NamespacedName, revision string, ruling Ruling) // asks that a Pod as it is wanted now be ended
	noted             func(last *v1.Pod)                                             // a Pod is not reported any more, and was like this last; may be nil
	services          func(pod *v1.Pod) []*v1.Service                                // of which a container of a Pod that is made now may be told; may be nil
	pulled            func(err error)                                                // a pull was done, or has failed; may be nil
	ended             func()                                                         // a Pod has ended; may be nil
	pressed           func(pod *v1.Pod) Ruling                                       // whether a Pod may begin on the node as it is now; may be nil
	leftover          func()                                                         // a sandbox that was replaced is still on its network; may be nil
	shown             func()                                                         // whatever is reported of a Pod may be another one; may be nil
	events            *Events
	metrics           *metrics
	tracer            trace.Tracer // of starts; nil where nobody wants traces
	log               *slog.Logger
	rest              *time.Timer                                 // strikes when nothing was done for a while; may be nil
	recursiveReadOnly bool                                        // the node can make all that is mounted below a mount read-only
	appArmor          error                                       // why no AppArmor profile can be set on the node; nil where one can
	seLinux           error                                       // why no SELinux label can; likewise
	allocatable       func() v1.ResourceList                      // what the node has for Pods, now; nil is not known
	freeUsers         func(taken []node.Users) (node.Users, bool) // ids for one more user namespace; nil is none
	freeLevel         func(taken []string) (string, bool)         // a SELinux level for one more Pod; nil is none
	started           time.Time                                   // of the agent: probes that it takes over are spread over their first period
}

// safetyLook is how often a Pod is looked at when nothing happens.
const safetyLook = 5 * time.Minute

// worker keeps one Pod, that is one namespace/name, in the state that is wanted. It alone starts and stops what belongs to
// the Pod. Everything below wake is its goroutine's own.
type worker struct {
	key types.NamespacedName
	*surroundings

	mu        sync.Mutex
	wanted    *Wish  // nil: no such Pod is wanted
	origin    string // the source that wanted it last
	awaiting  bool   // no source has spoken yet, and what is there is not known well enough to go on
	wantedAt  time.Time
	forgiving forgiveness          // which failures to forget: what they were about may have been mended
	retrying  bool                 // back-off between restarts starts over, too
	vacant    bool                 // when it took what is wanted last, that was nothing, and nothing was there
	allotted  *time.Duration       // what the end has for its grace period, in place of the Pod's own; nil is that
	preempted preemption           // the last one that was asked for
	oomed     map[string]time.Time // containers in which a process was killed for want of memory, and when
	published atomic.Pointer[v1.Pod]
	complaint atomic.Pointer[manifests.Refusal] // why what is wanted may not begin, where that is for its manifest to mend
	unswept   atomic.Bool                       // something of an instance before is still to be removed
	stepping  lap                               // of a step
	wake      chan struct{}                     // of size 1, carries no data

	requests chan request
	results  chan result
	gone     chan struct{} // closed when the worker has left: nobody takes results any more
	inst     *instance
	remains  []*remains
	asks     map[string]*ask
	flights  map[string]flight // by lane
	next     map[string]deed   // that follow from others, by lane, and are begun in the next step
	turn     *podTurn
	prepared map[string]prepared
	faults   map[string]*fault // by lane
	probing  map[string]*probing
	objects  inputs.Objects // that the Pod refers to, as they are given to it now
	offered  inputs.Objects // the same as they are wanted
	pending  status.Fault   // why resources that are wanted were not granted; no reason is none
	widened  bool           // the Pod's cgroup has room for all that is resized
	stale    bool           // files in volumes may tell of an earlier version of the Pod
	renewAt  time.Time      // when tokens in volumes are to be others; zero is never
	told     Ruling         // why nothing begins, as people were told last
	seenAt   time.Time      // when the wish was first seen, zero once the start was measured
	plugged  bool           // a sandbox that was removed is still on its network; the next agent looks for such by itself
	traced   *tracedStart   // nil once the start is over, and where it is not traced
}

// forgiveness is which failures are forgotten.
type forgiveness string

// What is forgotten.
const (
	forgiveNone forgiveness = ""
	forgiveAway forgiveness = "away" // the runtime did not answer: it does now
	forgiveAll  forgiveness = "all"
)

// flight is a deed that is under way.
type flight struct {
	deed   deed
	cancel context.CancelFunc
}

// result is what became of a deed.
type result struct {
	deed deed
	err  error
}

// prepared is the instance of a container that is ready to be started.
type prepared struct {
	attempt int
	asked   string // the image as the Pod names it
	image   node.Image
}

func newWorker(key types.NamespacedName, s *surroundings) *worker {
	return &worker{
		key: key, surroundings: s, oomed: map[string]time.Time{}, wake: make(chan struct{}, 1), requests: make(chan request), results: make(chan result, 16), gone: make(chan struct{}),
		asks: map[string]*ask{}, flights: map[string]flight{}, next: map[string]deed{}, turn: newPodTurn(s.turns), prepared: map[string]prepared{}, faults: map[string]*fault{}, probing: map[string]*probing{},
	}
}

// adopt makes an instance that an earlier agent has left the worker's own, before it runs. Until its source has spoken
// what runs is wanted, unless it was already ending, and what was evicted is to be told of.
func (w *worker) adopt(inst *instance) {
	w.inst, w.origin, w.awaiting, w.stale = inst, inst.Source, inst.rebuilt, true
	if inst.Ending == nil && !inst.rebuilt || inst.Ruling.Verdict == Evicted {
		w.wanted = &Wish{Pod: &manifests.Pod{Pod: inst.desired(), Revision: inst.Revision}, Asked: inst.Asked, Handler: inst.Handler, Source: inst.Source, Ruling: inst.Ruling}
	}
	w.take(w.key, inst.Pod)
	w.retain(inst)
	for _, id := range inst.ids() {
		w.register(id, w)
	}
	w.show(withStatus(inst))
}

// want says what is wanted from now on; nil is nothing.
func (w *worker) want(wish *Wish) {
	w.mu.Lock()
	same := !w.awaiting && (wish == nil) == (w.wanted == nil) && (wish == nil || wish.Pod.Revision == w.wanted.Pod.Revision &&
		wish.Ruling == w.wanted.Ruling && wish.Wait == w.wanted.Wait && wish.Handler == w.wanted.Handler && sameSpec(wish.Pod.Pod, w.wanted.Pod.Pod))
	if same && wish != nil && !wish.Objects.Same(w.wanted.Objects) {
		same, w.forgiving = false, forgiveAll // what failed for want of one, or of what it says now, need not wait
	}
	w.wanted, w.awaiting = wish, false
	if wish != nil {
		w.origin = wish.Source
	}
	if !same {
		w.wantedAt = time.Now()
	}
	w.mu.Unlock()
	if !same {
		w.Wake()
	}
}

func (w *worker) source() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.origin
}

// idle says whether nothing is wanted.
func (w *worker) idle() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.wanted == nil && !w.awaiting
}

// over says whether nothing is wanted, and nothing is there to be told of.
func (w *worker) over() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.wanted == nil && w.vacant && w.published.Load() == nil
}

// Wake makes the worker look again.
func (w *worker) Wake() {
	select {
	case w.wake <- struct{}{}:
	default: // it will look anyway
	}
}

// Forgive makes the worker try at once what had failed.
func (w *worker) Forgive(which forgiveness) {
	w.mu.Lock()
	if w.forgiving != forgiveAll {
		w.forgiving = which
	}
	w.mu.Unlock()
	w.Wake()
}

// Retry makes the worker do at once whatever waits: what had failed, and restarts, whose back-off starts over.
func (w *worker) Retry() {
	w.mu.Lock()
	w.forgiving, w.retrying = forgiveAll, true
	w.mu.Unlock()
	w.Wake()
}

// OOM tells the worker that a process of a container was killed for want of memory.
func (w *worker) OOM(id string) {
	w.mu.Lock()
	w.oomed[id] = time.Now()
	w.mu.Unlock()
	w.Wake()
}

// run looks, plans and acts until ctx ends or nothing is wanted and nothing is left. It returns when no deed is under way
// but sweeps, which may hang.
func (w *worker) run(ctx context.Context) {
	defer close(w.gone)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		next := w.step(ctx)
		if w.inst == nil && len(w.flights) == 0 && len(w.remains) == 0 && w.retire(w) {
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
		case r := <-w.requests:
			w.adjust() // who asks means the Pod as it is wanted by now
			r.answer <- r.do()
		case <-timer.C:
		case r := <-w.results:
			w.settle(ctx, r)
		}
	}
}

// leave ends the worker but not the Pod: deeds are cancelled and awaited, their results still recorded. A sweep is not
// awaited: the next agent makes it again.
func (w *worker) leave(ctx context.Context) {
	w.endTrace(errors.New("the agent stops"))
	for name := range w.probing {
		w.endProbes(name)
	}
	for _, f := range w.flights {
		f.cancel()
	}
	for w.anyFlight(func(d deed) bool { return d.action.Verb != plan.Sweep }) {
		w.settle(ctx, <-w.results)
	}
	if w.inst != nil {
		w.save()
	}
}

// step is one round: take what is wanted, look, plan, act. It answers when to look again even if nothing happens.
func (w *worker) step(ctx context.Context) time.Time {
	w.stepping.begin()
	defer w.stepping.end()
	for settled := true; settled; {
		select {
		case r := <-w.results:
			w.settle(ctx, r)
		default:
			settled = false
		}
	}
	w.adjust()
	wake := w.sweepRemains(ctx)
	if w.inst == nil || w.inst.TornDown {
		return wake
	}
	wake = earliest(wake, w.resize(), w.tidyUncleaned(), w.refresh())
	for _, d := range w.next {
		w.launch(ctx, d)
	}
	clear(w.next)
	now := time.Now()
	w.inst.rebase(now)
	sight := w.look(ctx)
	w.note(sight)
	w.redo()
	oom := w.noteOOMs(sight, now)
	if !w.inst.rebuilt {
		w.tend(sight)
	}
	seen := w.seen(sight)
	p := plan.Plan{}
	if !w.inst.rebuilt || w.inst.Ending != nil {
		p = plan.Next(w.inst.Pod, seen, now)
		w.logPlan(p, seen)
		w.tellBackoff(seen, now)
	}
	w.publish(seen, now) // before the records are those of the next instances
	w.act(ctx, p.Actions, now)
	if !w.anyFlight(func(d deed) bool { return d.starts }) {
		w.turn.end()
	}
	return earliest(wake, p.Wake, w.deadline(now), w.retryAt(lookLane), w.retryAt(recordLane), w.retryAt(logLane), oom, w.hooksRetryAt())
}

// act begins what was planned, with what must survive written down before. What starts something is not done where that
// cannot be written: the next agent would not know it.
func (w *worker) act(ctx context.Context, actions []plan.Action, now time.Time) {
	var deeds []deed
	var undo []func()
	held := w.faults[recordLane] != nil && !w.save()
	unknown := w.unknown()
	for _, a := range actions {
		d := w.deed(a, now)
		if d.starts && (held || unknown) || a.Verb == plan.Teardown && w.tidies() || a.Verb == plan.CreateSandbox && w.busy(volumesLane) ||
			a.Verb == plan.Create && w.inst.Resizing != nil && !w.widened {
			continue
		}
		deeds = append(deeds, d)
		if d.begin != nil {
			if back := d.begin(); d.starts && back != nil {
				undo = append(undo, back)
			}
		}
	}
	written := w.save()
	for _, d := range deeds {
		if written || !d.starts {
			w.launch(ctx, d)
		}
	}
	if !written {
		for _, back := range undo {
			back()
		}
	}
}

// unknown says whether the Pod refers to objects, and no source has said yet what there is of them: nothing starts before.
func (w *worker) unknown() bool {
	return w.objects == nil && len(inputs.References(w.inst.Pod)) > 0
}

// Lanes of failures that are no deed's.
const (
	lookLane   = "/look"
	recordLane = "/record"
	logLane    = "/log"
)

// save writes the record, and says whether it is written. That of an instance whose Pod is not known yet is not: the next
// agent would take it for whole. Nothing starts meanwhile.
func (w *worker) save() bool {
	if w.inst.rebuilt && w.inst.Ending == nil {
		return true
	}
	err := w.inst.save()
	if err == nil {
		delete(w.faults, recordLane)
		return true
	}
	w.event("", v1.EventTypeWarning, "FailedRecord", "Nothing new is started: the record of the Pod cannot be written: "+err.Error())
	w.log.Error("record of pod cannot be written", "pod", w.key.String(), "error", err)
	if !w.retryAt(recordLane).After(time.Now()) {
		w.fail(recordLane, "FailedRecord", err)
	}
	return false
}

// adjust brings what is wanted and what there is together: a first instance begins, one that is not wanted any more, or not
// as it is, has to end, and one that differs in little is the one that is wanted from here on.
func (w *worker) adjust() {
	w.mu.Lock()
	wanted, wantedAt, awaiting, allotted := w.wanted, w.wantedAt, w.awaiting, w.allotted
	forgiving, retrying, preempted := w.forgiving, w.retrying, w.preempted
	w.forgiving, w.retrying = forgiveNone, false
	w.vacant = wanted == nil && !awaiting && w.inst == nil
	w.mu.Unlock()
	w.pardon(forgiving, retrying)
	if w.inst != nil && w.inst.TornDown && (wanted == nil || wanted.Ruling.Verdict != Evicted || wanted.Pod.Revision != w.inst.Revision) {
		w.dismissEvicted()
	}
	switch {
	case awaiting:
	case w.inst == nil && wanted == nil:
		if !slices.ContainsFunc(w.remains, func(r *remains) bool { return !r.tried }) {
			w.vanish()
		}
	case w.inst == nil:
		w.beginInstance(wanted, wantedAt)
	case w.inst.Ending != nil:
	case wanted == nil:
		w.end("the manifest was removed", Ruling{})
		if allotted != nil {
			w.endBy(deadlineIn(*allotted))
			w.allot(nil)
		}
	case wanted.Ruling.Verdict != Admitted:
		w.obey(wanted.Ruling)
	case w.inst.Pod.UID == preempted.uid:
		w.giveWay(preempted.by)
	case w.inst.rebuilt && wanted.Pod.Revision == w.inst.Revision:
		w.recognise(wanted)
	case wanted.Pod.Revision != w.inst.Revision:
		w.follow(wanted)
	}
	if w.inst != nil && w.inst.Ending == nil && wanted != nil {
		w.refer(wanted.Objects)
	}
	w.noteRefused(wanted)
}

// pardon forgets failures and, for a retry, what restarts have to wait. That goes for containers that run as well: the end of
// one may not have been seen yet.
func (w *worker) pardon(forgiving forgiveness, retrying bool) {
	maps.DeleteFunc(w.faults, func(_ string, f *fault) bool {
		return forgiving == forgiveAll || forgiving == forgiveAway && f.away
	})
	if !retrying || w.inst == nil {
		return
	}
	w.log.Info("what waits is tried at once", "pod", w.key.String())
	for _, rec := range w.inst.Containers {
		rec.Backoff = 0
	}
}

// beginInstance begins an instance, unless something is in its way.
func (w *worker) beginInstance(wanted *Wish, wantedAt time.Time) {
	pod := wanted.Pod.DeepCopy()
	ruling := wanted.Ruling
	if ruling.Verdict == Admitted {
		ruling = wanted.Wait
	}
	if ruling.Verdict == Admitted {
		ruling = fits(pod, w.node(), w.appArmor, w.seLinux)
	}
	if ruling.Verdict == Admitted && wanted.Source == SourceAPI {
		ruling = schedulable(pod, w.node())
	}
	if ruling.Verdict == Admitted && w.pressed != nil {
		ruling = w.pressed(pod)
	}
	if ruling.Verdict != Admitted {
		w.logAdmission(pod, ruling)
		w.stepAside(w.key)
	} else {
		if pod.UID == "" {
			pod.UID = uuid.NewUUID()
		}
		pod.CreationTimestamp = metav1.NewTime(time.Now())
		pod.Status = v1.PodStatus{}
		var ok bool
		ruling, ok = w.claim(w, pod, w.room()) // from here on others read it
		w.logAdmission(pod, ruling)
		if ok {
			w.inst = newInstance(w.podsDir, pod, wanted.Pod.Revision)
			w.inst.Source, w.inst.Asked, w.inst.Handler = wanted.Source, wanted.Asked, wanted.Handler
			w.told, w.objects, w.offered, w.stale = Ruling{}, nil, nil, false
			w.pending, w.widened = status.Fault{}, false
			w.faults, w.prepared, w.seenAt = map[string]*fault{}, map[string]prepared{}, wantedAt
			w.traceStart(wantedAt)
			return
		}
	}
	pod.UID, pod.CreationTimestamp = wanted.Pod.UID, wanted.Pod.CreationTimestamp
	var previous v1.PodStatus
	if old := w.published.Load(); old != nil {
		previous = old.Status
	}
	pod.Status = status.Held(pod, ruling.Reason, ruling.Message, previous, time.Now())
	if ruling.Verdict == Evicted {
		pod.Status.Phase, pod.Status.Reason, pod.Status.Message = v1.PodFailed, ruling.Reason, ruling.Message
	}
	if ruling != w.told {
		w.told = ruling
		w.events.add(pod, "", v1.EventTypeWarning, "FailedScheduling", ruling.Message)
	}
	w.show(pod)
}

// room is what the node has for Pods. It is looked up each time, for that may change, as with huge pages.
func (w *worker) room() admit.Amounts {
	if w.allocatable == nil {
		return nil
	}
	return admit.Of(w.allocatable())
}

// follow makes the instance the version that is wanted, by what the difference between the two means. The defaults of a
// build later than the one that began the instance are no difference.
func (w *worker) follow(wanted *Wish) {
	if w.inst.rebuilt {
		w.end("the manifest was changed", Ruling{})
		return
	}
	running := manifests.Normalise(w.inst.asked())
	running.Spec.EphemeralContainers = nil // which no source knows of
	change := difference(running, wanted.asked())
	w.logEdit(change, wanted)
	if wanted.Wait.Verdict != Admitted && (change == recreate || isResized(wanted.asked(), running)) { // nothing would follow, or what may not be
		return
	}
	switch change {
	case recreate:
		w.end("the manifest was changed", Ruling{})
	case restarts:
		for name := range w.prepared {
			if _, under := w.flights[name]; !under {
				delete(w.prepared, name) // of the image before
			}
		}
		clear(w.faults)
		w.replacePod(wanted)
	case inPlace, nothing:
		w.replacePod(wanted)
	}
}

// replacePod makes another version of the Pod the one that is run, but for its resources, which are granted apart. The one before
// stays as it is: deeds may be reading it.
func (w *worker) replacePod(wanted *Wish) {
	pod := wanted.Pod.DeepCopy()
	pod.UID, pod.CreationTimestamp, pod.Status = w.inst.Pod.UID, w.inst.Pod.CreationTimestamp, v1.PodStatus{}
	pod.Spec.EphemeralContainers = w.inst.Pod.Spec.EphemeralContainers
	manifests.KeepPriority(pod, w.inst.Pod) // where its class is gone
	if !w.inst.rebuilt {
		keepGiven(pod, wanted, w.inst)
	}
	w.inst.Asked, w.inst.Wanted = unlike(wanted.asked(), pod), nil
	if given, wants := manifests.ResourcesOf(w.inst.Pod), manifests.ResourcesOf(pod); !given.Equal(wants) {
		pod, w.inst.Wanted = given.In(pod), &wants
	}
	w.inst.Pod, w.inst.Revision, w.inst.Source = pod, wanted.Pod.Revision, wanted.Source
	w.stale = true
	w.inst.complete()
}

// recognise gives an instance whose record was lost the Pod that it is of.
func (w *worker) recognise(wanted *Wish) {
	w.replacePod(wanted)
	if w.inst.Wanted != nil { // what it was given is not known
		w.inst.Pod, w.inst.Wanted = w.inst.desired(), nil
	}
	w.inst.Resizing = &resizing{Generation: w.inst.Pod.Generation, Most: manifests.ResourcesOf(w.inst.Pod)}
	w.inst.rebuilt, w.inst.Handler = false, wanted.Handler
	w.freePorts(w.inst.Pod)
	w.take(w.key, w.inst.Pod)
}

// end begins the end of the instance. Starts that are under way are given up, stops are not.
func (w *worker) end(reason string, ruling Ruling) {
	w.inst.Ending, w.inst.Ruling = &plan.Ending{Since: time.Now(), Reason: reason}, ruling
	w.endTrace(errors.New("the Pod ends: " + reason))
	w.log.Info("pod ends", "pod", w.key.String(), "reason", reason)
	for _, f := range w.flights {
		if f.deed.starts || isBeside(f.deed) {
			f.cancel()
		}
	}
	clear(w.next)
	clear(w.faults)
}

// tidies says whether an instance that is past is being removed, or files are being written: whatever tears down all of them
// waits for that.
func (w *worker) tidies() bool {
	return w.anyFlight(isBeside)
}

// isBeside says whether a deed is about what an instance has beside its present containers: in vain once it has to go.
func isBeside(d deed) bool {
	return d.action.Verb == plan.Tidy || d.action.Verb == plan.Refresh || d.action.Verb == plan.Resize
}

// anyFlight says whether a deed is under way that is one of those.
func (w *worker) anyFlight(those func(deed) bool) bool {
	for _, f := range w.flights {
		if those(f.deed) {
			return true
		}
	}
	return false
}

// evictedStatus is the last status of an instance that was evicted.
func evictedStatus(inst *instance) v1.PodStatus {
	s := *inst.Status.DeepCopy()
	s.Phase, s.Reason, s.Message = v1.PodFailed, inst.Ruling.Reason, inst.Ruling.Message
	return s
}

// dismissEvicted lets go of an instance that was evicted, and now is to come back or to be forgotten.
func (w *worker) dismissEvicted() {
	w.remains = append(w.remains, &remains{target: w.target(""), attempts: w.inst.attempts(), torn: true, detached: true})
	w.inst = nil
}

// sweepRemains begins sweeps that are due, and answers when the next one is.
func (w *worker) sweepRemains(ctx context.Context) (next time.Time) {
	w.unswept.Store(len(w.remains) > 0)
	for _, r := range w.remains {
		lane := sweepLane(r)
		if w.busy(lane) {
			continue
		}
		if at := w.retryAt(lane); at.After(time.Now()) {
			next = earliest(next, at)
			continue
		}
		w.launch(ctx, w.sweep(r))
	}
	return next
}

func (w *worker) dropRemains(r *remains) {
	w.remains = slices.DeleteFunc(w.remains, func(other *remains) bool { return other == r })
	delete(w.faults, sweepLane(r))
}

// launch does a deed in its own goroutine.
func (w *worker) launch(ctx context.Context, d deed) {
	if w.rest != nil {
		w.rest.Reset(restAfter)
	}
	w.log.Info("act", "pod", w.key.String(), "action", d.action.String())
	ctx, cancel := context.WithCancel(ctx)
	w.flights[d.lane] = flight{deed: d, cancel: cancel}
	ctx, span := w.traceDeed(ctx, d)
	var priority int32
	if w.inst != nil {
		priority = corev1.PodPriority(w.inst.Pod)
	}
	go func() {
		defer cancel()
		r := result{deed: d, err: w.inTurn(ctx, d, priority)}
		node.EndPart(span, r.err)
		select {
		case w.results <- r:
		case <-w.gone:
		}
	}()
}

// inTurn does a deed when the turn of the Pod, which has this priority, comes, where it starts something or ends the Pod. Its deadline
// counts from there.
func (w *worker) inTurn(ctx context.Context, d deed, priority int32) error {
	switch {
	case d.starts:
		if err := w.turn.take(ctx, priority); err != nil {
			return err
		}
		trace.SpanFromContext(ctx).AddEvent("turn taken")
	case d.action.Verb == plan.Teardown && w.exits != nil:
		give, err := w.exits.take(ctx, priority)
		if err != nil {
			return err
		}
		defer give()
	}
	if !d.free {
		bounded, cancel := context.WithTimeout(ctx, w.timeout)
		defer cancel()
		ctx = bounded
	}
	return d.do(ctx)
}

// settle records the result of a deed.
func (w *worker) settle(ctx context.Context, r result) {
	d := r.deed
	delete(w.flights, d.lane)
	if r.err == nil {
		w.excuse(d)
		if d.done != nil {
			d.done()
		}
		return
	}
	if ctx.Err() != nil || d.starts && (w.inst == nil || w.inst.Ending != nil) {
		return // given up on purpose
	}
	w.log.Warn("action failed", "pod", w.key.String(), "action", d.action.String(), "error", r.err)
	if node.IsAway(r.err) || d.failed == nil {
		w.fail(d.lane, "RuntimeError", r.err)
	} else {
		d.failed(r.err)
	}
	if f := w.faults[d.lane]; f != nil {
		f.of = d.action.Verb
	}
}

// excuse forgets the failure that a deed has made good. What made the removal of a sandbox necessary may happen again, and
// an image that is there says nothing of a start that failed.
func (w *worker) excuse(d deed) {
	f := w.faults[d.lane]
	if f == nil || d.action.Verb == plan.RemoveSandbox || d.action.Verb == plan.Prepare && (f.of == plan.Create || f.of == plan.Start) {
		return
	}
	delete(w.faults, d.lane)
}

// event tells people of something that happened to the instance, or to one of its containers.
func (w *worker) event(container, kind, reason, message string) {
	w.events.add(w.inst.Pod, container, kind, reason, message)
}

// target is a container of the instance, by name, or its sandbox for "".
func (w *worker) target(name string) node.Target {
	t := w.inst.target(name)
	t.Objects = w.objects
	if w.inst.Pod.Spec.HostNetwork {
		t.IPs = w.hostIPs() // which may change
	}
	return t
}

// later is the last of two times.
func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// earliest is the first of the times that is set.
func earliest(times ...time.Time) time.Time {
	var first time.Time
	for _, t := range times {
		if !t.IsZero() && (first.IsZero() || t.Before(first)) {
			first = t
		}
	}
	return first
}
