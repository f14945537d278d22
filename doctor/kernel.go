package doctor

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

func (h Host) root() Finding {
	const name = "root"
	uids, err := h.status("self", "Uid") // real, effective, …
	if err != nil {
		return fail(name, "cannot be told: %v: mount /proc", err)
	}
	if fields := strings.Fields(uids); len(fields) > 1 && fields[1] != "0" {
		return fail(name, "runs as user %s: run it as root (sudo podkeeper doctor)", fields[1])
	}
	return ok(name, "runs as root")
}

// capability is one that podkeeper or containerd needs.
type capability struct {
	bit  uint
	name string
}

// agentNeeds is what podkeeper and the CNI plugins that it starts cannot do without.
var agentNeeds = []capability{
	{unix.CAP_SYS_ADMIN, "CAP_SYS_ADMIN"}, {unix.CAP_NET_ADMIN, "CAP_NET_ADMIN"}, {unix.CAP_CHOWN, "CAP_CHOWN"},
	{unix.CAP_DAC_OVERRIDE, "CAP_DAC_OVERRIDE"}, {unix.CAP_FOWNER, "CAP_FOWNER"}, {unix.CAP_KILL, "CAP_KILL"},
}

// containersHave is what containers have by default: an OCI runtime that has not got one of these starts none.
var containersHave = []capability{
	{unix.CAP_FSETID, "CAP_FSETID"}, {unix.CAP_MKNOD, "CAP_MKNOD"}, {unix.CAP_NET_RAW, "CAP_NET_RAW"},
	{unix.CAP_SETGID, "CAP_SETGID"}, {unix.CAP_SETUID, "CAP_SETUID"}, {unix.CAP_SETPCAP, "CAP_SETPCAP"},
	{unix.CAP_SETFCAP, "CAP_SETFCAP"}, {unix.CAP_SYS_CHROOT, "CAP_SYS_CHROOT"},
	{unix.CAP_NET_BIND_SERVICE, "CAP_NET_BIND_SERVICE"}, {unix.CAP_AUDIT_WRITE, "CAP_AUDIT_WRITE"},
}

// capabilities are podkeeper's own and those of containerd, which OCI runtimes inherit. Where containerd's cannot be seen,
// it is taken to have no more than we have.
func (h Host) capabilities(containerd int, a Agent) Finding {
	const name = "capabilities"
	all := slices.Concat(agentNeeds, containersHave)
	if containerd == 0 || !h.exists(fmt.Sprintf("/proc/%d/status", containerd)) {
		_, found := h.capable("podkeeper", "self", all, a)
		return found
	}
	own, found := h.capable("podkeeper", "self", agentNeeds, a)
	if found.Level == Fail {
		return found
	}
	lowest, its := h.capable("containerd", strconv.Itoa(containerd), all, a)
	switch {
	case its.Level == Fail:
		return its
	case lowest > max(own, a.LowestScore): // podkeeper asks for no less than it could do itself
		return fail(name, "containerd lacks CAP_SYS_RESOURCE: it cannot lower oom_score_adj below its own %d, as podkeeper will ask it to: "+
			"give it the capability, or OOMScoreAdjust=-999 in its service", lowest)
	default:
		return found
	}
}

// capable judges the capabilities of one process. It also answers the lowest oom_score_adj that this can give.
func (h Host) capable(who, pid string, needs []capability, a Agent) (lowest int, found Finding) {
	const name = "capabilities"
	text, err := h.status(pid, "CapEff")
	if err != nil {
		return 0, fail(name, "of %s cannot be told: %v: mount /proc", who, err)
	}
	effective, err := strconv.ParseUint(text, 16, 64)
	if err != nil {
		return 0, fail(name, "of %s cannot be told: CapEff is %q", who, text)
	}
	var missing []string
	for _, c := range needs {
		if effective&(1<<c.bit) == 0 {
			missing = append(missing, c.name)
		}
	}
	if len(missing) > 0 {
		return 0, fail(name, "%s lacks %s: start it as root, and, in a container, in a privileged one", who, strings.Join(missing, ", "))
	}
	if lowest, err = a.LowestScoreOf(h.at("/proc/" + pid)); err != nil {
		return 0, fail(name, "oom_score_adj of %s cannot be told: %v: mount /proc", who, err)
	}
	if lowest <= a.LowestScore {
		return lowest, ok(name, "all that Pods need")
	}
	return lowest, warn(name, "%s lacks CAP_SYS_RESOURCE: it cannot lower oom_score_adj below its own %d, so that under memory pressure "+
		"Guaranteed Pods are not the last to be killed: give it that capability", who, lowest)
}

// kernel wants Linux 5.6, which has openat2: without it no path in a volume is safe from symlinks.
func (h Host) kernel() Finding {
	const name = "kernel"
	release, err := h.read("/proc/sys/kernel/osrelease")
	if err != nil {
		return fail(name, "version cannot be told: %v: mount /proc", err)
	}
	v, err := parseVersion(release)
	switch {
	case err != nil:
		return warn(name, "version %s is not understood: Linux 5.6 or newer is needed", release)
	case v.before(5, 6):
		return fail(name, "Linux %s: install 5.6 or newer", release)
	default:
		return ok(name, "Linux %s", release)
	}
}

type version struct{ major, minor int }

// parseVersion reads the first two numbers of a version, whatever comes after them.
func parseVersion(text string) (v version, err error) {
	_, err = fmt.Sscanf(strings.TrimPrefix(text, "v"), "%d.%d", &v.major, &v.minor)
	return v, err
}

func (v version) before(major, minor int) bool {
	return v.major < major || v.major == major && v.minor < minor
}

// namespaces are those that every Pod is given.
func (h Host) namespaces() Finding {
	const name = "namespaces"
	kinds := []string{"ipc", "mnt", "net", "pid", "uts"}
	missing := slices.DeleteFunc(slices.Clone(kinds), func(kind string) bool { return h.exists("/proc/self/ns/" + kind) })
	if len(missing) > 0 {
		return fail(name, "the kernel has none of kind %s: use a kernel with CONFIG_NAMESPACES and all below it", strings.Join(missing, ", "))
	}
	return ok(name, "%s", strings.Join(kinds, " "))
}

// userNamespaces are for Pods that want one.
func userNamespaces(missing func() error) Finding {
	const name = "user namespaces"
	if err := missing(); err != nil {
		return warn(name, "Pods with hostUsers: false do not start: %v", err)
	}
	return ok(name, "Pods with hostUsers: false have users of their own")
}

// overlay is the file system of containers. It may be a module that is loaded when it is first wanted.
func (h Host) overlay(ctx context.Context) Finding {
	const name = "overlay"
	known, err := h.read("/proc/filesystems")
	if err != nil {
		return fail(name, "cannot be told: %v: mount /proc", err)
	}
	if slices.Contains(strings.Fields(known), "overlay") {
		return ok(name, "the kernel has it")
	}
	if modprobe := h.program(servicePath, "modprobe"); modprobe != "" {
		if _, err := h.run(ctx, modprobe, "-n", "-q", "overlay"); err == nil {
			return ok(name, "a module, which is loaded when needed")
		}
	}
	return fail(name, "the kernel has no overlay file system: use a kernel with CONFIG_OVERLAY_FS")
}

// seccomp is needed only where a Pod asks for a filter.
func (h Host) seccomp() Finding {
	const name = "seccomp"
	if !h.exists("/proc/sys/kernel/seccomp/actions_avail") {
		return warn(name, "the kernel has no filters: Pods with a seccompProfile do not start: use a kernel with CONFIG_SECCOMP_FILTER")
	}
	return ok(name, "the kernel has filters")
}

// appArmor is needed where the kernel has it, so that containers are confined; and where a Pod asks for a profile.
func (h Host) appArmor() Finding {
	const name = "AppArmor"
	enabled, err := h.read("/sys/module/apparmor/parameters/enabled")
	switch {
	case err != nil || enabled != "Y" || !h.exists("/sys/kernel/security/apparmor"):
		return ok(name, "not enabled: Pods that name a profile wait, others have none")
	case !h.exists("/sbin/apparmor_parser"):
		return warn(name, "enabled, but without /sbin/apparmor_parser containers have no profile, and Pods that name one wait: %s",
			h.install("apparmor"))
	}
	return ok(name, "enabled: containers have profiles")
}

// seLinux is needed where a Pod asks for labels.
func seLinux(missing func() error) Finding {
	const name = "SELinux"
	if err := missing(); err != nil {
		return ok(name, "Pods with seLinuxOptions wait: %v", err)
	}
	return ok(name, "enabled: Pods with seLinuxOptions have labels, others none of their own")
}

// inotify is how edits of manifests are noticed; without it the agent looks by the clock.
func (h Host) inotify() Finding {
	const name = "inotify"
	if err := h.Inotify(); err != nil {
		limit := "fs.inotify.max_user_instances=1024"
		if errors.Is(err, unix.ENOSPC) {
			limit = "fs.inotify.max_user_watches=524288"
		}
		return warn(name, "no more to be had: %v: edits of manifests are noticed later, images in the image directory "+
			"only at start: sysctl -w %s", err, limit)
	}
	instances, err := h.read("/proc/sys/fs/inotify/max_user_instances")
	if err != nil {
		instances = "an unknown number of"
	}
	return ok(name, "what podkeeper needs is free, of %s instances a user", instances)
}

// tryInotify makes the two instances that an agent has, for manifests and for images, with one watch each.
func tryInotify() error {
	for range 2 {
		fd, err := unix.InotifyInit1(unix.IN_CLOEXEC)
		if err != nil {
			return fmt.Errorf("make inotify instance: %w", err)
		}
		defer unix.Close(fd)
		if _, err := unix.InotifyAddWatch(fd, "/", unix.IN_CREATE); err != nil {
			return fmt.Errorf("add inotify watch: %w", err)
		}
	}
	return nil
}

// Cgroups is what is known of the host's cgroups.
type Cgroups struct {
	Version     string // v2, v1 or hybrid
	Driver      string // who makes cgroups: cgroupfs or systemd
	Controllers []string
	Mounts      []string // where they are written to
}

func (h Host) cgroups(open func() (Cgroups, error)) Finding {
	const name = "cgroups"
	c, err := open()
	if err != nil {
		return fail(name, "%v", err)
	}
	for _, mount := range c.Mounts {
		if ro, err := h.readOnly(mount); err != nil || ro {
			return fail(name, "%s cannot be written to: mount it read-write (%s)", mount, cause(err, "it is mounted read-only"))
		}
	}
	has := func(controller string) bool { return slices.Contains(c.Controllers, controller) }
	if c.Version != "v2" && !has("devices") {
		return fail(name, "%s without the devices controller, which OCI runtimes insist on: mount it below /sys/fs/cgroup", c.Version)
	}
	wanted := []string{"pids"}
	if c.Version != "v2" {
		wanted = []string{"cpuacct", "pids"}
	}
	if missing := slices.DeleteFunc(wanted, has); len(missing) > 0 {
		return warn(name, "%s without the controller %s: what Pods use cannot be told: enable it in the kernel", c.Version, strings.Join(missing, ", "))
	}
	return ok(name, "%s, driver %s, controllers %s", c.Version, c.Driver, strings.Join(c.Controllers, " "))
}

// cause is an error's text, or what stands in for it where there is none.
func cause(err error, otherwise string) string {
	if err != nil {
		return err.Error()
	}
	return otherwise
}
