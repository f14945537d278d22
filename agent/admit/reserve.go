package admit

import (
	"strings"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// Reserve is what of a node is not for Pods (KubeletConfiguration).
type Reserve struct {
	System v1.ResourceList           // systemReserved
	Kube   v1.ResourceList           // kubeReserved
	free   map[v1.ResourceName]Share // evictionHard
}

// Keep has so much of a resource be kept free.
func (r *Reserve) Keep(name v1.ResourceName, free Share) {
	if r.free == nil {
		r.free = map[v1.ResourceName]Share{}
	}
	r.free[name] = free
}

// Allocatable is what Pods may have of a node: what it has without what is reserved, and never less than nothing. Memory that is
// in huge pages is nobody's who asks for memory (kubernetes/kubernetes pkg/kubelet/nodestatus/setters.go).
func (r *Reserve) Allocatable(capacity v1.ResourceList) v1.ResourceList {
	left := v1.ResourceList{}
	for name, has := range capacity {
		q := has.DeepCopy()
		q.Sub(r.System[name])
		q.Sub(r.Kube[name])
		q.Sub(*resource.NewQuantity(r.free[name].Of(has.Value()), has.Format))
		left[name] = atLeastNone(q)
	}
	memory, ok := left[v1.ResourceMemory]
	if !ok {
		return left
	}
	for name, size := range capacity {
		if strings.HasPrefix(string(name), v1.ResourceHugePagesPrefix) {
			memory.Sub(size)
		}
	}
	left[v1.ResourceMemory] = atLeastNone(memory)
	return left
}

func atLeastNone(q resource.Quantity) resource.Quantity {
	if q.Sign() < 0 {
		q.Set(0)
	}
	return q
}
