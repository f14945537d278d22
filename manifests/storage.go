package manifests

import (
	"fmt"
	"slices"
	"strings"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/kubernetes/pkg/apis/core"
	"k8s.io/kubernetes/pkg/apis/core/validation"
	"k8s.io/utils/ptr"
)

func validateVolume(volume *core.PersistentVolume) field.ErrorList {
	return validation.ValidatePersistentVolume(volume, validation.ValidationOptionsForPersistentVolume(volume, nil))
}

func validateVolumeUpdate(now, was *core.PersistentVolume) field.ErrorList {
	return validation.ValidatePersistentVolumeUpdate(now, was, validation.ValidationOptionsForPersistentVolume(now, was))
}

func validateClaim(claim *core.PersistentVolumeClaim) field.ErrorList {
	return validation.ValidatePersistentVolumeClaim(claim, validation.ValidationOptionsForPersistentVolumeClaimCreate())
}

func validateClaimUpdate(now, was *core.PersistentVolumeClaim) field.ErrorList {
	return validation.ValidatePersistentVolumeClaimUpdate(now, was, validation.ValidationOptionsForPersistentVolumeClaim(now, was))
}

// oddVolume refuses a persistent volume that is no folder.
func oddVolume(volume *v1.PersistentVolume, at *field.Path) []fault {
	faults := oddAccess(volume.Spec.AccessModes, at.Child("spec"))
	if host := volume.Spec.HostPath; host != nil {
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
