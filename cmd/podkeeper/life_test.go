package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
)

const image = "podkeeper.local/demo:v1"

// simple is a Pod of one container that runs a shell script.
func simple(name, script string, spec ...string) string {
	return fmt.Sprintf(`apiVersion: v1
kind: Pod
metadata: {name: %s}
spec:
  terminationGracePeriodSeconds: 2
%s
  containers:
  - name: app
    image: %s
    command: ["/bin/sh", "-c"]
    args: [%q]
`, name, strings.Join(spec, "\n"), image, script)
}

// forever sleeps, and ends at once when it is told to.
const forever = "trap 'exit 0' TERM; while true; do sleep 1000 & wait $!; done"

func TestExamplePod(t *testing.T) {
	t.Parallel()
	n := launch(t)
	manifest, err := os.ReadFile("../../manifests/examples/web.yaml")
	if err != nil {
		t.Fatal(err)
	}
	n.apply("web.yaml", string(manifest))
	pod := n.awaitReady("web")

	resp, err := http.Get("http://" + pod.Status.PodIP + ":8080/")
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(resp.Body)
	resp.Body.Close()
	if string(body) != "<h1>Hello from web</h1>\n" {
		t.Errorf("the page is %q", body)
	}
	if pod.Status.Phase != v1.PodRunning || pod.Status.QOSClass != v1.PodQOSBurstable || pod.Status.HostIP == "" || pod.Spec.NodeName != "testnode" {
		t.Errorf("status is %+v", pod.Status)
	}
	page := containerStatus(pod, "page").State.Terminated
	heartbeat, app := containerStatus(pod, "heartbeat").State.Running, containerStatus(pod, "app").State.Running
	if page == nil || heartbeat == nil || app == nil {
		t.Fatalf("containers are %+v %+v", pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses)
	}
	if page.Reason != "Completed" || heartbeat.StartedAt.Before(&page.StartedAt) || app.StartedAt.Before(&heartbeat.StartedAt) {
		t.Errorf("order is wrong: %v %v %v", page, heartbeat, app)
	}
	reasons := map[string]bool{}
	events, err := n.client().Events(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range events.Items {
		reasons[e.Reason] = true
	}
	for _, r := range []string{"Pulled", "Created", "Started"} {
		if !reasons[r] {
			t.Errorf("no event %s among %v", r, reasons)
		}
	}
	n.remove("web.yaml")
	n.awaitGone("web")
	if err := n.leftovers(); err != nil {
		t.Error(err)
	}
}

func TestWhatAContainerSees(t *testing.T) {
	t.Parallel()
	n := launch(t)
	n.apply("sees.yaml", simple("sees", `
echo host $(hostname) env $HOSTNAME first $A second $B third $C ip $IP node $NODE account $ACCOUNT limit $LIMIT
echo one:; cat /etc/hosts; echo two:; cat /etc/hostname
echo pid $$$$ user $(id -u) groups $(id -G) cwd $(pwd)
test -w /dev/shm && echo shm; test -d /sys/fs/cgroup && echo cgroup; (echo x > /proc/sys/kernel/hostname) 2>/dev/null || echo masked
echo args "$0" "$1"
echo done > /dev/termination-log
`+forever, `  hostAliases: [{ip: 192.0.2.7, hostnames: [db]}]
  securityContext: {supplementalGroups: [4242]}
  serviceAccount: builder`)+`    env:
    - {name: A, value: one}
    - {name: B, value: $(A)-$(NOT)-$$(A)}
    - {name: C, value: $A}
    - {name: IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}
    - {name: NODE, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}}
    - {name: ACCOUNT, valueFrom: {fieldRef: {fieldPath: spec.serviceAccountName}}}
    - {name: LIMIT, valueFrom: {resourceFieldRef: {resource: limits.memory}}}
    workingDir: /tmp
    resources: {limits: {memory: 32Mi, cpu: 100m}}
`)
	pod := n.awaitReady("sees")
	var lines []string
	n.eventually("the log is whole", func() error {
		if lines = n.logLines(pod, "app", 0); slices.ContainsFunc(lines, func(l string) bool { return strings.HasPrefix(l, "args") }) {
			return nil
		}
		return fmt.Errorf("log is %q", lines)
	})
	got := strings.Join(lines, "\n")
	ip := pod.Status.PodIP
	for _, want := range []string{
		"host sees env sees first one second one-$(NOT)-$(A) third $A ip " + ip + " node testnode account builder limit 33554432",
		"# Kubernetes-managed hosts file.", ip + "\tsees", "192.0.2.7\tdb", "two:\nsees",
		"pid 1 user 0 groups 0 4242 cwd /tmp", "shm\ncgroup\nmasked",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is not in what it says:\n%s", want, got)
		}
	}
	if pod.Status.QOSClass != v1.PodQOSGuaranteed {
		t.Errorf("QoS class is %s", pod.Status.QOSClass)
	}
	pid := n.pid(pod, "app")
	group := n.cgroup() + "/kubepods/pod" + string(pod.UID) + "/"
	if n.systemd() {
		name := n.namespace + "-kubepods"
		group = n.cgroup() + ".slice/" + name + ".slice/" + name + "-pod" + strings.ReplaceAll(string(pod.UID), "-", "_") + ".slice/"
	}
	if got, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid)); !strings.Contains(string(got), group) {
		t.Errorf("cgroup is %s, want it in %s", got, group)
	}
	limits, _ := filepath.Glob("/sys/fs/cgroup/memory" + group + "*/memory.limit_in_bytes")
	unified, _ := filepath.Glob("/sys/fs/cgroup" + group + "*/memory.max")
	found := false
	for _, file := range append(limits, unified...) {
		value, _ := os.ReadFile(file)
		found = found || strings.TrimSpace(string(value)) == "33554432"
	}
	if !found {
		t.Errorf("no memory limit in %v %v", limits, unified)
	}
	if got, want := oomScoreAdj(t, pid), max(-997, lowestOOMScoreAdj(slog.New(slog.DiscardHandler))); got != want {
		t.Errorf("oom_score_adj is %d, want %d", got, want)
	}
}

func oomScoreAdj(t *testing.T, pid int) int {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/oom_score_adj", pid))
	if err != nil {
		t.Fatal(err)
	}
	adj, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	return adj
}

func TestRestartPolicies(t *testing.T) {
	t.Parallel()
	n := launch(t)
	n.apply("all.yaml", simple("never", "exit 3", "  restartPolicy: Never")+"---\n"+
		simple("onfailure", "exit 0", "  restartPolicy: OnFailure")+"---\n"+
		simple("always", "echo life; exit 0"))
	failed := n.awaitPhase("never", v1.PodFailed)
	if s := containerStatus(failed, "app"); s.State.Terminated == nil || s.State.Terminated.ExitCode != 3 || s.State.Terminated.Reason != "Error" || s.RestartCount != 0 {
		t.Errorf("never is %+v", s)
	}
	done := n.awaitPhase("onfailure", v1.PodSucceeded)
	if s := containerStatus(done, "app"); s.State.Terminated == nil || s.State.Terminated.Reason != "Completed" {
		t.Errorf("onfailure is %+v", s)
	}
	looping := n.await("always", "waits in CrashLoopBackOff", func(p *v1.Pod) bool {
		s := containerStatus(p, "app")
		return s.RestartCount == 1 && s.State.Waiting != nil && s.State.Waiting.Reason == "CrashLoopBackOff"
	})
	if looping.Status.Phase != v1.PodRunning || containerStatus(looping, "app").LastTerminationState.Terminated == nil {
		t.Errorf("always is %+v", looping.Status)
	}
	first := containerStatus(looping, "app").LastTerminationState.Terminated.FinishedAt
	again := n.await("always", "is restarted after 10 s", func(p *v1.Pod) bool { return containerStatus(p, "app").RestartCount == 2 })
	s := containerStatus(again, "app")
	started := s.State.Running
	at := time.Now()
	if started != nil {
		at = started.StartedAt.Time
	} else if s.LastTerminationState.Terminated != nil {
		at = s.LastTerminationState.Terminated.StartedAt.Time
	}
	if waited := at.Sub(first.Time); waited < 8*time.Second {
		t.Errorf("it waited %v", waited)
	}
	if lines := n.logLines(again, "app", 1); !slices.Equal(lines, []string{"life"}) {
		t.Errorf("log of the instance before is %q", lines)
	}
}

func TestStartThatCannotBe(t *testing.T) {
	t.Parallel()
	n := launch(t)
	n.apply("bad.yaml", strings.Replace(simple("bad", ""), `["/bin/sh", "-c"]`, `["/no/such/program"]`, 1))
	pod := n.await("bad", "is told not to be startable", func(p *v1.Pod) bool {
		return containerStatus(p, "app").LastTerminationState.Terminated != nil
	})
	last := containerStatus(pod, "app").LastTerminationState.Terminated
	if last.Reason != "StartError" || last.ExitCode != 128 || !strings.Contains(last.Message, "/no/such/program") {
		t.Errorf("it ended as %+v", last)
	}
}

func TestTermination(t *testing.T) {
	t.Parallel()
	n := launch(t)
	out := n.path("out")
	script := func(name, more string) string {
		return fmt.Sprintf("trap 'date +%%s%%N > /out/%s.end; exit 0' TERM; %s; while true; do sleep 1000 & wait $!; done", name, more)
	}
	n.apply("end.yaml", fmt.Sprintf(`apiVersion: v1
kind: Pod
metadata: {name: end}
spec:
  terminationGracePeriodSeconds: 10
  volumes: [{name: out, hostPath: {path: %s}}]
  initContainers:
  - &c {name: one, image: %s, restartPolicy: Always, command: [/bin/sh, -c, %q], volumeMounts: [{name: out, mountPath: /out}]}
  - {<<: *c, name: two, command: [/bin/sh, -c, %q]}
  containers:
  - {name: app, image: %s, command: [/bin/sh, -c, %q], volumeMounts: [{name: out, mountPath: /out}]}
`, out, image, script("one", ":"), script("two", ":"), image, script("app", ":")))
	n.awaitReady("end")
	n.remove("end.yaml")
	n.awaitGone("end")
	var times []string
	for _, name := range []string{"app", "two", "one"} {
		at, err := os.ReadFile(filepath.Join(out, name+".end"))
		if err != nil {
			t.Fatalf("%s was not told to end: %v", name, err)
		}
		times = append(times, strings.TrimSpace(string(at)))
	}
	if !slices.IsSorted(times) {
		t.Errorf("app, two, one ended at %v", times)
	}

	n.apply("deaf.yaml", strings.Replace(simple("deaf", "trap '' TERM; while true; do sleep 1; done"), "Seconds: 2", "Seconds: 1", 1))
	n.awaitReady("deaf")
	begin := time.Now()
	n.remove("deaf.yaml")
	n.awaitGone("deaf")
	if took := time.Since(begin); took < time.Second {
		t.Errorf("it was killed after %v, before its grace period ended", took)
	}
}

// limits are the limits of a process: of the cgroups that it is in, up to its class of Pods, by file.
func (n *node) limits(pid int) map[string]string {
	n.t.Helper()
	groups, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil {
		n.t.Fatal(err)
	}
	limits := map[string]string{}
	for line := range strings.Lines(string(groups)) {
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
		for group := parts[2]; strings.Contains(group, n.namespace); group = filepath.Dir(group) {
			for _, name := range []string{
				"cpu.cfs_quota_us", "cpu.shares", "memory.limit_in_bytes", "memory.memsw.limit_in_bytes",
				"cpu.max", "cpu.weight", "memory.max", "memory.swap.max", "pids.max", "cpuset.cpus",
			} {
				file := filepath.Join("/sys/fs/cgroup", parts[1], group, name)
				if value, err := os.ReadFile(file); err == nil {
					limits[file] = strings.TrimSpace(string(value))
				}
			}
		}
	}
	return limits
}

// TestCgroupsStayAsTheyAreWhileAContainerEnds has a container that takes its time after SIGTERM, beside one that ends at once,
// and an agent that is killed meanwhile: neither its limits nor those of its Pod change, nor the Pod's share of the CPU.
func TestCgroupsStayAsTheyAreWhileAContainerEnds(t *testing.T) {
	t.Parallel()
	n := launch(t)
	n.apply("slow.yaml", fmt.Sprintf(`apiVersion: v1
kind: Pod
metadata: {name: slow}
spec:
  terminationGracePeriodSeconds: 600
  volumes: [{name: out, hostPath: {path: %[1]s}}]
  containers:
  - name: app
    image: %[2]s
    command: [/bin/sh, -c, "trap 'echo asked; while [ ! -e /out/enough ]; do sleep 0.1; done; exit 0' TERM; while true; do sleep 0.1; done"]
    resources: {requests: {cpu: 100m, memory: 16Mi}, limits: {cpu: 200m, memory: 32Mi}}
    volumeMounts: [{name: out, mountPath: /out}]
  - name: quick
    image: %[2]s
    command: [/bin/sh, -c, %[3]q]
    resources: {requests: {cpu: 100m, memory: 16Mi}, limits: {cpu: 300m, memory: 16Mi}}
`, n.path("out"), image, forever))
	pod := n.awaitReady("slow")
	pid := n.pid(pod, "app")
	before := n.limits(pid)
	for _, limit := range []int64{32 << 20, 48 << 20} { // the container's, and the Pod's
		if values := slices.Collect(maps.Values(before)); !slices.Contains(values, fmt.Sprint(limit)) {
			t.Fatalf("there is no limit of %d: %v", limit, before)
		}
	}
	same := func(when string) {
		t.Helper()
		if now := n.limits(pid); !maps.Equal(now, before) {
			t.Errorf("%s its limits are %v, they were %v", when, now, before)
		}
	}
	n.remove("slow.yaml")
	n.says(pod, "app", "asked")
	n.await("slow", "has one container left", func(p *v1.Pod) bool { return containerStatus(p, "quick").State.Terminated != nil })
	same("when the other has ended")
	n.kill()
	n.restart()
	n.await("slow", "goes on to end", func(p *v1.Pod) bool { return p.DeletionTimestamp != nil })
	same("when another agent has taken over")
	if err := os.WriteFile(n.path("out", "enough"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	n.awaitGone("slow")
}

func TestEditsEndInTheLastState(t *testing.T) {
	t.Parallel()
	n := launch(t)
	for i := range 50 {
		n.apply("flip.yaml", simple("flip", fmt.Sprintf("echo edit %d; %s", i, forever)))
		if i%10 == 0 {
			time.Sleep(150 * time.Millisecond) // some of them get to run
		}
	}
	pod := n.await("flip", "runs the last edit", func(p *v1.Pod) bool {
		return isReady(p) && slices.Equal(n.logLines(p, "app", 0), []string{"edit 49"})
	})
	c, ctx, err := n.ctr()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	all, err := c.Containers(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, found := range all {
		labels, _ := found.Labels(ctx)
		if labels["io.kubernetes.pod.uid"] != string(pod.UID) {
			t.Errorf("container %s of an earlier edit is left", found.ID())
		}
	}
	if len(all) != 1 {
		t.Errorf("%d containers, want the app", len(all))
	}
}

func TestRefusedManifests(t *testing.T) {
	t.Parallel()
	n := launch(t)
	n.apply("good.yaml", simple("good", forever))
	before := n.awaitReady("good")
	n.apply("good.yaml", strings.Replace(simple("good", forever), "containers:", "contaienrs:", 1))
	n.apply("new.yaml", simple("new", forever, "  resourceClaims: [{name: gpu, resourceClaimName: gpu}]"))
	n.eventually("the faults are told", func() error {
		m, err := n.client().Manifests(context.Background())
		if err != nil {
			return err
		}
		var text strings.Builder
		for _, r := range m.Refused {
			fmt.Fprintf(&text, "%s:%d %s: %s (kept %v)\n", filepath.Base(r.File), r.Line, r.Field, r.Reason, r.Kept)
		}
		for _, want := range []string{`did you mean "containers"?`, "good.yaml:7", "(kept true)", "spec.resourceClaims: not supported"} {
			if !strings.Contains(text.String(), want) {
				return fmt.Errorf("%q is not in\n%s", want, text.String())
			}
		}
		return nil
	})
	after := n.awaitReady("good")
	if after.UID != before.UID || containerStatus(after, "app").ContainerID != containerStatus(before, "app").ContainerID {
		t.Error("a broken edit disturbed the Pod")
	}
	refused := n.await("new", "is shown as refused", func(p *v1.Pod) bool { return p.Status.Phase == v1.PodPending })
	if !strings.Contains(refused.Status.Message, "resourceClaims") {
		t.Errorf("it says %q", refused.Status.Message)
	}
}

func TestActiveDeadline(t *testing.T) {
	t.Parallel()
	n := launch(t)
	n.apply("short.yaml", simple("short", forever, "  activeDeadlineSeconds: 2"))
	failed := func(p *v1.Pod) bool { return p.Status.Phase == v1.PodFailed && p.Status.Reason == "DeadlineExceeded" }
	n.await("short", "was active for too long", failed)
	n.kill()
	n.restart()
	n.await("short", "has failed for good", failed)
	n.apply("short.yaml", simple("short", forever, "  activeDeadlineSeconds: 3600"))
	n.awaitReady("short")
}
