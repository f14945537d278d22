package manifests

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// annotationPrefix is what podkeeper's own annotations begin with, and no others.
const annotationPrefix = "podkeeper/"

// MaxRestartPeriod is the annotation of a Pod that bounds the wait between restarts of its containers: a duration from 1s
// to 300s, such as 30s, in place of the agent's crashLoopBackOff.maxContainerRestartPeriod.
const MaxRestartPeriod = annotationPrefix + "max-restart-period"

// RecreateOnChange is the annotation of a Pod that has a new instance of it follow each change of a ConfigMap or Secret that
// it refers to: "true" or "false", which is the same as none.
const RecreateOnChange = annotationPrefix + "recreate-on-change"

// ManifestAnnotation says of an object that is told of where it stands, as file:line. Who writes it says nothing: it is left out.
const ManifestAnnotation = annotationPrefix + "manifest"

// The bounds of MaxRestartPeriod are those that Kubernetes has for maxContainerRestartPeriod (KEP-4603).
const (
	leastMaxRestartPeriod = time.Second
	mostMaxRestartPeriod  = 300 * time.Second
)

// wrongAnnotations finds annotations that would be ignored in silence: Kubernetes' own that are not followed, and
// podkeeper's own that are misspelt or say nothing that can be done.
func wrongAnnotations(o metav1.Object, at *field.Path) []fault {
	var faults []fault
	wrong := func(name, reason string) {
		faults = append(faults, fault{field: at.Child("metadata", "annotations").Key(name).String(), reason: reason})
	}
	_, isPod := o.(*v1.Pod)
	for _, name := range slices.Sorted(maps.Keys(o.GetAnnotations())) {
		switch value := o.GetAnnotations()[name]; {
		case name == ManifestAnnotation, !strings.HasPrefix(strings.ToLower(name), annotationPrefix):
		case !isPod:
			wrong(name, "unknown annotation: those that begin with "+annotationPrefix+" are for Pods")
		case name == MaxRestartPeriod:
			if d, err := time.ParseDuration(value); err != nil || d < leastMaxRestartPeriod || d > mostMaxRestartPeriod {
				wrong(name, fmt.Sprintf("%q: must be a duration from 1s to 300s, such as 30s", value))
			}
		case name == RecreateOnChange:
			if value != "true" && value != "false" {
				wrong(name, fmt.Sprintf("%q: must be \"true\" or \"false\"", value))
			}
		default:
			wrong(name, unknownAnnotation(name[len(annotationPrefix):]))
		}
	}
	return faults
}

// unknownAnnotation says what of podkeeper's annotations was probably meant by a name without the prefix.
func unknownAnnotation(name string) string {
	known := []string{strings.TrimPrefix(MaxRestartPeriod, annotationPrefix), strings.TrimPrefix(RecreateOnChange, annotationPrefix)}
	if near := nearest(name, known); near != "" {
		return fmt.Sprintf("unknown annotation: did you mean %q?", annotationPrefix+near)
	}
	return fmt.Sprintf("unknown annotation: of those that begin with %s there are %s and %s", annotationPrefix, MaxRestartPeriod, RecreateOnChange)
}
