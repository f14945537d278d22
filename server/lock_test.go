package server

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// hold has another open file hold the lock on path for a while, as a process does that a killed agent was making.
func hold(t *testing.T, path string, d time.Duration) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDONLY, 0)
	if err == nil {
		err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	}
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		time.Sleep(d)
		done <- f.Close()
	}()
	t.Cleanup(func() {
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestALockIsWaitedForNotForEver(t *testing.T) {
	t.Parallel()
	for sentence, c := range map[string]struct {
		held    time.Duration
		refused bool
	}{
		"what lets go is waited for":  {300 * time.Millisecond, false},
		"what does not is an agent's": {lockPatience + time.Second, true},
	} {
		t.Run(sentence, func(t *testing.T) {
			t.Parallel()
			dir := runDir(t)
			file := filepath.Join(dir, "podkeeper-x.lock")
			if err := os.WriteFile(file, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			hold(t, dir, c.held)
			hold(t, file, c.held)
			locked := make(chan error, 1)
			go func() {
				l, err := LockNamespace("unix://"+dir+"/containerd.sock", "x", "/root")
				if err == nil {
					err = l.Close()
				}
				locked <- err
			}()
			l, err := Listen(dir)
			if err == nil {
				err = l.Close()
			}
			if err := errors.Join(err, <-locked); (err != nil) != c.refused {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestASecondAgentOnANamespaceIsRefusedByName(t *testing.T) {
	t.Parallel()
	dir := runDir(t)
	real := filepath.Join(dir, "containerd.sock")
	leaveStaleSocket(t, dir)
	if err := errors.Join(os.Rename(filepath.Join(dir, socketName), real), os.Symlink(dir, dir+"-link"), os.Symlink(real, filepath.Join(dir, "other.sock"))); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.Remove(dir + "-link"); err != nil {
			t.Error(err)
		}
	})
	first, err := LockNamespace("unix://"+real, "shop", "/var/lib/one")
	if err != nil {
		t.Fatal(err)
	}
	for _, endpoint := range []string{real, "unix://" + dir + "-link/containerd.sock", dir + "/other.sock"} {
		want := fmt.Sprintf("another agent (process %d, --root-dir /var/lib/one) keeps the Pods in it", os.Getpid())
		if _, err := LockNamespace(endpoint, "shop", "/var/lib/two"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("by %s: got %v, want %q", endpoint, err, want)
		}
	}
	other, err := LockNamespace(real, "other", "/var/lib/two")
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(filepath.Join(dir, "podkeeper-shop.lock"))
	if err != nil || info.Mode() != 0o600 {
		t.Errorf("the lock's file: %v, %v", info, err)
	}
	if err := errors.Join(first.Close(), other.Close()); err != nil {
		t.Fatal(err)
	}
	again, err := LockNamespace(real, "shop", "/var/lib/a longer name than before")
	if err == nil {
		err = again.Close()
	}
	if err != nil {
		t.Errorf("after the first agent: %v", err)
	}
}

func TestWhereALockIsKept(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("needs root for a folder nobody can write to")
	}
	missing := filepath.Join(runDir(t), "not", "yet")
	for _, c := range []struct{ endpoint, want string }{
		{missing + "/containerd.sock", missing}, // containerd was not started yet
		{"/proc/self/containerd.sock", "/run"},  // nothing can be written there
	} {
		namespace := fmt.Sprintf("podkeeper-test-%d", os.Getpid())
		l, err := LockNamespace(c.endpoint, namespace, "/root")
		if err != nil {
			t.Errorf("%s: %v", c.endpoint, err)
			continue
		}
		name := l.(*os.File).Name()
		if got := filepath.Dir(name); got != c.want {
			t.Errorf("%s: the lock is in %s, want %s", c.endpoint, got, c.want)
		}
		if err := errors.Join(os.Remove(name), l.Close()); err != nil {
			t.Error(err)
		}
	}
}
