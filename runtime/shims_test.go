package runtime

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/moby/sys/mountinfo"
)

// newShims is a Runtime whose shims are made by the test.
func newShims(t *testing.T) *Runtime {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("shims' sockets need root")
	}
	r := &Runtime{cfg: Config{Endpoint: t.TempDir() + "/containerd.sock", Namespace: "test", Log: slog.New(slog.DiscardHandler)}, closed: make(chan struct{})}
	if err := os.MkdirAll(filepath.Dir(r.shimSocket("box")), 0o711); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		close(r.closed)
		r.shims.settling.Wait()
		if err := r.releaseShim("box"); err != nil {
			t.Error(err)
		}
	})
	return r
}

// shim listens where the shim of a sandbox does, until the test ends or it is closed.
func (r *Runtime) shim(t *testing.T, sandbox string) net.Listener {
	t.Helper()
	l, err := net.Listen("unix", r.shimSocket(sandbox))
	if err != nil {
		t.Fatal(err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	t.Cleanup(func() { l.Close() })
	return l
}

func (r *Runtime) guarded(t *testing.T, sandbox string) bool {
	t.Helper()
	mounted, err := mountinfo.Mounted(r.shimSocket(sandbox))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return mounted
}

func TestTheFirstOfManyContainersStartsTheShim(t *testing.T) {
	t.Parallel()
	r := newShims(t)
	var work sync.WaitGroup
	var started, together atomic.Int64
	meet := make(chan struct{})
	for range 4 {
		work.Go(func() {
			err := r.throughShim(t.Context(), "box", func() error {
				if !listens(r.shimSocket("box")) {
					started.Add(1)
					time.Sleep(50 * time.Millisecond)
					r.shim(t, "box")
					return nil
				}
				if !r.guarded(t, "box") {
					t.Error("its socket can be taken away")
				}
				if together.Add(1) == 3 {
					close(meet)
				}
				<-meet // the others, all at once
				return nil
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	work.Wait()
	if started.Load() != 1 || together.Load() != 3 {
		t.Errorf("%d shims, %d containers at once by it", started.Load(), together.Load())
	}
}

func TestAShimThatHasEndedIsReplaced(t *testing.T) {
	t.Parallel()
	r := newShims(t)
	r.cfg.Namespace = "ended"
	for range 2 {
		var l net.Listener
		if err := r.throughShim(t.Context(), "box", func() error { l = r.shim(t, "box"); return nil }); err != nil {
			t.Fatal(err)
		}
		if err := r.throughShim(t.Context(), "box", func() error { return nil }); err != nil || r.guarded(t, "box") {
			t.Fatalf("its socket is guarded though nothing is being created: %v", err)
		}
		if err := r.SettleShim(t.Context(), "box"); err != nil || !listens(r.shimSocket("box")) { // it has other containers
			t.Errorf("a shim that lives loses its place: %v", err)
		}
		l.Close()
		eventually(t, "no child of another test has a copy, until it becomes its program", func() bool { return !listens(r.shimSocket("box")) })
	}
	if err := r.SettleShim(t.Context(), "box"); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(r.shimSocket("box")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("its place is not free: %v", err)
	}
	// Also where it takes its time.
	r.shims.settling.Wait()  // who looks after the first two, and would take the next one's place for theirs: it comes in nobody's turn
	slow := r.shim(t, "box") // whose guard was left by an agent that was killed
	if err := errors.Join(r.guardShim("box", &turn{}), r.SettleShim(t.Context(), "box")); err != nil || !r.guarded(t, "box") {
		t.Fatalf("it is not guarded: %v", err)
	}
	slow.Close()
	eventually(t, "its place is free later", func() bool { _, err := os.Stat(r.shimSocket("box")); return errors.Is(err, os.ErrNotExist) })
	if err := r.throughShim(t.Context(), "box", func() error { return errors.New("no") }); err == nil || r.guarded(t, "box") {
		t.Errorf("a shim that does not start: %v", err)
	}
}

// With the last task of a shim goes the shim, and whatever it was just creating.
func TestNoTaskIsCreatedWhileOneIsDeleted(t *testing.T) {
	t.Parallel()
	r := newShims(t)
	r.cfg.Namespace = "turns"
	r.shim(t, "box")
	begun, end, settled := make(chan struct{}), make(chan struct{}), make(chan struct{})
	go func() {
		<-begun
		_ = r.SettleShim(t.Context(), "box")
		close(settled)
	}()
	err := r.throughShim(t.Context(), "box", func() error {
		close(begun)
		select {
		case <-settled:
			return errors.New("it is not waited for")
		case <-time.After(10 * shimEndLooks * shimEndPause):
		}
		impatient, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if err := r.SettleShim(impatient, "box"); !errors.Is(err, context.DeadlineExceeded) {
			return fmt.Errorf("who has no time to wait is told %w", err)
		}
		close(end)
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	<-end
	<-settled
	eventually(t, "turns are not kept", func() bool {
		r.shims.mu.Lock()
		defer r.shims.mu.Unlock()
		return len(r.shims.turns) == 0
	})
}

func TestShimsThatAreLostEnd(t *testing.T) {
	t.Parallel()
	r := newShims(t)
	r.cfg.Namespace = "lost"
	shim := func(sandbox string) *exec.Cmd {
		socket, err := r.shim(t, sandbox).(*net.UnixListener).File()
		if err != nil {
			t.Fatal(err)
		}
		defer socket.Close()
		cmd := exec.Command("/proc/self/exe")
		cmd.Args = []string{"/usr/bin/containerd-shim-runc-v2", "-namespace", r.cfg.Namespace, "-id", "long gone", "-address", r.cfg.Endpoint}
		cmd.Env, cmd.ExtraFiles = []string{asShim + "=1"}, []*os.File{socket}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
		return cmd
	}
	kept, lost, mine := shim("kept"), shim("lost"), shim("box")
	for _, sandbox := range []string{"kept", "lost", "box"} {
		if err := r.guardShim(sandbox, &turn{}); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { _ = r.releaseShim("kept") })
	var late string
	r.EndLostShims(func() []string { late = "kept"; return []string{late, "box", "none"} })
	ended := func(cmd *exec.Cmd) bool {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", cmd.Process.Pid))
		return err != nil || strings.Contains(string(stat), ") Z ")
	}
	_ = lost.Wait()
	if !ended(lost) || ended(kept) || ended(mine) {
		t.Errorf("ended: lost %v, kept %v, another %v", ended(lost), ended(kept), ended(mine))
	}
	if _, err := os.Stat(r.shimSocket("lost")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("its socket is left: %v", err)
	}
	if err := r.EndShim("box"); err != nil {
		t.Fatal(err)
	}
	_ = mine.Wait()
	if !ended(mine) || ended(kept) || r.guarded(t, "box") {
		t.Errorf("ended: its own %v, kept %v", ended(mine), ended(kept))
	}
	for range 2 {
		if err := r.EndShim("never was"); err != nil {
			t.Error(err)
		}
	}
}

func TestOnlyWhatAShimMetIsTriedAgain(t *testing.T) {
	t.Parallel()
	for said, want := range map[string]bool{
		"failed to create shim task: ttrpc: closed: unknown":                                                                                true,
		"failed to connect: dial unix /run/containerd/s/0: connect: connection refused":                                                     true,
		`connection error: desc = "transport: Error while dialing: dial unix /run/containerd/containerd.sock: connect: connection refused"`: false,
		"OCI runtime create failed: exec: no such file":                                                                                     false,
	} {
		if got := shimEnded(errors.New(said)); got != want {
			t.Errorf("%s: %v", said, got)
		}
	}
}
