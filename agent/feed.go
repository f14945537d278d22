package agent

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	"github.com/podkeeper/podkeeper/agent/objects"
	"github.com/podkeeper/podkeeper/manifests"
	"github.com/podkeeper/podkeeper/server"
)

// How many changes, of how many bytes together, a follower may be behind, and for how long changes are gathered.
const (
	maxBehind      = 10_000
	maxBytesBehind = 64 << 20
	gather         = 5 * time.Millisecond
)

// errBehind says that a follower was too slow to be told of every change.
var errBehind = errors.New("too slow to be told of every change: begin again")

// eventResource is what events are called in paths.
const eventResource = "events"

// feed tells followers of every object that there is, and of every change. While nobody follows it remembers nothing.
type feed struct {
	wake chan struct{} // of size 1: something may be another one

	mu        sync.Mutex
	followers map[*reader]bool
	known     map[objects.ID]known
}

// reader is what a follower is told.
type reader struct {
	changes chan server.Change // closed where it was too slow
	behind  atomic.Int64       // bytes of objects that it was not told of yet
}

func newReader() *reader {
	return &reader{changes: make(chan server.Change, maxBehind)}
}

// known is what followers were told of an object last.
type known struct {
	mark    any
	uid     string
	fields  map[string]any    // until it is numbered
	content [sha256.Size]byte // a hash, without the revision
	change  server.Change
}

// sighting is an object as it is now, before the work of writing it down.
type sighting struct {
	mark  any // another one whenever the object may be
	write func() (map[string]any, error)
	kept  uint64 // the revision of what is kept of it; 0 where it is kept elsewhere
}

func newFeed() *feed {
	return &feed{wake: make(chan struct{}, 1), followers: map[*reader]bool{}, known: map[objects.ID]known{}}
}

// Wake has the feed look for changes soon.
func (f *feed) Wake() {
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// Follow tells of every object there is, then of the revision at which there were these, then of each change, until ctx ends
// or tell fails. The error says why it ended.
func (a *Agent) Follow(ctx context.Context, tell func(server.Change) error) error {
	a.provideFor(a.sightings())
	a.showNode(ctx)
	to := newReader()
	defer a.feed.leave(to)
	for _, c := range a.feed.join(a, to) {
		if err := tell(c); err != nil {
			return err
		}
	}
	return to.pass(ctx, tell)
}

// pass tells a follower of changes.
func (r *reader) pass(ctx context.Context, tell func(server.Change) error) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case c, ok := <-r.changes:
			if !ok {
				return errBehind
			}
			r.behind.Add(-int64(len(c.Object)))
			if err := tell(c); err != nil {
				return err
			}
		}
	}
}

// join adds a follower, and answers what there is. The first one has the feed begin.
func (f *feed) join(a *Agent, to *reader) []server.Change {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.look(a)
	f.followers[to] = true
	var all []server.Change
	for _, id := range slices.SortedFunc(maps.Keys(f.known), objects.ID.Compare) {
		c := f.known[id].change
		c.Type = server.Added
		all = append(all, c)
	}
	return append(all, server.Change{Type: server.Bookmark, Revision: a.objects.Revision()})
}

// followed says whether anybody follows.
func (f *feed) followed() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.followers) > 0
}

// leave takes a follower off. With the last one the feed forgets everything.
func (f *feed) leave(to *reader) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.followers, to)
	if len(f.followers) == 0 {
		f.known = map[objects.ID]known{}
	}
}

// run looks for changes, while somebody follows, until ctx ends.
func (f *feed) run(ctx context.Context, a *Agent) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-f.wake:
		}
		f.lookFor(a)
		time.Sleep(gather)
	}
}

// lookFor looks for followers, where there are any.
func (f *feed) lookFor(a *Agent) {
	a.laps.feed.begin()
	defer a.laps.feed.end()
	f.mu.Lock()
	if len(f.followers) == 0 {
		f.mu.Unlock()
		return
	}
	seen := f.look(a)
	f.mu.Unlock()
	a.provideFor(seen) // which has it look again, if anything is made
}

// look finds what is another one, tells followers, and answers all there is.
func (f *feed) look(a *Agent) map[objects.ID]sighting {
	for {
		seen, late := a.sightings(), false
		for id, s := range seen {
			late = f.compare(a, id, s) || late
		}
		for id := range f.known {
			if _, there := seen[id]; !there {
				f.drop(id, a.objects.Next())
			}
		}
		if !late {
			return seen
		}
	}
}

// compare tells followers of an object that is another one, unless that is too late: it is yet another one by now, which must not
// be older than what is told.
func (f *feed) compare(a *Agent, id objects.ID, s sighting) (late bool) {
	was, had := f.known[id]
	if had && was.mark == s.mark {
		return false
	}
	now, err := a.write(id, s)
	if err != nil {
		a.log.Error("object cannot be told of", "object", id.String(), "error", err)
		return false
	}
	if had && was.content == now.content && s.kept <= was.change.Revision {
		was.mark = s.mark
		f.known[id] = was
		return false
	}
	if had && was.uid != "" && was.uid != now.uid {
		f.drop(id, a.objects.Next()) // it is another one by the same name
		had = false
	}
	revision, ok := a.objects.NextOf(id, s.kept)
	if !ok {
		return true
	}
	if err := now.number(revision); err != nil {
		a.log.Error("object cannot be told of", "object", id.String(), "error", err)
		return false
	}
	if now.change.Type = server.Added; had {
		now.change.Type = server.Modified
	}
	f.known[id] = now
	f.broadcast(now.change)
	return false
}

// drop tells followers that an object is gone.
func (f *feed) drop(id objects.ID, revision uint64) {
	gone := f.known[id].change
	delete(f.known, id)
	gone.Type, gone.Revision = server.Deleted, revision
	f.broadcast(gone)
}

// broadcast tells all followers; who is too far behind is let go.
func (f *feed) broadcast(c server.Change) {
	for to := range f.followers {
		if to.behind.Add(int64(len(c.Object))) <= maxBytesBehind {
			select {
			case to.changes <- c:
				continue
			default:
			}
		}
		close(to.changes)
		delete(f.followers, to)
	}
}

// write writes an object down, without a revision.
func (a *Agent) write(id objects.ID, s sighting) (known, error) {
	fields, err := s.write()
	if err != nil {
		return known{}, err
	}
	metadata, _ := fields["metadata"].(map[string]any)
	delete(metadata, "resourceVersion")
	content, err := json.Marshal(fields)
	if err != nil {
		return known{}, fmt.Errorf("encode object: %w", err)
	}
	uid, _ := metadata["uid"].(string)
	return known{mark: s.mark, uid: uid, fields: fields, content: sha256.Sum256(content), change: server.Change{Resource: id.Resource}}, nil
}

// number makes what is known of an object a change of a revision.
func (k *known) number(revision uint64) error {
	metadata, _ := k.fields["metadata"].(map[string]any)
	metadata["resourceVersion"] = strconv.FormatUint(revision, 10)
	object, err := json.Marshal(k.fields)
	if err != nil {
		return fmt.Errorf("encode object: %w", err)
	}
	k.fields, k.change.Object, k.change.Revision = nil, object, revision
	return nil
}

// sightings are all objects that there are: those of the sources, Pods as they are reported, and events.
func (a *Agent) sightings() map[objects.ID]sighting {
	seen := map[objects.ID]sighting{}
	for _, o := range a.objects.List() {
		if o.Resource == nodeResource && o.Name != a.node.Name {
			continue // the node had another name then
		}
		seen[o.ID] = sighting{o.Revision, func() (map[string]any, error) { return runtime.DeepCopyJSON(o.Content), nil }, o.Revision}
	}
	a.seeNode(seen)
	directory := a.sources.directory()
	for _, o := range directory.Objects {
		seen[objects.IDOf(o.Key())] = sighting{o.Object, func() (map[string]any, error) { return fromManifest(o.Object, o.File, o.Line) }, 0}
	}
	a.seeClaims(seen)
	for _, p := range directory.Pods {
		seen[objects.IDOf(p.Key())] = sighting{p.Pod, func() (map[string]any, error) { return fromManifest(p.Pod, p.File, p.Line) }, 0}
	}
	for _, w := range a.all() {
		pod := w.published.Load()
		if pod == nil {
			continue
		}
		id := objects.IDOf(manifests.PodKey(w.key))
		wanted := seen[id]
		seen[id] = sighting{[2]any{pod, wanted.mark}, func() (map[string]any, error) {
			reported := a.reported(pod)
			return withWanted(&reported, wanted)
		}, wanted.kept}
	}
	for _, e := range a.events.List() {
		id := objects.ID{Resource: eventResource, NamespacedName: types.NamespacedName{Namespace: e.Namespace, Name: e.Name}}
		seen[id] = sighting{[2]any{e.Count, e.ResourceVersion}, func() (map[string]any, error) {
			e.TypeMeta = metav1.TypeMeta{APIVersion: "v1", Kind: "Event"}
			return runtime.DefaultUnstructuredConverter.ToUnstructured(&e)
		}, 0}
	}
	a.seeEndpoints(seen)
	a.seeQuotas(seen)
	return seen
}

// fromManifest is an object of the manifest directory, with where it stands.
func fromManifest(o metav1.Object, file string, line int) (map[string]any, error) {
	fields, err := runtime.DefaultUnstructuredConverter.ToUnstructured(o)
	if err != nil {
		return nil, err
	}
	annotate(fields, manifests.ManifestAnnotation, fmt.Sprintf("%s:%d", file, line))
	if fields["kind"] == manifests.KindNamespace {
		fields["status"] = map[string]any{"phase": string(v1.NamespaceActive)}
	}
	return fields, nil
}

// withWanted is a Pod as it is reported, with what its object has besides: annotations of where it stands, and what the API
// keeps in it.
func withWanted(pod metav1.Object, wanted sighting) (map[string]any, error) {
	fields, err := runtime.DefaultUnstructuredConverter.ToUnstructured(pod)
	if err != nil || wanted.write == nil {
		return fields, err
	}
	object, err := wanted.write()
	if err != nil {
		return nil, err
	}
	metadata, _ := fields["metadata"].(map[string]any)
	asked, _ := object["metadata"].(map[string]any)
	for name, value := range asked {
		if _, has := metadata[name]; !has {
			metadata[name] = value
		}
	}
	annotations, _ := asked["annotations"].(map[string]any)
	if at, ok := annotations[manifests.ManifestAnnotation].(string); ok {
		annotate(fields, manifests.ManifestAnnotation, at)
	}
	return fields, nil
}

func annotate(fields map[string]any, name, value string) {
	metadata, _ := fields["metadata"].(map[string]any)
	annotations, ok := metadata["annotations"].(map[string]any)
	if !ok {
		annotations = map[string]any{}
		metadata["annotations"] = annotations
	}
	annotations[name] = value
}
