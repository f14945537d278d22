package manifests

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/kubernetes/pkg/apis/core"
	corev1 "k8s.io/kubernetes/pkg/apis/core/v1"
	"k8s.io/kubernetes/pkg/apis/core/validation"
	"k8s.io/utils/ptr"
)

// volumeKind is the kind of what a claim may be bound to.
var volumeKind = kind{
	typ: reflect.TypeFor[v1.PersistentVolume](), example: "disk-1", clusterWide: true,
	odd: func(o metav1.Object, at *field.Path) []fault {
		spec := o.(*v1.PersistentVolume).Spec
		faults := oddAccess(spec.AccessModes, at.Child("spec"))
		if host := spec.HostPath; host != nil {
			switch kind := ptr.Deref(host.Type, v1.HostPathUnset); kind {
			case v1.HostPathUnset, v1.HostPathDirectoryOrCreate, v1.HostPathDirectory:
			default:
				faults = append(faults, fault{
					field:  join(at, "spec.hostPath.type"),
					reason: fmt.Sprintf("%q: not supported: a claim is a folder: supported values: \"DirectoryOrCreate\", \"Directory\"", kind),
				})
			}
		}
		return faults
	},
	complete: func(o metav1.Object, _ *field.Path) []fault {
		corev1.SetObjectDefaults_PersistentVolume(o.(*v1.PersistentVolume))
		return nil
	},
	validate: func(o metav1.Object) field.ErrorList {
		internal := new(core.PersistentVolume)
		if err := corev1.Convert_v1_PersistentVolume_To_core_PersistentVolume(o.(*v1.PersistentVolume), internal, nil); err != nil {
			return field.ErrorList{field.InternalError(nil, err)}
		}
		return validation.ValidatePersistentVolume(internal, validation.ValidationOptionsForPersistentVolume(internal, nil))
	},
}

// claimKind is the kind of what a Pod's volume may be.
var claimKind = kind{
	typ: reflect.TypeFor[v1.PersistentVolumeClaim](), example: "data",
	odd: func(o metav1.Object, at *field.Path) []fault {
		return oddAccess(o.(*v1.PersistentVolumeClaim).Spec.AccessModes, at)
	},
	complete: func(o metav1.Object, _ *field.Path) []fault {
		corev1.SetObjectDefaults_PersistentVolumeClaim(o.(*v1.PersistentVolumeClaim))
		return nil
	},
	validate: func(o metav1.Object) field.ErrorList {
		internal := new(core.PersistentVolumeClaim)
		if err := corev1.Convert_v1_PersistentVolumeClaim_To_core_PersistentVolumeClaim(o.(*v1.PersistentVolumeClaim), internal, nil); err != nil {
			return field.ErrorList{field.InternalError(nil, err)}
		}
		return validation.ValidatePersistentVolumeClaim(internal, validation.ValidationOptionsForPersistentVolumeClaimCreate())
	},
}

// oddAccess refuses the access mode that nothing here holds Pods to.
func oddAccess(modes []v1.PersistentVolumeAccessMode, spec *field.Path) []fault {
	var faults []fault
	for i, mode := range modes {
		if mode == v1.ReadWriteOncePod {
			faults = append(faults, fault{
				field:  spec.Child("accessModes").Index(i).String(),
				reason: fmt.Sprintf("%q: not supported: supported values: %q, %q, %q", mode, v1.ReadWriteOnce, v1.ReadOnlyMany, v1.ReadWriteMany),
			})
		}
	}
	return faults
}

// oddTemplate refuses a claim of a Pod's own that asks for a certain volume: it is a folder that goes with its Pod.
func oddTemplate(spec v1.PersistentVolumeClaimSpec, at *field.Path) []fault {
	var faults []fault
	for name, set := range map[string]bool{
		"selector": spec.Selector != nil, "storageClassName": spec.StorageClassName != nil, "volumeName": spec.VolumeName != "",
	} {
		if set {
			faults = append(faults, fault{field: at.Child(name).String(), reason: "not supported here: the volume is a folder that goes with its Pod"})
		}
	}
	slices.SortFunc(faults, func(a, b fault) int { return strings.Compare(a.field, b.field) })
	return append(faults, oddAccess(spec.AccessModes, at)...)
}
