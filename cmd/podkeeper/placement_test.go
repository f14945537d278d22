package main

import (
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"
)

// heldFor waits until a Pod is Pending for a reason, and on no node.
func (n *node) heldFor(name, reason, message string) {
	n.t.Helper()
	n.await(name, "is held for "+reason, func(p *v1.Pod) bool {
		for _, c := range p.Status.Conditions {
			if c.Type == v1.PodScheduled {
				return p.Status.Phase == v1.PodPending && c.Reason == reason && strings.Contains(c.Message, message) && p.Spec.NodeName != "testnode"
			}
		}
		return false
	})
}

// TestPlacement has Pods that are for this node and Pods that are not, which begin when they are edited, or when the node has
// other labels. What runs stays.
func TestPlacement(t *testing.T) {
	t.Parallel()
	n := launch(t)
	n.flags = []string{"--node-labels", "disk=ssd,example.com/rack=7"}
	n.stopAgent()
	n.restart()
	n.apply("here.yaml", simple("here", forever, "  nodeName: testnode", "  nodeSelector: {disk: ssd, kubernetes.io/os: linux}", "  tolerations: [{operator: Exists}]"))
	n.apply("there.yaml", simple("there", forever, "  nodeName: another"))
	n.apply("gated.yaml", simple("gated", forever, "  schedulingGates: [{name: example.com/later}]"))
	n.apply("windows.yaml", simple("windows", forever, "  os: {name: windows}"))
	n.apply("hdd.yaml", simple("hdd", forever, "  affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchExpressions: [{key: disk, operator: In, values: [hdd]}]}]}}}"))
	if pod := n.awaitReady("here"); pod.Spec.NodeName != "testnode" {
		t.Errorf("it is on %q", pod.Spec.NodeName)
	}
	n.heldFor("there", "NodeName", "Predicate NodeName failed: node(s) didn't match the requested node name; its name is testnode")
	n.heldFor("gated", "SchedulingGated", "Scheduling is blocked due to non-empty scheduling gates")
	n.heldFor("windows", "PodOSNotSupported", "Failed to admit pod as the OS field doesn't match node OS")
	n.heldFor("hdd", "NodeAffinity", "disk=ssd,example.com/rack=7,kubernetes.io/arch=")
	n.apply("gated.yaml", simple("gated", forever))
	n.awaitReady("gated")
	const shuns = "  affinity: {podAntiAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [{topologyKey: kubernetes.io/hostname, labelSelector: {matchLabels: {app: gated}}}]}}"
	n.apply("alone.yaml", simple("alone", forever, shuns))
	n.awaitReady("alone")
	n.apply("gated.yaml", strings.Replace(simple("gated", forever), "{name: gated}", "{name: gated, labels: {app: gated}}", 1))
	n.await("gated", "has its label", func(p *v1.Pod) bool { return p.Labels["app"] == "gated" })
	n.apply("second.yaml", simple("second", forever, shuns))
	n.heldFor("second", "Unschedulable", "0/1 nodes are available: 1 node(s) didn't match pod anti-affinity rules: default/gated")
	n.remove("gated.yaml")
	n.awaitReady("second")
	n.flags = []string{"--node-labels", "disk=hdd"}
	n.stopAgent()
	n.restart()
	n.awaitReady("hdd")
	if restarts := containerStatus(n.awaitReady("here"), "app").RestartCount; restarts != 0 {
		t.Errorf("what runs was restarted %d times", restarts)
	}
}
