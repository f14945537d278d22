package node

import (
	"context"
	"os"
	"os/exec"
	goruntime "runtime"
	"sync"
	"testing"
)

// TestStallsAreToldOf has more work than CPUs, for that harms less than to use up memory, and is told in the same way.
func TestStallsAreToldOf(t *testing.T) {
	t.Parallel()
	const file, trigger = "/proc/pressure/cpu", "some 5000 500000"
	if f, err := os.OpenFile(file, os.O_RDWR, 0); err != nil {
		t.Skip("the kernel does not tell of pressure: ", err)
	} else {
		_ = f.Close()
	}
	ctx, cancel := context.WithCancel(t.Context())
	var work sync.WaitGroup
	for range 4 * goruntime.NumCPU() {
		work.Go(func() { _ = exec.CommandContext(ctx, "/bin/sh", "-c", "while :; do :; done").Run() })
	}
	told := make(chan struct{}, 1)
	watch := make(chan error)
	go func() {
		watch <- watchStalls(ctx, file, trigger, func() {
			select {
			case told <- struct{}{}:
			default:
			}
		})
	}()
	select {
	case <-told:
	case err := <-watch:
		cancel()
		work.Wait()
		t.Skip("the kernel does not take a trigger: ", err)
	}
	cancel()
	if err := <-watch; err != nil {
		t.Error(err)
	}
	work.Wait()
}

func TestAWatchThatCannotBe(t *testing.T) {
	t.Parallel()
	for _, file := range []string{"/proc/pressure/none", "/proc/self/status"} {
		if err := watchStalls(t.Context(), file, memoryStall, func() { t.Error("it tells") }); err == nil {
			t.Errorf("%s is watched", file)
		}
	}
}

// TestAWatchEnds has nobody wait for memory, and yet it ends when it is to.
func TestAWatchEnds(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	n := &Node{}
	if err := n.WatchMemory(ctx, func() {}); err != nil {
		t.Skip("the kernel does not tell of pressure: ", err)
	}
}
