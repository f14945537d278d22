package main

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	kubeletconfig "k8s.io/kubelet/config/v1beta1"

	"github.com/podkeeper/podkeeper/agent/admit"
	"github.com/podkeeper/podkeeper/agent/evict"
)

// defaultMaxPods is Kubernetes' default of maxPods.
const defaultMaxPods = 110

func maxPods(cfg *kubeletconfig.KubeletConfiguration) int {
	return int(cmp.Or(cfg.MaxPods, defaultMaxPods))
}

// checkRoom refuses values out of range for the room that Pods have on the node.
func checkRoom(cfg *kubeletconfig.KubeletConfiguration, wrong func(field, format string, args ...any)) {
	if cfg.MaxPods < 0 {
		wrong("maxPods", "is %d: must be at least 1, or absent", cfg.MaxPods)
	}
	for _, what := range cfg.EnforceNodeAllocatable {
		if what != "none" {
			wrong("enforceNodeAllocatable", "%q is not supported: must be none, or absent: Pods begin where what they ask for is there, and the cgroup of all of them has no limit", what)
		}
	}
	reserve(cfg, wrong)
}

// reserve is what of the node is not for Pods. What cannot be is told by wrong.
func reserve(cfg *kubeletconfig.KubeletConfiguration, wrong func(field, format string, args ...any)) (r admit.Reserve) {
	r.System = reserved("systemReserved", cfg.SystemReserved, wrong)
	r.Kube = reserved("kubeReserved", cfg.KubeReserved, wrong)
	for _, t := range evictions(cfg, unchecked).Thresholds { // what Pods would have to go for
		switch {
		case t.Hard() && t.Signal == evict.MemoryAvailable:
			r.Keep(v1.ResourceMemory, t.Below)
		case t.Hard() && t.Signal == evict.NodeFSAvailable:
			r.Keep(v1.ResourceEphemeralStorage, t.Below)
		}
	}
	return r
}

// reserved are the quantities of systemReserved or kubeReserved.
func reserved(field string, from map[string]string, wrong func(field, format string, args ...any)) v1.ResourceList {
	all := v1.ResourceList{}
	for _, name := range slices.Sorted(maps.Keys(from)) {
		at := fmt.Sprintf("%s[%s]", field, name)
		switch v1.ResourceName(name) {
		case v1.ResourceCPU, v1.ResourceMemory, v1.ResourceEphemeralStorage:
		default:
			wrong(at, "not supported: must be cpu, memory or ephemeral-storage")
			continue
		}
		q, err := resource.ParseQuantity(from[name])
		if err != nil || q.Sign() < 0 {
			wrong(at, "is %q: must be a quantity of at least 0, such as 500m or 1Gi", from[name])
			continue
		}
		all[v1.ResourceName(name)] = q
	}
	return all
}
