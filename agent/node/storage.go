package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	goruntime "runtime"
	"time"

	"golang.org/x/sys/unix"
	v1 "k8s.io/api/core/v1"
)

// Taken is what something takes of a file system: bytes of blocks, and inodes.
type Taken struct{ Bytes, Inodes uint64 }

// Storage is what a Pod has on disk, but for what others own, such as hostPath volumes and images.
type Storage struct {
	Layers  map[string]Taken // writable layers of containers, by name
	Logs    map[string]Taken // of containers, by name, what was rotated included
	Volumes map[string]Taken // emptyDirs on disk, by name
	Files   Taken            // that every container is given and may write to: /etc/hosts and its like, termination messages
	Cost    time.Duration    // of a CPU, that it took to find out
}

// Storage measures what a Pod has on disk, ids being those of its containers that are there, by name. It walks through every
// folder, and tells what it has seen when ctx ends: then it is at least that. What is gone meanwhile is nothing.
func (n *Node) Storage(ctx context.Context, pod *v1.Pod, ids map[string]string) (s Storage, err error) {
	goruntime.LockOSThread() // whose time is counted
	defer goruntime.UnlockOSThread()
	began := threadTime()
	defer func() { s.Cost = threadTime() - began }()
	s = Storage{Layers: map[string]Taken{}, Logs: map[string]Taken{}, Volumes: map[string]Taken{}}
	for name, id := range ids {
		logs, err := n.LogDisk(pod, name)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return s, err
		}
		s.Logs[name] = Taken{logs.Used, logs.InodesUsed}
		dir, err := n.layerDir(ctx, id)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if ctx.Err() != nil {
			return s, nil
		}
		if err != nil {
			return s, err
		}
		if s.Layers[name], err = measure(ctx, dir); err != nil {
			return s, fmt.Errorf("measure writable layer of container %s: %w", name, err)
		}
	}
	dirs, err := n.Volumes.EmptyDirs(pod)
	if err != nil {
		return s, err
	}
	for name, dir := range dirs {
		if s.Volumes[name], err = measure(ctx, dir); err != nil {
			return s, fmt.Errorf("measure volume %s: %w", name, err)
		}
	}
	for _, dir := range []string{n.etcFile(pod, ""), n.terminationDir(pod)} {
		files, err := measure(ctx, dir)
		if err != nil {
			return s, fmt.Errorf("measure %s: %w", dir, err)
		}
		s.Files.Bytes += files.Bytes
		s.Files.Inodes += files.Inodes
	}
	return s, nil
}

// threadTime is the time of a CPU that the present thread has used.
func threadTime() time.Duration {
	var used unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_THREAD, &used); err != nil {
		return 0
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

// maxLayerDirs is of how many containers it is remembered where their layers are, until it is asked anew.
const maxLayerDirs = 1000

// layerDir is the folder of a container's writable layer, which is the same as long as there is one.
func (n *Node) layerDir(ctx context.Context, id string) (string, error) {
	n.mu.Lock()
	dir := n.layerDirs[id]
	n.mu.Unlock()
	if dir != "" {
		return dir, nil
	}
	dir, err := n.Runtime.LayerDir(ctx, id)
	if err != nil {
		return "", err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.layerDirs == nil || len(n.layerDirs) == maxLayerDirs {
		n.layerDirs = map[string]string{}
	}
	n.layerDirs[id] = dir
	return dir, nil
}

// atOnce is how many entries of a folder are read at once: one with millions of them must not fill the agent's memory.
const atOnce = 512

// measure adds up what a folder takes, with all below it on the same file system, as far as ctx allows. Containers change it
// meanwhile: nothing in it leads out of it.
func measure(ctx context.Context, dir string) (Taken, error) {
	w, err := newWalk(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return Taken{}, nil
	}
	if err != nil {
		return Taken{}, err
	}
	defer w.close()
	for len(w.pending) > 0 && ctx.Err() == nil {
		if err := w.step(ctx); err != nil {
			return w.taken, err
		}
	}
	return w.taken, nil
}

// How deep a folder may be below the one that its path is resolved from, and how many of those are open at once. A path is resolved
// folder by folder: from the top, a container that nests thousands of them would make a walk so slow that what lies below is not seen.
const (
	mostDepth = 64
	mostBases = 256
)

// base is an open folder that paths are resolved from.
type base struct {
	root   *os.Root
	wanted int // by how many that are pending, or just being made so
}

// place is where a folder is.
type place struct {
	from  *base
	path  string
	depth int
}

// walk is one walk through a folder.
type walk struct {
	device  uint64
	linked  map[uint64]bool // inodes of several names that were counted
	pending []place
	open    int // bases
	taken   Taken
}

// newWalk begins a walk at a folder, which is counted. It is to be closed.
func newWalk(dir string) (*walk, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	var top unix.Stat_t
	if err := unix.Stat(dir, &top); err != nil {
		return nil, errors.Join(err, root.Close())
	}
	w := &walk{device: top.Dev, linked: map[uint64]bool{}, pending: []place{{from: &base{root: root, wanted: 1}, path: "."}}, open: 1}
	w.count(&top)
	return w, nil
}

// step counts what is in the next folder. What is gone is nothing.
func (w *walk) step(ctx context.Context) error {
	last := len(w.pending) - 1
	next := w.pending[last]
	w.pending = w.pending[:last]
	err := w.folder(ctx, next)
	w.release(next.from)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
		return nil
	}
	return err
}

// release closes a base that nothing is to be resolved from any more.
func (w *walk) release(b *base) {
	if b.wanted--; b.wanted == 0 {
		_ = b.root.Close()
		w.open--
	}
}

// close closes what a walk that was cut off has open.
func (w *walk) close() {
	for _, p := range w.pending {
		w.release(p.from)
	}
}

// below is where a folder's own folders are: deep down, it becomes a base itself. It is wanted until it is released.
func (w *walk) below(f *os.File, at place) place {
	if at.depth >= mostDepth && w.open < mostBases {
		if root, err := os.OpenRoot(fmt.Sprintf("/proc/self/fd/%d", f.Fd())); err == nil {
			w.open++
			return place{from: &base{root: root, wanted: 1}, path: ".", depth: 1}
		}
	}
	at.from.wanted++
	return place{from: at.from, path: at.path, depth: at.depth + 1}
}

// folder counts what is in a folder, and has the folders in it be counted later.
func (w *walk) folder(ctx context.Context, at place) error {
	f, err := at.from.root.OpenFile(at.path, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	below := w.below(f, at)
	defer w.release(below.from)
	for ctx.Err() == nil {
		entries, err := f.ReadDir(atOnce)
		for _, e := range entries {
			var is unix.Stat_t
			if err := unix.Fstatat(int(f.Fd()), e.Name(), &is, unix.AT_SYMLINK_NOFOLLOW); err != nil || is.Dev != w.device {
				continue // it is gone, or another file system
			}
			w.count(&is)
			if is.Mode&unix.S_IFMT == unix.S_IFDIR {
				below.from.wanted++
				w.pending = append(w.pending, place{below.from, below.path + "/" + e.Name(), below.depth})
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// blockSize is that of what stat tells of blocks (stat(2)).
const blockSize = 512

// count counts an inode, once.
func (w *walk) count(is *unix.Stat_t) {
	if is.Nlink > 1 && is.Mode&unix.S_IFMT != unix.S_IFDIR {
		if w.linked[is.Ino] {
			return
		}
		w.linked[is.Ino] = true
	}
	w.taken.Bytes += uint64(is.Blocks) * blockSize
	w.taken.Inodes++
}
