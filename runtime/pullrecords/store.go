package pullrecords

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// The folders of what was begun and of what is there.
const (
	pulling = "pulling"
	pulled  = "pulled"
)

// store keeps small files, each of them whole at any instant, whatever is killed. An empty dir keeps none.
type store struct{ dir string }

// fileOf is the name of the file about an image.
func fileOf(key string) string { return fmt.Sprintf("sha256-%x", sha256.Sum256([]byte(key))) }

// make makes the folders.
func (s store) make() error {
	if s.dir == "" {
		return nil
	}
	for _, folder := range []string{pulling, pulled} {
		if err := os.MkdirAll(filepath.Join(s.dir, folder), 0o700); err != nil {
			return fmt.Errorf("make folder of pull records: %w", err)
		}
	}
	return nil
}

// list answers the files in a folder, and removes those that were not written to their end.
func (s store) list(folder string) (files []string, err error) {
	if s.dir == "" {
		return nil, nil
	}
	entries, err := os.ReadDir(filepath.Join(s.dir, folder))
	if err != nil {
		return nil, fmt.Errorf("list pull records: %w", err)
	}
	for _, e := range entries {
		switch {
		case strings.HasPrefix(e.Name(), "sha256-"):
			files = append(files, e.Name())
		case strings.HasPrefix(e.Name(), "."):
			_ = s.remove(folder, e.Name())
		}
	}
	return files, nil
}

func (s store) read(folder, file string, into any) error {
	text, err := os.ReadFile(filepath.Join(s.dir, folder, file))
	if err != nil {
		return fmt.Errorf("read pull record: %w", err)
	}
	if err := json.Unmarshal(text, into); err != nil {
		return fmt.Errorf("read pull record %s/%s: %w", folder, file, err)
	}
	return nil
}

// write puts a file on disk, in the place of the old one.
func (s store) write(folder, file string, content any) error {
	if s.dir == "" {
		return nil
	}
	text, err := json.Marshal(content)
	if err != nil {
		return fmt.Errorf("encode pull record: %w", err)
	}
	beside := filepath.Join(s.dir, folder, "."+file)
	f, err := os.OpenFile(beside, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("write pull record: %w", err)
	}
	_, err = f.Write(text)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(beside, filepath.Join(s.dir, folder, file))
	}
	if err != nil {
		return fmt.Errorf("write pull record: %w", errors.Join(err, os.Remove(beside)))
	}
	return s.sync(folder)
}

// remove removes a file. That it comes back after a crash does no harm: it takes a right away, and gives none.
func (s store) remove(folder, file string) error {
	if s.dir == "" {
		return nil
	}
	if err := os.Remove(filepath.Join(s.dir, folder, file)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove pull record: %w", err)
	}
	return nil
}

// sync makes the names in a folder durable.
func (s store) sync(folder string) error {
	f, err := os.Open(filepath.Join(s.dir, folder))
	if err != nil {
		return fmt.Errorf("write pull record: %w", err)
	}
	defer f.Close()
	if err := f.Sync(); err != nil {
		return fmt.Errorf("write pull record: %w", err)
	}
	return nil
}
