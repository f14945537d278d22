package main

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/containerd/containerd/v2/pkg/cap"
	"github.com/google/go-cmp/cmp"
	v1 "k8s.io/api/core/v1"
)

// TestProfiles compares what the kernel tells of real containers with testdata/profiles: the lists of what containers of a
// profile are given under Kubernetes with containerd. They follow containerd's pkg/oci/spec.go (capabilities, mounts, devices),
// internal/cri/opts (cgroups read-only, /dev/shm), and Kubernetes' pkg/securitycontext/util.go (masked and read-only paths).
func TestProfiles(t *testing.T) {
	t.Parallel()
	n := launch(t)
	contexts := map[string]string{
		"default":        "{}",
		"privileged":     "{privileged: true}",
		"runtimedefault": "{seccompProfile: {type: RuntimeDefault}}",
		"dropall":        "{capabilities: {drop: [ALL]}}",
		"restricted":     "{runAsNonRoot: true, runAsUser: 1000, allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}, seccompProfile: {type: RuntimeDefault}}",
	}
	for name, sc := range contexts {
		n.apply(name+".yaml", simple(name, forever)+"    securityContext: "+sc+"\n")
	}
	for name := range contexts {
		golden, err := os.ReadFile(filepath.Join("testdata", "profiles", name))
		if err != nil {
			t.Fatal(err)
		}
		want := onThisHost(strings.Split(strings.TrimSpace(string(golden)), "\n"))
		if diff := cmp.Diff(want, n.profile(n.awaitReady(name))); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

// onThisHost is what of a list can be seen here: not every kernel has every path to mask, and all capabilities are those that
// the agent has.
func onThisHost(lines []string) (seen []string) {
	for _, line := range lines {
		kind, path, _ := strings.Cut(line, " ")
		if kind == "masked" || kind == "readonly" {
			found, _ := filepath.Glob(path)
			for _, f := range found {
				seen = append(seen, kind+" "+f)
			}
			continue
		}
		seen = append(seen, line)
	}
	return seen
}

// profile is what the kernel tells of a container's process, in the order and the words of testdata/profiles.
func (n *node) profile(p *v1.Pod) []string {
	n.t.Helper()
	proc := fmt.Sprintf("/proc/%d", n.pid(p, "app"))
	own, status := statusOf(n.t, "/proc/self"), statusOf(n.t, proc)
	var lines []string
	for _, set := range []struct{ name, field string }{
		{"effective", "CapEff"}, {"permitted", "CapPrm"}, {"bounding", "CapBnd"}, {"inheritable", "CapInh"}, {"ambient", "CapAmb"},
	} {
		line := set.name
		if of := status[set.field]; of == own["CapBnd"] {
			line += " all"
		} else if bits, err := strconv.ParseUint(of, 16, 64); err != nil {
			n.t.Errorf("%s is %q", set.field, of)
		} else if bits != 0 {
			known, _ := cap.FromBitmap(bits)
			slices.Sort(known)
			line += " " + strings.Join(known, " ")
		}
		lines = append(lines, line)
	}
	lines = append(lines, "no_new_privs "+status["NoNewPrivs"], "seccomp "+status["Seccomp"])
	lines = append(lines, n.mountsOf(p, proc)...)
	for limit, hard := range limitsOf(n.t, "/proc/self") {
		if got := limitsOf(n.t, proc)[limit]; got != hard { // containerd's, which has them from here
			n.t.Errorf("%s: %s is %s, not %s", p.Name, limit, got, hard)
		}
	}
	if status["CapBnd"] == own["CapBnd"] {
		return lines // with all devices of the host
	}
	var devices []string
	for _, dir := range []string{"", "pts/"} {
		entries, err := os.ReadDir(proc + "/root/dev/" + dir)
		if err != nil {
			n.t.Fatal(err)
		}
		for _, e := range entries {
			info, err := e.Info()
			if err == nil && info.Mode().Type()&(os.ModeDevice|os.ModeSymlink) != 0 && !strings.HasPrefix(e.Name(), "std") && e.Name() != "fd" && e.Name() != "core" {
				devices = append(devices, dir+e.Name())
			}
		}
	}
	slices.Sort(devices)
	return append(lines, "devices "+strings.Join(devices, " "))
}

// mountsOf tells of a container's mounts. What of the Pod's folder is in it is given, whatever disk that is on.
func (n *node) mountsOf(p *v1.Pod, proc string) []string {
	n.t.Helper()
	file, err := os.Open(proc + "/mountinfo")
	if err != nil {
		n.t.Fatal(err)
	}
	defer file.Close()
	var mounts, readonly, masked []string
	groups, sys := map[string]bool{}, ""
	for lines := bufio.NewScanner(file); lines.Scan(); {
		mount, fs, _ := strings.Cut(lines.Text(), " - ")
		fields, kind := strings.Fields(mount), strings.Fields(fs)[0]
		root, at, options := fields[3], fields[4], strings.Split(fields[5], ",")
		flags := options[0]
		for _, flag := range []string{"nosuid", "nodev", "noexec"} {
			if slices.Contains(options, flag) {
				flags += " " + flag
			}
		}
		switch {
		case strings.HasPrefix(kind, "cgroup"):
			groups[options[0]] = true
		case at == "/sys/fs/cgroup": // on cgroup v1, only what holds them
		case root == "/null", kind == "tmpfs" && (strings.HasPrefix(at, "/proc/") || strings.HasPrefix(at, "/sys/")):
			masked = append(masked, "masked "+at)
		case strings.HasPrefix(at, "/proc/"):
			readonly = append(readonly, map[string]string{"ro": "readonly", "rw": "writable"}[options[0]]+" "+at)
		case at == "/sys":
			sys = "mount " + at + " " + kind + " " + flags
		case strings.Contains(root, "/"+string(p.UID)+"/"):
			mounts = append(mounts, "mount "+at+" given "+flags)
		default:
			mounts = append(mounts, "mount "+at+" "+kind+" "+flags)
		}
	}
	order := []string{"/", "/proc", "/dev", "/dev/pts", "/dev/mqueue", "/dev/shm", "/dev/termination-log", "/etc/hostname", "/etc/hosts", "/etc/resolv.conf"}
	slices.SortFunc(mounts, func(a, b string) int {
		return slices.Index(order, strings.Fields(a)[1]) - slices.Index(order, strings.Fields(b)[1])
	})
	slices.Sort(readonly)
	slices.Sort(masked)
	mounts = append(mounts, sys)
	for mode := range groups {
		mounts = append(mounts, "cgroups "+mode)
	}
	return slices.Concat(mounts, readonly, masked)
}

// statusOf are the fields of a process' status.
func statusOf(t *testing.T, proc string) map[string]string {
	t.Helper()
	content, err := os.ReadFile(proc + "/status")
	if err != nil {
		t.Fatal(err)
	}
	fields := map[string]string{}
	for line := range strings.Lines(string(content)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ":\t")
		fields[name] = value
	}
	return fields
}

// limitsOf are the hard limits of a process, by their names.
func limitsOf(t *testing.T, proc string) map[string]string {
	t.Helper()
	content, err := os.ReadFile(proc + "/limits")
	if err != nil {
		t.Fatal(err)
	}
	limits := map[string]string{}
	for line := range strings.Lines(string(content)) {
		if fields := strings.Fields(line[26:]); len(fields) > 1 && !strings.HasPrefix(line, "Limit") {
			limits[strings.TrimSpace(line[:26])] = fields[1]
		}
	}
	return limits
}
