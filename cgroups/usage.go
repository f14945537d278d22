package cgroups

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"time"

	"github.com/containerd/cgroups/v3/cgroup1"
	"github.com/containerd/cgroups/v3/cgroup1/stats"
	"github.com/containerd/cgroups/v3/cgroup2"
	"golang.org/x/sys/unix"
	v1 "k8s.io/api/core/v1"
)

// Usage is what a cgroup uses, with all below it. Memory is in bytes.
type Usage struct {
	At              time.Time // when it was read
	CPU             uint64    // nanoseconds of all CPUs together, since the cgroup was made
	Memory          uint64    // with the page cache
	WorkingSet      uint64    // as the kubelet has it: without the files that were not used lately
	RSS             uint64    // anonymous memory
	Limit           uint64    // of Memory; 0 is none
	PageFaults      uint64    // since the cgroup was made
	MajorPageFaults uint64    // those of them that had to read a disk
	Swap            *uint64   // nil where the kernel does not count it
}

// Usage is what a container, or with no id the whole Pod, uses. A cgroup that is gone is an error that wraps fs.ErrNotExist.
func (t *Tree) Usage(pod *v1.Pod, id string) (Usage, error) {
	u, inactive, err := t.usage(t.path(pod, id))
	if err != nil {
		return Usage{}, fmt.Errorf("read usage of pod %s/%s, container %q: %w", pod.Namespace, pod.Name, id, asGone(err))
	}
	u.WorkingSet = less(u.Memory, inactive)
	return u, nil
}

// NodeUsage is what everything on the node uses. Its limit is what the node has.
func (t *Tree) NodeUsage() (Usage, error) {
	u, inactive, err := t.usage("/")
	if err != nil {
		return Usage{}, fmt.Errorf("read usage of the node: %w", err)
	}
	var node unix.Sysinfo_t
	if err := unix.Sysinfo(&node); err != nil {
		return Usage{}, fmt.Errorf("read memory of the node: %w", err)
	}
	unit := uint64(node.Unit)
	u.Limit, u.Swap = node.Totalram*unit, nil
	if swapped := (node.Totalswap - node.Freeswap) * unit; node.Totalswap > 0 {
		u.Swap = &swapped
	}
	if t.cfg.Unified { // the top of v2 does not tell; what is not free is what the kubelet has there
		u.Memory = (node.Totalram - node.Freeram) * unit
	}
	u.WorkingSet = less(u.Memory, inactive)
	return u, nil
}

// usage reads all but the working set, and how much of the memory are files that were not used lately.
func (t *Tree) usage(group string) (u Usage, inactive uint64, err error) {
	u.At = time.Now()
	if t.cfg.Unified {
		return t.unifiedUsage(u, group)
	}
	ignored := []string{"kmem", "kmem.tcp"}
	if !t.cfg.CountsSwap {
		ignored = append(ignored, "memsw")
	}
	found := stats.Metrics{CPU: &stats.CPUStat{Usage: &stats.CPUUsage{}}}
	if err := cgroup1.NewCpuacct(t.mount).Stat(group, &found); err != nil {
		return u, 0, err
	}
	if err := cgroup1.NewMemory(t.mount, cgroup1.IgnoreModules(ignored...)).Stat(group, &found); err != nil {
		return u, 0, err
	}
	m := found.Memory
	u.CPU, u.Memory, u.RSS, u.Limit = found.CPU.Usage.Total, m.Usage.Usage, m.TotalRSS, limit(m.Usage.Limit)
	u.PageFaults, u.MajorPageFaults = m.TotalPgFault, m.TotalPgMajFault
	if t.cfg.CountsSwap { // the figure is that of memory and swap together
		swap := less(m.Swap.Usage, m.Usage.Usage)
		u.Swap = &swap
	}
	return u, m.TotalInactiveFile, nil
}

func (t *Tree) unifiedUsage(u Usage, group string) (_ Usage, inactive uint64, err error) {
	manager, err := cgroup2.Load(group, cgroup2.WithMountpoint(t.mount))
	if err != nil {
		return u, 0, err
	}
	found, err := manager.StatFiltered(cgroup2.StatCPU | cgroup2.StatMemory)
	if err != nil {
		return u, 0, err
	}
	// The library takes a file that is not there for zero: so it must be there still.
	if _, err := os.Stat(filepath.Join(t.mount, group)); err != nil {
		return u, 0, err
	}
	m := found.Memory
	u.CPU, u.Memory, u.RSS, u.Limit = found.CPU.UsageUsec*1000, m.Usage, m.Anon, limit(m.UsageLimit)
	u.PageFaults, u.MajorPageFaults = m.Pgfault, m.Pgmajfault
	if t.cfg.CountsSwap {
		u.Swap = &m.SwapUsage
	}
	return u, m.InactiveFile, nil
}

// noLimit is above every limit; what the kernel says where there is none is above it (kubernetes/kubernetes
// pkg/kubelet/stats/helper.go, isMemoryUnlimited).
const noLimit = math.MaxInt64 / 2

func limit(bytes uint64) uint64 {
	if bytes > noLimit {
		return 0
	}
	return bytes
}

// less subtracts figures that were not read at the same instant.
func less(a, b uint64) uint64 { return a - min(a, b) }
