package agent

import (
	"github.com/podkeeper/podkeeper/agent/objects"
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
		a.completeSpec(fields, was)
	case manifests.KindClaim, manifests.KindVolume:
		delete(fields, "status")
		a.unbind(id, fields, was)
	case manifests.KindNode:
		delete(fields, "status")
		spec := child(fields, "spec")
		delete(spec, "podCIDR")
		delete(spec, "podCIDRs")
	case manifests.KindNamespace:
		completeNamespace(id, fields, was)
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
	if node := spec["nodeName"]; was == nil || node != nil && node != "" && node != a.node.Name {
		return
	}
	delete(spec, "nodeName")
	before, _ := was["spec"].(map[string]any)
	if node := before["nodeName"]; node != nil {
		spec["nodeName"] = node
	}
}
