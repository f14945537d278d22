package cgroups

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func TestDetailOfAContainerAndItsPod(t *testing.T) {
	tree := open(t)
	all := list("cpu", "500m", "memory", "64Mi")
	p := uid(pod(container(all, all)), "detail")
	if err := tree.Ensure(p); err != nil {
		t.Fatal(err)
	}
	hold(t, tree, p, "c")
	own, err := tree.Detail(p, "c")
	if err != nil {
		t.Fatal(err)
	}
	if own.Path != tree.path(p, "c") || own.User+own.System < 400*time.Millisecond || own.Processes == 0 || own.RSS < 20<<20 || own.OOMKills != 0 {
		t.Errorf("the container: %+v", own)
	}
	whole, err := tree.Detail(p, "")
	if err != nil || whole.Processes < own.Processes || whole.Path != tree.path(p, "") {
		t.Errorf("the Pod: %+v, %v", whole, err)
	}
	if _, err := tree.Detail(p, "gone"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("one that is gone: %v", err)
	}
}

func TestDetailOnV2(t *testing.T) {
	t.Parallel()
	tree := unifiedTree(t, "kubepods/burstable/poda/c")
	p := burstable("a", "1")
	for file, content := range map[string]string{
		"cpu.stat":       "usage_usec 1500\nuser_usec 1000\nsystem_usec 500\nnr_periods 9\nnr_throttled 3\nthrottled_usec 7000\n",
		"memory.current": "1000\n", "memory.max": "max\n", "memory.stat": "anon 300\nfile 600\nfile_mapped 20\n", "memory.events": "oom_kill 2\n",
		"io.stat": "0:0 rbytes=512 wbytes=1024 rios=1 wios=2 dbytes=0 dios=0\n", "cgroup.procs": "1\n2\n", "pids.current": "5\n",
		"cpu.pressure":    "some avg10=0.00 avg60=0.00 avg300=0.00 total=3000\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=1000\n",
		"memory.pressure": "some avg10=0.00 avg60=0.00 avg300=0.00 total=2000\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n",
	} {
		if err := os.WriteFile(filepath.Join(tree.mount, tree.path(p, "c"), file), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	const ms = time.Millisecond
	want := Detail{
		Usage: Usage{CPU: 1500000, Memory: 1000, WorkingSet: 1000, RSS: 300}, Path: tree.path(p, "c"),
		User: ms, System: ms / 2, Periods: 9, ThrottledPeriods: 3, Throttled: 7 * ms, Cache: 600, MappedFile: 20, OOMKills: 2, Processes: 2, Threads: 5,
		Devices:  []Device{{Name: "0:0", Reads: 1, Writes: 2, BytesRead: 512, BytesWritten: 1024}},
		Pressure: map[string]Pressure{"cpu": {3 * ms, ms}, "memory": {2 * ms, 0}},
	}
	got, err := tree.Detail(p, "c")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(Usage{}, "At")); diff != "" {
		t.Error(diff)
	}
}
