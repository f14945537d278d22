package services

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"
)

// ManagedBy is who says of Endpoints and EndpointSlices that they are its own.
const ManagedBy = "podkeeper"

// Selects says whether Pods are found by a Service's selector: of others the Endpoints are somebody's own.
func Selects(s *v1.Service) bool {
	return len(s.Spec.Selector) > 0 && s.Spec.Type != v1.ServiceTypeExternalName
}

// Of are the Pods that a Service selects and that have an address, sorted by name, as far as they may still run
// (kubernetes/kubernetes staging/src/k8s.io/endpointslice/util, ShouldPodBeInEndpoints).
func Of(s *v1.Service, pods []*v1.Pod) (found []*v1.Pod) {
	selector := labels.SelectorFromValidatedSet(s.Spec.Selector)
	for _, pod := range pods {
		done := pod.Status.Phase == v1.PodSucceeded || pod.Status.Phase == v1.PodFailed
		if pod.Namespace == s.Namespace && !done && len(ips(pod)) > 0 && selector.Matches(labels.Set(pod.Labels)) {
			found = append(found, pod)
		}
	}
	slices.SortFunc(found, func(a, b *v1.Pod) int { return cmp.Compare(a.Name, b.Name) })
	return found
}

func ips(pod *v1.Pod) (all []string) {
	for _, ip := range pod.Status.PodIPs {
		all = append(all, ip.IP)
	}
	if len(all) == 0 && pod.Status.PodIP != "" {
		all = append(all, pod.Status.PodIP)
	}
	return all
}

// Mark is another one whenever the Endpoints of a Service may be, as far as that is for its Pods to say.
func Mark(found []*v1.Pod) string {
	var b strings.Builder
	for _, pod := range found {
		fmt.Fprintf(&b, "%s %s %v %t %t\n", pod.Name, pod.UID, ips(pod), ready(pod), pod.DeletionTimestamp != nil)
	}
	return b.String()
}

func ready(pod *v1.Pod) bool {
	return slices.ContainsFunc(pod.Status.Conditions, func(c v1.PodCondition) bool { return c.Type == v1.PodReady && c.Status == v1.ConditionTrue })
}

// port is one of a Service as a Pod has it.
type port struct {
	name     string
	number   int32
	protocol v1.Protocol
	app      string // the application's protocol
}

// ports are those of a Service as a Pod has them: one that the Pod does not name is not there.
func ports(s *v1.Service, pod *v1.Pod) (found []port) {
	for i := range s.Spec.Ports {
		p := &s.Spec.Ports[i]
		if number := target(p, pod); number != 0 {
			found = append(found, port{p.Name, number, cmp.Or(p.Protocol, v1.ProtocolTCP), ptr.Deref(p.AppProtocol, "")})
		}
	}
	return found
}

// appProtocol is that of a port, nil where it has none.
func (p port) appProtocol() *string {
	if p.app == "" {
		return nil
	}
	return &p.app
}

// target is the number of a port in a Pod, 0 where it has none of that name (kubernetes/kubernetes pkg/api/v1/pod, FindPort).
func target(p *v1.ServicePort, pod *v1.Pod) int32 {
	if p.TargetPort.Type == intstr.Int {
		return cmp.Or(p.TargetPort.IntVal, p.Port)
	}
	containers := slices.Clone(pod.Spec.Containers)
	for _, c := range pod.Spec.InitContainers {
		if ptr.Deref(c.RestartPolicy, "") == v1.ContainerRestartPolicyAlways {
			containers = append(containers, c)
		}
	}
	for _, c := range containers {
		for _, has := range c.Ports {
			if has.Name == p.TargetPort.StrVal && cmp.Or(has.Protocol, v1.ProtocolTCP) == cmp.Or(p.Protocol, v1.ProtocolTCP) {
				return has.ContainerPort
			}
		}
	}
	return 0
}

// metadata are those of what follows from a Service.
func metadata(s *v1.Service, name string) metav1.ObjectMeta {
	m := metav1.ObjectMeta{Namespace: s.Namespace, Name: name, Labels: maps.Clone(s.Labels)}
	if m.Labels == nil {
		m.Labels = map[string]string{}
	}
	if s.Spec.ClusterIP == v1.ClusterIPNone {
		m.Labels[v1.IsHeadlessService] = ""
	}
	return m
}

// hostname is the one that a headless Service gives to a Pod.
func hostname(s *v1.Service, pod *v1.Pod) string {
	if pod.Spec.Subdomain == s.Name {
		return pod.Spec.Hostname
	}
	return ""
}

func reference(pod *v1.Pod) *v1.ObjectReference {
	return &v1.ObjectReference{Kind: "Pod", Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID}
}

// family is the first of a Service's.
func family(s *v1.Service) v1.IPFamily {
	if len(s.Spec.IPFamilies) > 0 {
		return s.Spec.IPFamilies[0]
	}
	if at, err := netip.ParseAddr(s.Spec.ClusterIP); err == nil && at.Is6() {
		return v1.IPv6Protocol
	}
	return v1.IPv4Protocol
}

// addressOf is a Pod's of a family, "" where it has none.
func addressOf(pod *v1.Pod, family v1.IPFamily) string {
	for _, ip := range ips(pod) {
		if at, err := netip.ParseAddr(ip); err == nil && at.Is6() == (family == v1.IPv6Protocol) {
			return ip
		}
	}
	return ""
}
