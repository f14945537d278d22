package cgroups

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/containerd/cgroups/v3/cgroup1"
	cgroup1stats "github.com/containerd/cgroups/v3/cgroup1/stats"
	"github.com/containerd/cgroups/v3/cgroup2"
	cgroup2stats "github.com/containerd/cgroups/v3/cgroup2/stats"
	v1 "k8s.io/api/core/v1"
)

// Detail is what a cgroup has used beyond its Usage, with all below it, since it was made. Memory and traffic are in bytes.
type Detail struct {
	Usage
	Path              string // of the cgroup
	User, System      time.Duration
	Periods           uint64 // of its quota of CPU
	ThrottledPeriods  uint64
	Throttled         time.Duration
	Cache, MappedFile uint64
	OOMKills          uint64
	Processes         uint64
	Threads           uint64
	Devices           []Device            // that it has read from or written to
	Pressure          map[string]Pressure // of cpu, memory and io, where the kernel tells; never on v1
}

// Device is what went to and from a block device.
type Device struct {
	Name                                   string // such as /dev/sda, or its numbers
	Reads, Writes, BytesRead, BytesWritten uint64
}

// Pressure is how long some, or all, of a cgroup's processes have waited for something.
type Pressure struct{ Some, Full time.Duration }

// Detail is that of a container, or with no id of the whole Pod. A cgroup that is gone is an error that wraps fs.ErrNotExist.
func (t *Tree) Detail(pod *v1.Pod, id string) (Detail, error) {
	d := Detail{Path: "/" + strings.TrimPrefix(t.path(pod, id), "/")}
	u, err := t.Usage(pod, id)
	if err == nil {
		d.Usage = u
		if t.cfg.Unified {
			err = t.unifiedDetail(&d)
		} else {
			err = t.legacyDetail(&d)
		}
	}
	if err == nil {
		d.OOMKills, err = t.oomKills(d.Path)
	}
	if err != nil {
		return Detail{}, fmt.Errorf("read figures of pod %s/%s, container %q: %w", pod.Namespace, pod.Name, id, asGone(err))
	}
	return d, nil
}

func (t *Tree) legacyDetail(d *Detail) error {
	found := cgroup1stats.Metrics{CPU: &cgroup1stats.CPUStat{Usage: &cgroup1stats.CPUUsage{}, Throttling: &cgroup1stats.Throttle{}}}
	stats := []interface {
		Stat(path string, stats *cgroup1stats.Metrics) error
	}{
		cgroup1.NewCpuacct(t.mount), cgroup1.NewCpu(t.mount), cgroup1.NewMemory(t.mount, cgroup1.IgnoreModules("kmem", "kmem.tcp", "memsw")),
	}
	if _, err := os.Stat(t.controllerMount("blkio")); err == nil {
		stats = append(stats, cgroup1.NewBlkio(t.mount))
	}
	for _, controller := range stats {
		if err := controller.Stat(d.Path, &found); err != nil {
			return err
		}
	}
	d.User, d.System = time.Duration(found.CPU.Usage.User), time.Duration(found.CPU.Usage.Kernel)
	throttling := found.CPU.Throttling
	d.Periods, d.ThrottledPeriods, d.Throttled = throttling.Periods, throttling.ThrottledPeriods, time.Duration(throttling.ThrottledTime)
	d.Cache, d.MappedFile = found.Memory.TotalCache, found.Memory.TotalMappedFile
	devices := map[string]*Device{}
	count := func(entries []*cgroup1stats.BlkIOEntry, reads, writes func(*Device) *uint64) {
		for _, e := range entries {
			name := deviceName(e.Major, e.Minor)
			if devices[name] == nil {
				devices[name] = &Device{Name: name}
			}
			switch strings.ToLower(e.Op) {
			case "read":
				*reads(devices[name]) += e.Value
			case "write":
				*writes(devices[name]) += e.Value
			}
		}
	}
	if found.Blkio != nil {
		count(found.Blkio.IoServicedRecursive, func(d *Device) *uint64 { return &d.Reads }, func(d *Device) *uint64 { return &d.Writes })
		count(found.Blkio.IoServiceBytesRecursive, func(d *Device) *uint64 { return &d.BytesRead }, func(d *Device) *uint64 { return &d.BytesWritten })
	}
	for _, device := range devices {
		d.Devices = append(d.Devices, *device)
	}
	return t.countProcesses(d, "memory")
}

func (t *Tree) unifiedDetail(d *Detail) error {
	manager, err := cgroup2.Load(d.Path, cgroup2.WithMountpoint(t.mount))
	if err != nil {
		return err
	}
	found, err := manager.StatFiltered(cgroup2.StatCPU | cgroup2.StatMemory | cgroup2.StatIO)
	if err != nil {
		return err
	}
	microseconds := func(n uint64) time.Duration { return time.Duration(n) * time.Microsecond }
	d.User, d.System = microseconds(found.CPU.UserUsec), microseconds(found.CPU.SystemUsec)
	d.Periods, d.ThrottledPeriods, d.Throttled = found.CPU.NrPeriods, found.CPU.NrThrottled, microseconds(found.CPU.ThrottledUsec)
	d.Cache, d.MappedFile = found.Memory.File, found.Memory.FileMapped
	for _, e := range found.GetIo().GetUsage() {
		d.Devices = append(d.Devices, Device{deviceName(e.Major, e.Minor), e.Rios, e.Wios, e.Rbytes, e.Wbytes})
	}
	for of, psi := range map[string]*cgroup2stats.PSIStats{"cpu": found.CPU.GetPSI(), "memory": found.Memory.GetPSI(), "io": found.GetIo().GetPSI()} {
		if psi == nil {
			continue
		}
		if d.Pressure == nil {
			d.Pressure = map[string]Pressure{}
		}
		d.Pressure[of] = Pressure{microseconds(psi.GetSome().GetTotal()), microseconds(psi.GetFull().GetTotal())}
	}
	return t.countProcesses(d, "")
}

// countProcesses counts processes, and threads where the kernel does.
func (t *Tree) countProcesses(d *Detail, hierarchy string) error {
	err := filepath.WalkDir(filepath.Join(t.controllerMount(hierarchy), d.Path), func(path string, entry os.DirEntry, err error) error {
		if err != nil || !entry.IsDir() {
			return ignoreGone(err)
		}
		pids, err := os.ReadFile(filepath.Join(path, "cgroup.procs"))
		d.Processes += uint64(strings.Count(string(pids), "\n"))
		return ignoreGone(err)
	})
	if err != nil {
		return err
	}
	d.Threads, err = readNumber(filepath.Join(t.controllerMount("pids"), d.Path, "pids.current"))
	return ignoreGone(err)
}

// deviceName is the name of a block device in /dev.
func deviceName(major, minor uint64) string {
	link, err := os.Readlink(fmt.Sprintf("/sys/dev/block/%d:%d", major, minor))
	if err != nil {
		return fmt.Sprintf("%d:%d", major, minor)
	}
	return "/dev/" + filepath.Base(link)
}
