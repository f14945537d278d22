package volumes

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
	v1 "k8s.io/api/core/v1"
)

// imageVolume is the volume "v" that is an image.
func imageVolume() v1.Volume {
	return v1.Volume{Name: "v", VolumeSource: v1.VolumeSource{Image: &v1.ImageVolumeSource{Reference: "files"}}}
}

func TestAFolderIsMadeWhereItIsMissing(t *testing.T) {
	t.Parallel()
	needRoot(t)
	for sentence, c := range map[string]struct {
		prepare func(parent string) error
		folder  Folder
		fsGroup int64
		mode    uint32
		gid     uint32
		fails   string
	}{
		"it is missing": {nil, Folder{Create: true}, -1, 0o777, 0, ""},
		"it is missing, and what it is in": {
			os.Remove, Folder{Create: true}, -1, 0o777, 0, "",
		},
		"with fsGroup":             {nil, Folder{Create: true, Ownership: true}, 3000, 0o2777, 3000, ""},
		"with fsGroup, not for it": {nil, Folder{Create: true}, 3000, 0o777, 0, ""},
		"it was made, and no more": {func(f string) error { return unix.Mkdir(f+"/v", unfinishedMode) }, Folder{Create: true}, -1, 0o777, 0, ""},
		"it is there":              {func(f string) error { return os.Mkdir(f+"/v", 0o700) }, Folder{Create: true}, -1, 0o700, 0, ""},
		"it is there, locked":      {func(f string) error { return unix.Mkdir(f+"/v", 0) }, Folder{Create: true}, -1, 0, 0, ""},
		"it is not to be made":     {nil, Folder{}, -1, 0, 0, "no such file"},
		"it is a file":             {func(f string) error { return os.WriteFile(f+"/v", nil, 0o600) }, Folder{Create: true}, -1, 0o600, 0, "is a file, want a directory"},
		"it is a file of the mode of a folder that was begun": {func(f string) error { return unix.Mknod(f+"/v", unix.S_IFREG|unfinishedMode, 0) }, Folder{Create: true}, -1, unfinishedMode, 0, "is a file, want a directory"},
		"it is a symlink to a file":                           {func(f string) error { return os.Symlink("/dev/null", f+"/v") }, Folder{Create: true}, -1, 0o777, 0, "is a character device, want a directory"},
		"it is in a file":                                     {func(f string) error { return os.WriteFile(f+"/v", nil, 0o600) }, Folder{Create: true, Path: "v/deep"}, -1, 0o600, 0, "not a directory"},
	} {
		t.Run(sentence, func(t *testing.T) {
			t.Parallel()
			parent := filepath.Join(t.TempDir(), "parent")
			must(t, os.Mkdir(parent, 0o755))
			if c.prepare != nil {
				must(t, c.prepare(parent))
			}
			v, p := open(t), podWith(claim())
			if c.fsGroup >= 0 {
				withGroup(p, c.fsGroup)
			}
			at := filepath.Join(parent, "v")
			if c.folder.Path == "" {
				c.folder.Path = "v"
			}
			c.folder.Path = filepath.Join(parent, c.folder.Path)
			for range 2 {
				err := v.Setup(t.Context(), p, folders(c.folder))
				if c.fails == "" {
					must(t, err)
				} else {
					wantRefusalOf(t, err, c.fails)
				}
			}
			if c.fails == "" || c.mode != 0 {
				wantOwned(t, at, c.mode, c.gid)
			}
		})
	}
}

// wantRefusalOf wants an error with this in it, about the volume "v".
func wantRefusalOf(t *testing.T, err error, want string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), `volume "v"`) {
		t.Errorf("got %v, want %q", err, want)
	}
}

func TestMountsOfFolders(t *testing.T) {
	t.Parallel()
	needRoot(t)
	readOnlyClaim := claim()
	readOnlyClaim.PersistentVolumeClaim.ReadOnly = true
	for sentence, c := range map[string]struct {
		volume   v1.Volume
		readOnly bool
		want     bool
	}{
		"a claim":                         {claim(), false, false},
		"a claim of a read-only volume":   {claim(), true, true},
		"a read-only claim":               {readOnlyClaim, false, true},
		"an image":                        {imageVolume(), false, true},
		"an ephemeral volume":             {v1.Volume{Name: "v", VolumeSource: v1.VolumeSource{Ephemeral: &v1.EphemeralVolumeSource{}}}, false, false},
		"an ephemeral one, read-only":     {v1.Volume{Name: "v", VolumeSource: v1.VolumeSource{Ephemeral: &v1.EphemeralVolumeSource{}}}, true, true},
		"an image that says so by itself": {imageVolume(), true, true},
	} {
		t.Run(sentence, func(t *testing.T) {
			t.Parallel()
			v, p, folder := open(t), podWith(c.volume), t.TempDir()
			given := folders(Folder{Path: folder, ReadOnly: c.readOnly})
			must(t, v.Setup(t.Context(), p, given))
			p.Spec.Containers[0].VolumeMounts = []v1.VolumeMount{{Name: "v", MountPath: "/x"}}
			got, release, err := v.Mounts(p, &p.Spec.Containers[0], given, noExpansion)
			must(t, err, release())
			if diff := cmp.Diff([]Mount{{Source: folder, Destination: "/x", ReadOnly: c.want, Propagation: "rprivate"}}, got); diff != "" {
				t.Error(diff)
			}
			// A subPath that is missing is made only where something may be.
			p.Spec.Containers[0].VolumeMounts[0].SubPath = "missing"
			got, release, err = v.Mounts(p, &p.Spec.Containers[0], given, noExpansion)
			if c.want {
				wantRefusalOf(t, err, `subPath "missing": open missing: no such file`)
			} else if must(t, err); got[0].ReadOnly {
				t.Error("it is read-only")
			}
			must(t, release())
			if _, err := os.Stat(filepath.Join(folder, "missing")); (err == nil) == c.want {
				t.Errorf("the missing folder: %v", err)
			}
			must(t, v.Teardown(context.Background(), podUID))
		})
	}
}

func TestTeardownLeavesFoldersAndImages(t *testing.T) {
	t.Parallel()
	needRoot(t)
	for sentence, flags := range map[string]uintptr{"": unix.MS_BIND, "with what is mounted in it": unix.MS_BIND | unix.MS_REC} {
		t.Run(sentence, func(t *testing.T) {
			t.Parallel()
			host := hostFolder(t, unix.MS_SHARED)
			v := open(t)
			image := imageVolume()
			image.Name = "image"
			p := podWith(claim(), image)
			at, err := v.ImageDir(p, "image")
			must(t, err, unix.Mount(host, at, "", flags, ""))
			given := Given{Folders: map[string]Folder{"v": {Path: host}, "image": {Path: at, ReadOnly: true}}}
			must(t, v.Setup(t.Context(), p, given))
			c := &v1.Container{Name: "main", VolumeMounts: []v1.VolumeMount{
				{Name: "v", MountPath: "/a", SubPath: "sub"}, {Name: "v", MountPath: "/b", SubPath: "file"}, {Name: "image", MountPath: "/c", SubPath: "file"},
			}}
			mounts, _, err := v.Mounts(p, c, given, noExpansion) // never released: the agent was killed
			must(t, err)
			wantFile(t, mounts[2].Source, "host's")
			must(t, v.Teardown(context.Background(), podUID), v.Teardown(context.Background(), podUID))
			wantFile(t, filepath.Join(host, "file"), "host's")
			wantFile(t, filepath.Join(host, "sub/file"), "host's too")
			if left, err := os.ReadDir(v.root); err != nil || len(left) > 0 {
				t.Errorf("left: %v, %v", left, err)
			}
		})
	}
}

func TestTheFolderOfAnImage(t *testing.T) {
	t.Parallel()
	v := open(t)
	at, err := v.ImageDir(podWith(), "v")
	if want := filepath.Join(v.root, string(podUID), "volumes/kubernetes.io~image/v"); err != nil || at != want {
		t.Errorf("got %s, %v; want %s", at, err, want)
	}
	if info, err := os.Stat(at); err != nil || info.Mode() != fs.ModeDir|0o750 {
		t.Errorf("got %v, %v", info, err)
	}
	if _, err := v.ImageDir(podWith(), "../v"); err == nil {
		t.Error("a name that leads out is accepted")
	}
}

func TestRecursiveReadOnly(t *testing.T) {
	t.Parallel()
	mode := func(readOnly bool, mode v1.RecursiveReadOnlyMode, propagation v1.MountPropagationMode) v1.VolumeMount {
		m := v1.VolumeMount{ReadOnly: readOnly}
		if mode != "" {
			m.RecursiveReadOnly = &mode
		}
		if propagation != "" {
			m.MountPropagation = &propagation
		}
		return m
	}
	for sentence, c := range map[string]struct {
		mount    v1.VolumeMount
		possible bool
		want     bool
		fails    string
	}{
		"nothing is said":                  {mode(true, "", ""), true, false, ""},
		"Disabled":                         {mode(true, "Disabled", ""), true, false, ""},
		"Disabled where nothing read-only": {mode(false, "Disabled", ""), true, false, ""},
		"Enabled":                          {mode(true, "Enabled", "None"), true, true, ""},
		"Enabled, but the kernel cannot":   {mode(true, "Enabled", ""), false, false, "the kernel cannot"},
		"IfPossible":                       {mode(true, "IfPossible", ""), true, true, ""},
		"IfPossible, but it is not":        {mode(true, "IfPossible", ""), false, false, ""},
		"Enabled, not read-only":           {mode(false, "Enabled", ""), true, false, "the mount must be readOnly"},
		"IfPossible, not read-only":        {mode(false, "IfPossible", ""), true, false, "the mount must be readOnly"},
		"Enabled, with propagation":        {mode(true, "Enabled", "HostToContainer"), true, false, "mountPropagation must be None, not HostToContainer"},
		"IfPossible, with propagation":     {mode(true, "IfPossible", "Bidirectional"), true, false, "mountPropagation must be None, not Bidirectional"},
		"a mode nobody knows":              {mode(true, "Perhaps", ""), true, false, `recursiveReadOnly "Perhaps" is not known`},
	} {
		t.Run(sentence, func(t *testing.T) {
			got, err := recursive(&c.mount, c.possible)
			if got != c.want || (err == nil) != (c.fails == "") || err != nil && !strings.Contains(err.Error(), c.fails) {
				t.Errorf("got %v, %v; want %v, %q", got, err, c.want, c.fails)
			}
		})
	}
}

func TestRecursiveReadOnlyMountsOfEachKind(t *testing.T) {
	t.Parallel()
	if !kernelRecursive() {
		t.Skip("needs mount_setattr(2)")
	}
	host := t.TempDir()
	v := open(t)
	var volumes []v1.Volume
	for name, source := range payloads {
		volumes = append(volumes, v1.Volume{Name: name, VolumeSource: source})
	}
	volumes = append(volumes, emptyDir("data"), hostPath(host, ""), claim())
	p := podWith(volumes...)
	for _, volume := range volumes {
		p.Spec.Containers[0].VolumeMounts = append(p.Spec.Containers[0].VolumeMounts,
			v1.VolumeMount{Name: volume.Name, MountPath: "/" + volume.Name, ReadOnly: true, RecursiveReadOnly: new(v1.RecursiveReadOnlyEnabled)})
	}
	got, release, err := v.Mounts(p, &p.Spec.Containers[0], folders(Folder{Path: host}), noExpansion)
	must(t, err, release())
	if len(got) != len(volumes) {
		t.Errorf("got %d mounts, want %d", len(got), len(volumes))
	}
	for _, m := range got {
		if !m.Recursive || !m.ReadOnly {
			t.Errorf("%s: got recursive %v, read-only %v", m.Destination, m.Recursive, m.ReadOnly)
		}
	}
	p.Spec.Containers[0].VolumeMounts[0].ReadOnly = false
	if _, _, err := v.Mounts(p, &p.Spec.Containers[0], folders(Folder{Path: host}), noExpansion); err == nil {
		t.Error("a mount that is not to be read-only is accepted")
	}
}

func TestFilesAreAlwaysMountedReadOnly(t *testing.T) {
	t.Parallel()
	for kind := range payloads {
		v := open(t)
		p, folder := payloadPod(v, kind)
		p.Spec.Containers[0].VolumeMounts = []v1.VolumeMount{{Name: "v", MountPath: "/x"}}
		got, release, err := v.Mounts(p, &p.Spec.Containers[0], Given{}, noExpansion)
		must(t, err, release())
		if diff := cmp.Diff([]Mount{{Source: folder, Destination: "/x", ReadOnly: true, Propagation: "rprivate"}}, got); diff != "" {
			t.Error(diff)
		}
	}
}
