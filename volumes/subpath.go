package volumes

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
	v1 "k8s.io/api/core/v1"
)

// resolveRounds bounds how often a lookup is repeated because someone renames or removes parts of the path meanwhile.
const resolveRounds = 32

// bindings are the subPaths bound for one start of a container.
type bindings struct{ targets []string }

// bind mounts what is at subPath in a volume at target. The kernel resolves the path below the volume's root and gives
// a handle; the handle is what is mounted, so that nothing that happens to the path afterwards matters.
func (b *bindings) bind(volume place, subPath, target string) error {
	if !filepath.IsLocal(subPath) || slices.Contains(strings.Split(subPath, "/"), "..") {
		return fmt.Errorf("subPath %q: want a relative path without \"..\"", subPath)
	}
	root, err := os.OpenFile(volume.path, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return fmt.Errorf("subPath %q: open volume: %w", subPath, err)
	}
	defer root.Close()
	file, err := resolve(root, subPath, !volume.fixed)
	if err != nil {
		if errors.Is(err, unix.EXDEV) || errors.Is(err, unix.ELOOP) {
			return fmt.Errorf("subPath %q: a symlink in it leads out of the volume, or to nowhere: %w", subPath, err)
		}
		return fmt.Errorf("subPath %q: %w", subPath, err)
	}
	defer file.Close()
	if err := makeTarget(file, target); err != nil {
		return fmt.Errorf("subPath %q: make mount point: %w", subPath, err)
	}
	if err := unix.Mount(fmt.Sprintf("/proc/self/fd/%d", file.Fd()), target, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("subPath %q: bind: %w", subPath, err)
	}
	b.targets = append(b.targets, target)
	return nil
}

// OpenFile opens a file of a Pod's volume as a handle that gives no access, but by its name below /proc/self/fd. No symlink
// leads out of the volume. What is no regular file is an error, and what is missing fs.ErrNotExist.
func (v *Volumes) OpenFile(pod *v1.Pod, volume, path string, given Given) (*os.File, error) {
	folder, err := v.pod(pod.UID)
	if err != nil {
		return nil, err
	}
	at, err := locate(pod, folder, volume, given)
	if err != nil {
		return nil, err
	}
	root, err := os.OpenFile(at.path, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, fmt.Errorf("open volume %q: %w", volume, err)
	}
	defer root.Close()
	file, err := below(root, path, 0)
	if err != nil {
		return nil, fmt.Errorf("volume %q: %w", volume, err)
	}
	if info, err := file.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, errors.Join(fmt.Errorf("volume %q: %s is no regular file", volume, path), err, file.Close())
	}
	return file, nil
}

// release unmounts what was bound. What it could not unmount it keeps for another try; Teardown would find it, too.
func (b *bindings) release() error {
	var errs []error
	b.targets = slices.DeleteFunc(b.targets, func(target string) bool {
		err := unmount(target)
		if err == nil {
			err = os.Remove(target)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, fmt.Errorf("release subPath: %w", err))
			return false
		}
		return true
	})
	return errors.Join(errs...)
}

// resolve opens what is at a path in the volume. Missing folders are made, where they are to be, with the mode of the
// volume's own.
func resolve(root *os.File, path string, create bool) (*os.File, error) {
	info, err := root.Stat()
	if err != nil {
		return nil, err
	}
	for range resolveRounds {
		file, err := below(root, path, 0)
		if !errors.Is(err, unix.ENOENT) || !create {
			return file, err
		}
		if err := makeMissing(root, path, unixMode(info.Mode())); err != nil {
			return nil, err
		}
	}
	return nil, fmt.Errorf("open %s: it changes all the time: %w", path, unix.ELOOP)
}

// makeMissing makes the first missing folders of the path, each below the handle of the one before it.
func makeMissing(root *os.File, path string, mode uint32) error {
	parent := root
	parts := strings.Split(filepath.Clean(path), "/")
	for i, part := range parts {
		folder, err := below(root, filepath.Join(parts[:i+1]...), unix.O_DIRECTORY)
		if errors.Is(err, unix.ENOENT) {
			folder, err = makeFolderIn(parent, part, mode)
		}
		if parent != root {
			parent.Close()
		}
		if errors.Is(err, unix.EEXIST) || errors.Is(err, unix.ENOENT) {
			return nil // somebody was faster, or a symlink leads to nowhere: look again
		}
		if err != nil {
			return err
		}
		parent = folder
	}
	return parent.Close()
}

// makeFolderIn makes one folder with exactly this mode and opens it.
func makeFolderIn(parent *os.File, name string, mode uint32) (*os.File, error) {
	if err := unix.Mkdirat(int(parent.Fd()), name, 0o700); err != nil {
		return nil, &fs.PathError{Op: "mkdir", Path: name, Err: err}
	}
	fd, err := unix.Openat(int(parent.Fd()), name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	folder := os.NewFile(uintptr(fd), name)
	if err := unix.Fchmod(fd, mode); err != nil {
		folder.Close()
		return nil, &fs.PathError{Op: "chmod", Path: name, Err: err}
	}
	return folder, nil
}

// below opens a path below a folder as a handle that gives no access. The kernel (5.6 or later) refuses every symlink
// that leads out of the folder with EXDEV, also one that is swapped in meanwhile.
func below(root *os.File, path string, flags uint64) (*os.File, error) {
	how := &unix.OpenHow{
		Flags:   unix.O_PATH | unix.O_CLOEXEC | flags,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_MAGICLINKS,
	}
	var fd int
	err := error(unix.EAGAIN)
	for round := 0; errors.Is(err, unix.EAGAIN) && round < resolveRounds || errors.Is(err, unix.EINTR); round++ {
		fd, err = unix.Openat2(int(root.Fd()), path, how) // EAGAIN: a rename happened anywhere meanwhile
	}
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	return os.NewFile(uintptr(fd), path), nil
}

// makeTarget makes an empty file or folder to mount on, in place of what an earlier start left there.
func makeTarget(source *os.File, target string) error {
	info, err := source.Stat()
	if err != nil {
		return err
	}
	if err := unmount(target); err != nil {
		return err
	}
	if err := os.Remove(target); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(target), 0o750); err != nil {
		return err
	}
	if info.IsDir() {
		return os.Mkdir(target, 0o750)
	}
	f, err := os.OpenFile(target, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o640)
	if err != nil {
		return err
	}
	return f.Close()
}
