package runtime

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/fsnotify/fsnotify"
)

// settle is how long a file in the image directory must have been left alone before it is read.
const settle = 200 * time.Millisecond

// ImportDir imports the archives of a folder, and again those that change, until ctx ends. The folder need not exist yet.
// imported is called after images came in. Until the first pass is done, EnsureImage waits with asking a registry for an
// image that may be among them.
func (r *Runtime) ImportDir(ctx context.Context, dir string, imported func()) {
	seen := map[string]fileID{}
	pass := func() {
		if r.importNew(ctx, dir, seen) {
			imported()
		}
	}
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		r.cfg.Log.Warn("image directory is read only once", "dir", dir, "error", err)
		pass()
		close(r.importing)
		return
	}
	defer watcher.Close()
	watching := watcher.Add(dir) == nil
	pass()
	close(r.importing)
	timer := time.NewTimer(time.Hour)
	timer.Stop()
	for {
		if !watching {
			timer.Reset(20 * time.Second)
		}
		select {
		case <-ctx.Done():
			return
		case <-watcher.Events:
			timer.Reset(settle)
		case err := <-watcher.Errors:
			r.cfg.Log.Warn("image directory is read anew", "dir", dir, "error", err)
			timer.Reset(settle)
		case <-timer.C:
			watching = watcher.Add(dir) == nil // also when the folder was made anew
			pass()
		}
	}
}

// fileID tells one state of a file from another.
type fileID struct {
	size    int64
	changed time.Time
}

// archives are those of the image directory that could not be imported, and why, by their paths.
type archives struct {
	mu      sync.Mutex
	refused map[string]string
}

// refuse remembers why an archive is not imported, and says whether that is news.
func (a *archives) refuse(file, why string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.refused == nil {
		a.refused = map[string]string{}
	}
	news := a.refused[file] != why
	a.refused[file] = why
	return news
}

// keep forgets of archives that are not among these, or imported.
func (a *archives) keep(still func(file string) bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	maps.DeleteFunc(a.refused, func(file, _ string) bool { return !still(file) })
}

// explain tells who looks in vain for an image which archives were not imported: it may be in one of them.
func (a *archives) explain(err error) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if err == nil || len(a.refused) == 0 {
		return err
	}
	file := slices.Min(slices.Collect(maps.Keys(a.refused)))
	more := ""
	if others := len(a.refused) - 1; others > 0 {
		more = fmt.Sprintf(", nor were %d others", others)
	}
	return fmt.Errorf("%w (%s was not imported: %s%s)", err, file, a.refused[file], more)
}

// trust says who, other than root, could change what is at a path.
func (r *Runtime) trust(path string) error {
	if r.cfg.Trust == nil {
		return nil
	}
	return r.cfg.Trust(path)
}

// importNew imports the archives that are new or changed. One that cannot be read is tried again when it changes, and one that is
// not trusted as soon as it is.
func (r *Runtime) importNew(ctx context.Context, dir string, seen map[string]fileID) bool {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return false
	}
	any := false
	r.archives.keep(func(file string) bool {
		return slices.ContainsFunc(entries, func(e os.DirEntry) bool { return filepath.Join(dir, e.Name()) == file })
	})
	for _, e := range entries {
		file := filepath.Join(dir, e.Name())
		stat, err := os.Stat(file)
		if err != nil || !stat.Mode().IsRegular() || e.Name()[0] == '.' {
			continue
		}
		id := fileID{stat.Size(), stat.ModTime()}
		if seen[file] == id {
			continue
		}
		if err := r.trust(file); err != nil {
			if why := "it is not trusted: " + err.Error(); r.archives.refuse(file, why) {
				r.cfg.Log.Warn("image archive is not imported", "file", file, "reason", why)
			}
			continue
		}
		seen[file] = id
		names, err := r.Import(ctx, file)
		if err != nil {
			r.archives.refuse(file, err.Error())
			r.cfg.Log.Warn("image archive cannot be imported", "file", file, "error", err)
			continue
		}
		r.archives.keep(func(other string) bool { return other != file })
		r.cfg.Log.Info("imported images", "file", file, "images", names)
		any = true
	}
	return any
}

// awaitImports waits until the first pass over the image directory is done.
func (r *Runtime) awaitImports(ctx context.Context) {
	select {
	case <-ctx.Done():
	case <-r.importing:
	}
}
