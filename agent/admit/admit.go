// Package admit says which of the Pods that are wanted may run on a node now. It is pure: what the node has, and what is there,
// are arguments. It knows nothing of workers, files or the kernel, and ends nothing: whoever asks acts.
//
//	amounts.go  sums of resources, and what a node lacks of them
//	reserve.go  what of a node is not for Pods
//	resize.go   who may have other amounts than it has
//	admit.go    who may begin
//	preempt.go  who has to go for it
package admit

import (
	"cmp"
	"slices"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/component-helpers/scheduling/corev1"
)

// Candidate is a Pod that waits to begin.
type Candidate struct {
	Name     types.NamespacedName
	Priority int32
	Since    time.Time // it is wanted
	Asks     Amounts
}

// NewCandidate is a Pod that is wanted since then.
func NewCandidate(pod *v1.Pod, since time.Time) Candidate {
	return Candidate{
		Name: types.NamespacedName{Namespace: pod.Namespace, Name: pod.Name}, Priority: corev1.PodPriority(pod), Since: since, Asks: Asks(pod),
	}
}

// compare puts who goes first before the others: by priority, then by age, then by name.
func (c *Candidate) compare(other *Candidate) int {
	return cmp.Or(
		cmp.Compare(other.Priority, c.Priority), c.Since.Compare(other.Since),
		cmp.Compare(c.Name.Namespace, other.Name.Namespace), cmp.Compare(c.Name.Name, other.Name.Name),
	)
}

// Before says whether a Candidate goes before another one.
func (c *Candidate) Before(other *Candidate) bool { return c.compare(other) < 0 }

// Round says of all candidates why they may not begin beside what is taken, "" of those that may. Who goes first is given what it
// asks for, if that is there; who does not fit keeps nobody behind it from what is left, as with the scheduler. Candidates are
// sorted in place.
func Round(has, taken Amounts, candidates []Candidate) map[types.NamespacedName]string {
	slices.SortFunc(candidates, func(a, b Candidate) int { return a.compare(&b) })
	sum := Amounts{}
	sum.Add(taken)
	why := make(map[types.NamespacedName]string, len(candidates))
	for i := range candidates {
		c := &candidates[i]
		if why[c.Name] = Lacks(has, sum, c.Asks); why[c.Name] == "" {
			sum.Add(c.Asks)
		}
	}
	return why
}
