package main

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/remotecommand"
)

// tried is the last line of a script that attacks. What came before it is what the attack has won.
const tried = "tried"

// winsNothing fails for every line that an attacker's log has before tried.
func (n *node) winsNothing(p *v1.Pod, container string) {
	n.t.Helper()
	var lines []string
	n.eventually(p.Name+" has tried", func() error {
		if lines = n.logLines(p, container, 0); !slices.Contains(lines, tried) {
			return fmt.Errorf("it says %q", lines)
		}
		return nil
	})
	if won := lines[:slices.Index(lines, tried)]; len(won) > 0 {
		n.t.Errorf("%s: %q", p.Name, won)
	}
}

// TestAPodReachesNothingOfTheAgentsNorOfAnotherPods has a Pod that is root, as far as a manifest may be without asking for the
// host's, look for what is the agent's, containerd's and another Pod's.
func TestAPodReachesNothingOfTheAgentsNorOfAnotherPods(t *testing.T) {
	t.Parallel()
	n := launch(t)
	n.apply("victim.yaml", simple("victim", "echo secret > /data/file; exec sleep 1000", "  volumes: [{name: data, emptyDir: {}}]")+
		"    volumeMounts: [{name: data, mountPath: /data}]\n")
	victim := n.awaitReady("victim")
	look := fmt.Sprintf(`
for dir in %s %s /run/containerd /var/lib/containerd %s; do ls -d $dir 2>/dev/null; done
find / -xdev \( -name '*.sock' -o -name pod.json -o -name sa.key \) 2>/dev/null
for p in /proc/[0-9]*; do grep -sq '^sleep.1000' $p/cmdline && echo sees $p; done
cut -d' ' -f5 /proc/self/mountinfo | grep -e %s -e %s
dmesg 2>/dev/null | head -n1
mkdir /tmp/m && mount -t tmpfs none /tmp/m 2>/dev/null && echo mounts
for type in pid net ipc uts mnt; do nsenter --$type=/proc/1/ns/$type true 2>/dev/null && echo enters $type; done
mknod /tmp/sda b 8 0 && dd if=/tmp/sda of=/dev/null count=1 2>/dev/null && echo reads a disk
mknod /tmp/mem c 1 1 && dd if=/tmp/mem of=/dev/null count=1 2>/dev/null && echo reads memory
chroot /proc/1/root ls -d %s 2>/dev/null
(echo 1 >/proc/sys/kernel/core_pattern) 2>/dev/null && echo writes core_pattern
(echo b >/proc/sysrq-trigger) 2>/dev/null && echo writes sysrq
for group in $(grep ' - cgroup' /proc/self/mountinfo | cut -d' ' -f5); do (echo x >$group/release_agent) 2>/dev/null && echo writes release_agent; mkdir $group/x 2>/dev/null && echo makes $group/x; done
kill -0 %d 2>/dev/null && echo signals
echo %s; %s`,
		n.dir, labDir, n.path("root"), n.dir, n.path("logs"), n.dir, n.pid(victim, "app"), tried, forever)
	n.apply("attacker.yaml", simple("attacker", look))
	n.winsNothing(n.awaitReady("attacker"), "app")
}

// TestAHostNetworkPodFindsNoOpenSocket has a Pod in the host's network look for sockets without a path, which belong to that
// and not to files: whoever is in it could talk to them, as to containerd's shims once (CVE-2020-15257).
func TestAHostNetworkPodFindsNoOpenSocket(t *testing.T) {
	t.Parallel()
	n := launch(t)
	n.apply("net.yaml", simple("net", fmt.Sprintf("grep @ /proc/net/unix | grep -e podkeeper -e %s -e containerd -e shim; echo %s; %s", n.namespace, tried, forever),
		"  hostNetwork: true"))
	n.winsNothing(n.awaitReady("net"), "app")
}

// TestNoDescriptorIsLeaked lists those of a fresh container, of its commands, probes and hooks: there are 0, 1 and 2. Any other could be a door to the host (CVE-2024-21626).
func TestNoDescriptorIsLeaked(t *testing.T) {
	t.Parallel()
	n := launch(t)
	const list = `for fd in /proc/self/fd/*; do case $fd in */[012]) ;; *) [ -e $fd ] && echo $fd ;; esac; done; true`
	said := list + "; echo " + tried
	n.apply("fds.yaml", fmt.Sprintf(`apiVersion: v1
kind: Pod
metadata: {name: fds}
spec:
  terminationGracePeriodSeconds: 2
  volumes: [{name: out, emptyDir: {}}]
  initContainers:
  - {name: init, image: %[1]s, command: [/bin/sh, -c, %[2]q]}
  containers:
  - name: app
    image: %[1]s
    command: [/bin/sh, -c, %[3]q]
    volumeMounts: [{name: out, mountPath: /out}]
    lifecycle: {postStart: {exec: {command: [/bin/sh, -c, %[4]q]}}}
    readinessProbe: {exec: {command: [/bin/sh, -c, %[5]q]}}
`, image, said, said+"; "+forever, "("+list+") > /out/hook", "("+list+") > /out/probe"))
	pod := n.awaitReady("fds")
	n.winsNothing(pod, "app")
	n.winsNothing(pod, "init")
	for _, of := range []string{"hook", "probe"} {
		file := n.path("root", "pods", string(pod.UID), "volumes", "kubernetes.io~empty-dir", "out", of)
		if content, err := os.ReadFile(file); err != nil || len(content) > 0 {
			t.Errorf("the %s has %s, %v", of, content, err)
		}
	}
	var out bytes.Buffer
	err := stream(t.Context(), "SPDY", n.relay(), "/exec/default/fds/app", remotecommand.StreamOptions{Stdout: &out}, "/bin/sh", "-c", list)
	if err != nil || out.Len() > 0 {
		t.Errorf("a command has %s, %v", out.String(), err)
	}
}

// TestATracerOfItsSandboxFindsNothing has a container that sees the pause process and may trace it: what it gets into has one
// program, and pipes of the Pod's own.
func TestATracerOfItsSandboxFindsNothing(t *testing.T) {
	t.Parallel()
	n := launch(t)
	n.apply("tracer.yaml", simple("tracer", `
find /proc/1/root/ ! -path /proc/1/root/ ! -path /proc/1/root/pause
(echo >/proc/1/root/new) 2>/dev/null && echo writes
for fd in /proc/1/fd/*; do readlink $fd; done | grep -v -e '^pipe:' -e ^/dev/null -e /io/app
chroot /proc/1/root /proc/1/cwd/bin/sh -c 'echo runs' 2>/dev/null
echo `+tried+"; "+forever, "  shareProcessNamespace: true")+"    securityContext: {capabilities: {add: [SYS_PTRACE]}}\n")
	pod := n.awaitReady("tracer")
	n.winsNothing(pod, "app")
	if !runs(n.box(pod)) {
		t.Error("its sandbox has ended")
	}
}

// TestWhatIsReadOfATerminationMessage has containers try to have the agent read something else, or without end.
func TestWhatIsReadOfATerminationMessage(t *testing.T) {
	t.Parallel()
	n := launch(t)
	host := n.path("out", "secret")
	if err := os.WriteFile(host, []byte("host's"), 0o600); err != nil {
		t.Fatal(err)
	}
	pod := func(name, script, path string) string {
		return simple(name, script, "  restartPolicy: Never\n  volumes: [{name: v, emptyDir: {}}]") +
			"    terminationMessagePath: " + path + "\n    volumeMounts: [{name: v, mountPath: /v}]\n"
	}
	n.apply("all.yaml", strings.Join([]string{
		pod("link", "rm -f /dev/termination-log; ln -sf "+host+" /dev/termination-log; mv /dev/termination-log /dev/x; exit 0", "/dev/termination-log"),
		pod("fifo", "rm -f /v/log; mkfifo /v/log; exit 0", "/v/log"),
		pod("linkin", "rm -f /v/log; umount /v/log; ln -s "+host+" /v/log; exit 0", "/v/log"),
		pod("huge", "dd if=/dev/zero bs=1M count=8 2>/dev/null | tr '\\0' x > /dev/termination-log; exit 0", "/dev/termination-log"),
		pod("sparse", "truncate -s 1T /dev/termination-log; exit 0", "/dev/termination-log"),
	}, "---\n"))
	for name, limit := range map[string]int{"link": 0, "fifo": 0, "linkin": 0, "huge": 4096, "sparse": 4096} {
		ended := n.await(name, "has ended", func(p *v1.Pod) bool { return containerStatus(p, "app").State.Terminated != nil })
		if s := containerStatus(ended, "app").State.Terminated; s.Reason != "Completed" || len(s.Message) > limit || strings.Contains(s.Message, "host") {
			t.Errorf("%s: %s with %d bytes: %.20q", name, s.Reason, len(s.Message), s.Message)
		}
	}
	if content, err := os.ReadFile(host); err != nil || string(content) != "host's" {
		t.Errorf("the host's file is %q, %v", content, err)
	}
}
