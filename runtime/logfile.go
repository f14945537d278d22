package runtime

import (
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// logFile is a container's log file, rotated by size. Both streams of the container write to it.
type logFile struct {
	path     string
	maxSize  int64
	maxFiles int

	mu      sync.Mutex
	file    *os.File
	size    int64
	line    []byte // reused
	tidying sync.WaitGroup
}

func openLogFile(path string, maxSize int64, maxFiles int) (*logFile, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	l := &logFile{path: path, maxSize: maxSize, maxFiles: maxFiles}
	return l, l.open()
}

func (l *logFile) open() error {
	f, err := os.OpenFile(l.path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o640)
	if err != nil {
		return fmt.Errorf("open log: %w", err)
	}
	stat, err := f.Stat()
	if err != nil {
		return errors.Join(fmt.Errorf("open log: %w", err), f.Close())
	}
	l.file, l.size = f, stat.Size()
	return nil
}

// write appends entries in one system call. A disk that takes no more loses them, so that the container is not held up.
func (l *logFile) write(stream string, entries []entry) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.line = l.line[:0]
	now := time.Now()
	for _, e := range entries {
		l.line = now.AppendFormat(l.line, time.RFC3339Nano)
		l.line = append(l.line, ' ')
		l.line = append(l.line, stream...)
		if e.partial {
			l.line = append(l.line, " P "...)
		} else {
			l.line = append(l.line, " F "...)
		}
		l.line = append(l.line, e.text...)
		l.line = append(l.line, '\n')
	}
	n, _ := l.file.Write(l.line)
	l.size += int64(n)
	if cap(l.line) > scratchSize {
		l.line = nil
	}
	if l.size >= l.maxSize {
		l.rotate(now)
	}
}

// rotate renames the file to one with the time behind its name, as the kubelet does, and begins a new one. Two rotations
// in one second would have one name: the second waits.
func (l *logFile) rotate(now time.Time) {
	old := l.path + "." + now.Format("20060102-150405")
	for _, taken := range []string{old, old + gzSuffix} {
		if _, err := os.Lstat(taken); err == nil {
			return
		}
	}
	if os.Rename(l.path, old) != nil {
		return
	}
	full := l.file
	if l.open() != nil {
		return // writes go on to the renamed file, and the next one tries again
	}
	_ = full.Close()
	l.tidying.Wait() // at most one round behind
	l.tidying.Go(func() { tidyRotated(l.path, l.maxFiles-1) })
}

// Close waits for a rotation to be done.
func (l *logFile) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.tidying.Wait()
	return l.file.Close()
}

const gzSuffix = ".gz"

// tidyRotated keeps the newest rotated files and compresses all of them but the very newest, which a reader may still
// follow. What an interrupted round left half-written is removed.
func tidyRotated(path string, keep int) {
	files, err := filepath.Glob(globEscape(path) + ".*")
	if err != nil {
		return
	}
	files = slices.DeleteFunc(files, func(f string) bool {
		half := strings.HasSuffix(f, ".tmp")
		if half {
			_ = os.Remove(f)
		}
		return half
	})
	slices.Sort(files)
	for len(files) > max(keep, 0) {
		_ = os.Remove(files[0])
		files = files[1:]
	}
	for i, f := range files {
		if i < len(files)-1 && !strings.HasSuffix(f, gzSuffix) {
			_ = compress(f)
		}
	}
}

// globEscape makes a path match itself only.
func globEscape(path string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(path)
}

// compress replaces a file by its gzip.
func compress(path string) error {
	in, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("compress log: %w", err)
	}
	defer in.Close()
	tmp := path + gzSuffix + ".tmp"
	out, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o640)
	if err != nil {
		return fmt.Errorf("compress log: %w", err)
	}
	zip := gzip.NewWriter(out)
	_, err = io.Copy(zip, in)
	if err = errors.Join(err, zip.Close(), out.Close()); err != nil {
		return fmt.Errorf("compress log: %w", err)
	}
	if err := os.Rename(tmp, path+gzSuffix); err != nil {
		return fmt.Errorf("compress log: %w", err)
	}
	if err := os.Remove(path); err != nil {
		return fmt.Errorf("compress log: %w", err)
	}
	return nil
}
