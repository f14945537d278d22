package manifests

import (
	"errors"
	"fmt"
	"reflect"
	"slices"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	corev1 "k8s.io/kubernetes/pkg/apis/core/v1"
	"k8s.io/kubernetes/pkg/apis/core/validation"
	"sigs.k8s.io/yaml"
)

// AddEphemeral answers a Pod that runs with one more ephemeral container, a v1.EphemeralContainer in JSON or YAML that is
// read as strictly as a manifest. The error names every field that is wrong, in Kubernetes' words
// (ValidatePodEphemeralContainersUpdate).
func AddEphemeral(pod *v1.Pod, data []byte) (*v1.Pod, error) {
	var added v1.EphemeralContainer
	if err := yaml.UnmarshalStrict(data, &added); err != nil {
		return nil, fmt.Errorf("read ephemeral container: %w", err)
	}
	next := pod.DeepCopy()
	next.Spec.EphemeralContainers = append(next.Spec.EphemeralContainers, added)
	corev1.SetObjectDefaults_Pod(next)
	faults := refuseEphemeral(next, pod)
	for _, err := range editEphemeral(next, pod) {
		if !covered(err.Field, faults) {
			faults = append(faults, fault{field: err.Field, reason: err.ErrorBody() + hint(err, next)})
		}
	}
	var errs []error
	for _, f := range faults {
		errs = append(errs, fmt.Errorf("%s: %s", f.field, f.reason))
	}
	return next, errors.Join(errs...)
}

// editEphemeral is what the API server checks when a Pod's ephemeral containers change.
var editEphemeral = editOf(corev1.Convert_v1_Pod_To_core_Pod, editPod(validation.ValidatePodEphemeralContainersUpdate))

// refuseEphemeral finds what podkeeper does not support of the ephemeral containers that a Pod has more than before.
func refuseEphemeral(next, pod *v1.Pod) []fault {
	var faults []fault
	for i := range next.Spec.EphemeralContainers {
		c := (*v1.Container)(&next.Spec.EphemeralContainers[i].EphemeralContainerCommon)
		if !slices.ContainsFunc(pod.Spec.EphemeralContainers, func(was v1.EphemeralContainer) bool { return was.Name == c.Name }) {
			faults = append(faults, unsupported(reflect.ValueOf(c), field.NewPath("spec", "ephemeralContainers").Index(i))...)
		}
	}
	return faults
}
