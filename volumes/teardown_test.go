package volumes

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// hostFolder is a folder of the host with a file in it and a tmpfs with another, itself mounted so that it can be shared.
func hostFolder(t *testing.T, propagation uintptr) string {
	t.Helper()
	host := t.TempDir()
	must(t, unix.Mount(host, host, "", unix.MS_BIND, ""), unix.Mount("", host, "", propagation, ""))
	t.Cleanup(func() {
		must(t, unmountBelow(host))
	})
	write(t, filepath.Join(host, "file"), "host's")
	must(t, os.Mkdir(filepath.Join(host, "sub"), 0o755))
	must(t, unix.Mount("tmpfs", filepath.Join(host, "sub"), "tmpfs", 0, "size=64k"))
	write(t, filepath.Join(host, "sub/file"), "host's too")
	return host
}

func TestTeardownLeavesTheHostsFiles(t *testing.T) {
	t.Parallel()
	needRoot(t)
	for sentence, c := range map[string]struct {
		flags       uintptr
		propagation uintptr
		busy        bool
	}{
		"a bind mount in an emptyDir":      {unix.MS_BIND, unix.MS_PRIVATE, false},
		"a recursive one":                  {unix.MS_BIND | unix.MS_REC, unix.MS_PRIVATE, false},
		"a recursive one of a shared tree": {unix.MS_BIND | unix.MS_REC, unix.MS_SHARED, false},
		"a busy one of a shared tree":      {unix.MS_BIND | unix.MS_REC, unix.MS_SHARED, true},
		"a busy one that is not shared":    {unix.MS_BIND, unix.MS_PRIVATE, true},
	} {
		t.Run(sentence, func(t *testing.T) {
			t.Parallel()
			host := hostFolder(t, c.propagation)
			v, p := open(t), podWith(emptyDir("data"))
			must(t, v.Setup(p))
			target := filepath.Join(v.folder("data"), "left")
			must(t, os.Mkdir(target, 0o755), unix.Mount(host, target, "", c.flags, ""))
			write(t, filepath.Join(v.folder("data"), "own"), "the pod's")
			if c.busy {
				f, err := os.Open(filepath.Join(target, "file"))
				must(t, err)
				defer f.Close()
			}
			must(t, v.Teardown(podUID), v.Teardown(podUID))
			wantFile(t, filepath.Join(host, "file"), "host's")
			wantFile(t, filepath.Join(host, "sub/file"), "host's too")
			if _, err := os.Stat(filepath.Join(v.root, string(podUID))); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("the pod's folder is left: %v", err)
			}
		})
	}
}

func TestTeardownTakesMountsOnMounts(t *testing.T) {
	t.Parallel()
	needRoot(t)
	v, p := open(t), podWith(emptyDir("data"))
	must(t, v.Setup(p))
	target := filepath.Join(v.folder("data"), "m")
	must(t, os.Mkdir(target, 0o755))
	for range 3 {
		must(t, unix.Mount("tmpfs", target, "tmpfs", 0, "size=64k"), os.Mkdir(filepath.Join(target, "in"), 0o755))
		must(t, unix.Mount("tmpfs", filepath.Join(target, "in"), "tmpfs", 0, "size=64k"))
	}
	must(t, v.Teardown(podUID))
}

func TestDeletingStopsAtAMount(t *testing.T) {
	t.Parallel()
	needRoot(t)
	host := hostFolder(t, unix.MS_PRIVATE)
	folder := t.TempDir()
	must(t, os.MkdirAll(filepath.Join(folder, "a/b"), 0o755), unix.Mount(host, filepath.Join(folder, "a/b"), "", unix.MS_BIND, ""))
	defer func() { must(t, unmount(filepath.Join(folder, "a/b"))) }()
	parent, err := os.Open(folder)
	must(t, err)
	defer parent.Close()
	if err := deleteIn(parent, "a"); !errors.Is(err, unix.EXDEV) {
		t.Errorf("got %v, want a refusal to cross the mount", err)
	}
	wantFile(t, filepath.Join(host, "file"), "host's")
}

func TestTeardownDoesNotFollowSymlinks(t *testing.T) {
	t.Parallel()
	needRoot(t)
	outside := t.TempDir()
	write(t, filepath.Join(outside, "file"), "host's")
	v, p := open(t), podWith(emptyDir("data"))
	must(t, v.Setup(p), os.Symlink(outside, filepath.Join(v.folder("data"), "l")))
	must(t, v.Teardown(podUID))
	wantFile(t, filepath.Join(outside, "file"), "host's")
}

func TestTeardownLeavesWhatIsNotAVolume(t *testing.T) {
	t.Parallel()
	v, p := open(t), podWith(emptyDir("data"))
	needRoot(t)
	must(t, v.Setup(p))
	other := filepath.Join(v.root, string(podUID), "etc-hosts")
	write(t, other, "127.0.0.1 localhost")
	must(t, v.Teardown(podUID))
	wantFile(t, other, "127.0.0.1 localhost")
}
