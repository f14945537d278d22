package admit

import (
	"slices"

	"k8s.io/apimachinery/pkg/types"
)

// Victims are the Pods that have to go for one that has no room: of lower priority, and no more of them than that takes, the lowest
// and youngest first. ok is false where it would not help if all of them went. residents are the Pods on the node, Since when
// they are; those that go already (leaving) make room, too. They are sorted in place. beside is what is kept for others
// (kubernetes/kubernetes pkg/scheduler/framework/plugins/defaultpreemption, SelectVictimsOnNode).
func Victims(has Amounts, c Candidate, residents []Candidate, leaving map[types.NamespacedName]bool, beside Amounts) (victims []types.NamespacedName, ok bool) {
	sum := Amounts{}
	sum.Add(beside)
	var lower []*Candidate
	for i := range residents {
		r := &residents[i]
		switch {
		case leaving[r.Name]:
		case r.Priority < c.Priority:
			lower = append(lower, r)
		default:
			sum.Add(r.Asks)
		}
	}
	if Lacks(has, sum, c.Asks) != "" {
		return nil, false
	}
	slices.SortFunc(lower, (*Candidate).compare)
	for _, r := range lower { // each that may stay does
		with := Amounts{}
		with.Add(sum)
		with.Add(r.Asks)
		if Lacks(has, with, c.Asks) != "" {
			victims = append(victims, r.Name)
			continue
		}
		sum = with
	}
	return victims, true
}
