package volumes

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
	"k8s.io/apimachinery/pkg/types"
)

// unmountRounds bounds how often the mount table is read again after unmounting all that was in it.
const unmountRounds = 16

// Teardown deletes the Pod's volumes, and the Pod's folder where nothing else is in it. What is mounted there is never
// deleted, only unmounted: where that fails, Teardown fails, and nothing below it is touched. When ctx ends it stops
// before the next file, and the next call goes on; a file system that hangs holds it up all the same.
func (v *Volumes) Teardown(ctx context.Context, uid types.UID) error {
	folder, err := v.pod(uid)
	if err != nil {
		return err
	}
	pod, err := os.OpenFile(folder, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("delete volumes of pod %s: %w", uid, err)
	}
	defer pod.Close()
	for _, name := range []string{"volumes", subPathFolder} {
		if err := deleteIn(ctx, pod, name); err != nil {
			return fmt.Errorf("delete volumes of pod %s: %w", uid, err)
		}
	}
	if err := os.Remove(folder); err != nil && !notEmpty(err) && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("delete folder of pod %s: %w", uid, err)
	}
	return nil
}

// unmountBelow unmounts all that is mounted at or below a folder, also what was hidden by another mount.
func unmountBelow(folder string) error {
	real, err := filepath.EvalSymlinks(folder) // as the mount table names it
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for range unmountRounds {
		mounts, err := mountinfo.GetMounts(mountinfo.PrefixFilter(real))
		if err != nil {
			return fmt.Errorf("read mount table: %w", err)
		}
		if len(mounts) == 0 {
			return nil
		}
		if err := unmountAll(mounts); err != nil {
			return err
		}
	}
	return fmt.Errorf("unmount %s: something is mounted there again and again", folder)
}

// unmountAll unmounts these mounts, the last mounted first. All are made private before: else unmounting within a copy
// of a shared host tree would unmount the host's own.
func unmountAll(mounts []*mountinfo.Info) error {
	for _, m := range mounts {
		if err := unix.Mount("", m.Mountpoint, "", unix.MS_PRIVATE, ""); err != nil && !notMounted(err) {
			return fmt.Errorf("make %s private: %w", m.Mountpoint, err)
		}
	}
	for _, m := range slices.Backward(mounts) {
		if err := unmount(m.Mountpoint); err != nil {
			return err
		}
	}
	return nil
}

// unmount unmounts one mount, lazily where it is in use. What is not mounted, or does not exist, is no error.
func unmount(path string) error {
	err := unix.Unmount(path, unix.UMOUNT_NOFOLLOW)
	if errors.Is(err, unix.EBUSY) {
		err = unix.Unmount(path, unix.UMOUNT_NOFOLLOW|unix.MNT_DETACH)
	}
	if err != nil && !notMounted(err) {
		return fmt.Errorf("unmount %s: %w", path, err)
	}
	return nil
}

func notMounted(err error) bool { return errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) }

// mostOpen is how many folders, each in the one before it, a deletion has open at once. Containers nest them as deep as they
// like.
const mostOpen = 64

// deletion deletes an entry of a folder. What lies deeper than mostOpen is moved to its top folder, whose turn comes again.
type deletion struct {
	top   *os.File
	depth int // of folders that are open
	moved int
}

// deleteIn deletes an entry of a folder and all below it.
func deleteIn(ctx context.Context, parent *os.File, name string) error {
	return (&deletion{}).in(ctx, parent, name)
}

// in deletes an entry of a folder and all below it. What is mounted there is unmounted first. That is seen when
// the kernel stops the deletion, and not looked for: the mount table of a host with many Pods is long.
func (d *deletion) in(ctx context.Context, parent *os.File, name string) error {
	for range unmountRounds {
		err := d.unmounted(ctx, parent, name)
		if !errors.Is(err, errMounted) {
			return err
		}
		if err := unmountFound(parent, name); err != nil {
			return err
		}
	}
	return fmt.Errorf("delete %s: something is mounted there again and again", filepath.Join(parent.Name(), name))
}

// errMounted is what an entry cannot be deleted for: something is mounted on it.
var errMounted = errors.New("something is mounted there")

// unmountFound unmounts what is mounted on an entry of a folder, and below that. A file system that is a volume is
// nobody else's, and holds no other mounts but by accident: it goes without a look at the mount table.
func unmountFound(parent *os.File, name string) error {
	path := filepath.Join(parent.Name(), name)
	if isVolume(filepath.Base(parent.Name()), path) && unix.Unmount(path, unix.UMOUNT_NOFOLLOW) == nil {
		return nil
	}
	return unmountBelow(path)
}

// isVolume says that what is mounted at a path, in the folder of this kind of volumes, is the volume itself.
func isVolume(kind, path string) bool {
	switch kind {
	case imageFolder:
		return true // of whatever file system: the caller has mounted it
	case emptyDirFolder, configMapFolder, secretFolder, downwardFolder, projectedFolder:
		var system unix.Statfs_t
		return unix.Statfs(path, &system) == nil &&
			(system.Type == unix.TMPFS_MAGIC || system.Type == unix.HUGETLBFS_MAGIC)
	default:
		return false
	}
}

// unmounted deletes an entry of a folder and all below it. The kernel stops it at every mount, bind mounts of the
// same file system too.
func (d *deletion) unmounted(ctx context.Context, parent *os.File, name string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	failed := func(op string, err error) error {
		if errors.Is(err, unix.EBUSY) || errors.Is(err, unix.EXDEV) {
			err = errMounted
		}
		return &fs.PathError{Op: op, Path: filepath.Join(parent.Name(), name), Err: err}
	}
	err := unix.Unlinkat(int(parent.Fd()), name, 0)
	if err == nil || errors.Is(err, unix.ENOENT) {
		return nil
	}
	if !errors.Is(err, unix.EISDIR) {
		return failed("delete", err)
	}
	if d.depth >= mostOpen {
		err := d.lift(parent, name)
		if err == nil {
			return nil
		}
		if !errors.Is(err, unix.EXDEV) { // which quotas of projects answer, too
			return failed("move", err)
		}
	}
	fd, err := unix.Openat2(int(parent.Fd()), name, &unix.OpenHow{
		Flags:   unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_NO_XDEV | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_BENEATH,
	})
	if err != nil {
		return failed("open", err)
	}
	folder := os.NewFile(uintptr(fd), filepath.Join(parent.Name(), name))
	defer folder.Close()
	if d.depth == 0 {
		d.top = folder
	}
	d.depth++
	err = d.content(ctx, folder)
	d.depth--
	if err != nil {
		return err
	}
	if err := unix.Unlinkat(int(parent.Fd()), name, unix.AT_REMOVEDIR); err != nil && !errors.Is(err, unix.ENOENT) {
		return failed("delete", err)
	}
	return nil
}

// lift moves a folder to the top folder, by a name that nothing there has.
func (d *deletion) lift(parent *os.File, name string) error {
	for {
		d.moved++
		err := unix.Renameat2(int(parent.Fd()), name, int(d.top.Fd()), fmt.Sprintf(".deleted-%d", d.moved), unix.RENAME_NOREPLACE)
		if !errors.Is(err, unix.EEXIST) {
			return err
		}
	}
}

// content deletes what is in a folder, some at a time: there may be more than memory has room for.
func (d *deletion) content(ctx context.Context, folder *os.File) error {
	const some = 1000
	for {
		names, err := folder.Readdirnames(some)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		for _, name := range names {
			if err := d.in(ctx, folder, name); err != nil {
				return err
			}
		}
		// Not every file system goes on where it was when entries have gone meanwhile.
		if _, err := folder.Seek(0, io.SeekStart); err != nil {
			return err
		}
	}
}
