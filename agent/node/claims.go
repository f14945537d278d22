package node

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"
	"k8s.io/utils/ptr"

	"github.com/podkeeper/podkeeper/agent/inputs"
	"github.com/podkeeper/podkeeper/volumes"
)

// binding is what a claim has once it was used: a persistent volume, or a folder of podkeeper's own, for good.
type binding struct {
	Volume string `json:"volume,omitempty"` // the persistent volume's name; empty is a folder of podkeeper's own
	Path   string `json:"path"`             // on the host, as it was when the claim was used last
	Local  bool   `json:"local,omitempty"`  // fsGroup applies
	Create bool   `json:"create,omitempty"` // it is made where it is missing
}

func (b binding) folder() volumes.Folder {
	return volumes.Folder{Path: b.Path, Create: b.Create, Ownership: b.Local}
}

// claimsDir has the folders of claims that no persistent volume is for, <namespace>/<name>, and beside them, under a name that
// no namespace has, what each claim is bound to.
func (n *Node) claimsDir() string { return filepath.Join(n.RootDir, "claims") }

func (n *Node) bindingsFile() string { return filepath.Join(n.claimsDir(), "bindings.json") }

// claimed are the folders of the Pod's volumes that are claims, its own ones among them, by the volume's name. A claim that is
// used for the first time is bound. The error is a Fault.
func (n *Node) claimed(t Target) (map[string]volumes.Folder, error) {
	folders := map[string]volumes.Folder{}
	for _, volume := range t.Pod.Spec.Volumes {
		if volume.Ephemeral != nil {
			dir, err := n.Volumes.EphemeralDir(t.Pod, volume.Name)
			if err != nil {
				return nil, &Fault{FailedMount, err}
			}
			folders[volume.Name] = volumes.Folder{Path: dir, Create: true, Ownership: true}
		}
		if volume.PersistentVolumeClaim == nil {
			continue
		}
		claim, err := inputs.Claim(t.Pod, volume.PersistentVolumeClaim.ClaimName, t.Objects)
		if err == nil {
			folders[volume.Name], err = n.bind(claim, inputs.PersistentVolumes(t.Objects))
		}
		if err != nil {
			return nil, &Fault{FailedMount, fmt.Errorf("MountVolume.SetUp failed for volume %q : %w", volume.Name, err)}
		}
	}
	return folders, nil
}

// bind answers where the data of a claim is. What it was bound to once stays its own, though the persistent volume's manifest
// be gone, until claim or volume name another one. What was not bound gets the smallest volume that fits
// (kubernetes/kubernetes pkg/controller/volume/persistentvolume), or, where it asks for no class, a folder of its own.
func (n *Node) bind(claim *v1.PersistentVolumeClaim, all []*v1.PersistentVolume) (volumes.Folder, error) {
	n.claims.Lock()
	defer n.claims.Unlock()
	bindings, err := n.bindings()
	if err != nil {
		return volumes.Folder{}, err
	}
	key := claim.Namespace + "/" + claim.Name
	was, bound := bindings[key]
	if asked := claim.Spec.VolumeName; bound && asked != "" && asked != was.Volume {
		bound = false
	}
	now := was
	switch found := byName(all, was.Volume); {
	case !bound:
		if now, err = n.newBinding(claim, all, bindings); err != nil {
			return volumes.Folder{}, err
		}
	case found != nil:
		now = bindingOf(found)
	}
	if now == was && bound {
		return now.folder(), nil
	}
	for other, b := range bindings { // the volume's manifest names this claim now
		if b.Volume != "" && b.Volume == now.Volume && other != key {
			delete(bindings, other)
		}
	}
	bindings[key] = now
	encoded, err := json.MarshalIndent(bindings, "", "  ")
	if err == nil {
		err = WriteDurably(n.bindingsFile(), encoded)
	}
	if err != nil {
		return volumes.Folder{}, fmt.Errorf("record claim: %w", err)
	}
	n.tellBound(bindings)
	return now.folder(), nil
}

// Bound is what claims are bound to, the name of a persistent volume or "" for a folder of podkeeper's own, by namespace and
// name. It is never changed. What cannot be read is nothing.
func (n *Node) Bound() map[types.NamespacedName]string {
	if told := n.bound.Load(); told != nil {
		return *told
	}
	n.claims.Lock()
	defer n.claims.Unlock()
	bindings, err := n.bindings()
	if err != nil {
		n.Log.Debug("what claims are bound to cannot be told of", "error", err)
		return nil
	}
	n.tellBound(bindings)
	return *n.bound.Load()
}

func (n *Node) tellBound(bindings map[string]binding) {
	told := make(map[types.NamespacedName]string, len(bindings))
	for key, b := range bindings {
		namespace, name, _ := strings.Cut(key, "/")
		told[types.NamespacedName{Namespace: namespace, Name: name}] = b.Volume
	}
	n.bound.Store(&told)
}

// bindings are what claims are bound to, by namespace/name.
func (n *Node) bindings() (map[string]binding, error) {
	found := map[string]binding{}
	content, err := os.ReadFile(n.bindingsFile())
	if errors.Is(err, fs.ErrNotExist) {
		return found, nil
	}
	if err == nil {
		err = json.Unmarshal(content, &found)
	}
	if err != nil {
		return nil, fmt.Errorf("read what claims are bound to: %w", err)
	}
	return found, nil
}

func byName(all []*v1.PersistentVolume, name string) *v1.PersistentVolume {
	for _, volume := range all {
		if volume.Name == name {
			return volume
		}
	}
	return nil
}

// newBinding finds what a claim is to be bound to.
func (n *Node) newBinding(claim *v1.PersistentVolumeClaim, all []*v1.PersistentVolume, bindings map[string]binding) (binding, error) {
	var best *v1.PersistentVolume
	for _, volume := range all {
		mine := isMeantFor(volume, claim)
		switch {
		case !mine && (volume.Spec.ClaimRef != nil || held(volume.Name, bindings)) || !n.suits(volume, claim):
		case best == nil || mine || !isMeantFor(best, claim) && smaller(volume, best):
			best = volume
		}
	}
	switch {
	case best != nil:
		return bindingOf(best), nil
	case claim.Spec.VolumeName != "":
		return binding{}, fmt.Errorf("persistentvolumeclaim %q is not bound: persistentvolume %q is not there, is another claim's or does not fit it",
			claim.Name, claim.Spec.VolumeName)
	case claim.Spec.StorageClassName != nil || claim.Spec.Selector != nil:
		return binding{}, fmt.Errorf("persistentvolumeclaim %q is not bound: no persistentvolume of storage class %q that is free fits it",
			claim.Name, ptr.Deref(claim.Spec.StorageClassName, ""))
	}
	return binding{Path: filepath.Join(n.claimsDir(), claim.Namespace, claim.Name), Local: true, Create: true}, nil
}

// isMeantFor says whether a volume's manifest names the claim.
func isMeantFor(volume *v1.PersistentVolume, claim *v1.PersistentVolumeClaim) bool {
	ref := volume.Spec.ClaimRef
	return ref != nil && ref.Namespace == claim.Namespace && ref.Name == claim.Name && (ref.UID == "" || ref.UID == claim.UID)
}

// suits says whether a volume is what a claim asks for, and on this node (k8s.io/component-helpers/storage/volume,
// FindMatchingVolume, which would bring all of client-go).
func (n *Node) suits(volume *v1.PersistentVolume, claim *v1.PersistentVolumeClaim) bool {
	if asked := claim.Spec.VolumeName; asked != "" && asked != volume.Name {
		return false
	}
	if volume.Spec.StorageClassName != ptr.Deref(claim.Spec.StorageClassName, "") || volume.Spec.Capacity.Storage().Cmp(*claim.Spec.Resources.Requests.Storage()) < 0 {
		return false
	}
	for _, mode := range claim.Spec.AccessModes {
		if !slices.Contains(volume.Spec.AccessModes, mode) {
			return false
		}
	}
	if claim.Spec.Selector != nil && !isMeantFor(volume, claim) {
		if selector, err := metav1.LabelSelectorAsSelector(claim.Spec.Selector); err != nil || !selector.Matches(labels.Set(volume.Labels)) {
			return false
		}
	}
	affinity := volume.Spec.NodeAffinity
	if affinity == nil || affinity.Required == nil {
		return true
	}
	required, err := nodeaffinity.NewNodeSelector(affinity.Required)
	return err == nil && required.Match(n.Object())
}

// smaller says whether a volume is to be taken before another one.
func smaller(volume, other *v1.PersistentVolume) bool {
	size := volume.Spec.Capacity.Storage().Cmp(*other.Spec.Capacity.Storage())
	return size < 0 || size == 0 && volume.Name < other.Name
}

// held says whether some claim has a volume.
func held(volume string, bindings map[string]binding) bool {
	for _, b := range bindings {
		if b.Volume == volume {
			return true
		}
	}
	return false
}

// bindingOf says where a persistent volume is.
func bindingOf(volume *v1.PersistentVolume) binding {
	if local := volume.Spec.Local; local != nil {
		return binding{Volume: volume.Name, Path: local.Path, Local: true}
	}
	host := volume.Spec.HostPath
	return binding{Volume: volume.Name, Path: host.Path, Create: ptr.Deref(host.Type, v1.HostPathUnset) != v1.HostPathDirectory}
}
