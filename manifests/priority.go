package manifests

import (
	"fmt"

	v1 "k8s.io/api/core/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/kubernetes/pkg/apis/scheduling"
	"k8s.io/utils/ptr"
)

// builtinClasses are the priorities of the classes that every cluster has (kubernetes/kubernetes
// pkg/apis/scheduling/v1/helpers.go, SystemPriorityClasses).
var builtinClasses = map[string]int32{
	scheduling.SystemNodeCritical:    scheduling.SystemCriticalPriority + 1000,
	scheduling.SystemClusterCritical: scheduling.SystemCriticalPriority,
}

// prioritise fills in the priority that follows from a Pod's class where that is one that is always there, and says what is wrong
// with one that is written. What follows from other classes, or from none, is for Prioritise to say.
func prioritise(pod *v1.Pod, at *field.Path) []fault {
	name, written := pod.Spec.PriorityClassName, pod.Spec.Priority
	if _, builtin := builtinClasses[name]; !builtin && (name != "" || written == nil || *written == 0) {
		return nil
	}
	if err := Prioritise(pod, nil); err != nil {
		return []fault{{field: join(at, "spec.priority"), reason: err.Error()}}
	}
	return nil
}

// Prioritise fills in what follows from a Pod's class, or from the one that is the default, among the classes that there are beside
// those that are always there, as the API server's admission plugin Priority does. The error says in its words what is wrong;
// the Pod is as it was then.
func Prioritise(pod *v1.Pod, classes []*schedulingv1.PriorityClass) error {
	class, err := classOf(pod.Spec.PriorityClassName, classes)
	if err != nil {
		return err
	}
	const must = "the %s (%v) must not be provided in pod spec; priority admission controller computed %v from the given PriorityClass name"
	if written := pod.Spec.Priority; written != nil && *written != class.Value {
		return fmt.Errorf(must, "integer value of priority", *written, class.Value)
	}
	policy := ptr.Deref(class.PreemptionPolicy, v1.PreemptLowerPriority)
	if written := pod.Spec.PreemptionPolicy; written != nil && *written != policy {
		return fmt.Errorf(must, "string value of PreemptionPolicy", *written, policy)
	}
	pod.Spec.PriorityClassName, pod.Spec.Priority, pod.Spec.PreemptionPolicy = class.Name, &class.Value, &policy
	return nil
}

// classOf is the class of a name, or for "" the default one: of several the lowest, and where there is none a class without a name.
func classOf(name string, classes []*schedulingv1.PriorityClass) (schedulingv1.PriorityClass, error) {
	var class schedulingv1.PriorityClass
	if value, builtin := builtinClasses[name]; builtin {
		class.Name, class.Value = name, value
		return class, nil
	}
	for _, c := range classes {
		if name != "" && c.Name == name {
			return *c, nil
		}
		if name == "" && c.GlobalDefault && (class.Name == "" || c.Value < class.Value) {
			class = *c
		}
	}
	if name != "" {
		return class, fmt.Errorf("no PriorityClass with name %s was found", name)
	}
	return class, nil
}

// KeepPriority gives a later version of a Pod that does not say otherwise what the class of the one before came to.
func KeepPriority(now, was *v1.Pod) {
	if now.Spec.Priority == nil {
		now.Spec.Priority = was.Spec.Priority
	}
	if now.Spec.PreemptionPolicy == nil {
		now.Spec.PreemptionPolicy = was.Spec.PreemptionPolicy
	}
}
