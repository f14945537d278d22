package cgroups

import (
	"cmp"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	v1 "k8s.io/api/core/v1"
	resourcehelper "k8s.io/component-helpers/resource"
	"k8s.io/kubectl/pkg/util/qos"
)

// The kernel's bounds (cpu.shares, cpu.cfs_quota_us) and Kubernetes' default period.
const (
	minShares     = 2
	maxShares     = 262144
	maxWeight     = 10000
	minQuota      = 1000 // microseconds
	defaultPeriod = 100 * time.Millisecond
)

// Class is the Pod's QoS class, computed from its spec: a status is not believed.
func Class(pod *v1.Pod) v1.PodQOSClass { return qos.ComputePodQOS(pod) }

// Shares converts thousandths of a CPU to cgroup v1's cpu.shares, between 2 and 262144.
func Shares(milliCPU int64) uint64 {
	return uint64(min(max(milliCPU*1024/1000, minShares), maxShares))
}

// Quota converts thousandths of a CPU to microseconds of CPU time per period, at least 1000; 0 means no quota.
func Quota(milliCPU int64, period time.Duration) int64 {
	if milliCPU <= 0 {
		return 0
	}
	return max(milliCPU*period.Microseconds()/1000, minQuota)
}

// Weight converts cpu.shares to cgroup v2's cpu.weight, between 1 and 10000, by the formula of runc since 1.3.2 and
// of the kubelet since 1.35: a curve through (2, 1), (1024, 100) and (262144, 10000), so that one CPU has the
// kernel's default.
func Weight(shares uint64) uint64 {
	if shares <= minShares {
		return 1
	}
	if shares >= maxShares {
		return maxWeight
	}
	l := math.Log2(float64(shares))
	return uint64(math.Ceil(math.Pow(10, (l*l+125*l)/612-7.0/34)))
}

// sharesOf is the inverse of Weight: the largest shares that have this weight.
func sharesOf(weight uint64) uint64 {
	if weight <= 1 {
		return minShares
	}
	if weight >= maxWeight {
		return maxShares
	}
	low, high := uint64(minShares), uint64(maxShares)
	for low < high {
		middle := (low + high + 1) / 2
		if Weight(middle) <= weight {
			low = middle
		} else {
			high = middle - 1
		}
	}
	return low
}

// ContainerResources are the limits of one container for its OCI spec, in cgroup v1's terms, which runtimes translate.
// A container without a limit of its own takes the Pod-level one, and without a CPU request its CPU limit, as in the
// kubelet's generateLinuxContainerResources.
func ContainerResources(pod *v1.Pod, c *v1.Container, cfg Config) *specs.LinuxResources {
	limit := effectiveLimits(pod, c)
	request, ok := c.Resources.Requests[v1.ResourceCPU]
	if !ok {
		request = limit[v1.ResourceCPU]
	}
	out := &specs.LinuxResources{
		CPU:            cpu(request.MilliValue(), limit.Cpu().MilliValue(), cfg),
		HugepageLimits: hugepages(limit, cfg),
		Pids:           pidsLimit(cfg), // its Pod's, for systemd gives a scope that says nothing a part of what the node may have
	}
	out.Memory = memoryLimit(limit.Memory().Value(), cfg)
	if !cfg.Unified {
		return out
	}
	out.Unified = memoryQoS(pod, c, cfg)
	if !cfg.SingleProcessOOMKill {
		out.Unified["memory.oom.group"] = "1"
	}
	if cfg.CountsSwap { // with a limit of memory or without
		swap := swapLimitOf(pod, c, cfg)
		if out.Unified[swapMax] = strconv.FormatInt(swap, 10); swap > 0 && out.Memory != nil {
			*out.Memory.Swap += swap
		}
	}
	return out
}

// memoryLimit is a limit in bytes, if there is one. No swap comes on top of it (the kubelet's NoSwap): in v1's terms, memory
// and swap together are limited to the same.
func memoryLimit(limit int64, cfg Config) *specs.LinuxMemory {
	if limit <= 0 {
		return nil
	}
	out := &specs.LinuxMemory{Limit: &limit}
	if cfg.CountsSwap {
		both := limit
		out.Swap = &both
	}
	return out
}

// PodResources are the limits of the Pod's own cgroup: the sums over its containers, with sidecars, init containers,
// overhead and Pod-level resources as KEP-753 and KEP-2837 count them. A limit is set only where every container has
// one, for else the sum would bind a container that is meant to be free.
func PodResources(pod *v1.Pod, cfg Config) *specs.LinuxResources {
	class := Class(pod)
	requests := resourcehelper.PodRequests(pod, resourcehelper.PodResourcesOptions{})
	if class == v1.PodQOSBestEffort {
		shares := uint64(minShares)
		return &specs.LinuxResources{CPU: &specs.LinuxCPU{Shares: &shares}, HugepageLimits: hugepages(requests, cfg), Pids: pidsLimit(cfg)}
	}
	limits := resourcehelper.PodLimits(pod, resourcehelper.PodResourcesOptions{})
	var milliCPU int64
	if class == v1.PodQOSGuaranteed || limited(pod, v1.ResourceCPU) {
		milliCPU = limits.Cpu().MilliValue()
	}
	out := &specs.LinuxResources{CPU: cpu(requests.Cpu().MilliValue(), milliCPU, cfg), HugepageLimits: hugepages(requests, cfg), Pids: pidsLimit(cfg)}
	if class == v1.PodQOSGuaranteed || limited(pod, v1.ResourceMemory) {
		if out.Memory = memoryLimit(limits.Memory().Value(), cfg); out.Memory != nil && cfg.LimitedSwap {
			out.Memory.Swap = nil // each container has its own
		}
	}
	if cfg.Unified {
		out.Unified = podMemoryQoS(pod, requests.Memory().Value(), limits.Memory().Value(), cfg)
	}
	return out
}

// pidsLimit is how many processes and threads a Pod may have, if that is limited.
func pidsLimit(cfg Config) *specs.LinuxPids {
	if cfg.PidsLimit <= 0 {
		return nil
	}
	limit := cfg.PidsLimit
	return &specs.LinuxPids{Limit: &limit}
}

// cpu has shares always, quota and period only where there is a limit that is to be enforced.
func cpu(request, limit int64, cfg Config) *specs.LinuxCPU {
	shares := Shares(request)
	out := &specs.LinuxCPU{Shares: &shares}
	if !cfg.CFSQuota || limit <= 0 {
		return out
	}
	period := cfg.Period()
	quota, microseconds := Quota(limit, period), uint64(period.Microseconds())
	out.Quota, out.Period = &quota, &microseconds
	return out
}

// Period is that in which limits of CPU are enforced.
func (cfg Config) Period() time.Duration { return cmp.Or(cfg.CFSPeriod, defaultPeriod) }

// effectiveLimits are the container's limits, with the Pod-level ones where it has none.
func effectiveLimits(pod *v1.Pod, c *v1.Container) v1.ResourceList {
	out := v1.ResourceList{}
	if resourcehelper.IsPodLevelResourcesSet(pod) {
		for name, quantity := range pod.Spec.Resources.Limits {
			if resourcehelper.IsSupportedPodLevelResource(name) {
				out[name] = quantity
			}
		}
	}
	for name, quantity := range c.Resources.Limits {
		if !quantity.IsZero() {
			out[name] = quantity
		}
	}
	return out
}

// limited says whether the Pod, or every init and main container in it, has a limit of this resource.
func limited(pod *v1.Pod, name v1.ResourceName) bool {
	if resourcehelper.IsPodLevelResourcesSet(pod) {
		if q := pod.Spec.Resources.Limits[name]; !q.IsZero() {
			return true
		}
	}
	for _, c := range slices.Concat(pod.Spec.InitContainers, pod.Spec.Containers) {
		if q := c.Resources.Limits[name]; q.IsZero() {
			return false
		}
	}
	return true
}
