package inputs

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
)

// variable is one that a container is given.
type variable struct{ name, value string }

// services are the variables of the Services that a container may ask for: those of its namespace with an address, sorted by name
// (kubernetes/kubernetes pkg/kubelet/envvars), unless the Pod wants none. The API's own would be there in any case.
func (f *Facts) services() (all []variable) {
	for _, s := range slices.SortedFunc(slices.Values(f.Services), func(a, b *v1.Service) int { return cmp.Compare(a.Name, b.Name) }) {
		isAPI := s.Namespace == metav1.NamespaceDefault && s.Name == "kubernetes"
		linked := s.Namespace == f.Pod.Namespace && ptr.Deref(f.Pod.Spec.EnableServiceLinks, v1.DefaultEnableServiceLinks)
		if at := s.Spec.ClusterIP; at != "" && at != v1.ClusterIPNone && len(s.Spec.Ports) > 0 && (isAPI || linked) {
			all = append(all, variables(s)...)
		}
	}
	return all
}

func variableName(name string) string { return strings.ToUpper(strings.ReplaceAll(name, "-", "_")) }

// variables are those of one Service: its own, then those that Docker's links once had.
func variables(s *v1.Service) []variable {
	name, first := variableName(s.Name), s.Spec.Ports[0]
	all := []variable{{name + "_SERVICE_HOST", s.Spec.ClusterIP}, {name + "_SERVICE_PORT", strconv.Itoa(int(first.Port))}}
	for _, p := range s.Spec.Ports {
		if p.Name != "" {
			all = append(all, variable{name + "_SERVICE_PORT_" + variableName(p.Name), strconv.Itoa(int(p.Port))})
		}
	}
	for i, p := range s.Spec.Ports {
		protocol, number := strings.ToLower(string(cmp.Or(p.Protocol, v1.ProtocolTCP))), strconv.Itoa(int(p.Port))
		url := fmt.Sprintf("%s://%s", protocol, netAddress(s.Spec.ClusterIP, number))
		if i == 0 {
			all = append(all, variable{name + "_PORT", url})
		}
		link := fmt.Sprintf("%s_PORT_%s_%s", name, number, strings.ToUpper(protocol))
		all = append(all, variable{link, url}, variable{link + "_PROTO", protocol}, variable{link + "_PORT", number}, variable{link + "_ADDR", s.Spec.ClusterIP})
	}
	return all
}

// netAddress is net.JoinHostPort, of a package that may ask a network.
func netAddress(ip, port string) string {
	if strings.Contains(ip, ":") {
		ip = "[" + ip + "]"
	}
	return ip + ":" + port
}
