package main

import (
	"fmt"
	"os/exec"
	"regexp"
	"slices"
	"testing"

	v1 "k8s.io/api/core/v1"

	"github.com/podkeeper/podkeeper/cgroups"
)

// TestAdmission has a node of one CPU and three Pods at most: who does not fit waits until another one has gone, and who runs is
// left alone when an agent comes that has less.
func TestAdmission(t *testing.T) {
	t.Parallel()
	cpus, err := cgroups.CPUs()
	if err != nil {
		t.Fatal(err)
	}
	reserved := func(pods int, milli int) string {
		return fmt.Sprintf("maxPods: %d\nsystemReserved: {cpu: %dm}\nkubeReserved: {cpu: 100m}", pods, (cpus-1)*1000+milli)
	}
	n := launch(t, reserved(3, -100))
	asking := func(name, cpu string) string {
		return simple(name, "echo $LIMIT; "+forever) +
			"    resources: {requests: {cpu: " + cpu + "}}\n    env: [{name: LIMIT, valueFrom: {resourceFieldRef: {resource: limits.cpu, divisor: 1m}}}]\n"
	}
	n.apply("first.yaml", asking("first", "600m"))
	n.says(n.awaitReady("first"), "app", "1000")
	n.apply("second.yaml", asking("second", "500m"))
	n.heldFor("second", "Unschedulable", "0/1 nodes are available: 1 Insufficient cpu. Of cpu it asks for 500m, and 600m of 1 are taken")
	wide := func(disk string) string {
		return simple("wide", "echo $DISK; "+forever) + "    resources: {requests: {ephemeral-storage: " + disk + "}}\n" +
			"    env: [{name: DISK, valueFrom: {resourceFieldRef: {resource: requests.ephemeral-storage, divisor: 1Ki}}}]\n"
	}
	n.apply("wide.yaml", wide("1Ei"))
	n.heldFor("wide", "Unschedulable", "0/1 nodes are available: 1 Insufficient ephemeral-storage. Of ephemeral-storage it asks for 1Ei, and 0 of ")
	n.apply("wide.yaml", wide("1Ki"))
	n.says(n.awaitReady("wide"), "app", "1")
	n.remove("wide.yaml")
	n.awaitGone("wide")
	n.apply("small.yaml", asking("small", "400m")+"---\n"+asking("last", "0"))
	n.awaitReady("small")
	n.awaitReady("last")
	n.heldFor("second", "Unschedulable", "0/1 nodes are available: 1 Insufficient cpu, 1 Too many pods. ")
	n.remove("first.yaml")
	n.awaitReady("second")
	n.config = reserved(2, 0)
	n.stopAgent()
	n.restart()
	for _, name := range []string{"second", "small", "last"} {
		if restarts := containerStatus(n.awaitReady(name), "app").RestartCount; restarts != 0 {
			t.Errorf("%s was restarted %d times", name, restarts)
		}
	}
	n.apply("first.yaml", asking("first", "100m"))
	n.heldFor("first", "Unschedulable", "0/1 nodes are available: 1 Insufficient cpu, 1 Too many pods. Of cpu it asks for 100m, and 900m of 900m are taken")
	n.remove("small.yaml") // with the last one
	n.awaitReady("first")
}

// TestExtendedResources has a node of two dongles, and Pods that want some.
func TestExtendedResources(t *testing.T) {
	t.Parallel()
	n := launch(t, "registerWithTaints: [{key: dedicated, value: lab, effect: NoSchedule}]")
	n.stopAgent()
	n.flags = append(n.flags, "--extended-resources", "example.com/dongle=2")
	n.restart()
	wants := func(name, resource string) string {
		return simple(name, forever) + "    resources: {limits: {" + resource + "}}\n"
	}
	n.apply("both.yaml", wants("both", "example.com/dongle: 2"))
	n.awaitReady("both")
	n.apply("one.yaml", wants("one", "example.com/dongle: 1"))
	n.heldFor("one", "Unschedulable", "0/1 nodes are available: 1 Insufficient example.com/dongle. Of example.com/dongle it asks for 1, and 2 of 2 are taken")
	n.apply("gpu.yaml", wants("gpu", "nvidia.com/gpu: 1"))
	n.heldFor("gpu", "Unschedulable", "0/1 nodes are available: 1 Insufficient nvidia.com/gpu. Of nvidia.com/gpu it asks for 1, and 0 of 0 are taken")
	n.remove("both.yaml")
	n.awaitReady("one")
	k := n.kubectl()
	k.all(
		row{"get node -o jsonpath={.items[0].status.allocatable.example\\.com/dongle},{.items[0].spec.taints}", `2,\[\{"effect":"NoSchedule","key":"dedicated","value":"lab"\}\]`},
	)
}

// TestPreemption has a Pod of a class of its own take the room of one without: that ends in peace, waits, and is back when the
// other one has gone. An agent that is killed meanwhile changes nothing.
func TestPreemption(t *testing.T) {
	t.Parallel()
	n := launch(t, "maxPods: 2")
	n.apply("low.yaml", simple("low", "trap 'sleep 1; exit 0' TERM; "+forever))
	n.apply("other.yaml", simple("other", forever, "  priorityClassName: system-node-critical"))
	low := n.awaitReady("low")
	n.awaitReady("other")
	n.apply("high.yaml", simple("high", forever, "  priorityClassName: high"))
	n.heldFor("high", "Priority", "no PriorityClass with name high was found")
	n.apply("class.yaml", "apiVersion: scheduling.k8s.io/v1\nkind: PriorityClass\nmetadata: {name: high}\nvalue: 1000\n")
	n.await("low", "has to go", func(p *v1.Pod) bool {
		return slices.ContainsFunc(p.Status.Conditions, func(c v1.PodCondition) bool {
			return c.Type == v1.DisruptionTarget && c.Reason == v1.PodReasonPreemptionByScheduler
		})
	})
	n.kill()
	n.restart()
	if high := n.awaitReady("high"); *high.Spec.Priority != 1000 {
		t.Errorf("its priority is %d", *high.Spec.Priority)
	}
	n.heldFor("low", "Unschedulable", "0/1 nodes are available: 1 Too many pods. Of pods it asks for 1, and 2 of 2 are taken")
	n.remove("class.yaml")
	n.remove("high.yaml")
	if again := n.awaitReady("low"); again.UID == low.UID {
		t.Error("it is the instance that had to go")
	}
}

// TestTheNodeIsToldOf asks for the node as a user does.
func TestTheNodeIsToldOf(t *testing.T) {
	t.Parallel()
	n := launch(t, "systemReserved: {memory: 1Gi}")
	n.apply("web.yaml", simple("web", forever)+"    resources: {requests: {cpu: 100m, memory: 16Mi}, limits: {memory: 32Mi}}\n")
	n.awaitReady("web")
	out, err := exec.Command(lab.podkeeper, "node", "--run-dir", n.path("run")).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, line := range []string{
		`  Ready +True +.* KubeletReady +kubelet is posting ready status`, `  MemoryPressure +False `, `  InternalIP: +[0-9.]+`,
		`  default +web +100m \([0-9]+%\) +0 \(0%\) +16Mi \([0-9]+%\) +32Mi \([0-9]+%\) +[0-9]+s`, `  cpu +100m \([0-9]+%\) +0 \(0%\)`,
	} {
		if !regexp.MustCompile("(?m)^" + line + "$|(?m)^" + line).Match(out) {
			t.Errorf("%s is not in\n%s", line, out)
		}
	}
	node, err := n.client().Node(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	capacity, allocatable := node.Status.Capacity.Memory().Value(), node.Status.Allocatable.Memory().Value()
	if capacity-allocatable < 1<<30 || node.Status.Allocatable.Cpu().IsZero() {
		t.Errorf("of %d bytes %d are for Pods", capacity, allocatable)
	}
}
