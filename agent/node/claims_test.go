package node

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
)

// disk is a persistent volume at /<name>.
func disk(name, size string, more ...func(*v1.PersistentVolume)) *v1.PersistentVolume {
	volume := &v1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: v1.PersistentVolumeSpec{
		Capacity:    v1.ResourceList{v1.ResourceStorage: resource.MustParse(size)},
		AccessModes: []v1.PersistentVolumeAccessMode{v1.ReadWriteOnce},
	}}
	volume.Spec.HostPath = &v1.HostPathVolumeSource{Path: "/" + name}
	for _, change := range more {
		change(volume)
	}
	return volume
}

func class(name string) func(*v1.PersistentVolume) {
	return func(v *v1.PersistentVolume) { v.Spec.StorageClassName = name }
}

func meantFor(claim string) func(*v1.PersistentVolume) {
	return func(v *v1.PersistentVolume) { v.Spec.ClaimRef = &v1.ObjectReference{Namespace: "shop", Name: claim} }
}

func onNode(name string) func(*v1.PersistentVolume) {
	return func(v *v1.PersistentVolume) {
		v.Spec.HostPath, v.Spec.Local = nil, &v1.LocalVolumeSource{Path: "/local/" + v.Name}
		v.Spec.NodeAffinity = &v1.VolumeNodeAffinity{Required: &v1.NodeSelector{NodeSelectorTerms: []v1.NodeSelectorTerm{{
			MatchExpressions: []v1.NodeSelectorRequirement{{Key: v1.LabelHostname, Operator: v1.NodeSelectorOpIn, Values: []string{name}}},
		}}}}
	}
}

func claim(name, size string, more ...func(*v1.PersistentVolumeClaimSpec)) *v1.PersistentVolumeClaim {
	c := &v1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name}, Spec: v1.PersistentVolumeClaimSpec{
		AccessModes: []v1.PersistentVolumeAccessMode{v1.ReadWriteOnce},
		Resources:   v1.VolumeResourceRequirements{Requests: v1.ResourceList{v1.ResourceStorage: resource.MustParse(size)}},
	}}
	for _, change := range more {
		change(&c.Spec)
	}
	return c
}

func ofClass(name string) func(*v1.PersistentVolumeClaimSpec) {
	return func(s *v1.PersistentVolumeClaimSpec) { s.StorageClassName = ptr.To(name) }
}

func TestWhatIsBoundIsTold(t *testing.T) {
	t.Parallel()
	n := &Node{Name: "here", RootDir: t.TempDir()}
	if got := n.Bound(); len(got) != 0 {
		t.Errorf("at first it is %v", got)
	}
	for name, disks := range map[string][]*v1.PersistentVolume{"data": {disk("a", "1Gi")}, "own": nil} {
		if _, err := n.bind(claim(name, "1Gi"), disks); err != nil {
			t.Fatal(err)
		}
	}
	want := map[types.NamespacedName]string{{Namespace: "shop", Name: "data"}: "a", {Namespace: "shop", Name: "own"}: ""}
	for when, n := range map[string]*Node{"now": n, "to the next agent": {Name: "here", RootDir: n.RootDir}} {
		if diff := cmp.Diff(want, n.Bound()); diff != "" {
			t.Errorf("%s: %s", when, diff)
		}
	}
}

func TestClaimsAreBound(t *testing.T) {
	t.Parallel()
	named := func(name string) func(*v1.PersistentVolumeClaimSpec) {
		return func(s *v1.PersistentVolumeClaimSpec) { s.VolumeName = name }
	}
	labelled := func(v *v1.PersistentVolume) { v.Labels = map[string]string{"disk": "ssd"} }
	selecting := func(s *v1.PersistentVolumeClaimSpec) {
		s.Selector = &metav1.LabelSelector{MatchLabels: map[string]string{"disk": "ssd"}}
	}
	shared := func(s *v1.PersistentVolumeClaimSpec) {
		s.AccessModes = []v1.PersistentVolumeAccessMode{v1.ReadWriteMany}
	}
	for sentence, c := range map[string]struct {
		claim *v1.PersistentVolumeClaim
		disks []*v1.PersistentVolume
		want  string // where, or the end of the error
	}{
		"none is a folder of its own":         {claim("data", "1Gi"), nil, "claims/shop/data"},
		"the smallest that is large enough":   {claim("data", "2Gi"), []*v1.PersistentVolume{disk("big", "9Gi"), disk("small", "1Gi"), disk("fits", "3Gi")}, "/fits"},
		"of two of one size the first":        {claim("data", "1Gi"), []*v1.PersistentVolume{disk("b", "1Gi"), disk("a", "1Gi")}, "/a"},
		"too small are none":                  {claim("data", "2Gi"), []*v1.PersistentVolume{disk("small", "1Gi")}, "claims/shop/data"},
		"of another class are none":           {claim("data", "1Gi"), []*v1.PersistentVolume{disk("a", "1Gi", class("fast"))}, "claims/shop/data"},
		"of its class":                        {claim("data", "1Gi", ofClass("fast")), []*v1.PersistentVolume{disk("a", "1Gi"), disk("b", "1Gi", class("fast"))}, "/b"},
		"who asks for a class waits for it":   {claim("data", "1Gi", ofClass("fast")), nil, `no persistentvolume of storage class "fast" that is free fits it`},
		"no class at all is asked for, too":   {claim("data", "1Gi", ofClass("")), nil, `no persistentvolume of storage class "" that is free fits it`},
		"by its name":                         {claim("data", "1Gi", named("b")), []*v1.PersistentVolume{disk("a", "1Gi"), disk("b", "9Gi")}, "/b"},
		"by a name that is not there":         {claim("data", "1Gi", named("c")), []*v1.PersistentVolume{disk("a", "1Gi")}, `persistentvolume "c" is not there, is another claim's or does not fit it`},
		"one that is meant for it":            {claim("data", "1Gi"), []*v1.PersistentVolume{disk("a", "1Gi"), disk("b", "9Gi", meantFor("data"))}, "/b"},
		"not one that is meant for another":   {claim("data", "1Gi"), []*v1.PersistentVolume{disk("a", "1Gi", meantFor("other"))}, "claims/shop/data"},
		"by labels":                           {claim("data", "1Gi", selecting), []*v1.PersistentVolume{disk("a", "1Gi"), disk("b", "9Gi", labelled)}, "/b"},
		"labels that no volume has":           {claim("data", "1Gi", selecting), []*v1.PersistentVolume{disk("a", "1Gi")}, `that is free fits it`},
		"who shares wants one that is shared": {claim("data", "1Gi", shared), []*v1.PersistentVolume{disk("a", "1Gi")}, "claims/shop/data"},
		"a local one of this node":            {claim("data", "1Gi"), []*v1.PersistentVolume{disk("a", "1Gi", onNode("there")), disk("b", "2Gi", onNode("here"))}, "/local/b"},
	} {
		t.Run(sentence, func(t *testing.T) {
			t.Parallel()
			n := &Node{RootDir: t.TempDir(), Name: "here"}
			folder, err := n.bind(c.claim, c.disks)
			got := strings.TrimPrefix(folder.Path, n.RootDir+"/")
			if err != nil {
				got = err.Error()
			}
			if got != c.want && (err == nil || !strings.HasSuffix(got, c.want)) {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}

func TestWhatIsBoundStaysBound(t *testing.T) {
	t.Parallel()
	n := &Node{RootDir: t.TempDir(), Name: "here"}
	bound := func(c *v1.PersistentVolumeClaim, want string, disks ...*v1.PersistentVolume) {
		t.Helper()
		next := &Node{RootDir: n.RootDir, Name: n.Name} // an agent after the other
		folder, err := next.bind(c, disks)
		if got, _ := filepath.Rel(n.RootDir, folder.Path); err != nil || folder.Path != want && got != want {
			t.Errorf("%s is at %s, want %s: %v", c.Name, folder.Path, want, err)
		}
	}
	bound(claim("one", "1Gi"), "/a", disk("a", "1Gi"), disk("b", "2Gi"))
	bound(claim("two", "1Gi"), "/b", disk("a", "1Gi"), disk("b", "2Gi"))
	bound(claim("three", "1Gi"), "claims/shop/three", disk("a", "1Gi"), disk("b", "2Gi"))
	bound(claim("three", "1Gi"), "claims/shop/three", disk("c", "1Gi"))
	bound(claim("two", "1Gi"), "/b", disk("c", "1Gi"))
	bound(claim("one", "1Gi"), "/a") // its manifest is gone
	moved := disk("a", "1Gi")
	moved.Spec.HostPath.Path = "/moved"
	bound(claim("one", "1Gi"), "/moved", moved)
	bound(claim("one", "1Gi"), "/moved")
	bound(claim("heir", "1Gi"), "/moved", disk("a", "1Gi", meantFor("heir"), func(v *v1.PersistentVolume) { v.Spec.HostPath = moved.Spec.HostPath }))
	bound(claim("one", "1Gi"), "claims/shop/one", disk("a", "1Gi", meantFor("heir")))
}
