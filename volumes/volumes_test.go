package volumes

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/types"
)

const podUID types.UID = "6c1f"

func podWith(volumes ...v1.Volume) *v1.Pod {
	p := &v1.Pod{}
	p.UID, p.Namespace, p.Name = podUID, "default", "web"
	p.Spec.Volumes = volumes
	p.Spec.Containers = []v1.Container{{Name: "main"}}
	return p
}

func emptyDir(name string) v1.Volume {
	return v1.Volume{Name: name, VolumeSource: v1.VolumeSource{EmptyDir: &v1.EmptyDirVolumeSource{}}}
}

func hostPath(path string, kind v1.HostPathType) v1.Volume {
	return v1.Volume{Name: "host", VolumeSource: v1.VolumeSource{HostPath: &v1.HostPathVolumeSource{Path: path, Type: &kind}}}
}

// open makes a folder for Pods; whatever is left mounted in it after the test is an error.
func open(t testing.TB) *Volumes {
	t.Helper()
	root := filepath.Join(t.TempDir(), "pods")
	t.Cleanup(func() {
		if left := mountsBelow(t, root); len(left) > 0 {
			t.Errorf("left mounted: %v", left)
			if err := unmountBelow(root); err != nil {
				t.Error(err)
			}
		}
	})
	return Open(root, 1<<30)
}

func mountsBelow(t testing.TB, folder string) (out []string) {
	t.Helper()
	mounts, err := mountinfo.GetMounts(mountinfo.PrefixFilter(folder))
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range mounts {
		out = append(out, m.Mountpoint)
	}
	return out
}

func needRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root to mount")
	}
}

func must(t testing.TB, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

func write(t testing.TB, path, content string) {
	t.Helper()
	must(t, os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(content), 0o644))
}

func wantFile(t testing.TB, path, want string) {
	t.Helper()
	if got, err := os.ReadFile(path); err != nil || string(got) != want {
		t.Errorf("%s: got %q, %v; want %q", path, got, err, want)
	}
}

func (v *Volumes) folder(name string) string {
	return filepath.Join(v.root, string(podUID), volumesFolder, emptyDirFolder, name)
}

func TestAnEmptyDirOnDisk(t *testing.T) {
	t.Parallel()
	needRoot(t)
	v := open(t)
	p := podWith(emptyDir("data"))
	must(t, v.Setup(context.Background(), p, Given{}))
	info, err := os.Stat(v.folder("data"))
	if err != nil || info.Mode() != fs.ModeDir|0o777 {
		t.Fatalf("got %v, %v; want mode 0777", info.Mode(), err)
	}
	write(t, filepath.Join(v.folder("data"), "f"), "kept")
	must(t, os.Chmod(v.folder("data"), 0o700), v.Setup(context.Background(), p, Given{}))
	wantFile(t, filepath.Join(v.folder("data"), "f"), "kept")
	if info, err := os.Stat(v.folder("data")); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the mode a container has set is changed to %v, %v", info.Mode(), err)
	}
	must(t, v.Teardown(context.Background(), podUID), v.Teardown(context.Background(), podUID))
	if left, err := os.ReadDir(v.root); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}

func TestAnEmptyDirThatWasInterrupted(t *testing.T) {
	t.Parallel()
	needRoot(t)
	v := open(t)
	must(t, os.MkdirAll(filepath.Join(filepath.Dir(v.folder("data")), ".data"), 0o700), v.Setup(context.Background(), podWith(emptyDir("data")), Given{}))
	if info, err := os.Stat(v.folder("data")); err != nil || info.Mode().Perm() != 0o777 {
		t.Errorf("got %v, %v; want mode 0777", info.Mode(), err)
	}
}

func TestAnEmptyDirWithFSGroup(t *testing.T) {
	t.Parallel()
	needRoot(t)
	v := open(t)
	memory := emptyDir("memory")
	memory.EmptyDir.Medium = v1.StorageMediumMemory
	p := podWith(emptyDir("disk"), memory)
	p.Spec.SecurityContext = &v1.PodSecurityContext{FSGroup: new(int64(4711))}
	must(t, v.Setup(context.Background(), p, Given{}))
	for _, name := range []string{"disk", "memory"} {
		var st unix.Stat_t
		if err := unix.Stat(v.folder(name), &st); err != nil || st.Gid != 4711 || st.Mode&0o7777 != 0o2777 {
			t.Errorf("%s: got group %d, mode %o, %v; want 4711, 2777", name, st.Gid, st.Mode&0o7777, err)
		}
	}
	must(t, v.Teardown(context.Background(), podUID))
}

func TestAnEmptyDirInMemory(t *testing.T) {
	t.Parallel()
	needRoot(t)
	v := open(t)
	volume := emptyDir("fast")
	volume.EmptyDir.Medium, volume.EmptyDir.SizeLimit = v1.StorageMediumMemory, new(resource.MustParse("1Mi"))
	p := podWith(volume)
	must(t, v.Setup(context.Background(), p, Given{}), v.Setup(context.Background(), p, Given{}))
	if got := mountsBelow(t, v.root); len(got) != 1 {
		t.Errorf("set up twice: got mounts %v, want one", got)
	}
	var st unix.Statfs_t
	must(t, unix.Statfs(v.folder("fast"), &st))
	if size := int64(st.Blocks) * st.Bsize; st.Type != unix.TMPFS_MAGIC || size != 1<<20 {
		t.Errorf("got type %x of %d bytes, want a tmpfs of 1 MiB", st.Type, size)
	}
	must(t, v.Teardown(context.Background(), podUID))
}

func TestTheSizeOfATmpfs(t *testing.T) {
	t.Parallel()
	limited := func(limit string) v1.Container {
		return v1.Container{Resources: v1.ResourceRequirements{Limits: v1.ResourceList{v1.ResourceMemory: resource.MustParse(limit)}}}
	}
	const node = 8 << 30
	for sentence, c := range map[string]struct {
		containers []v1.Container
		podLevel   *v1.ResourceRequirements
		limit      string
		want       int64
	}{
		"no limit at all is the node's memory":       {[]v1.Container{{}}, nil, "0", node},
		"the volume's own limit":                     {[]v1.Container{{}}, nil, "1Mi", 1 << 20},
		"a limit beyond the node's memory":           {[]v1.Container{{}}, nil, "1Pi", node},
		"the sum of the containers' limits":          {[]v1.Container{limited("1Mi"), limited("2Mi")}, nil, "0", 3 << 20},
		"the smaller of both":                        {[]v1.Container{limited("1Mi")}, nil, "2Mi", 1 << 20},
		"a container without limits frees the pod":   {[]v1.Container{limited("1Mi"), {}}, nil, "0", node},
		"the pod's limit holds for such a container": {[]v1.Container{{}}, new(limited("5Mi").Resources), "0", 5 << 20},
	} {
		t.Run(sentence, func(t *testing.T) {
			t.Parallel()
			p := podWith()
			p.Spec.Containers, p.Spec.Resources = c.containers, c.podLevel
			if got := memorySize(p, &v1.EmptyDirVolumeSource{SizeLimit: new(resource.MustParse(c.limit))}, node); got != c.want {
				t.Errorf("got %d, want %d", got, c.want)
			}
		})
	}
}

func TestHostPathTypes(t *testing.T) {
	t.Parallel()
	needRoot(t)
	folder, err := os.MkdirTemp("", "hp") // a socket's path must be short
	must(t, err)
	t.Cleanup(func() { must(t, os.RemoveAll(folder)) })
	at := func(name string) string { return filepath.Join(folder, name) }
	write(t, at("file"), "")
	must(t, os.Mkdir(at("folder"), 0o755), unix.Mkfifo(at("pipe"), 0o600), os.Symlink("folder", at("link")))
	must(t, unix.Mknod(at("block"), unix.S_IFBLK|0o600, 7<<8))
	listener, err := net.Listen("unix", at("socket"))
	must(t, err)
	t.Cleanup(func() { must(t, listener.Close()) })
	for sentence, c := range map[string]struct {
		path  string
		kind  v1.HostPathType
		fails string
	}{
		"no type, nothing there":                 {at("none"), "", ""},
		"Directory":                              {at("folder"), "Directory", ""},
		"Directory through a symlink":            {at("link"), "Directory", ""},
		"Directory that is a file":               {at("file"), "Directory", "is a file, want a directory"},
		"Directory that is missing":              {at("none"), "Directory", "no such file"},
		"DirectoryOrCreate makes it":             {at("new/deep"), "DirectoryOrCreate", ""},
		"DirectoryOrCreate that is a file":       {at("file"), "DirectoryOrCreate", "is a file, want a directory"},
		"DirectoryOrCreate below a file":         {at("file/x"), "DirectoryOrCreate", "not a directory"},
		"File":                                   {at("file"), "File", ""},
		"File that is a directory":               {at("folder"), "File", "is a directory, want a file"},
		"File that is missing":                   {at("none"), "File", "no such file"},
		"FileOrCreate makes it":                  {at("newfile"), "FileOrCreate", ""},
		"FileOrCreate that is a directory":       {at("folder"), "FileOrCreate", "is a directory, want a file"},
		"FileOrCreate makes no folders":          {at("none/file"), "FileOrCreate", "the folder it is in must exist"},
		"Socket":                                 {at("socket"), "Socket", ""},
		"Socket that is a pipe":                  {at("pipe"), "Socket", "is a named pipe, want a socket"},
		"CharDevice":                             {"/dev/null", "CharDevice", ""},
		"CharDevice that is a block device":      {at("block"), "CharDevice", "is a block device, want a character device"},
		"BlockDevice":                            {at("block"), "BlockDevice", ""},
		"BlockDevice that is a character device": {"/dev/null", "BlockDevice", "is a character device, want a block device"},
		"a type nobody knows":                    {at("file"), "Fifo", `type "Fifo" is not known`},
	} {
		t.Run(sentence, func(t *testing.T) {
			err := Open(folder, 1<<30).Setup(context.Background(), podWith(hostPath(c.path, c.kind)), Given{})
			switch {
			case c.fails == "" && err != nil:
				t.Error(err)
			case c.fails != "" && (err == nil || !strings.Contains(err.Error(), c.fails) || !strings.Contains(err.Error(), `volume "host"`)):
				t.Errorf("got %v, want %q", err, c.fails)
			}
		})
	}
	for path, want := range map[string]fs.FileMode{at("new/deep"): fs.ModeDir | 0o755, at("newfile"): 0o644} {
		if info, err := os.Stat(path); err != nil || info.Mode() != want {
			t.Errorf("%s: got %v, %v; want %v", path, info, err, want)
		}
	}
	if _, err := os.Stat(at("none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("setting up a host path without a type made it: %v", err)
	}
}

func noExpansion(s string) string { return s }

func TestMounts(t *testing.T) {
	t.Parallel()
	host := t.TempDir()
	v := open(t)
	p := podWith(emptyDir("data"), hostPath(filepath.Join(host, "missing"), ""))
	p.Spec.Containers[0].VolumeMounts = []v1.VolumeMount{
		{Name: "data", MountPath: "/data"},
		{Name: "data", MountPath: "relative", ReadOnly: true},
		{Name: "host", MountPath: "/a", MountPropagation: new(v1.MountPropagationHostToContainer)},
		{Name: "host", MountPath: "/b", MountPropagation: new(v1.MountPropagationBidirectional)},
		{Name: "host", MountPath: "/c", MountPropagation: new(v1.MountPropagationNone)},
	}
	got, release, err := v.Mounts(p, &p.Spec.Containers[0], Given{}, noExpansion)
	must(t, err, release())
	want := []Mount{
		{Source: v.folder("data"), Destination: "/data", Propagation: "rprivate"},
		{Source: v.folder("data"), Destination: "/relative", ReadOnly: true, Propagation: "rprivate"},
		{Source: filepath.Join(host, "missing"), Destination: "/a", Propagation: "rslave"},
		{Source: filepath.Join(host, "missing"), Destination: "/b", Propagation: "rshared"},
		{Source: filepath.Join(host, "missing"), Destination: "/c", Propagation: "rprivate"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if info, err := os.Stat(filepath.Join(host, "missing")); err != nil || !info.IsDir() {
		t.Errorf("a host path without a type that is missing is made when a container starts: %v", err)
	}
}

func TestWhatIsRefused(t *testing.T) {
	t.Parallel()
	v := open(t)
	secret := v1.Volume{Name: "s", VolumeSource: v1.VolumeSource{Secret: &v1.SecretVolumeSource{}}}
	huge := emptyDir("h")
	huge.EmptyDir.Medium = "Floppy"
	claim := v1.Volume{Name: "c", VolumeSource: v1.VolumeSource{PersistentVolumeClaim: &v1.PersistentVolumeClaimVolumeSource{}}}
	foreign := v1.Volume{Name: "i", VolumeSource: v1.VolumeSource{ISCSI: &v1.ISCSIVolumeSource{}}}
	for want, p := range map[string]*v1.Pod{
		`volume "s": its files are not given`:            podWith(secret),
		`volume "c": its folder is not given`:            podWith(claim),
		`volume "i": source iscsi is not supported`:      podWith(foreign),
		`volume "n": a volume without a source`:          podWith(v1.Volume{Name: "n"}),
		`medium "Floppy" is not supported`:               podWith(huge),
		`"../../etc" cannot name a folder`:               podWith(emptyDir("../../etc")),
		`find folder of pod: ".." cannot name a folder`:  func() *v1.Pod { p := podWith(); p.UID = ".."; return p }(),
		`find folder of pod: "" cannot name a folder`:    func() *v1.Pod { p := podWith(); p.UID = ""; return p }(),
		`find folder of pod: "a/b" cannot name a folder`: func() *v1.Pod { p := podWith(); p.UID = "a/b"; return p }(),
	} {
		if err := v.Setup(context.Background(), p, Given{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	p := podWith()
	p.Spec.Containers[0].VolumeMounts = []v1.VolumeMount{{Name: "gone", MountPath: "/x"}}
	if _, release, err := v.Mounts(p, &p.Spec.Containers[0], Given{}, noExpansion); err == nil || release() != nil || !strings.Contains(err.Error(), "no volume of this name") {
		t.Errorf("got %v", err)
	}
	for _, volume := range []v1.Volume{claim, foreign} {
		p := podWith(volume)
		p.Spec.Containers[0].VolumeMounts = []v1.VolumeMount{{Name: volume.Name, MountPath: "/x"}}
		want := fmt.Sprintf("mount volume %q at /x: ", volume.Name)
		if _, _, err := v.Mounts(p, &p.Spec.Containers[0], Given{}, noExpansion); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	if err := v.Update(podWith(secret, emptyDir("data")), Given{}); err == nil || err.Error() != `update volume "s": its files are not given` {
		t.Errorf("got %v", err)
	}
	for _, uid := range []types.UID{"", ".", "..", "a/b"} {
		if err := v.Teardown(context.Background(), uid); err == nil {
			t.Errorf("teardown of %q is accepted", uid)
		}
	}
}
