package volumes

import (
	"errors"
	"fmt"
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

// Teardown unmounts everything below the Pod's volumes and deletes them, and the Pod's folder where nothing else is
// in it. What is mounted there is never deleted, only unmounted: where that fails, Teardown fails, and nothing below
// it is touched.
func (v *Volumes) Teardown(uid types.UID) error {
	folder, err := v.pod(uid)
	if err != nil {
		return err
	}
	for _, name := range []string{"volumes", subPathFolder} {
		if err := unmountBelow(filepath.Join(folder, name)); err != nil {
			return fmt.Errorf("unmount volumes of pod %s: %w", uid, err)
		}
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
		if err := deleteIn(pod, name); err != nil {
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

// unmountAll unmounts these mounts, the last mounted first. All are made private before: else unmounting within a copy of
// a shared host tree would unmount the host's own.
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

// deleteIn deletes an entry of a folder and all below it. The kernel stops it at every mount, bind mounts of the same
// file system too.
func deleteIn(parent *os.File, name string) error {
	err := unix.Unlinkat(int(parent.Fd()), name, 0)
	if err == nil || errors.Is(err, unix.ENOENT) {
		return nil
	}
	if !errors.Is(err, unix.EISDIR) {
		return &fs.PathError{Op: "delete", Path: filepath.Join(parent.Name(), name), Err: err}
	}
	fd, err := unix.Openat2(int(parent.Fd()), name, &unix.OpenHow{
		Flags:   unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_NO_XDEV | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_BENEATH,
	})
	if err != nil {
		return &fs.PathError{Op: "open", Path: filepath.Join(parent.Name(), name), Err: err}
	}
	folder := os.NewFile(uintptr(fd), filepath.Join(parent.Name(), name))
	defer folder.Close()
	names, err := folder.Readdirnames(-1)
	if err != nil {
		return err
	}
	for _, child := range names {
		if err := deleteIn(folder, child); err != nil {
			return err
		}
	}
	if err := unix.Unlinkat(int(parent.Fd()), name, unix.AT_REMOVEDIR); err != nil && !errors.Is(err, unix.ENOENT) {
		return &fs.PathError{Op: "delete", Path: folder.Name(), Err: err}
	}
	return nil
}
