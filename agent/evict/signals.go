// Package evict decides when a node, or a Pod, runs out of something, and which Pod goes then, in the kubelet's terms
// (kubernetes/kubernetes pkg/kubelet/eviction).
//
//	readings ─▶ Policy.Look ─▶ conditions of the node, and what to reclaim ─▶ Rank ─▶ Message
//	what a Pod has on disk ─▶ Over: whether that is more than it may have
//
// It is pure: it must not know how a node and Pods are measured, how a Pod is ended, nor what time it is.
package evict

import (
	"cmp"
	"slices"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/podkeeper/podkeeper/agent/admit"
)

// Reason is why a Pod has failed that was evicted, and why one is held that would be at once.
const Reason = "Evicted"

// Signal is something that a node may run out of.
type Signal string

// The signals. nodefs is the file system of the root directory, imagefs that of images, containerfs that of writable layers.
// Bytes of memory are those that are not in the node's working set.
const (
	MemoryAvailable       Signal = "memory.available"
	NodeFSAvailable       Signal = "nodefs.available"
	NodeFSInodesFree      Signal = "nodefs.inodesFree"
	ImageFSAvailable      Signal = "imagefs.available"
	ImageFSInodesFree     Signal = "imagefs.inodesFree"
	ContainerFSAvailable  Signal = "containerfs.available"
	ContainerFSInodesFree Signal = "containerfs.inodesFree"
	PIDAvailable          Signal = "pid.available"
)

// Signals are all of them, in the order in which they are dealt with.
var Signals = []Signal{
	MemoryAvailable, NodeFSAvailable, NodeFSInodesFree, ImageFSAvailable, ImageFSInodesFree, ContainerFSAvailable, ContainerFSInodesFree, PIDAvailable,
}

// Resources that only evictions have a name for.
const (
	inodes v1.ResourceName = "inodes"
	pids   v1.ResourceName = "pids"
)

// Resource is what there is too little of.
func (s Signal) Resource() v1.ResourceName {
	switch s {
	case MemoryAvailable:
		return v1.ResourceMemory
	case PIDAvailable:
		return pids
	case NodeFSInodesFree, ImageFSInodesFree, ContainerFSInodesFree:
		return inodes
	default:
		return v1.ResourceEphemeralStorage
	}
}

// Condition is what the node has then.
func (s Signal) Condition() v1.NodeConditionType {
	switch s {
	case MemoryAvailable:
		return v1.NodeMemoryPressure
	case PIDAvailable:
		return v1.NodePIDPressure
	default:
		return v1.NodeDiskPressure
	}
}

// quantity writes an amount of the signal's resource.
func (s Signal) quantity(amount int64) *resource.Quantity {
	format := resource.BinarySI
	if r := s.Resource(); r == inodes || r == pids {
		format = resource.DecimalSI
	}
	return resource.NewQuantity(amount, format)
}

// Threshold is when there is too little.
type Threshold struct {
	Signal  Signal
	Below   admit.Share   // less than this is too little
	Grace   time.Duration // for how long that must have been so; with 0, a hard threshold, no time is lost
	Reclaim admit.Share   // what must be there beyond Below, once something is done about it, for that to be enough
}

// Hard says whether Pods have to go at once.
func (t *Threshold) Hard() bool { return t.Grace == 0 }

// Relieved says whether, once something is done about it, as much is there as was to be reclaimed.
func (t *Threshold) Relieved(r Reading) bool { return !t.metBy(r, true) }

// metBy says whether a reading is below the threshold, or has not yet reached what is to be reclaimed.
func (t *Threshold) metBy(r Reading, reclaiming bool) bool {
	least := t.Below.Of(r.Capacity)
	if reclaiming {
		least += t.Reclaim.Of(r.Capacity)
	}
	return r.Available < least
}

// Policy says when a node is under pressure, and how Pods go then. The zero value is never.
type Policy struct {
	Thresholds  []Threshold
	MaxPodGrace time.Duration // what a Pod may have of its grace period at a soft threshold (evictionMaxPodGracePeriod)
	Transition  time.Duration // for how long a condition stays when it was observed last (evictionPressureTransitionPeriod)
}

// Watches says whether there is any threshold for one of these signals.
func (p *Policy) Watches(signals ...Signal) bool {
	return slices.ContainsFunc(p.Thresholds, func(t Threshold) bool { return slices.Contains(signals, t.Signal) })
}

// Reading is how much there is of something, and how much of that is to be had.
type Reading struct{ Available, Capacity int64 }

// Readings are those of one moment. A signal that could not be read has none: nothing is done about it.
type Readings map[Signal]Reading

// State is what a node was found like. The zero value is that of one that nobody has looked at.
type State struct {
	// Pressure are the conditions that it has, in the order of their names.
	Pressure []v1.NodeConditionType
	// Starved are the thresholds for which something is to be done, the most urgent first.
	Starved []Threshold

	met      map[Threshold]time.Time            // since when each is
	observed map[v1.NodeConditionType]time.Time // when each was last
}

// Look says what a node is like by readings of now, and by what it was like before.
func (p *Policy) Look(was State, r Readings, now time.Time) State {
	is := State{met: map[Threshold]time.Time{}, observed: map[v1.NodeConditionType]time.Time{}}
	for condition, at := range was.observed {
		is.observed[condition] = at
	}
	for _, t := range p.Thresholds {
		reading, read := r[t.Signal]
		if !read || !t.metBy(reading, slices.Contains(was.Starved, t)) {
			continue
		}
		since, before := was.met[t]
		if !before {
			since = now
		}
		is.met[t] = since
		is.observed[t.Signal.Condition()] = now
		if now.Sub(since) >= t.Grace {
			is.Starved = append(is.Starved, t)
		}
	}
	slices.SortStableFunc(is.Starved, urgency)
	for condition, at := range is.observed {
		if at.Equal(now) || now.Sub(at) < p.Transition {
			is.Pressure = append(is.Pressure, condition)
		}
	}
	slices.Sort(is.Pressure)
	return is
}

// urgency puts memory before all else, as the kubelet does, and what is to be done at once before what has time.
func urgency(a, b Threshold) int {
	rank := func(t Threshold) int {
		n := slices.Index(Signals, t.Signal)
		if t.Signal != MemoryAvailable && !t.Hard() {
			n += len(Signals)
		}
		return n
	}
	return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a.Grace, b.Grace))
}

// Grace is how long a Pod has to end for a threshold: at a hard one a second, at a soft one what is left of its own grace period.
func (p *Policy) Grace(t Threshold, pod *v1.Pod) time.Duration {
	const least = time.Second
	own := p.MaxPodGrace
	if seconds := pod.Spec.TerminationGracePeriodSeconds; seconds != nil {
		own = min(own, time.Duration(*seconds)*time.Second)
	}
	if t.Hard() {
		own = 0
	}
	return max(own, least)
}
