package runtime

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// pipesDir is where in a sandbox's folder the pipes of its containers are.
const pipesDir = "io"

// shmSize is the size of a Pod's /dev/shm, as CRI runtimes have it.
const shmSize = "65536k"

// Shm is the Pod's /dev/shm on the host.
func Shm(sandboxDir string) string { return filepath.Join(sandboxDir, "shm") }

// MakeSandboxDir makes what the containers of a sandbox have of its folder: the pipes of their output and, unless they use
// the host's, /dev/shm, which belongs to the root of their user namespace, with a SELinux label unless that is empty. What is there
// already is kept.
func MakeSandboxDir(dir string, hostIPC bool, users Users, label string, pipes []string) error {
	if err := MakePipes(dir, pipes); err != nil {
		return err
	}
	if hostIPC {
		return nil
	}
	return mountShm(Shm(dir), users, label)
}

// mountShm mounts the Pod's /dev/shm once.
func mountShm(dir string, users Users, label string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("create shm: %w", err)
	}
	if mounted, err := mountinfo.Mounted(dir); err != nil || mounted {
		return err
	}
	options := fmt.Sprintf("mode=1777,size=%s,uid=%d,gid=%d", shmSize, users.First, users.First)
	if label != "" {
		options += "," + contextOption(label)
	}
	if err := unix.Mount("shm", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, options); err != nil {
		return fmt.Errorf("mount shm at %s: %w", dir, err)
	}
	return nil
}

// DeleteSandboxDir removes a sandbox's pipes and /dev/shm from its folder, and mapped mounts that were left there. What is gone is no
// error, and so is no folder.
func DeleteSandboxDir(dir string) error {
	if dir == "" {
		return nil
	}
	if err := unix.Unmount(Shm(dir), unix.MNT_DETACH); err != nil && err != unix.EINVAL && err != unix.ENOENT {
		return fmt.Errorf("unmount %s: %w", Shm(dir), err)
	}
	if err := os.Remove(Shm(dir)); err != nil && !os.IsNotExist(err) {
		return fmt.Errorf("remove sandbox: %w", err)
	}
	if err := os.RemoveAll(filepath.Join(dir, pipesDir)); err != nil {
		return fmt.Errorf("remove sandbox: %w", err)
	}
	left, _ := os.ReadDir(filepath.Join(dir, mappedDir)) // none is none
	for _, e := range left {
		if err := clearMapped(filepath.Join(dir, mappedDir, e.Name())); err != nil {
			return err
		}
	}
	if err := os.Remove(filepath.Join(dir, mappedDir)); err != nil && !os.IsNotExist(err) {
		return fmt.Errorf("remove sandbox: %w", err)
	}
	return nil
}
