package table

import (
	"cmp"
	"slices"
	"strings"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/sets"
)

func nodeColumns() []metav1.TableColumnDefinition {
	return append(always("Name", "Status", "Roles", "Age", "Version"),
		wide("Internal-IP", "External-IP", "OS-Image", "Kernel-Version", "Container-Runtime")...)
}

func node(n *v1.Node, now time.Time) []any {
	system := n.Status.NodeInfo
	kernel := cmp.Or(system.KernelVersion, "<unknown>")
	if system.Architecture != "" {
		kernel += " (" + system.Architecture + ")"
	}
	return []any{
		n.Name, nodeStatus(n), cmp.Or(roles(n), "<none>"), age(n, now), system.KubeletVersion,
		address(n, v1.NodeInternalIP), address(n, v1.NodeExternalIP),
		cmp.Or(system.OSImage, "<unknown>"), kernel, cmp.Or(system.ContainerRuntimeVersion, "<unknown>"),
	}
}

// nodeStatus is what the condition Ready says, and whether Pods are taken.
func nodeStatus(n *v1.Node) string {
	status := "Unknown"
	for _, c := range n.Status.Conditions {
		switch {
		case c.Type != v1.NodeReady:
		case c.Status == v1.ConditionTrue:
			status = "Ready"
		default:
			status = "NotReady"
		}
	}
	if n.Spec.Unschedulable {
		status += ",SchedulingDisabled"
	}
	return status
}

// roles come from both kinds of labels that name them.
func roles(n *v1.Node) string {
	names := sets.New[string]()
	for key, value := range n.Labels {
		role, named := strings.CutPrefix(key, "node-role.kubernetes.io/")
		switch {
		case named && role != "":
			names.Insert(role)
		case key == "kubernetes.io/role" && value != "":
			names.Insert(value)
		}
	}
	return strings.Join(sets.List(names), ",")
}

// address is the first one of that type.
func address(n *v1.Node, t v1.NodeAddressType) string {
	i := slices.IndexFunc(n.Status.Addresses, func(a v1.NodeAddress) bool { return a.Type == t })
	if i < 0 {
		return "<none>"
	}
	return n.Status.Addresses[i].Address
}
