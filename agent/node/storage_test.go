package node

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestMeasure has folders whose sizes are known but for what a file system needs for folders, which is asked of it.
func TestMeasure(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	outside := filepath.Join(t.TempDir(), "outside")
	write := func(file string, size int) {
		t.Helper()
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, make([]byte, size), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	write(outside, 1<<20)
	write(filepath.Join(dir, "file"), 64<<10)
	deep := filepath.Join(dir, strings.Repeat("deep/", 300))
	write(filepath.Join(deep, "file"), 64<<10)
	for i := range atOnce + 10 {
		write(filepath.Join(dir, "many", fmt.Sprint(i)), 0)
	}
	sparse, err := os.Create(filepath.Join(dir, "sparse"))
	if err == nil {
		err = errors.Join(sparse.Truncate(1<<30), sparse.Close())
	}
	if err := errors.Join(err, os.Link(filepath.Join(dir, "file"), filepath.Join(dir, "many", "name")), os.Symlink(outside, filepath.Join(dir, "link")),
		os.Symlink("/proc", filepath.Join(dir, "folder"))); err != nil {
		t.Fatal(err)
	}
	var want Taken
	seen := map[uint64]bool{}
	if err := filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		var is unix.Stat_t
		if err := errors.Join(err, unix.Lstat(path, &is)); err != nil || seen[is.Ino] {
			return err
		}
		seen[is.Ino] = true
		want.Bytes += uint64(is.Blocks) * 512
		want.Inodes++
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	got, err := measure(t.Context(), dir)
	if err != nil || got != want || got.Bytes < 128<<10 || got.Bytes > 8<<20 {
		t.Errorf("it takes %+v, %v, want %+v", got, err, want)
	}
	if got, err := measure(t.Context(), filepath.Join(dir, "none")); err != nil || got != (Taken{}) {
		t.Errorf("what is gone takes %+v, %v", got, err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if got, err := measure(ended, dir); err != nil || got.Inodes > 1 {
		t.Errorf("without time it takes %+v, %v", got, err)
	}
}

// TestMeasureStaysOnItsFileSystem has another one mounted in a folder.
func TestMeasureStaysOnItsFileSystem(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	at := filepath.Join(dir, "mounted")
	if err := os.Mkdir(at, 0o755); err != nil {
		t.Fatal(err)
	}
	before, err := measure(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", at, "tmpfs", 0, "size=8m"); err != nil {
		t.Skip("nothing can be mounted: ", err)
	}
	defer func() {
		if err := unix.Unmount(at, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	}()
	if err := os.WriteFile(filepath.Join(at, "file"), make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := measure(t.Context(), dir); err != nil || got.Inodes != before.Inodes-1 || got.Bytes > before.Bytes {
		t.Errorf("it takes %+v, %v; without what is mounted there %+v", got, err, before)
	}
	disk, err := fileSystem(at)
	if other, otherErr := fileSystem(dir); err != nil || otherErr != nil || disk.ID == other.ID || disk.Capacity != 8<<20 {
		t.Errorf("of two file systems one is %+v, and the other %+v: %v, %v", disk, other, err, otherErr)
	}
}

// BenchmarkMeasure measures ten thousand files in a hundred folders.
func BenchmarkMeasure(b *testing.B) {
	dir := b.TempDir()
	for i := range 100 {
		sub := filepath.Join(dir, fmt.Sprint(i))
		if err := os.Mkdir(sub, 0o755); err != nil {
			b.Fatal(err)
		}
		for j := range 100 {
			if err := os.WriteFile(filepath.Join(sub, fmt.Sprint(j)), nil, 0o600); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.ReportAllocs()
	for b.Loop() {
		if taken, err := measure(b.Context(), dir); err != nil || taken.Inodes != 10101 {
			b.Fatal(taken, err)
		}
	}
}
