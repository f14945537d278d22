package node

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
	v1 "k8s.io/api/core/v1"

	"github.com/podkeeper/podkeeper/agent/plan"
	"github.com/podkeeper/podkeeper/cgroups"
	"github.com/podkeeper/podkeeper/network"
)

// Usage is what is used of CPUs and memory.
type Usage = cgroups.Usage

// Detail is what a cgroup has used beyond that.
type Detail = cgroups.Detail

// Device is what went to and from a block device.
type Device = cgroups.Device

// Pressure is how long something was waited for.
type Pressure = cgroups.Pressure

// Interface is what went through a network interface.
type Interface = network.Interface

// Disk is a file system, or what is used of one. Space is in bytes.
type Disk struct {
	At                  time.Time // when it was read
	Capacity, Available uint64
	Inodes, InodesFree  uint64
	Used, InodesUsed    uint64
	ID                  unix.Fsid // of two file systems it is not the same
}

// Usage is what a container, or with no id the whole Pod, uses. What is gone is an error that wraps fs.ErrNotExist.
func (n *Node) Usage(pod *v1.Pod, id string) (Usage, error) { return n.Cgroups.Usage(pod, id) }

// Detail is what a container, or with no id the whole Pod, has used. What is gone is an error that wraps fs.ErrNotExist.
func (n *Node) Detail(pod *v1.Pod, id string) (Detail, error) { return n.Cgroups.Detail(pod, id) }

// Limits are what a container may use: shares of the CPU, so much of it in each period, and bytes of memory. 0 is no limit.
type Limits struct {
	Shares, Memory uint64
	Quota, Period  time.Duration
}

// Limits are those that a Pod gives one of its containers.
func (n *Node) Limits(pod *v1.Pod, container string) (l Limits) {
	for _, c := range plan.Containers(pod) {
		if c.Name != container {
			continue
		}
		r := cgroups.ContainerResources(pod, c, n.Cgroups.Config())
		l.Shares = *r.CPU.Shares
		l.Period = n.Cgroups.Config().Period()
		if r.CPU.Quota != nil {
			l.Quota = time.Duration(*r.CPU.Quota) * time.Microsecond
		}
		if r.Memory != nil {
			l.Memory = uint64(*r.Memory.Limit)
		}
	}
	return l
}

// Capacity is what the node has of CPUs and memory.
func (n *Node) Capacity() v1.ResourceList { return n.capacity() }

// NodeUsage is what everything on the node uses. Its limit is what the node has.
func (n *Node) NodeUsage() (Usage, error) { return n.Cgroups.NodeUsage() }

// Traffic is what went through a Pod's interfaces, or without a Pod through the node's. A Pod on the host's network has none, nor
// has one whose sandbox is gone.
func (n *Node) Traffic(pod *v1.Pod) ([]Interface, error) {
	if pod == nil {
		return n.Network.Traffic("")
	}
	id := n.Sandboxes.Recorded(n.runDir(pod))
	if id == "" || pod.Spec.HostNetwork {
		return nil, nil
	}
	return n.Network.Traffic(id)
}

// RootDisk is the file system of the root directory.
func (n *Node) RootDisk() (Disk, error) { return fileSystem(n.RootDir) }

// LogDisk is the file system of logs, and what those of a container take of it, what was rotated included.
func (n *Node) LogDisk(pod *v1.Pod, container string) (Disk, error) {
	d, err := fileSystem(n.LogsDir)
	if err != nil {
		return Disk{}, err
	}
	d.Used, d.InodesUsed = 0, 0
	files, err := os.ReadDir(filepath.Join(n.logDir(pod), container))
	if err != nil {
		return Disk{}, fmt.Errorf("list logs: %w", err)
	}
	for _, f := range files {
		switch file, err := f.Info(); {
		case errors.Is(err, fs.ErrNotExist): // it was rotated away
		case err != nil:
			return Disk{}, fmt.Errorf("measure log: %w", err)
		default:
			d.Used += uint64(file.Size())
			d.InodesUsed++
		}
	}
	return d, nil
}

func fileSystem(dir string) (Disk, error) {
	at := time.Now()
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return Disk{}, fmt.Errorf("measure file system of %s: %w", dir, err)
	}
	size := uint64(s.Bsize)
	return Disk{
		At: at, Capacity: s.Blocks * size, Available: s.Bavail * size, Used: (s.Blocks - s.Bfree) * size,
		Inodes: s.Files, InodesFree: s.Ffree, InodesUsed: s.Files - s.Ffree, ID: s.Fsid,
	}, nil
}

// Booted is when the node was started.
func (n *Node) Booted() (time.Time, error) {
	var up unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &up); err != nil {
		return time.Time{}, fmt.Errorf("read uptime: %w", err)
	}
	return time.Now().Add(-time.Duration(up.Nano())), nil
}
