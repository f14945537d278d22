package cgroups

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	v1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"
)

// hold starts a process in a container's cgroup that uses half a second of a CPU, by its own count, and then holds 20 MiB
// until the test ends.
func hold(t *testing.T, tree *Tree, p *v1.Pod, id string) {
	t.Helper()
	var joins strings.Builder
	for _, controller := range []string{"cpu", "cpuacct", "memory", "blkio", "pids"} { // on v2 the same folder
		folder := filepath.Join(tree.controllerMount(controller), tree.path(p, id))
		if err := os.MkdirAll(folder, 0o755); err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&joins, "echo $$ > %s/cgroup.procs; ", folder)
	}
	const use = `while read -r _ _ _ _ _ _ _ _ _ _ _ _ _ user system _ < /proc/$$/stat && [ $((user + system)) -lt 50 ]; do :; done; ` +
		`held=$(head -c 20M /dev/zero | tr '\0' x); echo ready; read -r end`
	cmd := exec.Command("/bin/sh", "-c", joins.String()+use)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = stdin.Close()
		_ = cmd.Wait()
	})
	if _, err := io.ReadFull(stdout, make([]byte, len("ready\n"))); err != nil {
		t.Fatal(err)
	}
}

func TestUsageOfAContainerItsPodAndTheNode(t *testing.T) {
	tree := open(t)
	all := list("cpu", "1", "memory", "64Mi")
	p := uid(pod(container(all, all)), "usage")
	if err := tree.Ensure(p); err != nil {
		t.Fatal(err)
	}
	hold(t, tree, p, "c")
	node, nodeErr := tree.NodeUsage()
	whole, podErr := tree.Usage(p, "")
	own, err := tree.Usage(p, "c")
	if err := errors.Join(err, podErr, nodeErr); err != nil {
		t.Fatal(err)
	}
	for what, u := range map[string]Usage{"the container": own, "the Pod": whole, "the node": node} {
		if u.CPU < 4e8 || u.WorkingSet < 20<<20 || u.WorkingSet > u.Memory || u.RSS < 20<<20 || u.PageFaults == 0 {
			t.Errorf("%s uses %+v", what, u)
		}
	}
	if own.WorkingSet > 64<<20 || whole.Limit != 64<<20 || own.Limit != 0 {
		t.Errorf("the container uses %+v, the Pod %+v", own, whole)
	}
	if capacity, err := MemoryCapacity(); err != nil || node.Limit != uint64(capacity) || node.WorkingSet > node.Limit {
		t.Errorf("the node uses %+v of %d: %v", node, capacity, err)
	}
	if counts := own.Swap != nil; counts != tree.cfg.CountsSwap {
		t.Errorf("swap is counted: %v, want %v", counts, tree.cfg.CountsSwap)
	}
}

func TestUsageOfACgroupThatIsGone(t *testing.T) {
	for what, tree := range map[string]*Tree{"on this host": open(t), "on v2": unifiedTree(t)} {
		if _, err := tree.Usage(burstable("gone", "1"), "c"); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestUsageOnV2(t *testing.T) {
	t.Parallel()
	for what, c := range map[string]struct {
		swaps bool
		files map[string]string
		want  Usage
	}{
		"with a limit": {
			files: map[string]string{
				"cpu.stat": "usage_usec 1500\nuser_usec 1000\nsystem_usec 500\n", "memory.current": "1000\n", "memory.max": "5000\n",
				"memory.stat": "anon 300\ninactive_file 400\nactive_file 100\npgfault 7\npgmajfault 2\n", "memory.swap.current": "9\n",
			},
			want: Usage{CPU: 1500000, Memory: 1000, WorkingSet: 600, RSS: 300, Limit: 5000, PageFaults: 7, MajorPageFaults: 2},
		},
		"without one, and with swap": {
			swaps: true,
			files: map[string]string{
				"cpu.stat": "usage_usec 1\n", "memory.current": "1000\n", "memory.max": "max\n", "memory.stat": "anon 300\n", "memory.swap.current": "9\n",
			},
			want: Usage{CPU: 1000, Memory: 1000, WorkingSet: 1000, RSS: 300, Swap: ptr.To[uint64](9)},
		},
		"files were dropped between two readings": {
			files: map[string]string{"cpu.stat": "usage_usec 0\n", "memory.current": "1000\n", "memory.max": "max\n", "memory.stat": "inactive_file 1400\n"},
			want:  Usage{Memory: 1000},
		},
	} {
		t.Run(what, func(t *testing.T) {
			tree := unifiedTree(t, "kubepods/burstable/poda/c")
			tree.cfg.CountsSwap = c.swaps
			p := burstable("a", "1")
			for file, content := range c.files {
				if err := os.WriteFile(filepath.Join(tree.mount, tree.path(p, "c"), file), []byte(content), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			got, err := tree.Usage(p, "c")
			if err != nil || got.At.IsZero() {
				t.Errorf("at %v: %v", got.At, err)
			}
			if diff := cmp.Diff(c.want, got, cmpopts.IgnoreFields(Usage{}, "At")); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestUsageOfTheNodeOnV2(t *testing.T) {
	t.Parallel()
	tree := unifiedTree(t)
	for file, content := range map[string]string{"cpu.stat": "usage_usec 2\n", "memory.stat": "anon 300\ninactive_file 4096\n"} {
		if err := os.WriteFile(filepath.Join(tree.mount, file), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	u, err := tree.NodeUsage()
	if err != nil || u.CPU != 2000 || u.RSS != 300 || u.Memory == 0 || u.WorkingSet != u.Memory-4096 || u.Limit <= u.Memory {
		t.Errorf("it uses %+v: %v", u, err)
	}
}
