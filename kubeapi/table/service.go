package table

import (
	"cmp"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	v1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/sets"
)

func serviceColumns() []metav1.TableColumnDefinition {
	return append(always("Name", "Type", "Cluster-IP", "External-IP", "Port(s)", "Age"), wide("Selector")...)
}

func service(s *v1.Service, now time.Time) []any {
	ip := "<none>"
	if len(s.Spec.ClusterIPs) > 0 {
		ip = s.Spec.ClusterIPs[0]
	}
	return []any{
		s.Name, string(s.Spec.Type), ip, externalIP(s), cmp.Or(servicePorts(s), "<none>"), age(s, now),
		labels.FormatLabels(s.Spec.Selector),
	}
}

// externalIP is where a Service can be reached from without.
func externalIP(s *v1.Service) string {
	external := strings.Join(s.Spec.ExternalIPs, ",")
	switch s.Spec.Type {
	case v1.ServiceTypeClusterIP, v1.ServiceTypeNodePort:
		return cmp.Or(external, "<none>")
	case v1.ServiceTypeLoadBalancer:
		return cmp.Or(strings.Trim(loadBalancer(s)+","+external, ","), "<pending>")
	case v1.ServiceTypeExternalName:
		return s.Spec.ExternalName
	default:
		return "<unknown>"
	}
}

// loadBalancer is where a load balancer listens.
func loadBalancer(s *v1.Service) string {
	places := sets.New[string]()
	for _, i := range s.Status.LoadBalancer.Ingress {
		if place := cmp.Or(i.IP, i.Hostname); place != "" {
			places.Insert(place)
		}
	}
	return strings.Join(sets.List(places), ",")
}

// servicePorts are "80/TCP", or "80:30080/TCP" with a port on the node.
func servicePorts(s *v1.Service) string {
	ports := make([]string, len(s.Spec.Ports))
	for i, p := range s.Spec.Ports {
		node := ""
		if p.NodePort > 0 {
			node = fmt.Sprintf(":%d", p.NodePort)
		}
		ports[i] = fmt.Sprintf("%d%s/%s", p.Port, node, p.Protocol)
	}
	return strings.Join(ports, ",")
}

//nolint:staticcheck // what is printed of the deprecated kind
func endpoints(e *v1.Endpoints, now time.Time) []any {
	if len(e.Subsets) == 0 {
		return []any{e.Name, "<none>", age(e, now)}
	}
	var places []string
	for _, s := range e.Subsets {
		for _, a := range s.Addresses {
			if len(s.Ports) == 0 { // of a headless Service
				places = append(places, a.IP)
			}
		}
		for _, p := range s.Ports {
			for _, a := range s.Addresses {
				places = append(places, net.JoinHostPort(a.IP, strconv.Itoa(int(p.Port))))
			}
		}
	}
	return []any{e.Name, three(places), age(e, now)}
}

func endpointSlice(s *discoveryv1.EndpointSlice, now time.Time) []any {
	var ports, places []string
	for _, p := range s.Ports {
		switch {
		case p.Port != nil:
			ports = append(ports, strconv.Itoa(int(*p.Port)))
		case p.Name != nil:
			ports = append(ports, *p.Name)
		default:
			ports = append(ports, "*")
		}
	}
	for _, e := range s.Endpoints {
		places = append(places, e.Addresses...)
	}
	return []any{s.Name, string(s.AddressType), cmp.Or(three(ports), "<unset>"), cmp.Or(three(places), "<unset>"), age(s, now)}
}

// three are the first three, and how many more there are.
func three(list []string) string {
	if len(list) <= 3 {
		return strings.Join(list, ",")
	}
	return fmt.Sprintf("%s + %d more...", strings.Join(list[:3], ","), len(list)-3)
}
