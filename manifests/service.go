package manifests

import (
	"slices"

	v1 "k8s.io/api/core/v1"
	serviceapi "k8s.io/kubernetes/pkg/api/service"
	"k8s.io/kubernetes/pkg/apis/core"
)

// NeedsAddress says whether a Service has an address of its own, or None in its place.
func NeedsAddress(s *v1.Service) bool { return s.Spec.Type != v1.ServiceTypeExternalName }

// KeepAddress leaves a Service that is edited the address that it has been given, where its writer says nothing of it
// (kubernetes/kubernetes pkg/registry/core/service/storage, patchAllocatedValues, normalizeClusterIPs). One that becomes an ExternalName
// loses it.
func KeepAddress(now, was *v1.Service) {
	spec, before := &now.Spec, &was.Spec
	switch {
	case NeedsAddress(now) && NeedsAddress(was):
		if spec.ClusterIP == "" {
			spec.ClusterIP = before.ClusterIP
		}
		switch {
		case len(spec.ClusterIPs) == 0:
			spec.ClusterIPs = before.ClusterIPs
		case spec.ClusterIP != before.ClusterIP && slices.Equal(spec.ClusterIPs, before.ClusterIPs): // the list is what was read
			spec.ClusterIPs = []string{spec.ClusterIP}
		}
		if len(spec.IPFamilies) == 0 {
			spec.IPFamilies = before.IPFamilies
		}
		if spec.IPFamilyPolicy == nil {
			spec.IPFamilyPolicy = before.IPFamilyPolicy
		}
	case NeedsAddress(was) && spec.ClusterIP == before.ClusterIP:
		spec.ClusterIP, spec.ClusterIPs, spec.IPFamilies, spec.IPFamilyPolicy = "", nil, nil, nil
	}
}

// listAddress writes the address of a Service to the list of its addresses (kubernetes/kubernetes pkg/registry/core/service/storage,
// normalizeClusterIPs).
func listAddress(service *v1.Service) {
	if service.Spec.ClusterIP != "" && len(service.Spec.ClusterIPs) == 0 {
		service.Spec.ClusterIPs = []string{service.Spec.ClusterIP}
	}
}

// warnOfService warns of what Kubernetes does, and of what is missing here of a new one.
func warnOfService(now, was *core.Service) []string {
	warnings := serviceapi.GetWarningsForService(now, was)
	if was == nil && now.Spec.Type != core.ServiceTypeExternalName && now.Spec.ClusterIP != core.ClusterIPNone {
		warnings = append(warnings, "podkeeper forwards nothing from the address and the ports of a Service: connect to the Pods that its Endpoints name")
	}
	return warnings
}
