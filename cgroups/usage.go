package cgroups

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"path/filepath"
	"time"

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
	u, inactive, err := t.usage(t.path(pod, id), nil)
	if err != nil {
		return Usage{}, fmt.Errorf("read usage of pod %s/%s, container %q: %w", pod.Namespace, pod.Name, id, asGone(err))
	}
	u.WorkingSet = less(u.Memory, inactive)
	return u, nil
}

// NodeUsage is what everything on the node uses. Its limit is what the node has.
func (t *Tree) NodeUsage() (Usage, error) {
	u, inactive, err := t.usage("/", nil)
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

// usage reads all but the working set, and how much of the memory are files that were not used lately. more may be other keys of
// memory.stat.
func (t *Tree) usage(group string, more map[string]*uint64) (u Usage, inactive uint64, err error) {
	u.At = time.Now()
	if t.cfg.Unified {
		return t.unifiedUsage(u, group, more)
	}
	dir, swap := filepath.Join(t.mount, "memory", group), uint64(0)
	err = errors.Join(
		readInto(filepath.Join(t.mount, "cpuacct", group, "cpuacct.usage"), &u.CPU),
		readInto(filepath.Join(dir, "memory.usage_in_bytes"), &u.Memory),
		readInto(filepath.Join(dir, "memory.limit_in_bytes"), &u.Limit),
		readKeys(filepath.Join(dir, "memory.stat"), with(more, map[string]*uint64{
			"total_rss": &u.RSS, "total_inactive_file": &inactive, "total_pgfault": &u.PageFaults, "total_pgmajfault": &u.MajorPageFaults,
		})))
	if t.cfg.CountsSwap { // the figure is that of memory and swap together
		err = errors.Join(err, readInto(filepath.Join(dir, "memory.memsw.usage_in_bytes"), &swap))
		swap = less(swap, u.Memory)
		u.Swap = &swap
	}
	u.Limit = limit(u.Limit)
	return u, inactive, err
}

func (t *Tree) unifiedUsage(u Usage, group string, more map[string]*uint64) (_ Usage, inactive uint64, err error) {
	dir, micro, swap := filepath.Join(t.mount, group), uint64(0), uint64(0)
	err = errors.Join(
		readKeys(filepath.Join(dir, "cpu.stat"), map[string]*uint64{"usage_usec": &micro}),
		readKeys(filepath.Join(dir, "memory.stat"), with(more, map[string]*uint64{
			"anon": &u.RSS, "inactive_file": &inactive, "pgfault": &u.PageFaults, "pgmajfault": &u.MajorPageFaults,
		})))
	if group != "/" { // which has no such files
		err = errors.Join(err, readInto(filepath.Join(dir, "memory.current"), &u.Memory), readInto(filepath.Join(dir, "memory.max"), &u.Limit))
		if t.cfg.CountsSwap {
			err = errors.Join(err, readInto(filepath.Join(dir, "memory.swap.current"), &swap))
			u.Swap = &swap
		}
	}
	u.CPU, u.Limit = micro*1000, limit(u.Limit)
	return u, inactive, err
}

// with adds keys to others.
func with(more, keys map[string]*uint64) map[string]*uint64 {
	maps.Copy(keys, more)
	return keys
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
