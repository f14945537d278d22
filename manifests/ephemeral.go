package manifests

import (
	"errors"
	"fmt"
	"reflect"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	podapi "k8s.io/kubernetes/pkg/api/pod"
	"k8s.io/kubernetes/pkg/apis/core"
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
	at := field.NewPath("spec", "ephemeralContainers").Index(len(next.Spec.EphemeralContainers) - 1)
	faults := unsupported(reflect.ValueOf((*v1.Container)(&added.EphemeralContainerCommon)), at)
	for _, err := range validateEphemeral(next, pod) {
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

// validateEphemeral is what the API server checks when a Pod's ephemeral containers change (its pod strategy).
func validateEphemeral(next, pod *v1.Pod) field.ErrorList {
	internal, before := new(core.Pod), new(core.Pod)
	for from, to := range map[*v1.Pod]*core.Pod{next: internal, pod: before} {
		if err := corev1.Convert_v1_Pod_To_core_Pod(from.DeepCopy(), to, nil); err != nil {
			return field.ErrorList{field.InternalError(field.NewPath("spec"), err)}
		}
		to.ResourceVersion = "1" // an API object has one
	}
	options := podapi.GetValidationOptionsFromPodSpecAndMeta(&internal.Spec, &before.Spec, &internal.ObjectMeta, &before.ObjectMeta)
	options.ResourceIsPod = true
	return validation.ValidatePodEphemeralContainersUpdate(internal, before, options)
}
