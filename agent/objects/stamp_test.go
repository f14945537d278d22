package objects

import (
	"io/fs"
	"syscall"
	"testing"
	"time"
)

// fileOf is a file with a stat alone.
type fileOf struct {
	fs.FileInfo
	stat syscall.Stat_t
}

func (f fileOf) Sys() any { return &f.stat }

func TestStamps(t *testing.T) {
	t.Parallel()
	old := syscall.NsecToTimespec(time.Now().Add(-time.Hour).UnixNano())
	of := func(inode uint64, size int64, changed syscall.Timespec) stamp {
		return stampOf(fileOf{stat: syscall.Stat_t{Ino: inode, Size: size, Ctim: changed}})
	}
	is := of(1, 10, old)
	if is == (stamp{}) || of(1, 10, old) != is {
		t.Errorf("of a file that is as it was there are two stamps: %+v", is)
	}
	later := old
	later.Nsec = (later.Nsec + 1) % 1e9
	for what, other := range map[string]stamp{
		"another file by its name": of(2, 10, old), "one that has grown": of(1, 11, old), "one that was written": of(1, 10, later),
	} {
		if other == is {
			t.Errorf("%s has the same stamp", what)
		}
	}
	if just := of(1, 10, syscall.NsecToTimespec(time.Now().UnixNano())); just != (stamp{}) {
		t.Errorf("one that may change again at once has a stamp: %+v", just)
	}
}
