package cgroups

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"time"

	"github.com/containerd/cgroups/v3/cgroup1"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
	v1 "k8s.io/api/core/v1"
)

// Placement says how a process gets into a cgroup that no container runtime makes. Each part may be empty.
type Placement struct {
	Dir   string              // of v2's hierarchy, on hybrid hosts too: a folder that a process can be cloned into
	Tasks []string            // of v1's hierarchies: files that a thread enters by writing 0, and what it forks with it
	Adopt func(pid int) error // has systemd make the cgroup around a process
}

// v2Hierarchy is where hybrid hosts have the empty v2 hierarchy, by which their systemd knows what belongs to a service.
const v2Hierarchy = "unified"

// Place makes a cgroup in the Pod's for its sandbox of this id, with the least share of the CPUs; for systemd, Adopt does.
// The Pod's own must be there.
func (t *Tree) Place(pod *v1.Pod, id string) (Placement, error) {
	driver, group := t.driverOf(pod), t.path(pod, id)
	if driver == Systemd {
		slice, unit := path.Base(path.Dir(group)), path.Base(group)
		return Placement{Adopt: func(pid int) error {
			return t.systemd.startScope(unit, slice, "Sandbox of Pod "+pod.Namespace+"/"+pod.Name, pid)
		}}, nil
	}
	place, err := t.place(group)
	if err != nil {
		return Placement{}, fmt.Errorf("make cgroup %s: %w", group, err)
	}
	return place, nil
}

func (t *Tree) place(group string) (Placement, error) {
	if t.cfg.Unified {
		dir := filepath.Join(t.mount, group)
		if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return Placement{}, err
		}
		return Placement{Dir: dir}, write(t.cpuFile(group), fmt.Sprint(Weight(minShares)))
	}
	shares := uint64(minShares)
	limits := &specs.LinuxResources{CPU: &specs.LinuxCPU{Shares: &shares}}
	if _, err := cgroup1.New(cgroup1.StaticPath(group), limits); err != nil { // which also copies what cpuset must have
		return Placement{}, err
	}
	var place Placement
	for _, hierarchy := range t.hierarchies {
		dir := filepath.Join(hierarchy, group)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return Placement{}, err
		}
		if filepath.Base(hierarchy) == v2Hierarchy {
			place.Dir = dir
		} else {
			place.Tasks = append(place.Tasks, filepath.Join(dir, "tasks"))
		}
	}
	return place, nil
}

// busyFor is how long the last of a cgroup may take to leave it: a process that is dead already, or the thread that forked
// it.
const busyFor = 100 * time.Millisecond

// Displace removes a cgroup that Place has made, in which no process is left. One that is gone is no error.
func (t *Tree) Displace(pod *v1.Pod, id string) error {
	group := t.path(pod, id)
	if t.driverOf(pod) == Systemd {
		return nil // a scope goes with its last process
	}
	for deadline := time.Now().Add(busyFor); ; time.Sleep(firstPause) {
		err := t.remove(Cgroupfs, group)
		if err == nil || !errors.Is(err, unix.EBUSY) || time.Now().After(deadline) {
			return err
		}
	}
}
