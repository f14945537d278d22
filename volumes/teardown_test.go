package volumes

import (
	"context"
	"errors"
	"fmt"
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
			must(t, v.Setup(context.Background(), p, Given{}))
			target := filepath.Join(v.folder("data"), "left")
			must(t, os.Mkdir(target, 0o755), unix.Mount(host, target, "", c.flags, ""))
			write(t, filepath.Join(v.folder("data"), "own"), "the pod's")
			if c.busy {
				f, err := os.Open(filepath.Join(target, "file"))
				must(t, err)
				defer f.Close()
			}
			must(t, v.Teardown(context.Background(), podUID), v.Teardown(context.Background(), podUID))
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
	must(t, v.Setup(context.Background(), p, Given{}))
	target := filepath.Join(v.folder("data"), "m")
	must(t, os.Mkdir(target, 0o755))
	for range 3 {
		must(t, unix.Mount("tmpfs", target, "tmpfs", 0, "size=64k"), os.Mkdir(filepath.Join(target, "in"), 0o755))
		must(t, unix.Mount("tmpfs", filepath.Join(target, "in"), "tmpfs", 0, "size=64k"))
	}
	must(t, v.Teardown(context.Background(), podUID))
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
	if err := (&deletion{}).unmounted(t.Context(), parent, "a/b"); !errors.Is(err, errMounted) {
		t.Errorf("got %v, want a refusal to cross the mount", err)
	}
	wantFile(t, filepath.Join(host, "file"), "host's")
}

func TestTeardownTakesMountsWhereverTheyAre(t *testing.T) {
	t.Parallel()
	needRoot(t)
	for sentence, mount := range map[string]func(v *Volumes, host string) error{
		"on a file": func(v *Volumes, host string) error {
			write(t, filepath.Join(v.folder("data"), "f"), "")
			return unix.Mount(filepath.Join(host, "file"), filepath.Join(v.folder("data"), "f"), "", unix.MS_BIND, "")
		},
		"on the volume": func(v *Volumes, host string) error { return unix.Mount(host, v.folder("data"), "", unix.MS_BIND, "") },
		"on all volumes": func(v *Volumes, host string) error {
			return unix.Mount(host, filepath.Join(v.root, string(podUID), "volumes"), "", unix.MS_BIND|unix.MS_REC, "")
		},
		"in a tmpfs": func(v *Volumes, host string) error {
			in := filepath.Join(v.folder("mem"), "in")
			return errors.Join(os.Mkdir(in, 0o755), unix.Mount(host, in, "", unix.MS_BIND|unix.MS_REC, ""))
		},
		"on a tmpfs": func(v *Volumes, host string) error { return unix.Mount(host, v.folder("mem"), "", unix.MS_BIND, "") },
		"below what another hides": func(v *Volumes, host string) error {
			in := filepath.Join(v.folder("data"), "m", "in")
			return errors.Join(os.MkdirAll(in, 0o755), unix.Mount(host, in, "", unix.MS_BIND, ""),
				unix.Mount("tmpfs", filepath.Dir(in), "tmpfs", 0, "size=64k"))
		},
		"of a subPath that was never released": func(v *Volumes, host string) error {
			at := filepath.Join(v.root, string(podUID), subPathFolder, "data", "main", "0")
			return errors.Join(os.MkdirAll(at, 0o755), unix.Mount(host, at, "", unix.MS_BIND, ""))
		},
	} {
		t.Run(sentence, func(t *testing.T) {
			t.Parallel()
			host := hostFolder(t, unix.MS_SHARED)
			v, p := open(t), podWith(emptyDir("data"), emptyDir("mem"))
			p.Spec.Volumes[1].EmptyDir.Medium = "Memory"
			must(t, v.Setup(context.Background(), p, Given{}), mount(v, host))
			must(t, v.Teardown(context.Background(), podUID))
			wantFile(t, filepath.Join(host, "file"), "host's")
			wantFile(t, filepath.Join(host, "sub/file"), "host's too")
			if _, err := os.Stat(filepath.Join(v.root, string(podUID))); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("the pod's folder is left: %v", err)
			}
		})
	}
}

func TestTeardownEndsWithItsContext(t *testing.T) {
	t.Parallel()
	needRoot(t)
	v, p := open(t), podWith(emptyDir("data"))
	must(t, v.Setup(context.Background(), p, Given{}))
	const files = 3000 // more than are read at once
	for i := range files {
		write(t, filepath.Join(v.folder("data"), fmt.Sprint(i)), "")
	}
	ended, end := context.WithCancel(t.Context())
	end()
	if err := v.Teardown(ended, podUID); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if left, err := os.ReadDir(v.folder("data")); err != nil || len(left) != files {
		t.Errorf("%d files are left: %v", len(left), err)
	}
	must(t, v.Teardown(t.Context(), podUID))
	if _, err := os.Stat(filepath.Join(v.root, string(podUID))); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the pod's folder is left: %v", err)
	}
}

func TestTeardownDoesNotFollowSymlinks(t *testing.T) {
	t.Parallel()
	needRoot(t)
	outside := t.TempDir()
	write(t, filepath.Join(outside, "file"), "host's")
	v, p := open(t), podWith(emptyDir("data"))
	must(t, v.Setup(context.Background(), p, Given{}), os.Symlink(outside, filepath.Join(v.folder("data"), "l")))
	must(t, v.Teardown(context.Background(), podUID))
	wantFile(t, filepath.Join(outside, "file"), "host's")
}

func TestTeardownLeavesWhatIsNotAVolume(t *testing.T) {
	t.Parallel()
	v, p := open(t), podWith(emptyDir("data"))
	needRoot(t)
	must(t, v.Setup(context.Background(), p, Given{}))
	other := filepath.Join(v.root, string(podUID), "etc-hosts")
	write(t, other, "127.0.0.1 localhost")
	must(t, v.Teardown(context.Background(), podUID))
	wantFile(t, other, "127.0.0.1 localhost")
}

// BenchmarkTeardown has a host with many mounts, none of which are the Pod's.
func BenchmarkTeardown(b *testing.B) {
	needRoot(b)
	v, p := open(b), podWith(emptyDir("data"), emptyDir("mem"))
	p.Spec.Volumes[1].EmptyDir.Medium = "Memory"
	other := b.TempDir()
	for i := range 3000 {
		at := filepath.Join(other, fmt.Sprint(i))
		must(b, os.Mkdir(at, 0o755), unix.Mount("tmpfs", at, "tmpfs", 0, "size=4k"))
		b.Cleanup(func() { must(b, unix.Unmount(at, 0)) })
	}
	for b.Loop() {
		must(b, v.Setup(context.Background(), p, Given{}), v.Teardown(context.Background(), podUID))
	}
}
