package mirror

import (
	"sync"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
)

// How many changes, of how many bytes together, whoever watches may be behind, beyond what there was at the start.
const (
	maxBehind      = 2048
	maxBytesBehind = 32 << 20
)

// watcher tells one client of changes.
type watcher struct {
	table *Table
	which Selection

	todo   []watch.Event // under the Mirror's lock; their objects are not for the client to change
	behind int           // under the Mirror's lock: how many of todo are changes
	bytes  int           // and of how many bytes

	wake    chan struct{} // of size 1: there is something to do
	out     chan watch.Event
	stopped chan struct{}
	stop    sync.Once
}

// add has the client be told of a change, as far as it is one of what it watches.
func (w *watcher) add(c change) {
	was, now := w.which.has(c.was), w.which.has(c.now)
	switch {
	case was && now:
		w.queue(watch.Modified, c.now, c.bytes)
	case now:
		w.queue(watch.Added, c.now, c.bytes)
	case was:
		w.queue(watch.Deleted, at(c.was, c.revision), c.bytes)
	}
}

func (w *watcher) queue(kind watch.EventType, o runtime.Object, bytes int) {
	w.behind, w.bytes = w.behind+1, w.bytes+bytes
	if w.behind > maxBehind || w.bytes > maxBytesBehind {
		w.end()
		return
	}
	w.todo = append(w.todo, watch.Event{Type: kind, Object: o})
	w.poke()
}

func (w *watcher) poke() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

func (w *watcher) run() {
	defer close(w.out)
	for {
		select {
		case <-w.stopped:
			return
		case <-w.wake:
		}
		for _, e := range w.take() {
			e.Object = e.Object.DeepCopyObject() // who encodes it writes into it
			select {
			case w.out <- e:
			case <-w.stopped:
				return
			}
		}
	}
}

func (w *watcher) take() []watch.Event {
	w.table.mirror.mu.Lock()
	defer w.table.mirror.mu.Unlock()
	todo := w.todo
	w.todo, w.behind, w.bytes = nil, 0, 0
	return todo
}

// end ends the watch, under the Mirror's lock.
func (w *watcher) end() {
	delete(w.table.watchers, w)
	w.todo = nil // its reader may hold the rest of it for long
	w.stop.Do(func() { close(w.stopped) })
}

// Stop ends the watch.
func (w *watcher) Stop() {
	w.table.mirror.mu.Lock()
	defer w.table.mirror.mu.Unlock()
	w.end()
}

// ResultChan is what the client is told; it is closed when the watch ends.
func (w *watcher) ResultChan() <-chan watch.Event { return w.out }
