//nolint:staticcheck // Endpoints are deprecated, and asked for by clients all the same
package services

import (
	"cmp"
	"slices"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
)

// endpointsManagedBy is the label of who says that Endpoints are its own.
const endpointsManagedBy = "endpoints.kubernetes.io/managed-by"

// Endpoints are those of a Service: the addresses of its Pods, told apart by whether they are ready, grouped by ports
// (kubernetes/kubernetes pkg/controller/endpoint). Pods that end are not among them.
func Endpoints(s *v1.Service, found []*v1.Pod) *v1.Endpoints {
	e := &v1.Endpoints{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Endpoints"}, ObjectMeta: metadata(s, s.Name)}
	e.Labels[endpointsManagedBy] = ManagedBy
	having := map[port][]*v1.Pod{}
	var order []port
	for _, pod := range found {
		if addressOf(pod, family(s)) == "" || pod.DeletionTimestamp != nil && !s.Spec.PublishNotReadyAddresses {
			continue
		}
		of := ports(s, pod)
		if len(s.Spec.Ports) == 0 {
			of = []port{{}}
		}
		for _, p := range of {
			if having[p] == nil {
				order = append(order, p)
			}
			having[p] = append(having[p], pod)
		}
	}
	slices.SortStableFunc(order, func(a, b port) int { return cmp.Or(cmp.Compare(a.name, b.name), cmp.Compare(a.number, b.number)) })
	for len(order) > 0 {
		pods := having[order[0]]
		subset := addresses(s, pods)
		order = slices.DeleteFunc(order, func(p port) bool {
			same := slices.Equal(having[p], pods)
			if same && p.number != 0 {
				subset.Ports = append(subset.Ports, v1.EndpointPort{Name: p.name, Port: p.number, Protocol: p.protocol, AppProtocol: p.appProtocol()})
			}
			return same
		})
		e.Subsets = append(e.Subsets, subset)
	}
	return e
}

// addresses are those of Pods.
func addresses(s *v1.Service, pods []*v1.Pod) (subset v1.EndpointSubset) {
	for _, pod := range pods {
		a := v1.EndpointAddress{IP: addressOf(pod, family(s)), Hostname: hostname(s, pod), TargetRef: reference(pod)}
		if pod.Spec.NodeName != "" {
			a.NodeName = ptr.To(pod.Spec.NodeName)
		}
		if ready(pod) || s.Spec.PublishNotReadyAddresses {
			subset.Addresses = append(subset.Addresses, a)
		} else {
			subset.NotReadyAddresses = append(subset.NotReadyAddresses, a)
		}
	}
	return subset
}
