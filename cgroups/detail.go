package cgroups

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

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
	read := t.legacyDetail
	if t.cfg.Unified {
		read = t.unifiedDetail
	}
	err := read(&d)
	if err == nil {
		d.OOMKills, err = t.oomKills(d.Path)
	}
	if err != nil {
		return Detail{}, fmt.Errorf("read figures of pod %s/%s, container %q: %w", pod.Namespace, pod.Name, id, asGone(err))
	}
	return d, nil
}

// readUsage reads the Usage, and what else memory.stat says by these keys.
func (t *Tree) readUsage(d *Detail, cache, mapped string) error {
	u, inactive, err := t.usage(d.Path, map[string]*uint64{cache: &d.Cache, mapped: &d.MappedFile})
	u.WorkingSet = less(u.Memory, inactive)
	d.Usage = u
	return err
}

// tick is in what v1 counts the time that was spent in programs and in the kernel (USER_HZ).
const tick = time.Second / 100

func (t *Tree) legacyDetail(d *Detail) error {
	var user, system, throttled uint64
	if err := errors.Join(
		t.readUsage(d, "total_cache", "total_mapped_file"),
		readKeys(filepath.Join(t.mount, "cpuacct", d.Path, "cpuacct.stat"), map[string]*uint64{"user": &user, "system": &system}),
		readKeys(filepath.Join(t.mount, "cpu", d.Path, "cpu.stat"), map[string]*uint64{
			"nr_periods": &d.Periods, "nr_throttled": &d.ThrottledPeriods, "throttled_time": &throttled,
		}),
	); err != nil {
		return err
	}
	d.User, d.System, d.Throttled = time.Duration(user)*tick, time.Duration(system)*tick, time.Duration(throttled)
	devices := devices{}
	for file, words := range map[string]map[string]func(*Device) *uint64{
		"blkio.throttle.io_serviced_recursive": {
			"Read": func(d *Device) *uint64 { return &d.Reads }, "Write": func(d *Device) *uint64 { return &d.Writes },
		},
		"blkio.throttle.io_service_bytes_recursive": {
			"Read": func(d *Device) *uint64 { return &d.BytesRead }, "Write": func(d *Device) *uint64 { return &d.BytesWritten },
		},
	} {
		err := devices.read(filepath.Join(t.mount, "blkio", d.Path, file), func(of *Device, fields []string) {
			if into := words[fields[0]]; into != nil && len(fields) == 2 { // 8:0 Read 42
				*into(of), _ = strconv.ParseUint(fields[1], 10, 64)
			}
		})
		if err := ignoreGone(err); err != nil { // not every kernel counts them
			return err
		}
	}
	d.Devices = devices.all()
	return t.countProcesses(d, "memory")
}

func (t *Tree) unifiedDetail(d *Detail) error {
	dir := filepath.Join(t.mount, d.Path)
	var user, system, throttled uint64
	if err := errors.Join(
		t.readUsage(d, "file", "file_mapped"),
		readKeys(filepath.Join(dir, "cpu.stat"), map[string]*uint64{
			"user_usec": &user, "system_usec": &system, "nr_periods": &d.Periods, "nr_throttled": &d.ThrottledPeriods, "throttled_usec": &throttled,
		}),
	); err != nil {
		return err
	}
	microseconds := func(n uint64) time.Duration { return time.Duration(n) * time.Microsecond }
	d.User, d.System, d.Throttled = microseconds(user), microseconds(system), microseconds(throttled)
	devices := devices{}
	err := devices.read(filepath.Join(dir, "io.stat"), func(of *Device, fields []string) {
		into := map[string]*uint64{"rios": &of.Reads, "wios": &of.Writes, "rbytes": &of.BytesRead, "wbytes": &of.BytesWritten}
		for _, field := range fields { // 8:0 rbytes=42 wbytes=0 ...
			if name, number, _ := strings.Cut(field, "="); into[name] != nil {
				*into[name], _ = strconv.ParseUint(number, 10, 64)
			}
		}
	})
	if err := ignoreGone(err); err != nil {
		return err
	}
	d.Devices = devices.all()
	for _, of := range []string{"cpu", "memory", "io"} {
		if p, err := readPressure(filepath.Join(dir, of+".pressure")); err == nil { // else the kernel does not tell
			if d.Pressure == nil {
				d.Pressure = map[string]Pressure{}
			}
			d.Pressure[of] = p
		}
	}
	return t.countProcesses(d, "")
}

// devices are block devices by their numbers.
type devices map[string]*Device

// read reads a file of lines that begin with a device's numbers.
func (d devices) read(file string, line func(of *Device, fields []string)) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	for l := range strings.Lines(string(text)) {
		fields := strings.Fields(l)
		if len(fields) < 2 || !strings.Contains(fields[0], ":") { // a sum
			continue
		}
		if d[fields[0]] == nil {
			d[fields[0]] = &Device{Name: deviceName(fields[0])}
		}
		line(d[fields[0]], fields[1:])
	}
	return nil
}

func (d devices) all() (all []Device) {
	for _, numbers := range slices.Sorted(maps.Keys(d)) {
		all = append(all, *d[numbers])
	}
	return all
}

// readPressure reads how long was waited for something: "some avg10=0.00 avg60=0.00 avg300=0.00 total=42".
func readPressure(file string) (p Pressure, err error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return p, err
	}
	for line := range strings.Lines(string(text)) {
		kind, _, _ := strings.Cut(line, " ")
		_, total, _ := strings.Cut(strings.TrimSpace(line), "total=")
		n, err := strconv.ParseUint(total, 10, 64)
		if err != nil {
			return p, fmt.Errorf("parse %s: %w", file, err)
		}
		switch waited := time.Duration(n) * time.Microsecond; kind {
		case "some":
			p.Some = waited
		case "full":
			p.Full = waited
		}
	}
	return p, nil
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

// deviceName is the name in /dev of a block device, by its numbers.
func deviceName(numbers string) string {
	link, err := os.Readlink("/sys/dev/block/" + numbers)
	if err != nil {
		return numbers
	}
	return "/dev/" + filepath.Base(link)
}
