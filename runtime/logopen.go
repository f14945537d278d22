package runtime

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// logDepth is how many folders a log is below that of all logs: the Pod's and the container's.
const logDepth = 2

// openLog opens a file of a log. Pods that collect logs have the folder of all logs as a volume, and may write to it: no symlink
// in it is followed, so that nobody reads or writes another file of the host as a log, and what is no regular file is refused.
func openLog(path string, flags int) (*os.File, error) {
	all := path
	for range logDepth + 1 {
		all = filepath.Dir(all)
	}
	below, err := filepath.Rel(all, path)
	if err != nil {
		return nil, err
	}
	root, err := os.OpenFile(all, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	how := &unix.OpenHow{
		Flags:   uint64(flags) | unix.O_CLOEXEC | unix.O_NONBLOCK, // a pipe would hold up who opens it
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS,
	}
	if flags&os.O_CREATE != 0 {
		how.Mode = 0o640
	}
	fd := -1
	for err = unix.EAGAIN; errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR); {
		fd, err = unix.Openat2(int(root.Fd()), below, how)
	}
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	file := os.NewFile(uintptr(fd), path)
	info, err := file.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = errors.New("it is no regular file")
	}
	if err != nil {
		return nil, errors.Join(&fs.PathError{Op: "open", Path: path, Err: err}, file.Close())
	}
	return file, nil
}
