package objects

import (
	"io/fs"
	"syscall"
	"time"
)

// stamp is another one whenever a file has another content: by its change time, which nobody sets.
type stamp struct {
	device, inode uint64
	size          int64
	changed       syscall.Timespec
}

// settles is how old a change must be at least for a stamp to tell it from the next one: the clock of files is coarse.
const settles = time.Second

// stampOf is the stamp of a file, nothing where it has changed just now.
func stampOf(file fs.FileInfo) stamp {
	of, ok := file.Sys().(*syscall.Stat_t)
	if !ok || time.Since(time.Unix(of.Ctim.Unix())) < settles {
		return stamp{}
	}
	return stamp{of.Dev, of.Ino, of.Size, of.Ctim}
}
