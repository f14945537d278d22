package reclaim

import (
	"cmp"
	"slices"

	v1 "k8s.io/api/core/v1"
)

// reasonEvicted is the reason of a Pod that comes back when there is room.
const reasonEvicted = "Evicted"

// Over says whether a Pod has ended for good.
func Over(pod *v1.Pod) bool {
	return (pod.Status.Phase == v1.PodSucceeded || pod.Status.Phase == v1.PodFailed) && pod.Status.Reason != reasonEvicted
}

// Ended answers which Pods go that have ended, where there are more than limit of them: the oldest ones. With a limit of 0 none
// goes. Unlike under Kubernetes (kubernetes/kubernetes pkg/controller/podgc) those that were evicted do not go first, and do not
// count: they are not over.
func Ended(pods []*v1.Pod, limit int) []*v1.Pod {
	over := slices.DeleteFunc(slices.Clone(pods), func(p *v1.Pod) bool {
		return !Over(p) || p.DeletionTimestamp != nil
	})
	if limit <= 0 || len(over) <= limit {
		return nil
	}
	slices.SortFunc(over, func(a, b *v1.Pod) int {
		return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	return over[:len(over)-limit]
}
