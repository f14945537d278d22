package runtime

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/containerd/v2/core/mount"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
	v1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"
)

func TestMappable(t *testing.T) {
	t.Parallel()
	for sentence, r := range map[string]struct{ release, most, want string }{
		"a kernel of today":            {"6.18.4-generic", "15000", ""},
		"the first one":                {"5.19", "1", ""},
		"one before":                   {"5.18.19-1-amd64", "15000", "need Linux 5.19, for tmpfs 6.3, and this is 5.18.19-1-amd64"},
		"one long before":              {"4.19.0", "15000", "need Linux 5.19"},
		"one that cannot be told":      {"next", "15000", ""},
		"one that allows no namespace": {"6.1.0", "0", "sysctl -w user.max_user_namespaces"},
	} {
		t.Run(sentence, func(t *testing.T) {
			t.Parallel()
			err := mappable(r.release, r.most)
			if (err == nil) != (r.want == "") || err != nil && !strings.Contains(err.Error(), r.want) {
				t.Errorf("got %v, want %q", err, r.want)
			}
		})
	}
}

func TestCommonDir(t *testing.T) {
	t.Parallel()
	for want, dirs := range map[string][]string{
		"/s/1/fs": {"/s/1/fs"},
		"/s":      {"/s/1/fs", "/s/12/fs", "/s/2/fs"},
		"/s/1":    {"/s/1/fs", "/s/1"},
		"/":       {"/s/1/fs", "/t/1/fs"},
	} {
		if got := commonDir(dirs); got != want {
			t.Errorf("%v: got %s, want %s", dirs, got, want)
		}
	}
}

// mapped are ids that nobody else on a host has.
var mapped = Users{First: 1_900_085_248, Count: 65536}

// newMapped begins mapped mounts in a folder of the test's.
func newMapped(t *testing.T) *mapping {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("mounts need root")
	}
	if err := UserNamespaces(); err != nil {
		t.Skip(err)
	}
	ids := fmt.Sprintf("0:%d:%d", mapped.First, mapped.Count)
	users, err := mount.GetUsernsFD(ids, ids)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { users.Close() })
	m, err := openMapping(filepath.Join(t.TempDir(), "mapped"), fmt.Sprintf("/proc/self/fd/%d", users.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.mount("try", t.TempDir(), false); errors.Is(err, unix.EINVAL) {
		_ = m.release()
		t.Skip(err)
	}
	m.anew(t)
	t.Cleanup(func() {
		if err := m.release(); err != nil && !errors.Is(err, fs.ErrClosed) {
			t.Error(err)
		}
	})
	return m
}

// anew empties the folder, as for another try.
func (m *mapping) anew(t *testing.T) {
	t.Helper()
	if err := errors.Join(clearMapped(m.dir), m.apart()); err != nil {
		t.Fatal(err)
	}
}

// The mapped mounts of one container come along in no copy of the host's folders, which another one has as a volume: there they would
// show what is not its, and keep the folder from being removed.
func TestMappedMountsAreInNoCopy(t *testing.T) {
	t.Parallel()
	m, other, volume := newMapped(t), newMapped(t), t.TempDir()
	if err := os.WriteFile(filepath.Join(volume, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := m.mount("0", volume, false); err != nil {
		t.Fatal(err)
	}
	host, err := other.mount("0", filepath.Dir(m.dir), true)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(host, filepath.Base(m.dir), "0/file")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("another container sees it: %v", err)
	}
	if err := m.release(); err != nil {
		t.Error(err)
	}
}

// belongs says to whom a path belongs.
func belongs(t *testing.T, path string) (uid, gid uint32) {
	t.Helper()
	var is unix.Stat_t
	if err := unix.Stat(path, &is); err != nil {
		t.Fatal(err)
	}
	return is.Uid, is.Gid
}

func TestMappedMounts(t *testing.T) {
	t.Parallel()
	m, dir := newMapped(t), t.TempDir()
	file := filepath.Join(dir, "file")
	if err := errors.Join(os.WriteFile(file, nil, 0o600), os.Chown(file, 5, 6)); err != nil {
		t.Fatal(err)
	}
	mounts := []specs.Mount{
		{Destination: "/dir", Source: dir, UIDMappings: mapped.Mappings()},
		{Destination: "/other", Source: dir},
		{Destination: "/file", Source: file, UIDMappings: mapped.Mappings()},
	}
	if err := m.volumes(mounts); err != nil {
		t.Fatal(err)
	}
	own := (&ContainerConfig{Mounts: mounts, MappedDir: m.dir}).ownMounts()
	if own[1].Source != dir || own[0].Destination != "/dir" || own[0].UIDMappings != nil || mounts[0].UIDMappings == nil {
		t.Errorf("its mounts are %+v", own)
	}
	for _, path := range []string{own[0].Source + "/file", own[2].Source} {
		if uid, gid := belongs(t, path); uid != mapped.First+5 || gid != mapped.First+6 {
			t.Errorf("%s belongs to %d:%d", path, uid, gid)
		}
	}
	if _, err := os.Stat(filepath.Join(m.dir, "1")); err == nil {
		t.Error("what is not to be mapped is")
	}
	if err := m.release(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(m.dir); err == nil {
		t.Error("the folder is left")
	}
	if uid, _ := belongs(t, file); uid != 5 {
		t.Errorf("the file belongs to %d", uid)
	}
}

// What is mounted below a folder comes along, and is there when the mapped mounts have gone, also where mounts of the host are shared.
func TestMappedMountsLeaveOthersAlone(t *testing.T) {
	t.Parallel()
	m, dir := newMapped(t), t.TempDir()
	below := filepath.Join(dir, "below")
	if err := errors.Join(
		unix.Mount(dir, dir, "", unix.MS_BIND, ""), unix.Mount("", dir, "", unix.MS_SHARED, ""),
		os.Mkdir(below, 0o755), unix.Mount("t", below, "tmpfs", 0, ""), os.WriteFile(below+"/file", nil, 0o600),
	); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = errors.Join(unix.Unmount(below, unix.MNT_DETACH), unix.Unmount(dir, unix.MNT_DETACH)) })
	if err := m.volumes([]specs.Mount{{Destination: "/dir", Source: dir, UIDMappings: mapped.Mappings()}}); err != nil {
		t.Fatal(err)
	}
	if uid, _ := belongs(t, filepath.Join(m.dir, "0", "below", "file")); uid != 0 {
		t.Errorf("what is mounted below belongs to %d", uid)
	}
	if err := clearMapped(m.dir); err != nil { // as another agent does
		t.Fatal(err)
	}
	if _, err := os.Stat(below + "/file"); err != nil {
		t.Errorf("what is mounted on the host was unmounted: %v", err)
	}
}

func TestWhatCannotBeMappedIsNamed(t *testing.T) {
	t.Parallel()
	m := newMapped(t)
	err := m.volumes([]specs.Mount{{Destination: "/kernel", Source: "/proc/sys", UIDMappings: mapped.Mappings()}})
	var failed *MapError
	if !errors.As(err, &failed) || failed.Destination != "/kernel" || !strings.Contains(err.Error(), "/proc/sys") || !strings.Contains(err.Error(), "type proc") {
		t.Errorf("it says %v", err)
	}
	for sentence, rootfs := range map[string]mount.Mount{
		"no overlay, and no folder":          {Type: "btrfs", Source: "/dev/x"},
		"layers that are not there":          {Type: "overlay", Options: []string{"lowerdir=" + t.TempDir() + "/none:/none"}},
		"layers of several file systems":     {Type: "overlay", Options: []string{"lowerdir=/proc:/sys"}},
		"a writable layer that is not there": {Type: "overlay", Options: []string{"upperdir=" + t.TempDir() + "/none"}},
	} {
		if err := clearMapped(m.dir); err != nil {
			t.Fatal(err)
		}
		if _, err := m.rootfs([]mount.Mount{rootfs}, mapped); !errors.As(err, &failed) || failed.Destination != "/" {
			t.Errorf("%s: %v", sentence, err)
		}
	}
}

func TestAMappedOverlay(t *testing.T) {
	t.Parallel()
	m, dir := newMapped(t), t.TempDir()
	for _, sub := range []string{"1/fs", "2/fs", "3/fs", "3/work", "at"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(os.WriteFile(dir+"/1/fs/file", []byte("x"), 0o600), os.Chown(dir+"/1/fs/file", 5, 6), os.Chown(dir+"/3/fs", 7, 8)); err != nil {
		t.Fatal(err)
	}
	options := []string{"index=off", "workdir=" + dir + "/3/work", "upperdir=" + dir + "/3/fs", "lowerdir=" + dir + "/2/fs:" + dir + "/1/fs"}
	for range 2 { // the second one as after a start that was cut off
		m.anew(t)
		made, err := m.rootfs([]mount.Mount{{Type: "overlay", Source: "overlay", Options: options}}, mapped)
		if err != nil {
			t.Fatal(err)
		}
		if err := mount.All(made, dir+"/at"); err != nil {
			t.Fatal(err)
		}
		if err := clearMapped(m.dir); err != nil {
			t.Fatal(err)
		}
		if uid, gid := belongs(t, dir+"/at/file"); uid != mapped.First+5 || gid != mapped.First+6 {
			t.Errorf("its file belongs to %d:%d", uid, gid)
		}
		if uid, gid := belongs(t, dir+"/at"); uid != mapped.First+7 || gid != mapped.First+8 {
			t.Errorf("its root belongs to %d:%d", uid, gid)
		}
		if err := unmount(dir + "/at"); err != nil {
			t.Fatal(err)
		}
	}
	if slices.Contains(options, "lowerdir=") || !strings.HasPrefix(options[3], "lowerdir="+dir) {
		t.Errorf("what was handed in is changed: %v", options)
	}
}

func TestASandboxesFolderGoesWithMappedMounts(t *testing.T) {
	t.Parallel()
	m := newMapped(t)
	dir := t.TempDir()
	if err := MakeSandboxDir(dir, false, mapped, "", nil); err != nil {
		t.Fatal(err)
	}
	if uid, gid := belongs(t, Shm(dir)); uid != mapped.First || gid != mapped.First {
		t.Errorf("/dev/shm belongs to %d:%d", uid, gid)
	}
	left := &mapping{MappedDir(dir, "c"), m.users} // of an agent that was killed
	left.anew(t)
	if err := left.volumes([]specs.Mount{{Destination: "/x", Source: t.TempDir(), UIDMappings: mapped.Mappings()}}); err != nil {
		t.Fatal(err)
	}
	if err := DeleteSandboxDir(dir); err != nil {
		t.Fatal(err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) > 0 {
		t.Errorf("there are left %v: %v", entries, err)
	}
}

func TestTheSpecOfAUserNamespace(t *testing.T) {
	t.Parallel()
	cfg := configured(func(c *ContainerConfig) { c.Users, c.Namespaces.User = mapped, "/proc/5/fd/4" })
	spec := written(t, cfg, withNamespaces)
	want := fmt.Sprint([]specs.LinuxIDMapping{{ContainerID: 0, HostID: mapped.First, Size: 65536}})
	if fmt.Sprint(spec.Linux.UIDMappings) != want || fmt.Sprint(spec.Linux.GIDMappings) != want {
		t.Errorf("its ids are %v and %v", spec.Linux.UIDMappings, spec.Linux.GIDMappings)
	}
	if spec := written(t, configured(nil), withNamespaces); spec.Linux.UIDMappings != nil || spec.Linux.GIDMappings != nil {
		t.Errorf("without one its ids are %v", spec.Linux.UIDMappings)
	}
}

func TestProcMount(t *testing.T) {
	t.Parallel()
	for kind, masked := range map[*v1.ProcMountType]bool{nil: true, ptr.To(v1.DefaultProcMount): true, ptr.To(v1.UnmaskedProcMount): false} {
		cfg := configured(func(c *ContainerConfig) { c.Container.SecurityContext = &v1.SecurityContext{ProcMount: kind} })
		spec := written(t, cfg, withPaths)
		if (len(spec.Linux.MaskedPaths) > 0) != masked || (len(spec.Linux.ReadonlyPaths) > 0) != masked {
			t.Errorf("%v: masked are %v, read-only %v", kind, spec.Linux.MaskedPaths, spec.Linux.ReadonlyPaths)
		}
	}
}
