package cgroups

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	goruntime "runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
	v1 "k8s.io/api/core/v1"
)

// Usage is what a cgroup uses.
type Usage struct {
	CPUNanoseconds  uint64 // CPU time since the cgroup was made
	MemoryBytes     uint64 // all memory charged to it, page cache included
	WorkingSetBytes uint64 // MemoryBytes without the file cache the kernel can drop at once: what eviction counts
	Processes       uint64 // processes and threads (pids.current)
}

// Usage reads what a container uses or, with no id, the whole Pod. A cgroup that is gone is an error that wraps
// fs.ErrNotExist.
func (t *Tree) Usage(pod *v1.Pod, id string) (Usage, error) {
	group := t.path(pod, id)
	read := t.usage1
	if t.cfg.Unified {
		read = t.usage2
	}
	u, err := read(group)
	if err != nil {
		if gone(err) { // ENODEV: removed between open and read
			err = fmt.Errorf("%w: %w", fs.ErrNotExist, err)
		}
		return Usage{}, fmt.Errorf("read usage of cgroup %s: %w", group, err)
	}
	return u, nil
}

func (t *Tree) usage1(group string) (u Usage, err error) {
	memory := filepath.Join(t.controllerMount("memory"), group)
	if u.CPUNanoseconds, err = readNumber(filepath.Join(t.controllerMount("cpuacct"), group, "cpuacct.usage")); err != nil {
		return u, err
	}
	if u.MemoryBytes, err = readNumber(filepath.Join(memory, "memory.usage_in_bytes")); err != nil {
		return u, err
	}
	if u.Processes, err = readNumber(filepath.Join(t.controllerMount("pids"), group, "pids.current")); err != nil {
		return u, err
	}
	cache, err := readKey(filepath.Join(memory, "memory.stat"), "total_inactive_file")
	u.WorkingSetBytes = u.MemoryBytes - min(cache, u.MemoryBytes)
	return u, err
}

func (t *Tree) usage2(group string) (u Usage, err error) {
	folder := filepath.Join(t.mount, group)
	microseconds, err := readKey(filepath.Join(folder, "cpu.stat"), "usage_usec")
	if err != nil {
		return u, err
	}
	u.CPUNanoseconds = microseconds * 1000
	if u.MemoryBytes, err = readNumber(filepath.Join(folder, "memory.current")); err != nil {
		return u, err
	}
	if u.Processes, err = readNumber(filepath.Join(folder, "pids.current")); err != nil {
		return u, err
	}
	cache, err := readKey(filepath.Join(folder, "memory.stat"), "inactive_file")
	u.WorkingSetBytes = u.MemoryBytes - min(cache, u.MemoryBytes)
	return u, err
}

// OOMKilled says whether the kernel killed processes of a container for want of memory. The container's cgroup counts
// them. systemd removes that with the last process; then the Pod's cgroup tells, whose count rises with every container
// (on v2): told is what it was when it was last asked for, and now is what to pass the next time.
func (t *Tree) OOMKilled(pod *v1.Pod, id string, told uint64) (killed bool, now uint64, err error) {
	if now, err = t.oomKills(t.path(pod, "")); ignoreGone(err) != nil {
		return false, told, fmt.Errorf("read oom kills of pod %s/%s: %w", pod.Namespace, pod.Name, err)
	}
	own, err := t.oomKills(t.path(pod, id))
	switch {
	case gone(err):
		return now > 0 && now != told, now, nil // less than was told: after a reboot it counts anew
	case err != nil:
		return false, told, fmt.Errorf("read oom kills of container %s: %w", id, err)
	}
	return own > 0, now, nil
}

// OOMKills counts the processes of a container, or with no id of the whole Pod, that the kernel has killed for want of
// memory. The count of a cgroup that is gone is an error that wraps fs.ErrNotExist.
func (t *Tree) OOMKills(pod *v1.Pod, id string) (uint64, error) {
	n, err := t.oomKills(t.path(pod, id))
	if gone(err) {
		err = fmt.Errorf("%w: %w", fs.ErrNotExist, err)
	}
	if err != nil {
		return 0, fmt.Errorf("read oom kills of pod %s/%s: %w", pod.Namespace, pod.Name, err)
	}
	return n, nil
}

func (t *Tree) oomKills(group string) (uint64, error) {
	file := "memory.oom_control"
	if t.cfg.Unified {
		file = "memory.events"
	}
	return readKey(filepath.Join(t.controllerMount("memory"), group, file), "oom_kill")
}

// readNumber reads a file that holds one number.
func readNumber(file string) (uint64, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseUint(strings.TrimSpace(string(b)), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("parse %s: %w", file, err)
	}
	return n, nil
}

// readKey reads one number from a file of lines "key number".
func readKey(file, key string) (uint64, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		if fields := strings.Fields(line); len(fields) == 2 && fields[0] == key {
			n, err := strconv.ParseUint(fields[1], 10, 64)
			if err != nil {
				return 0, fmt.Errorf("parse %s in %s: %w", key, file, err)
			}
			return n, nil
		}
	}
	return 0, fmt.Errorf("parse %s: no line %q", file, key)
}

// gone says that a cgroup was removed, before or while its file was opened.
func gone(err error) bool { return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENODEV) }

func ignoreGone(err error) error {
	if gone(err) {
		return nil
	}
	return err
}

// onlineCPUs counts the node's CPUs, not those this process may use.
func onlineCPUs() (int, error) {
	b, err := os.ReadFile("/sys/devices/system/cpu/online")
	if errors.Is(err, fs.ErrNotExist) {
		return goruntime.NumCPU(), nil
	}
	if err != nil {
		return 0, fmt.Errorf("read online cpus: %w", err)
	}
	count := 0
	for span := range strings.SplitSeq(strings.TrimSpace(string(b)), ",") {
		first, last, ok := strings.Cut(span, "-")
		if !ok {
			last = first
		}
		from, err := strconv.Atoi(first)
		if err != nil {
			return 0, fmt.Errorf("parse online cpus %q: %w", b, err)
		}
		to, err := strconv.Atoi(last)
		if err != nil {
			return 0, fmt.Errorf("parse online cpus %q: %w", b, err)
		}
		count += to - from + 1
	}
	return count, nil
}
