package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/podkeeper/podkeeper/agent/node"
	"github.com/podkeeper/podkeeper/agent/objects"
	"github.com/podkeeper/podkeeper/manifests"
	"github.com/podkeeper/podkeeper/server"
)

// follower notes what it is told of, as TYPE resource/name value.
type follower struct {
	*testing.T
	changes chan server.Change
	end     func() error
}

// follows has an agent with objects of its own, and no Pod that runs.
func follows(t *testing.T) *Agent {
	t.Helper()
	return followsIn(t, t.TempDir())
}

// followsIn is the same with the objects of a folder.
func followsIn(t *testing.T, dir string) *Agent {
	t.Helper()
	a := &Agent{sources: newSources(SourceDirectory, SourceAPI), feed: newFeed(), namespaces: newNamespaces(), bound: func() map[types.NamespacedName]string { return nil }, heart: &heartbeat{name: "here", of: &selfTold{}, begun: make(chan struct{}, 1)}, node: &node.Node{Name: "here"}}
	a.surroundings = &surroundings{roster: newRoster(node.NewObject("here", nil)), events: newEvents("here"), log: discard()}
	a.events.told, a.shown = a.feed.Wake, func() {
		a.feed.Wake()
		a.namespaces.Wake()
	}
	a.objects = objects.Open(objects.Config{Dir: dir, Now: time.Now(), Complete: a.complete, Log: discard(), Write: func(file string, content []byte) error {
		return os.WriteFile(file, content, 0o600)
	}})
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { a.feed.run(ctx, a) })
	running.Go(func() { a.emptyNamespaces(ctx) })
	running.Go(func() { a.keepBeating(ctx) })
	t.Cleanup(func() {
		cancel()
		running.Wait()
	})
	return a
}

func (a *Agent) followed(t *testing.T) *follower {
	t.Helper()
	f := &follower{T: t, changes: make(chan server.Change, 100)}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- a.Follow(ctx, func(c server.Change) error { f.changes <- c; return nil }) }()
	f.end = func() error { cancel(); return <-ended }
	t.Cleanup(func() { _ = f.end })
	return f
}

// expect waits for changes, and checks that revisions only grow.
func (f *follower) expect(want ...string) {
	f.Helper()
	last := uint64(0)
	for _, w := range want {
		var c server.Change
		select {
		case c = <-f.changes:
		case <-time.After(20 * time.Second):
			f.Fatalf("nothing was told, want %s", w)
		}
		got := string(c.Type)
		if c.Object != nil {
			var o v1.ConfigMap
			if err := json.Unmarshal(c.Object, &o); err != nil {
				f.Fatal(err)
			}
			got += " " + c.Resource + "/" + o.Name
			if c.Type != server.Deleted {
				got += strings.TrimRight(" "+o.Data["a"]+o.Labels["version"], " ")
				if o.ResourceVersion != fmt.Sprint(c.Revision) {
					f.Errorf("%s: of version %s at revision %d", got, o.ResourceVersion, c.Revision)
				}
			}
		}
		if got != w {
			f.Errorf("told of %s, want %s", got, w)
		}
		if c.Type != server.Added && c.Revision < last {
			f.Errorf("%s: revision %d after %d", got, c.Revision, last)
		}
		last = c.Revision
	}
}

func TestFollowersAreToldOfAllAndOfEveryChange(t *testing.T) {
	t.Parallel()
	a := follows(t)
	put := func(name, value string) server.ObjectID {
		t.Helper()
		id := server.ObjectID{Resource: "configmaps", Namespace: "default", Name: name}
		body := fmt.Sprintf(`{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"namespace": "default", "name": %q}, "data": {"a": %q}}`, name, value)
		if _, err := a.PutObject(id, []byte(body), server.Condition{}); err != nil {
			t.Fatal(err)
		}
		return id
	}
	file := configMap("file", "1")
	file.File, file.Line = "/etc/m/file.yaml", 4
	a.sources.tell(SourceDirectory, manifests.Set{Objects: []manifests.Object{file}})
	made := put("made", "1")

	first := a.followed(t)
	first.expect("ADDED configmaps/file 1", "ADDED configmaps/made 1", "BOOKMARK")
	put("made", "1") // is no edit, but a new revision of its own
	put("made", "2")
	second := a.followed(t)
	second.expect("ADDED configmaps/file 1", "ADDED configmaps/made 2", "BOOKMARK")
	first.expect("MODIFIED configmaps/made 2")

	web := &v1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web", Labels: map[string]string{"version": "1"}}}
	w := newWorker(types.NamespacedName{Namespace: "default", Name: "web"}, a.surroundings)
	a.enlist(w)
	w.show(web)
	first.expect("ADDED pods/web 1")
	w.show(web.DeepCopy()) // says the same
	edited := web.DeepCopy()
	edited.Labels["version"] = "2"
	w.show(edited)
	first.expect("MODIFIED pods/web 2")
	for _, uid := range []types.UID{"u-1", "u-2"} { // it has begun, then it begins anew
		edited = edited.DeepCopy()
		edited.UID = uid
		w.show(edited)
		if uid == "u-1" {
			first.expect("MODIFIED pods/web 2")
		}
	}
	first.expect("DELETED pods/web", "ADDED pods/web 2")
	w.show(nil)
	first.expect("DELETED pods/web")
	if _, _, err := a.DeleteObject(made, server.Condition{}, nil); err != nil {
		t.Fatal(err)
	}
	first.expect("DELETED configmaps/made")
	second.expect("ADDED pods/web 1", "MODIFIED pods/web 2", "MODIFIED pods/web 2", "DELETED pods/web", "ADDED pods/web 2", "DELETED pods/web", "DELETED configmaps/made")
	for _, f := range []*follower{first, second} {
		if err := f.end(); !errors.Is(err, context.Canceled) {
			t.Errorf("it ended with %v", err)
		}
	}
	a.feed.mu.Lock()
	defer a.feed.mu.Unlock()
	if len(a.feed.known) > 0 {
		t.Errorf("with nobody who follows it remembers %d objects", len(a.feed.known))
	}
}

func TestWhatIsToldIsNotNewerThanWhatIsKeptByThen(t *testing.T) {
	t.Parallel()
	a := follows(t)
	id := objects.ID{Resource: "configmaps", NamespacedName: types.NamespacedName{Namespace: "default", Name: "made"}}
	put := func(value string) objects.Object {
		t.Helper()
		o, err := a.objects.Put(id, fmt.Appendf(nil, `{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"namespace": "default", "name": "made"}, "data": {"a": %q}}`, value), objects.Condition{})
		if err != nil {
			t.Fatal(err)
		}
		return o
	}
	reads := newReader()
	told := reads.changes
	a.feed.mu.Lock()
	defer a.feed.mu.Unlock()
	a.feed.followers[reads] = true

	put("1")
	old := a.sightings()[id]
	put("2")
	if late := a.feed.compare(a, id, old); !late || len(told) > 0 {
		t.Errorf("there is another one by now, and it is told of: %v", <-told)
	}
	a.feed.look(a)
	if c := <-told; !strings.Contains(string(c.Object), `"a":"2"`) {
		t.Errorf("then it is told of %s", c.Object)
	}
	put("3")
	now := put("2")
	a.feed.look(a)
	if c := <-told; c.Revision < now.Revision {
		t.Errorf("what is as it was is told of at %d, and kept at %d", c.Revision, now.Revision)
	}
}

func TestWhatIsMadeAtOnceIsWantedTogether(t *testing.T) {
	t.Parallel()
	a := follows(t)
	for range 5 {
		var made sync.WaitGroup
		for i := range 10 {
			made.Go(func() {
				name := fmt.Sprintf("x%d", i)
				body := fmt.Sprintf(`{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"namespace": "default", "name": %q}}`, name)
				if _, err := a.PutObject(server.ObjectID{Resource: "configmaps", Namespace: "default", Name: name}, []byte(body), server.Condition{}); err != nil {
					t.Error(err)
				}
			})
		}
		made.Wait()
		if got := len(a.sources.sets[SourceAPI].Objects); got != 10 {
			t.Fatalf("%d of 10 are wanted", got)
		}
		for i := range 10 {
			if _, _, err := a.DeleteObject(server.ObjectID{Resource: "configmaps", Namespace: "default", Name: fmt.Sprintf("x%d", i)}, server.Condition{}, nil); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestALookIsAtOneMoment(t *testing.T) {
	t.Parallel()
	a := follows(t)
	var pods []manifests.Pod
	for i := range 100 {
		pods = append(pods, manifests.Pod{Pod: &v1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: fmt.Sprintf("p%d", i)}}})
	}
	var stop atomic.Bool
	done := make(chan struct{})
	go func() {
		defer close(done)
		for !stop.Load() {
			a.sources.tell(SourceDirectory, manifests.Set{Pods: pods})
			a.sources.tell(SourceDirectory, manifests.Set{})
		}
	}()
	for range 500 {
		if seen := len(a.sightings()); seen != 0 && seen != len(pods) {
			t.Errorf("seen are %d of %d Pods", seen, len(pods))
			break
		}
	}
	stop.Store(true)
	<-done
}

func TestAPodOfAManifestIsNotStartedAgainOnACondition(t *testing.T) {
	t.Parallel()
	a := follows(t)
	a.sources.tell(SourceDirectory, manifests.Set{Pods: []manifests.Pod{{Pod: &v1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web"}}, File: "web.yaml", Line: 3}}})
	_, _, err := a.DeleteObject(server.ObjectID{Resource: "pods", Namespace: "default", Name: "web"}, server.Condition{Revision: 7}, nil)
	if !errors.Is(err, server.ErrForbidden) {
		t.Errorf("what cannot be held to its condition is done: %v", err)
	}
}

func TestASlowFollowerIsLetGo(t *testing.T) {
	t.Parallel()
	large := server.Change{Type: server.Modified, Object: make([]byte, 1<<20)}
	for what, of := range map[string]struct {
		change server.Change
		most   int
	}{
		"of many changes":  {server.Change{Type: server.Modified}, maxBehind},
		"of large objects": {large, maxBytesBehind >> 20},
	} {
		f, to := newFeed(), newReader()
		f.followers[to] = true
		for range of.most {
			f.broadcast(of.change)
		}
		if !f.followers[to] {
			t.Errorf("%s: it is let go too soon", what)
		}
		f.broadcast(of.change)
		if f.followers[to] {
			t.Errorf("%s: it is still told", what)
		}
		told := 0
		if err := to.pass(t.Context(), func(server.Change) error { told++; return nil }); !errors.Is(err, errBehind) || told != of.most {
			t.Errorf("%s: it is told of %d, and ends with %v", what, told, err)
		}
	}
	f, to := newFeed(), newReader()
	f.followers[to] = true
	for range 2 * maxBytesBehind >> 20 {
		f.broadcast(large)
		ctx, cancel := context.WithCancel(t.Context())
		if err := to.pass(ctx, func(server.Change) error { cancel(); return nil }); !errors.Is(err, context.Canceled) {
			t.Fatalf("one that keeps up: %v", err)
		}
	}
}

func TestWhereAnObjectStandsIsTold(t *testing.T) {
	t.Parallel()
	a := follows(t)
	set := manifests.Decode(filepath.Join("/etc/m", "web.yaml"), []byte("apiVersion: v1\nkind: Pod\nmetadata: {name: web}\nspec: {containers: [{name: app, image: demo}]}\n"))
	a.sources.tell(SourceDirectory, set)
	w := newWorker(types.NamespacedName{Namespace: "default", Name: "web"}, a.surroundings)
	a.enlist(w)
	running := set.Pods[0].DeepCopy()
	running.UID, running.Status.Phase = "u-1", v1.PodRunning
	w.show(running)
	f := a.followed(t)
	defer func() { _ = f.end() }()
	c := <-f.changes
	var pod v1.Pod
	if err := json.Unmarshal(c.Object, &pod); err != nil {
		t.Fatal(err)
	}
	if pod.Annotations[manifests.ManifestAnnotation] != "/etc/m/web.yaml:3" || pod.Status.Phase != v1.PodRunning || pod.UID != "u-1" || pod.Kind != "Pod" || pod.Spec.NodeName != "here" {
		t.Errorf("told of %s", c.Object)
	}
	if len(running.Annotations) > 0 {
		t.Error("what is reported was changed")
	}
	if got := slices.Sorted(slices.Values([]string{string(c.Type), c.Resource})); !slices.Equal(got, []string{"ADDED", "pods"}) {
		t.Errorf("it is %q", got)
	}
}
