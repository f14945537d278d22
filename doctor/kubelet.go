package doctor

import (
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"sigs.k8s.io/yaml"
)

// RivalKubelets are the findings about kubelets on this host that have this cgroup root, too: each takes the cgroups of all
// Pods below it that are not its own for leftovers, and kills what is in them
// (pkg/kubelet/kubelet_pods.go, cleanupOrphanedPodCgroups). An empty root is the top.
func RivalKubelets(cgroupRoot string) []Finding {
	return slices.DeleteFunc(This().kubelets(cgroupRoot), func(f Finding) bool { return f.Level != Fail })
}

// kubelets judges each kubelet that runs on the host, none where there is none.
func (h Host) kubelets(cgroupRoot string) []Finding {
	const name = "kubelet"
	own := path.Clean("/" + cgroupRoot)
	var findings []Finding
	for _, pid := range h.processes(name) {
		if !h.sharesCgroups(pid) {
			continue // one in a container, such as kind's: its root is the container's cgroup
		}
		k, err := h.kubelet(pid)
		switch theirs := path.Clean("/" + k.CgroupRoot); {
		case err != nil:
			findings = append(findings, warn(name, "the cgroup root of process %s cannot be told: %v: if it is %s, it kills all containers "+
				"of podkeeper's Pods: give podkeeper another cgroupRoot", pid, err, own))
		case k.CgroupsPerQOS != nil && !*k.CgroupsPerQOS:
			findings = append(findings, ok(name, "process %s has no cgroups of Pods", pid))
		case theirs != own:
			findings = append(findings, ok(name, "process %s has cgroup root %s, podkeeper %s", pid, theirs, own))
		default:
			findings = append(findings, fail(name, "process %s has the cgroup root %s as podkeeper has, takes podkeeper's Pods for leftovers of its own, and "+
				"kills their containers: write cgroupRoot: %s into the agent's --config file, or stop that kubelet", pid, theirs, path.Join(own, "podkeeper")))
		}
	}
	return findings
}

// processes are the pids of all programs of a name.
func (h Host) processes(name string) []string {
	files, _ := filepath.Glob(h.at("/proc/[0-9]*/comm"))
	var pids []string
	for _, file := range files {
		pid := filepath.Base(filepath.Dir(file))
		if comm, err := h.read("/proc/" + pid + "/comm"); err == nil && comm == name {
			pids = append(pids, pid)
		}
	}
	slices.SortFunc(pids, func(a, b string) int {
		one, _ := strconv.Atoi(a)
		other, _ := strconv.Atoi(b)
		return one - other
	})
	return pids
}

// sharesCgroups says whether a process sees the same tree of cgroups as we do, as far as can be told.
func (h Host) sharesCgroups(pid string) bool {
	own, err := os.Readlink(h.at("/proc/self/ns/cgroup"))
	if err != nil {
		return true
	}
	theirs, err := os.Readlink(h.at("/proc/" + pid + "/ns/cgroup"))
	return err != nil || own == theirs
}

// kubeletConfig is what matters here of a kubelet's configuration.
type kubeletConfig struct {
	CgroupRoot    string `json:"cgroupRoot"`
	CgroupsPerQOS *bool  `json:"cgroupsPerQOS"`
}

// kubelet reads a kubelet's flags and, below them, its configuration file.
func (h Host) kubelet(pid string) (k kubeletConfig, err error) {
	line, err := h.read("/proc/" + pid + "/cmdline")
	if err != nil {
		return k, err
	}
	args := strings.Split(line, "\x00")
	if file := flagOf(args, "config"); file != "" {
		dir := "/proc/" + pid + "/root"
		if !filepath.IsAbs(file) {
			dir = "/proc/" + pid + "/cwd"
		}
		text, err := os.ReadFile(h.at(filepath.Join(dir, file)))
		if err == nil {
			err = yaml.Unmarshal(text, &k)
		}
		if err != nil {
			return k, fmt.Errorf("read its --config %s: %w", file, err)
		}
	}
	if root := flagOf(args, "cgroup-root"); root != "" {
		k.CgroupRoot = root
	}
	if on, err := strconv.ParseBool(flagOf(args, "cgroups-per-qos")); err == nil {
		k.CgroupsPerQOS = &on
	}
	return k, nil
}

// flagOf is the value of a flag, written --name=value or --name value; the last one counts.
func flagOf(args []string, name string) (value string) {
	for i, arg := range args {
		key, v, hasValue := strings.Cut(strings.TrimLeft(arg, "-"), "=")
		switch {
		case !strings.HasPrefix(arg, "-") || key != name:
		case hasValue:
			value = v
		case i+1 < len(args):
			value = args[i+1]
		}
	}
	return value
}
