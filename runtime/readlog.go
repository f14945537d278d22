package runtime

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"
)

// LogQuery says what of a container's log is wanted.
type LogQuery struct {
	Tail       int64                  // so many of the last lines; negative is all of them. Pieces of a long line count as lines
	Since      time.Time              // what was written then or later; zero is all
	Limit      int64                  // so many bytes; negative is no limit
	Timestamps bool                   // each line begins with its time
	Follow     func() <-chan struct{} // Log.Grown of a log that may grow; nil is to end where the log ends now
}

// ReadLog writes the text of a container's log, what was rotated before it included, to where its two streams go; nil leaves
// a stream out. No line is lost or repeated by a rotation meanwhile, as long as the files in between are kept. The error is
// fs.ErrNotExist where there is no log, that of ctx, or a writer's.
func ReadLog(ctx context.Context, path string, q LogQuery, stdout, stderr io.Writer) error {
	r := &logReader{path: path, query: q, stdout: stdout, stderr: stderr, left: q.Limit}
	defer r.close()
	if err := r.begin(); err != nil {
		return fmt.Errorf("read log: %w", err)
	}
	for {
		var more <-chan struct{}
		if q.Follow != nil {
			more = q.Follow() // before the end is seen
		}
		switch err := r.drain(ctx); {
		case errors.Is(err, errEnough):
			return nil
		case err != nil:
			return fmt.Errorf("read log: %w", err)
		case more == nil:
			return nil
		}
		select {
		case <-more:
		case <-ctx.Done():
			return fmt.Errorf("read log: %w", ctx.Err())
		}
	}
}

// errEnough ends the reading when as much was written as was wanted.
var errEnough = errors.New("enough")

// readPiece is how much of a log is read and written at once, in bytes.
const readPiece = 256 << 10

// maxReadLine is how long a line of a log file may be, in bytes, whoever has written it. A longer one is left out.
const maxReadLine = 4 * readPiece

// timeOut is how times are told, always of one width (k8s.io/cri-client pkg/logs, RFC3339NanoFixed).
const timeOut = "2006-01-02T15:04:05.000000000Z07:00"

// logReader reads the files of one log, the oldest first.
type logReader struct {
	path           string
	query          LogQuery
	stdout, stderr io.Writer
	left           int64 // of the limit

	older    []oldLog
	current  *os.File
	reading  io.Reader // one of older, or current
	closes   func() error
	buffer   []byte
	partial  int   // bytes in the buffer that are no whole line yet
	overlong bool  // the line goes on that is too long, and left out
	skip     int64 // lines that are not wanted
	out      []byte
	to       io.Writer // whose out is
	streams  [2]logSink
}

// logSink is one of the two streams.
type logSink struct {
	to      io.Writer
	midline bool // its last entry goes on in the next
}

// oldLog is a rotated file, by its name without that of compression, and how many of its lines are not wanted.
type oldLog struct {
	name string
	skip int64
}

// begin finds out where to begin.
func (r *logReader) begin() error {
	var err error
	if r.current, err = openLog(r.path, os.O_RDONLY); err != nil {
		return err
	}
	r.buffer, r.out = make([]byte, readPiece), make([]byte, 0, readPiece)
	r.streams = [2]logSink{{to: r.stdout}, {to: r.stderr}}
	older := r.between(r.path)
	if r.query.Tail < 0 {
		for _, name := range older {
			r.older = append(r.older, oldLog{name: name})
		}
		return nil
	}
	found, at, err := lastLines(r.current, r.query.Tail)
	if err != nil {
		return err
	}
	if _, err := r.current.Seek(at, io.SeekStart); err != nil {
		return err
	}
	for want := r.query.Tail - found; want > 0 && len(older) > 0; older = older[:len(older)-1] {
		name := older[len(older)-1]
		lines, err := countLines(name)
		if err != nil {
			return err
		}
		r.older = slices.Insert(r.older, 0, oldLog{name, max(0, lines-want)})
		want -= lines
	}
	return nil
}

// currentName is what the file that was the log's when it was opened is called now.
func (r *logReader) currentName() string {
	name, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", r.current.Fd()))
	if err != nil {
		return r.path
	}
	return strings.TrimSuffix(name, " (deleted)")
}

func (r *logReader) close() {
	if r.closes != nil {
		_ = r.closes()
	}
	if r.current != nil {
		_ = r.current.Close()
	}
}

// drain writes what there is.
func (r *logReader) drain(ctx context.Context) error {
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		if r.reading == nil {
			if err := r.open(); err != nil {
				return err
			}
		}
		n, err := r.reading.Read(r.buffer[r.partial:])
		if err := r.take(r.partial + n); err != nil {
			return err
		}
		switch {
		case err == nil:
		case !errors.Is(err, io.EOF):
			return err
		case r.reading != r.current:
			_ = r.closes()
			r.closes, r.reading, r.partial = nil, nil, 0
		case !r.follow():
			return nil
		}
	}
}

// open begins with the next file.
func (r *logReader) open() error {
	if len(r.older) == 0 {
		r.reading = r.current
		return nil
	}
	next := r.older[0]
	r.older = r.older[1:]
	reader, closes, err := openRotated(next.name)
	if errors.Is(err, fs.ErrNotExist) {
		return r.open() // it was too old to be kept
	}
	if err != nil {
		return err
	}
	r.reading, r.closes, r.skip = reader, closes, next.skip
	return nil
}

// follow goes on with the file after the one that was rotated, and says whether there is one. The writer writes to the next
// file only once that has the log's name: the end of this one is its end then.
func (r *logReader) follow() bool {
	now, err := os.Stat(r.path)
	if err != nil {
		return false
	}
	if mine, err := r.current.Stat(); err != nil || os.SameFile(now, mine) {
		return false
	}
	if at, err := r.current.Seek(0, io.SeekCurrent); err != nil || at < size(r.current) {
		return err == nil // more came before it was rotated
	}
	was := r.currentName()
	next, err := os.Open(r.path)
	if err != nil {
		return false
	}
	_ = r.current.Close()
	r.current, r.reading, r.partial = next, nil, 0
	if was != r.path { // else somebody removed it
		for _, name := range r.between(was) {
			r.older = append(r.older, oldLog{name: name})
		}
	}
	return true
}

// between are the files that were rotated after the one of this name, and before the current one, the oldest first.
func (r *logReader) between(after string) []string {
	var names []string
	for _, name := range rotatedFiles(r.path) {
		name = strings.TrimSuffix(name, gzSuffix)
		current := r.currentName() // it may have been rotated since it was opened
		if name > after && (name < current || current == r.path) {
			names = append(names, name)
		}
	}
	return slices.Compact(names) // while one is compressed there are two
}

func size(f *os.File) int64 {
	stat, err := f.Stat()
	if err != nil {
		return 0
	}
	return stat.Size()
}

// take writes the whole lines that are in the first n bytes of the buffer, and keeps the rest for the next.
func (r *logReader) take(n int) error {
	rest := r.buffer[:n]
	if r.overlong {
		_, after, whole := bytes.Cut(rest, []byte("\n"))
		if !whole {
			r.partial = 0
			return nil
		}
		r.overlong, rest = false, after
	}
	for {
		line, after, whole := bytes.Cut(rest, []byte("\n"))
		if !whole {
			break
		}
		if err := r.entry(line); err != nil {
			return errors.Join(err, r.flush())
		}
		rest = after
	}
	r.partial = copy(r.buffer, rest)
	switch {
	case r.partial < len(r.buffer):
	case r.partial < maxReadLine:
		r.buffer = append(r.buffer, make([]byte, len(r.buffer))...)
	default:
		r.partial, r.overlong = 0, true
	}
	return r.flush()
}

// entry writes one line of the file. What is not in the format is left out.
func (r *logReader) entry(line []byte) error {
	if r.skip > 0 {
		r.skip--
		return nil
	}
	stamp, stream, tag, text, ok := entryFields(line)
	if !ok {
		return nil
	}
	sink := &r.streams[0]
	if string(stream) == "stderr" {
		sink = &r.streams[1]
	}
	begins := !sink.midline
	sink.midline = isPartial(tag)
	if sink.to == nil {
		return nil
	}
	var at time.Time
	if !r.query.Since.IsZero() || r.query.Timestamps {
		var err error
		if at, err = time.Parse(time.RFC3339Nano, string(stamp)); err != nil || at.Before(r.query.Since) {
			return nil
		}
	}
	if err := r.turnTo(sink.to); err != nil {
		return err
	}
	before := len(r.out)
	if r.query.Timestamps && begins {
		r.out = append(at.AppendFormat(r.out, timeOut), ' ')
	}
	r.out = append(r.out, text...)
	if !sink.midline {
		r.out = append(r.out, '\n')
	}
	if r.query.Limit < 0 {
		return nil
	}
	if added := int64(len(r.out) - before); added >= r.left {
		r.out = r.out[:before+int(r.left)]
		return errEnough
	}
	r.left -= int64(len(r.out) - before)
	return nil
}

// turnTo makes what follows another stream's.
func (r *logReader) turnTo(to io.Writer) error {
	if to == r.to {
		return nil
	}
	err := r.flush()
	r.to = to
	return err
}

// flush hands on what is gathered.
func (r *logReader) flush() error {
	if len(r.out) == 0 {
		return nil
	}
	_, err := r.to.Write(r.out)
	r.out = r.out[:0]
	return err
}

// openRotated opens a rotated file, compressed or not.
func openRotated(name string) (io.Reader, func() error, error) {
	for range 2 { // it may be compressed between two looks
		f, err := openLog(name, os.O_RDONLY)
		if err == nil {
			return f, f.Close, nil
		}
		f, err = openLog(name+gzSuffix, os.O_RDONLY)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, nil, err
		}
		zip, err := gzip.NewReader(f)
		if err != nil {
			return nil, nil, errors.Join(err, f.Close())
		}
		return zip, f.Close, nil
	}
	return nil, nil, fs.ErrNotExist
}

func ignoreEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// countLines is how many lines a rotated file has; none where it is gone.
func countLines(name string) (lines int64, err error) {
	r, closes, err := openRotated(name)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, closes()) }()
	piece := make([]byte, readPiece)
	for {
		n, err := r.Read(piece)
		lines += int64(bytes.Count(piece[:n], []byte("\n")))
		if err != nil {
			return lines, ignoreEOF(err)
		}
	}
}

// lastLines finds where the last of these lines of a file begin, and how many there are.
func lastLines(f *os.File, want int64) (found, at int64, err error) {
	piece := make([]byte, tailPiece)
	for begin := size(f); begin > 0; {
		from := max(0, begin-tailPiece)
		if _, err := f.ReadAt(piece[:begin-from], from); err != nil {
			return 0, 0, err
		}
		for i := begin - from - 1; i >= 0; i-- {
			if piece[i] != '\n' {
				continue
			}
			if found == want {
				return found, from + i + 1, nil
			}
			found++
		}
		begin = from
	}
	return found, 0, nil
}
