package doctor

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

const allCapabilities = "Name:\tx\nUid:\t0\t0\t0\t0\nCapEff:\t000001ffffffffff\n"

// world is a host in a folder, and an agent on it.
type world struct {
	t *testing.T
	h Host
	a Agent
	d Containerd
	c Cgroups
	n Network
}

// healthy is a host on which everything is as it should be. Tests here do not run at once: a script cannot be run while
// another test's child still has it open for writing.
func healthy(t *testing.T) *world {
	w := &world{t: t, h: Host{
		Root: t.TempDir(), Path: "/usr/local/bin:/usr/bin:/usr/sbin",
		Statfs: func(_ string, to *unix.Statfs_t) error {
			*to = unix.Statfs_t{Bsize: 1 << 20, Blocks: 100_000, Bavail: 50_000, Files: 1_000_000, Ffree: 900_000}
			return nil
		},
		Inotify: func() error { return nil },
	}}
	w.write("/proc/self/status", allCapabilities)
	w.write("/proc/42/status", allCapabilities)
	w.write("/proc/42/environ", "HOME=/root\x00PATH=/usr/sbin:/usr/bin\x00")
	w.write("/proc/filesystems", "nodev\tproc\nnodev\toverlay\n\text4\n")
	w.write("/proc/sys/kernel/osrelease", "6.1.0-13-cloud-amd64\n")
	w.write("/proc/sys/kernel/seccomp/actions_avail", "kill_process\n")
	w.write("/proc/sys/fs/inotify/max_user_instances", "128\n")
	w.write("/proc/sys/net/ipv4/ip_forward", "1\n")
	for _, kind := range []string{"net", "pid", "mnt", "ipc", "uts"} {
		w.write("/proc/self/ns/"+kind, "")
	}
	for _, dir := range []string{"/run/systemd/system", "/etc/podkeeper/manifests", "/opt/containerd/bin"} {
		w.must(os.MkdirAll(w.h.at(dir), 0o755))
	}
	w.must(os.Symlink("/opt/containerd/bin/containerd", w.h.at("/proc/42/exe")))
	w.script("/usr/sbin/runc", "echo runc version 1.1.5; echo commit: 1")
	w.script("/usr/sbin/iptables", `echo "iptables v1.8.9 (nf_tables)"`)
	w.script("/usr/bin/systemctl", "echo LoadState=loaded; echo ActiveState=active; echo UnitFileState=enabled")
	for _, program := range []string{
		"/usr/sbin/iptables-restore", "/usr/bin/containerd", "/usr/bin/containerd-shim-runc-v2", "/usr/bin/apt-get",
		"/usr/lib/cni/bridge", "/usr/lib/cni/host-local",
	} {
		w.script(program, "true")
	}
	w.d = Containerd{Version: "1.6.20~ds1", PID: 42, Root: "/var/lib/containerd"}
	w.c = Cgroups{Version: "v2", Driver: "cgroupfs", Controllers: []string{"cpu", "memory", "pids"}, Mounts: []string{"/sys/fs/cgroup"}}
	w.n = Network{
		Name: "podkeeper", Subnet: "10.187.0.0/16", Plugins: []string{"bridge", "host-local"},
		Links: true, Forwards: true, Iptables: true, Rehearse: func(context.Context, bool) error { return nil },
	}
	w.a = Agent{
		Manifests: "/etc/podkeeper/manifests", RootDir: "/var/lib/podkeeper", LogsDir: "/var/log/pods",
		Endpoint: "unix:///run/containerd/containerd.sock", PluginDir: "/usr/lib/cni", LowestScore: -998, LowestScoreOf: lowestScore,
		Handlers:       map[string]Handler{"runc": {Type: "io.containerd.runc.v2"}},
		Containerd:     func(context.Context, string) (Containerd, error) { return w.d, nil },
		UserNamespaces: func() error { return nil },
		SELinux:        func() error { return nil },
		Cgroups:        func() (Cgroups, error) { return w.c, nil },
		Network:        func(context.Context) (Network, error) { return w.n, nil },

		Permissions: func() []error { return nil },
	}
	return w
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) write(path, text string) {
	w.t.Helper()
	w.must(os.MkdirAll(filepath.Dir(w.h.at(path)), 0o755))
	w.must(os.WriteFile(w.h.at(path), []byte(text), 0o600))
}

func (w *world) script(path, text string) {
	w.t.Helper()
	w.write(path, "#!/bin/sh\n"+text+"\n")
	w.must(os.Chmod(w.h.at(path), 0o755))
}

func (w *world) remove(path string) {
	w.t.Helper()
	w.must(os.RemoveAll(w.h.at(path)))
}

// lowestScore is what the agent's rooms know to tell: any, unless noSysResource was called for the process.
func lowestScore(proc string) (int, error) {
	status, err := os.ReadFile(filepath.Join(proc, "status"))
	if err != nil || !strings.Contains(string(status), "01fffeffffff") {
		return -1000, err
	}
	own, err := os.ReadFile(filepath.Join(proc, "oom_score_adj"))
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(string(own)))
}

// noContainerd has Ask fail, so that nothing is known of a containerd.
func (w *world) noContainerd(err error) {
	w.a.Containerd = func(context.Context, string) (Containerd, error) { return Containerd{}, err }
}

// noSysResource takes CAP_SYS_RESOURCE (24) from a process that has this oom_score_adj.
func (w *world) noSysResource(pid, score string) {
	w.write("/proc/"+pid+"/status", strings.Replace(allCapabilities, "01ffffffffff", "01fffeffffff", 1))
	w.write("/proc/"+pid+"/oom_score_adj", score+"\n")
}

// statfs changes what is said of every file system.
func (w *world) statfs(change func(*unix.Statfs_t)) {
	before := w.h.Statfs
	w.h.Statfs = func(path string, to *unix.Statfs_t) error {
		err := before(path, to)
		change(to)
		return err
	}
}

// row is one thing that is different from a healthy host, and what is found then: all that is not ok, and what is wanted of
// lines that are.
type row struct {
	change func(*world)
	want   []Finding
}

func (r row) run(t *testing.T) {
	w := healthy(t)
	r.change(w)
	got := Examine(context.Background(), w.h, w.a)
	for _, want := range r.want {
		if !slices.ContainsFunc(got, want.matches) {
			t.Errorf("nothing says %v; found %v", want, got)
		}
	}
	for _, found := range got {
		if found.Level != OK && !slices.ContainsFunc(r.want, func(want Finding) bool { return want.matches(found) }) {
			t.Errorf("unexpected: %v", found)
		}
	}
}

func (want Finding) matches(found Finding) bool {
	return want.Name == found.Name && want.Level == found.Level && strings.Contains(found.Text, want.Text)
}

func runAll(t *testing.T, rows map[string]row) {
	for what, r := range rows {
		t.Run(what, r.run)
	}
}

func TestAHealthyHostIsFineInEveryLine(t *testing.T) {
	w := healthy(t)
	var names []string
	for _, f := range Examine(context.Background(), w.h, w.a) {
		names = append(names, f.Name)
		if f.Level != OK {
			t.Errorf("%s: %s", f.Name, f.Text)
		}
	}
	want := []string{
		"root", "capabilities", "kernel", "namespaces", "user namespaces", "overlay", "seccomp", "AppArmor", "SELinux", "inotify", "cgroups", "containerd", "snapshotter",
		"handler runc", "shim", "network", "CNI plugins", "iptables", "kernel network", "forwarding", "manifests", "permissions", "disk", "systemd",
	}
	if !slices.Equal(names, want) {
		t.Errorf("checked %q", names)
	}
}

func TestRightsAndKernel(t *testing.T) {
	fromRootOnly := Finding{"kernel network", Warn, "only root"}
	runAll(t, map[string]row{
		"a user who is not root is told so, and what only root can see is not said to be fine": {
			func(w *world) { w.write("/proc/self/status", "Uid:\t1000\t1000\t1000\t1000\nCapEff:\t0\n") },
			[]Finding{fromRootOnly, {"root", Fail, "user 1000: run it as root"}, {"capabilities", Fail, "podkeeper lacks CAP_SYS_ADMIN"}},
		},
		"the effective user counts, not the real one": {
			func(w *world) {
				w.write("/proc/self/status", strings.Replace(allCapabilities, "Uid:\t0\t0", "Uid:\t1000\t0", 1))
			},
			[]Finding{{"root", OK, "root"}},
		},
		"nothing of a process can be read": {
			func(w *world) { w.remove("/proc/self/status") },
			[]Finding{fromRootOnly, {"root", Fail, "cannot be told"}, {"capabilities", Fail, "of podkeeper cannot be told"}},
		},
		"a status that makes no sense": {
			func(w *world) { w.write("/proc/self/status", "Uid:\t0\t0\t0\t0\nCapEff:\tx\n") },
			[]Finding{{"capabilities", Fail, "cannot be told"}},
		},
		"podkeeper may not set up networks": { // all but CAP_NET_ADMIN (12)
			func(w *world) {
				w.write("/proc/self/status", strings.Replace(allCapabilities, "01ffffffffff", "01ffffffefff", 1))
			},
			[]Finding{{"capabilities", Fail, "podkeeper lacks CAP_NET_ADMIN: start it as root"}},
		},
		"podkeeper needs less than containers have": { // all but CAP_AUDIT_WRITE (29)
			func(w *world) {
				w.write("/proc/self/status", strings.Replace(allCapabilities, "01ffffffffff", "01ffdfffffff", 1))
			},
			[]Finding{{"capabilities", OK, "all"}},
		},
		"containerd has less than containers have": {
			func(w *world) {
				w.write("/proc/42/status", strings.Replace(allCapabilities, "01ffffffffff", "01ffdfffffff", 1))
			},
			[]Finding{{"capabilities", Fail, "containerd lacks CAP_AUDIT_WRITE"}},
		},
		"a containerd that cannot be seen is taken to have what we have": {
			func(w *world) {
				w.d.PID = 0
				w.write("/proc/self/status", strings.Replace(allCapabilities, "01ffffffffff", "01ffdfffffff", 1))
			},
			[]Finding{{"capabilities", Fail, "podkeeper lacks CAP_AUDIT_WRITE"}},
		},
		"neither podkeeper nor containerd can lower oom_score_adj": {
			func(w *world) { w.noSysResource("self", "0"); w.noSysResource("42", "0") },
			[]Finding{{"capabilities", Warn, "podkeeper lacks CAP_SYS_RESOURCE: it cannot lower oom_score_adj below its own 0"}},
		},
		"only podkeeper cannot": {
			func(w *world) { w.noSysResource("self", "100") },
			[]Finding{{"capabilities", Warn, "podkeeper lacks CAP_SYS_RESOURCE: it cannot lower oom_score_adj below its own 100"}},
		},
		"containerd is asked for what it cannot do": {
			func(w *world) { w.noSysResource("42", "-500") },
			[]Finding{{"capabilities", Fail, "containerd lacks CAP_SYS_RESOURCE: it cannot lower oom_score_adj below its own -500"}},
		},
		"a containerd that is low enough already need not lower anything": {
			func(w *world) { w.noSysResource("42", "-999") },
			[]Finding{{"capabilities", OK, "all"}},
		},
		"oom_score_adj cannot be read": {
			func(w *world) { w.noSysResource("self", "0"); w.remove("/proc/self/oom_score_adj") },
			[]Finding{{"capabilities", Fail, "oom_score_adj of podkeeper cannot be told"}},
		},
		"oom_score_adj makes no sense": {
			func(w *world) { w.noSysResource("42", "x") },
			[]Finding{{"capabilities", Fail, "oom_score_adj of containerd cannot be told"}},
		},
		"a kernel without openat2": {
			func(w *world) { w.write("/proc/sys/kernel/osrelease", "5.4.0-150-generic") },
			[]Finding{{"kernel", Fail, "Linux 5.4.0-150-generic: install 5.6 or newer"}},
		},
		"the oldest kernel that will do": {
			func(w *world) { w.write("/proc/sys/kernel/osrelease", "5.6.0") },
			[]Finding{{"kernel", OK, "5.6.0"}},
		},
		"a kernel whose version is a riddle": {
			func(w *world) { w.write("/proc/sys/kernel/osrelease", "next") },
			[]Finding{{"kernel", Warn, "next is not understood"}},
		},
		"a kernel that does not tell its version": {
			func(w *world) { w.remove("/proc/sys/kernel/osrelease") },
			[]Finding{{"kernel", Fail, "cannot be told"}},
		},
		"a kernel without two of the namespaces": {
			func(w *world) { w.remove("/proc/self/ns/ipc"); w.remove("/proc/self/ns/uts") },
			[]Finding{{"namespaces", Fail, "none of kind ipc, uts"}},
		},
		"a host without SELinux": {
			func(w *world) { w.a.SELinux = func() error { return errors.New("it is not enabled") } },
			[]Finding{{"SELinux", OK, "Pods with seLinuxOptions wait: it is not enabled"}},
		},
		"a host that allows no user namespaces": {
			func(w *world) { w.a.UserNamespaces = func() error { return errors.New("it allows none") } },
			[]Finding{{"user namespaces", Warn, "Pods with hostUsers: false do not start: it allows none"}},
		},
		"overlay is a module that can be loaded": {
			func(w *world) {
				w.write("/proc/filesystems", "\text4\n")
				w.script("/usr/sbin/modprobe", `[ "$*" = "-n -q overlay" ]`)
			},
			[]Finding{{"overlay", OK, "a module"}},
		},
		"overlay is no module either": {
			func(w *world) {
				w.write("/proc/filesystems", "\text4\n")
				w.script("/usr/sbin/modprobe", "exit 1")
			},
			[]Finding{{"overlay", Fail, "CONFIG_OVERLAY_FS"}},
		},
		"there is no overlay and no modprobe": {
			func(w *world) { w.write("/proc/filesystems", "\text4\n") },
			[]Finding{{"overlay", Fail, "CONFIG_OVERLAY_FS"}},
		},
		"file systems cannot be listed": {
			func(w *world) { w.remove("/proc/filesystems") },
			[]Finding{{"overlay", Fail, "cannot be told"}},
		},
		"a kernel with AppArmor, and what loads profiles": {
			func(w *world) {
				w.write("/sys/module/apparmor/parameters/enabled", "Y\n")
				w.write("/sys/kernel/security/apparmor/profiles", "")
				w.write("/sbin/apparmor_parser", "")
			},
			[]Finding{{"AppArmor", OK, "containers have profiles"}},
		},
		"nothing that loads profiles": {
			func(w *world) {
				w.write("/sys/module/apparmor/parameters/enabled", "Y\n")
				w.write("/sys/kernel/security/apparmor/profiles", "")
			},
			[]Finding{{"AppArmor", Warn, "apt-get install apparmor"}},
		},
		"AppArmor that is switched off": {
			func(w *world) {
				w.write("/sys/module/apparmor/parameters/enabled", "N\n")
				w.write("/sys/kernel/security/apparmor/profiles", "")
			},
			[]Finding{{"AppArmor", OK, "not enabled"}},
		},
		"a kernel without seccomp filters": {
			func(w *world) { w.remove("/proc/sys/kernel/seccomp") },
			[]Finding{{"seccomp", Warn, "CONFIG_SECCOMP_FILTER"}},
		},
		"all inotify instances are taken": {
			func(w *world) { w.h.Inotify = func() error { return unix.EMFILE } },
			[]Finding{{"inotify", Warn, "sysctl -w fs.inotify.max_user_instances=1024"}},
		},
		"all inotify watches are taken": {
			func(w *world) { w.h.Inotify = func() error { return unix.ENOSPC } },
			[]Finding{{"inotify", Warn, "sysctl -w fs.inotify.max_user_watches=524288"}},
		},
		"inotify works, and its limit cannot be read": {
			func(w *world) { w.remove("/proc/sys/fs/inotify") },
			[]Finding{{"inotify", OK, "an unknown number"}},
		},
		"the agent could not open its cgroups": {
			func(w *world) {
				w.a.Cgroups = func() (Cgroups, error) { return Cgroups{}, errors.New("memory is not mounted") }
			},
			[]Finding{{"cgroups", Fail, "memory is not mounted"}},
		},
		"cgroups are mounted read-only, as in a container": {
			func(w *world) {
				before := w.h.Statfs
				w.h.Statfs = func(path string, to *unix.Statfs_t) error {
					err := before(path, to)
					if path == w.h.at("/sys/fs/cgroup") {
						to.Flags = unix.ST_RDONLY
					}
					return err
				}
			},
			[]Finding{{"cgroups", Fail, "/sys/fs/cgroup cannot be written to: mount it read-write (it is mounted read-only)"}},
		},
		"cgroup v2 without pids": {
			func(w *world) { w.c.Controllers = []string{"cpu", "memory"} },
			[]Finding{{"cgroups", Warn, "v2 without the controller pids"}},
		},
		"cgroup v1 without devices": {
			func(w *world) { w.c.Version = "v1" },
			[]Finding{{"cgroups", Fail, "without the devices controller"}},
		},
		"a hybrid without cpuacct": {
			func(w *world) {
				w.c.Version, w.c.Controllers = "hybrid", []string{"cpu", "memory", "pids", "devices"}
			},
			[]Finding{{"cgroups", Warn, "without the controller cpuacct"}},
		},
		"a hybrid with all": {
			func(w *world) {
				w.c.Version, w.c.Controllers = "hybrid", []string{"cpu", "cpuacct", "memory", "pids", "devices"}
			},
			[]Finding{{"cgroups", OK, "hybrid, driver cgroupfs, controllers cpu cpuacct"}},
		},
	})
}

func TestConfigurationOfTheAgent(t *testing.T) {
	runAll(t, map[string]row{
		"a file that is fine": {
			func(w *world) { w.a.Config = "/etc/podkeeper/config.yaml" },
			[]Finding{{"configuration", OK, "/etc/podkeeper/config.yaml"}},
		},
		"a file that is refused, which does not end the examination": {
			func(w *world) { w.a.ConfigErr = errors.New("x.yaml:3: maxPods: not supported") },
			[]Finding{{"configuration", Fail, "x.yaml:3: maxPods"}, {"systemd", OK, ""}},
		},
	})
}

func TestWhatIsPrinted(t *testing.T) {
	for what, c := range map[string]struct {
		findings []Finding
		want     string
		healthy  bool
	}{
		"columns are aligned, and a warning is no failure": {
			[]Finding{{"root", OK, "runs as root"}, {"containerd", Warn, "old"}}, "ok    root        runs as root\nwarn  containerd  old\n", true,
		},
		"a failure is one, and several lines of an error are one": {
			[]Finding{{"x", Fail, "a\nb\n"}, {"y", OK, "c"}}, "FAIL  x  a; b\nok    y  c\n", false,
		},
	} {
		t.Run(what, func(t *testing.T) {
			var b strings.Builder
			healthy, err := Print(&b, c.findings)
			if err != nil || healthy != c.healthy || b.String() != c.want {
				t.Errorf("printed %q, %v, %v", b.String(), healthy, err)
			}
		})
	}
}

func TestThisHostCanBeExamined(t *testing.T) {
	h := This()
	if !h.exists("/proc/self/status") || h.program(servicePath, "sh") == "" {
		t.Error("this process's own host looks empty")
	}
	if err := h.Inotify(); err != nil && !errors.Is(err, unix.EMFILE) && !errors.Is(err, unix.ENOSPC) {
		t.Error(err)
	}
	if found := h.kernel(); found.Level != OK {
		t.Error(found)
	}
}
