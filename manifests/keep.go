package manifests

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// keeper is the folder that holds, under the name of each manifest file, its last good content: byte for byte while all
// of the file is good, else the documents that Pods were last taken from. A kill of podkeeper loses nothing of it; what
// a loss of power may damage is of no more harm than a copy that is not there.
type keeper struct{ dir string }

const unfinished = ".unfinished" // ends the name of a copy being written, which makes it no manifest name

// load reads all copies as entries whose files were not looked at yet.
func (k keeper) load(manifests string) (map[string]*entry, error) {
	entries := make(map[string]*entry)
	if k.dir == "" {
		return entries, nil
	}
	names, err := list(k.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return entries, nil
	}
	var faults []error
	if err != nil {
		faults = append(faults, fmt.Errorf("read last good manifests: %w", err))
	}
	for _, name := range names {
		data, err := os.ReadFile(filepath.Join(k.dir, name))
		if err != nil {
			faults = append(faults, fmt.Errorf("read last good manifest: %w", err))
			continue
		}
		e := &entry{path: filepath.Join(manifests, name), presence: unread}
		for _, doc := range decode(e.path, data) {
			if len(doc.pods) > 0 {
				e.good = append(e.good, doc)
			}
		}
		entries[name] = e
	}
	return entries, errors.Join(faults...)
}

// save makes the copy of a file be content, and removes it where there is none.
func (k keeper) save(name string, content []byte) error {
	if k.dir == "" {
		return nil
	}
	path := filepath.Join(k.dir, name)
	if len(content) == 0 {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("forget manifest: %w", err)
		}
		return nil
	}
	if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, content) {
		return nil
	}
	if err := os.MkdirAll(k.dir, 0o700); err != nil {
		return fmt.Errorf("keep manifest: %w", err)
	}
	if err := os.WriteFile(path+unfinished, content, 0o600); err != nil {
		return fmt.Errorf("keep manifest: %w", err)
	}
	if err := os.Rename(path+unfinished, path); err != nil {
		return fmt.Errorf("keep manifest: %w", err)
	}
	return nil
}

// stitch puts documents of several versions of a file into one.
func stitch(docs []document) []byte {
	var all []byte
	for i, doc := range docs {
		if i > 0 && !separator(doc.text) {
			all = append(all, "---\n"...)
		}
		all = append(all, doc.text...)
		if !bytes.HasSuffix(all, []byte("\n")) {
			all = append(all, '\n')
		}
	}
	return all
}

// list is the names of the manifest files in a directory, sorted.
func list(dir string) ([]string, error) {
	found, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, f := range found {
		if isManifest(f.Name()) {
			names = append(names, f.Name())
		}
	}
	return names, nil
}

// isManifest leaves out what editors and people leave behind: dot files, backups, and all that does not end as YAML or
// JSON does.
func isManifest(name string) bool {
	if strings.HasPrefix(name, ".") || strings.HasPrefix(name, "~") {
		return false
	}
	switch filepath.Ext(name) {
	case ".yaml", ".yml", ".json":
		return true
	}
	return false
}
