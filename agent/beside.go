package agent

import (
	"maps"
	"slices"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"
	"k8s.io/utils/ptr"
)

// What the scheduler says of a node (kubernetes/kubernetes pkg/scheduler/framework/plugins/{podtopologyspread,interpodaffinity}).
const (
	lacksTopology   = "node(s) didn't match pod topology spread constraints (missing required label)"
	tooUneven       = "node(s) didn't match pod topology spread constraints"
	lacksNeighbours = "node(s) didn't match pod affinity rules"
	wrongNeighbours = "node(s) didn't match pod anti-affinity rules"
	wrongNeighbour  = "node(s) didn't satisfy existing pods anti-affinity rules"
)

// beside says why a Pod may not begin beside those that are on the node, empty where it may: what the Pod requires of others,
// and they of it, by the scheduler's rules for a cluster of this one node. Each of the node's labels is a topology of one
// domain. What is only preferred has no meaning where there is no choice.
func beside(pod *v1.Pod, others []*v1.Pod, node *v1.Node) string {
	for _, c := range pod.Spec.TopologySpreadConstraints {
		if why := spread(&c, pod, others, node); why != "" {
			return why
		}
	}
	if terms := requiredAffinity(pod); !together(terms, pod, others, node) {
		return lacksNeighbours
	}
	if len(requiredAntiAffinity(pod)) > 0 {
		if name := firstNamed(others, func(other *v1.Pod) bool { return collides(pod, other, node) }); name != "" {
			return wrongNeighbours + ": " + name
		}
	}
	if name := firstNamed(others, func(other *v1.Pod) bool { return collides(other, pod, node) }); name != "" {
		return wrongNeighbour + ": " + name
	}
	return ""
}

// firstNamed is the name of a Pod that is one of those, the first by name, so that people are told the same each time.
func firstNamed(pods []*v1.Pod, those func(*v1.Pod) bool) (first string) {
	for _, pod := range pods {
		if those(pod) {
			if name := key(pod).String(); first == "" || name < first {
				first = name
			}
		}
	}
	return first
}

// spread is about one topologySpreadConstraint: matching Pods in the domain, this one among them, are not more than maxSkew
// above the fewest in any domain. That is this domain, unless minDomains wants more of them: then it is none.
func spread(c *v1.TopologySpreadConstraint, pod *v1.Pod, others []*v1.Pod, node *v1.Node) string {
	if c.WhenUnsatisfiable != v1.DoNotSchedule {
		return ""
	}
	if _, has := node.Labels[c.TopologyKey]; !has {
		return lacksTopology
	}
	selector := keyed(c.LabelSelector, pod.Labels, c.MatchLabelKeys, nil)
	matching := 0
	for _, other := range others {
		ends := other.DeletionTimestamp != nil
		if !selector.Empty() && !ends && other.Namespace == pod.Namespace && selector.Matches(labels.Set(other.Labels)) {
			matching++
		}
	}
	fewest := matching
	if ptr.Deref(c.MinDomains, 1) > 1 {
		fewest = 0
	}
	if selector.Matches(labels.Set(pod.Labels)) {
		matching++
	}
	if matching-fewest > int(c.MaxSkew) {
		return tooUneven
	}
	return ""
}

// together says whether some Pod on the node is what all terms of a Pod's affinity want. The first of Pods that want each
// other has nobody to wait for.
func together(terms []v1.PodAffinityTerm, pod *v1.Pod, others []*v1.Pod, node *v1.Node) bool {
	for _, t := range terms {
		if _, has := node.Labels[t.TopologyKey]; !has {
			return false
		}
	}
	suits := func(other *v1.Pod) bool {
		return !slices.ContainsFunc(terms, func(t v1.PodAffinityTerm) bool { return !means(&t, pod, other) })
	}
	return len(terms) == 0 || slices.ContainsFunc(others, suits) || suits(pod)
}

// collides says whether a Pod's anti-affinity keeps another one from the node.
func collides(pod, other *v1.Pod, node *v1.Node) bool {
	return slices.ContainsFunc(requiredAntiAffinity(pod), func(t v1.PodAffinityTerm) bool {
		_, has := node.Labels[t.TopologyKey]
		return has && means(&t, pod, other)
	})
}

func requiredAffinity(pod *v1.Pod) []v1.PodAffinityTerm {
	if a := pod.Spec.Affinity; a != nil && a.PodAffinity != nil {
		return a.PodAffinity.RequiredDuringSchedulingIgnoredDuringExecution
	}
	return nil
}

func requiredAntiAffinity(pod *v1.Pod) []v1.PodAffinityTerm {
	if a := pod.Spec.Affinity; a != nil && a.PodAntiAffinity != nil {
		return a.PodAntiAffinity.RequiredDuringSchedulingIgnoredDuringExecution
	}
	return nil
}

// means says whether a term of a Pod's affinity is about another Pod. A namespace has the one label that every namespace has.
func means(t *v1.PodAffinityTerm, pod, other *v1.Pod) bool {
	near := slices.Contains(t.Namespaces, other.Namespace)
	if len(t.Namespaces) == 0 && t.NamespaceSelector == nil {
		near = other.Namespace == pod.Namespace
	}
	near = near || keyed(t.NamespaceSelector, nil, nil, nil).Matches(labels.Set{v1.LabelMetadataName: other.Namespace})
	return near && keyed(t.LabelSelector, pod.Labels, t.MatchLabelKeys, t.MismatchLabelKeys).Matches(labels.Set(other.Labels))
}

// keyed is a selector with what the API server makes of matchLabelKeys and mismatchLabelKeys: that the labels of these names
// are, or are not, as the Pod's own (kubernetes/kubernetes pkg/registry/core/pod/strategy.go). No selector matches nothing;
// neither does one that could not be, which validation refuses.
func keyed(of *metav1.LabelSelector, own map[string]string, match, mismatch []string) labels.Selector {
	selector, err := metav1.LabelSelectorAsSelector(of)
	if err != nil {
		return labels.Nothing()
	}
	ops := map[string]selection.Operator{}
	for _, key := range match {
		ops[key] = selection.In
	}
	for _, key := range mismatch {
		ops[key] = selection.NotIn
	}
	for _, key := range slices.Sorted(maps.Keys(ops)) {
		value, has := own[key]
		if !has {
			continue
		}
		as, err := labels.NewRequirement(key, ops[key], []string{value})
		if err != nil {
			return labels.Nothing()
		}
		selector = selector.Add(*as)
	}
	return selector
}
