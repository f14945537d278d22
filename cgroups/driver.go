package cgroups

import (
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"

	v1 "k8s.io/api/core/v1"
)

// Driver says who makes cgroups, and so how they are named (cgroupDriver).
type Driver string

// The drivers. With Systemd the tree is made of slices and scopes, named as the kubelet and containerd name them:
//
//	kubepods.slice
//	├── kubepods-pod<uid>.slice                    "-" in names is written "_"
//	│   └── cri-containerd-<container id>.scope    made by the container runtime, of a sandbox by Place
//	├── kubepods-burstable.slice
//	│   └── kubepods-burstable-pod<uid>.slice
//	└── kubepods-besteffort.slice
const (
	Cgroupfs Driver = "cgroupfs" // podkeeper and the container runtime, in the cgroup file system
	Systemd  Driver = "systemd"  // systemd, asked over D-Bus; on cgroup v2 only
)

const (
	slice       = ".slice"
	scopePrefix = "cri-containerd" // by which monitoring knows containerd's containers
)

var classes = []v1.PodQOSClass{v1.PodQOSBurstable, v1.PodQOSBestEffort, v1.PodQOSGuaranteed} // kubepods itself last

// chooseDriver settles who makes cgroups on a host that does or does not run systemd.
func (t *Tree) chooseDriver(running bool) error {
	if running && t.cfg.Unified {
		t.systemd = &systemd{}
	}
	switch t.cfg.Driver {
	case Cgroupfs:
	case Systemd:
		if t.systemd == nil {
			return errors.New("open cgroups: the driver systemd needs systemd as PID 1 and cgroup v2: use cgroupfs on this host")
		}
	case "":
		t.cfg.Driver = Cgroupfs
		if t.systemd != nil {
			t.cfg.Driver = Systemd
		}
	default:
		return fmt.Errorf("open cgroups: unknown driver %q: must be %s or %s", t.cfg.Driver, Systemd, Cgroupfs)
	}
	return nil
}

// drivers are those that may have made cgroups on this host.
func (t *Tree) drivers() []Driver {
	if t.systemd == nil {
		return []Driver{Cgroupfs}
	}
	return []Driver{Cgroupfs, Systemd}
}

// driverOf is the driver that has made the Pod's cgroup, else the one that will: a Pod that runs keeps its own when an
// agent comes that was told to use the other one.
func (t *Tree) driverOf(pod *v1.Pod) Driver {
	for _, driver := range t.drivers() {
		if driver == t.cfg.Driver {
			continue
		}
		if _, err := os.Stat(filepath.Join(t.cpuMount(), t.podPath(driver, Class(pod), pod))); err == nil {
			return driver
		}
	}
	return t.cfg.Driver
}

// CgroupsPath is a container's cgroup as the OCI spec's cgroupsPath wants it: a path from the top of every hierarchy or,
// for systemd, slice:prefix:name.
func (t *Tree) CgroupsPath(pod *v1.Pod, id string) string {
	if driver := t.driverOf(pod); driver == Systemd {
		return path.Base(t.podPath(driver, Class(pod), pod)) + ":" + scopePrefix + ":" + id
	}
	return t.path(pod, id)
}

// path is a container's cgroup from the top of every hierarchy. With no id it is the Pod's.
func (t *Tree) path(pod *v1.Pod, id string) string {
	driver := t.driverOf(pod)
	if driver == Systemd && id != "" {
		id = scopePrefix + "-" + id + ".scope"
	}
	return path.Join(t.podPath(driver, Class(pod), pod), id)
}

// podPath is the Pod's cgroup in a class.
func (t *Tree) podPath(driver Driver, class v1.PodQOSClass, pod *v1.Pod) string {
	return t.below(driver, class, "pod"+string(pod.UID))
}

// classPath is the parent of a class's Pods; Guaranteed Pods are directly in kubepods.
func (t *Tree) classPath(driver Driver, class v1.PodQOSClass) string { return t.below(driver, class) }

// below names a cgroup of a class. A slice carries the names of all its parents
// (kubernetes/kubernetes pkg/kubelet/cm/cgroup_manager_linux.go, CgroupName.ToSystemd).
func (t *Tree) below(driver Driver, class v1.PodQOSClass, names ...string) string {
	parts := []string{t.cfg.Root, kubepods}
	if class == v1.PodQOSBurstable || class == v1.PodQOSBestEffort {
		parts = append(parts, strings.ToLower(string(class)))
	}
	whole := path.Join(append(parts, names...)...)
	if driver == Cgroupfs {
		return whole
	}
	group, name := "/", ""
	for part := range strings.SplitSeq(strings.Trim(whole, "/"), "/") {
		name = strings.TrimPrefix(name+"-"+strings.ReplaceAll(part, "-", "_"), "-")
		group = path.Join(group, name+slice)
	}
	return group
}
