package volumes

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
	v1 "k8s.io/api/core/v1"
)

// claim is the volume "v" that is a folder of the host.
func claim() v1.Volume {
	return v1.Volume{Name: "v", VolumeSource: v1.VolumeSource{PersistentVolumeClaim: &v1.PersistentVolumeClaimVolumeSource{}}}
}

func folders(f Folder) Given { return Given{Folders: map[string]Folder{"v": f}} }

// tree is a folder with one entry of each kind, and one with a symlink's target, which is not in it.
func tree(t testing.TB) (folder, outside string) {
	t.Helper()
	folder, outside = filepath.Join(t.TempDir(), "v"), t.TempDir()
	write(t, filepath.Join(outside, "f"), "host's")
	write(t, filepath.Join(folder, "sub/deep/f"), "")
	write(t, filepath.Join(folder, "run"), "")
	must(t, os.Symlink(outside, filepath.Join(folder, "link")), os.Symlink(filepath.Join(outside, "f"), filepath.Join(folder, "sub/link")),
		unix.Mkfifo(filepath.Join(folder, "pipe"), 0), unix.Mknod(filepath.Join(folder, "null"), unix.S_IFCHR|0o600, 1<<8|3))
	for path, mode := range map[string]uint32{
		"": 0o700, "sub": 0o701, "sub/deep": 0o2500, "sub/deep/f": 0o604, "run": 0o4711, "pipe": 0, "null": 0o600,
	} {
		must(t, unix.Chmod(filepath.Join(folder, path), mode))
	}
	must(t, unix.Chmod(outside, 0o700), unix.Chmod(filepath.Join(outside, "f"), 0o600))
	return folder, outside
}

// wantOwned compares mode and group.
func wantOwned(t testing.TB, path string, mode, gid uint32) {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil || st.Mode&0o7777 != mode || st.Gid != gid {
		t.Errorf("%s: got mode %o, group %d, %v; want %o, %d", path, st.Mode&0o7777, st.Gid, err, mode, gid)
	}
}

func TestFSGroupOfAFolder(t *testing.T) {
	t.Parallel()
	needRoot(t)
	untouched := map[string][2]uint32{
		"": {0o700, 0}, "sub": {0o701, 0}, "sub/deep": {0o2500, 0}, "sub/deep/f": {0o604, 0}, "run": {0o4711, 0}, "pipe": {0, 0},
		"null": {0o600, 0}, "link": {0o777, 0}, "sub/link": {0o777, 0},
	}
	readOnly := map[string][2]uint32{
		"": {0o2750, 3000}, "sub": {0o2751, 3000}, "sub/deep": {0o2550, 3000}, "sub/deep/f": {0o644, 3000}, "run": {0o4751, 3000},
		"pipe": {0o440, 3000}, "null": {0o640, 3000}, "link": {0o777, 3000}, "sub/link": {0o777, 3000},
	}
	for sentence, c := range map[string]struct {
		volume v1.Volume
		folder Folder
		want   map[string][2]uint32
	}{
		"all may be written": {claim(), Folder{Ownership: true}, map[string][2]uint32{
			"": {0o2770, 3000}, "sub": {0o2771, 3000}, "sub/deep": {0o2770, 3000}, "sub/deep/f": {0o664, 3000}, "run": {0o4771, 3000},
			"pipe": {0o660, 3000}, "null": {0o660, 3000}, "link": {0o777, 3000}, "sub/link": {0o777, 3000},
		}},
		"all may be read": {claim(), Folder{Ownership: true, ReadOnly: true}, readOnly},
		"all may be read where the claim says that": {func() v1.Volume { c := claim(); c.PersistentVolumeClaim.ReadOnly = true; return c }(), Folder{Ownership: true}, readOnly},
		"it does not apply":                         {claim(), Folder{}, untouched},
		"an ephemeral volume": {v1.Volume{Name: "v", VolumeSource: v1.VolumeSource{Ephemeral: &v1.EphemeralVolumeSource{}}},
			Folder{Ownership: true, ReadOnly: true}, readOnly},
	} {
		t.Run(sentence, func(t *testing.T) {
			t.Parallel()
			folder, outside := tree(t)
			v, p := open(t), withGroup(podWith(c.volume), 3000)
			c.folder.Path = folder
			must(t, v.Setup(t.Context(), p, folders(c.folder)))
			for path, want := range c.want {
				wantOwned(t, filepath.Join(folder, path), want[0], want[1])
			}
			wantOwned(t, outside, 0o700, 0)
			wantOwned(t, filepath.Join(outside, "f"), 0o600, 0)
			must(t, v.Teardown(context.Background(), podUID))
		})
	}
}

func TestFSGroupLeavesHostPathsAndPodsWithout(t *testing.T) {
	t.Parallel()
	needRoot(t)
	folder, _ := tree(t)
	v := open(t)
	must(t, v.Setup(t.Context(), withGroup(podWith(hostPath(folder, "")), 3000), Given{}))
	must(t, v.Setup(t.Context(), podWith(claim()), folders(Folder{Path: folder, Ownership: true})))
	wantOwned(t, folder, 0o700, 0)
	wantOwned(t, filepath.Join(folder, "run"), 0o4711, 0)
}

func TestFSGroupChangePolicy(t *testing.T) {
	t.Parallel()
	needRoot(t)
	for sentence, c := range map[string]struct {
		policy   v1.PodFSGroupChangePolicy
		mode     uint32
		gid      int
		readOnly bool
		walks    bool
	}{
		"Always":                                            {v1.FSGroupChangeAlways, 0o2770, 3000, false, true},
		"OnRootMismatch, the root fits":                     {v1.FSGroupChangeOnRootMismatch, 0o2770, 3000, false, false},
		"OnRootMismatch, the root allows more":              {v1.FSGroupChangeOnRootMismatch, 0o2777, 3000, false, false},
		"OnRootMismatch, another group":                     {v1.FSGroupChangeOnRootMismatch, 0o2770, 3001, false, true},
		"OnRootMismatch, the group may not write":           {v1.FSGroupChangeOnRootMismatch, 0o2750, 3000, false, true},
		"OnRootMismatch, it need not where it is read-only": {v1.FSGroupChangeOnRootMismatch, 0o2550, 3000, true, false},
		"OnRootMismatch, no setgid bit":                     {v1.FSGroupChangeOnRootMismatch, 0o770, 3000, false, true},
	} {
		t.Run(sentence, func(t *testing.T) {
			t.Parallel()
			folder, _ := tree(t)
			must(t, os.Chown(folder, 0, c.gid), unix.Chmod(folder, c.mode))
			v, p := open(t), withGroup(podWith(claim()), 3000)
			p.Spec.SecurityContext.FSGroupChangePolicy = &c.policy
			must(t, v.Setup(t.Context(), p, folders(Folder{Path: folder, Ownership: true, ReadOnly: c.readOnly})))
			var st unix.Stat_t
			must(t, unix.Stat(filepath.Join(folder, "sub/deep/f"), &st))
			if walked := st.Gid == 3000; walked != c.walks {
				t.Errorf("walked: %v, want %v", walked, c.walks)
			}
		})
	}
}

// countdown is a context that ends when it was asked so many times.
type countdown struct {
	context.Context
	left int
}

func (c *countdown) Err() error {
	if c.left--; c.left < 0 {
		return context.Canceled
	}
	return nil
}

// Wherever the walk is cut off, OnRootMismatch does it again.
func TestFSGroupThatWasInterrupted(t *testing.T) {
	t.Parallel()
	needRoot(t)
	policy := v1.FSGroupChangeOnRootMismatch
	for steps := 0; ; steps++ {
		folder, _ := tree(t)
		v, p := open(t), withGroup(podWith(claim()), 3000)
		p.Spec.SecurityContext.FSGroupChangePolicy = &policy
		err := v.Setup(&countdown{t.Context(), steps}, p, folders(Folder{Path: folder, Ownership: true}))
		if err == nil {
			if steps != 8 {
				t.Errorf("it ends after %d files, want 8", steps)
			}
			return
		}
		if !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		wantOwned(t, folder, 0o700, 0)
		must(t, v.Setup(t.Context(), p, folders(Folder{Path: folder, Ownership: true})))
		for path, mode := range map[string]uint32{"": 0o2770, "sub": 0o2771, "sub/deep": 0o2770, "sub/deep/f": 0o664, "run": 0o4771} {
			wantOwned(t, filepath.Join(folder, path), mode, 3000)
		}
	}
}

// A container swaps a folder and a file for symlinks to the host again and again while the walk goes on: the host's
// files must never change.
func TestASwappedSymlinkIsNeverFollowedByFSGroup(t *testing.T) {
	t.Parallel()
	needRoot(t)
	outside, folder := t.TempDir(), t.TempDir()
	write(t, filepath.Join(outside, "in/f"), "host's")
	must(t, unix.Chmod(outside, 0o700), unix.Chmod(outside+"/in", 0o700), unix.Chmod(outside+"/in/f", 0o600))
	write(t, folder+"/folder/in/f", "")
	write(t, folder+"/file", "")
	must(t, os.Symlink(outside, folder+"/folder-link"), os.Symlink(outside+"/in/f", folder+"/file-link"))

	stop := make(chan struct{})
	var swapping sync.WaitGroup
	for _, name := range []string{"folder", "file"} {
		swapping.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				err := unix.Renameat2(unix.AT_FDCWD, folder+"/"+name, unix.AT_FDCWD, folder+"/"+name+"-link", unix.RENAME_EXCHANGE)
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for i := range 3000 {
		must(t, grouping{gid: 3000 + i%2}.apply(t.Context(), folder, v1.FSGroupChangeAlways))
	}
	close(stop)
	swapping.Wait()
	for path, mode := range map[string]uint32{"": 0o700, "in": 0o700, "in/f": 0o600} {
		wantOwned(t, filepath.Join(outside, path), mode, 0)
	}
}

func TestErrorsThatFSGroupGoesOnAfter(t *testing.T) {
	t.Parallel()
	for err, goesOn := range map[error]bool{
		unix.ENOENT: true, unix.ENOTDIR: true, unix.ELOOP: true, unix.EPERM: true, unix.EROFS: true, unix.EOPNOTSUPP: true,
		unix.EIO: false, unix.EMFILE: false, unix.EDQUOT: false,
	} {
		if got := passed("chown", "/x", err); (got == nil) != goesOn || got != nil && !errors.Is(got, err) {
			t.Errorf("%v: got %v", err, got)
		}
	}
}

// BenchmarkFSGroup walks over 100000 files: all to be changed, none to be changed, and none to be looked at.
func BenchmarkFSGroup(b *testing.B) {
	needRoot(b)
	folder := b.TempDir()
	for i := range 100 {
		sub := filepath.Join(folder, fmt.Sprint(i))
		must(b, os.Mkdir(sub, 0o755))
		for j := range 1000 {
			f, err := os.OpenFile(filepath.Join(sub, fmt.Sprint(j)), os.O_CREATE|os.O_WRONLY, 0o644)
			must(b, err, f.Close())
		}
	}
	for name, c := range map[string]struct {
		policy v1.PodFSGroupChangePolicy
		step   int64
	}{
		"changed":   {v1.FSGroupChangeAlways, 1},
		"unchanged": {v1.FSGroupChangeAlways, 0},
		"onRoot":    {v1.FSGroupChangeOnRootMismatch, 0},
	} {
		b.Run(name, func(b *testing.B) {
			v, p := open(b), withGroup(podWith(claim()), 5000)
			p.Spec.SecurityContext.FSGroupChangePolicy = &c.policy
			must(b, v.Setup(b.Context(), p, folders(Folder{Path: folder, Ownership: true})))
			for b.Loop() {
				*p.Spec.SecurityContext.FSGroup += c.step
				must(b, v.Setup(b.Context(), p, folders(Folder{Path: folder, Ownership: true})))
			}
		})
	}
}
