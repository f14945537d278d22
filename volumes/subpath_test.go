package volumes

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
	v1 "k8s.io/api/core/v1"
)

// mountSubPath asks for one subPath of the volume "data".
func mountSubPath(v *Volumes, p *v1.Pod, subPath string) (string, func() error, error) {
	c := &v1.Container{Name: "main", VolumeMounts: []v1.VolumeMount{{Name: "data", MountPath: "/x", SubPath: subPath}}}
	mounts, release, err := v.Mounts(p, c, Given{}, noExpansion)
	if err != nil {
		return "", release, err
	}
	return mounts[0].Source, release, nil
}

// setUp makes the volume "data".
func setUp(t *testing.T) (*Volumes, *v1.Pod) {
	t.Helper()
	v, p := open(t), podWith(emptyDir("data"))
	must(t, v.Setup(context.Background(), p, Given{}))
	return v, p
}

func TestSubPath(t *testing.T) {
	t.Parallel()
	needRoot(t)
	outside := t.TempDir()
	write(t, filepath.Join(outside, "secret"), "host's")
	for sentence, c := range map[string]struct {
		prepare func(volume string) error
		subPath string
		file    string // below what is mounted, "" if that is the file
		want    string
		fails   string
	}{
		"a folder": {
			func(d string) error {
				return errors.Join(os.Mkdir(d+"/a", 0o755), os.WriteFile(d+"/a/f", []byte("1"), 0o644))
			}, "a", "f", "1", "",
		},
		"a file": {func(d string) error { return os.WriteFile(d+"/f", []byte("2"), 0o644) }, "f", "", "2", ""},
		"a symlink within the volume": {
			func(d string) error {
				return errors.Join(os.MkdirAll(d+"/a/b", 0o755), os.WriteFile(d+"/a/f", []byte("3"), 0o644), os.Symlink("../../a", d+"/a/b/up"))
			}, "a/b/up", "f", "3", "",
		},
		"dots and slashes that mean nothing": {func(d string) error { return os.WriteFile(d+"/f", []byte("4"), 0o644) }, "./f", "", "4", ""},
		"a name that begins with two dots":   {func(d string) error { return os.WriteFile(d+"/..f", []byte("5"), 0o644) }, "..f", "", "5", ""},
		"up and out":                         {nil, "../x", "", "", `without ".."`},
		"up, even if not out":                {nil, "a/../b", "", "", `without ".."`},
		"an absolute path":                   {nil, "/etc", "", "", "want a relative path"},
		"a symlink to the host's /etc":       {func(d string) error { return os.Symlink("/etc", d+"/l") }, "l", "", "", "leads out of the volume"},
		"a symlink up and out":               {func(d string) error { return os.Symlink("../../../..", d+"/l") }, "l", "", "", "leads out of the volume"},
		"a symlink out in the middle":        {func(d string) error { return os.Symlink(outside, d+"/l") }, "l/secret", "", "", "leads out of the volume"},
		"a symlink out, a folder to be made": {func(d string) error { return os.Symlink(outside, d+"/l") }, "l/new/deep", "", "", "leads out of the volume"},
		"a symlink to a symlink out": {
			func(d string) error { return errors.Join(os.Symlink("m", d+"/l"), os.Symlink(outside, d+"/m")) }, "l/secret", "", "", "leads out of the volume",
		},
		"a symlink to a process's root": {func(d string) error { return os.Symlink("/proc/1/root", d+"/l") }, "l/etc", "", "", "leads out of the volume"},
		"a symlink to nowhere":          {func(d string) error { return os.Symlink("nowhere", d+"/l") }, "l", "", "", "to nowhere"},
		"a symlink to itself":           {func(d string) error { return os.Symlink("l", d+"/l") }, "l", "", "", "to nowhere"},
		"a file where a folder must be": {func(d string) error { return os.WriteFile(d+"/f", nil, 0o644) }, "f/deep", "", "", "not a directory"},
	} {
		t.Run(sentence, func(t *testing.T) {
			t.Parallel()
			v, p := setUp(t)
			if c.prepare != nil {
				must(t, c.prepare(v.folder("data")))
			}
			source, release, err := mountSubPath(v, p, c.subPath)
			if c.fails == "" {
				must(t, err)
				wantFile(t, filepath.Join(source, c.file), c.want)
			} else {
				wantRefusal(t, err, c.fails)
			}
			must(t, release(), release(), v.Teardown(context.Background(), podUID))
			wantFile(t, filepath.Join(outside, "secret"), "host's")
			wantOneEntry(t, outside)
		})
	}
}

// wantRefusal wants an error with this in it, about the volume "data".
func wantRefusal(t *testing.T, err error, want string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), `volume "data"`) {
		t.Errorf("got %v, want %q", err, want)
	}
}

// wantOneEntry wants nothing to have been made on the host.
func wantOneEntry(t *testing.T, outside string) {
	t.Helper()
	if entries, err := os.ReadDir(outside); err != nil || len(entries) != 1 {
		t.Errorf("on the host: got %v, %v; want one entry", entries, err)
	}
}

func TestAMissingSubPathIsMadeWithTheVolumesMode(t *testing.T) {
	t.Parallel()
	needRoot(t)
	v, p := open(t), podWith(emptyDir("data"))
	must(t, v.Setup(context.Background(), p, Given{}), os.Chmod(v.folder("data"), 0o731|fs.ModeSetgid))
	_, release, err := mountSubPath(v, p, "new/deep")
	must(t, err, release())
	for _, name := range []string{"new", "new/deep"} {
		info, err := os.Stat(filepath.Join(v.folder("data"), name))
		if err != nil || info.Mode() != fs.ModeDir|fs.ModeSetgid|0o731 {
			t.Errorf("%s: got %v, %v; want 02731", name, info, err)
		}
	}
	must(t, v.Teardown(context.Background(), podUID))
}

func TestSubPathExpr(t *testing.T) {
	t.Parallel()
	needRoot(t)
	v, p := setUp(t)
	c := &v1.Container{Name: "main", VolumeMounts: []v1.VolumeMount{{Name: "data", MountPath: "/x", SubPathExpr: "$(NAME)/logs"}}}
	_, release, err := v.Mounts(p, c, Given{}, func(s string) string { return strings.ReplaceAll(s, "$(NAME)", "web") })
	must(t, err, release())
	if _, err := os.Stat(filepath.Join(v.folder("data"), "web/logs")); err != nil {
		t.Error(err)
	}
	if _, _, err := v.Mounts(p, c, Given{}, func(string) string { return "../web" }); err == nil {
		t.Error("an expansion may lead out of the volume")
	}
	must(t, v.Teardown(context.Background(), podUID))
}

func TestASubPathIsResolvedAnewForEveryStart(t *testing.T) {
	t.Parallel()
	needRoot(t)
	v, p := setUp(t)
	write(t, v.folder("data")+"/f", "old")
	first, _, err := mountSubPath(v, p, "f") // never released: the agent was killed
	must(t, err)
	wantFile(t, first, "old")
	must(t, os.Remove(v.folder("data")+"/f"))
	write(t, v.folder("data")+"/f/now-a-folder", "new")
	second, release, err := mountSubPath(v, p, "f")
	must(t, err)
	wantFile(t, filepath.Join(second, "now-a-folder"), "new")
	if got := mountsBelow(t, v.root); len(got) != 1 {
		t.Errorf("got mounts %v, want one", got)
	}
	must(t, release(), v.Teardown(context.Background(), podUID))
}

func TestAFailedMountReleasesThoseBeforeIt(t *testing.T) {
	t.Parallel()
	needRoot(t)
	v, p := setUp(t)
	c := &v1.Container{Name: "main", VolumeMounts: []v1.VolumeMount{{Name: "data", MountPath: "/x", SubPath: "ok"}, {Name: "data", MountPath: "/y", SubPath: "../no"}}}
	if _, _, err := v.Mounts(p, c, Given{}, noExpansion); err == nil {
		t.Error("got no error")
	}
	if got := mountsBelow(t, v.root); len(got) != 0 {
		t.Errorf("got mounts %v, want none", got)
	}
	must(t, v.Teardown(context.Background(), podUID))
}

// A container swaps a folder for a symlink to the host again and again while the subPath is mounted: the host must
// never show.
func TestASwappedSymlinkNeverWins(t *testing.T) {
	t.Parallel()
	needRoot(t)
	outside := t.TempDir()
	write(t, filepath.Join(outside, "marker"), "host's")
	v, p := setUp(t)
	volume := v.folder("data")
	must(t, os.Mkdir(volume+"/a", 0o755), os.Symlink(outside, volume+"/evil"))

	stop := make(chan struct{})
	var swapping sync.WaitGroup
	swapping.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				if err := unix.Renameat2(unix.AT_FDCWD, volume+"/a", unix.AT_FDCWD, volume+"/evil", unix.RENAME_EXCHANGE); err != nil {
					t.Error(err)
					return
				}
			}
		}
	})
	won, refused := 0, 0
	for range 1000 {
		for _, subPath := range []string{"a", "a/made"} {
			source, release, err := mountSubPath(v, p, subPath)
			if err != nil {
				refused++
			} else if _, err := os.Stat(filepath.Join(source, "marker")); err == nil {
				t.Error("the host's folder is mounted")
			} else {
				won++
			}
			must(t, release())
		}
	}
	close(stop)
	swapping.Wait()
	t.Logf("%d mounted, %d refused", won, refused)
	wantOneEntry(t, outside)
	must(t, v.Teardown(context.Background(), podUID))
}
