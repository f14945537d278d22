package manifests

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// keeper is the folder that holds, under the name of each manifest file, its last good content: byte for byte while all
// of the file is good, else the documents that objects were last taken from. A kill of podkeeper loses nothing of it; what
// a loss of power may damage is of no more harm than a copy that is not there. Secrets are not written to disk: of a file
// that has some, dir holds the other documents, and secretDir, where that is in memory, all.
type keeper struct{ dir, secretDir string }

const unfinished = ".unfinished" // ends the name of a copy being written, which makes it no manifest name

// load reads all copies as entries whose files were not looked at yet.
func (k keeper) load(manifests string) (map[string]*entry, error) {
	entries := make(map[string]*entry)
	var faults []error
	for _, dir := range []string{k.dir, k.secretDir} { // what is in the second is more
		if dir == "" {
			continue
		}
		names, err := list(dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			faults = append(faults, fmt.Errorf("read last good manifests: %w", err))
		}
		for _, name := range names {
			data, err := os.ReadFile(filepath.Join(dir, name))
			if err != nil {
				faults = append(faults, fmt.Errorf("read last good manifest: %w", err))
				continue
			}
			entries[name] = remembered(filepath.Join(manifests, name), data)
		}
	}
	return entries, errors.Join(faults...)
}

// remembered is a file of which only its last good content is known.
func remembered(path string, data []byte) *entry {
	e := &entry{path: path, presence: unread}
	for _, doc := range decode(path, data, false) {
		if len(doc.objects) > 0 {
			e.good = append(e.good, doc)
		}
	}
	return e
}

// save makes the copies of a file be content, which has the good documents, and removes them where there is none.
func (k keeper) save(name string, content []byte, good []document) error {
	open := slices.DeleteFunc(slices.Clone(good), document.secret)
	if len(open) == len(good) {
		return errors.Join(store(k.dir, name, content), store(k.secretDir, name, nil))
	}
	err := store(k.dir, name, stitch(open))
	if !inMemory(k.secretDir) {
		return err
	}
	return errors.Join(err, store(k.secretDir, name, content))
}

// secret tells whether there is a Secret in a document.
func (d document) secret() bool {
	return slices.ContainsFunc(d.objects, func(o Object) bool { return kinds[o.Kind].hidden })
}

// inMemory tells whether what is written to a folder, which is made where there is none, never gets to a disk.
func inMemory(dir string) bool {
	var stat unix.Statfs_t
	return dir != "" && os.MkdirAll(dir, 0o700) == nil && unix.Statfs(dir, &stat) == nil &&
		(stat.Type == unix.TMPFS_MAGIC || stat.Type == unix.RAMFS_MAGIC)
}

// store makes the copy of a file in a folder be content, and removes it where there is none.
func store(dir, name string, content []byte) error {
	if dir == "" {
		return nil
	}
	path := filepath.Join(dir, name)
	if len(content) == 0 {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("forget manifest: %w", err)
		}
		return nil
	}
	if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, content) {
		return nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
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
