package sandbox

import (
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// program is where the pause process is in its root file system.
const program = "/pause"

// makeRoot makes a mount namespace in which there is nothing but the pause process, and answers its descriptor. The host
// sees no mount of it, and it holds none of the host's, which would keep what is unmounted there busy. Every pause process
// gets a copy: of one mount, where the host may have thousands.
func makeRoot(dir string) (fd int, err error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return -1, fmt.Errorf("make root of sandboxes: %w", err)
	}
	err = onThread(func() error {
		if err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS); err != nil {
			return fmt.Errorf("make mount namespace: %w", err)
		}
		made, err := unix.Open("/proc/thread-self/ns/mnt", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("open mount namespace: %w", err)
		}
		if err := fillRoot(dir); err != nil {
			_ = unix.Close(made)
			return err
		}
		fd = made
		return nil
	})
	if err != nil {
		return -1, fmt.Errorf("make root of sandboxes: %w", err)
	}
	return fd, nil
}

// fillRoot makes the program all that the calling thread's mount namespace has.
func fillRoot(dir string) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	if err := unix.Mount("pause", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=555,size=64k,nr_inodes=8"); err != nil {
		return fmt.Errorf("mount tmpfs: %w", err)
	}
	if err := unix.Chdir(dir); err != nil {
		return fmt.Errorf("enter tmpfs: %w", err)
	}
	// What its user cannot read, processes of the same user in a container cannot trace either.
	if err := writeProgram("."+program, 0o111); err != nil {
		return err
	}
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("pivot root: %w", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("detach the host's root: %w", err)
	}
	if err := unix.Chdir("/"); err != nil {
		return fmt.Errorf("enter root: %w", err)
	}
	const readOnly = unix.MS_RDONLY | unix.MS_NOSUID | unix.MS_NODEV
	if err := unix.Mount("", "/", "", unix.MS_REMOUNT|readOnly, ""); err != nil {
		return fmt.Errorf("remount root: %w", err)
	}
	return nil
}

// writeProgram writes the pause process to a file that is not there. Nothing forks meanwhile: a child would have the file open for
// writing until its exec, and neither could the file be run nor its file system be read-only.
func writeProgram(file string, mode uint32) error {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	fd, err := unix.Open(file, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_CLOEXEC, mode)
	if err != nil {
		return fmt.Errorf("make pause process: %w", err)
	}
	defer unix.Close(fd)
	if _, err := unix.Write(fd, pauseELF); err != nil {
		return fmt.Errorf("write pause process: %w", err)
	}
	if err := unix.Fchmod(fd, mode); err != nil { // whatever the umask
		return fmt.Errorf("write pause process: %w", err)
	}
	return nil
}
