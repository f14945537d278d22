package table

import (
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/kubectl/pkg/util/storage"
	"k8s.io/utils/ptr"
)

func volumeColumns() []metav1.TableColumnDefinition {
	return append(always("Name", "Capacity", "Access Modes", "Reclaim Policy", "Status", "Claim", "StorageClass",
		"VolumeAttributesClass", "Reason", "Age"), wide("VolumeMode")...)
}

func claimColumns() []metav1.TableColumnDefinition {
	return append(always("Name", "Status", "Volume", "Capacity", "Access Modes", "StorageClass",
		"VolumeAttributesClass", "Age"), wide("VolumeMode")...)
}

func volume(v *v1.PersistentVolume, now time.Time) []any {
	status, owner := string(v.Status.Phase), ""
	if v.DeletionTimestamp != nil {
		status = "Terminating"
	}
	if c := v.Spec.ClaimRef; c != nil {
		owner = c.Namespace + "/" + c.Name
	}
	return []any{
		v.Name, v.Spec.Capacity.Storage().String(), storage.GetAccessModesAsString(v.Spec.AccessModes),
		string(v.Spec.PersistentVolumeReclaimPolicy), status, owner, storage.GetPersistentVolumeClass(v),
		ptr.Deref(v.Spec.VolumeAttributesClassName, "<unset>"), v.Status.Reason, age(v, now), volumeMode(v.Spec.VolumeMode),
	}
}

// claim shows what a claim has got; what it asks for is not shown.
func claim(c *v1.PersistentVolumeClaim, now time.Time) []any {
	status, capacity, modes := string(c.Status.Phase), "", ""
	if c.DeletionTimestamp != nil {
		status = "Terminating"
	}
	if c.Spec.VolumeName != "" {
		capacity = c.Status.Capacity.Storage().String()
		modes = storage.GetAccessModesAsString(c.Status.AccessModes)
	}
	return []any{
		c.Name, status, c.Spec.VolumeName, capacity, modes, storage.GetPersistentVolumeClaimClass(c),
		ptr.Deref(c.Spec.VolumeAttributesClassName, "<unset>"), age(c, now), volumeMode(c.Spec.VolumeMode),
	}
}

func volumeMode(m *v1.PersistentVolumeMode) string {
	return string(ptr.Deref(m, "<unset>"))
}
