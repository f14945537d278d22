package nodetest

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// deb is the package of a version.
func deb(version string) string {
	return filepath.Join(os.Getenv("PODKEEPER_NODE_FILES"), "debs", "podkeeper_"+version+"_amd64.deb")
}

// readySince is when Pods have become Ready, by name: a Pod that was not, in between, has another time.
func (h *host) readySince() map[string]metav1.Time {
	h.t.Helper()
	pods, err := h.pods()
	if err != nil {
		h.t.Fatal(err)
	}
	since := map[string]metav1.Time{}
	for name, p := range pods {
		for _, c := range p.Status.Conditions {
			if c.Type == v1.PodReady && c.Status == v1.ConditionTrue {
				since[name] = c.LastTransitionTime
			}
		}
	}
	return since
}

// becomesVersion has dpkg install a version in place of what is there, and checks that no Pod notices.
func (h *host) becomesVersion(version string) {
	h.t.Helper()
	before, since, pid, config := h.instances(), h.readySince(), h.property("MainPID"), h.read(configFile)
	h.run("dpkg", "-i", deb(version))
	h.becomes("ActiveState", "active")
	if got := strings.TrimSpace(h.run("/usr/bin/podkeeper", "version")); got != "podkeeper "+version {
		h.t.Errorf("it is %q, want %s", got, version)
	}
	if now := h.property("MainPID"); now == pid {
		h.t.Errorf("with %s the agent of before runs on", version)
	}
	h.undisturbed(before)
	for name, then := range h.readySince() {
		if was, ok := since[name]; !ok || !was.Equal(&then) {
			h.t.Errorf("with %s %s is Ready since %v, before it was since %v", version, name, then, was)
		}
	}
	if now := h.read(configFile); now != config {
		h.t.Errorf("with %s the configuration is %q, it was %q", version, now, config)
	}
}

// TestPackageIsInstalledUpgradedRemovedAndPurged does what apt has dpkg do, beside Pods that run.
func TestPackageIsInstalledUpgradedRemovedAndPurged(t *testing.T) {
	h := disposable(t)
	h.install() // as make install
	h.onePodOfEachClass()
	before := h.instances()
	if says := h.output("dpkg", "-i", deb("1.0.0")); !strings.Contains(says, "run make uninstall first") || h.propertyOf("podkeeper", "FragmentPath") != "/etc/systemd/system/podkeeper.service" {
		t.Fatalf("over what make install has made, dpkg says %s", says)
	}
	h.run("sh", "-e", filepath.Join(os.Getenv("PODKEEPER_NODE_FILES"), "uninstall"))
	h.run("dpkg", "--force-confold", "-i", deb("1.0.0")) // the configuration may be an older version's example
	h.becomes("ActiveState", "active")
	if enabled, unit := h.property("UnitFileState"), h.property("FragmentPath"); enabled != "enabled" || !strings.HasSuffix(unit, "/lib/systemd/system/podkeeper.service") {
		t.Errorf("the unit %s is %s", unit, enabled)
	}
	h.undisturbed(before)
	if socket := h.propertyOf(apiSocket, "ActiveState"); socket != "active" {
		t.Errorf("%s is %s", apiSocket, socket)
	}

	h.write(configFile, h.read(configFile)+"\ncontainerLogMaxFiles: 4\n")
	h.systemctl("start", apiService)
	h.becomesVersion("1.1.0")
	h.becomesVersion("1.0.0")

	h.run("dpkg", "-r", "podkeeper")
	h.alive(before)
	if load, active := h.property("LoadState"), h.property("ActiveState"); load == "loaded" || active == "active" {
		t.Errorf("removed, the service is %s and %s", load, active)
	}
	h.run("dpkg", "-i", deb("1.0.0"))
	h.becomes("ActiveState", "active")
	h.undisturbed(before)
	h.restarts("guaranteed/app")

	before = h.instances()
	h.run("dpkg", "-P", "podkeeper")
	h.nothingOf(before)
}

// nothingOf fails the test where anything of podkeeper is left on the host.
func (h *host) nothingOf(before map[string]instance) {
	h.t.Helper()
	for name, i := range before {
		if i.task.pid == 0 {
			continue // an init container that was done
		}
		if err := syscall.Kill(i.task.pid, 0); !errors.Is(err, syscall.ESRCH) {
			h.t.Errorf("process %d of %s: %v", i.task.pid, name, err)
		}
	}
	if left := h.tasks(); len(left) > 0 {
		h.t.Errorf("containerd has %v", left)
	}
	for _, dir := range []string{"/var/log/pods", "/var/log/containers"} {
		if entries, err := os.ReadDir(dir); !errors.Is(err, fs.ErrNotExist) {
			h.t.Errorf("%s: %v, %v", dir, entries, err)
		}
	}
	// What the test itself has made has a name of its own, and so has the guest. containerd keeps folders of a namespace that
	// is gone, empty, and beside its socket the lock.
	kept := regexp.MustCompile(`^(/run/containerd/podkeeper-podkeeper\.lock|/run/udev/links/.*podkeeper-vm)$`)
	containerd := regexp.MustCompile(`^/(run|var/lib)/containerd/[^/]+/podkeeper$`)
	for file := range strings.Lines(h.run("find", "/", "/run", "/sys/fs/cgroup", "-xdev", "(", "-path", "/work", "-o", "-path", "/var/lib/podkeeper-nodetest", "-o", "-path", "/proc", ")",
		"-prune", "-o", "(", "-name", "*podkeeper*", "-o", "-name", "kubepods*", ")", "-print")) {
		file = strings.TrimSpace(file)
		entries, err := os.ReadDir(file)
		if empty := err == nil && len(entries) == 0; !kept.MatchString(file) && (!containerd.MatchString(file) || !empty) {
			h.t.Errorf("there is %s: %v", file, entries)
		}
	}
	for what, says := range map[string]string{
		"a mount": h.read("/proc/self/mountinfo"), "a link": h.run("ip", "-o", "link"), "a rule": h.output("iptables-save"),
		"a namespace of containerd": h.run("ctr", "namespaces", "ls"), "a user": h.read("/etc/passwd"), "a group": h.read("/etc/group"), "a package": h.run("dpkg", "-l"),
		"a unit": h.run("systemctl", "list-units", "--all", "--plain", "--no-legend", "podkeeper*"),
	} {
		if strings.Contains(strings.ToLower(says), "podkeeper") {
			h.t.Errorf("%s is left: %s", what, says)
		}
	}
}
