package volumes

import (
	"context"
	"os"
	"strings"
	"testing"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// asking is a container that asks for huge pages of these sizes.
func asking(sizes ...string) v1.Container {
	requests := v1.ResourceList{v1.ResourceMemory: resource.MustParse("1Gi")}
	for _, size := range sizes {
		requests[v1.ResourceName(v1.ResourceHugePagesPrefix+size)] = resource.MustParse("2Gi")
	}
	return v1.Container{Resources: v1.ResourceRequirements{Requests: requests}}
}

func TestTheSizeOfHugePages(t *testing.T) {
	t.Parallel()
	const none = "hugePages storage requested, but there is no resource request for huge pages"
	for sentence, c := range map[string]struct {
		medium     v1.StorageMedium
		containers []v1.Container
		init       []v1.Container
		podLevel   []v1.Container
		want       int64
		fails      string
	}{
		"the one size the containers ask for":   {"HugePages", []v1.Container{asking("2Mi"), asking(), asking("2Mi")}, nil, nil, 2 << 20, ""},
		"of an init container":                  {"HugePages", []v1.Container{asking()}, []v1.Container{asking("1Gi")}, nil, 1 << 30, ""},
		"of the pod":                            {"HugePages", []v1.Container{asking()}, nil, []v1.Container{asking("2Mi")}, 2 << 20, ""},
		"more than one size":                    {"HugePages", []v1.Container{asking("2Mi"), asking("1Gi")}, nil, nil, 0, "medium: HugePages can't be used if container requests multiple huge page sizes"},
		"more than one size of one container":   {"HugePages", []v1.Container{asking("2Mi", "1Gi")}, nil, nil, 0, "multiple huge page sizes"},
		"nobody asks for any":                   {"HugePages", []v1.Container{asking()}, nil, nil, 0, "medium HugePages: " + none},
		"a size, and others beside it":          {"HugePages-1Gi", []v1.Container{asking("2Mi", "1Gi")}, nil, nil, 1 << 30, ""},
		"a size that is written in another way": {"HugePages-2048Ki", []v1.Container{asking("2Mi")}, nil, nil, 2 << 20, ""},
		"a size that nobody asks for":           {"HugePages-1Gi", []v1.Container{asking("2Mi")}, nil, nil, 0, "medium HugePages-1Gi: " + none},
		"a size that is none":                   {"HugePages-big", []v1.Container{asking("2Mi")}, nil, nil, 0, `medium "HugePages-big": want HugePages-<size>`},
		"no size after the dash":                {"HugePages-", []v1.Container{asking("2Mi")}, nil, nil, 0, "want HugePages-<size>"},
		"a size below nothing":                  {"HugePages--2Mi", []v1.Container{asking("2Mi")}, nil, nil, 0, "want HugePages-<size>"},
		"a request that is none":                {"HugePages", []v1.Container{asking("big")}, nil, nil, 0, "resource hugepages-big: want hugepages-<size>"},
	} {
		t.Run(sentence, func(t *testing.T) {
			t.Parallel()
			p := podWith()
			p.Spec.Containers, p.Spec.InitContainers = c.containers, c.init
			if c.podLevel != nil {
				p.Spec.Resources = &c.podLevel[0].Resources
			}
			got, err := hugePageSize(p, c.medium)
			if got != c.want || (err == nil) != (c.fails == "") || err != nil && !strings.Contains(err.Error(), c.fails) {
				t.Errorf("got %d, %v; want %d, %q", got, err, c.want, c.fails)
			}
		})
	}
}

func TestAnEmptyDirOfHugePages(t *testing.T) {
	t.Parallel()
	needRoot(t)
	if _, err := os.Stat("/sys/kernel/mm/hugepages/hugepages-2048kB"); err != nil {
		t.Skipf("the kernel has no huge pages of 2 MiB: %v", err)
	}
	limit := resource.MustParse("7Mi")
	for sentence, c := range map[string]struct {
		medium v1.StorageMedium
		limit  *resource.Quantity
		pages  uint64
	}{
		"of the one size that is asked for": {"HugePages", nil, 0},
		"of a size":                         {"HugePages-2Mi", nil, 0},
		"of so many bytes, in whole pages":  {"HugePages-2Mi", &limit, 3},
	} {
		t.Run(sentence, func(t *testing.T) {
			t.Parallel()
			v := open(t)
			volume := emptyDir("data")
			volume.EmptyDir.Medium, volume.EmptyDir.SizeLimit = c.medium, c.limit
			p := withGroup(podWith(volume), 4711)
			p.Spec.Containers = []v1.Container{asking("2Mi")}
			must(t, v.Setup(t.Context(), p, Given{}), v.Setup(t.Context(), p, Given{}))
			if got := mountsBelow(t, v.root); len(got) != 1 {
				t.Errorf("set up twice: got mounts %v, want one", got)
			}
			var st unix.Statfs_t
			must(t, unix.Statfs(v.folder("data"), &st))
			if st.Type != unix.HUGETLBFS_MAGIC || st.Bsize != 2<<20 {
				t.Errorf("got type %x with pages of %d bytes", st.Type, st.Bsize)
			}
			if st.Blocks != c.pages {
				t.Errorf("got room for %d pages, want %d", st.Blocks, c.pages)
			}
			wantOwned(t, v.folder("data"), 0o2777, 4711)
			must(t, v.Teardown(context.Background(), podUID))
		})
	}
}

func TestHugePagesThatTheNodeHasNot(t *testing.T) {
	t.Parallel()
	needRoot(t)
	v := open(t)
	volume := emptyDir("data")
	volume.EmptyDir.Medium = "HugePages"
	p := podWith(volume)
	p.Spec.Containers = []v1.Container{asking("3Mi")}
	if err := v.Setup(t.Context(), p, Given{}); err == nil || !strings.Contains(err.Error(), "the node may have no huge pages of 3Mi") {
		t.Errorf("got %v", err)
	}
	must(t, v.Teardown(context.Background(), podUID))
}

func TestTheModeOfAnEmptyDir(t *testing.T) {
	t.Parallel()
	needRoot(t)
	for sentence, c := range map[string]struct {
		mode    *int32
		fsGroup int64
		want    uint32
	}{
		"all may write":                     {nil, -1, 0o777},
		"all may write, with fsGroup":       {nil, 3000, 0o2777},
		"only its owner":                    {new(int32(0o700)), -1, 0o700},
		"only its owner, and fsGroup":       {new(int32(0o700)), 3000, 0o2770},
		"others may read, with fsGroup":     {new(int32(0o755)), 3000, 0o2775},
		"each deletes only their own":       {new(int32(0o1777)), -1, 0o1777},
		"nobody":                            {new(int32(0)), -1, 0},
		"no bits but those that Mode knows": {new(int32(0o6755)), -1, 0o755},
	} {
		for _, medium := range []v1.StorageMedium{"", "Memory"} {
			t.Run(sentence+" "+string(medium), func(t *testing.T) {
				t.Parallel()
				volume := emptyDir("data")
				volume.EmptyDir.Medium, volume.EmptyDir.Mode = medium, c.mode
				v, p, gid := open(t), podWith(volume), uint32(0)
				if c.fsGroup >= 0 {
					withGroup(p, c.fsGroup)
					gid = uint32(c.fsGroup)
				}
				must(t, v.Setup(t.Context(), p, Given{}))
				wantOwned(t, v.folder("data"), c.want, gid)
				must(t, v.Teardown(context.Background(), podUID))
			})
		}
	}
}

func TestSecretsAreNotSwapped(t *testing.T) {
	t.Parallel()
	needRoot(t)
	fd, err := unix.Fsopen("tmpfs", unix.FSOPEN_CLOEXEC)
	must(t, err)
	defer unix.Close(fd)
	if err := unix.FsconfigSetFlag(fd, "noswap"); err != nil {
		t.Skipf("the kernel has no tmpfs that is not swapped: %v", err)
	}
	v := open(t)
	p, folder := payloadPod(v, secretFolder)
	must(t, v.Setup(t.Context(), p, given(file("a", "1"))))
	mounts, err := mountinfo.GetMounts(mountinfo.SingleEntryFilter(folder))
	if err != nil || len(mounts) != 1 || !strings.Contains(","+mounts[0].VFSOptions+",", ",noswap,") {
		t.Errorf("got %v, %v", mounts, err)
	}
	must(t, v.Teardown(context.Background(), podUID))
}
