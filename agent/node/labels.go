package node

import (
	"maps"
	goruntime "runtime"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// NewObject is a node of this host as Pods may ask for it: by its name, or by labels. The labels that every node has are the
// kubelet's; given ones win over them.
func NewObject(name string, given map[string]string) *v1.Node {
	node := &v1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{
		v1.LabelHostname: name, v1.LabelOSStable: goruntime.GOOS, v1.LabelArchStable: goruntime.GOARCH,
	}}}
	maps.Copy(node.Labels, given)
	return node
}

// Object is the node as Pods may ask for it.
func (n *Node) Object() *v1.Node { return NewObject(n.Name, n.Labels) }
