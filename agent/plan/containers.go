package plan

import (
	"slices"

	v1 "k8s.io/api/core/v1"
)

// Containers are all containers of a Pod, init containers first and ephemeral ones last, in order. Whoever walks over all
// containers asks here, so that a new kind of them needs to be known in one place.
func Containers(pod *v1.Pod) []*v1.Container {
	all := make([]*v1.Container, 0, len(pod.Spec.InitContainers)+len(pod.Spec.Containers)+len(pod.Spec.EphemeralContainers))
	for i := range pod.Spec.InitContainers {
		all = append(all, &pod.Spec.InitContainers[i])
	}
	for i := range pod.Spec.Containers {
		all = append(all, &pod.Spec.Containers[i])
	}
	return append(all, ephemeral(pod)...)
}

// ephemeral are the containers that were added to a Pod that runs. Each runs once, beside all others and whatever becomes of
// them, and is no part of the Pod's fate (kubernetes.io/docs "ephemeral containers").
func ephemeral(pod *v1.Pod) []*v1.Container {
	var all []*v1.Container
	for i := range pod.Spec.EphemeralContainers {
		all = append(all, (*v1.Container)(&pod.Spec.EphemeralContainers[i].EphemeralContainerCommon))
	}
	return all
}

// IsEphemeral says whether a container of a Pod is an ephemeral one.
func IsEphemeral(pod *v1.Pod, name string) bool {
	return slices.ContainsFunc(pod.Spec.EphemeralContainers, func(c v1.EphemeralContainer) bool { return c.Name == name })
}
