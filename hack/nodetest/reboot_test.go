package nodetest

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"
)

// recordFile tells the next life of the last one.
const recordFile = "/var/lib/podkeeper-nodetest/record.json"

// record is what was true before a reboot.
type record struct {
	Leases string             // where host-local keeps the addresses in use
	Pods   map[string]*v1.Pod // by name
	Marks  map[string]int     // how often each Pod's init container ran
}

const (
	builtInLeases = "/run/podkeeper/network/ipam/podkeeper"
	// smallLeases survive a reboot: what nobody frees leaks.
	smallLeases = "/var/lib/cni/networks/small"
	smallConfig = "/etc/cni/net.d/10-small.conflist"
)

// smallNetwork has 13 addresses for Pods.
const smallNetwork = `{"cniVersion": "1.0.0", "name": "small", "plugins": [{"type": "bridge", "bridge": "small0", "isGateway": true, "ipMasq": true,
  "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.99.0.0/28"}]], "routes": [{"dst": "0.0.0.0/0"}]}}]}
`

// TestRebootIsAheadOfOnePodOfEachClass prepares for TestRebootBringsEveryPodBack.
func TestRebootIsAheadOfOnePodOfEachClass(t *testing.T) {
	h := open(t)
	h.onePodOfEachClass()
	h.remember(builtInLeases)
}

// TestRebootIsAheadOfFivePodsOnASmallNetwork prepares for reboots that would use up a /28 if any of them leaked.
func TestRebootIsAheadOfFivePodsOnASmallNetwork(t *testing.T) {
	h := open(t)
	h.clear()
	h.write(smallConfig, smallNetwork)
	h.manyPods(5, plainPod)
	h.remember(smallLeases)
}

// TestRebootIsAheadOfTenPods prepares for the figure of TestRebootBringsEveryPodBack, on the built-in network.
func TestRebootIsAheadOfTenPods(t *testing.T) {
	h := open(t)
	h.clear()
	if err := os.RemoveAll(smallConfig); err != nil {
		t.Fatal(err)
	}
	h.manyPods(10, plainPod)
	h.remember(builtInLeases)
}

// remember writes down how things are, and checks them.
func (h *host) remember(leases string) {
	h.t.Helper()
	pods, err := h.pods()
	if err != nil {
		h.t.Fatal(err)
	}
	now := record{Leases: leases, Pods: pods, Marks: h.marks(pods)}
	h.nothingElse(now)
	text, err := json.Marshal(now)
	if err != nil {
		h.t.Fatal(err)
	}
	h.write(recordFile, string(text))
}

// marks counts the lines that init containers wrote.
func (h *host) marks(pods map[string]*v1.Pod) map[string]int {
	h.t.Helper()
	counts := map[string]int{}
	for name := range pods {
		counts[name] = len(strings.Fields(h.read(filepath.Join(marks, name))))
	}
	return counts
}

// TestRebootBringsEveryPodBack checks what the life after a reboot has made of what was remembered before: the same
// Pods are Ready, init containers ran again, restart counts went on, and nothing of the former life is left.
func TestRebootBringsEveryPodBack(t *testing.T) {
	h := open(t)
	var before record
	if err := json.Unmarshal([]byte(h.read(recordFile)), &before); err != nil {
		t.Fatal(err)
	}
	var names []string
	for name := range before.Pods {
		names = append(names, name)
	}
	pods := h.ready(names...)
	uptime, _, _ := strings.Cut(h.read("/proc/uptime"), " ")
	t.Logf("figure: boot to %d Pods Ready: %s s (systemd started the agent at %.2f s)", len(pods), uptime, h.seconds("ExecMainStartTimestampMonotonic"))

	for name, count := range h.marks(pods) {
		if want := before.Marks[name] + 1; count != want {
			t.Errorf("the init container of %s ran %d times in all, want %d", name, count, want)
		}
	}
	for name, p := range pods {
		old := before.Pods[name]
		if p.UID != old.UID {
			t.Errorf("%s has UID %s, want %s", name, p.UID, old.UID)
		}
		was := map[string]int32{}
		for _, s := range statuses(old) {
			was[s.Name] = s.RestartCount
		}
		for _, s := range statuses(p) {
			if s.RestartCount != was[s.Name]+1 {
				t.Errorf("%s/%s was restarted %d times, want %d", name, s.Name, s.RestartCount, was[s.Name]+1)
			}
		}
	}
	h.remember(before.Leases)
}

// nothingElse fails the test where an address, netns, mount or cgroup belongs to no Pod that runs.
func (h *host) nothingElse(now record) {
	h.t.Helper()
	tasks := h.tasks()
	ids, uids := map[string]bool{}, map[string]bool{}
	var ips, sandboxes []string
	for _, p := range now.Pods {
		ips = append(ips, p.Status.PodIP)
		uids[string(p.UID)] = true
		sandboxes = append(sandboxes, tasks[p.Name+"/"].id)
	}
	for _, task := range tasks {
		ids[task.id] = true
		if !uids[task.uid] {
			h.t.Errorf("container %s is of no Pod", task.id)
		}
	}
	h.same("addresses in use", h.entries(now.Leases, `^[0-9.]+$`), ips)
	h.same("network namespaces", h.entries(runDir+"/netns", ``), sandboxes)
	h.same("mounted network namespaces", h.mounts(`^nsfs `+runDir+`/netns/(.*)`), sandboxes)
	for _, id := range h.mounts(`^overlay .*/([^/]+)/rootfs$`) {
		if !ids[id] {
			h.t.Errorf("an overlay of %s is mounted", id)
		}
	}
	for _, uid := range h.mounts(`podkeeper/pods/([^/]+)`) {
		if !uids[uid] {
			h.t.Errorf("something is mounted for Pod %s", uid)
		}
	}
	h.sameCgroups(uids, ids)
}

// same fails the test where a list is not, but for its order, what it must be.
func (h *host) same(what string, got, want []string) {
	h.t.Helper()
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		h.t.Errorf("%s: %q, want %q", what, got, want)
	}
}

// entries are the names in a folder that match.
func (h *host) entries(dir, pattern string) []string {
	h.t.Helper()
	found, err := os.ReadDir(dir)
	if err != nil {
		h.t.Fatal(err)
	}
	var names []string
	for _, e := range found {
		if regexp.MustCompile(pattern).MatchString(e.Name()) {
			names = append(names, e.Name())
		}
	}
	return names
}

// mounts are what a pattern finds in the mount table, whose lines are cut down to type and place.
func (h *host) mounts(pattern string) []string {
	h.t.Helper()
	var found []string
	for line := range strings.Lines(h.read("/proc/mounts")) {
		fields := strings.Fields(line)
		if m := regexp.MustCompile(pattern).FindStringSubmatch(fields[2] + " " + fields[1]); m != nil {
			found = append(found, m[1])
		}
	}
	return found
}

var (
	podSlice       = regexp.MustCompile(`-pod([^-/]+)\.slice$`)
	containerScope = regexp.MustCompile(`/cri-containerd-(.+)\.scope$`)
)

// sameCgroups fails the test where a cgroup is of none of these Pods or containers.
func (h *host) sameCgroups(uids, ids map[string]bool) {
	h.t.Helper()
	slices := map[string]bool{}
	err := filepath.WalkDir("/sys/fs/cgroup", func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return err
		}
		if m := podSlice.FindStringSubmatch(path); m != nil {
			slices[strings.ReplaceAll(m[1], "_", "-")] = true
		}
		if m := containerScope.FindStringSubmatch(path); m != nil && !ids[m[1]] {
			h.t.Errorf("a cgroup is left: %s", path)
		}
		return nil
	})
	if err != nil {
		h.t.Fatal(err)
	}
	if fmt.Sprint(slices) != fmt.Sprint(uids) {
		h.t.Errorf("Pods have cgroups: %v, want %v", slices, uids)
	}
}
