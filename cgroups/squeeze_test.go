package cgroups

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// TestMemoryIsTakenBackOrKept has a process hold 16 MiB that cannot be taken from it, beside 16 MiB of files that can.
func TestMemoryIsTakenBackOrKept(t *testing.T) {
	tree := open(t)
	all := list("cpu", "1", "memory", "128Mi")
	p := uid(pod(container(all, all)), "squeeze")
	if err := tree.Ensure(p); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(tree.controllerMount("memory"), tree.path(p, "c"))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	files := t.TempDir()
	script := "echo $$ > " + dir + "/cgroup.procs; dd if=/dev/zero of=" + files + "/cached bs=1M count=16 conv=fsync 2>/dev/null; head -c 16M /dev/zero | tail -c 16M >" + files + "/pipe"
	if err := exec.Command("mkfifo", files+"/pipe").Run(); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/bin/sh", "-ec", script)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	pipe, err := os.Open(files + "/pipe") // of which nothing is read: tail keeps what it has
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		pipe.Close()
		_ = cmd.Wait()
		for deadline := time.Now().Add(20 * time.Second); os.Remove(dir) != nil && time.Now().Before(deadline); { // its children end in their own time
			time.Sleep(time.Millisecond)
		}
	})
	used := func() uint64 {
		file := "memory.usage_in_bytes"
		if tree.cfg.Unified {
			file = "memory.current"
		}
		n, err := readNumber(filepath.Join(dir, file))
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if used() > 30<<20 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("it has %d bytes", used())
		}
	}
	limits := func() string {
		file := "memory.limit_in_bytes"
		if tree.cfg.Unified {
			file = "memory.high"
		}
		text, err := os.ReadFile(filepath.Join(dir, file))
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(string(text))
	}
	before := limits()
	of := func(mib int64) *specs.LinuxResources { return &specs.LinuxResources{Memory: memory(mib << 20)} }
	had := of(128)
	var full *InUse
	if _, err := tree.Squeeze(p, "c", had, of(8)); !errors.As(err, &full) || full.Usage <= 8<<20 || limits() != before {
		t.Errorf("below what is held: %v, and the limit is %s, was %s", err, limits(), before)
	}
	release, err := tree.Squeeze(p, "c", had, of(24))
	if err != nil {
		t.Fatal(err)
	}
	if used() > 24<<20 {
		t.Errorf("squeezed to 24 MiB it has %d", used())
	}
	if got := limits(); got != strconv.Itoa(24<<20) {
		t.Errorf("meanwhile its limit is %s", got)
	}
	if tree.cfg.Unified { // an agent that was killed leaves it so, which the next one does not take for what there was
		if _, err := tree.Squeeze(p, "c", had, of(8)); !errors.As(err, &full) || limits() != "max" {
			t.Errorf("below what is held, again: %v, and the limit is %s", err, limits())
		}
	}
	if err := release(false); err != nil || limits() != before {
		t.Errorf("released: %v, and the limit is %s, was %s", err, limits(), before)
	}
	if release, err = tree.Squeeze(p, "c", had, of(24)); err == nil {
		err = release(true)
	}
	after := strconv.Itoa(24 << 20)
	if tree.cfg.Unified {
		after = "max"
	}
	if err != nil || limits() != after {
		t.Errorf("with its new limits: %v, and the limit is %s, want %s", err, limits(), after)
	}
	if _, err := tree.Squeeze(p, "c", had, of(256)); err != nil || limits() != after {
		t.Errorf("to more than it had: %v, and the limit is %s, was %s", err, limits(), after)
	}
	if _, err := tree.Squeeze(p, "gone", had, of(24)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("of one that is gone: %v", err)
	}
}
