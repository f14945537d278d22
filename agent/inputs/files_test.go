package inputs

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
)

func TestFiles(t *testing.T) {
	t.Parallel()
	field := func(path, of string) v1.DownwardAPIVolumeFile {
		return v1.DownwardAPIVolumeFile{Path: path, FieldRef: &v1.ObjectFieldSelector{FieldPath: of}}
	}
	memory := v1.DownwardAPIVolumeFile{
		Path: "limits/memory", Mode: ptr.To[int32](0o400),
		ResourceFieldRef: &v1.ResourceFieldSelector{ContainerName: "app", Resource: "limits.memory", Divisor: resource.MustParse("1Mi")},
	}
	pod := func(source v1.VolumeSource) *v1.Pod {
		return &v1.Pod{
			ObjectMeta: metav1.ObjectMeta{Name: "web", Labels: map[string]string{"b": "2", "a": `with "quotes"`}},
			Spec: v1.PodSpec{
				Containers: []v1.Container{{Name: "app", Resources: v1.ResourceRequirements{Limits: v1.ResourceList{"memory": resource.MustParse("64Mi")}}}},
				Volumes:    []v1.Volume{{Name: "about", VolumeSource: source}, {Name: "other", VolumeSource: v1.VolumeSource{EmptyDir: &v1.EmptyDirVolumeSource{}}}},
			},
		}
	}
	for sentence, c := range map[string]struct {
		source v1.VolumeSource
		want   []File
		err    string
	}{
		"fields and resources, each with its mode": {
			source: v1.VolumeSource{DownwardAPI: &v1.DownwardAPIVolumeSource{DefaultMode: ptr.To[int32](0o640), Items: []v1.DownwardAPIVolumeFile{
				field("name", "metadata.name"), field("labels", "metadata.labels"), field("a", "metadata.labels['b']"), memory,
			}}},
			want: []File{
				{"name", []byte("web"), 0o640, nil}, {"labels", []byte("a=\"with \\\"quotes\\\"\"\nb=\"2\""), 0o640, nil}, {"a", []byte("2"), 0o640, nil},
				{"limits/memory", []byte("64"), 0o400, nil},
			},
		},
		"the sources of a projected volume are together": {
			source: v1.VolumeSource{Projected: &v1.ProjectedVolumeSource{Sources: []v1.VolumeProjection{
				{DownwardAPI: &v1.DownwardAPIProjection{Items: []v1.DownwardAPIVolumeFile{field("one", "metadata.name")}}}, {},
				{DownwardAPI: &v1.DownwardAPIProjection{Items: []v1.DownwardAPIVolumeFile{field("two", "metadata.namespace")}}},
			}}},
			want: []File{{"one", []byte("web"), 0o644, nil}, {"two", []byte{}, 0o644, nil}},
		},
		"no items are no files": {source: v1.VolumeSource{DownwardAPI: &v1.DownwardAPIVolumeSource{}}, want: []File{}},
		"a container that there is not": {
			source: v1.VolumeSource{DownwardAPI: &v1.DownwardAPIVolumeSource{Items: []v1.DownwardAPIVolumeFile{
				{Path: "cpu", ResourceFieldRef: &v1.ResourceFieldSelector{ContainerName: "none", Resource: "limits.cpu"}},
			}}},
			err: `MountVolume.SetUp failed for volume "about" : cpu: resourceFieldRef: no container "none"`,
		},
	} {
		got, err := Files(Facts{Pod: pod(c.source)})
		if c.err != "" {
			if err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%s: %v, want %s", sentence, err, c.err)
			}
			continue
		}
		if diff := cmp.Diff(map[string][]File{"about": c.want}, got); diff != "" || err != nil {
			t.Errorf("%s: %v (-want +got):\n%s", sentence, err, diff)
		}
	}
}
