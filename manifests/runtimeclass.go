package manifests

import (
	"errors"
	"fmt"
	"maps"

	v1 "k8s.io/api/core/v1"
	nodev1 "k8s.io/api/node/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/kubernetes/pkg/apis/core"
	corev1 "k8s.io/kubernetes/pkg/apis/core/v1"
	"k8s.io/kubernetes/pkg/util/tolerations"
)

// RuntimeClassOf is the class that a Pod names, among those that there are, nil where it names none. The error says, in the words of
// the API server's admission plugin RuntimeClass, that there is no such one.
func RuntimeClassOf(pod *v1.Pod, classes []*nodev1.RuntimeClass) (*nodev1.RuntimeClass, error) {
	if pod.Spec.RuntimeClassName == nil {
		return nil, nil
	}
	for _, class := range classes {
		if class.Name == *pod.Spec.RuntimeClassName {
			return class, nil
		}
	}
	return nil, fmt.Errorf("pod rejected: RuntimeClass %q not found", *pod.Spec.RuntimeClassName)
}

// Classify gives a Pod what its RuntimeClass, nil for none, asks for, as that plugin does: the overhead, and where it may run. The
// error says in its words what of that the Pod says otherwise; the Pod is as it was then. Nothing is changed that the Pod shares with
// another one.
func Classify(pod *v1.Pod, class *nodev1.RuntimeClass) error {
	overhead := pod.Spec.Overhead
	switch {
	case class == nil || class.Overhead == nil:
		if overhead != nil {
			return errors.New("pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead")
		}
	case len(overhead) > 0 && !equality.Semantic.DeepEqual(class.Overhead.PodFixed, overhead):
		return errors.New("pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead")
	default:
		overhead = class.Overhead.PodFixed.DeepCopy()
	}
	if class == nil || class.Scheduling == nil {
		pod.Spec.Overhead = overhead
		return nil
	}
	selector := maps.Clone(pod.Spec.NodeSelector)
	for key, value := range class.Scheduling.NodeSelector {
		if own, ok := selector[key]; ok && own != value {
			return fmt.Errorf("conflict: runtimeClass.scheduling.nodeSelector[%s] = %s; pod.spec.nodeSelector[%s] = %s", key, value, key, own)
		}
		if selector == nil {
			selector = map[string]string{}
		}
		selector[key] = value
	}
	tolerated, err := merged(pod.Spec.Tolerations, class.Scheduling.Tolerations)
	if err != nil {
		return err
	}
	pod.Spec.Overhead, pod.Spec.NodeSelector, pod.Spec.Tolerations = overhead, selector, tolerated
	return nil
}

// merged are two lists of tolerations in one, without those that others imply.
func merged(own, more []v1.Toleration) ([]v1.Toleration, error) {
	var inside [2][]core.Toleration
	for i, list := range [][]v1.Toleration{own, more} {
		for _, t := range list {
			var one core.Toleration
			if err := corev1.Convert_v1_Toleration_To_core_Toleration(&t, &one, nil); err != nil {
				return nil, fmt.Errorf("read toleration: %w", err)
			}
			inside[i] = append(inside[i], one)
		}
	}
	var all []v1.Toleration
	for _, t := range tolerations.MergeTolerations(inside[0], inside[1]) {
		var one v1.Toleration
		if err := corev1.Convert_core_Toleration_To_v1_Toleration(&t, &one, nil); err != nil {
			return nil, fmt.Errorf("read toleration: %w", err)
		}
		all = append(all, one)
	}
	return all, nil
}
