package volumes

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
	v1 "k8s.io/api/core/v1"
)

// grouping is what fsGroup makes of a volume (pkg/volume/volume_linux.go): all that is in it gets the group, which may
// read and write, or only read; what is made in its folders later gets the group, too.
type grouping struct {
	gid      int
	readOnly bool
}

// nameShown is how much of a path that is too long is told, in bytes.
const nameShown = 200

// bits are the permissions that a file of this mode gets.
func (g grouping) bits(mode uint32) uint32 {
	bits := uint32(0o660)
	if g.readOnly {
		bits = 0o440
	}
	switch mode & unix.S_IFMT {
	case unix.S_IFDIR:
		return bits | 0o110 | unix.S_ISGID
	case unix.S_IFLNK:
		return 0 // a symlink has no permissions of its own
	default:
		return bits
	}
}

// fits says that a file has the group and the permissions.
func (g grouping) fits(st *unix.Stat_t) bool {
	bits := g.bits(st.Mode)
	return int64(st.Gid) == int64(g.gid) && st.Mode&bits == bits
}

// apply changes a folder and all below it. Containers may change the tree meanwhile: every step is taken from the
// handle of the folder before it, and no symlink is followed. The folder itself is changed last, so that one that fits
// (all that OnRootMismatch looks at) was finished. What is mounted in there is changed, too, as by the kubelet.
func (g grouping) apply(ctx context.Context, path string, policy v1.PodFSGroupChangePolicy) error {
	if policy == v1.FSGroupChangeOnRootMismatch {
		var st unix.Stat_t
		if err := unix.Stat(path, &st); err != nil {
			return &fs.PathError{Op: "stat", Path: path, Err: err}
		}
		if g.fits(&st) {
			return nil
		}
	}
	root, err := os.OpenFile(path, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer root.Close()
	return g.walk(ctx, root)
}

// walk changes all in a folder, and then the folder. Names are read some at a time: there may be more than memory has
// room for.
func (g grouping) walk(ctx context.Context, folder *os.File) error {
	const some = 1000
	for {
		names, err := folder.Readdirnames(some)
		for _, name := range names {
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := g.visit(ctx, folder, name); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
	}
	return g.change(int(folder.Fd()), folder.Name())
}

// visit changes an entry of a folder, and what is in it. One that goes meanwhile, or turns into something else, is
// passed over: who can do that can undo what is done here, too.
func (g grouping) visit(ctx context.Context, folder *os.File, name string) error {
	var st unix.Stat_t
	path := filepath.Join(folder.Name(), name)
	if len(path) >= unix.PathMax { // under the kubelet, too; each folder of the way is open, and its name in memory
		return &fs.PathError{Op: "open", Path: path[:nameShown] + "…", Err: unix.ENAMETOOLONG}
	}
	if err := unix.Fstatat(int(folder.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return passed("stat", path, err)
	}
	isFolder := st.Mode&unix.S_IFMT == unix.S_IFDIR
	if !isFolder && g.fits(&st) {
		return nil
	}
	flags := unix.O_NOFOLLOW | unix.O_CLOEXEC
	if isFolder {
		flags |= unix.O_RDONLY | unix.O_DIRECTORY
	} else {
		flags |= unix.O_PATH // nothing is woken up: it may be a pipe or a device
	}
	fd, err := unix.Openat(int(folder.Fd()), name, flags, 0)
	if err != nil {
		return passed("open", path, err)
	}
	if !isFolder {
		defer unix.Close(fd)
		return g.change(fd, path)
	}
	sub := os.NewFile(uintptr(fd), path)
	defer sub.Close()
	return g.walk(ctx, sub)
}

// change changes what a handle is of. The mode comes from the same handle: taken from the path, that of another file
// could be put in its place.
func (g grouping) change(fd int, path string) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return &fs.PathError{Op: "stat", Path: path, Err: err}
	}
	if g.fits(&st) {
		return nil
	}
	if err := unix.Fchownat(fd, "", -1, g.gid, unix.AT_EMPTY_PATH); err != nil {
		return passed("chown", path, err)
	}
	bits := g.bits(st.Mode)
	if bits == 0 {
		return nil
	}
	// Also where the bits were there before: a change of the group takes the setuid and setgid bits away.
	if err := chmodHandle(fd, st.Mode&0o7777|bits); err != nil {
		return passed("chmod", path, err)
	}
	return nil
}

// passed drops errors that fsGroup goes on after, as under Kubernetes: the file has gone or was replaced, or its file
// system does not let anybody change it.
func passed(op, path string, err error) error {
	for _, harmless := range []error{
		unix.ENOENT, unix.ENOTDIR, unix.ELOOP, unix.EPERM, unix.EACCES, unix.EROFS, unix.EOPNOTSUPP,
	} {
		if errors.Is(err, harmless) {
			return nil
		}
	}
	return &fs.PathError{Op: op, Path: path, Err: err}
}
