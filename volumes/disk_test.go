package volumes

import (
	"maps"
	"testing"

	v1 "k8s.io/api/core/v1"
)

func TestEmptyDirsOnDisk(t *testing.T) {
	t.Parallel()
	memory := emptyDir("memory")
	memory.EmptyDir.Medium = v1.StorageMediumMemory
	v := Open("/pods", 0)
	got, err := v.EmptyDirs(podWith(emptyDir("data"), memory, hostPath("/srv", "")))
	if want := map[string]string{"data": "/pods/6c1f/volumes/kubernetes.io~empty-dir/data"}; err != nil || !maps.Equal(got, want) {
		t.Errorf("they are %v, %v, want %v", got, err, want)
	}
	if got, err := v.EmptyDirs(podWith(emptyDir("../data"))); err == nil {
		t.Errorf("a name that leads elsewhere is %v", got)
	}
}
