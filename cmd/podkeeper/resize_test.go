package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"

	"github.com/podkeeper/podkeeper/cgroups"
)

// resizeManifest is a Pod whose container counts, and is limited to so much CPU and memory, which it asks for, too; and one that has
// to be made anew for more memory.
func resizeManifest(cpu, memory string) string {
	return fmt.Sprintf(`apiVersion: v1
kind: Pod
metadata: {name: sized}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: app
    image: %[1]s
    command: [/bin/sh, -c, "while true; do echo cpu $(cat /about/cpu); [ ! -e /hoard/go ] || [ -e /hoard/x ] || dd if=/dev/zero of=/hoard/x bs=1M count=20; sleep 0.1; done"]
    resources: {limits: {cpu: %[2]s, memory: %[3]s}}
    volumeMounts: [{name: about, mountPath: /about}, {name: hoard, mountPath: /hoard}]
  - name: stubborn
    image: %[1]s
    command: [/bin/sh, -c, "echo began with $LIMIT; exec sleep 1000000"]
    env: [{name: LIMIT, valueFrom: {resourceFieldRef: {resource: limits.memory, divisor: 1Mi}}}]
    resources: {limits: {cpu: %[2]s, memory: %[3]s}}
    resizePolicy: [{resourceName: memory, restartPolicy: RestartContainer}]
  volumes:
  - name: about
    downwardAPI: {items: [{path: cpu, resourceFieldRef: {containerName: app, resource: limits.cpu, divisor: 1m}}]}
  - name: hoard
    emptyDir: {medium: Memory}
`, image, cpu, memory)
}

// limited compares the quota, in thousandths of a CPU, and the memory limit, in MiB, of the cgroup of a process that is so many
// levels up.
func (n *node) limited(pid, up int, quota, memory int) {
	n.t.Helper()
	n.hasLimits(pid, up, map[string]int{"cpu": quota * 100, "memory": memory << 20})
}

// hasLimits compares the quota, in microseconds of a period, and the memory limit, in bytes.
func (n *node) hasLimits(pid, up int, want map[string]int) {
	n.t.Helper()
	names := map[string]string{"cpu.cfs_quota_us": "cpu", "cpu.max": "cpu", "memory.limit_in_bytes": "memory", "memory.max": "memory"}
	n.eventually(fmt.Sprintf("the cgroup %d above process %d has %v", up, pid, want), func() error {
		groups, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
		if err != nil {
			return stop(err)
		}
		found := map[string]string{}
		for line := range strings.Lines(string(groups)) {
			parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
			group := parts[2]
			for range up {
				group = filepath.Dir(group)
			}
			for name, of := range names {
				if text, err := os.ReadFile(filepath.Join("/sys/fs/cgroup", parts[1], group, name)); err == nil {
					found[of], _, _ = strings.Cut(strings.TrimSpace(string(text)), " ")
				}
			}
		}
		for of, limit := range want {
			if found[of] != strconv.Itoa(limit) {
				return fmt.Errorf("it has %v", found)
			}
		}
		return nil
	})
}

// TestResize edits a manifest: the container that may has its new limits without noticing, the other one is made anew for memory
// alone, and the Pod's cgroup has room for both at every moment. What uses more memory than a new limit keeps it until it does not.
func TestResize(t *testing.T) {
	t.Parallel()
	n := launch(t)
	n.apply("sized.yaml", resizeManifest("100m", "32Mi"))
	pod := n.awaitReady("sized")
	app, stubborn := n.pid(pod, "app"), n.pid(pod, "stubborn")
	n.limited(app, 0, 100, 32)
	n.limited(app, 1, 200, 64)
	n.apply("sized.yaml", resizeManifest("200m", "32Mi"))
	n.limited(app, 0, 200, 32)
	n.limited(stubborn, 0, 200, 32)
	n.limited(app, 1, 400, 64)
	n.says(pod, "app", "cpu 200")
	n.apply("sized.yaml", resizeManifest("50m", "64Mi"))
	restarted := func(count int32) *v1.Pod {
		return n.await("sized", "is resized", func(p *v1.Pod) bool {
			s := containerStatus(p, "stubborn")
			return isReady(p) && s.RestartCount == count && resizeTold(p) == "" && s.Resources.Limits.Cpu().Cmp(*p.Spec.Containers[1].Resources.Limits.Cpu()) == 0
		})
	}
	pod = restarted(1)
	n.limited(app, 0, 50, 64)
	n.limited(n.pid(pod, "stubborn"), 0, 50, 64)
	n.limited(app, 1, 100, 128)
	if s := containerStatus(pod, "app"); s.RestartCount != 0 || n.pid(pod, "app") != app {
		t.Errorf("app was restarted: %+v", s)
	}

	hoard := fmt.Sprintf("/proc/%d/root/hoard/", app)
	if err := os.WriteFile(hoard+"go", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	n.eventually("it uses memory", func() error {
		if stat, err := os.Stat(hoard + "x"); err != nil || stat.Size() < 20<<20 {
			return fmt.Errorf("%v, %w", stat, err)
		}
		return nil
	})
	n.apply("sized.yaml", resizeManifest("50m", "16Mi"))
	pod = n.await("sized", "keeps its memory", func(p *v1.Pod) bool { return resizeTold(p) == "PodResizeInProgress Error" })
	if got := condition(pod, v1.PodResizeInProgress).Message; !strings.HasPrefix(got, `cannot decrease memory limits: attempting to set container "app" memory limit (16777216) below current usage (2`) {
		t.Error(got)
	}
	if s := containerStatus(pod, "app"); s.Resources.Limits.Memory().String() != "64Mi" || s.AllocatedResources.Memory().String() != "16Mi" {
		t.Errorf("meanwhile it is told to have %+v", s.Resources)
	}
	n.limited(app, 0, 50, 64)
	n.kill()
	if err := errors.Join(os.Remove(hoard+"go"), os.Remove(hoard+"x")); err != nil {
		t.Fatal(err)
	}
	n.restart()
	pod = restarted(2)
	n.limited(app, 0, 50, 16)
	n.limited(app, 1, 100, 32)
	n.eventually("stubborn says what it has", func() error {
		if lines := n.logLines(pod, "stubborn", 2); !slices.Equal(lines, []string{"began with 16"}) {
			return fmt.Errorf("it says %q", lines)
		}
		return nil
	})
	if s := containerStatus(pod, "app"); s.RestartCount != 0 {
		t.Errorf("app was restarted: %+v", s)
	}

	n.apply("sized.yaml", strings.Replace(resizeManifest("50m", "16Mi"), "{limits: {cpu: 50m, ", "{limits: {cpu: 1000, ", 1))
	pod = n.await("sized", "asks for too much", func(p *v1.Pod) bool { return resizeTold(p) == "PodResizePending Infeasible" })
	if got := condition(pod, v1.PodResizePending).Message; !strings.HasPrefix(got, "Node didn't have enough capacity: cpu, requested: 1000050, capacity: ") {
		t.Error(got)
	}
	n.apply("sized.yaml", resizeManifest("60m", "16Mi"))
	n.limited(app, 1, 120, 32)
	class := strings.Replace(resizeManifest("60m", "16Mi"), "{limits: {", "{requests: {cpu: 10m}, limits: {", 1)
	n.apply("sized.yaml", class)
	n.await("sized", "is another instance, for its class is another one", func(p *v1.Pod) bool { return isReady(p) && p.UID != pod.UID })
}

// condition is one of a Pod's conditions, a zero one where there is none.
func condition(p *v1.Pod, of v1.PodConditionType) v1.PodCondition {
	for _, c := range p.Status.Conditions {
		if c.Type == of {
			return c
		}
	}
	return v1.PodCondition{}
}

// resizeTold is what a Pod's conditions tell of a resize.
func resizeTold(p *v1.Pod) string {
	var all []string
	for _, c := range p.Status.Conditions {
		if c.Type == v1.PodResizePending || c.Type == v1.PodResizeInProgress {
			all = append(all, strings.TrimSpace(string(c.Type)+" "+c.Reason))
		}
	}
	return strings.Join(all, ", ")
}

// TestAPodThatHasMoreThanItsContainers has an init container leave 20 MiB to the Pod, in a volume: the other container has its lower limit,
// and keeps it, and the Pod has its own when the volume is empty.
func TestAPodThatHasMoreThanItsContainers(t *testing.T) {
	t.Parallel()
	n := launch(t)
	manifest := func(memory string) string {
		resources := "    resources: {limits: {cpu: 100m, memory: " + memory + "}}\n    volumeMounts: [{name: hoard, mountPath: /hoard}]\n"
		init := fmt.Sprintf("  - name: hoarder\n    image: %s\n    command: [dd, if=/dev/zero, of=/hoard/x, bs=1M, count=20]\n", image)
		return simple("heir", forever, "  initContainers:\n"+init+resources+"  volumes: [{name: hoard, emptyDir: {medium: Memory}}]") + resources
	}
	n.apply("heir.yaml", manifest("64Mi"))
	app := n.pid(n.awaitReady("heir"), "app")
	n.apply("heir.yaml", manifest("16Mi"))
	pod := n.await("heir", "keeps its memory", func(p *v1.Pod) bool { return resizeTold(p) == "PodResizeInProgress Error" })
	if got := condition(pod, v1.PodResizeInProgress).Message; !strings.HasPrefix(got, "cannot decrease memory limits: attempting to set pod memory limit (16777216) below current usage (2") || strings.Contains(got, "\n") {
		t.Errorf("%q", got)
	}
	if got := containerStatus(pod, "app").Resources.Limits.Memory().String(); got != "16Mi" {
		t.Errorf("its container is told to have %s", got)
	}
	n.limited(app, 0, 100, 16)
	n.limited(app, 1, 100, 64)
	if err := os.Remove(fmt.Sprintf("/proc/%d/root/hoard/x", app)); err != nil {
		t.Fatal(err)
	}
	pod = n.await("heir", "is resized", func(p *v1.Pod) bool { return resizeTold(p) == "" })
	n.limited(app, 0, 100, 16)
	n.limited(app, 1, 100, 16)
	if s := containerStatus(pod, "app"); s.RestartCount != 0 || n.pid(pod, "app") != app {
		t.Errorf("it was restarted: %+v", s)
	}
}

// TestABusyContainerIsResized gives a container that would use a whole CPU more and less of one: the same process uses as much as it may,
// and is throttled beyond.
func TestABusyContainerIsResized(t *testing.T) {
	t.Parallel()
	n := launch(t)
	manifest := func(milliCPU int) string {
		return simple("busy", "while :; do :; done") + fmt.Sprintf("    resources: {requests: {cpu: 50m}, limits: {cpu: %dm}}\n", milliCPU)
	}
	n.apply("busy.yaml", manifest(200))
	pod := n.awaitReady("busy")
	pid, id := n.pid(pod, "app"), strings.TrimPrefix(containerStatus(pod, "app").ContainerID, "containerd://")
	tree, err := cgroups.Open(cgroups.Config{Root: n.cgroup(), Driver: cgroups.Driver(os.Getenv("PODKEEPER_TEST_CGROUP_DRIVER"))})
	if err != nil {
		t.Fatal(err)
	}
	look := func() (cgroups.Detail, error) {
		d, err := tree.Detail(pod, id)
		if err != nil {
			return d, stop(err)
		}
		return d, nil
	}
	for _, milliCPU := range []uint64{200, 400, 100} {
		n.apply("busy.yaml", manifest(int(milliCPU)))
		for up := range 2 {
			n.hasLimits(pid, up, map[string]int{"cpu": int(milliCPU) * 100})
		}
		// Counted in periods, for on a busy machine a second has fewer of them.
		n.eventually(fmt.Sprintf("it uses %d thousandths of a CPU", milliCPU), func() error {
			before, err := look()
			if err != nil {
				return err
			}
			after := before
			for err == nil && after.Periods < before.Periods+12 {
				time.Sleep(100 * time.Millisecond)
				after, err = look()
			}
			if err != nil {
				return err
			}
			used := (after.CPU - before.CPU) / (after.Periods - before.Periods) / 100_000 // nanoseconds of periods of 100 ms
			if used < milliCPU*9/10 || used > milliCPU*11/10 || after.ThrottledPeriods == before.ThrottledPeriods {
				return fmt.Errorf("it uses %d thousandths and is throttled in %d periods", used, after.ThrottledPeriods-before.ThrottledPeriods)
			}
			return nil
		})
	}
	if pod := n.awaitReady("busy"); containerStatus(pod, "app").RestartCount != 0 || n.pid(pod, "app") != pid {
		t.Errorf("it was restarted: %+v", pod.Status)
	}
}

// TestResizeIsCutOff kills the agent again and again while a Pod is resized: in the end it has what its manifest says, and nothing was
// restarted.
func TestResizeIsCutOff(t *testing.T) {
	t.Parallel()
	n := launch(t)
	manifest := func(cpu int) string {
		return simple("app", forever) + fmt.Sprintf("    resources: {limits: {cpu: %dm, memory: %dMi}}\n", cpu, cpu)
	}
	n.apply("app.yaml", manifest(100))
	pod := n.awaitReady("app")
	pid := n.pid(pod, "app")
	for i := range 6 {
		n.apply("app.yaml", manifest(100+50*(i%2+1)))
		n.kill()
		n.restart()
	}
	n.limited(pid, 0, 200, 200)
	n.limited(pid, 1, 200, 200)
	n.apply("app.yaml", manifest(50))
	n.limited(pid, 1, 50, 50)
	if pod := n.awaitReady("app"); containerStatus(pod, "app").RestartCount != 0 || n.pid(pod, "app") != pid {
		t.Errorf("it was restarted: %+v", pod.Status)
	}
}

// TestResizeThroughTheAPI has kubectl resize a Pod, and refuse what is no resize.
func TestResizeThroughTheAPI(t *testing.T) {
	t.Parallel()
	k := launch(t).kubectl()
	k.all(
		row{"apply -f - <<< " + simple("app", forever) + "    resources: {limits: {cpu: 100m, memory: 32Mi}}\n", "pod/app created"},
		row{"wait --for=condition=Ready pod/app", "condition met"},
	)
	pid := k.pid(k.awaitReady("app"), "app")
	patch := func(resources string) string {
		return `patch pod app --subresource resize -p '{"spec":{"containers":[{"name":"app","resources":` + resources + `}]}}'`
	}
	k.all(
		row{patch(`{"limits":{"cpu":"300m","memory":"48Mi"},"requests":{"cpu":"300m","memory":"48Mi"}}`), "pod/app patched"},
		row{"wait --for=jsonpath={.status.containerStatuses[0].resources.limits.cpu}=300m pod/app", "condition met"},
		row{patch(`{"requests":{"cpu":"200m"}}`), "error: Pod QOS Class may not change as a result of resizing"},
		row{`patch pod app --subresource resize -p '{"spec":{"containers":[{"name":"app","image":"another"}]}}'`, "patched"},
		row{"get pod app -o jsonpath={.spec.containers[0].image}", image},
		row{`patch pod app -p '{"spec":{"containers":[{"name":"app","resources":{"limits":{"cpu":"1"}}}]}}'`, "error: pod updates may not change fields other than"},
		row{patch(`{"limits":{"cpu":"1000"},"requests":{"cpu":"1000"}}`), "pod/app patched"},
		row{"wait --for=condition=PodResizePending pod/app", "condition met"},
		row{"get pod app -o jsonpath={.metadata.generation},{.spec.containers[0].resources.limits.cpu},{.status.containerStatuses[0].allocatedResources.cpu},{.status.conditions[?(@.type==\"PodResizePending\")].reason}", "3,1k,300m,Infeasible"},
		row{"get events --field-selector reason=ResizeInfeasible", "Pod resize Infeasible: "},
	)
	k.limited(pid, 0, 300, 48)
	k.all(
		row{patch(`{"limits":{"cpu":"150m"},"requests":{"cpu":"150m"}}`), "pod/app patched"},
		row{"wait --for=jsonpath={.status.containerStatuses[0].resources.limits.cpu}=150m pod/app", "condition met"},
	)
	k.limited(pid, 1, 150, 48)
}
