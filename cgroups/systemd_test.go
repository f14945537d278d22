package cgroups

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	v1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"
)

// openSystemd makes a tree of slices of its own, which is gone after the test.
func openSystemd(t *testing.T) *Tree {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root for cgroups")
	}
	root := newRoot()
	tree, err := Open(Config{Root: root, Driver: Systemd, CFSQuota: true})
	if err != nil {
		t.Skipf("needs systemd and cgroup v2: %v", err)
	}
	t.Cleanup(func() {
		unit := strings.ReplaceAll(root, "-", "_") + slice
		if err := tree.systemd.stop(unit); err != nil {
			t.Error(err)
		}
		tree.systemd.disconnect()
	})
	return tree
}

func command(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v: %s", name, strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

func TestSlicesHaveTheirLimitsAndKeepThem(t *testing.T) {
	tree := openSystemd(t)
	all := list("cpu", "333m", "memory", "64Mi")
	g, b := uid(pod(container(all, all)), "g-1"), burstable("b-1", "250m")
	online, err := CPUs()
	if err != nil {
		t.Fatal(err)
	}
	check := func() {
		t.Helper()
		for _, w := range []struct{ group, file, value string }{
			{tree.path(g, ""), "cpu.weight", strconv.FormatUint(Weight(Shares(333)), 10)},
			{tree.path(g, ""), "memory.max", strconv.Itoa(64 << 20)},
			{tree.path(b, ""), "cpu.weight", "35"},
			{tree.path(b, ""), "cpu.max", "max 100000"},
			{tree.path(b, ""), "memory.max", "max"},
			{tree.classPath(Systemd, v1.PodQOSBurstable), "cpu.weight", "35"},
			{tree.classPath(Systemd, v1.PodQOSGuaranteed), "cpu.weight", strconv.FormatUint(Weight(Shares(int64(online)*1000)), 10)},
		} {
			tree.want(t, "", w.group, w.file, w.value)
		}
	}
	for range 2 {
		if err := errors.Join(tree.Ensure(g), tree.Ensure(b)); err != nil {
			t.Fatal(err)
		}
		check()
		tree.want(t, "", tree.path(g, ""), "cpu.max", "33300 100000")
	}
	command(t, "systemctl", "daemon-reload")
	check()
	quota, _, _ := strings.Cut(string(read(t, tree, g, "cpu.max")), " ")
	if n, err := strconv.Atoi(quota); err != nil || n < 33300 || n > 34000 {
		t.Errorf("the quota after a reload: got %q; want what was asked for, at most a percent of a CPU more", quota)
	}
	if got := command(t, "systemctl", "show", "-P", "Description", filepath.Base(tree.path(g, ""))); got != "Pod default/web" {
		t.Errorf("the slice is described as %q", got)
	}
	if err := errors.Join(tree.Remove(g), tree.Remove(b), tree.Remove(b), tree.Prune()); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(tree.mount, tree.classPath(Systemd, v1.PodQOSGuaranteed))); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("kubepods.slice is left: %v", err)
	}
}

func read(t *testing.T, tree *Tree, p *v1.Pod, file string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(tree.mount, tree.path(p, ""), file))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// scope runs a shell command as a container's scope, as the container runtime would.
func scope(t *testing.T, tree *Tree, p *v1.Pod, id, script string) *exec.Cmd {
	t.Helper()
	dir := filepath.Join(tree.mount, tree.path(p, id))
	cmd := exec.Command("systemd-run", "--quiet", "--scope", "--collect", "--slice="+filepath.Base(filepath.Dir(dir)),
		"--unit="+filepath.Base(dir), "--property=MemoryMax=8M", "/bin/sh", "-c", script)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd
}

// await waits until a condition holds.
func await(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !holds(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within a minute", what)
		}
	}
}

func TestScopesAreMeasuredAndKilled(t *testing.T) {
	tree := openSystemd(t)
	p := burstable("k-1", "1")
	if err := tree.Ensure(p); err != nil {
		t.Fatal(err)
	}
	cmd := scope(t, tree, p, "one", "sleep 1000 & wait")
	await(t, "two processes in the scope", func() bool {
		n, err := tree.Processes(p, "one")
		return err == nil && n == 2
	})
	if err := tree.Remove(p); err == nil {
		t.Error("a slice with processes was removed")
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	if err := tree.Kill(t.Context(), p, "one"); err != nil {
		t.Fatal(err)
	}
	<-ended
	sandbox, main := scope(t, tree, p, "sandbox", "exec sleep 1000"), scope(t, tree, p, "main", "exec sleep 1000")
	await(t, "a process in each of two scopes", func() bool {
		n, err := tree.Processes(p, "")
		return err == nil && n == 2
	})
	for _, cmd := range []*exec.Cmd{sandbox, main} {
		go func() { ended <- cmd.Wait() }()
	}
	if err := tree.Kill(t.Context(), p, ""); err != nil {
		t.Fatal(err)
	}
	<-ended
	<-ended
	if err := errors.Join(tree.Remove(p), tree.Remove(p)); err != nil {
		t.Error(err)
	}
}

func TestAnOOMKillIsToldAfterItsScopeIsGone(t *testing.T) {
	tree := openSystemd(t)
	p := burstable("oom-1", "1")
	if err := tree.Ensure(p); err != nil {
		t.Fatal(err)
	}
	if err := scope(t, tree, p, "one", "exec tail /dev/zero").Wait(); err == nil {
		t.Fatal("the process was not killed")
	}
	await(t, "the scope is gone", func() bool {
		_, err := os.Stat(filepath.Join(tree.mount, tree.path(p, "one")))
		return errors.Is(err, fs.ErrNotExist)
	})
	if n, err := tree.OOMKills(p, ""); n == 0 || err != nil {
		t.Errorf("of the Pod: got %d, %v", n, err)
	}
	if _, err := tree.OOMKills(p, "one"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("of the scope: got %v", err)
	}
}

func TestAPodKeepsItsDriver(t *testing.T) {
	tree := openSystemd(t)
	before, err := Open(Config{Root: tree.cfg.Root, Driver: Cgroupfs})
	if err != nil {
		t.Fatal(err)
	}
	p := burstable("d-1", "250m")
	if err := before.Ensure(p); err != nil {
		t.Fatal(err)
	}
	if got := tree.CgroupsPath(p, "c"); strings.Contains(got, ":") {
		t.Errorf("a Pod of the driver cgroupfs has its containers in %s", got)
	}
	if err := errors.Join(tree.Ensure(p), tree.Remove(p), tree.Prune()); err != nil {
		t.Fatal(err)
	}
	if got := tree.CgroupsPath(p, "c"); !strings.Contains(got, ":") {
		t.Errorf("the next one has its containers in %s", got)
	}
	if err := os.Remove(filepath.Join(tree.mount, tree.cfg.Root)); err != nil {
		t.Errorf("the cgroups of the driver cgroupfs are left: %v", err)
	}
}

func TestPropertiesForSystemd(t *testing.T) {
	t.Parallel()
	shares, quota, period, bytes := uint64(1024), int64(33300), uint64(100_000), int64(1<<20)
	for sentence, c := range map[string]struct {
		given *specs.LinuxResources
		want  map[string]uint64
	}{
		"no limits": {
			&specs.LinuxResources{CPU: &specs.LinuxCPU{Shares: &shares}},
			map[string]uint64{"CPUWeight": 100, "CPUQuotaPerSecUSec": math.MaxUint64, "MemoryMax": math.MaxUint64, "MemorySwapMax": math.MaxUint64},
		},
		"a quota, rounded up to a percent, and no swap": {
			&specs.LinuxResources{CPU: &specs.LinuxCPU{Shares: &shares, Quota: &quota, Period: &period}, Memory: &specs.LinuxMemory{Limit: &bytes, Swap: &bytes}},
			map[string]uint64{"CPUWeight": 100, "CPUQuotaPerSecUSec": 340_000, "CPUQuotaPeriodUSec": 100_000, "MemoryMax": 1 << 20, "MemorySwapMax": 0},
		},
		"memory that is protected and throttled, and a limit of processes": {
			&specs.LinuxResources{
				CPU: &specs.LinuxCPU{Shares: &shares}, Pids: &specs.LinuxPids{Limit: ptr.To[int64](7)},
				Unified: map[string]string{memoryMin: "4096", memoryLow: "0", memoryHigh: "max"},
			},
			map[string]uint64{
				"CPUWeight": 100, "CPUQuotaPerSecUSec": math.MaxUint64, "MemoryMax": math.MaxUint64, "MemorySwapMax": math.MaxUint64,
				"MemoryMin": 4096, "MemoryLow": 0, "MemoryHigh": math.MaxUint64, "TasksMax": 7,
			},
		},
	} {
		got := map[string]uint64{}
		for _, p := range properties(c.given) {
			n, ok := p.Value.Value().(uint64)
			if !ok {
				t.Errorf("%s: %s is no number", sentence, p.Name)
			}
			got[p.Name] = n
		}
		if fmt.Sprint(got) != fmt.Sprint(c.want) {
			t.Errorf("%s: got %v, want %v", sentence, got, c.want)
		}
	}
}
