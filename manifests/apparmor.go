package manifests

import (
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	podapi "k8s.io/kubernetes/pkg/api/pod"
	podv1 "k8s.io/kubernetes/pkg/api/v1/pod"
)

// profileByAnnotation makes of the annotations that named AppArmor profiles before there was a field the fields that they stand
// for, as the API server does (kubernetes/kubernetes pkg/registry/core/pod/strategy.go, applyAppArmorVersionSkew). A field that
// is set stays; validation refuses one that says something else, and an annotation that says nothing.
func profileByAnnotation(pod *v1.Pod) {
	podv1.VisitContainers(&pod.Spec, podv1.AllContainers, func(c *v1.Container, _ podv1.ContainerType) bool {
		annotation, has := pod.Annotations[v1.DeprecatedAppArmorBetaContainerAnnotationKeyPrefix+c.Name]
		if !has || c.SecurityContext != nil && c.SecurityContext.AppArmorProfile != nil {
			return true
		}
		of := podapi.ApparmorFieldForAnnotation(annotation)
		if of == nil {
			return true
		}
		profile := &v1.AppArmorProfile{Type: v1.AppArmorProfileType(of.Type), LocalhostProfile: of.LocalhostProfile}
		if sc := pod.Spec.SecurityContext; sc != nil && equality.Semantic.DeepEqual(sc.AppArmorProfile, profile) {
			return true
		}
		if c.SecurityContext == nil {
			c.SecurityContext = &v1.SecurityContext{}
		}
		c.SecurityContext.AppArmorProfile = profile
		return true
	})
}
