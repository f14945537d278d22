package manifests

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	poll      = 20 * time.Millisecond // between looks at a file that somebody is writing
	writeWait = 5 * time.Second       // how long a file may be open for writing before it is read all the same
	settle    = 50 * time.Millisecond // how long a file stays gone, or broken, before that is believed
	clockTick = 20 * time.Millisecond // two changes of a file within this may leave the same times on it
)

// stamp tells one state of a file from another without reading it.
type stamp struct {
	inode
	size         int64
	mtime, ctime time.Time
}

// inode is one file, whatever it is called.
type inode struct{ dev, ino uint64 }

func stampOf(info fs.FileInfo) (stamp, bool) {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return stamp{}, false
	}
	return stamp{inode: inode{dev: stat.Dev, ino: stat.Ino}, size: stat.Size, mtime: info.ModTime(), ctime: time.Unix(stat.Ctim.Unix())}, true
}

// tracked is what the scanner remembers of a manifest file.
type tracked struct {
	entry
	name     string
	data     []byte
	seen     stamp     // the state that data was read in; zero makes the next scan read it again
	young    bool      // data was read so soon after a change that another one may hide behind the same stamp
	writing  time.Time // since when somebody is found writing the file, or zero
	since    time.Time // when the file was found missing
	unstored bool      // the copy in KeepDir could not be brought up to date
}

// scanner compares the directory with what it remembers, and reads files that changed.
type scanner struct {
	dir     string
	trust   func(path string) error // nil trusts every file
	mounted *mounted
	files   map[string]*tracked
	changed bool          // since the last pick, a file did
	first   bool          // this is the first look: do not wait for anything
	again   time.Duration // when to look again, 0 for no need
}

func (s *scanner) lookAgain(in time.Duration) {
	if in = max(in, time.Millisecond); s.again == 0 || in < s.again {
		s.again = in
	}
}

// scan looks at the whole directory once. Where it cannot be read, nothing that is remembered changes.
func (s *scanner) scan(now time.Time) error {
	s.again = 0
	names, err := list(s.dir)
	if err == nil {
		err = s.mounted.check(s.dir, len(names) > 0)
	}
	if err != nil {
		s.lookAgain(blindRescan) // a mount is no event
		return fmt.Errorf("read manifest directory: %w", err)
	}
	listed := make(map[string]bool, len(names))
	for _, name := range names {
		f, known := s.files[name]
		if !known {
			f = &tracked{name: name, entry: entry{path: filepath.Join(s.dir, name), presence: unread}}
		}
		if s.look(f, now) {
			listed[name] = true
			s.files[name] = f
		}
	}
	arriving := s.arriving(listed)
	for name, f := range s.files {
		if !listed[name] {
			s.miss(f, now, arriving)
		}
	}
	s.findTwins()
	s.first = false
	return nil
}

// miss notes that a file is not there. Editors that rename the old file away before they write the new one, and a
// rename that the listing of the directory ran into, are over before that is believed.
func (s *scanner) miss(f *tracked, now time.Time, arriving bool) {
	switch f.presence {
	case unread, present:
		f.presence, f.since, s.changed = missing, now, true
	case missing:
	case gone:
		return
	}
	left := settle - now.Sub(f.since)
	if left <= 0 && arriving {
		left = poll
	}
	if left > 0 && !s.first {
		s.lookAgain(left)
		return
	}
	f.presence, s.changed = gone, true
}

// arriving tells whether a new file is still being written: it may be what a missing one was moved to.
func (s *scanner) arriving(listed map[string]bool) bool {
	for name := range listed {
		if f := s.files[name]; f.presence == unread && !f.writing.IsZero() {
			return true
		}
	}
	return false
}

// findTwins finds the files that are away and that others were called before they were renamed.
func (s *scanner) findTwins() {
	away := make(map[inode]string)
	for _, f := range s.files {
		if f.away() && f.seen.ino != 0 {
			away[f.seen.inode] = f.path
		}
	}
	for _, f := range s.files {
		f.twin = ""
		if !f.away() {
			f.twin = away[f.seen.inode]
		}
	}
}

// look brings what is known of a file that is listed up to date; it answers false where the file vanished meanwhile.
func (s *scanner) look(f *tracked, now time.Time) bool {
	info, err := os.Stat(f.path)
	if vanished(f.path, err) {
		return false
	}
	if f.away() || f.unstored {
		s.changed = true
	}
	f.appear()
	if err != nil {
		s.unreadable(f, err)
		return true
	}
	if now, ok := stampOf(info); ok && now == f.seen && !f.young {
		return true
	}
	s.read(f, now)
	return true
}

// appear notes that a file is listed. What was read of one that was missing for a moment stands until it is read anew.
func (f *tracked) appear() {
	switch f.presence {
	case unread, present:
	case missing, gone:
		f.presence = present
		if f.docs == nil {
			f.presence = unread
		}
	}
}

// vanished tells a file that went away under the scanner's hands, and may be back by now as an editor's new one, from a
// link that leads nowhere.
func vanished(path string, err error) bool {
	if !errors.Is(err, fs.ErrNotExist) {
		return false
	}
	now, err := os.Lstat(path)
	if err != nil || now.Mode()&fs.ModeSymlink == 0 {
		return err == nil || errors.Is(err, fs.ErrNotExist)
	}
	_, err = os.Stat(path)
	return err == nil
}

func (s *scanner) unreadable(f *tracked, err error) {
	reason := err
	if inner, ok := errors.AsType[*fs.PathError](err); ok {
		reason = inner.Err
	}
	s.accept(f, nil, stamp{}, refuseFile(f.path, "cannot be read: "+reason.Error()))
}

func (s *scanner) accept(f *tracked, data []byte, seen stamp, docs []document) {
	s.changed = true
	f.presence, f.data, f.seen, f.docs, f.writing = present, data, seen, docs, time.Time{}
}

var (
	errWriting   = errors.New("somebody is writing")
	errIrregular = errors.New("not a file")
)

// read reads a file that changed, unless it is not complete yet.
func (s *scanner) read(f *tracked, now time.Time) {
	overdue := !f.writing.IsZero() && now.Sub(f.writing) >= writeWait
	data, seen, err := readWhole(f.path, overdue)
	if err == nil && s.trust != nil {
		if fault := s.trust(f.path); fault != nil {
			s.accept(f, nil, stamp{}, refuseFile(f.path, "is not trusted: "+fault.Error()))
			return
		}
		if replaced(f.path, seen) { // what is trusted is another file than the one that was read
			err = errWriting
		}
	}
	if errors.Is(err, errWriting) {
		if f.writing.IsZero() {
			f.writing = now
		}
		s.lookAgain(poll)
		return
	}
	if vanished(f.path, err) {
		s.lookAgain(0)
		return
	}
	if err != nil {
		s.unreadable(f, err)
		return
	}
	f.young = time.Since(seen.ctime).Abs() < clockTick
	if f.young {
		s.lookAgain(clockTick)
	}
	if f.presence == present && f.seen != (stamp{}) && bytes.Equal(data, f.data) {
		f.seen, f.writing = seen, time.Time{}
		return
	}
	docs := decode(f.path, data, false)
	age := time.Since(seen.mtime)
	if broken(docs) && !s.first && age >= 0 && age < settle {
		s.lookAgain(settle - age)
		return
	}
	s.accept(f, data, seen, docs)
}

// replaced says whether a path leads to another file, or another content, than was read.
func replaced(path string, read stamp) bool {
	info, err := os.Stat(path)
	return err != nil || !unchanged(read, info)
}

func broken(docs []document) bool {
	return slices.ContainsFunc(docs, func(d document) bool { return len(d.refused) > 0 })
}

// readWhole reads a file that nobody is writing to: while podkeeper holds a read lease on it, the kernel keeps writers
// waiting. Where there are no leases, a file that did not change for a moment will do.
func readWhole(path string, overdue bool) ([]byte, stamp, error) {
	// Without O_NONBLOCK a named pipe would hold up the whole directory.
	file, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, stamp{}, err
	}
	defer file.Close() // gives the lease back
	info, err := file.Stat()
	if err != nil {
		return nil, stamp{}, err
	}
	if !info.Mode().IsRegular() {
		return nil, stamp{}, errIrregular
	}
	_, err = unix.FcntlInt(file.Fd(), unix.F_SETLEASE, unix.F_RDLCK)
	leased := err == nil
	switch {
	case leased || overdue:
	case errors.Is(err, unix.EAGAIN):
		return nil, stamp{}, errWriting
	case time.Since(info.ModTime()).Abs() < settle:
		return nil, stamp{}, errWriting
	}
	if info, err = file.Stat(); err != nil {
		return nil, stamp{}, err
	}
	data, err := io.ReadAll(io.LimitReader(file, maxBytes+1))
	if err != nil {
		return nil, stamp{}, err
	}
	before, ok := stampOf(info)
	if after, err := file.Stat(); err != nil || !ok || !unchanged(before, after) {
		return nil, stamp{}, errWriting
	}
	return data, before, nil
}

func unchanged(before stamp, after fs.FileInfo) bool {
	now, ok := stampOf(after)
	return ok && now == before
}

// entries lists all files by path, for pick.
func (s *scanner) entries() []*entry {
	all := make([]*entry, 0, len(s.files))
	for _, f := range s.files {
		all = append(all, &f.entry)
	}
	slices.SortFunc(all, func(a, b *entry) int { return strings.Compare(a.path, b.path) })
	return all
}
