package manifests

import (
	"fmt"

	v1 "k8s.io/api/core/v1"
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

// prioritise fills in the priority that follows from a Pod's class, as the API server's admission plugin Priority does, and
// says in its words what is wrong with one that is written.
func prioritise(pod *v1.Pod, at *field.Path) []fault {
	priority := builtinClasses[pod.Spec.PriorityClassName] // 0 for none; others are refused by name
	if written := pod.Spec.Priority; written != nil && *written != priority {
		return []fault{{field: join(at, "spec.priority"), reason: fmt.Sprintf("the integer value of priority (%d) must not be provided in pod spec; "+
			"priority admission controller computed %d from the given PriorityClass name", *written, priority)}}
	}
	pod.Spec.Priority = &priority
	if pod.Spec.PreemptionPolicy == nil {
		pod.Spec.PreemptionPolicy = ptr.To(v1.PreemptLowerPriority)
	}
	return nil
}
