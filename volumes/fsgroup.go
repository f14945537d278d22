package volumes

import (
	"context"
	"io/fs"

	"golang.org/x/sys/unix"
	v1 "k8s.io/api/core/v1"
)

// grouping is what fsGroup makes of a volume (pkg/volume/volume_linux.go): all that is in it gets the group, which may
// read and write, or only read; what is made in its folders later gets the group, too.
type grouping struct {
	gid      int
	readOnly bool
}

// bits are the permissions that a file of this mode gets.
func (g grouping) bits(mode uint32) uint32 {
	bits := uint32(0o660)
	if g.readOnly {
		bits = 0o440
	}
	switch mode & unix.S_IFMT {
	case unix.S_IFDIR:
		return bits | 0o110 | unix.S_ISGID
	case unix.S_IFLNK:
		return 0 // a symlink has no permissions of its own
	default:
		return bits
	}
}

// fits says that a file has the group and the permissions.
func (g grouping) fits(st *unix.Stat_t) bool {
	bits := g.bits(st.Mode)
	return int64(st.Gid) == int64(g.gid) && st.Mode&bits == bits
}

// apply changes a folder and all below it. The folder is changed last, and is all that OnRootMismatch looks at.
func (g grouping) apply(ctx context.Context, path string, policy v1.PodFSGroupChangePolicy) error {
	if policy == v1.FSGroupChangeOnRootMismatch {
		var st unix.Stat_t
		if err := unix.Stat(path, &st); err != nil {
			return &fs.PathError{Op: "stat", Path: path, Err: err}
		}
		if g.fits(&st) {
			return nil
		}
	}
	return changeAll(ctx, path, g)
}

// change changes what a handle is of. The mode comes from the same handle: taken from the path, that of another file
// could be put in its place.
func (g grouping) change(fd int, path string) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return &fs.PathError{Op: "stat", Path: path, Err: err}
	}
	if g.fits(&st) {
		return nil
	}
	if err := unix.Fchownat(fd, "", -1, g.gid, unix.AT_EMPTY_PATH); err != nil {
		return passed("chown", path, err)
	}
	bits := g.bits(st.Mode)
	if bits == 0 {
		return nil
	}
	// Also where the bits were there before: a change of the group takes the setuid and setgid bits away.
	if err := chmodHandle(fd, st.Mode&0o7777|bits); err != nil {
		return passed("chmod", path, err)
	}
	return nil
}
