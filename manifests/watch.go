package manifests

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/fsnotify/fsnotify"
)

const (
	defaultRescan = 20 * time.Second
	blindRescan   = time.Second // where the kernel gives no events
)

// Watch follows a directory until ctx is done. It calls deliver, in its own goroutine and never twice at once, with the
// Set as it was found first, be it only that the directory cannot be read, and then with each Set that differs from the
// one before. Watch answers nil when ctx is done; it fails only where the configuration makes no sense.
func Watch(ctx context.Context, cfg Config, deliver func(Set)) error {
	if cfg.Dir == "" {
		return errors.New("watch manifests: no directory given")
	}
	dir, err := filepath.Abs(cfg.Dir)
	if err != nil {
		return fmt.Errorf("watch manifests: %w", err)
	}
	cfg.Dir = dir
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Rescan <= 0 {
		cfg.Rescan = defaultRescan
	}
	if cfg.KeepDir != "" && filepath.Clean(cfg.KeepDir) == dir {
		return fmt.Errorf("watch manifests: %s cannot hold both the manifests and what is kept of them", dir)
	}
	w := newWatcher(cfg, deliver)
	defer w.events.close()
	w.run(ctx)
	return nil
}

// watcher is the one goroutine that looks, picks and delivers.
type watcher struct {
	cfg     Config
	deliver func(Set)
	events  *events
	scanner scanner
	keeper  keeper
	running map[Key]Object
	last    *Set
}

func newWatcher(cfg Config, deliver func(Set)) *watcher {
	w := &watcher{cfg: cfg, deliver: deliver, keeper: keeper{dir: cfg.KeepDir, secretDir: cfg.SecretDir}, events: newEvents(cfg.Dir, cfg.Log)}
	kept, err := w.keeper.load(cfg.Dir)
	if err != nil {
		cfg.Log.Warn("some last good manifests are lost", "error", err)
	}
	w.scanner = scanner{dir: cfg.Dir, trust: cfg.Trust, mounted: openMounted(cfg.KeepDir), files: make(map[string]*tracked), first: true}
	for name, e := range kept {
		w.scanner.files[name] = &tracked{name: name, entry: *e}
	}
	w.running = byKey(pick(w.scanner.entries(), nil).objects)
	return w
}

func (w *watcher) run(ctx context.Context) {
	for ctx.Err() == nil {
		// First the watches, then the look: no change falls between them.
		blind := w.events.arm()
		w.look(time.Now())
		wait := w.cfg.Rescan
		if blind {
			wait = min(wait, blindRescan)
		}
		if w.scanner.again > 0 {
			wait = min(wait, w.scanner.again)
		}
		w.events.wait(ctx, wait)
	}
}

// look goes once from the directory to the Set.
func (w *watcher) look(now time.Time) {
	err := w.scanner.scan(now)
	if w.last != nil && !w.scanner.changed && fmt.Sprint(err) == fmt.Sprint(w.last.Err) {
		return
	}
	w.scanner.changed = false
	picked := pick(w.scanner.entries(), w.running)
	w.running = byKey(picked.objects)
	for name, f := range w.scanner.files {
		w.keep(f, picked.good[&f.entry])
		if f.presence == gone {
			delete(w.scanner.files, name)
		}
	}
	next := picked.set()
	next.Err = err
	if w.last != nil && same(*w.last, next) {
		return
	}
	w.last = &next
	w.deliver(next)
}

func byKey(objects []Object) map[Key]Object {
	all := make(map[Key]Object, len(objects))
	for _, o := range objects {
		all[o.Key()] = o
	}
	return all
}

// keep remembers the documents that objects of a file come from now, in memory and in KeepDir.
func (w *watcher) keep(f *tracked, good []document) {
	switch f.presence {
	case unread, missing:
		return // nothing new is known
	case present:
		if slices.EqualFunc(f.good, good, func(a, b document) bool { return &a.text[0] == &b.text[0] }) && !f.unstored {
			return
		}
	case gone:
	}
	f.good = good
	content := stitch(good)
	if len(good) > 0 && !broken(f.docs) && len(good) == len(f.docs) {
		content = f.data
	}
	err := w.keeper.save(f.name, content, good)
	if err != nil && !f.unstored {
		w.cfg.Log.Error("a restart will not know the last good manifest", "file", f.path, "error", err)
	}
	f.unstored = err != nil
}

// same tells whether two Sets say the same. Lines do not count: a comment above a Pod is no change.
func same(a, b Set) bool {
	return slices.EqualFunc(a.Pods, b.Pods, func(a, b Pod) bool {
		return a.Key() == b.Key() && a.Revision == b.Revision && a.File == b.File
	}) && slices.EqualFunc(a.Objects, b.Objects, func(a, b Object) bool {
		return a.Key() == b.Key() && a.Revision == b.Revision && a.File == b.File
	}) && slices.Equal(a.Refused, b.Refused) && fmt.Sprint(a.Err) == fmt.Sprint(b.Err)
}

// events wakes the watcher when something may have changed in the directory, or in the way to it.
type events struct {
	dir      string
	log      *slog.Logger
	notify   *fsnotify.Watcher // nil where the kernel has none left
	inside   os.FileInfo       // the directory that is watched, nil for none
	above    string            // the nearest directory above it that exists, watched for it to come, go or be replaced
	aboveIs  os.FileInfo
	complain bool
}

func newEvents(dir string, log *slog.Logger) *events {
	notify, err := fsnotify.NewWatcher()
	if err != nil {
		log.Warn("no file events: manifests are looked at by the clock", "dir", dir, "error", err)
		return &events{dir: dir, log: log}
	}
	return &events{dir: dir, log: log, notify: notify, complain: true}
}

func (e *events) close() {
	if e.notify == nil {
		return
	}
	if err := e.notify.Close(); err != nil {
		e.log.Warn("close file events", "error", err)
	}
}

// arm sets the watches on what is there now. It answers whether changes may go unseen.
func (e *events) arm() (blind bool) {
	if e.notify == nil {
		return true
	}
	above := filepath.Dir(e.dir)
	for !isDir(above) && above != filepath.Dir(above) {
		above = filepath.Dir(above)
	}
	if above != e.above && e.above != "" {
		e.disarm(e.above)
		e.aboveIs = nil
	}
	e.above = above
	e.aboveIs = e.watch(above, e.aboveIs)
	e.inside = e.watch(e.dir, e.inside)
	return e.aboveIs == nil || e.inside == nil && isDir(e.dir)
}

// watch makes sure that the directory at path, and not one that was there before, is watched; it answers which one is.
func (e *events) watch(path string, watched os.FileInfo) os.FileInfo {
	now, err := os.Stat(path)
	if err != nil || !now.IsDir() {
		if watched != nil {
			e.disarm(path)
		}
		return nil
	}
	if watched != nil && os.SameFile(watched, now) && slices.Contains(e.notify.WatchList(), path) {
		return now
	}
	if watched != nil {
		e.disarm(path)
	}
	if err := e.notify.Add(path); err != nil {
		if e.complain {
			e.log.Warn("no file events: manifests are looked at by the clock", "dir", path, "error", err)
			e.complain = false
		}
		return nil
	}
	return now
}

// disarm takes a watch back; one that the kernel dropped already is as good.
func (e *events) disarm(path string) {
	if err := e.notify.Remove(path); err != nil && !errors.Is(err, fsnotify.ErrNonExistentWatch) {
		e.log.Warn("drop file events", "dir", path, "error", err)
	}
}

// wait returns when something happened that concerns the directory, after a time, or when ctx is done.
func (e *events) wait(ctx context.Context, atMost time.Duration) {
	timer := time.NewTimer(atMost)
	defer timer.Stop()
	var happened <-chan fsnotify.Event
	var faults <-chan error
	if e.notify != nil {
		happened, faults = e.notify.Events, e.notify.Errors
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
			return
		case event := <-happened:
			if e.concerns(event) {
				e.drain()
				return
			}
		case err := <-faults:
			if !errors.Is(err, fsnotify.ErrEventOverflow) {
				e.log.Warn("file events", "dir", e.dir, "error", err)
			}
			return
		}
	}
}

// drain takes what came with the event that is acted upon: one look sees it all.
func (e *events) drain() {
	for {
		select {
		case event := <-e.notify.Events:
			e.concerns(event)
		default:
			return
		}
	}
}

// concerns leaves out neighbours of the directory. Where the directory itself went away, or came, its watch is set
// anew.
func (e *events) concerns(event fsnotify.Event) bool {
	name := filepath.Clean(event.Name)
	if name != e.dir && strings.HasPrefix(e.dir+"/", name+"/") {
		return true
	}
	if name == e.dir {
		if event.Has(fsnotify.Remove) || event.Has(fsnotify.Rename) || event.Has(fsnotify.Create) {
			e.disarm(e.dir)
			e.inside = nil
		}
		return true
	}
	return filepath.Dir(name) == e.dir
}

func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}
