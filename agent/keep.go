package agent

import (
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/podkeeper/podkeeper/agent/objects"
	"github.com/podkeeper/podkeeper/agent/status"
	"github.com/podkeeper/podkeeper/manifests"
)

// complete leaves out of an object that is to be kept what only the agent says of it, for whoever writes back what it has
// read: that is told of along with the object.
func (a *Agent) complete(id objects.ID, fields, was map[string]any) {
	metadata, _ := fields["metadata"].(map[string]any)
	if annotations, ok := metadata["annotations"].(map[string]any); ok {
		delete(annotations, manifests.ManifestAnnotation)
	}
	kind, _ := manifests.KindOf(id.Resource)
	switch kind {
	case manifests.KindPod:
		delete(fields, "status")
		if objects.Ending(fields) && was["status"] != nil { // how it has ended
			fields["status"] = was["status"]
		}
		a.completeSpec(fields, was)
	case manifests.KindClaim, manifests.KindVolume:
		delete(fields, "status")
		a.unbind(id, fields, was)
	case manifests.KindResourceQuota:
		delete(fields, "status")
	case manifests.KindNode:
		delete(fields, "status")
		spec := child(fields, "spec")
		delete(spec, "podCIDR")
		delete(spec, "podCIDRs")
		dropPressureTaints(spec)
	case manifests.KindNamespace:
		completeNamespace(id, fields, was)
	}
}

// noteEnd keeps of a Pod that is no more how it was last, where somebody holds its object by a finalizer.
func (a *Agent) noteEnd(last *v1.Pod) {
	id := objects.IDOf(manifests.PodKey(key(last)))
	if !a.keeps(id) {
		return
	}
	reported := a.reported(last)
	final := status.Final(&reported, time.Now())
	fields, err := runtime.DefaultUnstructuredConverter.ToUnstructured(&final)
	if err == nil {
		err = a.objects.Amend(id, func(pod map[string]any) {
			pod["status"] = fields
			if reported.Spec.NodeName != "" {
				child(pod, "spec")["nodeName"] = reported.Spec.NodeName
			}
		})
	}
	if err != nil {
		a.log.Error("end of pod cannot be kept", "pod", id.NamespacedName.String(), "error", err)
	}
}

// completeSpec leaves out of a Pod its ephemeral containers, which are not given in that way, and of an edit its node where
// that is this one: it is told of once the Pod has begun.
func (a *Agent) completeSpec(fields, was map[string]any) {
	spec, ok := fields["spec"].(map[string]any)
	if !ok {
		return
	}
	delete(spec, "ephemeralContainers")
	a.completePriority(spec, was)
	if node := spec["nodeName"]; was == nil || node != nil && node != "" && node != a.node.Name {
		return
	}
	delete(spec, "nodeName")
	before, _ := was["spec"].(map[string]any)
	if node := before["nodeName"]; node != nil {
		spec["nodeName"] = node
	}
}

// completePriority writes what a Pod's class comes to into one that is made, and keeps it in an edit. Where there is no such class,
// or it comes to something else, nothing is kept: the Pod waits for it.
func (a *Agent) completePriority(spec, was map[string]any) {
	if before, ok := was["spec"].(map[string]any); ok {
		for _, field := range []string{"priority", "preemptionPolicy"} {
			if spec[field] == nil && before[field] != nil {
				spec[field] = before[field]
			}
		}
		return
	}
	var pod v1.Pod
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(map[string]any{"spec": spec}, &pod); err != nil {
		return // it is refused
	}
	if err := manifests.Prioritise(&pod, a.sources.policy().priorities); err != nil {
		delete(spec, "priority")
		return
	}
	if pod.Spec.PriorityClassName != "" {
		spec["priorityClassName"] = pod.Spec.PriorityClassName
	}
	spec["priority"], spec["preemptionPolicy"] = int64(*pod.Spec.Priority), string(*pod.Spec.PreemptionPolicy)
}
