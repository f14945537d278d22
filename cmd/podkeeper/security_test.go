package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"

	"github.com/podkeeper/podkeeper/runtime"
)

// says waits until a container has written all of these lines.
func (n *node) says(p *v1.Pod, container string, want ...string) {
	n.t.Helper()
	n.eventually(fmt.Sprintf("%s says %q", container, want), func() error {
		lines := n.logLines(p, container, 0)
		for _, line := range want {
			if !slices.Contains(lines, line) {
				return fmt.Errorf("it says %q", lines)
			}
		}
		return nil
	})
}

// TestSysctls looks at sysctls from inside: safe ones, one that the node allows, and one that it does not.
func TestSysctls(t *testing.T) {
	t.Parallel()
	n := launch(t, `allowedUnsafeSysctls: ["kernel.msg*"]`)
	with := func(name, sysctls string) string {
		return simple(name, "cat /proc/sys/kernel/shm_rmid_forced /proc/sys/net/ipv4/tcp_fin_timeout /proc/sys/kernel/msgmax /proc/sys/net/ipv4/ip_unprivileged_port_start; "+forever,
			"  securityContext: {sysctls: ["+sysctls+"]}")
	}
	n.apply("set.yaml", with("set", `{name: kernel.shm_rmid_forced, value: "1"}, {name: net.ipv4.tcp_fin_timeout, value: "7"}, {name: kernel.msgmax, value: "4242"}`))
	n.says(n.awaitReady("set"), "app", "1", "7", "4242", "0")
	n.apply("unsafe.yaml", with("unsafe", `{name: net.core.somaxconn, value: "7"}`))
	n.await("unsafe", "is told that it may not", func(p *v1.Pod) bool {
		return p.Status.Reason == "SysctlForbidden" && p.Status.Message == `forbidden sysctl: "net.core.somaxconn" not allowlisted`
	})
	for file, want := range map[string]string{"kernel/msgmax": "4242", "net/ipv4/tcp_fin_timeout": "7"} {
		if of, err := os.ReadFile("/proc/sys/" + file); err != nil || strings.TrimSpace(string(of)) == want {
			t.Errorf("%s of the host is %q, %v", file, of, err)
		}
	}
}

// TestSeccompProfiles holds filters of all three kinds against a container that tries: a profile of the node's that forbids
// mkdir, and none.
func TestSeccompProfiles(t *testing.T) {
	t.Parallel()
	n := launch(t, "seccompDefault: true")
	profiles := n.path("root", "seccomp", "profiles")
	if err := os.MkdirAll(profiles, 0o755); err != nil {
		t.Fatal(err)
	}
	const noMkdir = `{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}]}`
	if err := os.WriteFile(filepath.Join(profiles, "no-mkdir.json"), []byte(noMkdir), 0o644); err != nil {
		t.Fatal(err)
	}
	const tries = "mkdir /tmp/x 2>/dev/null && echo made || echo refused; grep Seccomp: /proc/self/status; "
	pod := func(name, profile string) string {
		return simple(name, tries+forever, "  securityContext: {seccompProfile: {"+profile+"}}")
	}
	n.apply("local.yaml", pod("local", "type: Localhost, localhostProfile: profiles/no-mkdir.json"))
	n.apply("none.yaml", pod("none", "type: Unconfined"))
	n.apply("silent.yaml", simple("silent", tries+forever))
	n.apply("missing.yaml", pod("missing", "type: Localhost, localhostProfile: profiles/other.json"))
	n.says(n.awaitReady("local"), "app", "refused", "Seccomp:\t2")
	n.says(n.awaitReady("none"), "app", "made", "Seccomp:\t0")
	n.says(n.awaitReady("silent"), "app", "made", "Seccomp:\t2") // by seccompDefault
	n.await("missing", "is told which file there is not", func(p *v1.Pod) bool {
		w := containerStatus(p, "app").State.Waiting
		return w != nil && strings.Contains(w.Message, "profiles/other.json") && strings.Contains(w.Message, "no such file")
	})
}

func TestHostnameOverride(t *testing.T) {
	t.Parallel()
	n := launch(t)
	n.apply("named.yaml", simple("named", "hostname; "+forever, "  hostnameOverride: mail.example.com"))
	n.says(n.awaitReady("named"), "app", "mail.example.com")
}

// TestSupplementalGroupsPolicy has a user whom the image puts into a group: Strict leaves that group out. The status tells of both.
func TestSupplementalGroupsPolicy(t *testing.T) {
	t.Parallel()
	n := launch(t)
	pod := func(name, policy string) string {
		return simple(name, "echo groups $(id -G); "+forever, "  securityContext: {runAsUser: 1000, supplementalGroups: [4242], fsGroup: 77"+policy+"}")
	}
	n.apply("merge.yaml", pod("merge", ""))
	n.apply("strict.yaml", pod("strict", ", supplementalGroupsPolicy: Strict"))
	for name, groups := range map[string][]int64{"merge": {1000, 50, 4242, 77}, "strict": {1000, 4242, 77}} {
		ready := n.awaitReady(name)
		user := containerStatus(ready, "app").User
		if user == nil || user.Linux.UID != 1000 || user.Linux.GID != 1000 || !slices.Equal(user.Linux.SupplementalGroups, groups) {
			t.Errorf("%s runs as %+v", name, user)
		}
		slices.Sort(groups[1:]) // as the kernel keeps them
		n.says(ready, "app", "groups "+strings.Trim(fmt.Sprint(groups), "[]"))
	}
}

// TestAppArmor looks at profiles from inside, where the host has AppArmor; where it has none, a Pod that wants one is held.
func TestAppArmor(t *testing.T) {
	t.Parallel()
	n := launch(t)
	const tells = "cat /proc/self/attr/current 2>/dev/null; echo runs; "
	profile := func(name, of string) string {
		return simple(name, tells+forever, "  securityContext: {appArmorProfile: {"+of+"}}")
	}
	n.apply("default.yaml", profile("default", "type: RuntimeDefault"))
	n.apply("silent.yaml", simple("silent", tells+forever))
	n.apply("none.yaml", profile("none", "type: Unconfined"))
	n.apply("missing.yaml", profile("missing", "type: Localhost, localhostProfile: no-such"))
	n.apply("old.yaml", strings.Replace(simple("old", tells+forever), "{name: old}",
		"{name: old, annotations: {container.apparmor.security.beta.kubernetes.io/app: runtime/default}}", 1))
	n.says(n.awaitReady("silent"), "app", "runs")
	n.says(n.awaitReady("none"), "app", "runs")
	if err := runtime.AppArmor(); err != nil {
		for _, name := range []string{"default", "missing", "old"} {
			n.heldFor(name, "AppArmor", "Cannot enforce AppArmor: "+err.Error())
		}
		return
	}
	const confined = "podkeeper-default (enforce)"
	n.says(n.awaitReady("default"), "app", confined)
	n.says(n.awaitReady("old"), "app", confined)
	n.says(n.awaitReady("silent"), "app", confined)
	n.says(n.awaitReady("none"), "app", "unconfined")
	n.await("missing", "is told which profile there is not", func(p *v1.Pod) bool {
		w := containerStatus(p, "app").State.Waiting
		return w != nil && w.Reason == "CreateContainerConfigError" && strings.Contains(w.Message, "apparmor profile not found no-such")
	})
}

// TestSELinuxLabelsWhereThereAreNone has Pods that want labels be held; hack/nodetest looks at labels where there are some.
func TestSELinuxLabelsWhereThereAreNone(t *testing.T) {
	t.Parallel()
	none := runtime.SELinux()
	if none == nil {
		t.Skip("the host has SELinux")
	}
	n := launch(t)
	n.apply("pod.yaml", simple("pod", forever, "  securityContext: {seLinuxOptions: {level: 's0:c123,c456'}}"))
	n.apply("container.yaml", strings.Replace(simple("container", forever), "- name: app", "- name: app\n    securityContext: {seLinuxOptions: {type: spc_t}}", 1))
	n.apply("change.yaml", simple("change", forever, "  securityContext: {seLinuxChangePolicy: Recursive}"))
	for _, name := range []string{"pod", "container"} {
		n.heldFor(name, "SELinux", "Cannot apply seLinuxOptions: "+none.Error())
	}
	n.awaitReady("change")
}
