package node

import (
	"os"
	"testing"

	v1 "k8s.io/api/core/v1"
)

func TestFilesOfVolumesNeedNoFolders(t *testing.T) {
	t.Parallel()
	n := &Node{RootDir: t.TempDir(), Name: "here"}
	pod := &v1.Pod{Spec: v1.PodSpec{Volumes: []v1.Volume{
		{Name: "data", VolumeSource: v1.VolumeSource{PersistentVolumeClaim: &v1.PersistentVolumeClaimVolumeSource{ClaimName: "gone"}}},
		{Name: "about", VolumeSource: v1.VolumeSource{DownwardAPI: &v1.DownwardAPIVolumeSource{
			Items: []v1.DownwardAPIVolumeFile{{Path: "name", FieldRef: &v1.ObjectFieldSelector{FieldPath: "metadata.name"}}},
		}}},
	}}}
	files, err := n.files(Target{Pod: pod})
	if err != nil || len(files["about"]) != 1 || files["about"][0].Path != "name" {
		t.Errorf("files are %v: %v", files, err)
	}
	if made, _ := os.ReadDir(n.RootDir); len(made) > 0 {
		t.Errorf("to look at them has made %v", made)
	}
}
