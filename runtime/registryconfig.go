package runtime

import (
	"context"
	"maps"
	"os"
	"path/filepath"
	"time"

	"github.com/fsnotify/fsnotify"
)

// registryRescan is how often the configuration of registries is looked at when nothing tells that it has changed.
const registryRescan = 20 * time.Second

// WatchRegistryConfig calls changed whenever that changes which decides what a pull gets, until ctx ends: hosts.toml and the
// certificates beside it below HostsDir, and the files with credentials. Each pull reads them anew, so that one which failed
// may succeed now. None of them need exist.
func (r *Runtime) WatchRegistryConfig(ctx context.Context, changed func()) {
	watchFiles(ctx, pace{settle, registryRescan}, func() map[string]fileID { return registryFiles(r.cfg.HostsDir) }, changed)
}

// registryFiles are the files and folders that pulls depend on.
func registryFiles(hostsDir string) map[string]fileID {
	paths := append(credentialFiles(), hostsDir)
	for _, depth := range []string{"*", "*/*"} {
		found, _ := filepath.Glob(filepath.Join(globEscape(hostsDir), depth))
		paths = append(paths, found...)
	}
	files := map[string]fileID{}
	for _, path := range paths {
		stat, err := os.Stat(path)
		switch {
		case err != nil:
			files[path] = fileID{size: missing}
		case stat.IsDir():
			files[path] = fileID{size: folder}
		default:
			files[path] = fileID{stat.Size(), stat.ModTime()}
		}
	}
	return files
}

// Sizes of what is no file.
const (
	missing = -1
	folder  = -2
)

// credentialFiles are where the keychain looks for credentials, in its order.
func credentialFiles() []string {
	var files []string
	add := func(variable, file string) {
		if value := os.Getenv(variable); value != "" {
			files = append(files, filepath.Join(value, file))
		}
	}
	add("DOCKER_CONFIG", "config.json")
	if home, err := os.UserHomeDir(); err == nil {
		files = append(files, filepath.Join(home, ".docker", "config.json"))
	}
	add("REGISTRY_AUTH_FILE", "")
	add("XDG_RUNTIME_DIR", "containers/auth.json")
	return files
}

// pace says when files are looked at: so long after something has happened, and that often if nothing has.
type pace struct{ settle, rescan time.Duration }

// watchFiles calls changed a moment after the state of files has changed. They are looked at when something happens in their
// folders, and now and then.
func watchFiles(ctx context.Context, when pace, look func() map[string]fileID, changed func()) {
	var events chan fsnotify.Event
	var errs chan error
	watch := func(map[string]fileID) {}
	if watcher, err := fsnotify.NewWatcher(); err == nil { // else there is the look now and then
		defer watcher.Close()
		events, errs = watcher.Events, watcher.Errors
		watch = func(files map[string]fileID) {
			for path, id := range files {
				_ = watcher.Add(filepath.Dir(path))
				if id.size == folder {
					_ = watcher.Add(path)
				}
			}
		}
	}
	seen := look()
	watch(seen)
	next := time.After(when.settle) // something may have happened before it was watched
	soon := true
	for {
		select {
		case <-ctx.Done():
			return
		case err := <-errs: // events may be lost
			if err != nil && !soon {
				next, soon = time.After(when.settle), true
			}
		case <-events:
			if !soon {
				next, soon = time.After(when.settle), true
			}
		case <-next:
			now := look()
			watch(now)
			next, soon = time.After(when.rescan), false
			if !maps.Equal(seen, now) {
				seen = now
				next, soon = time.After(when.settle), true
				changed()
			}
		}
	}
}
