package runtime

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Times of a log file.
const (
	rotateRetry = time.Second // between tries to rotate
	rotatedName = "20060102-150405"
)

// idleLine is how much memory a file keeps for its next lines, in bytes.
const idleLine = 4 << 10

// logFile is a container's log file, rotated by size. Both streams of the container write to it.
type logFile struct {
	path     string
	maxSize  int64
	maxFiles int

	mu          sync.Mutex
	file        *os.File
	inode       uint64
	size        int64
	line        []byte    // what is to be written; reused
	rotateAt    time.Time // not before
	compressing bool
	rotated     bool          // since compressing has begun
	more        chan struct{} // closed when there is more to read; nil while nobody waits
	closed      bool
	tidying     sync.WaitGroup
	closing     atomic.Bool
}

func openLogFile(path string, maxSize int64, maxFiles int) (*logFile, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	l := &logFile{path: path, maxSize: maxSize, maxFiles: maxFiles}
	return l, l.open()
}

func (l *logFile) open() error {
	f, err := openLog(l.path, os.O_RDWR|os.O_CREATE|os.O_APPEND)
	if err != nil {
		return fmt.Errorf("open log: %w", err)
	}
	stat, err := f.Stat()
	if err != nil {
		return errors.Join(fmt.Errorf("open log: %w", err), f.Close())
	}
	l.file, l.size = f, stat.Size()
	if system, ok := stat.Sys().(*syscall.Stat_t); ok {
		l.inode = system.Ino
	}
	l.mend()
	return nil
}

// mend cuts off a line that an agent could not write whole before it was killed: it is still where it came from.
func (l *logFile) mend() {
	tail := make([]byte, min(l.size, 2*maxLogLine))
	if _, err := l.file.ReadAt(tail, l.size-int64(len(tail))); err != nil {
		return
	}
	if torn := len(tail) - 1 - bytes.LastIndexByte(tail, '\n'); torn > 0 {
		l.cut(l.size - int64(torn))
	}
}

// cut leaves the first bytes of the file, as many as that.
func (l *logFile) cut(size int64) {
	if l.file.Truncate(size) == nil {
		l.size = size
	}
}

// write appends the line, which may be many, in one system call: all, or, where the disk takes no more, none, which the error says.
// It is called with the lock held.
func (l *logFile) write() error {
	n, err := l.file.Write(l.line)
	if err != nil {
		if n > 0 {
			err = errors.Join(err, l.file.Truncate(l.size))
		}
		return fmt.Errorf("write log: %w", err)
	}
	l.size += int64(n)
	l.tell()
	return nil
}

// rest is called, with the lock held, when nothing is to be written for now: it gives back memory that many lines took.
func (l *logFile) rest() {
	if cap(l.line) > idleLine {
		l.line = nil
	}
}

// grown is closed when more is written; it is nil when nothing more will be.
func (l *logFile) grown() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil
	}
	if l.more == nil {
		l.more = make(chan struct{})
	}
	return l.more
}

// tell wakes those who wait for more. It is called with the lock held.
func (l *logFile) tell() {
	if l.more != nil {
		close(l.more)
		l.more = nil
	}
}

// rotateFull rotates the file if it is full. It is called with the lock held.
func (l *logFile) rotateFull(now time.Time) {
	if l.size >= l.maxSize && !now.Before(l.rotateAt) {
		l.rotateAt = now.Add(rotateRetry)
		l.rotate(now)
	}
}

// rotate renames the file to one with the time behind its name, as the kubelet does, and begins a new one. Two rotations
// in one second would have one name: the second waits. Where no new file can be had, such as on a full disk, the old one
// gets its name back, for readers look for lines under no other.
func (l *logFile) rotate(now time.Time) {
	old := l.path + "." + now.Format(rotatedName)
	for _, taken := range []string{old, old + gzSuffix} {
		if _, err := os.Lstat(taken); err == nil {
			return
		}
	}
	// Where an earlier try could not even do that, the file has no name to be renamed from.
	if err := os.Rename(l.path, old); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return
	}
	full := l.file
	if l.open() != nil {
		_ = os.Rename(old, l.path)
		return
	}
	_ = full.Close()
	pruneRotated(l.path, l.maxFiles-1)
	l.compress()
}

// compress has rotated files compressed while writing goes on. It is called with the lock held.
func (l *logFile) compress() {
	l.rotated = true
	if l.compressing {
		return
	}
	l.compressing = true
	l.tidying.Go(func() {
		for l.again() {
			compressRotated(l.path, &l.closing)
		}
	})
}

// again says whether files were rotated since it was last asked; else compressing is over.
func (l *logFile) again() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.compressing, l.rotated = l.rotated && !l.closing.Load(), false
	return l.compressing
}

// Close does not wait for files to be compressed: one that is under way stays as it was.
func (l *logFile) Close() error {
	l.closing.Store(true)
	l.mu.Lock()
	l.closed = true
	l.tell()
	l.mu.Unlock()
	l.tidying.Wait()
	return l.file.Close()
}

const (
	gzSuffix  = ".gz"
	tmpSuffix = ".tmp"
)

// rotatedFiles are the rotated files of a log, the oldest first.
func rotatedFiles(path string) []string {
	files, _ := filepath.Glob(globEscape(path) + ".*")
	files = slices.DeleteFunc(files, func(f string) bool { return strings.HasSuffix(f, tmpSuffix) })
	slices.Sort(files)
	return files
}

// pruneRotated keeps the newest rotated files.
func pruneRotated(path string, keep int) {
	files := rotatedFiles(path)
	for _, f := range files[:max(0, len(files)-max(keep, 0))] {
		_ = os.Remove(f)
	}
}

// compressRotated compresses all rotated files but the very newest, which a reader may still follow, until it is stopped.
// What an agent that was killed has left half-written is removed.
func compressRotated(path string, stop *atomic.Bool) {
	halves, _ := filepath.Glob(globEscape(path) + ".*" + tmpSuffix)
	for _, f := range halves {
		_ = os.Remove(f)
	}
	files := rotatedFiles(path)
	for _, f := range files[:max(0, len(files)-1)] {
		if !strings.HasSuffix(f, gzSuffix) {
			_ = compress(f, stop) // unless it was removed meanwhile
		}
	}
}

// globEscape makes a path match itself only.
func globEscape(path string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(path)
}

// compress replaces a file by its gzip, unless it is stopped.
func compress(path string, stop *atomic.Bool) error {
	in, err := openLog(path, os.O_RDONLY)
	if err != nil {
		return fmt.Errorf("compress log: %w", err)
	}
	defer in.Close()
	tmp := path + gzSuffix + tmpSuffix
	out, err := openLog(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC)
	if err != nil {
		return fmt.Errorf("compress log: %w", err)
	}
	zip := gzip.NewWriter(out)
	_, err = io.Copy(zip, stoppable{in, stop})
	if err = errors.Join(err, zip.Close(), out.Close()); err == nil {
		err = os.Rename(tmp, path+gzSuffix)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("compress log: %w", err), os.Remove(tmp))
	}
	if err := os.Remove(path); err != nil {
		return fmt.Errorf("compress log: %w", err)
	}
	return nil
}

// stoppable is a reader that fails as soon as it is to stop.
type stoppable struct {
	io.Reader
	stop *atomic.Bool
}

// Read reads unless it is to stop.
func (r stoppable) Read(p []byte) (int, error) {
	if r.stop.Load() {
		return 0, errors.New("stopped")
	}
	return r.Reader.Read(p)
}
