package manifests

import (
	"errors"
	"fmt"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/conversion"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
	podapi "k8s.io/kubernetes/pkg/api/pod"
	"k8s.io/kubernetes/pkg/apis/core"
	corev1 "k8s.io/kubernetes/pkg/apis/core/v1"
	"k8s.io/kubernetes/pkg/apis/core/validation"
)

// CheckEdit says what of an edit Kubernetes' API does not allow, in its words: ValidatePodUpdate and its kin. Both are as
// Decode answers them, of one kind, name and UID. An edit of a manifest need not be such a one: it may make a new instance.
func CheckEdit(now, was metav1.Object) error {
	var errs []error
	for _, err := range edited(now, was) {
		errs = append(errs, fmt.Errorf("%s: %s", err.Field, err.ErrorBody()))
	}
	return errors.Join(errs...)
}

func edited(now, was metav1.Object) field.ErrorList {
	switch now := now.(type) {
	case *v1.Pod:
		return compare(now, was.(*v1.Pod), corev1.Convert_v1_Pod_To_core_Pod, func(now, was *core.Pod) field.ErrorList {
			options := podapi.GetValidationOptionsFromPodSpecAndMeta(&now.Spec, &was.Spec, &now.ObjectMeta, &was.ObjectMeta)
			options.ResourceIsPod = true
			return validation.ValidatePodUpdate(now, was, options)
		})
	case *v1.ConfigMap:
		return compare(now, was.(*v1.ConfigMap), corev1.Convert_v1_ConfigMap_To_core_ConfigMap, validation.ValidateConfigMapUpdate)
	case *v1.Secret:
		return compare(now, was.(*v1.Secret), corev1.Convert_v1_Secret_To_core_Secret, validation.ValidateSecretUpdate)
	case *v1.PersistentVolume:
		return compare(now, was.(*v1.PersistentVolume), corev1.Convert_v1_PersistentVolume_To_core_PersistentVolume,
			func(now, was *core.PersistentVolume) field.ErrorList {
				return validation.ValidatePersistentVolumeUpdate(now, was, validation.ValidationOptionsForPersistentVolume(now, was))
			})
	case *v1.PersistentVolumeClaim:
		return compare(now, was.(*v1.PersistentVolumeClaim), corev1.Convert_v1_PersistentVolumeClaim_To_core_PersistentVolumeClaim,
			func(now, was *core.PersistentVolumeClaim) field.ErrorList {
				return validation.ValidatePersistentVolumeClaimUpdate(now, was, validation.ValidationOptionsForPersistentVolumeClaim(now, was))
			})
	}
	return nil
}

// compare has Kubernetes judge the change from one object to another, as objects of its own.
func compare[T interface {
	metav1.Object
	runtime.Object
}, I any](now, was T, convert func(T, *I, conversion.Scope) error, judge func(now, was *I) field.ErrorList) field.ErrorList {
	internal, before := new(I), new(I)
	for from, to := range map[*T]*I{&now: internal, &was: before} {
		object := (*from).DeepCopyObject().(T)
		object.SetResourceVersion("1") // an API object has one
		if err := convert(object, to, nil); err != nil {
			return field.ErrorList{field.InternalError(nil, err)}
		}
	}
	return judge(internal, before)
}
