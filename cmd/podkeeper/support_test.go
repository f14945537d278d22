package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"
)

// supportWith runs podkeeper support and answers the files of the archive, the part of the name that differs from host to host
// taken away.
func supportWith(t *testing.T, args ...string) (files map[string]string, said string) {
	t.Helper()
	cmd := exec.Command(lab.podkeeper, append([]string{"support"}, args...)...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v: %s", err, errs.String())
	}
	archive := out.Bytes()
	if !slices.Contains(args, "-") {
		name := strings.TrimSpace(out.String())
		info, err := os.Stat(name)
		if err != nil || info.Mode() != 0o600 {
			t.Fatalf("%s: %v, %v", name, info, err)
		}
		if archive, err = os.ReadFile(name); err != nil {
			t.Fatal(err)
		}
	}
	zip, err := gzip.NewReader(bytes.NewReader(archive))
	if err != nil {
		t.Fatal(err)
	}
	files = map[string]string{}
	for r := tar.NewReader(zip); ; {
		header, err := r.Next()
		if errors.Is(err, io.EOF) {
			return files, errs.String()
		}
		content, readErr := io.ReadAll(r)
		if err := errors.Join(err, readErr); err != nil {
			t.Fatal(err)
		}
		folder, name, _ := strings.Cut(header.Name, "/")
		if !regexp.MustCompile(`^podkeeper-support-testnode-\d{8}T\d{6}Z$`).MatchString(folder) {
			t.Errorf("the folder is %s", folder)
		}
		files[name] = string(content)
	}
}

// holdsNone fails where a secret, or its base64, is in any file.
func holdsNone(t *testing.T, files map[string]string, secrets ...string) {
	t.Helper()
	for name, text := range files {
		for _, secret := range secrets {
			for _, form := range []string{secret, base64.StdEncoding.EncodeToString([]byte(secret))} {
				if at := strings.Index(text, form); at >= 0 || strings.Contains(name, form) {
					t.Errorf("%s has %s: %s", name, form, text[max(at-200, 0):max(at, 0)+len(form)])
				}
			}
		}
	}
}

func TestSupportTellsMuchAndNoSecret(t *testing.T) {
	t.Parallel()
	n := launch(t)
	secret := func(of string) string { return "oak-" + of + "-9bq3-lantern" }
	var secrets []string
	for _, of := range []string{"variable", "object", "registry", "ending", "volume", "header"} {
		secrets = append(secrets, secret(of))
	}
	registry := fmt.Sprintf(`{"auths":{"registry.example":{"username":"ann","password":%q}}}`, secret("registry"))
	n.apply("a-secrets.yaml", fmt.Sprintf(`apiVersion: v1
kind: Secret
metadata: {name: hidden}
stringData: {SECRET: %s}
---
apiVersion: v1
kind: Secret
metadata: {name: pull}
type: kubernetes.io/dockerconfigjson
data: {.dockerconfigjson: %s}
`, secret("object"), base64.StdEncoding.EncodeToString([]byte(registry))))
	script := fmt.Sprintf("echo $SECRET and a plain word; echo %s >/volume/%s; ", strings.ReplaceAll(secret("volume"), "-", "'-'"), "file") + forever
	n.apply("web.yaml", simple("web", script, "  imagePullSecrets: [{name: pull}]",
		"  volumes: [{name: v, emptyDir: {}}, {name: s, secret: {secretName: hidden}}]")+fmt.Sprintf(`
    env: [{name: PLAIN, value: %s}]
    envFrom: [{secretRef: {name: hidden}}]
    volumeMounts: [{name: v, mountPath: /volume}, {name: s, mountPath: /s}]
    readinessProbe: {httpGet: {port: 1, httpHeaders: [{name: X-Key, value: %s}]}}
`, secret("variable"), secret("header")))
	n.apply("ends.yaml", simple("ends", fmt.Sprintf("echo %s >/dev/termination-log; exit 3", strings.ReplaceAll(secret("ending"), "-", "'-'")), "  restartPolicy: Never"))
	n.awaitPhase("web", v1.PodRunning)
	n.awaitPhase("ends", v1.PodFailed)
	flags := n.agent.Args[2:]

	target := filepath.Join(t.TempDir(), "archive.tar.gz")
	files, _ := supportWith(t, target, "--run-dir", n.path("run"))
	holdsNone(t, files, secrets...)
	wantTold(t, n, files)
	for name, want := range map[string]string{
		"agent/pods.json": `"name": "PLAIN"`, "agent/events.json": "Started container app", "agent/metrics.txt": "podkeeper_pods", "agent/healthz.txt": "ok",
		"agent/node.json": `"testnode"`, "agent/manifests.json": n.path("manifests"), "agent/flags.txt": "--containerd-namespace\n" + n.namespace,
		"agent/status.txt": "podkeeper", "agent/environment-names.txt": "PATH\n", "agent/metrics-cadvisor.txt": "container_memory_rss", "agent/kernel-stacks.txt": "== /proc/",
	} {
		if !strings.Contains(files[name], want) {
			t.Errorf("%s does not say %s:\n%.2000s", name, want, files[name])
		}
	}
	if out, err := exec.Command(lab.podkeeper, "support", target, "--run-dir", n.path("run")).CombinedOutput(); err == nil || !strings.Contains(string(out), "file exists") {
		t.Errorf("over what is there: %v, %s", err, out)
	}
	files, _ = supportWith(t, "-", "--logs", "--run-dir", n.path("run"))
	holdsNone(t, files, secret("variable"), secret("object"), secret("registry"), secret("header"))
	if logs := slices.DeleteFunc(slices.Collect(maps.Keys(files)), func(name string) bool { return !strings.HasPrefix(name, "logs/default_web_") }); len(logs) != 1 ||
		!strings.Contains(files[logs[0]], "(left out) and a plain word") {
		t.Errorf("of the logs there are %q", logs)
	}

	n.kill()
	files, said := supportWith(t, append([]string{"-"}, flags...)...)
	holdsNone(t, files, secrets...)
	wantTold(t, n, files)
	if !strings.Contains(files["errors.txt"], "no agent is running at "+n.path("run")) || !strings.Contains(said, "errors.txt") {
		t.Errorf("it says %s, and of an agent that is dead %s", said, files["errors.txt"])
	}
	n.restart()
}

// wantTold fails unless an archive has what is told without an agent.
func wantTold(t *testing.T, n *node, files map[string]string) {
	t.Helper()
	for name, want := range map[string]string{
		"versions/podkeeper.txt": "go1.", "versions/proc/version": "Linux", "versions/etc/os-release": "ID=", "versions/containerd.txt": "containerd", "versions/runc.txt": "runc",
		"versions/cni-portmap.txt": "CNI", "doctor.txt": "ok    containerd", "config.yaml": "cgroupRoot: /" + n.namespace, "containerd/containers.txt": "io.containerd.runc.v2",
		"network/addresses-of-host.txt": "LOOPBACK", "network/iptables.txt": "*filter", "network/addresses.txt": "== " + n.path("run"), "host/proc/self/mountinfo": n.path("run"),
		"host/processes.txt": "containerd-shim", "files/root-dir.txt": n.path("root", "pods"),
	} {
		if !strings.Contains(files[name], want) {
			t.Errorf("%s does not say %s:\n%.2000s", name, want, files[name])
		}
	}
	if strings.Contains(files["files/root-dir.txt"], "/v/file") {
		t.Errorf("it tells of files in volumes:\n%s", files["files/root-dir.txt"])
	}
	var records, groups int
	for name, text := range files {
		if strings.HasPrefix(name, "records/") {
			var record struct{ Pod *v1.Pod }
			if err := json.Unmarshal([]byte(text), &record); err != nil || record.Pod == nil || record.Pod.Name == "" {
				t.Errorf("%s: %v", name, err)
			}
			records++
		}
		if strings.HasPrefix(name, "cgroups/") && strings.Contains(name, n.namespace) && strings.Contains(text, "/cgroup.procs") {
			groups++
		}
	}
	if records != 2 || groups == 0 {
		t.Errorf("there are %d records and %d cgroups", records, groups)
	}
}

func TestSupportWorksWhereNothingIs(t *testing.T) {
	if errors.Is(lab.err, errSkip) {
		t.Skip(lab.err)
	} else if lab.err != nil {
		t.Fatal(lab.err)
	}
	dir := t.TempDir()
	in := func(name string) string { return filepath.Join(dir, name) }
	if err := os.WriteFile(in("config.yaml"), []byte("kind: KubeletConfiguration\napiVersion: kubelet.config.k8s.io/v1beta1\nstaticPodURLHeader: {Authorization: [oak-9bq3-lantern]}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	files, _ := supportWith(t, "-", "--config", in("config.yaml"), "--container-runtime-endpoint", "unix://"+in("none.sock"), "--root-dir", in("root"), "--run-dir", in("run"),
		"--pod-logs-dir", in("logs"), "--pod-manifest-path", in("manifests"), "--cni-conf-dir", in("net.d"), "--node-name", "testnode")
	holdsNone(t, files, "oak-9bq3-lantern")
	if !strings.Contains(files["config.yaml"], "staticPodURLHeader: (left out)") || !strings.Contains(files["errors.txt"], "staticPodURLHeader") {
		t.Errorf("the configuration is %s, and what is wrong %s", files["config.yaml"], files["errors.txt"])
	}
	if !strings.Contains(files["doctor.txt"], "nothing listens at unix://"+in("none.sock")) || !strings.Contains(files["host/proc/meminfo"], "MemTotal") {
		t.Errorf("doctor says %s", files["doctor.txt"])
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
		t.Errorf("it has made %v, %v", left, err)
	}
}
