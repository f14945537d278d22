package doctor

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// kubelet has one run with these arguments.
func (w *world) kubelet(args ...string) {
	w.write("/proc/77/comm", "kubelet\n")
	w.write("/proc/77/cmdline", strings.Join(append([]string{"/usr/bin/kubelet"}, args...), "\x00")+"\x00")
}

func TestAKubeletWithTheSameCgroupRoot(t *testing.T) {
	rival := []Finding{{"kubelet", Fail, "process 77 has the cgroup root / as podkeeper has"}}
	runAll(t, map[string]row{
		"and no configuration": {func(w *world) { w.kubelet() }, rival},
		"by a file that says nothing of it": {
			func(w *world) {
				w.kubelet("--config", "/k.yaml")
				w.write("/proc/77/root/k.yaml", "kind: KubeletConfiguration\n")
			},
			rival,
		},
		"by a flag over a file": {
			func(w *world) {
				w.kubelet("--config=k.yaml", "--cgroup-root=/")
				w.write("/proc/77/cwd/k.yaml", "cgroupRoot: /other\n")
			},
			rival,
		},
		"which is not the top": {
			func(w *world) { w.a.CgroupRoot = "podkeeper"; w.kubelet("--cgroup-root", "/podkeeper/") },
			[]Finding{{"kubelet", Fail, "write cgroupRoot: /podkeeper/podkeeper into the agent's --config file"}},
		},
		"but no cgroups of Pods": {
			func(w *world) { w.kubelet("--cgroups-per-qos=false") },
			[]Finding{{"kubelet", OK, "process 77 has no cgroups of Pods"}},
		},
		"is not one with another root": {
			func(w *world) { w.kubelet("--config=/k.yaml"); w.write("/proc/77/root/k.yaml", "cgroupRoot: /other\n") },
			[]Finding{{"kubelet", OK, "process 77 has cgroup root /other, podkeeper /"}},
		},
		"cannot be told from one": {
			func(w *world) { w.kubelet("--config=/k.yaml") },
			[]Finding{{"kubelet", Warn, "the cgroup root of process 77 cannot be told: read its --config /k.yaml"}},
		},
		"is not one in a container": {
			func(w *world) {
				w.kubelet()
				w.must(os.MkdirAll(w.h.at("/proc/77/ns"), 0o755))
				w.must(os.Symlink("cgroup:[1]", w.h.at("/proc/77/ns/cgroup")))
				w.must(os.Symlink("cgroup:[2]", w.h.at("/proc/self/ns/cgroup")))
			},
			nil,
		},
	})
}

// TestARivalOnThisHost runs a shell by the name of kubelet, with a kubelet's arguments and file.
func TestARivalOnThisHost(t *testing.T) {
	shell, err := os.ReadFile("/bin/sh")
	if err != nil {
		t.Skip(err)
	}
	dir := t.TempDir()
	kubelet, config := filepath.Join(dir, "kubelet"), filepath.Join(dir, "config.yaml")
	root := fmt.Sprintf("/podkeeper-test-%d", os.Getpid())
	if err := errors.Join(os.WriteFile(kubelet, shell, 0o755), os.WriteFile(config, []byte("cgroupRoot: "+root+"\n"), 0o644)); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(kubelet, "-c", "echo ready; read line", "kubelet", "--config", config)
	in, inErr := cmd.StdinPipe()
	out, outErr := cmd.StdoutPipe()
	if err := errors.Join(inErr, outErr, cmd.Start()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		_ = cmd.Wait()
	})
	if _, err := out.Read(make([]byte, 8)); err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf("process %d has the cgroup root %s", cmd.Process.Pid, root)
	if got := RivalKubelets(root); len(got) != 1 || !strings.Contains(got[0].Text, want) {
		t.Errorf("got %v, want %q", got, want)
	}
	for _, f := range RivalKubelets(root + "/other") {
		if strings.Contains(f.Text, strconv.Itoa(cmd.Process.Pid)) {
			t.Errorf("with another root: %s", f.Text)
		}
	}
}
