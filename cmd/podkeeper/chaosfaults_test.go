package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"sigs.k8s.io/yaml"

	"github.com/podkeeper/podkeeper/server"
)

// fault is something that befalls a node, or an edit of what is wanted of it.
type fault struct {
	name   string
	weight int               // how likely it is
	can    func(*chaos) bool // on this node; nil is always
	// do has it happen, and answers to what, "" where there was nothing to befall; undo, which may be nil, ends it.
	do func(*chaos) (what string, undo func())
}

// many is how often a container may be tried that cannot be started for a while.
const many = 20

var faults = []fault{
	{name: "agent is killed", weight: 6, do: (*chaos).killAgent},
	{name: "agent is stopped", weight: 2, do: (*chaos).endAgent},
	{name: "agent hangs", weight: 2, do: (*chaos).hangAgent},
	{name: "agent is reloaded", weight: 1, do: (*chaos).reloadAgent},
	{name: "agent has no descriptors", weight: 2, do: (*chaos).starveOfDescriptors},
	{name: "agent has no threads", weight: 1, can: has("pids"), do: (*chaos).starveOfThreads},
	{name: "agent is out of memory", weight: 2, can: has("memory"), do: (*chaos).starveOfMemory},
	{name: "containerd is killed", weight: 3, do: (*chaos).killContainerd},
	{name: "containerd is restarted", weight: 2, do: (*chaos).restartContainerd},
	{name: "containerd hangs", weight: 2, do: (*chaos).hangContainerd},
	{name: "containerd hangs for half a minute", weight: 2, can: isLong, do: rarely(30*time.Second, (*chaos).hangContainerd)},
	{name: "containerd is away for a minute", weight: 2, can: isLong, do: rarely(time.Minute, (*chaos).killContainerd)},
	{name: "containerd has no descriptors", weight: 1, do: (*chaos).starveContainerdOfDescriptors},
	{name: "containerd has no threads", weight: 1, can: has("pids"), do: (*chaos).starveContainerdOfThreads},
	{name: "shim is killed", weight: 4, do: (*chaos).killShim},
	{name: "all shims are killed", weight: 1, do: (*chaos).killShims},
	{name: "shim hangs", weight: 2, do: (*chaos).hangShim},
	{name: "shim hangs for half a minute", weight: 2, can: isLong, do: rarely(30*time.Second, (*chaos).hangShim)},
	{name: "pause is killed", weight: 3, do: (*chaos).killPause},
	{name: "container is killed", weight: 5, do: (*chaos).killContainer},
	{name: "runc is killed at its work", weight: 3, do: (*chaos).killRunc},
	{name: "disk is full", weight: 3, do: (*chaos).fillDisk},
	{name: "plugin fails", weight: 3, can: hasPlugins, do: func(c *chaos) (string, func()) { return c.breakPlugin("fail") }},
	{name: "plugin hangs", weight: 2, can: hasPlugins, do: func(c *chaos) (string, func()) { return c.breakPlugin("hang") }},
	{name: "firewall is flushed", weight: 1, do: (*chaos).flushFirewall},
	{name: "bridge is deleted", weight: 1, can: hasNoPlugins, do: (*chaos).deleteBridge},
	{name: "network namespace is deleted", weight: 2, do: (*chaos).deleteNetNS},
	{name: "manifests are unmounted", weight: 2, do: (*chaos).unmountManifests},
	{name: "manifest is broken", weight: 2, do: (*chaos).breakManifest},
	{name: "host's DNS is changed", weight: 1, do: (*chaos).changeDNS},
	{name: "clock is an hour off", weight: 2, can: isDisposable, do: (*chaos).shiftClock},
	{name: "pod is added", weight: 5, do: (*chaos).addPod},
	{name: "pod is removed", weight: 4, do: (*chaos).removePod},
	{name: "pod is edited", weight: 5, do: (*chaos).editPod},
	{name: "pod is edited in place", weight: 4, do: (*chaos).editInPlace},
	{name: "pod is removed and is back", weight: 3, do: (*chaos).flipPod},
}

func hasPlugins(c *chaos) bool   { return c.plugins }
func hasNoPlugins(c *chaos) bool { return !c.plugins }
func isLong(*chaos) bool         { return *chaosFaults >= 2*rare }

// has says whether there is a controller of cgroup v1.
func has(controller string) func(*chaos) bool {
	return func(*chaos) bool {
		_, err := os.Stat(filepath.Join("/sys/fs/cgroup", controller))
		return err == nil
	}
}

// rare is how many faults there are at least for each one that takes long.
const rare = 100

// rarely has a fault last longer, but not as often.
func rarely(long time.Duration, do func(*chaos) (string, func())) func(*chaos) (string, func()) {
	times := 0
	return func(c *chaos) (string, func()) {
		if c.count < rare*(3*times+1) {
			return "", nil
		}
		what, undo := do(c)
		if undo == nil {
			return what, nil
		}
		times++
		end := time.Now().Add(long)
		return what, func() {
			time.Sleep(time.Until(end))
			undo()
		}
	}
}

func isDisposable(*chaos) bool { return os.Getenv("PODKEEPER_NODE") == "disposable" }

// awake says whether the agent can be asked for something.
func (c *chaos) awake() bool {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	return c.agentRuns() && c.client().Healthy(ctx) == nil
}

// mayRestart has the containers of a Pod be restarted as often as that, each.
func (c *chaos) mayRestart(s *subject, times int, containers ...string) {
	if len(containers) == 0 {
		containers = append([]string{"init"}, s.kind.runs...)
	}
	for _, name := range containers {
		c.causes.restarts[s.name+"/"+name] += times
	}
}

// mustRestart has the same happen, of containers that were there at the last check.
func (c *chaos) mustRestart(s *subject, containers ...string) {
	c.mayRestart(s, 1, containers...)
	if len(containers) == 0 {
		containers = s.kind.runs
	}
	for _, name := range containers {
		if _, known := c.before[s.name]; known && !c.causes.renewed[s.name] {
			c.causes.must[s.name+"/"+name] = true
		}
	}
}

// renew has another instance of a Pod be there next.
func (c *chaos) renew(s *subject) {
	c.causes.renewed[s.name] = true
	for _, name := range s.kind.runs {
		delete(c.causes.must, s.name+"/"+name)
	}
}

// signal sends the agent a signal, if it runs.
func (c *chaos) signal(s syscall.Signal) bool {
	return c.agentRuns() && c.agent.Process.Signal(s) == nil
}

func (c *chaos) killAgent() (string, func()) {
	if !c.signal(syscall.SIGKILL) {
		return "", nil
	}
	<-c.ended
	c.ended <- nil
	if c.random.IntN(2) == 0 {
		return "it is back later", func() {}
	}
	if err := c.begin(); err != nil {
		c.t.Error(err)
	}
	return "it is back at once", nil
}

func (c *chaos) endAgent() (string, func()) {
	if isStopped(c.agent.Process.Pid) || !c.signal(syscall.SIGTERM) { // what hangs does not end by being asked to
		return "", nil
	}
	<-c.ended
	c.ended <- nil
	return "it is back later", func() {}
}

func (c *chaos) hangAgent() (string, func()) {
	if !c.signal(syscall.SIGSTOP) {
		return "", nil
	}
	return "SIGSTOP", func() { c.signal(syscall.SIGCONT) }
}

func (c *chaos) reloadAgent() (string, func()) {
	if !c.awake() || !c.signal(syscall.SIGHUP) {
		return "", nil
	}
	return "SIGHUP", nil
}

// starveOfDescriptors has the agent open no more than a few files.
func (c *chaos) starveOfDescriptors() (string, func()) {
	if !c.awake() {
		return "", nil
	}
	c.causes.flips[""] = true // probes cannot be made
	return c.fewDescriptors(c.agent.Process.Pid)
}

func (c *chaos) starveContainerdOfDescriptors() (string, func()) {
	return c.fewDescriptors(c.own.Pid())
}

func (c *chaos) fewDescriptors(pid int) (string, func()) {
	open, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	var before unix.Rlimit
	if err != nil || unix.Prlimit(pid, unix.RLIMIT_NOFILE, nil, &before) != nil {
		return "", nil
	}
	now := unix.Rlimit{Cur: uint64(len(open) + c.random.IntN(4)), Max: before.Max}
	if err := unix.Prlimit(pid, unix.RLIMIT_NOFILE, &now, nil); err != nil {
		return "", nil
	}
	c.causes.starved = true
	return fmt.Sprintf("%d files", now.Cur), func() { _ = unix.Prlimit(pid, unix.RLIMIT_NOFILE, &before, nil) }
}

// starveOfThreads has the agent have no more threads and processes than it has: Go ends where it can have none.
func (c *chaos) starveOfThreads() (string, func()) {
	if !c.awake() {
		return "", nil
	}
	c.causes.flips[""] = true
	return c.doom("pids", "pids.max", ownPids)
}

func (c *chaos) starveContainerdOfThreads() (string, func()) {
	return c.confine("containerd", c.own.Pid(), "pids", "pids.max", ownPids)
}

// ownPids is how many threads the processes of a cgroup have.
func ownPids(group string) string {
	has, _ := os.ReadFile(filepath.Join(group, "pids.current"))
	return strings.TrimSpace(string(has))
}

// starveOfMemory has the kernel kill the agent when it next needs memory.
func (c *chaos) starveOfMemory() (string, func()) {
	if !c.awake() {
		return "", nil
	}
	c.causes.flips[""] = true
	return c.doom("memory", "memory.limit_in_bytes", func(string) string { return "65536" })
}

// doom confines the agent to what it will end of.
func (c *chaos) doom(controller, file string, limit func(group string) string) (string, func()) {
	what, undo := c.confine("agent", c.agent.Process.Pid, controller, file, limit)
	if undo == nil {
		return "", nil
	}
	c.doomed = true
	return what, func() {
		undo()
		c.doomed = false
	}
}

// confine has a process, and what it starts, be in a cgroup with a limit.
func (c *chaos) confine(name string, pid int, controller, file string, limit func(group string) string) (string, func()) {
	top := filepath.Join("/sys/fs/cgroup", controller)
	group := filepath.Join(top, c.namespace+"-"+name)
	if err := os.Mkdir(group, 0o755); err != nil {
		return "", nil
	}
	_ = os.WriteFile(filepath.Join(group, "cgroup.procs"), []byte(strconv.Itoa(pid)), 0)
	to := limit(group)
	_ = os.WriteFile(filepath.Join(group, file), []byte(to), 0)
	c.causes.starved = true
	return to, func() {
		for range 100 {
			procs, _ := os.ReadFile(filepath.Join(group, "cgroup.procs"))
			for pid := range strings.Lines(string(procs)) {
				_ = os.WriteFile(filepath.Join(top, "cgroup.procs"), []byte(strings.TrimSpace(pid)), 0)
			}
			if os.Remove(group) == nil {
				return
			}
			time.Sleep(10 * time.Millisecond)
		}
		c.t.Errorf("%s cannot be removed", group)
	}
}

func (c *chaos) killContainerd() (string, func()) {
	if err := c.own.Kill(); err != nil {
		return "", nil
	}
	return fmt.Sprint(c.own.Pid()), func() {}
}

func (c *chaos) restartContainerd() (string, func()) {
	if isStopped(c.own.Pid()) {
		return "", nil
	}
	if err := c.own.Stop(); err != nil {
		return "", nil
	}
	return fmt.Sprint(c.own.Pid()), func() {}
}

func (c *chaos) hangContainerd() (string, func()) {
	pid := c.own.Pid()
	if pid <= 0 || isStopped(pid) || syscall.Kill(pid, syscall.SIGSTOP) != nil {
		return "", nil
	}
	return fmt.Sprint(pid), func() { _ = syscall.Kill(pid, syscall.SIGCONT) }
}

// isStopped says whether a process hangs already.
func isStopped(pid int) bool {
	state, _, _ := statOf(pid)
	return state == "T"
}

// shimOf is the shim of a Pod's containers, 0 where there is none.
func (c *chaos) shimOf(s *subject) int {
	for _, pid := range c.processes()[s.mark(s.kind.runs[0])] {
		if _, parent, _ := statOf(pid); slices.Contains(c.shims(), parent) {
			return parent
		}
	}
	return 0
}

func (c *chaos) killShim() (string, func()) {
	s := c.some(isRunning)
	shim := c.shimOf(s)
	if shim == 0 || syscall.Kill(shim, syscall.SIGKILL) != nil {
		return "", nil
	}
	c.mustRestart(s)
	return s.name, nil
}

func (c *chaos) killShims() (string, func()) {
	for _, s := range c.pods {
		if s.kind.ends {
			continue
		}
		if c.shimOf(s) != 0 {
			c.mustRestart(s)
		}
	}
	shims := c.shims()
	for _, shim := range shims {
		_ = syscall.Kill(shim, syscall.SIGKILL)
	}
	return fmt.Sprintf("%d of them", len(shims)), nil
}

// hangShim has a shim do nothing for a while. Whoever loses patience with it may have its containers restarted.
func (c *chaos) hangShim() (string, func()) {
	s := c.some(isRunning)
	shim := c.shimOf(s)
	if shim == 0 || syscall.Kill(shim, syscall.SIGSTOP) != nil {
		return "", nil
	}
	c.causes.flips[s.name] = true
	return s.name, func() { _ = syscall.Kill(shim, syscall.SIGCONT) }
}

func (c *chaos) killPause() (string, func()) {
	s := c.some(isRunning)
	pid, err := c.boxOf(c.uid(s))
	if err != nil || syscall.Kill(pid, syscall.SIGKILL) != nil {
		return "", nil
	}
	c.mustRestart(s)
	return s.name, nil
}

func (c *chaos) killContainer() (string, func()) {
	s, container := c.someContainer()
	pids := c.processes()[s.mark(container)]
	if len(pids) != 1 || syscall.Kill(pids[0], syscall.SIGKILL) != nil {
		return "", nil
	}
	c.mustRestart(s, container)
	return s.name + "/" + container, nil
}

// killRunc kills a container, and then whatever makes the next one.
func (c *chaos) killRunc() (string, func()) {
	what, _ := c.killContainer()
	if what == "" {
		return "", nil
	}
	name, container, _ := strings.Cut(what, "/")
	c.mayRestart(c.pods[name], many, container)
	mark := []byte(": chaos " + c.namespace + " " + c.pods[name].mark(container) + ";")
	until := time.Now().Add(3 * time.Second)
	for time.Now().Before(until) {
		lines, _ := filepath.Glob("/proc/[0-9]*/cmdline")
		for _, file := range lines {
			line, _ := os.ReadFile(file)
			args := strings.Split(string(line), "\x00")
			bundle := slices.Index(args, "--bundle") + 1
			if filepath.Base(args[0]) != "runc" || !slices.Contains(args, "create") || bundle == 0 {
				continue
			}
			spec, _ := os.ReadFile(filepath.Join(args[bundle], "config.json"))
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(file)))
			if bytes.Contains(spec, mark) && syscall.Kill(pid, syscall.SIGKILL) == nil {
				return what, nil
			}
		}
	}
	return what + ", but nothing was made in time", nil
}

// fillDisk leaves no room for records, logs, images and containers' files.
func (c *chaos) fillDisk() (string, func()) {
	ballast := c.path("ballast")
	f, err := os.Create(ballast)
	if err != nil {
		return "", nil
	}
	defer f.Close()
	var disk unix.Statfs_t
	if err := unix.Statfs(c.dir, &disk); err != nil {
		c.t.Fatal(err)
	}
	left := int64(disk.Bavail) * disk.Bsize
	for ; left > 0; left -= 4096 {
		if unix.Fallocate(int(f.Fd()), 0, 0, left) == nil {
			break
		}
	}
	c.causes.starved = true
	if !c.full.from.After(c.full.to) {
		c.full.from = time.Now()
	}
	return fmt.Sprintf("%d bytes", left), func() {
		_ = os.Remove(ballast)
		c.full.to = time.Now()
	}
}

// havePlugins has the node's network be one of plugins, of which one does as it is told.
func (c *chaos) havePlugins() {
	c.t.Helper()
	const list = `{"cniVersion": "1.0.0", "name": "chaos", "plugins": [
  {"type": "bridge", "bridge": "chaos0", "isGateway": true, "ipMasq": true, "hairpinMode": true,
   "ipam": {"type": "host-local", "dataDir": %q, "ranges": [[{"subnet": "10.88.77.0/24"}]], "routes": [{"dst": "0.0.0.0/0"}]}},
  {"type": "portmap", "capabilities": {"portMappings": true}}]}`
	const bridge = `#!/bin/sh
case $(cat %q) in
hang) exec sleep 1000 ;;
fail) echo '{"cniVersion": "1.0.0", "code": 11, "msg": "chaos"}'; exit 1 ;;
*) exec /usr/lib/cni/bridge ;;
esac
`
	if err := os.MkdirAll(c.path("bin"), 0o755); err != nil {
		c.t.Fatal(err)
	}
	for _, plugin := range []string{"host-local", "portmap", "loopback"} {
		if err := os.Symlink("/usr/lib/cni/"+plugin, c.path("bin", plugin)); err != nil {
			c.t.Fatal(err)
		}
	}
	for file, text := range map[string]string{"net.d/chaos.conflist": fmt.Sprintf(list, c.path("leases")), "bin/bridge": fmt.Sprintf(bridge, c.path("mode"))} {
		if err := os.WriteFile(c.path(file), []byte(text), 0o755); err != nil {
			c.t.Fatal(err)
		}
	}
	c.flags = append(c.flags, "--cni-bin-dir", c.path("bin"))
	c.plugin("work")
}

func (c *chaos) plugin(mode string) {
	c.t.Helper()
	if err := os.WriteFile(c.path("mode"), []byte(mode), 0o644); err != nil {
		c.t.Log(err)
	}
}

func (c *chaos) breakPlugin(mode string) (string, func()) {
	c.plugin(mode)
	c.causes.starved = true
	return mode, func() {
		_ = os.Remove(c.path("ballast"))
		c.plugin("work")
	}
}

func (c *chaos) flushFirewall() (string, func()) {
	if c.plugins {
		for _, table := range []string{"filter"} { // what plugins have made is theirs to make again
			_ = exec.Command("iptables", "-t", table, "-F").Run()
		}
		return "filter", nil
	}
	for _, table := range []string{"nat", "filter"} {
		_ = exec.Command("iptables", "-t", table, "-F").Run()
		_ = exec.Command("iptables", "-t", table, "-X").Run()
	}
	c.causes.flips[""] = true
	return "nat, filter", nil
}

func (c *chaos) deleteBridge() (string, func()) {
	links, _ := exec.Command("ip", "-o", "link", "show", "type", "bridge").Output()
	for line := range strings.Lines(string(links)) {
		bridge := strings.TrimSuffix(strings.Fields(line)[1], ":")
		_ = exec.Command("ip", "link", "del", bridge).Run()
		for _, s := range c.pods {
			c.causes.flips[s.name] = true // probes go over it
			if s.kind.name == "web" {
				c.mayRestart(s, 1)
			}
		}
		return bridge, nil
	}
	return "", nil
}

// deleteNetNS removes the name of a Pod's network namespace, and kills a container that has to be made in it again.
func (c *chaos) deleteNetNS() (string, func()) {
	s, container := c.someContainer()
	names, _ := filepath.Glob(c.path("run", "netns", "*"))
	pids := c.processes()[s.mark(container)]
	if len(pids) != 1 || c.uid(s) == "" {
		return "", nil
	}
	var own, named unix.Stat_t
	if unix.Stat(fmt.Sprintf("/proc/%d/ns/net", pids[0]), &own) != nil {
		return "", nil
	}
	for _, name := range names {
		if unix.Stat(name, &named) == nil && named.Ino == own.Ino {
			_ = unix.Unmount(name, unix.MNT_DETACH)
			_ = os.Remove(name)
			_ = syscall.Kill(pids[0], syscall.SIGKILL)
			c.mustRestart(s, container)
			c.mayRestart(s, 2) // the whole Pod may have to begin anew
			return s.name, nil
		}
	}
	return "", nil
}

func (c *chaos) unmountManifests() (string, func()) {
	if err := unix.Unmount(c.path("manifests"), unix.MNT_DETACH); err != nil {
		return "", nil
	}
	return "they are back later", c.mountManifests
}

func (c *chaos) breakManifest() (string, func()) {
	s := c.some(isOfFile)
	if s == nil || !c.mounted() {
		return "", nil
	}
	file := c.path("manifests", s.name+".yaml")
	text := []byte(c.manifest(s))
	broken := text[:c.random.IntN(len(text))]
	if c.random.IntN(2) == 0 {
		broken = bytes.Replace(text, []byte("image:"), []byte("immage:"), 1)
	}
	if err := os.WriteFile(file, broken, 0o644); err != nil {
		c.t.Log(err)
	}
	c.causes.renewed[s.name] = c.causes.renewed[s.name] || len(broken) < len(text) // the beginning of a manifest may be another one
	return s.name, func() {
		if c.pods[s.name] == s { // else it was removed meanwhile
			c.again(func() { c.apply(s.name+".yaml", c.manifest(s)) })
		}
	}
}

// mounted says whether the manifest directory is the one that is meant.
func (c *chaos) mounted() bool {
	var here, there unix.Stat_t
	return unix.Stat(c.path("manifests"), &here) == nil && unix.Stat(c.path("manifests.there"), &there) == nil && here.Ino == there.Ino
}

// again writes once there is room.
func (c *chaos) again(write func()) {
	_ = os.Remove(c.path("ballast"))
	c.mountManifests()
	write()
}

func (c *chaos) changeDNS() (string, func()) {
	server := fmt.Sprintf("192.0.2.%d", c.random.IntN(250)+1)
	if err := os.WriteFile(c.path("resolv.conf"), []byte("nameserver "+server+"\n"), 0o644); err != nil {
		return "", nil
	}
	return server, nil
}

func (c *chaos) shiftClock() (string, func()) {
	by := []time.Duration{time.Hour, -time.Hour}[c.random.IntN(2)]
	shift := func(by time.Duration) {
		now := unix.NsecToTimeval(time.Now().Add(by).UnixNano())
		if err := unix.Settimeofday(&now); err != nil {
			c.t.Error(err)
		}
	}
	shift(by)
	c.causes.flips[""] = true
	return by.String(), func() { shift(-by) }
}

// ready says whether what is wanted can be written now.
func (c *chaos) ready() bool {
	_, full := os.Stat(c.path("ballast"))
	return c.mounted() && full != nil && !c.doomed && c.awake()
}

func (c *chaos) addPod() (string, func()) {
	if len(c.pods) > chaosPods || !c.ready() {
		return "", nil
	}
	return c.add().name, nil
}

func (c *chaos) removePod() (string, func()) {
	s := c.some(func(*subject) bool { return true })
	if len(c.pods) < chaosPods || !c.ready() {
		return "", nil
	}
	c.renew(s)
	c.drop(s.name)
	return s.name, nil
}

// editPod has a Pod be another instance: of one that was made through the API, by another of its name.
func (c *chaos) editPod() (string, func()) {
	s := c.some(func(*subject) bool { return true })
	if !c.ready() {
		return "", nil
	}
	c.renew(s)
	if s.api {
		c.drop(s.name)
		c.awaitGone(s.name) // there cannot be another of its name before
		c.pods[s.name] = s
	}
	s.version++
	c.write(s)
	return s.name, nil
}

// editInPlace has a Pod have another label, and other resources where that can be.
func (c *chaos) editInPlace() (string, func()) {
	s := c.some(func(*subject) bool { return true })
	if !c.ready() {
		return "", nil
	}
	s.label++
	if !s.api {
		s.cpu = 50 + c.random.IntN(100)
		c.write(s)
		return s.name, nil
	}
	pod, err := c.get(s.name)
	if err != nil {
		return "", nil
	}
	pod.Labels["label"] = strconv.Itoa(s.label)
	text, err := yaml.Marshal(pod)
	if err == nil {
		_, err = c.make(podID(s.name), string(text), server.Condition{})
	}
	if err != nil {
		c.t.Errorf("edit %s: %v", s.name, err)
	}
	return s.name, nil
}

// flipPod removes a Pod and has it be back at once, a few times.
func (c *chaos) flipPod() (string, func()) {
	s := c.some(isOfFile)
	if s == nil || !c.ready() {
		return "", nil
	}
	c.renew(s)
	times := 1 + c.random.IntN(3)
	for range times {
		c.remove(s.name + ".yaml")
		time.Sleep(time.Duration(c.random.IntN(200)) * time.Millisecond)
		s.version++
		c.write(s)
		time.Sleep(time.Duration(c.random.IntN(200)) * time.Millisecond)
	}
	return s.name, nil
}
