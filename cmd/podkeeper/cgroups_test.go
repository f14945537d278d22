package main

import (
	"fmt"
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"
	kubeletconfig "k8s.io/kubelet/config/v1beta1"
	"k8s.io/utils/ptr"

	"github.com/podkeeper/podkeeper/cgroups"
)

// TestPidsAreLimited has a Pod start more processes than it may.
func TestPidsAreLimited(t *testing.T) {
	t.Parallel()
	n := launch(t, "podPidsLimit: 30")
	n.apply("many.yaml", simple("many", "for i in $(seq 40); do sleep 1000 & done; "+forever, "  restartPolicy: Never"))
	pod := n.await("many", "has ended", func(p *v1.Pod) bool { return containerStatus(p, "app").State.Terminated != nil })
	if lines := n.logLines(pod, "app", 0); len(lines) == 0 || !strings.Contains(lines[len(lines)-1], "can't fork") {
		t.Errorf("it says %q", lines)
	}
}

// TestPodLevelResources has two containers share what their Pod is given, and gives it more.
func TestPodLevelResources(t *testing.T) {
	t.Parallel()
	n := launch(t)
	manifest := func(limits string) string {
		return fmt.Sprintf(`apiVersion: v1
kind: Pod
metadata: {name: shared}
spec:
  terminationGracePeriodSeconds: 1
  resources: {requests: {cpu: 100m, memory: 32Mi}, limits: %[2]s}
  containers:
  - {name: app, image: %[1]s, command: [/bin/sleep, "1000000"], resources: {limits: {memory: 48Mi}, requests: {memory: 8Mi}}}
  - {name: beside, image: %[1]s, command: [/bin/sleep, "1000000"]}
`, image, limits)
	}
	n.apply("shared.yaml", manifest("{cpu: 300m, memory: 64Mi}"))
	pod := n.awaitReady("shared")
	app, beside := n.pid(pod, "app"), n.pid(pod, "beside")
	n.limited(app, 0, 300, 48)
	n.limited(beside, 0, 300, 64)
	n.limited(beside, 1, 300, 64)
	if a, r := pod.Status.AllocatedResources, pod.Status.Resources; a.Cpu().String() != "100m" || a.Memory().String() != "32Mi" || r.Limits.Cpu().String() != "300m" {
		t.Errorf("it is told to have %v, %+v", a, r)
	}
	n.apply("shared.yaml", manifest("{cpu: 400m, memory: 96Mi}"))
	n.limited(app, 1, 400, 96)
	n.limited(beside, 0, 400, 96)
	if pod = n.awaitReady("shared"); n.pid(pod, "app") != app {
		t.Error("it was restarted")
	}
}

func TestWhatAHostWithCgroupV1HasNot(t *testing.T) {
	t.Parallel()
	tree, err := cgroups.Open(cgroups.Config{})
	if err != nil || tree.Config().Unified {
		t.Skip("this host has no cgroup v1")
	}
	for want, cfg := range map[string]kubeletconfig.KubeletConfiguration{
		"memoryThrottlingFactor: ":                     {MemoryThrottlingFactor: ptr.To(0.9)},
		"memoryReservationPolicy: TieredReservation: ": {MemoryReservationPolicy: kubeletconfig.TieredReservationMemoryReservationPolicy},
		"memorySwap.swapBehavior: LimitedSwap: ":       {MemorySwap: kubeletconfig.MemorySwapConfiguration{SwapBehavior: limitedSwap}},
	} {
		if _, err := openCgroups(&cfg, 1<<30); err == nil || err.Error() != want+"cgroup v2 is needed, and this host has v1: remove it" {
			t.Errorf("%s%v", want, err)
		}
	}
}
