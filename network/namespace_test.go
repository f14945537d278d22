package network

import (
	"errors"
	goruntime "runtime"

	"github.com/vishvananda/netns"
)

// within runs f in a network namespace, on a thread that comes home afterwards.
func within(path string, f func()) error {
	goruntime.LockOSThread()
	home, err := netns.Get()
	if err != nil {
		return err
	}
	defer home.Close()
	ns, err := netns.GetFromPath(path)
	if err != nil {
		return err
	}
	defer ns.Close()
	if err := netns.Set(ns); err != nil {
		return err
	}
	f()
	if err := netns.Set(home); err != nil {
		return errors.Join(errors.New("lost in a namespace"), err)
	}
	goruntime.UnlockOSThread()
	return nil
}
