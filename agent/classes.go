package agent

import (
	schedulingv1 "k8s.io/api/scheduling/v1"

	"github.com/podkeeper/podkeeper/manifests"
)

// notPrioritised is the reason of Pods whose priority cannot be told: the name of the API server's admission plugin for that.
const notPrioritised = "Priority"

// priorityClasses are those among the objects, in no order.
func priorityClasses(objects map[manifests.Key]manifests.Object) (classes []*schedulingv1.PriorityClass) {
	for _, o := range objects {
		if class, ok := o.Object.(*schedulingv1.PriorityClass); ok {
			classes = append(classes, class)
		}
	}
	return classes
}

// priorityClasses are those of all sources.
func (s *sources) priorityClasses() []*schedulingv1.PriorityClass {
	s.mu.Lock()
	defer s.mu.Unlock()
	return priorityClasses(s.objects())
}

// prioritised is a wish for a Pod with the priority that its class has now. The class of one that was made through an API was
// looked up then, and what it came to stands.
func prioritised(wish *Wish, classes []*schedulingv1.PriorityClass) *Wish {
	if wish.Source == SourceAPI && wish.Pod.Spec.Priority != nil {
		return wish
	}
	pod := *wish.Pod.Pod
	if err := manifests.Prioritise(&pod, classes); err != nil {
		wish.Wait = hold(notPrioritised, err.Error())
		return wish
	}
	pod.Spec.PriorityClassName = wish.Pod.Spec.PriorityClassName // another class may be the default one later
	of := *wish.Pod
	of.Pod = &pod
	wish.Pod = &of
	return wish
}
