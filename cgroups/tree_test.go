package cgroups

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sync/errgroup"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
)

func TestMain(m *testing.M) {
	sweep()
	goleak.VerifyTestMain(m)
}

// trees counts those that this run has made.
var trees atomic.Int32

// newRoot is the root of a tree that no other test has.
func newRoot() string { return fmt.Sprintf("podkeeper-test-%d-%d", os.Getpid(), trees.Add(1)) }

// sweep removes the cgroups of runs that were killed.
func sweep() {
	for _, pattern := range []string{"/sys/fs/cgroup/podkeeper-test-*-*", "/sys/fs/cgroup/*/podkeeper-test-*-*"} {
		left, _ := filepath.Glob(pattern)
		for _, folder := range left {
			var pid, n int
			_, err := fmt.Sscanf(filepath.Base(folder), "podkeeper-test-%d-%d", &pid, &n)
			if err == nil && errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
				_ = removeAll(folder)
			}
		}
	}
}

// open makes a tree of its own on the host's cgroups, which is gone after the test.
func open(t testing.TB) *Tree {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root for cgroups")
	}
	root := newRoot()
	tree, err := Open(Config{Root: root, CFSQuota: true, Driver: Cgroupfs})
	if err != nil {
		t.Skipf("needs writable cgroups: %v", err)
	}
	t.Cleanup(func() {
		for _, h := range tree.hierarchies {
			if err := removeAll(filepath.Join(h, root)); err != nil {
				t.Error(err)
			}
		}
	})
	return tree
}

func uid(p *v1.Pod, id string) *v1.Pod {
	p.UID = types.UID(id)
	return p
}

func burstable(id, cpu string) *v1.Pod { return uid(pod(container(list("cpu", cpu), nil)), id) }

// want compares a file of a v1 cgroup.
func (t *Tree) want(tt *testing.T, controller, group, file, value string) {
	tt.Helper()
	b, err := os.ReadFile(filepath.Join(t.controllerMount(controller), group, file))
	if err != nil || strings.TrimSpace(string(b)) != value {
		tt.Errorf("%s/%s: got %q, %v; want %q", group, file, b, err, value)
	}
}

func v1Only(t *testing.T, tree *Tree) {
	t.Helper()
	if tree.cfg.Unified {
		t.Skip("this host has cgroup v2: the figures differ")
	}
}

func TestWhereCgroupsAre(t *testing.T) {
	t.Parallel()
	all := list("cpu", "1", "memory", "1Gi")
	guaranteed, best := pod(container(all, all)), pod(container(nil, nil))
	for _, c := range []struct {
		driver     Driver
		root       string
		pod        *v1.Pod
		path, spec string // of a container; one form for both where spec is empty
	}{
		{Cgroupfs, "/", guaranteed, "/kubepods/podu-1/c", ""},
		{Cgroupfs, "/top", burstable("", "1"), "/top/kubepods/burstable/podu-1/c", ""},
		{Cgroupfs, "/top", best, "/top/kubepods/besteffort/podu-1/c", ""},
		{Systemd, "/", guaranteed, "/kubepods.slice/kubepods-podu_1.slice/cri-containerd-c.scope", "kubepods-podu_1.slice:cri-containerd:c"},
		{
			Systemd, "/", best, "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-podu_1.slice/cri-containerd-c.scope",
			"kubepods-besteffort-podu_1.slice:cri-containerd:c",
		},
		{
			Systemd, "/my-top/a", guaranteed,
			"/my_top.slice/my_top-a.slice/my_top-a-kubepods.slice/my_top-a-kubepods-podu_1.slice/cri-containerd-c.scope",
			"my_top-a-kubepods-podu_1.slice:cri-containerd:c",
		},
	} {
		tree := &Tree{cfg: Config{Root: c.root, Driver: c.driver}}
		uid(c.pod, "u-1")
		if got := tree.path(c.pod, "c"); got != c.path {
			t.Errorf("%s: got path %s, want %s", c.driver, got, c.path)
		}
		if got, want := tree.CgroupsPath(c.pod, "c"), cmp.Or(c.spec, c.path); got != want {
			t.Errorf("%s: got cgroupsPath %s, want %s", c.driver, got, want)
		}
	}
}

func TestWhichDriverIsUsed(t *testing.T) {
	t.Parallel()
	for sentence, c := range map[string]struct {
		asked            Driver
		running, unified bool
		want             Driver
		refused          string
	}{
		"systemd where it is PID 1":            {"", true, true, Systemd, ""},
		"cgroupfs without systemd":             {"", false, true, Cgroupfs, ""},
		"cgroupfs on v1":                       {"", true, false, Cgroupfs, ""},
		"what was asked for":                   {Cgroupfs, true, true, Cgroupfs, ""},
		"systemd on v1 is refused":             {Systemd, true, false, "", "use cgroupfs"},
		"systemd where it is not is refused":   {Systemd, false, true, "", "use cgroupfs"},
		"a driver that nobody knows, likewise": {"fs", true, true, "", "must be systemd or cgroupfs"},
	} {
		tree := &Tree{cfg: Config{Driver: c.asked, Unified: c.unified}}
		err := tree.chooseDriver(c.running)
		if c.refused != "" {
			if err == nil || !strings.Contains(err.Error(), c.refused) {
				t.Errorf("%s: got %v", sentence, err)
			}
		} else if err != nil || tree.Config().Driver != c.want {
			t.Errorf("%s: got %s, %v", sentence, tree.Config().Driver, err)
		}
	}
}

func TestAPodHasItsLimitsInEveryHierarchy(t *testing.T) {
	tree := open(t)
	v1Only(t, tree)
	all := list("cpu", "500m", "memory", "64Mi")
	p := uid(pod(container(all, all)), "g1")
	for range 2 {
		if err := tree.Ensure(p); err != nil {
			t.Fatal(err)
		}
	}
	group := tree.path(p, "")
	tree.want(t, "cpu", group, "cpu.shares", "512")
	tree.want(t, "cpu", group, "cpu.cfs_quota_us", "50000")
	tree.want(t, "memory", group, "memory.limit_in_bytes", strconv.Itoa(64<<20))
	if tree.cfg.CountsSwap {
		tree.want(t, "memory", group, "memory.memsw.limit_in_bytes", strconv.Itoa(64<<20))
		for _, size := range []string{"96Mi", "32Mi"} { // neither may be set first in both cases
			more := list("cpu", "500m", "memory", size)
			if err := tree.Ensure(uid(pod(container(more, more)), "g1")); err != nil {
				t.Errorf("resized to %s: %v", size, err)
			}
		}
		tree.want(t, "memory", group, "memory.memsw.limit_in_bytes", strconv.Itoa(32<<20))
	}
	cpus, err := os.ReadFile(filepath.Join(tree.controllerMount("cpuset"), "cpuset.cpus"))
	if err != nil {
		t.Fatal(err)
	}
	tree.want(t, "cpuset", group, "cpuset.cpus", strings.TrimSpace(string(cpus)))
	for _, name := range []string{"cpu", "memory", "pids", "devices", "freezer", "blkio"} {
		if _, err := os.Stat(filepath.Join(tree.mount, name, group)); err != nil {
			t.Error(err)
		}
	}
}

func TestTheBurstableClassHasTheSumOfItsPods(t *testing.T) {
	tree := open(t)
	v1Only(t, tree)
	class := tree.classPath(Cgroupfs, v1.PodQOSBurstable)
	a, b := burstable("a", "500m"), burstable("b", "250m")
	if err := errors.Join(tree.Ensure(a), tree.Ensure(b), tree.Ensure(uid(pod(container(nil, nil)), "best"))); err != nil {
		t.Fatal(err)
	}
	tree.want(t, "cpu", class, "cpu.shares", "768")
	tree.want(t, "cpu", tree.classPath(Cgroupfs, v1.PodQOSBestEffort), "cpu.shares", "2")
	online, err := CPUs()
	if err != nil {
		t.Fatal(err)
	}
	tree.want(t, "cpu", tree.classPath(Cgroupfs, v1.PodQOSGuaranteed), "cpu.shares", strconv.Itoa(online*1024))

	foreign := filepath.Join(tree.controllerMount("cpu"), class, "podforeign") // another agent's
	if err := errors.Join(os.Mkdir(foreign, 0o755), os.WriteFile(filepath.Join(foreign, "cpu.shares"), []byte("100"), 0o644)); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(tree.cpuMount(), class, "cpu.shares"), []byte("868"), 0o644); err != nil {
		t.Fatal(err) // that agent counts, too
	}
	if err := tree.Remove(a); err != nil {
		t.Fatal(err)
	}
	tree.want(t, "cpu", class, "cpu.shares", "356")
	written := func() error {
		return os.WriteFile(filepath.Join(tree.cpuMount(), class, "cpu.shares"), []byte("50"), 0o644)
	}
	if err := errors.Join(tree.Remove(b), os.Remove(foreign), written(), tree.Remove(b)); err != nil {
		t.Fatal(err)
	}
	tree.want(t, "cpu", class, "cpu.shares", "2")
}

// TestAgentsThatShareAClassAgreeOnItsSum has two agents make and remove Pods at the same time.
func TestAgentsThatShareAClassAgreeOnItsSum(t *testing.T) {
	one := open(t)
	v1Only(t, one)
	other, err := Open(one.cfg)
	if err != nil {
		t.Fatal(err)
	}
	var work errgroup.Group
	for i, tree := range []*Tree{one, other} {
		for j := range 4 {
			work.Go(func() error {
				for k := range 10 {
					p := burstable(fmt.Sprintf("s%d-%d-%d", i, j, k), fmt.Sprintf("%dm", 100+10*j+k))
					if err := tree.Ensure(p); err != nil {
						return err
					}
					if k%3 > 0 {
						if err := tree.Remove(p); err != nil {
							return err
						}
					}
				}
				return nil
			})
		}
	}
	if err := work.Wait(); err != nil {
		t.Fatal(err)
	}
	class := one.classPath(Cgroupfs, v1.PodQOSBurstable)
	pods, err := folders(filepath.Join(one.cpuMount(), class))
	if err != nil || len(pods) != 32 {
		t.Fatalf("got %d Pods, %v; want 32", len(pods), err)
	}
	var sum uint64
	for _, pod := range pods {
		shares, err := one.readShares(filepath.Join(class, pod))
		if err != nil {
			t.Fatal(err)
		}
		sum += shares
	}
	one.want(t, "cpu", class, "cpu.shares", strconv.FormatUint(sum, 10))
}

// TestASumIsCountedAnewAfterAWhile has a Pod vanish that no agent removed.
func TestASumIsCountedAnewAfterAWhile(t *testing.T) {
	tree := open(t)
	v1Only(t, tree)
	class := tree.classPath(Cgroupfs, v1.PodQOSBurstable)
	a, b := burstable("a", "500m"), burstable("b", "250m")
	if err := errors.Join(tree.Ensure(a), tree.Ensure(b), tree.remove(Cgroupfs, tree.path(a, "")), tree.Ensure(b)); err != nil {
		t.Fatal(err)
	}
	tree.want(t, "cpu", class, "cpu.shares", "768")
	tree.ledgers[class].counted = time.Now().Add(-recountEvery - time.Second)
	if err := tree.Ensure(b); err != nil {
		t.Fatal(err)
	}
	tree.want(t, "cpu", class, "cpu.shares", "256")
}

func TestRemoveTakesContainersAlongInEveryHierarchy(t *testing.T) {
	tree := open(t)
	p := burstable("r", "1")
	if err := tree.Ensure(p); err != nil {
		t.Fatal(err)
	}
	for _, h := range tree.hierarchies {
		if err := os.MkdirAll(filepath.Join(h, tree.path(p, "c/nested")), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		if err := tree.Remove(p); err != nil {
			t.Fatal(err)
		}
	}
	if err := tree.Prune(); err != nil {
		t.Fatal(err)
	}
	for _, h := range tree.hierarchies {
		if _, err := os.Stat(filepath.Join(h, tree.cfg.Root, kubepods)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: kubepods is left: %v", h, err)
		}
	}
}

func TestPruneLeavesOtherPods(t *testing.T) {
	tree := open(t)
	p := burstable("o", "1")
	if err := errors.Join(tree.Ensure(p), tree.Prune()); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(tree.cpuMount(), tree.path(p, ""))); err != nil {
		t.Error(err)
	}
}

// start runs a shell with a child in a container's cgroup, in every hierarchy, and returns when both run.
func start(t *testing.T, tree *Tree, p *v1.Pod, id string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("/bin/sh", "-c", "sleep 1000 & echo ready; wait")
	cmd.Stdin = nil
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var joins strings.Builder
	for _, h := range tree.hierarchies {
		folder := filepath.Join(h, tree.path(p, id))
		if err := os.MkdirAll(folder, 0o755); err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(h, "/cpuset") {
			for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
				b, err := os.ReadFile(filepath.Join(h, tree.path(p, ""), file))
				if err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(filepath.Join(folder, file), b, 0o644); err != nil {
					t.Fatal(err)
				}
			}
		}
		fmt.Fprintf(&joins, "echo $$ > %s/cgroup.procs; ", folder)
	}
	cmd.Args[2] = joins.String() + cmd.Args[2]
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := out.Read(make([]byte, 8)); err != nil {
		t.Fatal(err)
	}
	return cmd
}

func TestKillLeavesNothingAlive(t *testing.T) {
	for sentence, prepare := range map[string]func(*Tree, string) error{
		"running": func(*Tree, string) error { return nil },
		"paused": func(tree *Tree, group string) error {
			if tree.cfg.Unified {
				return write(filepath.Join(tree.mount, group, "cgroup.freeze"), "1")
			}
			return write(filepath.Join(tree.controllerMount("freezer"), group, "freezer.state"), "FROZEN")
		},
	} {
		t.Run(sentence, func(t *testing.T) {
			tree := open(t)
			p := burstable("k", "1")
			if err := tree.Ensure(p); err != nil {
				t.Fatal(err)
			}
			one, other := start(t, tree, p, "one"), start(t, tree, p, "other")
			exited := make(chan error, 2)
			go func() { exited <- one.Wait() }()
			for id, want := range map[string]int{"one": 2, "other": 2, "": 4, "never was": 0} {
				if got, err := tree.Processes(p, id); got != want || err != nil {
					t.Errorf("processes of %q: got %d, %v; want %d", id, got, err, want)
				}
			}
			if err := prepare(tree, tree.path(p, "one")); err != nil {
				t.Fatal(err)
			}
			if err := tree.Kill(t.Context(), p, "one"); err != nil {
				t.Fatal(err)
			}
			<-exited
			if pids, err := tree.processes(tree.path(p, "other")); err != nil || len(pids) != 2 {
				t.Errorf("the other container: got pids %v, %v; want two", pids, err)
			}
			if err := tree.Remove(p); err == nil {
				t.Error("a cgroup with processes was removed")
			}
			go func() { exited <- other.Wait() }()
			if err := tree.Kill(t.Context(), p, ""); err != nil {
				t.Fatal(err)
			}
			<-exited
			if err := errors.Join(tree.Kill(t.Context(), p, "never was"), tree.Remove(p), tree.Kill(t.Context(), p, "")); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestAProcessThatMovedAwayIsNotKilled(t *testing.T) {
	t.Parallel()
	if err := killMember("/podkeeper-test-nowhere", os.Getpid()); err != nil { // or this test would be gone
		t.Error(err)
	}
}

func TestFiguresOfACgroupThatIsGone(t *testing.T) {
	tree := open(t)
	p := burstable("gone", "1")
	if _, err := tree.OOMKills(p, "c"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("oom kills: got %v", err)
	}
	if _, err := tree.Shmem(p); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("shared memory: got %v", err)
	}
}

func TestOOMKillsAreCounted(t *testing.T) {
	tree := open(t)
	all := list("cpu", "1", "memory", "8Mi")
	p := uid(pod(container(all, all)), "oom")
	if err := tree.Ensure(p); err != nil {
		t.Fatal(err)
	}
	leaf := ""
	if tree.Config().Unified {
		leaf = "c" // on v2 processes live in leaves only
	}
	dir := filepath.Join(tree.controllerMount("memory"), tree.path(p, leaf))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/bin/sh", "-ec", "echo $$ > "+dir+"/cgroup.procs; exec tail /dev/zero") // tail keeps the whole line
	if err := cmd.Run(); cmd.ProcessState == nil || cmd.ProcessState.ExitCode() != -1 {
		t.Fatalf("the process was not killed: %v", err)
	}
	if n, err := tree.OOMKills(p, leaf); n != 1 || err != nil {
		t.Errorf("got %d, %v; want one kill", n, err)
	}
}

func TestFilesInTmpfsAreTold(t *testing.T) {
	tree := open(t)
	p := burstable("shm", "1")
	if err := tree.Ensure(p); err != nil {
		t.Fatal(err)
	}
	leaf := filepath.Join(tree.controllerMount("memory"), tree.path(p, "c"))
	if err := os.MkdirAll(leaf, 0o755); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join("/dev/shm", filepath.Base(tree.cfg.Root))
	t.Cleanup(func() {
		if err := os.Remove(file); err != nil {
			t.Error(err)
		}
	})
	script := "echo $$ > " + leaf + "/cgroup.procs; dd if=/dev/zero of=" + file + " bs=1M count=4 2>/dev/null"
	if out, err := exec.Command("/bin/sh", "-ec", script).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if got, err := tree.Shmem(p); err != nil || got < 3<<20 || got > 5<<20 { // what each CPU has counted for itself may be missing
		t.Errorf("got %d, %v; want about 4 MiB", got, err)
	}
}

// TestWhatDoesNotDieIsAnError has a cgroup that lists a process which no signal reaches: this one, which is not in it.
func TestWhatDoesNotDieIsAnError(t *testing.T) {
	t.Parallel()
	tree := unifiedTree(t, "kubepods/burstable/poda/c")
	a := burstable("a", "1")
	procs := filepath.Join(tree.mount, tree.path(a, "c"), "cgroup.procs")
	if err := os.WriteFile(procs, []byte(strconv.Itoa(os.Getpid())+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	if err := tree.Kill(t.Context(), a, ""); err == nil || !strings.Contains(err.Error(), "1 processes do not die") || time.Since(begin) > 5*time.Second {
		t.Errorf("got %v after %v", err, time.Since(begin))
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	begin = time.Now()
	if err := tree.Kill(ctx, a, "c"); !errors.Is(err, context.DeadlineExceeded) || time.Since(begin) > time.Second {
		t.Errorf("in less time: got %v after %v", err, time.Since(begin))
	}
}

func TestAPodWithoutAUsableUIDIsRefused(t *testing.T) {
	t.Parallel()
	tree := &Tree{mount: t.TempDir(), cfg: Config{Unified: true}}
	for _, id := range []string{"", "../x", "a/b"} {
		if err := tree.Ensure(burstable(id, "1")); err == nil {
			t.Errorf("uid %q is accepted", id)
		}
	}
	if err := tree.Remove(burstable("", "1")); err == nil {
		t.Error("an empty uid is removed")
	}
}

// unifiedTree is a folder that looks like cgroup v2 as far as files go.
func unifiedTree(t *testing.T, groups ...string) *Tree {
	t.Helper()
	mount := t.TempDir()
	if err := os.WriteFile(filepath.Join(mount, "cgroup.controllers"), []byte("cpuset cpu io memory pids misc\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, group := range append(groups, "/") {
		folder := filepath.Join(mount, group)
		if err := os.MkdirAll(folder, 0o755); err != nil {
			t.Fatal(err)
		}
		for file, content := range map[string]string{"cgroup.subtree_control": "", "cpu.weight": "100\n"} {
			if err := os.WriteFile(filepath.Join(folder, file), []byte(content), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	tree := &Tree{mount: mount, cfg: Config{Root: "/", Driver: Cgroupfs, CFSQuota: true, Unified: true}}
	if err := tree.readControllers(); err != nil {
		t.Fatal(err)
	}
	return tree
}

func TestFilesOnV2(t *testing.T) {
	t.Parallel()
	tree := unifiedTree(t, "kubepods", "kubepods/burstable", "kubepods/besteffort", "kubepods/burstable/poda", "kubepods/burstable/podb")
	limits := list("cpu", "500m", "memory", "64Mi")
	a, b := uid(pod(container(list("cpu", "250m"), limits)), "a"), burstable("b", "250m")
	if err := errors.Join(tree.Ensure(a), tree.Ensure(b)); err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string]string{
		"cgroup.subtree_control":                         "+cpuset +cpu +io +memory +pids",
		"kubepods/burstable/poda/cgroup.subtree_control": "+cpuset +cpu +io +memory +pids",
		"kubepods/burstable/poda/cpu.weight":             "35",
		"kubepods/burstable/poda/cpu.max":                "50000 100000",
		"kubepods/burstable/poda/memory.max":             strconv.Itoa(64 << 20),
		"kubepods/besteffort/cpu.weight":                 "1",
		"kubepods/burstable/cpu.weight":                  strconv.FormatUint(Weight(2*sharesOf(35)), 10),
	} {
		got, err := os.ReadFile(filepath.Join(tree.mount, file))
		if err != nil || strings.TrimSpace(string(got)) != want {
			t.Errorf("%s: got %q, %v; want %q", file, got, err, want)
		}
	}
	events := filepath.Join(tree.mount, tree.path(a, ""), "memory.events")
	if err := os.WriteFile(events, []byte("low 0\noom 2\noom_kill 3\noom_group_kill 1\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if n, err := tree.OOMKills(a, ""); n != 3 || err != nil {
		t.Errorf("oom kills: got %d, %v; want 3", n, err)
	}
	if err := os.WriteFile(filepath.Join(filepath.Dir(events), "memory.stat"), []byte("anon 1\nshmem 40\ninactive_file 7\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if n, err := tree.Shmem(a); n != 40 || err != nil {
		t.Errorf("shared memory: got %d, %v; want 40", n, err)
	}
}

func TestMemoryIsProtectedOnV2(t *testing.T) {
	t.Parallel()
	tree := unifiedTree(t, "kubepods", "kubepods/burstable", "kubepods/besteffort", "kubepods/burstable/podb", "kubepods/podg")
	tree.cfg.ReserveMemory, tree.cfg.ThrottlingFactor, tree.cfg.PidsLimit = true, ptr.To(0.5), 100
	for _, group := range []string{"kubepods", "kubepods/burstable"} {
		for _, file := range []string{memoryMin, memoryLow} {
			if err := os.WriteFile(filepath.Join(tree.mount, group, file), []byte("0\n"), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	all := list("cpu", "1", "memory", "64Mi")
	g, b := uid(pod(container(all, all)), "g"), uid(withPodLevel(pod(container(nil, nil)), list("memory", "32Mi"), list("memory", "64Mi")), "b")
	if err := errors.Join(tree.Ensure(g), tree.Ensure(b)); err != nil {
		t.Fatal(err)
	}
	const mib = 1 << 20
	want := func(figures map[string]uint64) {
		t.Helper()
		for file, want := range figures {
			if got, err := readNumber(filepath.Join(tree.mount, file)); err != nil || got != want {
				t.Errorf("%s: got %d, %v; want %d", file, got, err, want)
			}
		}
	}
	want(map[string]uint64{
		"kubepods/podg/memory.min": 64 * mib, "kubepods/podg/memory.low": 0, "kubepods/podg/pids.max": 100,
		"kubepods/burstable/podb/memory.low": 32 * mib, "kubepods/burstable/podb/memory.min": 0, "kubepods/burstable/podb/memory.high": 48 * mib,
		"kubepods/memory.min": 96 * mib, "kubepods/memory.low": 32 * mib, "kubepods/burstable/memory.low": 32 * mib,
	})
	tree.cfg.ReserveMemory, tree.cfg.ThrottlingFactor = false, nil // the next agent
	if err := tree.Ensure(b); err != nil {
		t.Fatal(err)
	}
	want(map[string]uint64{
		"kubepods/podg/memory.min": 64 * mib, "kubepods/burstable/podb/memory.low": 0, "kubepods/burstable/podb/memory.high": math.MaxInt64,
		"kubepods/memory.min": 64 * mib, "kubepods/memory.low": 0, "kubepods/burstable/memory.low": 0,
	})
	if err := tree.Ensure(g); err != nil {
		t.Fatal(err)
	}
	want(map[string]uint64{"kubepods/podg/memory.min": 0, "kubepods/memory.min": 0})
}

func TestV2WithoutTheMemoryControllerIsRefused(t *testing.T) {
	t.Parallel()
	tree := &Tree{mount: t.TempDir()}
	if err := os.WriteFile(filepath.Join(tree.mount, "cgroup.controllers"), []byte("cpu pids\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := tree.readControllers(); err == nil || !strings.Contains(err.Error(), "memory are needed") {
		t.Errorf("got %v", err)
	}
}
