package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	v1 "k8s.io/api/core/v1"
)

// TestDownwardAPIVolumes runs the example of Kubernetes' documentation, changes a label, and sees the file follow, with no
// container noticing.
func TestDownwardAPIVolumes(t *testing.T) {
	t.Parallel()
	n := launch(t)
	const manifest = `apiVersion: v1
kind: Pod
metadata:
  name: about
  labels: {zone: %s, cluster: test-cluster1}
  annotations: {build: two}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: app
    image: %s
    command: [/bin/sh, -c, "while true; do echo $(cat /etc/podinfo/labels) $(cat /all/name) $(cat /all/cpu) $(stat -L -c %%a /etc/podinfo/annotations); touch /etc/podinfo/x 2>/dev/null && echo written; sleep 0.1; done"]
    resources: {limits: {cpu: 250m}}
    volumeMounts: [{name: podinfo, mountPath: /etc/podinfo}, {name: all, mountPath: /all}]
  volumes:
  - name: podinfo
    downwardAPI:
      items:
      - {path: labels, fieldRef: {fieldPath: metadata.labels}}
      - {path: annotations, mode: 0400, fieldRef: {fieldPath: metadata.annotations}}
  - name: all
    projected:
      sources:
      - downwardAPI: {items: [{path: name, fieldRef: {fieldPath: metadata.name}}]}
      - downwardAPI: {items: [{path: cpu, resourceFieldRef: {containerName: app, resource: limits.cpu, divisor: 1m}}]}
`
	n.apply("about.yaml", fmt.Sprintf(manifest, "us-east-coast", image))
	pod := n.awaitReady("about")
	n.says(pod, "app", `cluster="test-cluster1" zone="us-east-coast" about 250 400`)
	n.apply("about.yaml", fmt.Sprintf(manifest, "us-west-coast", image))
	n.says(pod, "app", `cluster="test-cluster1" zone="us-west-coast" about 250 400`)
	n.kill()
	n.apply("about.yaml", fmt.Sprintf(manifest, "nowhere", image))
	if err := n.start(); err != nil {
		t.Fatal(err)
	}
	n.says(pod, "app", `cluster="test-cluster1" zone="nowhere" about 250 400`)
	if lines := n.logLines(pod, "app", 0); slices.Contains(lines, "written") {
		t.Error("a container has written into the volume")
	}
	if s := containerStatus(n.awaitReady("about"), "app"); s.RestartCount != 0 {
		t.Errorf("it was restarted %d times", s.RestartCount)
	}
}

// TestFSGroup has users that are not root share volumes: by the example of Kubernetes' documentation, and host paths left alone.
func TestFSGroup(t *testing.T) {
	t.Parallel()
	n := launch(t)
	host := n.path("out", "host")
	if err := os.MkdirAll(host, 0o755); err != nil {
		t.Fatal(err)
	}
	n.apply("group.yaml", fmt.Sprintf(`apiVersion: v1
kind: Pod
metadata: {name: group}
spec:
  terminationGracePeriodSeconds: 1
  securityContext: {runAsUser: 1001, runAsGroup: 2000, fsGroup: 3000, fsGroupChangePolicy: OnRootMismatch}
  containers:
  - name: app
    image: %s
    command: [/bin/sh, -c]
    args: ["id; echo hello > /data/file; for f in /data /data/file /memory /host; do stat -c '%%n %%A %%g' $f; done; cat /about/name; echo; stat -L -c '%%n %%a %%g' /about/name; %s"]
    volumeMounts:
    - {name: data, mountPath: /data}
    - {name: memory, mountPath: /memory}
    - {name: about, mountPath: /about}
    - {name: host, mountPath: /host}
  volumes:
  - {name: data, emptyDir: {}}
  - {name: memory, emptyDir: {medium: Memory}}
  - {name: about, downwardAPI: {defaultMode: 0400, items: [{path: name, fieldRef: {fieldPath: metadata.name}}]}}
  - {name: host, hostPath: {path: %s}}
`, image, forever, host))
	n.says(n.awaitReady("group"), "app", "uid=1001 gid=2000 groups=2000,3000", "/data drwxrwsrwx 3000", "/data/file -rw-r--r-- 3000",
		"/memory drwxrwsrwx 3000", "/host drwxr-xr-x 0", "group", "/about/name 440 3000")
}

// TestRecursiveReadOnly mounts a folder with another mount in it, read-only in the two ways that there are.
func TestRecursiveReadOnly(t *testing.T) {
	t.Parallel()
	n := launch(t)
	outer := n.path("out", "outer")
	inner := filepath.Join(outer, "inner")
	if err := os.MkdirAll(inner, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", inner, "tmpfs", 0, "size=1m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(inner, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	pod := func(name, recursive string) string {
		return simple(name, "touch /outer/x 2>/dev/null && echo outer || echo no outer; touch /outer/inner/x 2>/dev/null && echo inner || echo no inner; "+forever,
			"  volumes: [{name: outer, hostPath: {path: "+outer+"}}]") +
			"    volumeMounts: [{name: outer, mountPath: /outer, readOnly: true, recursiveReadOnly: " + recursive + "}]\n"
	}
	n.apply("shallow.yaml", pod("shallow", "Disabled"))
	n.apply("deep.yaml", pod("deep", "Enabled"))
	n.says(n.awaitReady("shallow"), "app", "no outer", "inner")
	n.says(n.awaitReady("deep"), "app", "no outer", "no inner")
}

// TestClaims has data outlive its Pod: in a folder of podkeeper's own, and on a persistent volume.
func TestClaims(t *testing.T) {
	t.Parallel()
	n := launch(t)
	disk := n.path("out", "disk")
	if err := os.Mkdir(disk, 0o755); err != nil {
		t.Fatal(err)
	}
	const claims = `---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: own}
spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: disk}
spec: {accessModes: [ReadWriteOnce], storageClassName: manual, resources: {requests: {storage: 1Gi}}}
`
	volume := fmt.Sprintf(`apiVersion: v1
kind: PersistentVolume
metadata: {name: disk-1}
spec:
  capacity: {storage: 2Gi}
  accessModes: [ReadWriteOnce]
  storageClassName: manual
  local: {path: %s}
  nodeAffinity: {required: {nodeSelectorTerms: [{matchExpressions: [{key: kubernetes.io/hostname, operator: In, values: [testnode]}]}]}}
`, disk)
	pod := func(name, script string) string {
		return simple(name, script+"; "+forever, "  securityContext: {runAsUser: 1001, fsGroup: 3000}",
			"  volumes: [{name: own, persistentVolumeClaim: {claimName: own}}, {name: disk, persistentVolumeClaim: {claimName: disk}}]") +
			"    volumeMounts: [{name: own, mountPath: /own}, {name: disk, mountPath: /disk, subPath: sub}]\n"
	}
	n.apply("claims.yaml", claims)
	n.apply("first.yaml", pod("first", "echo mine > /own/file; echo shared > /disk/file; stat -c '%n %g' /own /own/file /disk/file"))
	n.eventually("the Pod waits for the volume", func() error {
		pod, err := n.get("first")
		const want = `MountVolume.SetUp failed for volume "disk" : persistentvolumeclaim "disk" is not bound: no persistentvolume of storage class "manual" that is free fits it`
		if err == nil && pod.Status.Message != want {
			err = fmt.Errorf("it says %q", pod.Status.Message)
		}
		return err
	})
	n.apply("disk.yaml", volume)
	n.says(n.awaitReady("first"), "app", "/own 3000", "/own/file 3000", "/disk/file 3000")
	if content, err := os.ReadFile(filepath.Join(disk, "sub", "file")); err != nil || string(content) != "shared\n" {
		t.Errorf("on the volume there is %q: %v", content, err)
	}
	n.remove("first.yaml")
	n.awaitGone("first")
	n.remove("disk.yaml")
	n.apply("second.yaml", pod("second", "cat /own/file /disk/file"))
	n.says(n.awaitReady("second"), "app", "mine", "shared")
}

// TestImageVolumesOfPods mounts the files of an image, all and a part, and leaves nothing behind.
func TestImageVolumesOfPods(t *testing.T) {
	t.Parallel()
	n := launch(t)
	ref := push(t, "volume/files:v1", "files")
	pod := func(name, ref string) string {
		return simple(name, "test -x /files/bin/sh && echo all; ls /part | grep -x sh; touch /files/x 2>/dev/null || echo read-only; "+forever,
			"  volumes: [{name: files, image: {reference: \""+ref+"\", pullPolicy: IfNotPresent}}]") +
			"    volumeMounts: [{name: files, mountPath: /files}, {name: files, mountPath: /part, subPath: bin}]\n"
	}
	n.apply("files.yaml", pod("files", ref))
	n.says(n.awaitReady("files"), "app", "all", "sh", "read-only")
	n.kill()
	n.restart()
	if s := containerStatus(n.awaitReady("files"), "app"); s.RestartCount != 0 {
		t.Errorf("it was restarted %d times", s.RestartCount)
	}
	n.apply("none.yaml", pod("none", lab.registry+"/volume/none:v1"))
	n.await("none", "is refused the image of its volume", func(p *v1.Pod) bool {
		w := containerStatus(p, "app").State.Waiting
		return w != nil && w.Reason == "ErrImagePull" && strings.Contains(w.Message, "/volume/none:v1")
	})
	n.remove("files.yaml")
	n.remove("none.yaml")
	n.awaitGone("files")
	n.awaitGone("none")
	n.eventually("nothing is left of it", func() error {
		left, err := n.runtime().ListImageVolumes(t.Context())
		if err == nil && len(left) > 0 {
			err = fmt.Errorf("there are %+v", left)
		}
		return err
	})
}

// TestEnvironmentFromAFile has an init container write what the environment of the next is made of, and one that leads out.
func TestEnvironmentFromAFile(t *testing.T) {
	t.Parallel()
	n := launch(t)
	pod := func(name, write string) string {
		return simple(name, "echo $COLOUR; "+forever, "  volumes: [{name: made, emptyDir: {}}]",
			"  initContainers: [{name: write, image: "+image+", command: [/bin/sh, -c, \""+write+"\"], volumeMounts: [{name: made, mountPath: /made}]}]") +
			"    env: [{name: COLOUR, valueFrom: {fileKeyRef: {volumeName: made, path: env, key: COLOUR}}}]\n"
	}
	n.apply("file.yaml", pod("file", `echo \"COLOUR='blue'\" > /made/env`))
	n.apply("out.yaml", pod("out", "ln -s /etc/passwd /made/env"))
	n.says(n.awaitReady("file"), "app", "blue")
	n.await("out", "is refused a file of the host", func(p *v1.Pod) bool {
		w := containerStatus(p, "app").State.Waiting
		return w != nil && w.Reason == "CreateContainerConfigError" && strings.Contains(w.Message, `volume "made"`)
	})
}
