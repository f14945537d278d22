package sandbox

import (
	"errors"
	"fmt"
	"strconv"

	"golang.org/x/sys/unix"
)

// A user namespace can only begin with a process: no thread of this program may enter one. So the pause process begins in one, and with
// it all the namespaces that are to belong to that one. What they need of the host is done to them from outside while it is held.

// secureNoSetuidFixup keeps a thread's capabilities whoever it becomes (capabilities(7), SECBIT_NO_SETUID_FIXUP).
const secureNoSetuidFixup = 1 << 2

// become has the calling thread, and no other, be a user and the group of that number, without any other. It keeps its capabilities.
func become(id uint32) error {
	if err := unix.Prctl(unix.PR_SET_SECUREBITS, secureNoSetuidFixup, 0, 0, 0); err != nil {
		return fmt.Errorf("keep capabilities: %w", err)
	}
	who := uintptr(id)
	if _, _, failed := unix.RawSyscall(unix.SYS_SETGROUPS, 0, 0, 0); failed != 0 {
		return fmt.Errorf("leave groups: %w", failed)
	}
	if _, _, failed := unix.RawSyscall(unix.SYS_SETRESGID, who, who, who); failed != 0 {
		return fmt.Errorf("become group %d: %w", id, failed)
	}
	if _, _, failed := unix.RawSyscall(unix.SYS_SETRESUID, who, who, who); failed != 0 {
		return fmt.Errorf("become user %d: %w", id, failed)
	}
	return nil
}

// settle gives the user namespace of the process, while that is held, its ids, and the others what they are to have.
func (l *launch) settle() error {
	process := "/proc/" + strconv.Itoa(l.pid)
	ids := fmt.Sprintf("0 %d %d", l.cfg.Users.First, l.cfg.Users.Count)
	for _, file := range []string{"/gid_map", "/uid_map"} {
		if err := put(process+file, ids); err != nil {
			return fmt.Errorf("map ids into user namespace: %w", err)
		}
	}
	if l.cfg.KeepNet != nil {
		if err := l.cfg.KeepNet(process + "/ns/net"); err != nil {
			return err
		}
	}
	return onThread(func() error {
		if err := l.join(); err != nil {
			return fmt.Errorf("enter namespaces of pause process: %w", err)
		}
		// Settings of such an IPC namespace may be written by nobody but its root.
		if err := become(l.cfg.Users.First); err != nil {
			return err
		}
		return l.furnish()
	})
}

// join takes the calling thread to the namespaces that the process has begun with.
func (l *launch) join() (err error) {
	flags := l.cfg.shared()
	if l.cfg.KeepNet != nil {
		flags |= unix.CLONE_NEWNET
	}
	pidfd, err := unix.PidfdOpen(l.pid, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unix.Close(pidfd)) }()
	return unix.Setns(pidfd, flags)
}
