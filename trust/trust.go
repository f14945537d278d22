// Package trust is the room of one question: who, other than root, could change what is read from a path of the host?
//
// What it is asked about is read with the agent's rights, which are root's: a manifest, the configuration, an image, a filter of
// system calls. So who can change that can do what root can. It must not know what such a file is for.
package trust

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// maxLinks is how many symlinks one path may lead over (path_resolution(7)).
const maxLinks = 40

// Path is nil where root alone, or who the agent runs as, can change what is at a path, or put something else there. Every
// folder on the way is looked at, that of each symlink too: it must be theirs, and writable by nobody else, unless it is
// sticky as /tmp is, where others can add files but replace none. So in a sticky folder a file must be theirs. At its end there
// is no such exemption for a file; a folder may be sticky: what others add to it is theirs, and refused for that.
//
// A path that does not exist is as good as the way to it. The error names the first that others can change, and what to do.
func Path(path string) error {
	if !filepath.IsAbs(path) { // not filepath.Abs, which drops what is before a ..
		dir, err := os.Getwd()
		if err != nil {
			return fmt.Errorf("look at who may write %s: %w", path, err)
		}
		path = dir + "/" + path
	}
	err := walk(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// walk looks at a path from the root to its end, as the kernel resolves it.
func walk(path string) error {
	at, rest, links := "/", parts(path), 0
	if err := check(at); err != nil {
		return err
	}
	for len(rest) > 0 {
		next := filepath.Join(at, rest[0])
		rest = rest[1:]
		if next == at || next == filepath.Dir(at) { // . and .. were looked at
			at = next
			continue
		}
		if err := check(next); err != nil {
			return err
		}
		to, err := os.Readlink(next)
		if errors.Is(err, syscall.EINVAL) { // no symlink
			at = next
			continue
		}
		if err != nil {
			return fmt.Errorf("look at who may write %s: %w", path, err)
		}
		if links++; links > maxLinks {
			return fmt.Errorf("look at who may write %s: %w", path, syscall.ELOOP)
		}
		if filepath.IsAbs(to) {
			at = "/"
		}
		rest = append(parts(to), rest...)
	}
	return nil
}

// parts are the names of a path. What is before a .. must not be dropped: it may be a symlink.
func parts(path string) []string {
	return strings.FieldsFunc(path, func(r rune) bool { return r == '/' })
}

// check looks at one entry of a folder.
func check(path string) error {
	info, err := os.Lstat(path)
	if err != nil {
		return fmt.Errorf("look at who may write %s: %w", path, err)
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return fmt.Errorf("look at who may write %s: its file system does not say", path)
	}
	if stat.Uid != 0 && int(stat.Uid) != os.Geteuid() {
		return &Error{Path: path, Why: fmt.Sprintf("belongs to user %d", stat.Uid), Remedy: "chown root " + path}
	}
	others := fs.FileMode(0o022)
	if stat.Gid == 0 {
		others = 0o002 // who is in root's group is root, or was let in by it
	}
	writable := info.Mode().Perm()&others != 0
	switch {
	case info.Mode()&fs.ModeSymlink != 0: // its mode says nothing
	case writable && (!info.IsDir() || info.Mode()&fs.ModeSticky == 0):
		return &Error{Path: path, Why: fmt.Sprintf("can be written by others (mode %04o)", info.Mode().Perm()), Remedy: "chmod go-w " + path}
	}
	return nil
}

// Error is that somebody else than root can change a file, or what is read in its place.
type Error struct {
	Path   string // the file, or a folder on the way to it
	Why    string
	Remedy string // a command
}

// Error says what is wrong and what to do.
func (e *Error) Error() string {
	return fmt.Sprintf("%s %s, who would be root by it: %s", e.Path, e.Why, e.Remedy)
}
