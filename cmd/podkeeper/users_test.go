package main

import (
	"archive/tar"
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/containerd/containerd/v2/pkg/kernelversion"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/podkeeper/podkeeper/runtime"
)

const hostUsersFalse = "  hostUsers: false"

// cannotMap says why the host cannot have Pods with hostUsers: false or, where that is needed, memory be mapped (Linux 6.3); "" is that
// it can.
func cannotMap(t *testing.T, memory bool) string {
	t.Helper()
	if err := runtime.UserNamespaces(); err != nil {
		return err.Error()
	}
	newer, err := kernelversion.GreaterEqualThan(kernelversion.KernelVersion{Kernel: 6, Major: 3})
	if err != nil {
		t.Fatal(err)
	}
	if memory && !newer {
		return "the kernel cannot map a tmpfs"
	}
	return ""
}

// launchMapped makes a node where there can be such Pods.
func launchMapped(t *testing.T, memory bool) *node {
	t.Helper()
	if why := cannotMap(t, memory); why != "" {
		t.Skip(why)
	}
	return launch(t)
}

// idsOf are the first id of the host that a process's user namespace has, and how many there are.
func idsOf(t *testing.T, pid int) (first, count int) {
	t.Helper()
	for _, file := range []string{"uid_map", "gid_map"} {
		var inside, from, size int
		content, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, file))
		if err == nil {
			_, err = fmt.Sscan(string(content), &inside, &from, &size)
		}
		if err != nil || inside != 0 || bytes.Count(content, []byte("\n")) != 1 || first != 0 && (from != first || size != count) {
			t.Fatalf("%s is %q: %v", file, content, err)
		}
		first, count = from, size
	}
	return first, count
}

// owned says to whom files of the host belong.
func owned(t *testing.T, want map[string][2]int) {
	t.Helper()
	for file, ids := range want {
		var is syscall.Stat_t
		if err := syscall.Lstat(file, &is); err != nil || int(is.Uid) != ids[0] || int(is.Gid) != ids[1] {
			t.Errorf("%s belongs to %d:%d, want %v: %v", file, is.Uid, is.Gid, ids, err)
		}
	}
}

// mappedVolumes has a container of root and one of a user, with a volume of every kind.
const mappedVolumes = `apiVersion: v1
kind: ConfigMap
metadata: {name: config}
data: {key: configured}
---
apiVersion: v1
kind: Secret
metadata: {name: secret}
stringData: {key: confidential}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: claim}
spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Mi}}}
---
apiVersion: v1
kind: Pod
metadata: {name: mapped}
spec:
  terminationGracePeriodSeconds: 2
  hostUsers: false
  hostname: inside
  securityContext: {fsGroup: 3000, sysctls: [{name: kernel.shm_rmid_forced, value: "1"}]}
  volumes:
  - {name: disk, emptyDir: {}}
  - {name: memory, emptyDir: {medium: Memory}}
  - {name: host, hostPath: {path: %[1]s}}
  - {name: file, hostPath: {path: %[1]s/confidential, type: File}}
  - {name: claim, persistentVolumeClaim: {claimName: claim}}
  - {name: config, configMap: {name: config}}
  - {name: secret, secret: {secretName: secret, defaultMode: 0400}}
  - {name: all, projected: {sources: [{configMap: {name: config}}, {downwardAPI: {items: [{path: name, fieldRef: {fieldPath: metadata.name}}]}}]}}
  - {name: about, downwardAPI: {items: [{path: name, fieldRef: {fieldPath: metadata.name}}]}}
  - {name: image, image: {reference: %[2]s}}
  containers:
  - name: app
    image: %[2]s
    command: [/bin/sh, -c]
    args:
    - |
      echo user $(id -u) $(hostname) $(cat /proc/sys/kernel/shm_rmid_forced)
      for f in / /bin/busybox /dev/shm /etc/hosts /etc/hostname /etc/resolv.conf /dev/termination-log /disk /memory /host /file /claim /sub \
        /config/key /secret/key /all/name /about/name /image/bin/busybox /proc/self /sys; do echo $f $(stat -L -c %%u:%%g $f); done
      for d in /disk /memory /host /claim /sub; do echo x > $d/app; touch $d/given; chown 1000:1000 $d/given || echo not given; done
      touch /made /dev/shm/made; chown 5:6 /made; echo $(stat -c %%u:%%g /made)
      for f in /file /config/key /secret/key; do echo $(cat $f); done; echo by name > /dev/stdout
      mkdir /www; echo page > /www/index.html; httpd -p 80 -h /www && echo serves
      mkdir /mnt && mount -t tmpfs none /mnt 2>/dev/null || echo may not mount
      echo the end > /dev/termination-log
      echo began; %[3]s
    lifecycle: {postStart: {exec: {command: [/bin/sh, -c, "touch /disk/hook"]}}}
    readinessProbe: {exec: {command: [/bin/sh, -c, "test $(id -u) = 0 && cat /disk/user"]}, periodSeconds: 1}
    livenessProbe: {httpGet: {port: 80, path: /index.html}, initialDelaySeconds: 1}
    volumeMounts: &all
    - {name: disk, mountPath: /disk}
    - {name: memory, mountPath: /memory}
    - {name: host, mountPath: /host, mountPropagation: HostToContainer}
    - {name: file, mountPath: /file}
    - {name: claim, mountPath: /claim}
    - {name: disk, mountPath: /sub, subPath: sub/deep}
    - {name: config, mountPath: /config}
    - {name: secret, mountPath: /secret}
    - {name: all, mountPath: /all}
    - {name: about, mountPath: /about}
    - {name: image, mountPath: /image}
  - name: user
    image: %[2]s
    securityContext: {runAsUser: 1000, runAsGroup: 1000}
    command: [/bin/sh, -c, "id -u; for d in /disk /memory /claim; do echo x > $d/user; done; echo $(cat /secret/key); cat /file 2>/dev/null || echo may not; echo by name > /dev/stdout; %[3]s"]
    volumeMounts: *all
  - name: admin
    image: %[2]s
    securityContext: {capabilities: {add: [SYS_ADMIN]}}
    command: [/bin/sh, -c, "mount -t tmpfs none /tmp && echo mounted; hostname inside && echo named; mount -o remount,rw /sys/fs/cgroup/pids 2>/dev/null && echo cgroups; echo h > /proc/sysrq-trigger 2>/dev/null && echo triggered; %[3]s"]
`

// TestAUserNamespace looks from inside and from outside at what belongs to whom: nobody in a Pod is anybody on the host, but in volumes
// everybody is who he is.
func TestAUserNamespace(t *testing.T) {
	t.Parallel()
	n := launchMapped(t, true)
	host := n.path("out", "host")
	if err := os.MkdirAll(host, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{"confidential", "elsewhere"} {
		if err := os.WriteFile(filepath.Join(host, "..", file), []byte("of root\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Rename(filepath.Join(host, "..", "confidential"), filepath.Join(host, "confidential")); err != nil {
		t.Fatal(err)
	}
	n.apply("mapped.yaml", fmt.Sprintf(mappedVolumes, host, image, forever))
	p := n.awaitReady("mapped")
	n.says(p, "app", "user 0 inside 1", "/ 0:0", "/bin/busybox 0:0", "/dev/shm 0:0", "/etc/hosts 0:0", "/etc/hostname 0:0", "/etc/resolv.conf 0:0",
		"/dev/termination-log 0:0", "/disk 0:3000", "/memory 0:3000", "/host 0:0", "/file 0:0", "/claim 0:3000", "/sub 0:3000", "/config/key 0:3000",
		"/secret/key 0:3000", "/all/name 0:3000", "/about/name 0:3000", "/image/bin/busybox 0:0", "/proc/self 0:0", "5:6",
		"of root", "configured", "confidential", "by name", "serves", "may not mount", "began")
	n.says(p, "user", "1000", "confidential", "may not", "by name")
	n.says(p, "admin", "mounted", "named")
	for _, c := range []string{"app", "admin"} {
		if lines := n.logLines(p, c, 0); slices.Contains(lines, "not given") || slices.Contains(lines, "cgroups") || slices.Contains(lines, "triggered") {
			t.Errorf("%s says %q", c, lines)
		}
	}
	pid := n.pid(p, "app")
	first, count := idsOf(t, pid)
	if count != 65536 || first < 65536 || first%65536 != 0 {
		t.Errorf("its ids are %d from %d on", count, first)
	}
	for _, c := range []string{"user", "admin"} {
		if ns(t, n.pid(p, c), "user") != ns(t, n.box(p), "user") || ns(t, pid, "user") != ns(t, n.box(p), "user") || ns(t, pid, "user") == ns(t, "self", "user") {
			t.Errorf("%s is in another user namespace", c)
		}
	}
	volumes := n.path("root", "pods", string(p.UID), "volumes", "kubernetes.io~empty-dir")
	inside := fmt.Sprintf("/proc/%d/root", pid)
	want := map[string][2]int{
		fmt.Sprintf("/proc/%d", pid): {first, first}, fmt.Sprintf("/proc/%d", n.pid(p, "user")): {first + 1000, first + 1000},
		inside + "/made": {first + 5, first + 6}, inside + "/dev/shm/made": {first, first},
		host + "/app": {0, 0}, host + "/given": {1000, 1000}, volumes + "/disk/hook": {0, 3000},
	}
	for _, dir := range []string{volumes + "/disk", volumes + "/memory", n.path("root", "claims", "default", "claim"), volumes + "/disk/sub/deep"} {
		want[dir+"/app"], want[dir+"/given"] = [2]int{0, 3000}, [2]int{1000, 1000}
		if !strings.HasSuffix(dir, "deep") {
			want[dir+"/user"] = [2]int{1000, 3000}
		}
	}
	owned(t, want)
	n.breaksOut(pid, n.path("out", "elsewhere"))
	resp, err := http.Get("http://" + p.Status.PodIP + "/index.html")
	if err != nil {
		t.Fatal(err)
	}
	page, err := io.ReadAll(resp.Body)
	if resp.Body.Close(); string(page) != "page\n" {
		t.Errorf("port 80 says %q: %v", page, err)
	}
	n.noMapped()
	n.remove("mapped.yaml")
	n.awaitGone("mapped")
	n.eventually("nothing is left", n.leftovers)
}

// breaksOut has root of a container's user namespace, with every capability in there, among the host's files: he may read only what
// everybody may, and change nothing.
func (n *node) breaksOut(pid int, confidential string) {
	n.t.Helper()
	enter := func(script string) (string, error) {
		out, err := exec.Command("nsenter", fmt.Sprintf("--user=/proc/%d/ns/user", pid), "-S", "0", "-G", "0", "/bin/sh", "-c", script).CombinedOutput()
		return string(out), err
	}
	if out, err := enter("id -u"); err != nil || out != "0\n" {
		n.t.Fatalf("nobody breaks out: %v: %s", err, out)
	}
	for _, try := range []string{
		"cat " + confidential, "echo x >> " + confidential, "chown 0 " + confidential, "touch " + filepath.Dir(confidential) + "/new", "ls " + n.path("root", "pods"),
		"kill -9 " + fmt.Sprint(os.Getpid()), "ls /proc/1/root/", "ls /proc/1/fd", "mount -t tmpfs none /mnt", "echo 1 > /proc/sys/kernel/sysrq",
	} {
		if out, err := enter(try); err == nil {
			n.t.Errorf("who breaks out may: %s: %s", try, out)
		}
	}
}

// noMapped looks whether mapped mounts were left beside the containers that have them.
func (n *node) noMapped() {
	n.t.Helper()
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	left, _ := filepath.Glob(n.path("run", "pods", "*", "mapped", "*"))
	if err != nil || len(left) > 0 || strings.Contains(string(mounts), n.path("run", "pods")+"/mapped") {
		n.t.Errorf("there are left %v: %v", left, err)
	}
}

// TestUserNamespacesOutliveTheAgent has ids be a Pod's own from its beginning to its end: when the agent is killed, a container is, and the
// sandbox is.
func TestUserNamespacesOutliveTheAgent(t *testing.T) {
	t.Parallel()
	n := launchMapped(t, false)
	script := "echo x >> /data/runs; echo $(stat -c %u /data/runs); " + forever
	pod := func(name, of string, cpu ...string) string {
		return simple(name, script, of, "  volumes: [{name: data, emptyDir: {}}]") + "    volumeMounts: [{name: data, mountPath: /data}]\n" +
			"    resources: {limits: {memory: 64Mi, cpu: " + cmp.Or(append(cpu, "200m")...) + "}}\n"
	}
	ids := map[string]int{}
	for _, name := range []string{"one", "two"} {
		n.apply(name+".yaml", pod(name, hostUsersFalse))
		ids[name], _ = idsOf(t, n.pid(n.awaitReady(name), "app"))
	}
	before := map[string]int{"one": n.pid(n.awaitReady("one"), "app"), "two": n.pid(n.awaitReady("two"), "app")}
	n.kill()
	n.restart()
	n.apply("three.yaml", pod("three", hostUsersFalse))
	ids["three"], _ = idsOf(t, n.pid(n.awaitReady("three"), "app"))
	if ids["one"] == ids["two"] || ids["one"] == ids["three"] || ids["two"] == ids["three"] {
		t.Errorf("ids are shared: %v", ids)
	}
	n.apply("two.yaml", pod("two", hostUsersFalse, "500m"))
	n.await("two", "has other limits", func(p *v1.Pod) bool {
		r := containerStatus(p, "app").Resources
		return isReady(p) && r != nil && r.Limits.Cpu().MilliValue() == 500
	})
	one := n.awaitReady("one")
	if n.pid(one, "app") != before["one"] || n.pid(n.awaitReady("two"), "app") != before["two"] {
		t.Error("containers were restarted with the agent")
	}
	users := ns(t, n.box(one), "user")
	again := func(runs int) {
		t.Helper()
		one = n.await("one", fmt.Sprintf("runs again, %d", runs), func(p *v1.Pod) bool { return isReady(p) && int(containerStatus(p, "app").RestartCount) == runs })
		if first, _ := idsOf(t, n.pid(one, "app")); first != ids["one"] {
			t.Errorf("its ids are those from %d on, were from %d", first, ids["one"])
		}
		n.eventually("it says whose its file is", func() error {
			if lines := n.logLines(one, "app", runs); !slices.Equal(lines, []string{"0"}) {
				return fmt.Errorf("it says %q", lines)
			}
			return nil
		})
	}
	kill := func(pid int) {
		t.Helper()
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
	}
	kill(n.pid(one, "app"))
	again(1)
	if ns(t, n.pid(one, "app"), "user") != users {
		t.Error("a container that was restarted is in another user namespace")
	}
	kill(n.box(one))
	again(2)
	if now := ns(t, n.box(one), "user"); ns(t, n.pid(one, "app"), "user") != now {
		t.Error("the container is not in the user namespace of its sandbox")
	}
	n.apply("one.yaml", pod("one", "  hostUsers: true"))
	host := n.await("one", "is another instance", func(p *v1.Pod) bool { return isReady(p) && p.UID != one.UID })
	if ns(t, n.pid(host, "app"), "user") != ns(t, "self", "user") {
		t.Error("hostUsers: true has a user namespace of its own")
	}
	for name := range ids {
		n.remove(name + ".yaml")
		n.awaitGone(name)
	}
	n.eventually("nothing is left", n.leftovers)
}

// TestAVolumeThatCannotBeMapped has a Pod wait, and told which volume keeps it, until that is another one.
func TestAVolumeThatCannotBeMapped(t *testing.T) {
	t.Parallel()
	n := launchMapped(t, false)
	pod := func(path string) string {
		return simple("waits", forever, hostUsersFalse, fmt.Sprintf("  volumes: [{name: kernel, hostPath: {path: %s}}]", path)) + "    volumeMounts: [{name: kernel, mountPath: /kernel}]\n"
	}
	n.apply("waits.yaml", pod("/sys/kernel"))
	p := n.await("waits", "is told which volume cannot be mapped", func(p *v1.Pod) bool {
		w := containerStatus(p, "app").State.Waiting
		return w != nil && w.Reason == "CreateContainerError" && strings.Contains(w.Message, `mount volume "kernel" at /kernel`) && strings.Contains(w.Message, "type sysfs")
	})
	n.noMapped()
	n.apply("waits.yaml", pod("/")) // of which what is mounted below may be what cannot be mapped
	now := n.awaitReady("waits")
	if now.UID == p.UID {
		t.Error("an edit of a volume made no new instance")
	}
	inside := fmt.Sprintf("/proc/%d/root/kernel", n.pid(now, "app"))
	for _, file := range []string{"/proc/version", "/sys/kernel", n.path("out")} {
		if _, err := os.Stat(inside + file); err != nil {
			t.Errorf("what is below did not come along: %v", err)
		}
	}
	n.noMapped()
}

// TestAHandlerThatKnowsNoUserNamespaces has a Pod be told that its runtime cannot give it one, and the node tell so.
func TestAHandlerThatKnowsNoUserNamespaces(t *testing.T) {
	t.Parallel()
	n := prepare(t)
	n.flags = append(n.flags, "--runtime-handler", "vm=io.containerd.vm.v1")
	n.restart()
	n.apply("vm.yaml", simple("vm", forever, hostUsersFalse, "  runtimeClassName: vm"))
	n.await("vm", "is told that its handler cannot", func(p *v1.Pod) bool {
		return p.Status.Reason == "FailedCreatePodSandBox" &&
			strings.Contains(p.Status.Message, "can't set `spec.hostUsers: false`, RuntimeClass handler \"vm\" does not support user namespaces")
	})
	told, err := n.client().Node(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range told.Status.RuntimeHandlers {
		if able := h.Features != nil && *h.Features.UserNamespaces; able != (h.Name != "vm") {
			t.Errorf("handler %q has user namespaces: %v", h.Name, able)
		}
	}
	if len(told.Status.RuntimeHandlers) < 3 {
		t.Errorf("there are %d handlers", len(told.Status.RuntimeHandlers))
	}
}

// layered is an image of two layers: the second removes a file of the first, and has files of a user, with setuid, and with a capability.
func layered(t *testing.T) string {
	t.Helper()
	image, err := tarball.ImageFromPath(filepath.Join(lab.images, "demo.tar"), nil)
	if err != nil {
		t.Fatal(err)
	}
	busybox, err := os.ReadFile("/bin/busybox")
	if err != nil {
		t.Fatal(err)
	}
	// VFS_CAP_REVISION_2 with the effective bit: CAP_DAC_OVERRIDE permitted (capabilities(7)).
	capability := "\x01\x00\x00\x02\x02\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
	var layer bytes.Buffer
	w := tar.NewWriter(&layer)
	for _, f := range []struct {
		tar.Header
		content []byte
	}{
		{tar.Header{Name: "etc/.wh.group"}, nil},
		{tar.Header{Name: "home/", Typeflag: tar.TypeDir, Mode: 0o700, Uid: 1000, Gid: 1000}, nil},
		{tar.Header{Name: "home/mine", Mode: 0o600, Uid: 1000, Gid: 1000}, []byte("of 1000\n")},
		{tar.Header{Name: "root/confidential", Mode: 0o600}, []byte("of root\n")},
		{tar.Header{Name: "sbin/setuid", Mode: 0o4755}, []byte("#!/bin/sh\n")},
		{tar.Header{Name: "sbin/able/cat", Mode: 0o755, PAXRecords: map[string]string{"SCHILY.xattr.security.capability": capability}}, busybox},
	} {
		f.Size = int64(len(f.content))
		if err := w.WriteHeader(&f.Header); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(f.content); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	top, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(layer.Bytes())), nil })
	if err != nil {
		t.Fatal(err)
	}
	if image, err = mutate.AppendLayers(image, top); err != nil {
		t.Fatal(err)
	}
	return pushTo(t, lab.registry+"/layered:v1", image)
}

// TestImagesInAUserNamespace has an image of several layers be a root file system, and a volume: owners, and what programs may by their
// files, mean in there what they mean without.
func TestImagesInAUserNamespace(t *testing.T) {
	t.Parallel()
	n := launchMapped(t, false)
	of := layered(t)
	n.apply("layers.yaml", fmt.Sprintf(`apiVersion: v1
kind: Pod
metadata: {name: layers}
spec:
  terminationGracePeriodSeconds: 2
  hostUsers: false
  volumes: [{name: image, image: {reference: %[1]q}}]
  containers:
  - name: root
    image: %[1]s
    command: [/bin/sh, -c]
    args:
    - |
      for r in /home /image/home /part; do echo $r $(stat -c %%u:%%g $r) $(stat -c %%u:%%g $r/mine) $(cat $r/mine); done
      ls /etc/group /image/etc/group 2>/dev/null || echo no group
      echo more >> /home/mine; rm /root/confidential; mv /sbin/able /sbin/moved; echo $(stat -c %%u:%%g /home/mine) $(ls /root | wc -l)
      touch /image/x 2>/dev/null || echo read-only
      echo done; %[2]s
    volumeMounts: [{name: image, mountPath: /image}, {name: image, mountPath: /part, subPath: home}]
  - name: user
    image: %[1]s
    securityContext: {runAsUser: 1000, runAsGroup: 1000}
    command: [/bin/sh, -c]
    args: ["cat /home/mine; cp /bin/busybox /home/cat && echo copied; cat /root/confidential 2>/dev/null || echo may not; stat -c %%a:%%u /sbin/setuid; /sbin/able/cat /root/confidential; %[2]s"]
`, of, forever))
	p := n.awaitReady("layers")
	n.says(p, "root", "/home 1000:1000 1000:1000 of 1000", "/image/home 1000:1000 1000:1000 of 1000", "/part 1000:1000 1000:1000 of 1000", "no group", "1000:1000 0", "read-only", "done")
	n.says(p, "user", "of 1000", "copied", "may not", "4755:0", "of root")
	n.kill()
	n.restart()
	n.noMapped()
	n.remove("layers.yaml")
	n.awaitGone("layers")
	n.eventually("nothing is left", n.leftovers)
}

// TestAPodOfAllKindsInAUserNamespace has what a Pod may share and be given beside: processes, init containers, sidecars, ephemeral containers,
// every privilege, and all of /proc.
func TestAPodOfAllKindsInAUserNamespace(t *testing.T) {
	t.Parallel()
	n := launchMapped(t, false)
	n.apply("kinds.yaml", fmt.Sprintf(`apiVersion: v1
kind: Pod
metadata: {name: kinds}
spec:
  terminationGracePeriodSeconds: 2
  hostUsers: false
  shareProcessNamespace: true
  volumes: [{name: data, emptyDir: {}}]
  initContainers:
  - {name: first, image: %[1]s, command: [/bin/sh, -c, "echo $(id -u) > /data/first"], volumeMounts: &data [{name: data, mountPath: /data}]}
  - {name: beside, image: %[1]s, restartPolicy: Always, command: [/bin/sh, -c, "cat /data/first; touch /data/beside; %[2]s"], volumeMounts: *data}
  containers:
  - {name: app, image: %[1]s, command: [/bin/sh, -c, "test -f /data/beside && echo after; grep -c ' /proc/' /proc/self/mountinfo; echo the app; %[2]s"], volumeMounts: *data}
  - name: unmasked
    image: %[1]s
    securityContext: {procMount: Unmasked}
    command: [/bin/sh, -c, "echo masked $(grep -c ' /proc/' /proc/self/mountinfo); echo x > /proc/sys/kernel/hostname || echo forbidden; %[2]s"]
  - name: privileged
    image: %[1]s
    securityContext: {privileged: true}
    command: [/bin/sh, -c, "mount -t tmpfs none /tmp && echo mounted; grep -q '^Cap.*Eff.*ffff' /proc/self/status && echo capable; echo x > /proc/sys/kernel/core_pattern || echo but of the host; %[2]s"]
`, image, forever))
	p := n.awaitReady("kinds")
	n.says(p, "beside", "0")
	n.says(p, "app", "after", "the app")
	n.says(p, "unmasked", "masked 0")
	n.says(p, "privileged", "mounted", "capable", "but of the host")
	first, _ := idsOf(t, n.pid(p, "app"))
	for _, c := range []string{"beside", "unmasked", "privileged"} {
		if other, _ := idsOf(t, n.pid(p, c)); other != first || ns(t, n.pid(p, c), "pid") != ns(t, n.box(p), "pid") {
			t.Errorf("%s has ids from %d on, the app from %d", c, other, first)
		}
	}
	if _, err := n.client().AddEphemeral(t.Context(), types.NamespacedName{Namespace: "default", Name: "kinds"}, &v1.EphemeralContainer{
		TargetContainerName: "app",
		EphemeralContainerCommon: v1.EphemeralContainerCommon{
			Name: "look", Image: image, Command: []string{"/bin/sh", "-c", "ps | grep -q 'the app' && echo sees; cat /data/first; " + forever},
			VolumeMounts: []v1.VolumeMount{{Name: "data", MountPath: "/data"}},
		},
	}); err != nil {
		t.Fatal(err)
	}
	n.says(p, "look", "sees", "0")
	n.noMapped()
}

// TestKubectlInAUserNamespace runs the example of Kubernetes' documentation (tasks/configure-pod-container/user-namespaces), but for its
// image, and talks with it in every way there is.
func TestKubectlInAUserNamespace(t *testing.T) {
	t.Parallel()
	k := launchMapped(t, false).kubectl()
	k.write("user-namespaces-stateless.yaml", fmt.Sprintf(`apiVersion: v1
kind: Pod
metadata:
  name: userns
spec:
  hostUsers: false
  terminationGracePeriodSeconds: 1
  containers:
  - name: shell
    command: ["sleep", "infinity"]
    image: %s
`, image))
	k.all(row{"apply -f user-namespaces-stateless.yaml", "pod/userns created"})
	p := k.awaitReady("userns")
	first, _ := idsOf(t, k.pid(p, "shell"))
	k.write("file", "copied\n")
	k.all(
		row{"exec userns -- readlink /proc/self/ns/user", regexpOf(ns(t, k.box(p), "user"))},
		row{"exec userns -- cat /proc/self/uid_map", fmt.Sprintf(`0 +%d +65536`, first)},
		row{"exec -i userns -- sh -c 'cat; id -u' <<< typed", "typed0"},
		row{"cp file userns:/tmp/file", ""},
		row{"exec userns -- sh -c 'cat /tmp/file; stat -c %u /tmp/file'", "copied\n0"},
		row{"cp userns:/etc/passwd passwd", ""},
		row{"exec userns -- sh -c 'mkdir /www; echo page > /www/index.html; httpd -p 80 -h /www; echo err >&2'", "err"},
		row{"run hosts --image=" + image + ` --overrides='{"spec":{"hostUsers":false,"hostPID":true}}'`, "error: .*spec.HostPID: Forbidden: when `hostUsers` is false"},
		row{"run masks --image=" + image + ` --overrides='{"spec":{"containers":[{"name":"masks","image":"x","securityContext":{"procMount":"Unmasked"}}]}}'`,
			"error: .*procMount: Invalid value: \"Unmasked\": `hostUsers` must be false to use `Unmasked`"},
		row{"get node -o jsonpath={.items[0].status.runtimeHandlers[*].features}", `"userNamespaces":true`},
	)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	onTerminal := k.cmd(ctx, "exec -it userns -- sh -c 'tty; stat -c %u:%g $(tty)'")
	cmd := exec.CommandContext(ctx, "script", "-qefc", quoted(onTerminal.Args), "/dev/null")
	cmd.Env, cmd.Dir = onTerminal.Env, onTerminal.Dir
	if out, err := cmd.CombinedOutput(); !strings.Contains(string(out), "/dev/pts/") || !strings.Contains(string(out), "0:5") {
		t.Errorf("on a terminal it says %q: %v", out, err)
	}
	for name := range dialers {
		local := forward(t, dialer(t, name, k.relay(), "userns"), ":80")
		resp, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/index.html", local[0]))
		if err != nil {
			t.Fatal(err)
		}
		page, err := io.ReadAll(resp.Body)
		if resp.Body.Close(); string(page) != "page\n" {
			t.Errorf("%s: the port says %q: %v", name, page, err)
		}
	}
	k.all(row{"delete pod userns --wait=false", "deleted"})
	k.awaitGone("userns")
	k.eventually("nothing is left", k.leftovers)
}

// regexpOf matches a link of /proc.
func regexpOf(link string) string { return strings.NewReplacer("[", `\[`, "]", `\]`).Replace(link) }
