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
	root, err := os.OpenRoot(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return Taken{}, nil
	}
	if err != nil {
		return Taken{}, err
	}
	defer func() { _ = root.Close() }()
	w := walk{root: root, linked: map[uint64]bool{}, pending: []string{"."}}
	var top unix.Stat_t
	if err := unix.Stat(dir, &top); err != nil {
		return Taken{}, err
	}
	w.count(&top)
	w.device = top.Dev
	for len(w.pending) > 0 && ctx.Err() == nil {
		last := len(w.pending) - 1
		next := w.pending[last]
		w.pending = w.pending[:last]
		if err := w.folder(ctx, next); err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.ENOTDIR) {
			return w.taken, err
		}
	}
	return w.taken, nil
}

// walk is one walk through a folder.
type walk struct {
	root    *os.Root
	device  uint64
	linked  map[uint64]bool // inodes of several names that were counted
	pending []string
	taken   Taken
}

// folder counts what is in a folder, and has the folders in it be counted later.
func (w *walk) folder(ctx context.Context, path string) error {
	f, err := w.root.OpenFile(path, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	for ctx.Err() == nil {
		entries, err := f.ReadDir(atOnce)
		for _, e := range entries {
			var is unix.Stat_t
			if err := unix.Fstatat(int(f.Fd()), e.Name(), &is, unix.AT_SYMLINK_NOFOLLOW); err != nil || is.Dev != w.device {
				continue // it is gone, or another file system
			}
			w.count(&is)
			if is.Mode&unix.S_IFMT == unix.S_IFDIR {
				w.pending = append(w.pending, path+"/"+e.Name())
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
