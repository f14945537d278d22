package plan

import v1 "k8s.io/api/core/v1"

// Containers are all containers of a Pod, init containers first, in order. Whoever walks over all containers asks here, so
// that a new kind of them needs to be known in one place.
func Containers(pod *v1.Pod) []*v1.Container {
	all := make([]*v1.Container, 0, len(pod.Spec.InitContainers)+len(pod.Spec.Containers))
	for i := range pod.Spec.InitContainers {
		all = append(all, &pod.Spec.InitContainers[i])
	}
	for i := range pod.Spec.Containers {
		all = append(all, &pod.Spec.Containers[i])
	}
	return all
}
