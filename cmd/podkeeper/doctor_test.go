package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// runDoctorWith runs the command and answers its exit status, what it printed and which lines of that are failures.
func runDoctorWith(t *testing.T, args ...string) (status int, out string, failures []string) {
	t.Helper()
	cmd := exec.Command(lab.podkeeper, append([]string{"doctor"}, args...)...)
	b, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if strings.HasPrefix(line, "FAIL") {
			failures = append(failures, line)
		}
	}
	return cmd.ProcessState.ExitCode(), string(b), failures
}

func TestDoctorSaysThatContainerdIsNotThereAndChangesNothing(t *testing.T) {
	if errors.Is(lab.err, errSkip) {
		t.Skip(lab.err)
	} else if lab.err != nil {
		t.Fatal(lab.err)
	}
	dir := t.TempDir()
	in := func(name string) string { return filepath.Join(dir, name) }
	status, out, failures := runDoctorWith(t, "--container-runtime-endpoint", "unix://"+in("none.sock"), "--root-dir", in("root"),
		"--run-dir", in("run"), "--pod-logs-dir", in("logs"), "--pod-manifest-path", in("manifests"), "--cni-conf-dir", in("net.d"))
	if status != 1 || len(failures) != 1 || !strings.Contains(failures[0], "containerd") ||
		!strings.Contains(failures[0], "nothing listens at unix://"+in("none.sock")) || !strings.Contains(failures[0], "start containerd") {
		t.Errorf("exit status %d:\n%s", status, out)
	}
	if !strings.Contains(out, "mkdir -p "+in("manifests")) {
		t.Errorf("nothing says how to make the manifest folder:\n%s", out)
	}
	if made, err := os.ReadDir(dir); err != nil || len(made) > 0 {
		t.Errorf("it has made %v (%v)", made, err)
	}
}

func TestDoctorFindsNothingWrongWhereAnAgentRuns(t *testing.T) {
	t.Parallel()
	n := launch(t)
	flags := []string{
		"--config", n.path("config.yaml"), "--pod-manifest-path", n.path("manifests"), "--root-dir", n.path("root"),
		"--run-dir", n.path("run"), "--pod-logs-dir", n.path("logs"), "--container-runtime-endpoint", "unix://" + lab.containerd.Socket(),
		"--containerd-namespace", n.namespace, "--cni-conf-dir", n.path("net.d"),
	}
	status, out, _ := runDoctorWith(t, flags...)
	if status != 0 {
		t.Errorf("exit status %d:\n%s", status, out)
	}
	for _, want := range []string{lab.containerd.Socket(), "overlayfs below " + filepath.Join(lab.containerd.Dir, "root"), "runc version", n.namespace} {
		if !strings.Contains(out, want) {
			t.Errorf("it does not say %q:\n%s", want, out)
		}
	}
	status, out, failures := runDoctorWith(t, append(flags, "--runtime-handler", "mine=io.containerd.runc.v2,BinaryName=/nowhere/mine")...)
	if status != 1 || len(failures) != 1 || !strings.Contains(failures[0], "/nowhere/mine") {
		t.Errorf("a handler that is not there: exit status %d:\n%s", status, out)
	}
}
