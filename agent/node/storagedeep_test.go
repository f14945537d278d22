package node

import (
	"errors"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestMeasureReachesWhatIsDeep has a container hide what it takes below thousands of folders, with another one beside each. It does
// not run beside other tests, whose files would be counted.
func TestMeasureReachesWhatIsDeep(t *testing.T) {
	const depth = 1_000
	dir := t.TempDir()
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	for i := 0; err == nil && i < depth; i++ {
		if err = errors.Join(unix.Mkdirat(fd, "a", 0o755), unix.Mkdirat(fd, "b", 0o755)); err != nil {
			break
		}
		var next int
		next, err = unix.Openat(fd, "a", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		unix.Close(fd)
		fd = next
	}
	if err != nil {
		t.Fatal(err)
	}
	unix.Close(fd)
	t.Cleanup(func() { flatten(t, dir) })
	before := openFiles(t)
	got, err := measure(t.Context(), dir)
	if err != nil || got.Inodes != 2*depth+1 {
		t.Errorf("it takes %d inodes, %v, want %d", got.Inodes, err, 2*depth+1)
	}
	w, err := newWalk(dir)
	if err != nil {
		t.Fatal(err)
	}
	for steps := 0; len(w.pending) > 0 && steps < depth; steps++ { // and then it is cut off
		if last := w.pending[len(w.pending)-1]; strings.Count(last.path, "/") > 100 {
			t.Fatalf("after %d steps %d folders are on the way to the next", steps, strings.Count(last.path, "/"))
		}
		if err := w.step(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	w.close()
	if after := openFiles(t); after > before {
		t.Errorf("%d files are open, and were %d before", after, before)
	}
}

// flatten makes a folder such that it can be deleted: no deeper one is in it.
func flatten(t *testing.T, dir string) {
	t.Helper()
	for {
		if err := unix.Rename(dir+"/a/a", dir+"/c"); errors.Is(err, unix.ENOENT) {
			return
		} else if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(os.RemoveAll(dir+"/a"), os.Rename(dir+"/c", dir+"/a")); err != nil {
			t.Fatal(err)
		}
	}
}

func openFiles(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}
