package network

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	goruntime "runtime"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// NetNS is where the network namespace of a sandbox is, or will be, pinned.
func (n *Network) NetNS(id string) string { return filepath.Join(n.cfg.RunDir, "netns", id) }

// CreateNetNS makes a network namespace with its loopback up, and pins it at NetNS(id). One that is there is kept.
func (n *Network) CreateNetNS(id string) error {
	if err := checkID(id); err != nil {
		return fmt.Errorf("create network namespace: %w", err)
	}
	if n.pinned(id) != "" {
		return nil
	}
	return n.pin(id, inNewNetNS)
}

// KeepNetNS brings up the loopback of a network namespace that somebody else has made, and pins it at NetNS(id). What is pinned there
// is of a sandbox that never was complete, and makes way.
func (n *Network) KeepNetNS(id, made string) error {
	if err := n.unpin(id); err != nil {
		return err
	}
	ns, err := netns.GetFromPath(made)
	if err != nil {
		return fmt.Errorf("keep network namespace %s: %w", made, err)
	}
	defer ns.Close()
	return n.pin(id, func(do func() error) error { return inNetNS(ns, do) })
}

// pin pins the namespace that within does something in.
func (n *Network) pin(id string, within func(do func() error) error) error {
	path := n.NetNS(id)
	if err := os.MkdirAll(filepath.Dir(path), 0o711); err != nil {
		return fmt.Errorf("create network namespace: %w", err)
	}
	f, err := os.OpenFile(path, os.O_RDONLY|os.O_CREATE, 0o444)
	if err != nil {
		return fmt.Errorf("create network namespace: %w", err)
	}
	if err := f.Close(); err != nil {
		return fmt.Errorf("create network namespace: %w", err)
	}
	done := make(chan error, 1)
	go func() {
		done <- within(func() error {
			if err := loopbackUp(); err != nil {
				return err
			}
			return unix.Mount("/proc/thread-self/ns/net", path, "", unix.MS_BIND, "")
		})
	}()
	if err := <-done; err != nil {
		return fmt.Errorf("create network namespace %s: %w", path, err)
	}
	return nil
}

// inNewNetNS does something in a new namespace, as awayFromHome does.
func inNewNetNS(do func() error) error {
	return awayFromHome(func() error { return unix.Unshare(unix.CLONE_NEWNET) }, do)
}

// inNetNS does something in a namespace, as awayFromHome does.
func inNetNS(ns netns.NsHandle, do func() error) error {
	return awayFromHome(func() error { return netns.Set(ns) }, do)
}

// awayFromHome takes its thread into another namespace, does something there, and goes home. A thread that does not find
// home stays locked, and so ends with its goroutine, which must be one of its own.
func awayFromHome(leave, do func() error) error {
	goruntime.LockOSThread()
	home, err := netns.Get()
	if err != nil {
		goruntime.UnlockOSThread()
		return fmt.Errorf("open the host's namespace: %w", err)
	}
	defer home.Close()
	if err := leave(); err != nil {
		goruntime.UnlockOSThread()
		return fmt.Errorf("enter network namespace: %w", err)
	}
	err = do()
	if homeErr := netns.Set(home); homeErr != nil {
		return errors.Join(err, fmt.Errorf("return to the host's namespace: %w", homeErr))
	}
	goruntime.UnlockOSThread()
	return err
}

func loopbackUp() error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("find loopback: %w", err)
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		return fmt.Errorf("bring loopback up: %w", err)
	}
	return nil
}

// pinned is the path of a sandbox's namespace while there is one, "" otherwise, as CNI wants it said.
func (n *Network) pinned(id string) string {
	var st unix.Statfs_t
	if err := unix.Statfs(n.NetNS(id), &st); err != nil || st.Type != unix.NSFS_MAGIC {
		return ""
	}
	return n.NetNS(id)
}

// HasNetNS says whether a sandbox's namespace can be entered by new containers.
func (n *Network) HasNetNS(id string) bool { return n.pinned(id) != "" }

// unpin lets go of a namespace: with its last process gone, the kernel takes it down.
func (n *Network) unpin(id string) error {
	if err := checkID(id); err != nil {
		return fmt.Errorf("delete network namespace: %w", err)
	}
	path := n.NetNS(id)
	for {
		err := unix.Unmount(path, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
		if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) {
			break // nothing is mounted there any more
		}
		if err != nil {
			return fmt.Errorf("unmount network namespace %s: %w", path, err)
		}
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("delete network namespace: %w", err)
	}
	return nil
}
