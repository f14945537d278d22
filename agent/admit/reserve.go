package admit

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// Reserve is what of a node is not for Pods (KubeletConfiguration).
type Reserve struct {
	System v1.ResourceList           // systemReserved
	Kube   v1.ResourceList           // kubeReserved
	free   map[v1.ResourceName]share // evictionHard
}

// share is a quantity, or where part is not 0 this part of what there is.
type share struct {
	quantity resource.Quantity
	part     float64
}

// Keep has so much of a resource be kept free: a quantity, or a share such as 10%. As with the kubelet, 0% and 100% are none.
func (r *Reserve) Keep(name v1.ResourceName, text string) error {
	var free share
	if percent, ok := strings.CutSuffix(text, "%"); ok {
		part, err := strconv.ParseFloat(percent, 64)
		if err != nil || math.IsNaN(part) || part < 0 || part > 100 {
			return fmt.Errorf("is %q: must be between 0%% and 100%%", text)
		}
		free.part = math.Mod(part, 100) / 100
	} else {
		q, err := resource.ParseQuantity(text)
		if err != nil || q.Sign() <= 0 {
			return fmt.Errorf("is %q: must be a quantity above 0, such as 100Mi, or a share, such as 10%%", text)
		}
		free.quantity = q
	}
	if r.free == nil {
		r.free = map[v1.ResourceName]share{}
	}
	r.free[name] = free
	return nil
}

// Allocatable is what Pods may have of a node: what it has without what is reserved, and never less than nothing. Memory that is
// in huge pages is nobody's who asks for memory (kubernetes/kubernetes pkg/kubelet/nodestatus/setters.go).
func (r *Reserve) Allocatable(capacity v1.ResourceList) v1.ResourceList {
	left := v1.ResourceList{}
	for name, has := range capacity {
		q := has.DeepCopy()
		q.Sub(r.System[name])
		q.Sub(r.Kube[name])
		q.Sub(r.free[name].of(has))
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

func (s share) of(capacity resource.Quantity) resource.Quantity {
	if s.part == 0 {
		return s.quantity
	}
	return *resource.NewQuantity(int64(float64(capacity.Value())*s.part), resource.BinarySI)
}

func atLeastNone(q resource.Quantity) resource.Quantity {
	if q.Sign() < 0 {
		q.Set(0)
	}
	return q
}
