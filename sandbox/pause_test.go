package sandbox

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestPauseBuriesOrphans(t *testing.T) {
	t.Parallel()
	nsenter, err := exec.LookPath("nsenter")
	if err != nil {
		t.Skip("there is no nsenter")
	}
	s := open(t)
	box := strconv.Itoa(start(t, s, Config{ID: "box", Dir: t.TempDir(), SharedPID: true}))
	// Each leaves an orphan, which the pause process, PID 1 there, adopts.
	for range 3 {
		if out, err := exec.Command(nsenter, "-t", box, "-p", "sh", "-c", "(true & true &) ; true").CombinedOutput(); err != nil {
			t.Errorf("%v: %s", err, out)
		}
	}
	eventually(t, "no child is left", func() bool {
		return read(t, "/proc/"+box+"/task/"+box+"/children") == ""
	})
}

// A host that shuts down does not wait for it.
func TestPauseEndsWhereItIsAskedTo(t *testing.T) {
	t.Parallel()
	s := open(t)
	for _, shared := range []bool{false, true} {
		for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
			box := start(t, s, Config{ID: fmt.Sprintf("box %v %v", shared, sig), Dir: t.TempDir(), SharedPID: shared})
			if err := syscall.Kill(box, syscall.SIGCHLD); err != nil {
				t.Fatal(err)
			}
			time.Sleep(10 * time.Millisecond)
			if !runs(box) {
				t.Fatal("it ends with a child")
			}
			if err := syscall.Kill(box, sig); err != nil {
				t.Fatal(err)
			}
			eventually(t, "it ends", func() bool { return !runs(box) })
		}
	}
}

// A stopped process goes on where it was; each of the two states has a call of its own that is interrupted.
func TestPauseGoesOnAfterAStop(t *testing.T) {
	t.Parallel()
	s := open(t)
	stop := func(pid int) error {
		for _, sig := range []syscall.Signal{syscall.SIGSTOP, syscall.SIGCONT} {
			if err := syscall.Kill(pid, sig); err != nil {
				return err
			}
			time.Sleep(10 * time.Millisecond)
		}
		return nil
	}
	box := start(t, s, Config{ID: "box", Dir: t.TempDir(), Cgroup: Placement{Adopt: stop}})
	if err := stop(box); err != nil || !runs(box) {
		t.Errorf("it has ended: %v", err)
	}
}

func TestPauseEndsUnlessItIsLetGo(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("a filter without no_new_privs needs root")
	}
	file := filepath.Join(t.TempDir(), "pause")
	if err := writeProgram(file, 0o755); err != nil {
		t.Fatal(err)
	}
	for sentence, c := range map[string]struct {
		given string
		ends  bool
	}{
		"the pipe is closed": {"", true},
		"a byte comes":       {"\x01", false},
	} {
		cmd := exec.Command(file)
		cmd.Stdin = strings.NewReader(c.given)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() { ended <- cmd.Wait() }()
		if !c.ends {
			eventually(t, sentence+": it closes its pipe", func() bool {
				entries, _ := os.ReadDir(fmt.Sprintf("/proc/%d/fd", cmd.Process.Pid))
				return len(entries) == 2 // the output's
			})
			_ = cmd.Process.Signal(syscall.SIGTERM)
		}
		var code *exec.ExitError
		if err := <-ended; c.ends != (errors.As(err, &code) && code.ExitCode() == 1) {
			t.Errorf("%s: it ends with %v", sentence, err)
		}
	}
}

func TestPauseIsWhatItsSourceBuildsTo(t *testing.T) {
	t.Parallel()
	for arch, compiler := range map[string]string{"amd64": "x86_64-linux-gnu-gcc", "arm64": "aarch64-linux-gnu-gcc"} {
		t.Run(arch, func(t *testing.T) {
			t.Parallel()
			if _, err := exec.LookPath(compiler); err != nil {
				t.Skipf("there is no %s", compiler)
			}
			out := filepath.Join(t.TempDir(), "pause")
			build := exec.Command(compiler, "-nostdlib", "-static", "-s", "-Wl,-n", "-Wl,--build-id=none", "-Wl,-z,noexecstack",
				"-Wl,-z,norelro", "-o", out, "pause/pause_"+arch+".S")
			if said, err := build.CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, said)
			}
			built, err := os.ReadFile(out)
			if err != nil {
				t.Fatal(err)
			}
			kept, err := os.ReadFile("pause/pause_" + arch)
			if err != nil {
				t.Fatal(err)
			}
			if string(built) != string(kept) {
				t.Errorf("pause/pause_%s is not what its source builds to: %d bytes, built %d", arch, len(kept), len(built))
			}
		})
	}
}
