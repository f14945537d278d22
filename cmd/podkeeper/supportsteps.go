package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	goruntime "runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"

	"sigs.k8s.io/yaml"

	podnode "github.com/podkeeper/podkeeper/agent/node"
	"github.com/podkeeper/podkeeper/cgroups"
	"github.com/podkeeper/podkeeper/doctor"
	"github.com/podkeeper/podkeeper/support"
)

// steps are what the archive is made of, but for what is told of the agent's process.
func (c *collection) steps() []support.Step {
	return []support.Step{
		{Name: "versions", Do: c.versions},
		{Name: "doctor", Time: time.Minute, Do: func(ctx context.Context, b *support.Bag) error {
			var out strings.Builder
			_, err := doctor.Print(&out, examine(ctx, &c.flags, c.config, c.configErr))
			b.Add("doctor.txt", []byte(out.String()))
			return err
		}},
		{Name: "configuration", Do: c.tellConfig},
		{Name: "answers", Time: time.Minute, Do: c.answers},
		{Name: "journal", Time: time.Minute, Do: c.tellJournal},
		{Name: "services", Do: commands("services.txt", append([]string{"systemctl", "show", "--no-pager", "-p", serviceProperties}, services...))},
		{Name: "kernel log", Do: commands("dmesg.txt", []string{"dmesg", "-T"})},
		{Name: "records", Do: c.records},
		{Name: "containerd", Do: c.tellContainerd},
		{Name: "network configuration", Do: c.tellNetwork},
		{Name: "network", Do: tellLinks},
		{Name: "iptables", Do: commands("network/iptables.txt", []string{"iptables-save", "-c"})},
		{Name: "ip6tables", Do: commands("network/ip6tables.txt", []string{"ip6tables-save", "-c"})},
		{Name: "nftables", Do: commands("network/nftables.txt", []string{"nft", "list", "ruleset"})},
		{Name: "disks", Do: commands("host/disks.txt", []string{"df", "-kPT"})},
		{Name: "inodes", Do: commands("host/inodes.txt", []string{"df", "-iP"})},
		{Name: "host", Do: func(ctx context.Context, b *support.Bag) error {
			b.Files(ctx, "host", "/proc/meminfo", "/proc/loadavg", "/proc/uptime", "/proc/cgroups", "/proc/filesystems", "/proc/modules", "/proc/cmdline",
				"/proc/pressure/*", "/proc/self/mountinfo", "/proc/vmstat", "/proc/sys/kernel/random/boot_id", "/proc/sys/fs/inotify/*",
				"/proc/sys/fs/file-nr", "/proc/sys/kernel/pid_max")
			return nil
		}},
		{Name: "processes", Do: processes},
		{Name: "cgroups", Do: c.tellCgroups},
		{Name: "logs", Do: c.tellLogs},
	}
}

// The services that are told of, and what of them: the environment of a service is not.
var services = []string{"podkeeper.service", "podkeeper-api.service", "podkeeper-api.socket", "containerd.service", "kubelet.service"}

const serviceProperties = "Id,LoadState,ActiveState,SubState,UnitFileState,Result,NRestarts,MainPID,ExecMainStatus,ExecMainCode," +
	"ExecMainStartTimestamp,ActiveEnterTimestamp,FragmentPath,DropInPaths,KillMode,Delegate,MemoryCurrent,TasksCurrent,WatchdogUSec,StatusText"

// commands adds what a program says.
func commands(name string, command []string) func(context.Context, *support.Bag) error {
	return func(ctx context.Context, b *support.Bag) error {
		b.Command(ctx, name, command[0], command[1:]...)
		return nil
	}
}

// tellAgent adds what the kernel tells of the agent's process, which need not answer.
func (c *collection) tellAgent(b *support.Bag) {
	if c.pid == 0 {
		return
	}
	read := func(parts ...string) string {
		content, err := support.Read(procOf(c.pid, parts...), support.MaxFile)
		b.Fail(err)
		return string(content)
	}
	b.Add("agent/flags.txt", []byte(strings.ReplaceAll(read("cmdline"), "\x00", "\n")))
	var names []string // of variables, without their values
	for variable := range strings.SplitSeq(strings.Trim(read("environ"), "\x00"), "\x00") {
		name, _, _ := strings.Cut(variable, "=")
		names = append(names, name)
	}
	slices.Sort(names)
	b.Add("agent/environment-names.txt", []byte(strings.Join(names, "\n")+"\n"))
	for _, name := range []string{"status", "stat", "limits", "cgroup", "oom_score_adj", "mountinfo"} {
		b.Add("agent/"+name+".txt", []byte(read(name)))
	}
	stacks, err := filepath.Glob(procOf(c.pid, "task", "*", "stack"))
	b.Fail(err)
	b.Sections("agent/kernel-stacks.txt", stacks, 64<<10)
	open, err := os.ReadDir(procOf(c.pid, "fd"))
	b.Fail(err)
	b.Add("agent/open-files.txt", fmt.Appendln(nil, len(open)))
}

// versions are those of all that takes part.
func (c *collection) versions(ctx context.Context, b *support.Bag) error {
	text := fmt.Sprintf("podkeeper %s\n%s %s/%s\n", versionString(), goruntime.Version(), goruntime.GOOS, goruntime.GOARCH)
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if strings.HasPrefix(s.Key, "vcs") || s.Key == "-tags" {
				text += s.Key + " " + s.Value + "\n"
			}
		}
		for _, m := range info.Deps {
			text += m.Path + " " + m.Version + "\n"
		}
	}
	b.Add("versions/podkeeper.txt", []byte(text))
	b.Files(ctx, "versions", "/proc/version", "/etc/os-release")
	for _, program := range []string{"containerd", "runc", "crun", "iptables", "systemctl"} {
		b.Command(ctx, "versions/"+program+".txt", program, "--version")
	}
	for _, plugin := range []string{"bridge", "host-local", "loopback", "portmap"} { // which tell it when they are asked for nothing
		b.Command(ctx, "versions/cni-"+plugin+".txt", filepath.Join(c.flags.cniBin, plugin))
	}
	return nil
}

// tellConfig adds the configuration; of a field that podkeeper does not follow, only its name.
func (c *collection) tellConfig(_ context.Context, b *support.Bag) error {
	if c.flags.config == "" {
		return c.configErr
	}
	text, err := support.Read(c.flags.config, support.MaxFile)
	if err != nil {
		return err
	}
	var fields map[string]any
	if yaml.Unmarshal(text, &fields) != nil { // the error may quote it
		return fmt.Errorf("%s is no YAML", c.flags.config)
	}
	for name := range fields {
		if !slices.Contains(supported, name) {
			fields[name] = support.LeftOut
		}
	}
	clean, err := yaml.Marshal(fields)
	b.Add("config.yaml", clean)
	return errors.Join(c.configErr, err)
}

// answers adds what the agent's socket answers.
func (c *collection) answers(ctx context.Context, b *support.Bag) error {
	if c.pid == 0 {
		return nil // as is told of by the step agent
	}
	for path, name := range map[string]string{
		"/healthz": "healthz.txt", "/pods": "pods.json", "/events": "events.json", "/manifests": "manifests.json", "/node": "node.json", "/drain": "drain.json",
		"/stats/summary": "stats.json", "/metrics": "metrics.txt", "/metrics/resource": "metrics-resource.txt", "/metrics/cadvisor": "metrics-cadvisor.txt",
	} {
		patient, cancel := context.WithTimeout(ctx, 10*time.Second)
		answer, err := c.client.Get(patient, path)
		cancel()
		if err != nil {
			b.Fail(err)
			continue
		}
		b.Add("agent/"+name, answer)
	}
	return nil
}

// journalLines is how many entries of a service are added at most, its latest.
const journalLines = 50_000

func (c *collection) tellJournal(ctx context.Context, b *support.Bag) error {
	if c.journal <= 0 {
		return nil
	}
	since := fmt.Sprintf("--since=@%d", time.Now().Add(-c.journal).Unix())
	for _, unit := range []string{"podkeeper", "podkeeper-api", "containerd"} {
		b.Command(ctx, "journal/"+unit+".txt", "journalctl", "-u", unit, since, "-n", strconv.Itoa(journalLines), "-o", "short-iso-precise", "--no-pager", "-q")
	}
	return nil
}

// records adds what the agent has written down of Pods, and lists what else is in its folders.
func (c *collection) records(ctx context.Context, b *support.Bag) error {
	f := &c.flags
	found, err := filepath.Glob(filepath.Join(podnode.PodsDir(f.rootDir), "*", podnode.RecordFile))
	b.Fail(err)
	for _, name := range found {
		content, err := support.Read(name, support.MaxFile)
		if err != nil {
			b.Fail(err)
			continue
		}
		b.Add(filepath.Join("records", filepath.Base(filepath.Dir(name))+".json"), content)
	}
	// What is in volumes is not even listed: names of files tell something, too.
	inVolume := func(path string) bool {
		within, _ := filepath.Rel(podnode.PodsDir(f.rootDir), path)
		return strings.Count(within, "/") >= 3 || filepath.Base(filepath.Dir(path)) == "claims"
	}
	b.List(ctx, "files/root-dir.txt", inVolume, f.rootDir)
	b.List(ctx, "files/run-dir.txt", inVolume, f.runDir)
	b.List(ctx, "files/others.txt", func(string) bool { return false }, f.manifests, f.imageDir, f.cniConf, f.cniBin, f.logsDir)
	return nil
}

func (c *collection) tellContainerd(ctx context.Context, b *support.Bag) error {
	address := strings.TrimPrefix(c.flags.endpoint, "unix://")
	ask := func(name string, args ...string) bool {
		return b.Command(ctx, "containerd/"+name+".txt", "ctr", append([]string{"--address", address, "--timeout", "5s", "--namespace", c.flags.namespace}, args...)...)
	}
	if !ask("version", "version") {
		return nil // nor would it answer more
	}
	for _, what := range []string{"plugins", "namespaces", "containers", "tasks", "images", "snapshots", "leases"} {
		ask(what, what, "list")
	}
	return nil
}

// tellNetwork adds CNI's configuration, and which addresses are given out.
func (c *collection) tellNetwork(_ context.Context, b *support.Bag) error {
	for _, pattern := range []string{"*.conf", "*.conflist", "*.json"} {
		found, err := filepath.Glob(filepath.Join(c.flags.cniConf, pattern))
		b.Fail(err)
		for _, name := range found {
			content, err := support.Read(name, support.MaxFile)
			if err != nil {
				b.Fail(err)
				continue
			}
			b.Add(filepath.Join("network/cni", filepath.Base(name)+".json"), content)
		}
	}
	leases, err := filepath.Glob(filepath.Join(c.flags.runDir, "network", "ipam", "*", "[0-9]*"))
	b.Sections("network/addresses.txt", leases, 4<<10)
	return err
}

func tellLinks(ctx context.Context, b *support.Bag) error {
	b.Command(ctx, "network/addresses-of-host.txt", "ip", "-d", "address")
	b.Command(ctx, "network/routes.txt", "ip", "route", "show", "table", "all")
	b.Command(ctx, "network/rules.txt", "ip", "rule")
	b.Command(ctx, "network/neighbours.txt", "ip", "neighbour")
	b.Files(ctx, "network", "/etc/resolv.conf", "/proc/net/sockstat", "/proc/net/netstat", "/proc/sys/net/ipv4/ip_forward",
		"/proc/sys/net/ipv6/conf/all/forwarding", "/proc/sys/net/bridge/*", "/proc/sys/net/netfilter/nf_conntrack_max", "/proc/sys/net/netfilter/nf_conntrack_count")
	return nil
}

// processes lists names and states, not arguments, of which anything may be a secret.
func processes(_ context.Context, b *support.Bag) error {
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	var out strings.Builder
	for _, name := range stats {
		stat, err := os.ReadFile(name)
		if err != nil {
			continue // it has ended
		}
		groups, _ := os.ReadFile(filepath.Join(filepath.Dir(name), "cgroup"))
		waits, _ := os.ReadFile(filepath.Join(filepath.Dir(name), "wchan"))
		fmt.Fprintf(&out, "%s wchan=%s\n  %s\n", strings.TrimSpace(string(stat)), waits, strings.Join(strings.Fields(string(groups)), " "))
	}
	b.Add("host/processes.txt", []byte(out.String()))
	return err
}

// tellCgroups adds every file of every cgroup of Pods.
func (c *collection) tellCgroups(ctx context.Context, b *support.Bag) error {
	tree, err := cgroups.Open(cgroups.Config{Root: c.config.CgroupRoot, Driver: cgroups.Driver(c.config.CgroupDriver)})
	if err != nil {
		return err
	}
	for _, folder := range tree.PodFolders() {
		b.Fail(filepath.WalkDir(folder, func(path string, d fs.DirEntry, err error) error {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if err != nil || !d.IsDir() {
				return nil // one that has gone meanwhile
			}
			files, err := filepath.Glob(filepath.Join(path, "*"))
			b.Sections(filepath.Join("cgroups", strings.TrimPrefix(path, "/sys/fs/cgroup/"))+".txt", files, 16<<10)
			return err
		}))
	}
	return nil
}

// maxLog is how much of a log is added, in bytes, and maxLogs of all of them.
const (
	maxLog  = 256 << 10
	maxLogs = 64 << 20
)

// tellLogs adds the ends of the logs of Pods that the agent has records of.
func (c *collection) tellLogs(ctx context.Context, b *support.Bag) error {
	if !c.logs {
		return nil
	}
	folders, err := os.ReadDir(podnode.PodsDir(c.flags.rootDir))
	left := maxLogs
	for _, folder := range folders {
		found, _ := filepath.Glob(filepath.Join(c.flags.logsDir, "*_"+folder.Name(), "*", "*.log"))
		for _, name := range found {
			content, err := support.ReadEnd(name, maxLog)
			if left -= len(content); left < 0 || ctx.Err() != nil {
				return fmt.Errorf("%s and what follows is left out: there is too much", name)
			}
			b.Fail(err)
			relative, _ := filepath.Rel(c.flags.logsDir, name)
			b.Add(filepath.Join("logs", relative), content)
		}
	}
	return err
}
