package agent

import (
	"fmt"
	"slices"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/component-helpers/scheduling/corev1"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"
	"k8s.io/klog/v2"

	"github.com/podkeeper/podkeeper/agent/node"
	"github.com/podkeeper/podkeeper/agent/plan"
)

// Reasons of Pods that are not for this node (kubernetes/kubernetes pkg/kubelet/lifecycle, predicate.go and handlers.go).
const (
	osLabelDiffers = "PodOSSelectorNodeLabelDoesNotMatch"
	osDiffers      = "PodOSNotSupported"
	labelsDiffer   = "NodeAffinity"
	nameDiffers    = "NodeName"
	noAppArmor     = "AppArmor"
	noSELinux      = "SELinux" // podkeeper's own: a kubelet leaves such labels out
)

// fits says whether a Pod may begin on a node, by what the two say of themselves: the kubelet's admission, in its words and
// order, behind the gates that keep Pods from a scheduler. appArmor is why the node can set no AppArmor profile, seLinux why it can set
// no SELinux label, nil where it can. A Pod that runs is not asked again.
func fits(pod *v1.Pod, n *v1.Node, appArmor, seLinux error) Ruling {
	if len(pod.Spec.SchedulingGates) > 0 { // kubernetes/kubernetes pkg/registry/core/pod/strategy.go
		return hold(v1.PodReasonSchedulingGated, "Scheduling is blocked due to non-empty scheduling gates")
	}
	if label, told := pod.Labels[v1.LabelOSStable]; told && label != n.Labels[v1.LabelOSStable] {
		return hold(osLabelDiffers, "Failed to admit pod as the `kubernetes.io/os` label doesn't match node label")
	}
	if os := pod.Spec.OS; os != nil && string(os.Name) != n.Labels[v1.LabelOSStable] {
		return hold(osDiffers, "Failed to admit pod as the OS field doesn't match node OS")
	}
	if match, err := nodeaffinity.GetRequiredNodeAffinity(pod).Match(n); !match || err != nil {
		return unfit(labelsDiffer, "node(s) didn't match Pod's node affinity/selector", "its labels are "+labels.FormatLabels(n.Labels))
	}
	if name := pod.Spec.NodeName; name != "" && name != n.Name {
		return unfit(nameDiffers, "node(s) didn't match the requested node name", "its name is "+n.Name)
	}
	if appArmor != nil && wantsAppArmor(pod) {
		return hold(noAppArmor, fmt.Sprintf("Cannot enforce AppArmor: %v", appArmor))
	}
	if seLinux != nil && node.HasLabels(pod) {
		return hold(noSELinux, fmt.Sprintf("Cannot apply seLinuxOptions: %v", seLinux))
	}
	return Ruling{}
}

// schedulable says whether a scheduler would have a Pod begin on a node, by what people have said of that, in the scheduler's
// words (kubernetes/kubernetes pkg/scheduler/framework/plugins, nodeunschedulable and tainttoleration). A Pod that names the node
// is none of a scheduler's, as one of a manifest.
func schedulable(pod *v1.Pod, node *v1.Node) Ruling {
	if pod.Spec.NodeName != "" {
		return Ruling{}
	}
	const none = "0/1 nodes are available: 1 "
	closed := &v1.Taint{Key: v1.TaintNodeUnschedulable, Effect: v1.TaintEffectNoSchedule}
	if node.Spec.Unschedulable && !corev1.TolerationsTolerateTaint(klog.Background(), pod.Spec.Tolerations, closed, false) {
		return hold(v1.PodReasonUnschedulable, none+"node(s) were unschedulable")
	}
	keepsOff := func(t *v1.Taint) bool { return t.Effect == v1.TaintEffectNoSchedule }
	if _, off := corev1.FindMatchingUntoleratedTaint(klog.Background(), node.Spec.Taints, pod.Spec.Tolerations, keepsOff, false); off {
		return hold(v1.PodReasonUnschedulable, none+"node(s) had untolerated taint(s)")
	}
	return Ruling{}
}

// wantsAppArmor says whether a Pod names an AppArmor profile anywhere (kubernetes/kubernetes pkg/security/apparmor/helpers.go).
func wantsAppArmor(pod *v1.Pod) bool {
	names := func(p *v1.AppArmorProfile) bool { return p != nil && p.Type != v1.AppArmorProfileTypeUnconfined }
	return pod.Spec.SecurityContext != nil && names(pod.Spec.SecurityContext.AppArmorProfile) ||
		slices.ContainsFunc(plan.Containers(pod), func(c *v1.Container) bool {
			return c.SecurityContext != nil && names(c.SecurityContext.AppArmorProfile)
		})
}

// unfit is the kubelet's message about a predicate that failed, and what would have fitted.
func unfit(predicate, failed, have string) Ruling {
	return hold(predicate, fmt.Sprintf("Predicate %s failed: %s; %s", predicate, failed, have))
}
