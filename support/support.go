// Package support is the room of what people send along when they report a defect: one archive of what a host and an
// agent tell of themselves, without secrets.
//
//	support.go  steps, bounded in time and size, become an archive
//	redact.go   what is left out of whatever a step adds
//	host.go     what a host tells: programs, files, folders
//
// It must not know what an agent is: which steps there are is said by who asks for the archive. A host that is asked for
// one is mostly broken, so no step is waited for, and none is needed by another.
package support

import (
	"archive/tar"
	"cmp"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

// Step adds files of one kind to an archive.
type Step struct {
	Name string
	Time time.Duration // it may take; 0 is [DefaultTime]
	Do   func(ctx context.Context, b *Bag) error
}

// DefaultTime is how long a step may take.
const DefaultTime = 20 * time.Second

// MaxFile is how much of a file is added, in bytes: the end of what grows, the beginning of the rest.
const MaxFile = 8 << 20

// atOnce is how many steps are done at once: most of them wait.
const atOnce = 4

// ErrorsFile is the file in the archive that says what is missing in it.
const ErrorsFile = "errors.txt"

// Bag is what a step has added so far. Its methods are safe for concurrent use.
type Bag struct {
	mu     sync.Mutex
	files  []file
	errs   []error
	closed bool
}

type file struct {
	name    string
	content []byte
}

// Add adds a file. What is added after the step's time is over is lost. The content of a name that ends in .json must be
// JSON, of which fields are left out; every other one is text.
func (b *Bag) Add(name string, content []byte) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.closed {
		b.files = append(b.files, file{path.Clean(strings.TrimPrefix(name, "/")), content})
	}
}

// Fail notes that something of the step is missing; the step goes on.
func (b *Bag) Fail(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err != nil && !b.closed {
		b.errs = append(b.errs, err)
	}
}

func (b *Bag) close() ([]file, []error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	return b.files, b.errs
}

// Write does all steps and writes what they add, without what r leaves out, as a .tar.gz of one folder. It answers what is
// missing, sorted, which stands in errors.txt, too. The error is of out; then no further step begins.
func Write(ctx context.Context, out io.Writer, folder string, steps []Step, r *Redactor) (missing []string, err error) {
	a := newArchive(out, folder, r)
	work, ctx := errgroup.WithContext(ctx)
	work.SetLimit(atOnce)
	for _, step := range steps {
		work.Go(func() error {
			if ctx.Err() != nil {
				return fmt.Errorf("cut off: %w", ctx.Err())
			}
			files, errs := step.run(ctx)
			return a.take(step.Name, files, errs)
		})
	}
	if err := work.Wait(); err != nil {
		return nil, err
	}
	slices.Sort(a.missing)
	if len(a.missing) > 0 {
		if err := a.put(file{ErrorsFile, []byte(strings.Join(a.missing, "\n") + "\n")}); err != nil {
			return nil, err
		}
	}
	return a.missing, a.close()
}

// run does a step. Where that hangs, it is left behind, and what it has added until then is taken.
func (s Step) run(ctx context.Context) ([]file, []error) {
	limit := cmp.Or(s.Time, DefaultTime)
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	b := &Bag{}
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer func() {
			if p := recover(); p != nil { // a defect here is no reason to have nothing
				b.Fail(fmt.Errorf("panic: %v", p))
			}
		}()
		b.Fail(s.Do(ctx, b))
	}()
	select {
	case <-done:
	case <-ctx.Done():
		b.Fail(fmt.Errorf("it did not end in %s, and is left behind", limit))
	}
	return b.close()
}

// archive is a .tar.gz that is being written.
type archive struct {
	folder  string
	redact  *Redactor
	made    time.Time
	mu      sync.Mutex
	zip     *gzip.Writer
	tar     *tar.Writer
	names   map[string]bool
	missing []string
}

func newArchive(out io.Writer, folder string, r *Redactor) *archive {
	zip := gzip.NewWriter(out)
	return &archive{folder: folder, redact: r, made: time.Now(), zip: zip, tar: tar.NewWriter(zip), names: map[string]bool{}}
}

// take writes what a step has added, and notes what is missing of it.
func (a *archive) take(step string, files []file, errs []error) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, f := range files {
		clean, err := a.redact.Clean(f.name, f.content)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s is left out: %w", f.name, err))
			continue
		}
		if err := a.put(file{f.name, cut(clean)}); err != nil {
			return err
		}
	}
	for _, err := range errs {
		text := strings.Join(strings.Fields(err.Error()), " ")
		a.missing = append(a.missing, a.redact.text(step+": "+text))
	}
	return nil
}

// put writes a file. Of two with one name the second is told of by a number.
func (a *archive) put(f file) error {
	name := f.name
	for n := 2; a.names[name]; n++ {
		name = fmt.Sprintf("%s.%d", f.name, n)
	}
	a.names[name] = true
	header := &tar.Header{Name: path.Join(a.folder, name), Mode: 0o600, Size: int64(len(f.content)), ModTime: a.made, Typeflag: tar.TypeReg}
	err := a.tar.WriteHeader(header)
	if err == nil {
		_, err = a.tar.Write(f.content)
	}
	if err != nil {
		return fmt.Errorf("write archive: %w", err)
	}
	return nil
}

func (a *archive) close() error {
	if err := errors.Join(a.tar.Close(), a.zip.Close()); err != nil {
		return fmt.Errorf("write archive: %w", err)
	}
	return nil
}

// cut keeps the beginning of what is too long, in whole lines.
func cut(content []byte) []byte {
	if len(content) <= MaxFile {
		return content
	}
	return append(wholeLines(content[:MaxFile], false), fmt.Sprintf("(the rest of %d bytes is left out)\n", len(content))...)
}

// wholeLines drops the line that a cut went through: half of a secret would not be known for one.
func wholeLines(content []byte, atStart bool) []byte {
	if atStart {
		_, rest, _ := strings.Cut(string(content), "\n")
		return []byte(rest)
	}
	return content[:strings.LastIndexByte(string(content), '\n')+1]
}
