package cgroups

import (
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"

	v1 "k8s.io/api/core/v1"
	resourcehelper "k8s.io/component-helpers/resource"
)

// The files of cgroup v2 that protect memory from being taken back, and throttle who uses more.
const (
	memoryMin  = "memory.min"
	memoryLow  = "memory.low"
	memoryHigh = "memory.high"
	swapMax    = "memory.swap.max"
)

// memoryQoS are the settings by which a container's memory is protected up to its request, and its growth slowed down before its
// limit (kubernetes/enhancements KEP-2570, kubernetes/kubernetes pkg/kubelet/kuberuntime, generateLinuxContainerResources).
func memoryQoS(pod *v1.Pod, c *v1.Container, cfg Config) map[string]string {
	request, limit := c.Resources.Requests.Memory().Value(), c.Resources.Limits.Memory().Value()
	out := map[string]string{}
	if cfg.ReserveMemory && request > 0 {
		out[protection(pod)] = strconv.FormatInt(request, 10)
	}
	ofPod := limit == 0 && resourcehelper.IsPodLevelResourcesSet(pod) && !pod.Spec.Resources.Limits.Memory().IsZero()
	if limit == request && request > 0 || ofPod { // its Pod's cgroup is throttled
		return out
	}
	if limit == 0 {
		limit = cfg.Allocatable
	}
	if high, ok := cfg.throttled(request, limit); ok {
		out[memoryHigh] = strconv.FormatInt(high, 10)
	}
	return out
}

// noMemoryQoS are the settings of who is neither protected nor throttled.
func noMemoryQoS() map[string]string {
	return map[string]string{memoryMin: "0", memoryLow: "0", memoryHigh: "max"}
}

// protection is by which setting the memory that a Pod requests is protected: from being taken back at all, or as long as there is
// other memory to take.
func protection(pod *v1.Pod) string {
	if Class(pod) == v1.PodQOSGuaranteed {
		return memoryMin
	}
	return memoryLow
}

// throttled is the memory, in bytes, above which who requests and is limited to so much is slowed down. ok is false where that is
// nowhere.
func (cfg Config) throttled(request, limit int64) (high int64, ok bool) {
	if cfg.ThrottlingFactor == nil || limit <= request {
		return 0, false
	}
	page := int64(os.Getpagesize())
	high = int64(float64(request)+float64(limit-request)**cfg.ThrottlingFactor) / page * page
	return high, high > request
}

// podMemoryQoS are the same settings for a Pod's cgroup: what it requests is protected, and where resources are the Pod's own, it is
// throttled as a whole (pkg/kubelet/cm/helpers_linux.go). What does not apply is said to, for it may have applied before a resize, or to
// an earlier agent.
func podMemoryQoS(pod *v1.Pod, request, limit int64, cfg Config) map[string]string {
	out := noMemoryQoS()
	if cfg.ReserveMemory && request > 0 {
		out[protection(pod)] = strconv.FormatInt(request, 10)
	}
	if resourcehelper.IsPodLevelResourcesSet(pod) && limited(pod, v1.ResourceMemory) {
		if high, ok := cfg.throttled(request, limit); ok {
			out[memoryHigh] = strconv.FormatInt(high, 10)
		}
	}
	return out
}

// swapLimitOf is how many bytes a container may swap: of the node's swap the part that it requests of the node's memory, where its Pod
// is Burstable and no critical one, and it may use more than it requests (kubernetes/enhancements KEP-2400).
func swapLimitOf(pod *v1.Pod, c *v1.Container, cfg Config) int64 {
	request, limit := c.Resources.Requests.Memory().Value(), c.Resources.Limits.Memory().Value()
	if !cfg.LimitedSwap || cfg.Memory <= 0 || request > cfg.Memory || request == limit || Class(pod) != v1.PodQOSBurstable || critical(pod) {
		return 0
	}
	return int64(float64(request) / float64(cfg.Memory) * float64(cfg.Swap))
}

// critical says whether the node or the cluster cannot do without a Pod (kubernetes/kubernetes pkg/kubelet/types, IsCriticalPod).
func critical(pod *v1.Pod) bool {
	const systemCritical = 2000000000 // pkg/apis/scheduling, SystemCriticalPriority
	return pod.Spec.Priority != nil && *pod.Spec.Priority >= systemCritical
}

// protect gives kubepods and its classes, without which the protection of a Pod's memory counts for nothing, the sums of what the Pods
// in them have (pkg/kubelet/cm/qos_container_manager_linux.go, setMemoryQoS). An agent that protects nothing does so, too, as long as
// there are sums of one that did.
func (t *Tree) protect(driver Driver) error {
	root, burstable := t.classPath(driver, v1.PodQOSGuaranteed), t.classPath(driver, v1.PodQOSBurstable)
	if !t.cfg.ReserveMemory {
		if now, err := readNumber(filepath.Join(t.mount, root, memoryMin)); !t.cfg.Unified || err != nil || now == 0 {
			return nil
		}
	}
	guaranteed, err := t.protected(root, memoryMin, burstable, t.classPath(driver, v1.PodQOSBestEffort))
	if err != nil {
		return err
	}
	low, err := t.protected(burstable, memoryLow)
	if err != nil {
		return err
	}
	for _, of := range []struct {
		group, file string
		bytes       uint64
	}{{root, memoryMin, guaranteed + low}, {root, memoryLow, low}, {burstable, memoryLow, low}} {
		if err := t.writeProtection(driver, of.group, of.file, of.bytes); err != nil {
			return err
		}
	}
	return nil
}

// protected is the sum of a setting over the Pods in a cgroup, but for classes in it.
func (t *Tree) protected(group, file string, but ...string) (sum uint64, err error) {
	names, err := folders(filepath.Join(t.mount, group))
	if err != nil {
		return 0, err
	}
	for _, name := range names {
		child := filepath.Join(group, name)
		if slices.Contains(but, child) {
			continue
		}
		n, err := readNumber(filepath.Join(t.mount, child, file))
		if err := ignoreGone(err); err != nil {
			return 0, err
		}
		sum += n
	}
	return sum, nil
}

// writeProtection writes how many bytes of a class are protected, unless that is so, or it is gone.
func (t *Tree) writeProtection(driver Driver, group, name string, bytes uint64) error {
	file := filepath.Join(t.mount, group, name)
	if now, err := readNumber(file); err != nil || now == bytes {
		return ignoreGone(err)
	}
	if driver == Systemd {
		return t.systemd.set(path.Base(group), property(systemdNames[name], bytes))
	}
	return ignoreGone(write(file, strconv.FormatUint(bytes, 10)))
}
