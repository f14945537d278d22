package volumes

import (
	"fmt"

	"github.com/opencontainers/selinux/go-selinux"
	"golang.org/x/sys/unix"
)

// labelling is the SELinux label that all in a volume gets. None changes nothing.
type labelling string

// fits says no: a label is no part of a file's status.
func (l labelling) fits(*unix.Stat_t) bool { return false }

// change gives the label to what a handle is of.
func (l labelling) change(fd int, path string) error {
	handle := fmt.Sprintf("/proc/self/fd/%d", fd)
	if has, err := selinux.FileLabel(handle); err == nil && has == string(l) {
		return nil
	}
	if err := selinux.SetFileLabel(handle, string(l)); err != nil {
		return passed("set SELinux label of", path, err)
	}
	return nil
}

// labelled is the file system with a label for all that is ever in it.
func (f fileSystem) labelled(l labelling) fileSystem {
	if l != "" {
		f.options["context"] = string(l)
	}
	return f
}
