package agent

import (
	"maps"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/component-helpers/scheduling/corev1"

	"github.com/podkeeper/podkeeper/agent/admit"
)

// queue are the Pods that are wanted, in the order in which they are given room on the node. A Pod that is there is past it, but
// stands in it all the same: for its next instance. The roster's lock is its own.
type queue struct {
	waiting map[types.NamespacedName]*waiting
	has     admit.Amounts                          // what the node has, as of the round
	round   map[types.NamespacedName]admit.Refusal // why each may not begin; nil where that is to be asked anew
}

// waiting is a Pod that may have to wait.
type waiting struct {
	admit.Candidate
	pod       *v1.Pod // as it is wanted
	charged   bool    // it was made through an API: quotas count it as it waits
	revision  string
	aside     bool // it may not begin for other reasons than want of room
	nominated bool // others leave, or are leaving, to make room for it
}

// expect takes over what is wanted, and says whether others than before may have room now.
func (q *queue) expect(wishes map[types.NamespacedName]*Wish, now time.Time) (changed bool) {
	for key := range q.waiting {
		if !mayBegin(wishes[key]) {
			delete(q.waiting, key)
			changed = true
		}
	}
	for key, wish := range wishes {
		was := q.waiting[key]
		if !mayBegin(wish) || was != nil && was.revision == wish.Pod.Revision && was.Priority == corev1.PodPriority(wish.Pod.Pod) && sameSpec(was.pod, wish.Pod.Pod) {
			continue
		}
		since := now
		if was != nil {
			since = was.Since
		}
		q.waiting[key] = &waiting{Candidate: candidate(wish.Pod.Pod, since), pod: wish.Pod.Pod, charged: wish.Source == SourceAPI, revision: wish.Pod.Revision}
		changed = true
	}
	return changed
}

func mayBegin(wish *Wish) bool {
	return wish != nil && wish.Ruling.Verdict == Admitted && wish.Wait.Verdict == Admitted
}

// candidate is a Pod as it waits. The age of one that was made through an API is the object's own.
func candidate(pod *v1.Pod, since time.Time) admit.Candidate {
	if !pod.CreationTimestamp.IsZero() {
		since = pod.CreationTimestamp.Time
	}
	return admit.NewCandidate(pod, since)
}

// stepAside has a Pod keep no room from others until it asks again, and says whether it did until now.
func (q *queue) stepAside(key types.NamespacedName) bool {
	w := q.waiting[key]
	if w == nil || w.aside {
		return false
	}
	w.aside = true
	return true
}

// ask says why there is no room for a Pod that begins now, beside those that are placed and those that go first.
func (q *queue) ask(r *roster, pod *v1.Pod, has, taken admit.Amounts) admit.Refusal {
	key := key(pod)
	w := q.waiting[key]
	if w == nil {
		w = &waiting{Candidate: candidate(pod, pod.CreationTimestamp.Time), pod: pod}
		q.waiting[key], q.round = w, nil
	}
	if asks := admit.Asks(pod); w.aside || !maps.Equal(w.Asks, asks) {
		w.aside, w.Asks, q.round = false, asks, nil
	}
	if why, told := q.round[key]; told && maps.Equal(q.has, has) {
		return why
	}
	var candidates []admit.Candidate
	for name, w := range q.waiting {
		if _, there := r.placed[name]; !w.aside && (!there || name == key) {
			if !w.charged {
				w.Uses = r.useOf(w.pod)
			}
			candidates = append(candidates, w.Candidate)
		}
	}
	q.has, q.round = has, admit.Round(has, taken, r.ledger(), candidates)
	return q.round[key]
}

// before is what those take that others make room for, and that go before a Pod.
func (q *queue) before(w *waiting, placed map[types.NamespacedName]place) admit.Amounts {
	sum := admit.Amounts{}
	for name, other := range q.waiting {
		if _, there := placed[name]; !there && other != w && other.nominated && !other.aside && other.Before(&w.Candidate) {
			sum.Add(other.Asks)
		}
	}
	return sum
}
