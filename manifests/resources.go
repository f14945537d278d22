package manifests

import (
	"maps"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/kubernetes/pkg/apis/core"
	"k8s.io/kubernetes/pkg/apis/core/helper"
	corev1 "k8s.io/kubernetes/pkg/apis/core/v1"
	corevalidation "k8s.io/kubernetes/pkg/apis/core/validation"
)

// Resources are what a Pod asks for: each of its init and main containers, by name, and the Pod as a whole.
type Resources struct {
	Pod        *v1.ResourceRequirements           `json:"pod,omitempty"`
	Containers map[string]v1.ResourceRequirements `json:"containers"`
}

// ResourcesOf are those that a Pod asks for.
func ResourcesOf(pod *v1.Pod) Resources {
	r := Resources{Pod: pod.Spec.Resources, Containers: map[string]v1.ResourceRequirements{}}
	for _, c := range resizable(pod) {
		r.Containers[c.Name] = c.Resources
	}
	return r
}

// In answers a copy of a Pod that asks for these resources. A container of which nothing is known keeps its own.
func (r Resources) In(pod *v1.Pod) *v1.Pod {
	pod = pod.DeepCopy()
	pod.Spec.Resources = r.Pod.DeepCopy()
	for _, c := range resizable(pod) {
		if of, ok := r.Containers[c.Name]; ok {
			c.Resources = *of.DeepCopy()
		}
	}
	return pod
}

// Equal says whether two Pods ask for the same.
func (r Resources) Equal(other Resources) bool {
	return equality.Semantic.DeepEqual(r.Pod, other.Pod) &&
		maps.EqualFunc(r.Containers, other.Containers, func(a, b v1.ResourceRequirements) bool { return equality.Semantic.DeepEqual(a, b) })
}

// resizable are the containers of a Pod whose resources may change: all but the ephemeral ones, which have none.
func resizable(pod *v1.Pod) []*v1.Container {
	var all []*v1.Container
	for i := range pod.Spec.InitContainers {
		all = append(all, &pod.Spec.InitContainers[i])
	}
	for i := range pod.Spec.Containers {
		all = append(all, &pod.Spec.Containers[i])
	}
	return all
}

// IsExtendedResource says whether a resource is one that only Pods know what to do with: it has a domain of its own, not Kubernetes'
// (kubernetes.io/docs "extended resources").
func IsExtendedResource(name v1.ResourceName) bool {
	return helper.IsExtendedResourceName(core.ResourceName(name))
}

// CheckResize says what is wrong with an edit of what a Pod that is there asks for, in the words of Kubernetes' API for the
// subresource resize (ValidatePodResize): cpu and memory alone may change, none of them be taken away, and the QoS class stays.
func CheckResize(now, was *v1.Pod) field.ErrorList {
	return of(now).check(now, func(o metav1.Object) field.ErrorList { return editResources(o, was) })
}

var editResources = editOf(corev1.Convert_v1_Pod_To_core_Pod, editPod(corevalidation.ValidatePodResize))
