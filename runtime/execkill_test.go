package runtime

import (
	"errors"
	"os"
	"os/exec"
	"testing"

	"golang.org/x/sys/unix"
)

// TestAProcessThatBecomesAnother looks at one that becomes another program over and over: it may be seen with its mark or amid
// that, but never as one of somebody else.
func TestAProcessThatBecomesAnother(t *testing.T) {
	cmd := exec.Command("/bin/sh", "-c", `exec "$0" -c "$1" "$0" "$1"`, "/bin/sh", `exec "$0" -c "$1" "$0" "$1"`)
	cmd.Env = append(os.Environ(), execMark+"=1")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	seen := map[marking]int{}
	for range 5000 {
		is, err := marked(cmd.Process.Pid, execMark+"=1")
		if err != nil {
			t.Fatal(err)
		}
		seen[is]++
	}
	if seen[isMarked] == 0 || seen[unmarked] > 0 {
		t.Errorf("marked %d, unknown %d, unmarked %d times", seen[isMarked], seen[unknown], seen[unmarked])
	}
}

// TestWhoHasNoEnvironment has nobody wait for a mark that will not come.
func TestWhoHasNoEnvironment(t *testing.T) {
	bare := exec.Command("/bin/sleep", "1000")
	bare.Env = []string{}
	zombie := exec.Command("/bin/true")
	for _, cmd := range []*exec.Cmd{bare, zombie} {
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	}
	if err := unix.Waitid(unix.P_PID, zombie.Process.Pid, nil, unix.WEXITED|unix.WNOWAIT, nil); err != nil {
		t.Fatal(err)
	}
	for what, pid := range map[string]int{"a process without": bare.Process.Pid, "a zombie": zombie.Process.Pid, "none": 1 << 30} {
		if is, err := marked(pid, execMark+"=1"); is != unmarked || err != nil {
			t.Errorf("%s: %v, %v", what, is, err)
		}
	}
}

// TestAPidThatMeansAnother holds none of a container's processes: it would be killed in place of one.
func TestAPidThatMeansAnother(t *testing.T) {
	if p, err := holdOf("0123456789abcdef", os.Getpid()); !errors.Is(err, unix.ESRCH) {
		t.Errorf("got %v, %v", p, err)
	}
}
