// Package doctor is the room of the host: it looks at everything that Pods need of it, and says in one line a check what
// is there, or what to install or change.
//
//	host.go       a host as the checks see it: files, programs, file systems
//	kernel.go     rights, kernel, cgroups
//	kubelet.go    a kubelet that would kill our Pods
//	containerd.go containerd, and what it starts: shims and OCI runtimes
//	network.go    CNI plugins, iptables, forwarding
//	place.go      folders, disk, systemd
//
// It must not know what the agent does, nor anything of the other rooms: what those know of the host is handed in as
// functions. It changes nothing: no folder is made, nothing is mounted or left behind.
package doctor

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"
)

// Level says what a finding means for Pods.
type Level string

const (
	// OK is what is as it should be.
	OK Level = "ok"
	// Warn is what leaves Pods running, but not as well as could be.
	Warn Level = "warn"
	// Fail is what keeps Pods from running.
	Fail Level = "FAIL"
)

// Finding is what one check found: for OK what is there, else what is wrong and how to mend it.
type Finding struct {
	Name  string
	Level Level
	Text  string
}

func ok(name, format string, args ...any) Finding {
	return Finding{name, OK, fmt.Sprintf(format, args...)}
}

func warn(name, format string, args ...any) Finding {
	return Finding{name, Warn, fmt.Sprintf(format, args...)}
}

func fail(name, format string, args ...any) Finding {
	return Finding{name, Fail, fmt.Sprintf(format, args...)}
}

// Agent is what an agent on this host would use.
type Agent struct {
	Config      string // its configuration file, empty for none
	ConfigErr   error  // why that, or a flag, is refused
	Manifests   string
	RootDir     string
	LogsDir     string
	Endpoint    string // containerd's
	Handlers    map[string]Handler
	PluginDir   string // of CNI
	APIProgram  string // what answers kubectl, empty where the agent starts none
	CgroupRoot  string // the parent of all Pods' cgroups; empty is the top
	LowestScore int    // the lowest oom_score_adj that anything of a Pod is given
	// LowestScoreOf is the lowest oom_score_adj that a process can give, by its folder in /proc; -1000 is any.
	LowestScoreOf  func(proc string) (int, error)
	Containerd     func(ctx context.Context, endpoint string) (Containerd, error)
	UserNamespaces func() error // why Pods cannot have user namespaces of their own
	SELinux        func() error // why Pods cannot have SELinux labels
	Cgroups        func() (Cgroups, error)
	Network        func(ctx context.Context) (Network, error)
	Permissions    func() []error // of what the agent follows, and others than root may write
	Shutdown       time.Duration  // how long Pods have when the host shuts down; 0 is that they are not waited for
	// Logind says for how long a shutdown waits at most, and which files the agent cannot overrule on that.
	Logind func(ctx context.Context) (delay time.Duration, rivals []string, err error)
}

// Examine runs every check.
func Examine(ctx context.Context, h Host, a Agent) []Finding {
	var findings []Finding
	if a.ConfigErr != nil || a.Config != "" {
		findings = append(findings, configuration(a))
	}
	daemon, err := a.Containerd(ctx, a.Endpoint)
	findings = append(findings, h.root(), h.capabilities(daemon.PID, a), h.kernel(), h.namespaces(), userNamespaces(a.UserNamespaces), h.overlay(ctx), h.seccomp(),
		h.appArmor(), seLinux(a.SELinux), h.inotify(), h.cgroups(a.Cgroups))
	findings = append(findings, h.kubelets(a.CgroupRoot)...)
	findings = append(findings, h.containerd(a.Endpoint, daemon, err)...)
	findings = append(findings, h.handlers(ctx, a.Handlers, daemon)...)
	findings = append(findings, h.network(ctx, a)...)
	findings = append(findings, h.manifests(a.Manifests))
	findings = append(findings, permissions(a.Permissions())...)
	if a.APIProgram != "" {
		findings = append(findings, h.api(a.APIProgram))
	}
	findings = append(findings, h.disks(daemon.rootDir(), a.RootDir, a.LogsDir)...)
	if a.Shutdown > 0 {
		findings = append(findings, shutdown(ctx, a))
	}
	return append(findings, h.systemd(ctx))
}

func configuration(a Agent) Finding {
	if a.ConfigErr != nil {
		return fail("configuration", "%v", a.ConfigErr)
	}
	return ok("configuration", "%s", a.Config)
}

// Print writes one line a finding, in columns, and answers whether Pods could run here.
func Print(w io.Writer, findings []Finding) (healthy bool, err error) {
	width := 0
	for _, f := range findings {
		width = max(width, len(f.Name))
	}
	healthy = true
	for _, f := range findings {
		healthy = healthy && f.Level != Fail
		text := strings.Join(strings.FieldsFunc(f.Text, func(r rune) bool { return r == '\n' }), "; ")
		if _, err := fmt.Fprintf(w, "%-4s  %-*s  %s\n", f.Level, width, f.Name, text); err != nil {
			return false, fmt.Errorf("print findings: %w", err)
		}
	}
	return healthy, nil
}
