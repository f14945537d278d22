package admit

import (
	"fmt"
	"maps"
	"slices"

	v1 "k8s.io/api/core/v1"
)

// Resize says why a Pod that takes something of a node may not take what it asks for instead, beside what others take: a reason
// and a message for v1.PodResizePending, both "" where it may. What it asks no more of than it has is never refused. A node of
// which nothing is known (nil) has enough of everything (kubernetes.io/docs "resize CPU and memory resources assigned to
// containers"; kubernetes/kubernetes pkg/kubelet/lifecycle/predicate.go).
func Resize(has, others, was, asks Amounts) (reason, message string) {
	if has == nil {
		return "", ""
	}
	for _, name := range slices.Sorted(maps.Keys(asks)) {
		switch asked := asks[name]; {
		case asked <= was[name]:
		case asked > has[name]:
			return v1.PodReasonInfeasible, fmt.Sprintf("Node didn't have enough capacity: %s, requested: %d, capacity: %d", name, asked, has[name])
		case reason == "" && asked > has[name]-others[name]:
			reason = v1.PodReasonDeferred
			message = fmt.Sprintf("Node didn't have enough resource: %s, requested: %d, used: %d, capacity: %d", name, asked, others[name], has[name])
		}
	}
	return reason, message
}

// Beyond is what the amounts have more than others, of those that they have more of.
func (a Amounts) Beyond(others Amounts) Amounts {
	more := Amounts{}
	for name, amount := range a {
		if amount > others[name] {
			more[name] = amount - others[name]
		}
	}
	return more
}
