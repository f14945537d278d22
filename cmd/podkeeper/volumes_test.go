package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
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
