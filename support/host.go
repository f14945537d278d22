package support

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

func newLines(content []byte) *bufio.Reader { return bufio.NewReader(bytes.NewReader(content)) }

// Command adds what a program says, the end of it where that is too much, and answers whether it succeeded.
func (b *Bag) Command(ctx context.Context, name, program string, args ...string) bool {
	said := &tail{max: MaxFile}
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Stdout, cmd.Stderr, cmd.WaitDelay = said, said, time.Second
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C", "TZ=" + os.Getenv("TZ")}
	err := cmd.Run()
	if errors.Is(err, exec.ErrNotFound) || errors.Is(err, fs.ErrNotExist) {
		b.Fail(fmt.Errorf("%s is not installed", program))
		return false
	}
	if err != nil {
		err = fmt.Errorf("%s: %w", strings.Join(append([]string{program}, args...), " "), err)
		b.Fail(err)
		fmt.Fprintf(said, "(%v)\n", err)
	}
	b.Add(name, said.bytes())
	return err == nil
}

// tail keeps the end of what is written.
type tail struct {
	max  int
	kept []byte
	lost bool
}

// Write never fails.
func (t *tail) Write(p []byte) (int, error) {
	t.kept = append(t.kept, p...)
	if len(t.kept) > 2*t.max {
		t.kept, t.lost = slices.Clone(t.kept[len(t.kept)-t.max:]), true
	}
	return len(p), nil
}

func (t *tail) bytes() []byte {
	if len(t.kept) > t.max {
		t.kept, t.lost = t.kept[len(t.kept)-t.max:], true
	}
	if t.lost {
		return append([]byte("(what was before is left out)\n"), wholeLines(t.kept, true)...)
	}
	return t.kept
}

// Read reads the beginning of a file that is a file, and no pipe or device.
func Read(name string, most int64) ([]byte, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("read %s: it is no file", name)
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	content, err := io.ReadAll(io.LimitReader(f, most))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	return content, nil
}

// ReadEnd reads the end of a file, in whole lines.
func ReadEnd(name string, most int64) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	skipped := max(info.Size()-most, 0)
	content, err := io.ReadAll(io.NewSectionReader(f, skipped, most))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	if skipped > 0 {
		content = wholeLines(content, true)
	}
	return content, nil
}

// Files adds the files that match, under their paths below a folder of the archive.
func (b *Bag) Files(ctx context.Context, folder string, patterns ...string) {
	for _, pattern := range patterns {
		found, err := filepath.Glob(pattern)
		b.Fail(err)
		for _, name := range found {
			if ctx.Err() != nil {
				return
			}
			content, err := Read(name, MaxFile)
			if err != nil {
				b.Fail(err)
				continue
			}
			b.Add(filepath.Join(folder, name), content)
		}
	}
}

// maxListed is how many files a list has.
const maxListed = 20_000

// List adds a list of what is in folders: mode, owner, size, time and name, not what is in the files. Folders that are closed
// are told of, and not looked into.
func (b *Bag) List(ctx context.Context, name string, closed func(path string) bool, roots ...string) {
	var out strings.Builder
	count := 0
	for _, root := range roots {
		err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if err != nil {
				fmt.Fprintf(&out, "%s: %v\n", path, err)
				return nil
			}
			if count++; count > maxListed {
				return fmt.Errorf("list %s: there are more than %d files", root, maxListed)
			}
			if info, err := d.Info(); err == nil {
				target := ""
				if link, err := os.Readlink(path); err == nil {
					target = " -> " + link
				}
				fmt.Fprintf(&out, "%s %10d %s %s%s\n", info.Mode(), info.Size(), info.ModTime().UTC().Format(time.RFC3339), path, target)
			}
			if d.IsDir() && closed(path) {
				return filepath.SkipDir
			}
			return nil
		})
		b.Fail(err)
	}
	b.Add(name, []byte(out.String()))
}

// Sections adds many small files as one, such as those of a cgroup. What cannot be read is left out.
func (b *Bag) Sections(name string, files []string, most int64) {
	var out bytes.Buffer
	for _, f := range files {
		content, err := Read(f, most)
		if err != nil || len(content) == 0 {
			continue
		}
		fmt.Fprintf(&out, "== %s\n%s", f, content)
		if content[len(content)-1] != '\n' {
			out.WriteByte('\n')
		}
	}
	if out.Len() > 0 {
		b.Add(name, out.Bytes())
	}
}
