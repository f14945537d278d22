package manifests

import (
	"slices"
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
)

func serviceAt(at string, change func(*v1.ServiceSpec)) *v1.Service {
	s := &v1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web"}, Spec: v1.ServiceSpec{ClusterIP: at, Ports: []v1.ServicePort{{Port: 80}}}}
	if at != "" {
		s.Spec.IPFamilies, s.Spec.IPFamilyPolicy = []v1.IPFamily{v1.IPv4Protocol}, ptr.To(v1.IPFamilyPolicySingleStack)
	}
	if change != nil {
		change(&s.Spec)
	}
	Default(s)
	return s
}

func external(spec *v1.ServiceSpec) {
	spec.Type, spec.ExternalName = v1.ServiceTypeExternalName, "example.com"
}

func TestAServiceKeepsItsAddress(t *testing.T) {
	t.Parallel()
	for sentence, of := range map[string]struct {
		now, was *v1.Service
		want     string // "" is none
		faulty   bool
	}{
		"where an edit says nothing of it":       {serviceAt("", nil), serviceAt("10.96.1.1", nil), "10.96.1.1", false},
		"where it says None":                     {serviceAt("None", nil), serviceAt("None", nil), "None", false},
		"though its ports are to be on the node": {serviceAt("", func(s *v1.ServiceSpec) { s.Type = v1.ServiceTypeNodePort }), serviceAt("10.96.1.1", nil), "10.96.1.1", false},
		"unless it has a name of elsewhere":      {serviceAt("", external), serviceAt("10.96.1.1", nil), "", false},
		"though that comes with its old address": {serviceAt("10.96.1.1", external), serviceAt("10.96.1.1", nil), "", false},
		"one that asks for another is told so":   {serviceAt("10.96.1.2", nil), serviceAt("10.96.1.1", nil), "10.96.1.2", true},
		"though the list that was read is left as it was": {
			serviceAt("10.96.1.2", func(s *v1.ServiceSpec) { s.ClusterIPs = []string{"10.96.1.1"} }), serviceAt("10.96.1.1", nil), "10.96.1.2", true,
		},
		"one that had none has none to keep":      {serviceAt("", nil), serviceAt("", nil), "", false},
		"one that had a name is to be given one":  {serviceAt("", nil), serviceAt("", external), "", false},
		"one that had a name may ask for its own": {serviceAt("10.96.1.2", nil), serviceAt("", external), "10.96.1.2", false},
	} {
		KeepAddress(of.now, of.was)
		if of.now.Spec.ClusterIP != of.want || (len(of.now.Spec.ClusterIPs) == 1) != (of.want != "") {
			t.Errorf("%s: %q, %q", sentence, of.now.Spec.ClusterIP, of.now.Spec.ClusterIPs)
		}
		if faults := CheckEdit(of.now, of.was); (len(faults) > 0) != of.faulty || of.faulty && !strings.Contains(faults[0].Error(), "may not change once set") {
			t.Errorf("%s: %v", sentence, faults)
		}
	}
}

func TestThatNothingIsForwardedIsSaid(t *testing.T) {
	t.Parallel()
	says := func(now, was *v1.Service) bool {
		var before metav1.Object
		if was != nil {
			before = was
		}
		return slices.ContainsFunc(Warnings(now, before), func(w string) bool { return strings.Contains(w, "forwards nothing") })
	}
	if !says(serviceAt("", nil), nil) {
		t.Error("a new Service is not warned of")
	}
	if says(serviceAt("", nil), serviceAt("", nil)) || says(serviceAt("None", nil), nil) || says(serviceAt("", external), nil) {
		t.Error("one is warned of from which nothing would be forwarded, or that is known")
	}
}
