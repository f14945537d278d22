package nodetest

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"
)

const mebi = 1 << 20

// limits are what the kernel must hold of one cgroup.
type limits struct{ weight, cpu, memory, oomGroup string }

const (
	noCPULimit = "max 100000"
	noLimit    = "max"
)

// weights maps thousandths of a CPU to the cpu.weight of a container: runc has had another formula since 1.3.2.
var weights = map[bool]map[int]string{
	false: {0: "1", 100: "4", 250: "10"},
	true:  {0: "1", 100: "17", 250: "35"},
}

// TestServiceGivesEachClassItsCgroups reads back the kernel's files of classes, Pods, containers and their processes.
func TestServiceGivesEachClassItsCgroups(t *testing.T) {
	h := open(t)
	h.limited(h.onePodOfEachClass(), "1")
	h.oomScores()
}

// TestServiceKeepsItsCgroupsWhenSystemdReloads makes systemd write what it believes once more.
func TestServiceKeepsItsCgroupsWhenSystemdReloads(t *testing.T) {
	h := open(t)
	pods := h.onePodOfEachClass()
	h.systemctl("daemon-reload")
	// Systemd applies its own view of a unit to the kernel when the unit, or one beside it, changes.
	h.systemctl("restart", "podkeeper")
	h.limited(pods, "") // but for what systemd forgets: OOMPolicy= of scopes came with version 253, and runc does not set it
	h.oomScores()
}

// limited compares cgroups with what the manifests of onePodOfEachClass ask for; group is memory.oom.group of
// containers.
func (h *host) limited(pods map[string]*v1.Pod, group string) {
	h.t.Helper()
	tasks := h.tasks()
	weight := weights[h.newRunc()]
	// 1000m of one CPU are 1024 shares; the Pods of a class: 100m are 102, none are 2.
	want := map[string]limits{
		class(""):                                         {"100", noCPULimit, "", "0"},
		class("burstable"):                                {"17", noCPULimit, noLimit, "0"},
		class("besteffort"):                               {"1", noCPULimit, noLimit, "0"},
		podCgroup(pods["guaranteed"]):                     {"59", "50000 100000", fmt.Sprint(96 * mebi), "0"}, // 250m + 250m
		podCgroup(pods["burstable"]):                      {"17", noCPULimit, noLimit, "0"},                   // the sidecar is free
		podCgroup(pods["besteffort"]):                     {"1", noCPULimit, noLimit, "0"},
		h.containerCgroup(pods, tasks, "guaranteed/app"):  {weight[250], "25000 100000", fmt.Sprint(64 * mebi), group},
		h.containerCgroup(pods, tasks, "guaranteed/side"): {weight[250], "25000 100000", fmt.Sprint(32 * mebi), group},
		h.containerCgroup(pods, tasks, "burstable/app"):   {weight[100], noCPULimit, fmt.Sprint(256 * mebi), group},
		h.containerCgroup(pods, tasks, "burstable/side"):  {weight[0], noCPULimit, noLimit, group},
		h.containerCgroup(pods, tasks, "besteffort/app"):  {weight[0], noCPULimit, noLimit, group},
		h.containerCgroup(pods, tasks, "besteffort/side"): {weight[0], noCPULimit, noLimit, group},
	}
	for group, l := range want {
		for file, value := range map[string]string{"cpu.weight": l.weight, "cpu.max": l.cpu, "memory.max": l.memory, "memory.oom.group": l.oomGroup} {
			if value == "" {
				continue // up to the node's own reservations
			}
			if got := h.read(filepath.Join("/sys/fs/cgroup", group, file)); got != value {
				h.t.Errorf("%s/%s is %s, want %s", group, file, got, value)
			}
		}
	}
	for name, task := range tasks {
		got := strings.TrimPrefix(h.read(fmt.Sprintf("/proc/%d/cgroup", task.pid)), "0::")
		if want := h.containerCgroup(pods, tasks, name); got != "/"+want {
			h.t.Errorf("%s runs in %s, want /%s", name, got, want)
		}
	}
}

// oomScores compares oom_score_adj: 1000 - 1000 × request ÷ capacity for a Burstable container, and a sidecar's is not
// above that of its Pod's containers.
func (h *host) oomScores() {
	h.t.Helper()
	const request = 128 * mebi
	burstable := 1000 - 1000*request/h.memory()
	if burstable < 3 || burstable > 999 {
		h.t.Fatalf("this host's memory makes %d of 128Mi, which says nothing", burstable)
	}
	want := map[string]int{
		"guaranteed/": -998, "guaranteed/app": -997, "guaranteed/side": -997,
		"burstable/": -998, "burstable/app": burstable, "burstable/side": burstable,
		"besteffort/": -998, "besteffort/app": 1000, "besteffort/side": 1000,
	}
	tasks := h.tasks()
	for name, score := range want {
		if tasks[name].pid == 0 {
			h.t.Errorf("%s does not run", name)
			continue
		}
		if got := h.number(fmt.Sprintf("/proc/%d/oom_score_adj", tasks[name].pid)); got != score {
			h.t.Errorf("oom_score_adj of %s is %d, want %d", name, got, score)
		}
	}
}

// memory is what the host has, in bytes.
func (h *host) memory() int {
	h.t.Helper()
	var kibi int
	if _, err := fmt.Sscanf(h.read("/proc/meminfo"), "MemTotal: %d kB", &kibi); err != nil {
		h.t.Fatal(err)
	}
	return kibi << 10
}

// newRunc says whether containers get their cpu.weight by the formula of runc 1.3.2 and later.
func (h *host) newRunc() bool {
	h.t.Helper()
	var major, minor, patch int
	if _, err := fmt.Sscanf(h.run("runc", "--version"), "runc version %d.%d.%d", &major, &minor, &patch); err != nil {
		h.t.Fatal(err)
	}
	return major > 1 || minor > 3 || minor == 3 && patch >= 2
}

// class is the cgroup of a class's Pods, of all Pods where it is empty.
func class(name string) string {
	if name == "" {
		return "kubepods.slice"
	}
	return "kubepods.slice/kubepods-" + name + ".slice"
}

// podCgroup is a Pod's cgroup; a Guaranteed one is directly below all Pods'.
func podCgroup(p *v1.Pod) string {
	parent, name := class(p.Name), "kubepods-"+p.Name+"-pod"
	if p.Name == "guaranteed" {
		parent, name = class(""), "kubepods-pod"
	}
	return parent + "/" + name + strings.ReplaceAll(string(p.UID), "-", "_") + ".slice"
}

// containerCgroup is that of a container, by "pod/container".
func (h *host) containerCgroup(pods map[string]*v1.Pod, tasks map[string]task, name string) string {
	h.t.Helper()
	owner, _, _ := strings.Cut(name, "/")
	if tasks[name].id == "" || pods[owner] == nil {
		h.t.Fatalf("%s does not run", name)
	}
	return podCgroup(pods[owner]) + "/cri-containerd-" + tasks[name].id + ".scope"
}
