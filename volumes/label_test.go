package volumes

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	v1 "k8s.io/api/core/v1"
)

// aLabel is one that a kernel with SELinux need not know: what is written beside a file is any text to others.
const aLabel = "system_u:object_r:container_file_t:s0:c1,c2"

// wantLabel compares the SELinux label of a file, where it has a label, and skips the test where none can be set.
func wantLabel(t *testing.T, path, label string) {
	t.Helper()
	buffer := make([]byte, 256)
	n, err := unix.Lgetxattr(path, "security.selinux", buffer)
	if errors.Is(err, unix.EOPNOTSUPP) {
		t.Skip("this file system keeps no labels")
	}
	if got := strings.TrimRight(string(buffer[:max(n, 0)]), "\x00"); got != label || err != nil && !errors.Is(err, unix.ENODATA) {
		t.Errorf("%s has the label %q, %v; want %q", path, got, err, label)
	}
}

// noSELinux skips the test on a host whose every file has a label, and where no policy knows others.
func noSELinux(t *testing.T) {
	t.Helper()
	needRoot(t)
	if _, err := unix.Lgetxattr(t.TempDir(), "security.selinux", make([]byte, 256)); err == nil {
		t.Skip("hack/nodetest/run -selinux looks at labels where there is SELinux")
	}
}

func TestLabelOfAFolder(t *testing.T) {
	t.Parallel()
	noSELinux(t)
	for sentence, r := range map[string]struct {
		folder Folder
		label  string
		want   string
	}{
		"all that is in it":             {Folder{Ownership: true}, aLabel, aLabel},
		"a Pod without one":             {Folder{Ownership: true}, "", ""},
		"a folder that is the host's":   {Folder{}, aLabel, ""},
		"a folder that is only read in": {Folder{Ownership: true, ReadOnly: true}, aLabel, ""},
	} {
		t.Run(sentence, func(t *testing.T) {
			t.Parallel()
			v := Open(t.TempDir(), 1<<30)
			folder, outside := tree(t)
			r.folder.Path = folder
			given := folders(r.folder)
			given.Label = r.label
			for range 2 {
				must(t, v.Setup(t.Context(), podWith(claim()), given))
			}
			for _, path := range []string{"", "sub", "sub/deep", "sub/deep/f", "run", "pipe", "null", "link", "sub/link"} {
				wantLabel(t, filepath.Join(folder, path), r.want)
			}
			wantLabel(t, outside, "")
			wantLabel(t, filepath.Join(outside, "f"), "")
		})
	}
}

func TestLabelOfAnEmptyDir(t *testing.T) {
	t.Parallel()
	noSELinux(t)
	v := Open(t.TempDir(), 1<<30)
	p := podWith(v1.Volume{Name: "v", VolumeSource: v1.VolumeSource{EmptyDir: &v1.EmptyDirVolumeSource{}}})
	must(t, v.Setup(t.Context(), p, Given{Label: aLabel}))
	mounts, release, err := v.Mounts(p, &v1.Container{VolumeMounts: []v1.VolumeMount{{Name: "v", MountPath: "/v"}}}, Given{}, nil)
	must(t, err, release())
	wantLabel(t, mounts[0].Source, aLabel)
}

// A file system in memory gets the label as an option, which a kernel without SELinux does not know.
func TestLabelOfWhatIsInMemory(t *testing.T) {
	t.Parallel()
	noSELinux(t)
	for sentence, source := range map[string]v1.VolumeSource{
		"emptyDir":  {EmptyDir: &v1.EmptyDirVolumeSource{Medium: v1.StorageMediumMemory}},
		"configMap": {ConfigMap: &v1.ConfigMapVolumeSource{}},
	} {
		t.Run(sentence, func(t *testing.T) {
			t.Parallel()
			given := Given{Files: map[string][]File{"v": nil}, Label: aLabel}
			err := Open(t.TempDir(), 1<<30).Setup(t.Context(), podWith(v1.Volume{Name: "v", VolumeSource: source}), given)
			if err == nil || !strings.Contains(err.Error(), "option context="+aLabel) {
				t.Errorf("it is mounted without: %v", err)
			}
		})
	}
}
