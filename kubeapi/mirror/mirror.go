// Package mirror holds what the agent says there is, and tells whoever watches of every change. It is a copy: nothing is
// changed here, and with the agent it ends.
//
//	agent ── GET /objects ──▶ Take ──▶ Table ─┬─▶ Get, List
//	                                          └─▶ Watch
//
// It must not know what the objects are, nor who asks for them.
package mirror

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"sync"

	"k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/podkeeper/podkeeper/server"
)

// How many changes of a resource are remembered, of how many bytes together as the agent tells them, for whoever watches from an
// earlier revision.
const (
	maxHistory      = 512
	maxHistoryBytes = 32 << 20
)

// Mirror is all objects at one revision. Its methods are safe for concurrent use.
type Mirror struct {
	decode func([]byte) (runtime.Object, error)

	mu       sync.Mutex
	revision uint64
	moved    chan struct{} // closed with the next change; nil while nobody waits for one
	tables   map[schema.GroupResource]*Table
}

// New is a Mirror of nothing yet. decode makes an object of what the agent says of it.
func New(decode func([]byte) (runtime.Object, error)) *Mirror {
	return &Mirror{decode: decode, tables: map[schema.GroupResource]*Table{}}
}

// Take takes over what the agent says. The error says what of it cannot be read.
func (m *Mirror) Take(c server.Change) error {
	if c.Type == server.Bookmark {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.forget(c.Revision)
		m.reach(c.Revision)
		return nil
	}
	o, err := m.decode(c.Object)
	if err != nil {
		return fmt.Errorf("read one of %s: %w", c.Resource, err)
	}
	t := m.Table(schema.ParseGroupResource(c.Resource))
	m.mu.Lock()
	defer m.mu.Unlock()
	t.take(watch.EventType(c.Type), o, c)
	m.reach(c.Revision)
	return nil
}

// forget begins history at the revision at which all there is was told of: what was before, and is no more, nobody knows.
func (m *Mirror) forget(revision uint64) {
	for _, t := range m.tables {
		t.history, t.bytes, t.forgotten = nil, 0, revision
	}
}

// reach says that all changes up to a revision are here.
func (m *Mirror) reach(revision uint64) {
	m.revision = max(m.revision, revision)
	if m.moved != nil {
		close(m.moved)
		m.moved = nil
	}
}

// next answers a channel that is closed with the next change.
func (m *Mirror) next() <-chan struct{} {
	if m.moved == nil {
		m.moved = make(chan struct{})
	}
	return m.moved
}

// Await returns when all changes up to a revision are here, or with the error of ctx.
func (t *Table) Await(ctx context.Context, revision uint64) error {
	return t.mirror.until(ctx, func() bool { return t.mirror.revision >= revision })
}

// until waits for what is so under the lock.
func (m *Mirror) until(ctx context.Context, so func() bool) error {
	for {
		m.mu.Lock()
		done, next := so(), m.next()
		m.mu.Unlock()
		if done {
			return nil
		}
		select {
		case <-next:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Table answers the objects of a resource.
func (m *Mirror) Table(resource schema.GroupResource) *Table {
	m.mu.Lock()
	defer m.mu.Unlock()
	t := m.tables[resource]
	if t == nil {
		// What was before this revision is not known.
		t = &Table{mirror: m, resource: resource, rows: map[types.NamespacedName]row{}, watchers: map[*watcher]bool{}, forgotten: m.revision}
		m.tables[resource] = t
	}
	return t
}

// Table is the objects of one resource.
type Table struct {
	mirror   *Mirror
	resource schema.GroupResource

	// All of it is under the Mirror's lock.
	rows      map[types.NamespacedName]row
	history   []change
	bytes     int    // of history
	forgotten uint64 // the newest revision that is not in history any more
	watchers  map[*watcher]bool
}

// row is an object, which nobody changes, at its revision.
type row struct {
	object   runtime.Object
	revision uint64
}

// change is what became of an object.
type change struct {
	revision uint64
	bytes    int
	was, now runtime.Object // nil where there is none
}

// take takes over a change, with its object.
func (t *Table) take(kind watch.EventType, o runtime.Object, told server.Change) {
	name := nameOf(o)
	c := change{revision: told.Revision, bytes: len(told.Object), was: t.rows[name].object, now: o}
	if kind == watch.Deleted {
		c.now = nil
		delete(t.rows, name)
	} else {
		t.rows[name] = row{o, told.Revision}
	}
	if c.was == nil && c.now == nil {
		return
	}
	t.remember(c)
	for w := range t.watchers {
		w.add(c)
	}
}

// remember adds a change to history, and forgets what is too much.
func (t *Table) remember(c change) {
	t.history, t.bytes = append(t.history, c), t.bytes+c.bytes
	for len(t.history) > maxHistory || t.bytes > maxHistoryBytes {
		t.bytes -= t.history[0].bytes
		t.forgotten = t.history[0].revision
		t.history = slices.Delete(t.history, 0, 1)
	}
}

func nameOf(o runtime.Object) types.NamespacedName {
	m, err := meta.Accessor(o)
	if err != nil {
		return types.NamespacedName{}
	}
	return types.NamespacedName{Namespace: m.GetNamespace(), Name: m.GetName()}
}

// Get answers a copy of an object. The error is one of Kubernetes' API: not found.
func (t *Table) Get(name types.NamespacedName) (runtime.Object, error) {
	t.mirror.mu.Lock()
	defer t.mirror.mu.Unlock()
	r, ok := t.rows[name]
	if !ok {
		return nil, errors.NewNotFound(t.resource, name.Name)
	}
	return r.object.DeepCopyObject(), nil
}

// AwaitChange returns when an object is here as it was at a revision or later, or was removed since then, or with the error of ctx.
func (t *Table) AwaitChange(ctx context.Context, name types.NamespacedName, revision uint64) error {
	return t.mirror.until(ctx, func() bool {
		r, there := t.rows[name]
		return there && r.revision >= revision || !there && t.removedSince(name, revision)
	})
}

func (t *Table) removedSince(name types.NamespacedName, revision uint64) bool {
	for _, c := range slices.Backward(t.history) {
		if c.revision < revision {
			return false
		}
		if c.now == nil && nameOf(c.was) == name {
			return true
		}
	}
	return false
}

// AwaitObject returns when an object is not here any more, or is as is wanted, or with the error of ctx.
func (t *Table) AwaitObject(ctx context.Context, name types.NamespacedName, is func(runtime.Object) bool) error {
	return t.mirror.until(ctx, func() bool {
		r, there := t.rows[name]
		return !there || is(r.object)
	})
}

// Selection says which objects of a Table are meant.
type Selection struct {
	Namespace string                    // empty for all
	Match     func(runtime.Object) bool // nil for all
}

func (s Selection) has(o runtime.Object) bool {
	return o != nil && (s.Namespace == "" || nameOf(o).Namespace == s.Namespace) && (s.Match == nil || s.Match(o))
}

// List answers objects, sorted by namespace and name, which are not for the caller to change, and the revision at which there were
// these.
func (t *Table) List(which Selection) ([]runtime.Object, uint64) {
	t.mirror.mu.Lock()
	defer t.mirror.mu.Unlock()
	return t.list(which), t.mirror.revision
}

func (t *Table) list(which Selection) []runtime.Object {
	found := []runtime.Object{}
	for _, name := range slices.SortedFunc(maps.Keys(t.rows), compareNames) {
		if o := t.rows[name].object; which.has(o) {
			found = append(found, o)
		}
	}
	return found
}

func compareNames(a, b types.NamespacedName) int {
	return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
}

// at is a copy of an object with a revision.
func at(o runtime.Object, revision uint64) runtime.Object {
	o = o.DeepCopyObject()
	if m, err := meta.Accessor(o); err == nil {
		m.SetResourceVersion(strconv.FormatUint(revision, 10))
	}
	return o
}

// Start says from where on a watch tells of changes.
type Start struct {
	Revision uint64         // of which the watcher knows already; 0 is to be told of all that there is first
	Initial  bool           // tell of all that there is first, and say when that is all (WatchList)
	Mark     runtime.Object // an empty object, to say so with; nil for who does not want to be told
}

// Watch tells of objects. The error is one of Kubernetes' API: that what was since a revision is not known any more. A watch
// whose reader is too slow ends.
func (t *Table) Watch(which Selection, from Start) (watch.Interface, error) {
	t.mirror.mu.Lock()
	defer t.mirror.mu.Unlock()
	w := &watcher{table: t, which: which, wake: make(chan struct{}, 1), out: make(chan watch.Event), stopped: make(chan struct{})}
	switch {
	case from.Revision == 0 || from.Initial:
		for _, o := range t.list(which) {
			w.todo = append(w.todo, watch.Event{Type: watch.Added, Object: o})
		}
		if from.Initial && from.Mark != nil {
			w.todo = append(w.todo, watch.Event{Type: watch.Bookmark, Object: t.mark(from.Mark)})
		}
	case from.Revision < t.forgotten || from.Revision > t.mirror.revision:
		return nil, errors.NewResourceExpired(fmt.Sprintf("too old resource version: %d (%d)", from.Revision, t.mirror.revision))
	default:
		for _, c := range t.history {
			if c.revision > from.Revision {
				w.add(c)
			}
		}
	}
	t.watchers[w] = true
	go w.run()
	w.poke()
	return w, nil
}

// mark is the bookmark that says that all there is was told of.
func (t *Table) mark(empty runtime.Object) runtime.Object {
	o := at(empty, t.mirror.revision)
	if m, err := meta.Accessor(o); err == nil {
		m.SetAnnotations(map[string]string{metav1.InitialEventsAnnotationKey: "true"})
	}
	return o
}
