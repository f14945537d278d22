package volumes

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// change is what is done to each file of a tree.
type change interface {
	// fits says that a file, by its status, needs no change; false is also that the status does not tell.
	fits(st *unix.Stat_t) bool
	// change changes what a handle is of. The handle may give no access (O_PATH); the path is for errors alone.
	change(fd int, path string) error
}

// nameShown is how much of a path that is too long is told, in bytes.
const nameShown = 200

// changeAll changes a folder and all below it. Containers may change the tree meanwhile: every step is taken from the
// handle of the folder before it, and no symlink is followed. The folder itself is changed last, so that one that fits
// was finished. What is mounted in there is changed, too, as by the kubelet.
func changeAll(ctx context.Context, path string, c change) error {
	root, err := os.OpenFile(path, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer root.Close()
	return walk(ctx, root, c)
}

// walk changes all in a folder, and then the folder. Names are read some at a time: there may be more than memory has
// room for.
func walk(ctx context.Context, folder *os.File, c change) error {
	const some = 1000
	for {
		names, err := folder.Readdirnames(some)
		for _, name := range names {
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := visit(ctx, folder, name, c); err != nil {
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
	return c.change(int(folder.Fd()), folder.Name())
}

// visit changes an entry of a folder, and what is in it. One that goes meanwhile, or turns into something else, is
// passed over: who can do that can undo what is done here, too.
func visit(ctx context.Context, folder *os.File, name string, c change) error {
	var st unix.Stat_t
	path := filepath.Join(folder.Name(), name)
	if len(path) >= unix.PathMax { // under the kubelet, too; each folder of the way is open, and its name in memory
		return &fs.PathError{Op: "open", Path: path[:nameShown] + "…", Err: unix.ENAMETOOLONG}
	}
	if err := unix.Fstatat(int(folder.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return passed("stat", path, err)
	}
	isFolder := st.Mode&unix.S_IFMT == unix.S_IFDIR
	if !isFolder && c.fits(&st) {
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
		return c.change(fd, path)
	}
	sub := os.NewFile(uintptr(fd), path)
	defer sub.Close()
	return walk(ctx, sub, c)
}

// passed drops errors that a walk goes on after, as under Kubernetes: the file has gone or was replaced, or its file
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
