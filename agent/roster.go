package agent

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/component-helpers/scheduling/corev1"
	"k8s.io/utils/ptr"

	"github.com/podkeeper/podkeeper/agent/admit"
	"github.com/podkeeper/podkeeper/agent/node"
	"github.com/podkeeper/podkeeper/agent/plan"
)

// roster knows the workers, whose container an id is, and which worker has claimed a UID or a port of the host, or a place
// beside other Pods. It decides nothing: a claim that is taken is refused, and whoever was refused is woken when anything is
// given back.
type roster struct {
	mu      sync.Mutex
	self    *v1.Node // this node, as Pods may ask for it; never changed
	workers map[types.NamespacedName]*worker
	ids     map[string]*worker // by container id, for containerd's events
	uids    map[types.UID]types.NamespacedName
	users   map[types.UID]node.Users // of instances that have a user namespace, until their UID is free
	levels  map[types.UID]string     // of those that have SELinux labels, likewise
	ports   map[port][]portClaim
	placed  map[types.NamespacedName]place // of those that have ended in full nothing is left here
	refused map[*worker]refusal
	queue   queue
	books   books
}

// refusal is what a claim was refused for.
type refusal string

// The refusals.
const (
	forClaims     refusal = "claims"     // of others
	forNeighbours refusal = "neighbours" // what they are
	forRoom       refusal = "room"       // on the node
)

// place is what a Pod on the node takes of it.
type place struct {
	pod    *v1.Pod // as it began, with the resources that it was granted
	asks   admit.Amounts
	waits  admit.Amounts // for so much more
	leaves bool          // to make room for another one
}

// port is a port of the host without its address.
type port struct {
	number   int32
	protocol v1.Protocol
}

type portClaim struct {
	ip  string // empty is every address
	uid types.UID
	key types.NamespacedName
}

func newRoster(self *v1.Node) *roster {
	return &roster{
		self:    self,
		workers: map[types.NamespacedName]*worker{}, ids: map[string]*worker{}, uids: map[types.UID]types.NamespacedName{}, users: map[types.UID]node.Users{}, levels: map[types.UID]string{},
		ports: map[port][]portClaim{}, placed: map[types.NamespacedName]place{}, refused: map[*worker]refusal{}, queue: queue{waiting: map[types.NamespacedName]*waiting{}},
	}
}

// node is this node as it is now.
func (r *roster) node() *v1.Node {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.self
}

// become has the node be another one, and says whether it is.
func (r *roster) become(self *v1.Node) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if equality.Semantic.DeepEqual(self, r.self) {
		return false
	}
	r.self = self
	return true
}

// all are the workers, in no order.
func (r *roster) all() []*worker {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := make([]*worker, 0, len(r.workers))
	for _, w := range r.workers {
		out = append(out, w)
	}
	return out
}

// named is the worker of a Pod, nil where there is none.
func (r *roster) named(key types.NamespacedName) *worker {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.workers[key]
}

// hand gives a wish to the worker of its Pod, which is hired where there is none.
func (r *roster) hand(key types.NamespacedName, wish *Wish, hire func() *worker) (hired *worker) {
	r.mu.Lock()
	defer r.mu.Unlock()
	w := r.workers[key]
	if w == nil {
		w = hire()
		r.workers[key] = w
		hired = w
	}
	w.want(wish) // under the lock, so that it does not retire meanwhile
	return hired
}

// enlist adds a worker.
func (r *roster) enlist(w *worker) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.workers[w.key] = w
}

// retire lets a worker go that has nothing left, unless something is wanted of it again.
func (r *roster) retire(w *worker) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !w.idle() {
		return false
	}
	delete(r.workers, w.key)
	delete(r.refused, w)
	return true
}

// register says whose container an id is, from before there is one until nothing of it is left.
func (r *roster) register(id string, w *worker) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ids[id] = w
}

func (r *roster) forget(ids ...string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, id := range ids {
		delete(r.ids, id)
	}
}

// registered are the ids that are somebody's.
func (r *roster) registered() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Collect(maps.Keys(r.ids))
}

// of is the worker whose container an id is, nil where it is nobody's.
func (r *roster) of(id string) *worker {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.ids[id]
}

// reserve claims a UID that no instance has, for whoever removes what is left of one. freeUID gives it back.
func (r *roster) reserve(uid types.UID) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, taken := r.uids[uid]; taken {
		return false
	}
	r.uids[uid] = types.NamespacedName{Name: "leftovers of an earlier instance"}
	return true
}

// claim takes the UID, the host's ports and the place of an instance that begins, all of them or, where one is taken, none.
// has is what the node has for Pods now, nil where that is not known. It answers who holds what in the way, in the scheduler's
// words; the worker is woken when it may try again.
func (r *roster) claim(w *worker, pod *v1.Pod, has admit.Amounts) (Ruling, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if holder, taken := r.uids[pod.UID]; taken {
		return r.refuse(w, forClaims, "UIDInUse", fmt.Sprintf("metadata.uid %s is that of %s, which still ends", pod.UID, strings.TrimPrefix(holder.String(), "/")))
	}
	for _, p := range hostPorts(pod) {
		for _, held := range r.ports[p.port] {
			if held.ip != "" && p.ip != "" && held.ip != p.ip {
				continue
			}
			return r.refuse(w, forClaims, v1.PodReasonUnschedulable, fmt.Sprintf(
				"0/1 nodes are available: 1 node(s) didn't have free ports for the requested pod ports. hostPort %d/%s is in use by %s",
				p.number, p.protocol, held.key))
		}
	}
	standing, taken := r.standing()
	if why := beside(pod, standing, r.self); why != "" {
		return r.refuse(w, forNeighbours, v1.PodReasonUnschedulable, "0/1 nodes are available: 1 "+why)
	}
	if refused := r.queue.ask(r, pod, has, taken); refused.Quota {
		r.refused[w], r.queue.waiting[w.key].nominated = forRoom, false
		return hold(noQuota, refused.Why), false
	} else if refused.Why != "" {
		r.refused[w] = forRoom
		r.preempt(pod, has)
		return hold(v1.PodReasonUnschedulable, "0/1 nodes are available: "+refused.Why), false
	}
	r.grant(w.key, pod)
	return Ruling{}, true
}

// refuse refuses a claim for what is not a matter of room: who waits for that need not wait for this Pod.
func (r *roster) refuse(w *worker, of refusal, reason, message string) (Ruling, bool) {
	if r.queue.stepAside(w.key) {
		r.reopen()
	}
	r.refused[w] = of
	return hold(reason, message), false
}

// stepAside has a Pod that may not begin keep no room from others.
func (r *roster) stepAside(key types.NamespacedName) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.queue.stepAside(key) {
		r.reopen()
	}
}

// expect says which Pods are wanted by now, and what counts for quotas besides.
func (r *roster) expect(wishes map[types.NamespacedName]*Wish, counted counted, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	changed := r.count(counted, wishes)
	if r.queue.expect(wishes, now) || changed {
		r.reopen()
	}
}

// preempt has Pods of lower priority leave the node where that gives a Pod that was refused the room that it needs. Who leaves
// already is counted as gone.
func (r *roster) preempt(pod *v1.Pod, has admit.Amounts) {
	if ptr.Deref(pod.Spec.PreemptionPolicy, v1.PreemptLowerPriority) == v1.PreemptNever {
		return
	}
	standing, _ := r.standing()
	var residents []admit.Candidate
	leaving := map[types.NamespacedName]bool{}
	for _, other := range standing {
		place := r.placed[key(other)]
		residents = append(residents, admit.Candidate{
			Name: key(other), Priority: corev1.PodPriority(place.pod), Since: place.pod.CreationTimestamp.Time, Asks: place.asks,
		})
		leaving[key(other)] = place.leaves || other.DeletionTimestamp != nil
	}
	w := r.queue.waiting[key(pod)]
	var victims []types.NamespacedName
	victims, w.nominated = admit.Victims(has, w.Candidate, residents, leaving, r.queue.before(w, r.placed))
	for _, name := range victims {
		place := r.placed[name]
		place.leaves = true
		r.placed[name] = place
		r.workers[name].preempt(place.pod.UID, key(pod))
	}
}

// reopen has whoever was refused for want of room ask again.
func (r *roster) reopen() {
	r.queue.round = nil
	r.rouse(forRoom)
}

// standing are the Pods that have begun and not ended, as they are now, in no order, and what they take of the node.
func (r *roster) standing() ([]*v1.Pod, admit.Amounts) {
	out, taken := make([]*v1.Pod, 0, len(r.placed)), admit.Amounts{}
	for key, place := range r.placed {
		pod := place.pod
		if w := r.workers[key]; w != nil {
			if now := w.published.Load(); now != nil && now.UID == pod.UID && now.CreationTimestamp.Equal(&pod.CreationTimestamp) {
				pod = now // else it is of an instance before, or of none
			}
		}
		if !isTerminal(pod.Status.Phase) {
			out = append(out, pod)
			taken.Add(place.asks)
			taken.Add(place.waits)
		}
	}
	return out, taken
}

// stillStanding are the Pods that have begun and not ended.
func (r *roster) stillStanding() []*v1.Pod {
	r.mu.Lock()
	defer r.mu.Unlock()
	standing, _ := r.standing()
	return standing
}

// reallot has an instance that is there take what it asks for by now, where the node has that, and answers v1.PodResizePending's
// reason and message where not: then it waits, and what it waits for is nobody else's who begins.
func (r *roster) reallot(w *worker, pod *v1.Pod, has admit.Amounts) (reason, message string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	place, placed := r.placed[w.key]
	if !placed || place.pod.UID != pod.UID {
		return "", ""
	}
	asks := admit.Asks(pod)
	if place.waits == nil && !isResized(pod, place.pod) {
		return "", ""
	}
	others := admit.Amounts{}
	standing, _ := r.standing()
	for _, other := range standing {
		if name := key(other); name != w.key {
			others.Add(r.placed[name].asks)
		}
	}
	reason, message = admit.Resize(has, others, place.asks, asks)
	waited := place.waits
	place.waits = nil
	switch why := r.overQuota(w.key, pod, place.pod); {
	case reason == "" && why != "": // it waits for no room on the node
		reason, message = v1.PodReasonDeferred, why
		r.refused[w] = forRoom
	case reason == "":
		place.pod, place.asks = pod, asks
		delete(r.refused, w)
	case reason == v1.PodReasonDeferred:
		place.waits = asks.Beyond(place.asks)
		r.refused[w] = forRoom
	}
	r.placed[w.key] = place
	if !maps.Equal(waited, place.waits) || reason == "" {
		r.reopen()
	}
	return reason, message
}

func isTerminal(phase v1.PodPhase) bool {
	return phase == v1.PodSucceeded || phase == v1.PodFailed
}

// changed wakes who was refused for what other Pods are or take, where one of them is reported otherwise than before.
func (r *roster) changed(before, after *v1.Pod) {
	if before != nil && before.UID == after.UID && isTerminal(before.Status.Phase) == isTerminal(after.Status.Phase) &&
		(before.DeletionTimestamp == nil) == (after.DeletionTimestamp == nil) && maps.Equal(before.Labels, after.Labels) {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.rouse(forNeighbours)
	r.reopen()
}

// rouse wakes who was refused for that.
func (r *roster) rouse(refused refusal) {
	for w, of := range r.refused {
		if of == refused {
			w.Wake()
		}
	}
}

// take claims for an instance that is there already.
func (r *roster) take(key types.NamespacedName, pod *v1.Pod) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.grant(key, pod)
	r.reopen()
}

func (r *roster) grant(key types.NamespacedName, pod *v1.Pod) {
	delete(r.refused, r.workers[key])
	r.uids[pod.UID] = key
	r.placed[key] = place{pod: pod, asks: admit.Asks(pod)}
	r.rouse(forNeighbours)
	for _, p := range hostPorts(pod) {
		r.ports[p.port] = append(r.ports[p.port], portClaim{p.ip, pod.UID, key})
	}
}

// freePorts gives back the ports and the place of an instance of which nothing runs any more.
func (r *roster) freePorts(pod *v1.Pod) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if placed, ok := r.placed[key(pod)]; ok && placed.pod.UID == pod.UID {
		delete(r.placed, key(pod))
	}
	for _, p := range hostPorts(pod) {
		var kept []portClaim
		for _, c := range r.ports[p.port] {
			if c.uid != pod.UID {
				kept = append(kept, c)
			}
		}
		if len(kept) > 0 {
			r.ports[p.port] = kept
		} else {
			delete(r.ports, p.port)
		}
	}
	r.wakeRefused()
}

// freeUID gives back the UID of an instance of which nothing is left.
func (r *roster) freeUID(uid types.UID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.uids, uid)
	delete(r.users, uid)
	delete(r.levels, uid)
	r.wakeRefused()
}

// earmark gives an instance something that no other one has of those that hold any, of which free knows some; the zero value where there is
// none.
func earmark[T comparable](r *roster, held map[types.UID]T, uid types.UID, free func(taken []T) (T, bool)) T {
	r.mu.Lock()
	defer r.mu.Unlock()
	got, ok := free(slices.Collect(maps.Values(held)))
	if ok {
		held[uid] = got
	}
	return got
}

// retain keeps for an instance that is there already what is earmarked for it.
func (r *roster) retain(inst *instance) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if inst.Users.Count > 0 {
		r.users[inst.Pod.UID] = inst.Users
	}
	if inst.Level != "" {
		r.levels[inst.Pod.UID] = inst.Level
	}
}

func (r *roster) wakeRefused() {
	r.queue.round = nil
	for w := range r.refused {
		w.Wake()
	}
}

// hostPort is a port of the host on one address, empty for every one.
type hostPort struct {
	port
	ip string
}

// hostPorts are the ports of the host that a Pod's containers want.
func hostPorts(pod *v1.Pod) []hostPort {
	var out []hostPort
	for _, c := range plan.Containers(pod) {
		for _, p := range c.Ports {
			if p.HostPort == 0 {
				continue
			}
			want := hostPort{port{p.HostPort, p.Protocol}, p.HostIP}
			if want.ip == "0.0.0.0" || want.ip == "::" {
				want.ip = ""
			}
			if want.protocol == "" {
				want.protocol = v1.ProtocolTCP
			}
			out = append(out, want)
		}
	}
	return out
}
