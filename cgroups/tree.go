// Package cgroups is the room of the Pod's resources: the arithmetic from requests and limits to the kernel's figures
// (pure), the tree of Pod cgroups on cgroup v1, hybrid and v2, and what a Pod uses.
//
//	[root/]kubepods              shares of the whole node
//	├── pod<uid>                 Guaranteed Pods
//	│   ├── <container id>       made by the container runtime, limits from ContainerResources
//	│   └── <sandbox id>         shares 2, from Place
//	├── burstable                shares: the sum of the Pods below
//	│   └── pod<uid>
//	└── besteffort               shares 2
//	    └── pod<uid>
//
// These are the names of the driver cgroupfs; driver.go has those of systemd, and what is done through it.
//
// It must not know when a Pod starts or stops, nor anything of containerd: it is handed Pods and container ids, and all
// its state is in the kernel; what it remembers of that (shares.go) it can lose.
package cgroups

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	control "github.com/containerd/cgroups/v3"
	"github.com/containerd/cgroups/v3/cgroup1"
	"github.com/containerd/cgroups/v3/cgroup2"
	"github.com/coreos/go-systemd/v22/util"
	"github.com/moby/sys/mountinfo"
	"github.com/opencontainers/runtime-spec/specs-go"
	v1 "k8s.io/api/core/v1"
)

const (
	mountpoint = "/sys/fs/cgroup"
	kubepods   = "kubepods"
)

// Config says where the Pods' cgroups live and which limits are enforced.
type Config struct {
	Root                 string        // the parent of kubepods (cgroupRoot); "" or "/" for the top
	Driver               Driver        // who makes cgroups (cgroupDriver); empty is Systemd where that can be, else Cgroupfs. Open fills it in
	CFSQuota             bool          // enforce CPU limits (cpuCFSQuota)
	CFSPeriod            time.Duration // cpuCFSQuotaPeriod; 0 means 100 ms
	SingleProcessOOMKill bool          // on v2, let the kernel kill one process of a container instead of all (singleProcessOOMKill)
	Unified              bool          // the host has cgroup v2 only; Open sets it
	PidsLimit            int64         // of processes and threads of a Pod (podPidsLimit); 0 or less is none
	ThrottlingFactor     *float64      // on v2, where between request and limit a container's memory is throttled (memoryThrottlingFactor); nil is nowhere
	ReserveMemory        bool          // on v2, protect the memory that Pods request (memoryReservationPolicy: TieredReservation)
	Allocatable          int64         // bytes of memory that the node has for Pods
	LimitedSwap          bool          // on v2, let Burstable Pods swap (memorySwap.swapBehavior: LimitedSwap)
	Memory, Swap         int64         // bytes of them that the node has
	CountsSwap           bool          // the kernel counts swap: what has a memory limit may not swap beyond it; Open sets it
	PageSizes            []int64       // in bytes, of the huge pages that are limited; Open sets those that the kernel can limit
}

// Tree is the host's tree of Pod cgroups. All its methods are safe for concurrent use, and another agent may share
// the tree.
type Tree struct {
	cfg         Config
	mount       string   // where v2 is mounted, or where v1's hierarchies are
	hierarchies []string // the mount point of every hierarchy
	controllers []string // v2: what can be enabled for the Pods
	systemd     *systemd // nil where it makes no cgroups: not PID 1, or v1

	balancing sync.Mutex         // one update of the classes at a time, and guards what follows
	ledgers   map[string]*ledger // by the cgroup of a class
}

// Open looks at the host's cgroups. It makes nothing.
func Open(cfg Config) (*Tree, error) {
	t := &Tree{cfg: cfg, mount: mountpoint}
	t.cfg.Root = path.Clean("/" + cfg.Root)
	switch control.Mode() {
	case control.Unified:
		t.cfg.Unified = true
		if err := t.readControllers(); err != nil {
			return nil, err
		}
	case control.Legacy, control.Hybrid:
		if err := t.readHierarchies(); err != nil {
			return nil, err
		}
	default:
		return nil, fmt.Errorf("open cgroups: nothing is mounted at %s: mount cgroup2 there", mountpoint)
	}
	t.cfg.CountsSwap = t.countsSwap()
	var err error
	if t.cfg.PageSizes, err = t.pageSizes(); err != nil {
		return nil, err
	}
	return t, t.chooseDriver(util.IsRunningSystemd())
}

// swapLimit is v1's limit of memory and swap together.
const swapLimit = "memory.memsw.limit_in_bytes"

// countsSwap says whether the kernel counts what cgroups have swapped out. On v2 the top has no such file, but its
// children, one of which is there on every host with an init or a container runtime.
func (t *Tree) countsSwap() bool {
	pattern := filepath.Join(t.mount, "memory", swapLimit)
	if t.cfg.Unified {
		pattern = filepath.Join(t.mount, "*", "memory.swap.max")
	}
	found, _ := filepath.Glob(pattern)
	return len(found) > 0
}

// CountsPids says whether the kernel can limit how many processes a cgroup has.
func (t *Tree) CountsPids() bool {
	return slices.Contains(t.controllers, "pids") || slices.Contains(t.hierarchies, filepath.Join(t.mount, "pids"))
}

// readControllers reads which of the controllers Pods need this kernel offers on v2.
func (t *Tree) readControllers() error {
	offered, err := os.ReadFile(filepath.Join(t.mount, "cgroup.controllers"))
	if err != nil {
		return fmt.Errorf("read cgroup controllers: %w", err)
	}
	for _, name := range strings.Fields(string(offered)) {
		if slices.Contains([]string{"cpuset", "cpu", "io", "memory", "hugetlb", "pids", "rdma"}, name) {
			t.controllers = append(t.controllers, name)
		}
	}
	if !slices.Contains(t.controllers, "cpu") || !slices.Contains(t.controllers, "memory") {
		return fmt.Errorf("read cgroup controllers: %s offers %q: cpu and memory are needed", t.mount, strings.TrimSpace(string(offered)))
	}
	t.hierarchies = []string{t.mount}
	return nil
}

// readHierarchies reads where v1's hierarchies are mounted, and the empty v2 one of a hybrid host: runtimes join them all.
func (t *Tree) readHierarchies() error {
	mounts, err := mountinfo.GetMounts(func(m *mountinfo.Info) (skip, stop bool) {
		return !strings.HasPrefix(m.Mountpoint, t.mount+"/") || !strings.HasPrefix(m.FSType, "cgroup"), false
	})
	if err != nil {
		return fmt.Errorf("read cgroup mounts: %w", err)
	}
	for _, m := range mounts {
		t.hierarchies = append(t.hierarchies, m.Mountpoint)
	}
	for _, name := range []string{"cpu", "memory"} {
		if _, err := os.Stat(filepath.Join(t.mount, name)); err != nil {
			return fmt.Errorf("read cgroup mounts: the %s controller is not mounted: %w", name, err)
		}
	}
	return nil
}

// Config is the configuration with what Open found out about the host, for ContainerResources and PodResources.
func (t *Tree) Config() Config { return t.cfg }

// Ensure makes the Pod's cgroup with its limits, and corrects the shares of the Burstable class. An existing one is
// brought up to date.
func (t *Tree) Ensure(pod *v1.Pod) error {
	if uid := string(pod.UID); uid == "" || strings.ContainsAny(uid, "/\x00") {
		return fmt.Errorf("make cgroup of pod %s/%s: uid %q cannot name a folder", pod.Namespace, pod.Name, uid)
	}
	driver := t.driverOf(pod)
	if err := t.create(driver, pod, PodResources(pod, t.cfg)); err != nil {
		return fmt.Errorf("make cgroup of pod %s/%s: %w", pod.Namespace, pod.Name, err)
	}
	if err := t.balance(driver, pod); err != nil {
		return fmt.Errorf("share cpu among pods: %w", err)
	}
	return nil
}

// create makes the Pod's cgroup in every hierarchy, with its parents, and writes its limits.
func (t *Tree) create(driver Driver, pod *v1.Pod, r *specs.LinuxResources) error {
	group := t.podPath(driver, Class(pod), pod)
	if !t.cfg.Unified {
		if err := t.makeRoomForSwap(group, r.Memory); err != nil {
			return err
		}
		_, err := cgroup1.New(cgroup1.StaticPath(group), r)
		return err
	}
	if driver == Systemd {
		if err := t.systemd.start(path.Base(group), "Pod "+pod.Namespace+"/"+pod.Name, r); err != nil {
			return err
		}
	} else if err := t.makeFolders(group); err != nil {
		return err
	}
	m, err := cgroup2.Load(group, cgroup2.WithMountpoint(t.mount))
	if err != nil {
		return err
	}
	if driver == Systemd && len(r.HugepageLimits) > 0 { // a controller that systemd does not know
		if err := m.ToggleControllers([]string{"hugetlb"}, cgroup2.Enable); err != nil {
			return err
		}
	}
	return m.Update(unified(r))
}

// makeFolders makes a cgroup of v2 whose controllers are there for its children, too.
func (t *Tree) makeFolders(group string) error {
	if err := os.MkdirAll(filepath.Join(t.mount, group), 0o755); err != nil {
		return err
	}
	// The limits must be passed on to the containers, so the Pod's own subtree_control counts as well.
	child, err := cgroup2.Load(group+"/container", cgroup2.WithMountpoint(t.mount))
	if err != nil {
		return err
	}
	return child.ToggleControllers(t.controllers, cgroup2.Enable)
}

// unified translates the limits of a Pod to cgroup v2's.
func unified(r *specs.LinuxResources) *cgroup2.Resources {
	out := &cgroup2.Resources{}
	if r.CPU != nil {
		weight := Weight(*r.CPU.Shares)
		out.CPU = &cgroup2.CPU{Weight: &weight}
		if r.CPU.Quota != nil {
			out.CPU.Max = cgroup2.NewCPUMax(r.CPU.Quota, r.CPU.Period)
		}
	}
	out.Memory = &cgroup2.Memory{Min: setting(r, memoryMin), Low: setting(r, memoryLow), High: setting(r, memoryHigh)}
	if r.Memory != nil {
		out.Memory.Max = r.Memory.Limit
		if r.Memory.Swap != nil { // v1 counts memory and swap together
			swap := *r.Memory.Swap - *r.Memory.Limit
			out.Memory.Swap = &swap
		}
	}
	if r.Pids != nil {
		out.Pids = &cgroup2.Pids{Max: *r.Pids.Limit}
	}
	if len(r.HugepageLimits) > 0 {
		out.HugeTlb = &cgroup2.HugeTlb{}
		for _, l := range r.HugepageLimits {
			*out.HugeTlb = append(*out.HugeTlb, cgroup2.HugeTlbEntry{HugePageSize: l.Pagesize, Limit: l.Limit})
		}
	}
	return out
}

// setting is one of cgroup v2's own settings, in bytes; nil where there is none.
func setting(r *specs.LinuxResources, name string) *int64 {
	text, ok := r.Unified[name]
	if !ok {
		return nil
	}
	bytes, err := strconv.ParseInt(text, 10, 64)
	if err != nil { // max
		bytes = math.MaxInt64
	}
	return &bytes
}

// makeRoomForSwap raises the limit of memory and swap of a v1 cgroup that is there before that of memory alone, which must
// never be above it.
func (t *Tree) makeRoomForSwap(group string, m *specs.LinuxMemory) error {
	if m == nil || m.Swap == nil {
		return nil
	}
	file := filepath.Join(t.controllerMount("memory"), group, swapLimit)
	now, err := readNumber(file)
	if err != nil || now >= uint64(*m.Swap) {
		return ignoreGone(err)
	}
	return ignoreGone(write(file, strconv.FormatInt(*m.Swap, 10)))
}

// Remove removes the Pod's cgroup and those of its containers from every hierarchy, whatever class it was made in and by
// whatever driver. It kills nothing: while a process is left it fails. A Pod without a cgroup is no error.
func (t *Tree) Remove(pod *v1.Pod) error {
	if pod.UID == "" {
		return fmt.Errorf("remove cgroup of pod %s/%s: it has no uid", pod.Namespace, pod.Name)
	}
	for _, driver := range t.drivers() {
		var errs []error
		for _, class := range classes {
			errs = append(errs, t.remove(driver, t.podPath(driver, class, pod)))
		}
		if err := errors.Join(errs...); err != nil {
			return fmt.Errorf("remove cgroup of pod %s/%s: %w", pod.Namespace, pod.Name, err)
		}
		if err := t.balance(driver, pod); err != nil {
			return fmt.Errorf("share cpu among pods: %w", err)
		}
	}
	return nil
}

// remove removes a cgroup and all below it, unless a process is left in it.
func (t *Tree) remove(driver Driver, group string) error {
	if driver == Systemd {
		return t.removeSlice(group)
	}
	var errs []error
	for _, hierarchy := range t.hierarchies {
		errs = append(errs, removeAll(filepath.Join(hierarchy, group)))
	}
	return errors.Join(errs...)
}

// Prune removes kubepods and its classes where no Pod is left in them. Another agent's Pods are no error.
func (t *Tree) Prune() error {
	var errs []error
	for _, driver := range t.drivers() {
		for _, class := range classes {
			group := t.classPath(driver, class)
			if empty, err := t.empty(group); err != nil || !empty {
				errs = append(errs, err)
				continue
			}
			errs = append(errs, t.remove(driver, group))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("remove %s: %w", path.Join(t.cfg.Root, kubepods), err)
	}
	return nil
}

// empty says whether a cgroup has no children in any hierarchy.
func (t *Tree) empty(group string) (bool, error) {
	for _, hierarchy := range t.hierarchies {
		if children, err := folders(filepath.Join(hierarchy, group)); err != nil || len(children) > 0 {
			return false, err
		}
	}
	return true, nil
}

// removeAll removes a cgroup and all below it, the deepest first. One that is gone is no error.
func removeAll(folder string) error {
	children, err := folders(folder)
	if err != nil {
		return err
	}
	for _, child := range children {
		if err := removeAll(filepath.Join(folder, child)); err != nil {
			return err
		}
	}
	if err := os.Remove(folder); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// folders are the names of the cgroups in a cgroup, none where it does not exist.
func folders(folder string) ([]string, error) {
	entries, err := os.ReadDir(folder)
	if err != nil && !gone(err) {
		return nil, err
	}
	var out []string
	for _, e := range entries {
		if e.IsDir() {
			out = append(out, e.Name())
		}
	}
	return out, nil
}

// cpuMount is the hierarchy that has the cpu controller.
func (t *Tree) cpuMount() string { return t.controllerMount("cpu") }

// controllerMount is the hierarchy that has this controller.
func (t *Tree) controllerMount(name string) string {
	if t.cfg.Unified {
		return t.mount
	}
	return filepath.Join(t.mount, name)
}
