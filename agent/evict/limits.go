package evict

import (
	"fmt"
	"slices"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	resourcehelper "k8s.io/component-helpers/resource"
	"k8s.io/utils/ptr"
)

// What a Pod may have too much of on disk, as the kubelet counts evictions for it.
const (
	EmptyDirLimit  Signal = "emptydirfs.limit"
	PodLimit       Signal = "ephemeralpodfs.limit"
	ContainerLimit Signal = "ephemeralcontainerfs.limit"
)

// Limited says whether there is anything that a Pod may have too much of on disk. Others need not be measured.
func Limited(pod *v1.Pod) bool {
	if Critical(pod) {
		return false
	}
	limits := func(c v1.Container) bool { _, is := c.Resources.Limits[v1.ResourceEphemeralStorage]; return is }
	return slices.ContainsFunc(pod.Spec.Volumes, func(v v1.Volume) bool { return sizeLimit(&v) != nil }) ||
		slices.ContainsFunc(pod.Spec.Containers, limits) || slices.ContainsFunc(pod.Spec.InitContainers, limits)
}

// sizeLimit is that of an emptyDir on disk, nil where there is none. One of 0 is none, as under Kubernetes.
func sizeLimit(v *v1.Volume) *resource.Quantity {
	if v.EmptyDir == nil || v.EmptyDir.Medium != v1.StorageMediumDefault || v.EmptyDir.SizeLimit == nil || v.EmptyDir.SizeLimit.Sign() <= 0 {
		return nil
	}
	return v.EmptyDir.SizeLimit
}

// Over says what a Pod has too much of on disk, and tells of it in Kubernetes' words; "" where nothing is over its limit: an
// emptyDir, all of the Pod together, or a container (eviction_manager.go, localStorageEviction). Writable layers count wherever
// they are, and so do files that every container may write to: the kubelet counts /etc/hosts since CVE-2020-8557.
func Over(pod *v1.Pod, u *Usage) (of Signal, message string) {
	if Critical(pod) {
		return "", ""
	}
	for _, v := range pod.Spec.Volumes {
		if limit := sizeLimit(&v); limit != nil && u.Volumes[v.Name].Bytes > limit.Value() {
			return EmptyDirLimit, fmt.Sprintf("Usage of EmptyDir volume %q exceeds the limit %q. ", v.Name, limit)
		}
	}
	sum := u.Files.Bytes
	for _, c := range u.Containers {
		sum += c.Layer.Bytes + c.Logs.Bytes
	}
	for _, v := range u.Volumes {
		sum += v.Bytes
	}
	if limit, is := resourcehelper.PodLimits(pod, resourcehelper.PodResourcesOptions{})[v1.ResourceEphemeralStorage]; is && sum > limit.Value() {
		return PodLimit, fmt.Sprintf("Pod ephemeral local storage usage exceeds the total limit of containers %s. ", &limit)
	}
	for _, c := range slices.Concat(pod.Spec.Containers, pod.Spec.InitContainers) {
		limit := c.Resources.Limits.StorageEphemeral()
		used := u.Containers[c.Name]
		if !isPassing(pod, &c) && limit.Sign() > 0 && used.Layer.Bytes+used.Logs.Bytes > limit.Value() {
			return ContainerLimit, fmt.Sprintf("Container %s exceeded its local ephemeral storage limit %q. ", c.Name, limit)
		}
	}
	return "", ""
}

// isPassing says whether a container is an init container that ends before others begin: only the Pod's limit holds it.
func isPassing(pod *v1.Pod, c *v1.Container) bool {
	return ptr.Deref(c.RestartPolicy, "") != v1.ContainerRestartPolicyAlways &&
		slices.ContainsFunc(pod.Spec.InitContainers, func(i v1.Container) bool { return i.Name == c.Name })
}
