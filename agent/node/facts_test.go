package node

import (
	"testing"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

func TestMemoryInHugePagesIsNotAllocatable(t *testing.T) {
	t.Parallel()
	has := v1.ResourceList{v1.ResourceMemory: resource.MustParse("4Gi"), "hugepages-2Mi": resource.MustParse("1Gi"), "hugepages-1Gi": resource.MustParse("1Gi")}
	left := allocatable(has)
	if got := left[v1.ResourceMemory]; got.String() != "2Gi" || has.Memory().String() != "4Gi" || len(left) != 3 {
		t.Errorf("of %v there is left %v", has, left)
	}
	if got := allocatable(v1.ResourceList{v1.ResourceMemory: resource.MustParse("1Gi"), "hugepages-1Gi": resource.MustParse("2Gi")}); got.Memory().Sign() != 0 {
		t.Errorf("more pages than memory leave %v", got)
	}
}

func TestTheNameOfASystem(t *testing.T) {
	t.Parallel()
	for release, want := range map[string]string{
		"NAME=Debian\nPRETTY_NAME=\"Debian GNU/Linux 13 (trixie)\"\n": "Debian GNU/Linux 13 (trixie)",
		"PRETTY_NAME='Alpine Linux v3.22'":                            "Alpine Linux v3.22",
		"NAME=x\n":                                                    "Unknown",
		"":                                                            "Unknown",
	} {
		if got := osImage(release); got != want {
			t.Errorf("%q is %q, want %q", release, got, want)
		}
	}
}
