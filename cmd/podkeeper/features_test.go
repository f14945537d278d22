package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	registryv1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// push puts the demo image into the registry with an environment variable that tells one push from another.
func push(t *testing.T, repository, mark string) string {
	t.Helper()
	image, err := tarball.ImageFromPath(filepath.Join(lab.images, "demo.tar"), nil)
	if err != nil {
		t.Fatal(err)
	}
	config, err := image.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	config = config.DeepCopy()
	config.Config.Env = append(config.Config.Env, "MARK="+mark)
	config.Config.StopSignal = "SIGUSR1"
	if image, err = mutate.ConfigFile(image, config); err != nil {
		t.Fatal(err)
	}
	return pushTo(t, lab.registry+"/"+repository, image)
}

// pushTo puts an image into a registry on loopback, and answers its name there.
func pushTo(t *testing.T, repository string, image registryv1.Image) string {
	t.Helper()
	ref, err := name.ParseReference(repository, name.Insecure)
	if err == nil {
		err = remote.Write(ref, image)
	}
	if err != nil {
		t.Fatal(err)
	}
	return ref.Name()
}

func TestPullPolicies(t *testing.T) {
	t.Parallel()
	n := launch(t)
	ref := push(t, "pull/app:v1", "one")
	mark := func(name, policy string) string {
		return strings.Replace(simple(name, "echo mark $MARK; trap 'echo usr1; exit 0' USR1; while true; do sleep 1000 & wait $!; done"), image, ref+"\n    imagePullPolicy: "+policy, 1)
	}
	logged := func(pod *v1.Pod, want string) {
		t.Helper()
		n.eventually("it says "+want, func() error {
			if lines := n.logLines(pod, "app", 0); !slices.Contains(lines, want) {
				return fmt.Errorf("it says %q", lines)
			}
			return nil
		})
	}
	n.apply("never.yaml", mark("never", "Never"))
	n.await("never", "is refused its image", func(p *v1.Pod) bool {
		w := containerStatus(p, "app").State.Waiting
		return w != nil && w.Reason == "ErrImageNeverPull"
	})
	n.apply("present.yaml", mark("present", "IfNotPresent"))
	logged(n.awaitReady("present"), "mark one")
	push(t, "pull/app:v1", "two")
	n.apply("present2.yaml", mark("present2", "IfNotPresent"))
	logged(n.awaitReady("present2"), "mark one")
	n.apply("always.yaml", mark("always", "Always"))
	pod := n.awaitReady("always")
	logged(pod, "mark two")
	if id := containerStatus(pod, "app").ImageID; !strings.HasPrefix(id, lab.registry+"/pull/app@sha256:") {
		t.Errorf("imageID is %s", id)
	}
	n.remove("always.yaml")
	n.awaitGone("always") // by the image's own stop signal: a SIGTERM would not end it before SIGKILL

	n.apply("missing.yaml", strings.Replace(simple("missing", ""), image, lab.registry+"/none:v1", 1))
	missing := n.await("missing", "is told", func(p *v1.Pod) bool {
		w := containerStatus(p, "app").State.Waiting
		return w != nil && w.Reason == "ErrImagePull"
	})
	if m := containerStatus(missing, "app").State.Waiting.Message; !strings.Contains(m, "not found") {
		t.Errorf("it says %q", m)
	}
}

func TestVolumes(t *testing.T) {
	t.Parallel()
	n := launch(t)
	host := n.path("out", "host")
	if err := os.MkdirAll(filepath.Join(host, "inner"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/etc", filepath.Join(host, "escape")); err != nil {
		t.Fatal(err)
	}
	pod := fmt.Sprintf(`apiVersion: v1
kind: Pod
metadata: {name: vols}
spec:
  terminationGracePeriodSeconds: 1
  volumes:
  - {name: disk, emptyDir: {}}
  - {name: mem, emptyDir: {medium: Memory, sizeLimit: 1Mi}}
  - {name: host, hostPath: {path: %[1]s, type: Directory}}
  - {name: made, hostPath: {path: %[1]s/made, type: DirectoryOrCreate}}
  initContainers:
  - {name: write, image: %[2]s, command: [/bin/sh, -c, "echo shared > /disk/file"], volumeMounts: [{name: disk, mountPath: /disk}]}
  containers:
  - name: app
    image: %[2]s
    command: [/bin/sh, -c]
    args:
    - |
      cat /disk/file; grep -q ' /mem tmpfs .*size=1024k' /proc/mounts && echo tmpfs
      (echo x > /ro/file) 2>/dev/null || echo read-only
      echo inner > /inner/file; echo made > /made/file
      head -c 2000000 /dev/zero > /mem/big 2>/dev/null || echo full
      %[3]s
    volumeMounts:
    - {name: disk, mountPath: /disk}
    - {name: mem, mountPath: /mem}
    - {name: host, mountPath: /ro, readOnly: true}
    - {name: host, mountPath: /inner, subPath: inner}
    - {name: made, mountPath: /made}
`, host, image, forever)
	n.apply("vols.yaml", pod)
	ready := n.awaitReady("vols")
	n.eventually("it says all", func() error {
		if lines := n.logLines(ready, "app", 0); !slices.Equal(lines, []string{"shared", "tmpfs", "read-only", "full"}) {
			return fmt.Errorf("it says %q", lines)
		}
		return nil
	})
	for _, file := range []string{"inner/file", "made/file"} {
		if _, err := os.Stat(filepath.Join(host, file)); err != nil {
			t.Error(err)
		}
	}
	n.remove("vols.yaml")
	n.awaitGone("vols")
	if _, err := os.Stat(filepath.Join(host, "inner/file")); err != nil {
		t.Errorf("the removal reached the host's files: %v", err)
	}
	n.apply("escape.yaml", strings.NewReplacer("name: vols", "name: escape", "subPath: inner", "subPath: escape").Replace(pod))
	n.await("escape", "is refused its subPath", func(p *v1.Pod) bool {
		w := containerStatus(p, "app").State.Waiting
		return w != nil && w.Reason == "CreateContainerError" && strings.Contains(w.Message, "escape")
	})
	n.apply("absent.yaml", strings.NewReplacer("name: vols", "name: absent", host+", type: Directory}", host+"/nothing, type: Directory}").Replace(pod))
	n.await("absent", "is told what is missing", func(p *v1.Pod) bool { return strings.Contains(p.Status.Message, host+"/nothing") })
}

func TestHostNetworkAndHostPort(t *testing.T) {
	t.Parallel()
	n := launch(t)
	port := freePort(t)
	serve := func(name, extra string, port int) string {
		return strings.Replace(simple(name, fmt.Sprintf("echo hello > /www/index.html; trap 'exit 0' TERM; httpd -p %d -h /www; while true; do sleep 1000 & wait $!; done", port)),
			"  containers:", extra+"  containers:", 1)
	}
	own := freePort(t)
	n.apply("net.yaml", serve("onhost", "  hostNetwork: true\n", own)+"---\n"+
		serve("ported", "", 80)+fmt.Sprintf("    ports: [{containerPort: 80, hostPort: %d}]\n", port))
	onHost, ported := n.awaitReady("onhost"), n.awaitReady("ported")
	if onHost.Status.PodIP != onHost.Status.HostIP {
		t.Errorf("a Pod on the host's network has %s on a node with %s", onHost.Status.PodIP, onHost.Status.HostIP)
	}
	for _, address := range []string{
		fmt.Sprintf("127.0.0.1:%d", own), ported.Status.PodIP + ":80",
		net.JoinHostPort(ported.Status.HostIP, fmt.Sprint(port)), fmt.Sprintf("127.0.0.1:%d", port),
	} {
		n.eventually(address+" answers", func() error {
			resp, err := (&http.Client{Timeout: 2 * time.Second}).Get("http://" + address + "/")
			if err != nil {
				return err
			}
			defer resp.Body.Close()
			if body, _ := io.ReadAll(resp.Body); string(body) != "hello\n" {
				return fmt.Errorf("it says %q", body)
			}
			return nil
		})
	}
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

func TestProbesDecide(t *testing.T) {
	t.Parallel()
	n := launch(t)
	n.apply("alive.yaml", simple("alive", "touch /tmp/ok; trap 'exit 0' TERM; sleep 2 & wait $!; rm /tmp/ok; while true; do sleep 1000 & wait $!; done")+
		`    livenessProbe: {exec: {command: [test, -e, /tmp/ok]}, periodSeconds: 1, timeoutSeconds: 30, failureThreshold: 2}
---
`+simple("slow", "sleep 2; touch /tmp/up; "+forever)+
		`    startupProbe: {exec: {command: [test, -e, /tmp/up]}, periodSeconds: 1, timeoutSeconds: 30, failureThreshold: 60}
    readinessProbe: {exec: {command: [/bin/sh, -c, "test $MODE = go"]}, periodSeconds: 1, timeoutSeconds: 30}
    env: [{name: MODE, value: stop}]
---
`+simple("ready", "mkdir /tmp/w; echo ok > /tmp/w/healthz; httpd -p 8080 -h /tmp/w; "+forever)+
		`    ports: [{name: web, containerPort: 8080}]
    readinessProbe: {httpGet: {path: /healthz, port: web}, periodSeconds: 1, timeoutSeconds: 30}
`)
	slow := n.await("slow", "runs", func(p *v1.Pod) bool { return containerStatus(p, "app").State.Running != nil })
	if *containerStatus(slow, "app").Started {
		t.Error("slow has started before its startup probe said so")
	}
	n.awaitReady("ready")
	restarted := n.await("alive", "is restarted by its liveness probe", func(p *v1.Pod) bool { return containerStatus(p, "app").RestartCount >= 1 })
	if last := containerStatus(restarted, "app").LastTerminationState.Terminated; last == nil || last.ExitCode != 0 {
		t.Errorf("it was not told to end: %+v", last)
	}
	slow = n.await("slow", "has started", func(p *v1.Pod) bool { return *containerStatus(p, "app").Started })
	if containerStatus(slow, "app").Ready || containerStatus(slow, "app").RestartCount != 0 {
		t.Errorf("slow is %+v", slow.Status.ContainerStatuses)
	}
	events, err := n.client().Events(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(events.Items, func(e v1.Event) bool {
		return e.Reason == "Unhealthy" && strings.HasPrefix(e.Message, "Liveness probe failed") && e.InvolvedObject.Name == "alive"
	}) {
		t.Error("no event tells of the liveness probe")
	}
}

// TestHooks has hooks leave their traces in a folder of the host's: the container sees that of postStart, and the end that of
// preStop, which comes before the signal.
func TestHooks(t *testing.T) {
	t.Parallel()
	n := launch(t)
	script := "trap 'echo $(cat /out/stop) > /out/end; exit 0' USR1; while true; do sleep 1000 & wait $!; done"
	n.apply("hooks.yaml", fmt.Sprintf(`apiVersion: v1
kind: Pod
metadata: {name: hooks}
spec:
  os: {name: linux}
  volumes: [{name: out, hostPath: {path: %s}}]
  containers:
  - name: app
    image: %s
    command: [/bin/sh, -c, %q]
    volumeMounts: [{name: out, mountPath: /out}]
    lifecycle:
      stopSignal: SIGUSR1
      postStart: {exec: {command: [/bin/sh, -c, "sleep 1; echo greeted > /out/start"]}}
      preStop: {exec: {command: [/bin/sh, -c, "sleep 1; echo bade > /out/stop"]}}
`, n.path("out"), image, script))
	n.await("hooks", "runs", func(p *v1.Pod) bool { return containerStatus(p, "app").State.Running != nil })
	if got, err := os.ReadFile(n.path("out", "start")); string(got) != "greeted\n" {
		t.Errorf("it is told to run before its postStart hook has ended: %q, %v", got, err)
	}
	n.remove("hooks.yaml")
	n.awaitGone("hooks")
	if got, err := os.ReadFile(n.path("out", "end")); string(got) != "bade\n" {
		t.Errorf("its stop signal did not come after its preStop hook: %q, %v", got, err)
	}
}

// TestAnEphemeralContainer has one look at the processes of another and write to a volume of the Pod's, over a restart of
// the agent.
func TestAnEphemeralContainer(t *testing.T) {
	t.Parallel()
	n := launch(t)
	n.apply("web.yaml", simple("web", "echo I am the target; "+forever, fmt.Sprintf("  volumes: [{name: out, hostPath: {path: %s}}]", n.path("out"))))
	n.awaitReady("web")
	added, err := n.client().AddEphemeral(context.Background(), types.NamespacedName{Namespace: "default", Name: "web"}, &v1.EphemeralContainer{
		TargetContainerName: "app",
		EphemeralContainerCommon: v1.EphemeralContainerCommon{
			Name: "look", Image: image, Command: []string{"/bin/sh", "-c", "cat /proc/1/cmdline > /out/seen; echo looked; " + forever},
			VolumeMounts: []v1.VolumeMount{{Name: "out", MountPath: "/out"}},
		},
	})
	if err != nil || len(added.Spec.EphemeralContainers) != 1 {
		t.Fatalf("it is not added: %v", err)
	}
	runs := func(p *v1.Pod) bool {
		s := p.Status.EphemeralContainerStatuses
		return len(s) == 1 && s[0].State.Running != nil && slices.Contains(n.logLines(p, "look", 0), "looked")
	}
	n.await("web", "has an ephemeral container that runs", runs)
	if seen, err := os.ReadFile(n.path("out", "seen")); !strings.Contains(string(seen), "I am the target") {
		t.Errorf("it sees %q, %v", seen, err)
	}
	n.kill()
	n.restart()
	n.await("web", "has it still", runs)
	n.remove("web.yaml")
	n.awaitGone("web")
}

func TestOutOfMemory(t *testing.T) {
	t.Parallel()
	n := launch(t)
	n.apply("oom.yaml", simple("oom", "exec tail /dev/zero", "  restartPolicy: Never")+"    resources: {limits: {memory: 16Mi}}\n")
	pod := n.awaitPhase("oom", v1.PodFailed)
	if end := containerStatus(pod, "app").State.Terminated; end.Reason != "OOMKilled" || end.ExitCode != 137 {
		t.Errorf("it ended as %+v", end)
	}
}

// The second handler is runc under another name or, where crun is installed and can run, crun.
func TestASecondRuntimeHandler(t *testing.T) {
	t.Parallel()
	n := launch(t)
	handler, program := n.secondHandler()
	n.apply("two.yaml", simple("first", forever)+"---\n"+simple("second", forever, "  runtimeClassName: "+handler)+
		"    resources: {limits: {memory: 32Mi}}\n---\n"+simple("third", forever, "  runtimeClassName: unheard-of"))
	n.awaitReady("first")
	pod := n.awaitReady("second")
	if got := n.handler(pod); !strings.Contains(got, program) {
		t.Errorf("it runs with the options %q, want %s", got, program)
	}
	n.heldFor("third", "RuntimeClass", `pod rejected: RuntimeClass "unheard-of" not found`)
}

func TestSecurityContext(t *testing.T) {
	t.Parallel()
	n := launch(t)
	n.apply("sec.yaml", simple("sec", `id -u; id -g; id -G; grep -E 'CapEff|NoNewPrivs|^Seccomp:' /proc/self/status | tr -d '\t '; touch /x 2>/dev/null || echo read-only; `+forever,
		"  securityContext: {runAsUser: 1000, runAsNonRoot: true}")+
		`    securityContext: {readOnlyRootFilesystem: true, allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}, seccompProfile: {type: RuntimeDefault}}
---
`+simple("root", forever, "  securityContext: {runAsNonRoot: true}"))
	pod := n.awaitReady("sec")
	want := []string{"1000", "1000", "1000 50", "CapEff:0000000000000000", "NoNewPrivs:1", "Seccomp:2", "read-only"}
	n.eventually("it says who it is", func() error {
		if lines := n.logLines(pod, "app", 0); !slices.Equal(lines, want) {
			return fmt.Errorf("it says %q", lines)
		}
		return nil
	})
	n.await("root", "is refused", func(p *v1.Pod) bool {
		w := containerStatus(p, "app").State.Waiting
		return w != nil && w.Reason == "CreateContainerConfigError" && strings.Contains(w.Message, "runAsNonRoot")
	})
}

func TestSharedProcessNamespace(t *testing.T) {
	t.Parallel()
	n := launch(t)
	n.apply("shared.yaml", simple("shared", "(sleep 0.2 &); sleep 1; cat /proc/[0-9]*/status | grep -c State:.Z; ps | grep -q '[/]pause' && echo pause; "+forever, "  shareProcessNamespace: true"))
	pod := n.awaitReady("shared")
	n.eventually("orphans are reaped by the pause process", func() error {
		if lines := n.logLines(pod, "app", 0); !slices.Equal(lines, []string{"0", "pause"}) {
			return fmt.Errorf("it says %q", lines)
		}
		return nil
	})
}

func TestLogsRotate(t *testing.T) {
	t.Parallel()
	n := launch(t, "containerLogMaxSize: 20Ki\ncontainerLogMaxFiles: 3")
	n.apply("talk.yaml", simple("talk", "i=0; while [ $i -lt 40 ]; do i=$((i+1)); head -c 2000 /dev/zero | tr '\\0' x; echo; sleep 0.1; done; "+forever))
	pod := n.awaitReady("talk")
	n.eventually("there are rotated files", func() error {
		files, _ := filepath.Glob(n.path("logs", "default_talk_"+string(pod.UID), "app", "0.log*"))
		if len(files) != 3 || !slices.ContainsFunc(files, func(f string) bool { return strings.HasSuffix(f, ".gz") }) {
			return fmt.Errorf("there are %q", files)
		}
		return nil
	})
}

func TestMetrics(t *testing.T) {
	t.Parallel()
	n := launch(t)
	n.apply("m.yaml", simple("m", forever))
	n.apply("broken.yaml", "kind: Pod")
	n.awaitReady("m")
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", n.path("run", "podkeeper.sock"))
	}
	c := http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}}
	n.eventually("metrics tell", func() error {
		resp, err := c.Get("http://podkeeper/metrics")
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		body, _ := io.ReadAll(resp.Body)
		for _, want := range []string{
			`podkeeper_pods{phase="Running"} 1`, "podkeeper_manifest_errors 1", "podkeeper_pod_start_duration_seconds_count 1",
			"podkeeper_sandbox_create_duration_seconds_count 1", "podkeeper_container_restarts_total 0", "podkeeper_image_pull_duration_seconds_bucket",
			"go_goroutines", "process_resident_memory_bytes",
		} {
			if !strings.Contains(string(body), want) {
				return fmt.Errorf("no %s", want)
			}
		}
		return nil
	})
}

// TestStdinAndTTY has containers read what nobody writes yet, what somebody writes and, without stdin, the end at once; and
// containers with a terminal, an ephemeral one among them.
func TestStdinAndTTY(t *testing.T) {
	t.Parallel()
	n := launch(t)
	const read = "echo begins; read line; echo read $line.; " + forever
	n.apply("stdin.yaml", simple("stdin", read)+"    stdin: true\n    stdinOnce: true\n")
	n.apply("none.yaml", simple("none", read))
	n.apply("tty.yaml", simple("tty", "test -t 0 && test -t 1 && test -t 2 && echo terminal $TERM; read line; echo got $line; "+forever)+"    stdin: true\n    tty: true\n")
	n.apply("output.yaml", simple("output", "test -t 1 && echo terminal; "+forever)+"    tty: true\n")
	n.says(n.awaitReady("none"), "app", "begins", "read .")
	n.says(n.awaitReady("output"), "app", "terminal\r")
	stdin, tty := n.awaitReady("stdin"), n.awaitReady("tty")
	n.says(stdin, "app", "begins")
	n.says(tty, "app", "terminal xterm\r")
	n.kill()
	n.restart()
	n.awaitReady("stdin")
	for pod, want := range map[*v1.Pod][]string{stdin: {"begins"}, tty: {"terminal xterm\r"}} {
		if lines := n.logLines(pod, "app", 0); !slices.Equal(lines, want) {
			t.Errorf("with nobody who writes %s has written %q", pod.Name, lines)
		}
		pipe, err := os.OpenFile(n.path("run", "pods", string(pod.UID), "io", "app.0.in"), os.O_WRONLY, 0)
		if err == nil {
			_, err = pipe.WriteString("hello\n")
			_ = pipe.Close()
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	n.says(stdin, "app", "read hello.")
	n.says(tty, "app", "hello\r", "got hello\r")
	if _, err := n.client().AddEphemeral(context.Background(), types.NamespacedName{Namespace: "default", Name: "none"}, &v1.EphemeralContainer{
		EphemeralContainerCommon: v1.EphemeralContainerCommon{
			Name: "look", Image: image, Stdin: true, TTY: true, Command: []string{"/bin/sh", "-c", "test -t 0 && echo terminal; " + forever},
		},
	}); err != nil {
		t.Fatal(err)
	}
	n.says(n.awaitReady("none"), "look", "terminal\r")
	for _, name := range []string{"stdin", "none", "tty", "output"} {
		n.remove(name + ".yaml")
		n.awaitGone(name)
	}
}
