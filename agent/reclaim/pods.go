package reclaim

import (
	"cmp"
	"slices"

	v1 "k8s.io/api/core/v1"
)

// reasonEvicted is the reason of a Pod that had to go because there was too little room.
const reasonEvicted = "Evicted"

// Ended answers which Pods go that have ended, where there are more than limit of them: those that were evicted, then the oldest
// ones (kubernetes/kubernetes pkg/controller/podgc). With a limit of 0 none goes.
func Ended(pods []*v1.Pod, limit int) []*v1.Pod {
	over := slices.DeleteFunc(slices.Clone(pods), func(p *v1.Pod) bool {
		return p.Status.Phase != v1.PodSucceeded && p.Status.Phase != v1.PodFailed || p.DeletionTimestamp != nil
	})
	if limit <= 0 || len(over) <= limit {
		return nil
	}
	slices.SortFunc(over, func(a, b *v1.Pod) int {
		return cmp.Or(evictedFirst(a, b), a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	return over[:len(over)-limit]
}

func evictedFirst(a, b *v1.Pod) int {
	rank := func(p *v1.Pod) int {
		if p.Status.Reason == reasonEvicted {
			return 0
		}
		return 1
	}
	return cmp.Compare(rank(a), rank(b))
}
