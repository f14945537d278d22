package nodetest

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	v1 "k8s.io/api/core/v1"
)

// enforce has the kernel refuse what the policy does not allow, for the time of a test.
func (h *host) enforce() {
	h.t.Helper()
	if !strings.Contains(h.output("sestatus"), "enabled") {
		h.t.Skip("this host has no SELinux: hack/nodetest/run -selinux has a guest with it")
	}
	h.run("setenforce", "1")
	h.t.Cleanup(func() {
		h.run("setenforce", "0")
		if h.t.Failed() {
			h.t.Logf("what containers say:\n%s", h.output("sh", "-c", "tail -n 5 /var/log/pods/*/*/*.log"))
			h.t.Logf("what was denied:\n%s", h.output("sh", "-c", "journalctl -b --no-pager -o cat | grep 'avc:.*permissive=0' | tail -n 40"))
		}
	})
}

// fileLabel is the SELinux label of a file.
func (h *host) fileLabel(path string) string {
	h.t.Helper()
	label := make([]byte, 256)
	n, err := unix.Lgetxattr(path, "security.selinux", label)
	if err != nil {
		h.t.Fatalf("%s: %v", path, err)
	}
	return strings.TrimRight(string(label[:n]), "\x00")
}

// processLabel is the SELinux label of the main process of a container.
func (h *host) processLabel(container string) string {
	h.t.Helper()
	return strings.TrimRight(h.read(fmt.Sprintf("/proc/%d/attr/current", h.tasks()[container].pid)), "\x00")
}

// labelled is a Pod with volumes of all kinds, and two containers of which the first writes to them.
func labelled(name, podOptions, containerOptions string) string {
	const mounts = ", volumeMounts: [{name: disk, mountPath: /disk}, {name: memory, mountPath: /memory}, {name: map, mountPath: /map}, {name: claim, mountPath: /claim}, " +
		"{name: image, mountPath: /image}, {name: disk, mountPath: /part, subPath: made/anew}]"
	use := "set -e; for v in disk memory claim part dev/shm; do echo own >/$v/own; mkdir -p /$v/sub; echo own >/$v/sub/own; done; " +
		"cat /image/bin/busybox >/dev/null; cat /map/key /etc/hosts /etc/resolv.conf /etc/hostname; echo own >/own; echo own >/dev/termination-log; echo said; " + forever
	return "apiVersion: v1\nkind: Pod\nmetadata: {name: " + name + "}\nspec:\n  terminationGracePeriodSeconds: 2\n" + podOptions +
		"  volumes: [{name: disk, emptyDir: {}}, {name: memory, emptyDir: {medium: Memory}}, {name: map, configMap: {name: map}}, " +
		"{name: claim, persistentVolumeClaim: {claimName: " + name + "}}, {name: image, image: {reference: 'podkeeper.local/demo:v1'}}]\n" +
		"  containers:\n" +
		container("app", use, "", mounts+containerOptions+", readinessProbe: {exec: {command: [sh, -c, 'cat /disk/sub/own && cat /proc/self/attr/current >/memory/probe']}, periodSeconds: 1}") +
		container("side", "until cat /disk/sub/own /memory/own /claim/own /map/key; do sleep 1; done; "+forever, "", mounts) +
		"---\napiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {name: " + name + "}\nspec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Mi}}}\n---\n"
}

// TestSELinuxLabels runs Pods with labels in a host that enforces its policy.
func TestSELinuxLabels(t *testing.T) {
	h := open(t)
	h.enforce()
	h.apply("labels.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: map}\ndata: {key: value}\n---\n"+
		labelled("asked", "  securityContext: {seLinuxOptions: {level: 's0:c123,c456'}}\n", "")+
		labelled("given", "", ", securityContext: {seLinuxOptions: {}}")+
		"apiVersion: v1\nkind: Pod\nmetadata: {name: users}\nspec:\n  terminationGracePeriodSeconds: 2\n  hostUsers: false\n  shareProcessNamespace: true\n"+
		"  securityContext: {seLinuxOptions: {level: 's0:c7'}}\n  volumes: [{name: disk, emptyDir: {}}, {name: image, image: {reference: 'podkeeper.local/demo:v1'}}]\n"+
		"  containers:\n"+container("app", "set -e; echo own >/own; echo own >/disk/own; echo own >/dev/shm/own; cat /image/bin/busybox >/dev/null; "+forever, "",
		", volumeMounts: [{name: disk, mountPath: /disk}, {name: image, mountPath: /image}]")+"---\n"+
		smallPod("plain"))
	pods := h.ready("asked", "given", "users", "plain")

	level := strings.TrimPrefix(h.processLabel("given/app"), "system_u:system_r:container_t:")
	if !regexp.MustCompile(`^s0:c\d+,c\d+$`).MatchString(level) || level == "s0:c123,c456" {
		t.Errorf("a Pod that names no level has %q", level)
	}
	if runs, by := h.processLabel("plain/app"), h.read("/proc/"+h.propertyOf("containerd", "MainPID")+"/attr/current"); runs != strings.TrimRight(by, "\x00") {
		t.Errorf("a Pod that says nothing runs as %s, by a containerd as %s", runs, by)
	}
	own := map[string]string{"asked": "s0:c123,c456", "given": level, "users": "s0:c7"}
	for container := range h.tasks() {
		name, c, _ := strings.Cut(container, "/")
		if own[name] == "" || c == "" {
			continue
		}
		if got := h.processLabel(container); got != "system_u:system_r:container_t:"+own[name] {
			t.Errorf("%s runs as %s", container, got)
		}
	}
	for name, level := range own {
		root := fmt.Sprintf("/proc/%d/root", h.tasks()[name+"/app"].pid)
		files := strings.Fields("own bin disk disk/own dev/shm/own etc/hosts dev/termination-log")
		if name != "users" { // the guest's kernel maps no tmpfs
			files = append(files, strings.Fields("disk/sub/own memory/own part/own map/..data/key claim/own")...)
			if got := strings.TrimRight(h.read(filepath.Join(root, "memory/probe")), "\x00"); got != "system_u:system_r:container_t:"+level {
				t.Errorf("a command in %s runs as %q", name, got)
			}
		}
		for _, file := range files {
			if got := h.fileLabel(filepath.Join(root, file)); got != "system_u:object_r:container_file_t:"+level {
				t.Errorf("%s: /%s has the label %s", name, file, got)
			}
		}
	}

	// What the level is for: root of one Pod, in the files of another one.
	theirs := "/var/lib/podkeeper/pods/" + string(pods["asked"].UID) + "/volumes/kubernetes.io~empty-dir/disk"
	look := func(name, options string) string {
		return "apiVersion: v1\nkind: Pod\nmetadata: {name: " + name + "}\nspec:\n  restartPolicy: Never\n  securityContext: {seLinuxOptions: {" + options + "}}\n" +
			"  volumes: [{name: theirs, hostPath: {path: " + theirs + "}}]\n  containers:\n" +
			container("app", "cat /theirs/own >/dev/termination-log 2>&1", "", ", volumeMounts: [{name: theirs, mountPath: /theirs}]")
	}
	h.apply("look.yaml", look("other", "")+"---\n"+look("same", "level: 's0:c123,c456'"))
	defer os.Remove(filepath.Join(manifestDir, "look.yaml"))
	for name, want := range map[string]string{"other": "cat: can't open '/theirs/own': Permission denied", "same": "own"} {
		h.eventually(name+" looks", func() error {
			pods, err := h.pods()
			if err != nil || pods[name] == nil || len(pods[name].Status.ContainerStatuses) == 0 {
				return fmt.Errorf("it is not there: %w", err)
			}
			end := pods[name].Status.ContainerStatuses[0].State.Terminated
			if end == nil {
				return fmt.Errorf("it does not end: %+v", pods[name].Status)
			}
			if got := strings.TrimSpace(end.Message); got != want {
				t.Errorf("%s sees %q, want %q", name, got, want)
			}
			return nil
		})
	}
}

// TestSELinuxLevelsAreKept restarts a container and the agent.
func TestSELinuxLevelsAreKept(t *testing.T) {
	h := open(t)
	h.enforce()
	h.apply("labels.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: map}\ndata: {key: value}\n---\n"+labelled("given", "", ", securityContext: {seLinuxOptions: {}}"))
	h.ready("given")
	before := h.processLabel("given/side")
	h.systemctl("kill", "-s", "KILL", "podkeeper")
	old := h.tasks()["given/app"].pid
	if err := unix.Kill(old, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	h.eventually("the container runs again", func() error {
		if now := h.tasks()["given/app"].pid; now == 0 || now == old {
			return fmt.Errorf("its process is %d, and was %d", now, old)
		}
		return nil
	})
	h.ready("given")
	if after := h.processLabel("given/app"); after != before {
		t.Errorf("it runs as %s, and did as %s", after, before)
	}
}

// TestSELinuxLabelThatThePolicyLacks has the Pod wait, and say why.
func TestSELinuxLabelThatThePolicyLacks(t *testing.T) {
	h := open(t)
	h.enforce()
	h.apply("labels.yaml", strings.Replace(smallPod("wrong"), "spec:\n", "spec:\n  securityContext: {seLinuxOptions: {type: nobody_knows_t}}\n", 1))
	h.eventually("it says what is wrong", func() error {
		events, err := h.client.Events(context.Background())
		if err != nil {
			return err
		}
		for _, e := range events.Items {
			if e.InvolvedObject.Name == "wrong" && e.Type == v1.EventTypeWarning &&
				strings.Contains(e.Message, `seLinuxOptions: the host's SELinux policy has no label "system_u:system_r:nobody_knows_t:s0`) {
				return nil
			}
		}
		return fmt.Errorf("its events are %+v", events.Items)
	})
	h.clear()
}
