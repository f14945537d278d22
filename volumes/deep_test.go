package volumes

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"
	v1 "k8s.io/api/core/v1"
)

// deepFolder makes a folder in a folder in a folder, and so on, with a file in each, as any container can. No path is as long.
func deepFolder(t *testing.T, in string, depth int) {
	t.Helper()
	fd, err := unix.Open(in, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	for i := 0; err == nil && i < depth; i++ {
		name := "d" + strconv.Itoa(i%2)
		if err = unix.Mkdirat(fd, name, 0o755); err != nil {
			break
		}
		var below, file int
		if file, err = unix.Openat(fd, ".deleted-1", unix.O_CREAT|unix.O_WRONLY, 0o644); err == nil {
			unix.Close(file)
			below, err = unix.Openat(fd, name, unix.O_RDONLY|unix.O_DIRECTORY, 0)
		}
		unix.Close(fd)
		fd = below
	}
	unix.Close(fd)
	if err != nil {
		t.Fatal(err)
	}
}

// fewFiles lets the process have few files open, until the test ends. It must not run beside others.
func fewFiles(t *testing.T, limit uint64) {
	t.Helper()
	var was unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &was); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Setrlimit(unix.RLIMIT_NOFILE, &was) })
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: limit, Max: was.Max}); err != nil {
		t.Fatal(err)
	}
}

// TestDeepFoldersTakeFewFiles has a container nest folders deeper than the agent may have files open: whoever exhausts those
// stops all Pods.
func TestDeepFoldersTakeFewFiles(t *testing.T) {
	needRoot(t)
	v := open(t)
	p := podWith(emptyDir("data"))
	must(t, v.Setup(t.Context(), p, Given{}))
	deepFolder(t, v.folder("data"), 5000)
	err := grouping{gid: 77}.apply(t.Context(), v.folder("data"), v1.FSGroupChangeAlways)
	if !errors.Is(err, unix.ENAMETOOLONG) {
		t.Errorf("fsGroup: %v", err)
	}
	fewFiles(t, 256)
	must(t, v.Teardown(t.Context(), podUID))
	if _, err := os.Stat(filepath.Join(v.root, string(podUID))); !os.IsNotExist(err) {
		t.Errorf("something is left: %v", err)
	}
}
