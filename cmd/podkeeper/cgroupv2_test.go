package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"

	"github.com/podkeeper/podkeeper/cgroups"
)

// onCgroupV2 skips a test of what only cgroup v2 has.
func onCgroupV2(t *testing.T) {
	t.Helper()
	if !unified() {
		t.Skip("this host has no cgroup v2 alone, which this is about")
	}
}

// unified says whether the host has cgroup v2 alone.
func unified() bool {
	tree, err := cgroups.Open(cgroups.Config{})
	return err == nil && tree.Config().Unified
}

// group is the folder of the cgroup, of v2, that is so many levels above that of a process.
func (n *node) group(pid, up int) string {
	n.t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil {
		n.t.Fatal(err)
	}
	group := strings.TrimPrefix(strings.TrimSpace(string(text)), "0::")
	for range up {
		group = filepath.Dir(group)
	}
	return filepath.Join("/sys/fs/cgroup", group)
}

// holds waits until files of a cgroup hold what is wanted.
func (n *node) holds(group string, want map[string]string) {
	n.t.Helper()
	n.eventually(group, func() error {
		for name, value := range want {
			got, err := os.ReadFile(filepath.Join(group, name))
			if err != nil {
				return stop(err)
			}
			if strings.TrimSpace(string(got)) != value {
				return fmt.Errorf("%s is %s, want %s", name, strings.TrimSpace(string(got)), value)
			}
		}
		return nil
	})
}

// systemdReloads has systemd read all units anew, and write what it knows of the memory of these cgroups.
func (n *node) systemdReloads(groups ...string) {
	n.t.Helper()
	commands := [][]string{{"daemon-reload"}}
	for _, group := range groups {
		commands = append(commands, []string{"set-property", "--runtime", filepath.Base(group), "MemoryAccounting=yes"})
	}
	for _, args := range commands {
		if out, err := exec.Command("systemctl", args...).CombinedOutput(); err != nil {
			n.t.Fatalf("systemctl %s: %v: %s", strings.Join(args, " "), err, out)
		}
	}
}

// TestMemoryIsProtectedAndThrottled reads back how the memory of Pods of each class is protected and throttled, of their containers and of
// their classes: as they begin, when they are resized, when systemd writes what it knows once more, and when one of them is gone.
func TestMemoryIsProtectedAndThrottled(t *testing.T) {
	t.Parallel()
	onCgroupV2(t)
	n := launch(t, "memoryThrottlingFactor: 0.5", "memoryReservationPolicy: TieredReservation")
	const mebi = 1 << 20
	give := func(guaranteed, request, limit, shared int) {
		n.apply("guaranteed.yaml", simple("guaranteed", forever)+fmt.Sprintf("    resources: {limits: {cpu: 100m, memory: %dMi}}\n", guaranteed))
		n.apply("burstable.yaml", simple("burstable", forever)+fmt.Sprintf("    resources: {requests: {memory: %dMi}, limits: {memory: %dMi}}\n", request, limit))
		n.apply("shared.yaml", simple("shared", forever, fmt.Sprintf("  resources: {requests: {memory: %dMi}, limits: {memory: %dMi}}", shared, 3*shared)))
	}
	give(48, 32, 64, 16)
	n.apply("besteffort.yaml", simple("besteffort", forever))
	pids := map[string]int{}
	for _, name := range []string{"guaranteed", "burstable", "shared", "besteffort"} {
		pids[name] = n.pid(n.awaitReady(name), "app")
	}
	about, err := n.client().Node(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	page := int64(os.Getpagesize())
	half := about.Status.Allocatable.Memory().Value() / 2 / page * page
	type figures struct{ least, low, high int64 } // bytes of memory.min, memory.low and memory.high; high is 0 where it is max
	has := func(name string, up int, want figures) {
		t.Helper()
		high := "max"
		if want.high > 0 {
			high = strconv.FormatInt(want.high, 10)
		}
		n.holds(n.group(pids[name], up), map[string]string{
			"memory.min": strconv.FormatInt(want.least, 10), "memory.low": strconv.FormatInt(want.low, 10), "memory.high": high,
		})
	}
	all := func(guaranteed, request, limit, shared int64) {
		t.Helper()
		node := figures{(guaranteed + request + shared) * mebi, (request + shared) * mebi, 0}
		has("guaranteed", 0, figures{guaranteed * mebi, 0, 0})
		has("guaranteed", 1, figures{guaranteed * mebi, 0, 0})
		has("guaranteed", 2, node)
		has("burstable", 0, figures{0, request * mebi, (request + limit) / 2 * mebi})
		has("burstable", 1, figures{0, request * mebi, 0})
		has("burstable", 2, figures{0, (request + shared) * mebi, 0})
		has("burstable", 3, node)
		has("shared", 0, figures{})
		has("shared", 1, figures{0, shared * mebi, 2 * shared * mebi})
		has("besteffort", 0, figures{0, 0, half})
		has("besteffort", 1, figures{})
		has("besteffort", 2, figures{})
	}
	all(48, 32, 64, 16)
	give(80, 48, 96, 24)
	all(80, 48, 96, 24)
	give(40, 24, 48, 20)
	all(40, 24, 48, 20)
	n.holds(n.group(pids["burstable"], 0), map[string]string{"memory.oom.group": "1"}) // which no update may forget
	if n.systemd() {
		for name, pid := range pids {
			groups := []string{n.group(pid, 0), n.group(pid, 1), n.group(pid, 2)}
			if name == "burstable" {
				groups = append(groups, n.group(pid, 3))
			}
			n.systemdReloads(groups...)
		}
		all(40, 24, 48, 20)
	}
	n.remove("burstable.yaml")
	n.awaitGone("burstable")
	has("shared", 2, figures{0, 20 * mebi, 0})
	has("shared", 3, figures{60 * mebi, 20 * mebi, 0})
	for name, pid := range pids {
		if pod, err := n.get(name); name != "burstable" && (err != nil || containerStatus(pod, "app").RestartCount != 0 || n.pid(pod, "app") != pid) {
			t.Errorf("%s was restarted, or %v", name, err)
		}
	}
}

// TestMoreProcessesThanSystemdGives has a Pod's limit of processes be above what systemd limits a container to that nobody limits.
func TestMoreProcessesThanSystemdGives(t *testing.T) {
	t.Parallel()
	onCgroupV2(t)
	n := launch(t, "podPidsLimit: 1000000")
	n.apply("many.yaml", simple("many", forever))
	pid := n.pid(n.awaitReady("many"), "app")
	for up := range 2 {
		n.holds(n.group(pid, up), map[string]string{"pids.max": "1000000"})
	}
}

// TestSwapIsLimited has Pods on a node with swap: who is Burstable may use the part of it that it requests of the node's memory.
// It runs alone, for the swap is the whole host's.
func TestSwapIsLimited(t *testing.T) {
	onCgroupV2(t)
	if lab.err == nil {
		swapOn(t)
	}
	n := launch(t, "memorySwap: {swapBehavior: LimitedSwap}")
	manifest := func(request int) string {
		return simple("burstable", forever) + fmt.Sprintf("    resources: {requests: {memory: %dMi}, limits: {memory: 128Mi}}\n", request)
	}
	n.apply("burstable.yaml", manifest(32))
	n.apply("guaranteed.yaml", simple("guaranteed", forever)+"    resources: {limits: {cpu: 100m, memory: 32Mi}}\n")
	n.apply("besteffort.yaml", simple("besteffort", forever))
	burstable, guaranteed, besteffort := n.pid(n.awaitReady("burstable"), "app"), n.pid(n.awaitReady("guaranteed"), "app"), n.pid(n.awaitReady("besteffort"), "app")
	about, err := n.client().Node(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	swap, err := cgroups.SwapCapacity()
	if err != nil {
		t.Fatal(err)
	}
	part := func(mebi int64) string {
		page := int64(os.Getpagesize())
		return strconv.FormatInt(int64(float64(mebi<<20)/float64(about.Status.Capacity.Memory().Value())*float64(swap))/page*page, 10)
	}
	check := func(mebi int64) {
		t.Helper()
		n.holds(n.group(burstable, 0), map[string]string{"memory.swap.max": part(mebi), "memory.max": strconv.Itoa(128 << 20)})
		n.holds(n.group(burstable, 1), map[string]string{"memory.swap.max": "max", "memory.max": strconv.Itoa(128 << 20)})
		n.holds(n.group(guaranteed, 0), map[string]string{"memory.swap.max": "0"})
		n.holds(n.group(besteffort, 0), map[string]string{"memory.swap.max": "0"})
	}
	check(32)
	n.apply("burstable.yaml", manifest(64))
	check(64)
	if n.systemd() {
		n.systemdReloads(n.group(burstable, 0), n.group(burstable, 1), n.group(guaranteed, 0), n.group(besteffort, 0))
		check(64)
	}
}

// swapOn gives a host that may be changed swap for as long as a test takes, unless it has some.
func swapOn(t *testing.T) {
	t.Helper()
	if swap, err := cgroups.SwapCapacity(); err != nil || swap > 0 {
		return
	}
	if os.Getenv("PODKEEPER_NODE") != "disposable" {
		t.Skip("this host has no swap, and PODKEEPER_NODE does not say that it is disposable")
	}
	file := filepath.Join(t.TempDir(), "swap")
	if err := os.WriteFile(file, make([]byte, 128<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, command := range []string{"mkswap", "swapon"} {
		if out, err := exec.Command(command, file).CombinedOutput(); err != nil {
			t.Skipf("this host cannot have swap: %s: %v: %s", command, err, out)
		}
	}
	t.Cleanup(func() {
		if out, err := exec.Command("swapoff", file).CombinedOutput(); err != nil {
			t.Errorf("swapoff: %v: %s", err, out)
		}
	})
}

// TestMemoryInUseIsNotTaken limits a container to less memory than it has, while the agent is killed at the worst moment: nothing is
// killed for it, and no throttle is left of it.
func TestMemoryInUseIsNotTaken(t *testing.T) {
	t.Parallel()
	onCgroupV2(t)
	n := launch(t)
	manifest := func(mebi int) string {
		return simple("hoarder", "head -c 20971520 /dev/zero | tail -c 20971520 | sleep 1000000") + fmt.Sprintf("    resources: {limits: {cpu: 200m, memory: %dMi}}\n", mebi)
	}
	n.apply("hoarder.yaml", manifest(64))
	pid := n.pid(n.awaitReady("hoarder"), "app")
	container, pod := n.group(pid, 0), n.group(pid, 1)
	number := func(file string) int {
		text, err := os.ReadFile(filepath.Join(container, file))
		if err != nil {
			t.Fatal(err)
		}
		number, err := strconv.Atoi(strings.TrimSpace(string(text)))
		if err != nil {
			return -1 // max
		}
		return number
	}
	n.eventually("it has 20 MiB", func() error {
		if used := number("memory.current"); used < 20<<20 {
			return fmt.Errorf("it has %d bytes", used)
		}
		return nil
	})
	refused := func() {
		t.Helper()
		told := n.await("hoarder", "keeps its memory", func(p *v1.Pod) bool { return resizeTold(p) == "PodResizeInProgress Error" })
		if got := condition(told, v1.PodResizeInProgress).Message; !strings.HasPrefix(got, `cannot decrease memory limits: attempting to set container "app" memory limit (8388608) below current usage (2`) {
			t.Error(got)
		}
		n.holds(container, map[string]string{"memory.max": strconv.Itoa(64 << 20), "memory.high": "max"})
		n.holds(pod, map[string]string{"memory.max": strconv.Itoa(64 << 20), "memory.high": "max"})
	}
	n.apply("hoarder.yaml", manifest(8))
	refused()
	squeezed := false
	for deadline := time.Now().Add(patience); !squeezed && time.Now().Before(deadline); time.Sleep(50 * time.Microsecond) {
		squeezed = number("memory.high") == 8<<20
	}
	n.kill()
	if number("memory.high") == 8<<20 { // it was killed in time
		t.Log("it is left squeezed")
	}
	n.restart()
	refused()
	n.apply("hoarder.yaml", manifest(64))
	told := n.await("hoarder", "has what it had", func(p *v1.Pod) bool { return resizeTold(p) == "" })
	n.holds(container, map[string]string{"memory.max": strconv.Itoa(64 << 20), "memory.high": "max"})
	if s := containerStatus(told, "app"); s.RestartCount != 0 || n.pid(told, "app") != pid {
		t.Errorf("it was restarted: %+v", s)
	}
	events, err := os.ReadFile(filepath.Join(pod, "memory.events"))
	if err := errors.Join(err, noKill(string(events))); err != nil {
		t.Error(err)
	}
}

// noKill is an error where a cgroup's memory.events tell of one.
func noKill(events string) error {
	for line := range strings.Lines(events) {
		if kind, count, _ := strings.Cut(strings.TrimSpace(line), " "); strings.HasPrefix(kind, "oom") && count != "0" {
			return fmt.Errorf("%s was counted %s times", kind, count)
		}
	}
	return nil
}
