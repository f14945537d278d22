package runtime

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// writeLog writes files of a log: what is behind its name → content, compressed where that ends in .gz.
func writeLog(t *testing.T, files map[string]string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "0.log")
	for name, content := range files {
		data := []byte(content)
		if strings.HasSuffix(name, gzSuffix) {
			var zipped bytes.Buffer
			zip := gzip.NewWriter(&zipped)
			if _, err := zip.Write(data); err != nil || zip.Close() != nil {
				t.Fatal(err)
			}
			data = zipped.Bytes()
		}
		if err := os.WriteFile(path+name, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return path
}

func TestReadLog(t *testing.T) {
	t.Parallel()
	const (
		one   = "2026-01-01T00:00:01.5Z stdout F one\n"
		two   = "2026-01-01T00:00:02Z stderr F two\n"
		three = "2026-01-01T00:00:03Z stdout P thr\n2026-01-01T00:00:03.1Z stdout F ee\n"
		four  = "2026-01-01T00:00:04Z stdout F four\n"
		oldA  = ".20260101-000001"
		oldB  = ".20260101-000002"
	)
	whole := map[string]string{"": one + two + three + four}
	rotated := map[string]string{oldA + ".gz": one + two, oldB: three, "": four}
	all := LogQuery{Tail: -1, Limit: -1}
	for sentence, r := range map[string]struct {
		files map[string]string
		query func(q *LogQuery)
		want  string
	}{
		"the text of both streams in the order of the file": {whole, nil, "one\ntwo\nthree\nfour\n"},
		"what was rotated comes first, compressed or not":   {rotated, nil, "one\ntwo\nthree\nfour\n"},
		"a file that is just being compressed is read once": {map[string]string{oldA: one, oldA + ".gz": one, "": two}, nil, "one\ntwo\n"},
		"the last lines":                                           {whole, func(q *LogQuery) { q.Tail = 1 }, "four\n"},
		"no last line":                                             {whole, func(q *LogQuery) { q.Tail = 0 }, ""},
		"more last lines than there are":                           {whole, func(q *LogQuery) { q.Tail = 9 }, "one\ntwo\nthree\nfour\n"},
		"the last lines reach into what was rotated":               {rotated, func(q *LogQuery) { q.Tail = 3 }, "three\nfour\n"},
		"and into what was compressed":                             {rotated, func(q *LogQuery) { q.Tail = 4 }, "two\nthree\nfour\n"},
		"since a time":                                             {rotated, func(q *LogQuery) { q.Since = time.Date(2026, 1, 1, 0, 0, 3, 0, time.UTC) }, "three\nfour\n"},
		"no more bytes than wanted":                                {rotated, func(q *LogQuery) { q.Limit = 6 }, "one\ntw"},
		"a limit at the end of a line":                             {whole, func(q *LogQuery) { q.Limit = 4 }, "one\n"},
		"times, one a line":                                        {whole, func(q *LogQuery) { q.Timestamps = true }, "2026-01-01T00:00:01.500000000Z one\n2026-01-01T00:00:02.000000000Z two\n2026-01-01T00:00:03.000000000Z three\n2026-01-01T00:00:04.000000000Z four\n"},
		"what is not in the format, or not whole yet, is left out": {map[string]string{"": "nonsense\n" + one + "2026-01-01T00:00:05Z stdout F unfin"}, nil, "one\n"},
		"a long line":                                              {map[string]string{"": "2026-01-01T00:00:01Z stdout F " + long(3*readPiece) + "\n" + one}, nil, long(3*readPiece) + "\none\n"},
	} {
		t.Run(sentence, func(t *testing.T) {
			t.Parallel()
			q := all
			if r.query != nil {
				r.query(&q)
			}
			var out bytes.Buffer
			if err := ReadLog(t.Context(), writeLog(t, r.files), q, &out, &out); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(r.want, out.String()); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
	t.Run("one stream alone", func(t *testing.T) {
		t.Parallel()
		var out bytes.Buffer
		if err := ReadLog(t.Context(), writeLog(t, whole), all, nil, &out); err != nil || out.String() != "two\n" {
			t.Errorf("%q, %v", out.String(), err)
		}
	})
	t.Run("there is none", func(t *testing.T) {
		t.Parallel()
		if err := ReadLog(t.Context(), filepath.Join(t.TempDir(), "0.log"), all, nil, nil); !errors.Is(err, fs.ErrNotExist) {
			t.Error(err)
		}
	})
}

// lines gathers what was read.
type lines struct {
	mu  sync.Mutex
	got bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.got.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.got.String()
}

// TestFollowedThroughRotation is line 48 of what users of others met: logs -f stops, loses lines or repeats them where the
// file is rotated.
func TestFollowedThroughRotation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "0.log")
		file, err := openLogFile(path, 2000, 1000)
		if err != nil {
			t.Fatal(err)
		}
		const count = 3000
		var out lines
		read := make(chan error)
		go func() {
			read <- ReadLog(t.Context(), path, LogQuery{Tail: -1, Limit: -1, Follow: file.grown}, &out, &out)
		}()
		var want strings.Builder
		for i := range count {
			line := fmt.Sprintf("line %d", i)
			fmt.Fprintln(&want, line)
			say(file, "stdout", line)
			if i%50 == 0 {
				time.Sleep(time.Second) // rotations are a second apart
			}
			if i == count/2 {
				synctest.Wait()
				if out.String() != want.String() {
					t.Error("what is written is not read before the end")
				}
			}
		}
		if err := file.Close(); err != nil {
			t.Fatal(err)
		}
		if err := <-read; err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want.String(), out.String()); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
		if len(rotatedFiles(path)) < 20 {
			t.Errorf("it was rotated %d times only", len(rotatedFiles(path)))
		}
	})
}

func TestFollowingEndsWithItsReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "0.log")
		file, err := openLogFile(path, 1<<20, 2)
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		if err := ReadLog(ctx, path, LogQuery{Tail: -1, Limit: -1, Follow: file.grown}, nil, nil); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
	})
}

func BenchmarkReadLog(b *testing.B) {
	line := "2026-01-01T00:00:01.123456789Z stdout F " + long(100) + "\n"
	path := filepath.Join(b.TempDir(), "0.log")
	if err := os.WriteFile(path, []byte(strings.Repeat(line, 100<<20/len(line))), 0o600); err != nil {
		b.Fatal(err)
	}
	b.SetBytes(100 << 20)
	for b.Loop() {
		if err := ReadLog(b.Context(), path, LogQuery{Tail: -1, Limit: -1}, discard{}, nil); err != nil {
			b.Fatal(err)
		}
	}
}

type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }
