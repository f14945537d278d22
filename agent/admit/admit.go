// Package admit says which of the Pods that are wanted may run on a node now. It is pure: what the node has, and what is there,
// are arguments. It knows nothing of workers, files or the kernel, and ends nothing: whoever asks acts.
//
//	amounts.go  sums of resources, and what a node lacks of them
//	share.go    so much of something, or such a part of it
//	reserve.go  what of a node is not for Pods
//	resize.go   who may have other amounts than it has
//	limits.go   what LimitRanges give, and allow
//	use.go      what objects use of quotas
//	quota.go    what quotas have left
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
	Uses     *Use // of quotas; nil of one that is charged for already
}

// Refusal is why a Candidate may not begin: the zero Refusal is of one that may.
type Refusal struct {
	Quota bool // it is a quota that has too little, not the node
	Why   string
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

// Round says of all candidates why they may not begin beside what is taken, and what a ledger says is used. Who goes first is given
// what it asks for, if that is there; who does not fit keeps nobody behind it from what is left, as with the scheduler. Candidates are
// sorted in place, and those that may begin are charged for.
func Round(has, taken Amounts, ledger *Ledger, candidates []Candidate) map[types.NamespacedName]Refusal {
	slices.SortFunc(candidates, func(a, b Candidate) int { return a.compare(&b) })
	sum := Amounts{}
	sum.Add(taken)
	refused := make(map[types.NamespacedName]Refusal, len(candidates))
	for i := range candidates {
		c := &candidates[i]
		r := Refusal{true, ledger.Refuse(c.Uses, nil)}
		if r.Why == "" {
			r = Refusal{false, Lacks(has, sum, c.Asks)}
		}
		if refused[c.Name] = r; r.Why == "" {
			sum.Add(c.Asks)
			ledger.Charge(c.Uses)
		}
	}
	return refused
}
