package node

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
	v1 "k8s.io/api/core/v1"

	"github.com/podkeeper/podkeeper/cgroups"
)

// Disks are the file systems that a node may run out of. They may be one and the same.
type Disks struct {
	Root   Disk // of the root directory
	Images Disk // of images: of content or of layers, whichever is fuller
	Layers Disk // of writable layers
}

// layersDirFor is how long it is taken for granted where containerd has its folders: it may be started anew with others.
const layersDirFor = 5 * time.Minute

// storageDirs are containerd's folders, and when it was asked for them.
type storageDirs struct {
	at     time.Time
	layers string
	all    []string
}

// Disks looks at the node's file systems.
func (n *Node) Disks(ctx context.Context) (d Disks, err error) {
	dirs := n.dirs.Load()
	if dirs == nil || time.Since(dirs.at) > layersDirFor {
		if dirs, err = n.askForDirs(ctx); err != nil {
			return d, err
		}
		n.dirs.Store(dirs)
	}
	if d.Root, err = n.RootDisk(); err != nil {
		return d, err
	}
	if d.Layers, err = fileSystem(dirs.layers); err != nil {
		n.dirs.Store(nil)
		return d, err
	}
	_, d.Images, err = fullest(dirs.all)
	return d, err
}

func (n *Node) askForDirs(ctx context.Context) (*storageDirs, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	all, err := n.Runtime.ImageDirs(ctx)
	if err != nil {
		return nil, err
	}
	layers, err := n.Runtime.LayersDir(ctx)
	return &storageDirs{time.Now(), layers, all}, err
}

// Tasks counts the processes and threads of the node, and how many there may be.
func (n *Node) Tasks() (running, most int64, err error) { return cgroups.Tasks() }

// Processes counts those of a Pod.
func (n *Node) Processes(pod *v1.Pod) (int, error) { return n.Cgroups.Processes(pod, "") }

// memoryPressure is where the kernel tells for how long tasks had to wait for memory (Documentation/accounting/psi.rst), and
// memoryStall what is told of: 150 ms of a second.
const (
	memoryPressure = "/proc/pressure/memory"
	memoryStall    = "some 150000 1000000"
)

// WatchMemory calls short, until ctx ends, when tasks have to wait for memory, at most once a second. An error says that the
// kernel does not tell.
func (n *Node) WatchMemory(ctx context.Context, short func()) error {
	return watchStalls(ctx, memoryPressure, memoryStall, short)
}

func watchStalls(ctx context.Context, file, trigger string, stalled func()) error {
	f, err := os.OpenFile(file, os.O_RDWR|unix.O_NONBLOCK, 0)
	if err != nil {
		return fmt.Errorf("watch pressure: %w", err)
	}
	defer f.Close()
	if _, err := f.WriteString(trigger + "\x00"); err != nil {
		return fmt.Errorf("watch pressure: %w", err)
	}
	wake, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return fmt.Errorf("watch pressure: %w", err)
	}
	woken := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(woken)
		_, _ = unix.Write(wake, []byte{1, 0, 0, 0, 0, 0, 0, 0})
	})
	defer func() {
		if !stop() {
			<-woken // it has the descriptor until then
		}
		unix.Close(wake)
	}()
	for {
		// Go's own poller knows nothing of POLLPRI, by which the kernel tells.
		polled := []unix.PollFd{{Fd: int32(f.Fd()), Events: unix.POLLPRI}, {Fd: int32(wake), Events: unix.POLLIN}}
		_, err := unix.Poll(polled, -1)
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return fmt.Errorf("watch pressure: %w", err)
		case polled[0].Revents&unix.POLLERR != 0:
			return errors.New("watch pressure: the kernel has given up")
		case polled[0].Revents&unix.POLLPRI != 0:
			stalled()
		}
	}
}
