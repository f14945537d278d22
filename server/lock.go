package server

import (
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// A lock that is taken is waited for: a child that an agent was making as it was killed holds that agent's lock until
// the child becomes another program.
const (
	lockPatience = 2 * time.Second
	lockPause    = 10 * time.Millisecond
)

// flock takes the lock on a file. It answers EWOULDBLOCK where another process holds it and does not let go.
func flock(f *os.File) error {
	for deadline := time.Now().Add(lockPatience); ; time.Sleep(lockPause) {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if !errors.Is(err, syscall.EWOULDBLOCK) || time.Now().After(deadline) {
			return err
		}
	}
}

// lockDir takes the lock that a living agent holds.
func lockDir(dir string) (*os.File, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, fmt.Errorf("open run directory: %w", err)
	}
	err = flock(f)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		err = errors.New("another agent is running with it; stop that one, or give this one a --run-dir of its own")
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("lock run directory %s: %w", dir, err), f.Close())
	}
	return f, nil
}

// LockNamespace takes the lock on a namespace of containerd for an agent with this root directory: two agents would end
// each other's containers as strays, also where their directories differ. The lock's file is beside containerd's
// socket, however that is named (podkeeper-<namespace>.lock), or, where it cannot be made there, in /run; it stays, for
// whoever waits for it has it open. The lock is held until it is closed, or its process ends, however it does. An error
// names the agent that holds it.
func LockNamespace(endpoint, namespace, rootDir string) (io.Closer, error) {
	f, err := openLock(lockFiles(endpoint, namespace))
	if err != nil {
		return nil, fmt.Errorf("lock containerd's namespace %s: %w", namespace, err)
	}
	err = flock(f)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		err = fmt.Errorf("another agent%s keeps the Pods in it; stop that one, or give this one a --containerd-namespace of its own", holder(f))
	}
	if err == nil {
		err = sign(f, rootDir)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("lock containerd's namespace %s: %w", namespace, err), f.Close())
	}
	return f, nil
}

// lockFiles are where a namespace's lock may be, the first choice first.
func lockFiles(endpoint, namespace string) []string {
	socket := strings.TrimPrefix(endpoint, "unix://")
	dir := filepath.Dir(socket)
	if real, err := filepath.EvalSymlinks(socket); err == nil {
		dir = filepath.Dir(real)
	} else if real, err := filepath.EvalSymlinks(dir); err == nil { // containerd was not started yet
		dir = real
	}
	h := fnv.New32a()
	h.Write([]byte(dir)) // never fails
	return []string{
		filepath.Join(dir, "podkeeper-"+namespace+".lock"),
		fmt.Sprintf("/run/podkeeper-%s-%08x.lock", namespace, h.Sum32()),
	}
}

// openLock opens the first of these files that can be made.
func openLock(files []string) (*os.File, error) {
	var errs []error
	for _, file := range files {
		if err := os.MkdirAll(filepath.Dir(file), 0o711); err != nil { // as containerd makes it
			errs = append(errs, err)
			continue
		}
		f, err := os.OpenFile(file, os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW, 0o600)
		if err == nil {
			return f, nil
		}
		errs = append(errs, err)
	}
	return nil, errors.Join(errs...)
}

// sign writes down who holds a lock.
func sign(f *os.File, rootDir string) error {
	if err := f.Truncate(0); err != nil {
		return err
	}
	_, err := f.WriteAt([]byte(strconv.Itoa(os.Getpid())+" "+rootDir+"\n"), 0)
	return err
}

// holder says who holds a lock, or nothing where it has not written that down yet.
func holder(f *os.File) string {
	b := make([]byte, 4096)
	n, _ := f.ReadAt(b, 0)
	pid, rootDir, ok := strings.Cut(strings.TrimSpace(string(b[:n])), " ")
	if !ok {
		return ""
	}
	return fmt.Sprintf(" (process %s, --root-dir %s)", pid, rootDir)
}
