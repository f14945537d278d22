package agent

import (
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	"github.com/podkeeper/podkeeper/agent/objects"
	"github.com/podkeeper/podkeeper/manifests"
)

// claims are what is bound to what, as clients are told of it.
type claims struct {
	volumes map[types.NamespacedName]string // by claim; "" is a folder of podkeeper's own
	holders map[string]types.NamespacedName // of volumes
}

func (a *Agent) claims() claims {
	c := claims{volumes: a.bound(), holders: map[string]types.NamespacedName{}}
	for claim, volume := range c.volumes {
		if volume != "" {
			c.holders[volume] = claim
		}
	}
	return c
}

// What claims and volumes are called in paths.
const (
	claimResource  = "persistentvolumeclaims"
	volumeResource = "persistentvolumes"
)

// seeClaims adds to the claims and volumes that there are what they are bound to, and their status.
func (a *Agent) seeClaims(seen map[objects.ID]sighting) {
	alone := map[objects.ID]sighting{}
	for id, s := range seen {
		if id.Resource == claimResource || id.Resource == volumeResource {
			alone[id] = s
		}
	}
	if len(alone) == 0 {
		return
	}
	bound := a.claims()
	for id, s := range alone {
		if id.Resource == claimResource {
			volume, is := bound.volumes[id.NamespacedName]
			disk := alone[objects.ID{Resource: volumeResource, NamespacedName: types.NamespacedName{Name: volume}}]
			seen[id] = sighting{[4]any{s.mark, disk.mark, volume, is}, func() (map[string]any, error) { return boundClaim(s, disk, volume, is) }, s.kept}
			continue
		}
		holder := bound.holders[id.Name]
		claim := alone[objects.ID{Resource: claimResource, NamespacedName: holder}]
		seen[id] = sighting{[3]any{s.mark, claim.mark, holder}, func() (map[string]any, error) { return boundVolume(s, claim, holder) }, s.kept}
	}
}

// boundClaim is a claim with its status: what a volume, if it is one, or its own folder gives it.
func boundClaim(claim, disk sighting, volume string, bound bool) (map[string]any, error) {
	var of v1.PersistentVolumeClaim
	fields, err := readSighting(claim, &of)
	if err != nil {
		return nil, err
	}
	status := v1.PersistentVolumeClaimStatus{Phase: v1.ClaimPending}
	if bound {
		status = v1.PersistentVolumeClaimStatus{Phase: v1.ClaimBound, AccessModes: of.Spec.AccessModes, Capacity: of.Spec.Resources.Requests}
	}
	if volume != "" {
		child(fields, "spec")["volumeName"] = volume
		var on v1.PersistentVolume
		if _, err := readSighting(disk, &on); err != nil {
			return nil, err
		}
		if on.Name != "" { // else it is gone, and its data is not
			status.AccessModes, status.Capacity = on.Spec.AccessModes, on.Spec.Capacity
		}
	}
	fields["status"], err = runtime.DefaultUnstructuredConverter.ToUnstructured(&status)
	return fields, err
}

// boundVolume is a volume with its status, and the claim that it is bound to, if there is one.
func boundVolume(volume, claim sighting, holder types.NamespacedName) (map[string]any, error) {
	fields, err := readSighting(volume, &v1.PersistentVolume{})
	if err != nil {
		return nil, err
	}
	phase := v1.VolumeAvailable
	if holder.Name != "" {
		phase = v1.VolumeReleased
		var by v1.PersistentVolumeClaim
		if _, err := readSighting(claim, &by); err != nil {
			return nil, err
		}
		if by.Name != "" {
			phase = v1.VolumeBound
		}
		ref := child(child(fields, "spec"), "claimRef")
		ref["apiVersion"], ref["kind"], ref["namespace"], ref["name"] = "v1", manifests.KindClaim, holder.Namespace, holder.Name
		if by.UID != "" {
			ref["uid"] = string(by.UID)
		}
	}
	child(fields, "status")["phase"] = string(phase)
	return fields, nil
}

// readSighting reads an object, if there is one.
func readSighting(s sighting, into metav1.Object) (map[string]any, error) {
	if s.write == nil {
		return nil, nil
	}
	fields, err := s.write()
	if err != nil {
		return nil, err
	}
	return fields, runtime.DefaultUnstructuredConverter.FromUnstructured(fields, into)
}

// unbind leaves out of a claim or volume that is written back what it is bound to, unless it was written down before.
func (a *Agent) unbind(id objects.ID, fields, was map[string]any) {
	before, _ := was["spec"].(map[string]any)
	spec, ok := fields["spec"].(map[string]any)
	if !ok || was == nil {
		return
	}
	bound := a.claims()
	if volume := bound.volumes[id.NamespacedName]; id.Namespace != "" && volume != "" && before["volumeName"] == nil && spec["volumeName"] == volume {
		delete(spec, "volumeName")
	}
	ref, _ := spec["claimRef"].(map[string]any)
	holder := bound.holders[id.Name]
	if id.Namespace == "" && ref != nil && before["claimRef"] == nil && holder.Name != "" && ref["namespace"] == holder.Namespace && ref["name"] == holder.Name {
		delete(spec, "claimRef")
	}
}
