package main

import (
	"errors"
	"fmt"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	kubeletconfig "k8s.io/kubelet/config/v1beta1"
	"k8s.io/utils/ptr"

	"github.com/podkeeper/podkeeper/cgroups"
)

// Values of memorySwap.swapBehavior.
const (
	noSwap      = "NoSwap"
	limitedSwap = "LimitedSwap"
)

// checkCgroups refuses values out of range for what Pods may use.
func checkCgroups(cfg *kubeletconfig.KubeletConfiguration, wrong func(field, format string, args ...any)) {
	if d := cgroups.Driver(cfg.CgroupDriver); d != "" && d != cgroups.Systemd && d != cgroups.Cgroupfs {
		wrong("cgroupDriver", "%q is not supported: must be systemd or cgroupfs", d)
	}
	if n := ptr.Deref(cfg.PodPidsLimit, -1); n < -1 || n == 0 {
		wrong("podPidsLimit", "is %d: must be at least 1, or -1 for no limit", n)
	}
	if f := cfg.MemoryThrottlingFactor; f != nil && (*f <= 0 || *f > 1) {
		wrong("memoryThrottlingFactor", "is %v: must be above 0 and at most 1, or absent", *f)
	}
	switch p := cfg.MemoryReservationPolicy; p {
	case "", kubeletconfig.NoneMemoryReservationPolicy, kubeletconfig.TieredReservationMemoryReservationPolicy:
	default:
		wrong("memoryReservationPolicy", "%q is not supported: must be None or TieredReservation", p)
	}
	if b := cfg.MemorySwap.SwapBehavior; b != "" && b != noSwap && b != limitedSwap {
		wrong("memorySwap.swapBehavior", "%q is not supported: must be NoSwap or LimitedSwap", b)
	}
	if ptr.Deref(cfg.FailSwapOn, false) {
		wrong("failSwapOn", "is true: must be false, or absent: podkeeper runs on a node with swap")
	}
	if p := cfg.CPUManagerPolicy; p != "" && p != "none" {
		wrong("cpuManagerPolicy", "%q is not supported: must be none: no container has CPUs of its own", p)
	}
}

// openCgroups opens the host's cgroups, on a node with so much memory, in bytes. The error names what is asked for and cannot be had
// on this host.
func openCgroups(cfg *kubeletconfig.KubeletConfiguration, memory int64) (*cgroups.Tree, error) {
	swap, err := cgroups.SwapCapacity()
	if err != nil {
		return nil, err
	}
	kept := reserve(cfg, unchecked)
	allocatable := kept.Allocatable(v1.ResourceList{v1.ResourceMemory: *resource.NewQuantity(memory, resource.BinarySI)})
	tree, err := cgroups.Open(cgroups.Config{
		Root: cfg.CgroupRoot, Driver: cgroups.Driver(cfg.CgroupDriver), CFSQuota: ptr.Deref(cfg.CPUCFSQuota, true),
		CFSPeriod: ptr.Deref(cfg.CPUCFSQuotaPeriod, metav1.Duration{}).Duration, SingleProcessOOMKill: ptr.Deref(cfg.SingleProcessOOMKill, false),
		PidsLimit: ptr.Deref(cfg.PodPidsLimit, -1), ThrottlingFactor: cfg.MemoryThrottlingFactor,
		ReserveMemory: cfg.MemoryReservationPolicy == kubeletconfig.TieredReservationMemoryReservationPolicy,
		LimitedSwap:   cfg.MemorySwap.SwapBehavior == limitedSwap, Memory: memory, Swap: swap, Allocatable: allocatable.Memory().Value(),
	})
	if err != nil {
		return nil, err
	}
	return tree, missing(tree)
}

// missing names what is asked for of cgroups that this host does not have.
func missing(tree *cgroups.Tree) error {
	var errs []error
	cfg := tree.Config()
	for field, asked := range map[string]bool{
		"memoryThrottlingFactor": cfg.ThrottlingFactor != nil, "memoryReservationPolicy: TieredReservation": cfg.ReserveMemory,
		"memorySwap.swapBehavior: LimitedSwap": cfg.LimitedSwap,
	} {
		if asked && !cfg.Unified {
			errs = append(errs, fmt.Errorf("%s: cgroup v2 is needed, and this host has v1: remove it", field))
		}
	}
	if cfg.LimitedSwap && cfg.Unified && !cfg.CountsSwap {
		errs = append(errs, errors.New("memorySwap.swapBehavior: LimitedSwap: this kernel does not count swap (swapaccount=1): remove it"))
	}
	if cfg.PidsLimit > 0 && !tree.CountsPids() {
		errs = append(errs, errors.New("podPidsLimit: the pids controller of cgroups is needed, and this host has none: remove it"))
	}
	return errors.Join(errs...)
}
