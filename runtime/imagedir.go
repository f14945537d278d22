package runtime

import (
	"context"
	"os"
	"path/filepath"
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

// importNew imports the archives that are new or changed. One that cannot be read is tried again when it changes.
func (r *Runtime) importNew(ctx context.Context, dir string, seen map[string]fileID) bool {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return false
	}
	any := false
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
		seen[file] = id
		names, err := r.Import(ctx, file)
		if err != nil {
			r.cfg.Log.Warn("image archive cannot be imported", "file", file, "error", err)
			continue
		}
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
