package mirror

import (
	"context"
	"encoding/json"
	goerrors "errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/podkeeper/podkeeper/server"
)

var configMaps = schema.GroupResource{Resource: "configmaps"}

func decode(body []byte) (runtime.Object, error) {
	o := &v1.ConfigMap{}
	return o, json.Unmarshal(body, o)
}

// told is a Mirror that has been told of changes: revision, type, namespace/name, and the value of the label l.
func told(t *testing.T, changes ...string) *Mirror {
	t.Helper()
	m := New(decode)
	tell(t, m, changes...)
	return m
}

func tell(t *testing.T, m *Mirror, changes ...string) {
	t.Helper()
	for _, c := range changes {
		f := strings.Fields(c)
		revision, err := strconv.ParseUint(f[0], 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		change := server.Change{Type: server.ChangeType(f[1]), Revision: revision}
		if len(f) > 2 {
			namespace, name, _ := strings.Cut(f[2], "/")
			change.Resource = "configmaps"
			change.Object = fmt.Appendf(nil, `{"metadata": {"namespace": %q, "name": %q, "resourceVersion": %q, "labels": {"l": %q}}}`, namespace, name, f[0], f[3])
		}
		if err := m.Take(change); err != nil {
			t.Fatal(err)
		}
	}
}

func everything(runtime.Object) bool { return true }

func labelled(value string) func(runtime.Object) bool {
	return func(o runtime.Object) bool { return o.(*v1.ConfigMap).Labels["l"] == value }
}

func show(o runtime.Object) string {
	c := o.(*v1.ConfigMap)
	return strings.TrimSpace(c.ResourceVersion + " " + strings.Trim(c.Namespace+"/"+c.Name, "/") + " " + c.Labels["l"] + c.Annotations[metav1.InitialEventsAnnotationKey])
}

func TestWhatThereIs(t *testing.T) {
	m := told(t, "5 ADDED b/x 1", "6 ADDED a/y 1", "7 ADDED a/x 2", "8 BOOKMARK", "9 MODIFIED b/x 2", "10 DELETED a/y 1")
	table := m.Table(configMaps)
	for what, of := range map[string]struct {
		which Selection
		want  string
	}{
		"all, sorted by namespace and name": {Selection{Match: everything}, "7 a/x 2, 9 b/x 2"},
		"those of a namespace":              {Selection{Namespace: "a", Match: everything}, "7 a/x 2"},
		"those that match":                  {Selection{Match: labelled("1")}, ""},
	} {
		found, revision := table.List(of.which)
		var got []string
		for _, o := range found {
			got = append(got, show(o))
		}
		if strings.Join(got, ", ") != of.want || revision != 10 {
			t.Errorf("%s: %v at %d, want %s at 10", what, got, revision, of.want)
		}
	}
	if o, err := table.Get(types.NamespacedName{Namespace: "b", Name: "x"}); err != nil || show(o) != "9 b/x 2" {
		t.Errorf("got %v, %v", o, err)
	}
	if _, err := table.Get(types.NamespacedName{Namespace: "a", Name: "y"}); !errors.IsNotFound(err) || err.Error() != `configmaps "y" not found` {
		t.Errorf("one that was removed: %v", err)
	}
	if err := m.Take(server.Change{Type: server.Added, Resource: "configmaps", Object: []byte("{")}); err == nil || !strings.HasPrefix(err.Error(), "read one of configmaps: ") {
		t.Errorf("what cannot be read: %v", err)
	}
}

// events are what a watch tells until nothing more comes.
func events(w watch.Interface) (said []string) {
	for {
		synctest.Wait()
		select {
		case e, open := <-w.ResultChan():
			if !open {
				return append(said, "end")
			}
			said = append(said, string(e.Type)+" "+show(e.Object))
		default:
			return said
		}
	}
}

func TestWatch(t *testing.T) {
	before := []string{"5 ADDED a/x 1", "6 ADDED a/y 2", "7 BOOKMARK", "8 MODIFIED a/y 1"}
	after := []string{"9 MODIFIED a/x 2", "10 ADDED b/z 1", "11 DELETED a/y 1"}
	mark := &v1.ConfigMap{}
	for what, of := range map[string]struct {
		which Selection
		start Start
		want  []string
	}{
		"from nothing, all there is comes first": {
			Selection{Match: everything}, Start{},
			[]string{"ADDED 5 a/x 1", "ADDED 8 a/y 1", "MODIFIED 9 a/x 2", "ADDED 10 b/z 1", "DELETED 11 a/y 1"},
		},
		"with its end marked": {
			Selection{Match: everything}, Start{Revision: 8, Initial: true, Mark: mark},
			[]string{"ADDED 5 a/x 1", "ADDED 8 a/y 1", "BOOKMARK 8  true", "MODIFIED 9 a/x 2", "ADDED 10 b/z 1", "DELETED 11 a/y 1"},
		},
		"but not for who wants no mark": {
			Selection{Match: everything}, Start{Revision: 8, Initial: true},
			[]string{"ADDED 5 a/x 1", "ADDED 8 a/y 1", "MODIFIED 9 a/x 2", "ADDED 10 b/z 1", "DELETED 11 a/y 1"},
		},
		"from a revision, what was since": {
			Selection{Match: everything}, Start{Revision: 7},
			[]string{"MODIFIED 8 a/y 1", "MODIFIED 9 a/x 2", "ADDED 10 b/z 1", "DELETED 11 a/y 1"},
		},
		"one that matches no more is deleted, as it was": {
			Selection{Match: labelled("1")}, Start{Revision: 8},
			[]string{"DELETED 9 a/x 1", "ADDED 10 b/z 1", "DELETED 11 a/y 1"},
		},
		"one that comes to match is added": {
			Selection{Namespace: "a", Match: labelled("2")}, Start{Revision: 8},
			[]string{"ADDED 9 a/x 2"},
		},
	} {
		synctest.Test(t, func(t *testing.T) {
			m := told(t, before...)
			w, err := m.Table(configMaps).Watch(of.which, of.start)
			if err != nil {
				t.Fatalf("%s: %v", what, err)
			}
			tell(t, m, after...)
			if got := events(w); !slices.Equal(got, of.want) {
				t.Errorf("%s: told of\n%q, want\n%q", what, got, of.want)
			}
			w.Stop()
			w.Stop()
			if got := events(w); !slices.Equal(got, []string{"end"}) {
				t.Errorf("%s: after its end it tells %q", what, got)
			}
		})
	}
}

func TestAWatchOfWhatIsNotKnownIsExpired(t *testing.T) {
	m := told(t, "5 ADDED a/x 1", "7 BOOKMARK")
	table := m.Table(configMaps)
	for i := range uint64(maxHistory) {
		tell(t, m, fmt.Sprintf("%d MODIFIED a/x 1", 8+i))
	}
	last := 8 + uint64(maxHistory) - 1
	for revision, known := range map[uint64]bool{5: false, 6: false, 7: true, 8: true, last: true, last + 1: false} {
		w, err := table.Watch(Selection{Match: everything}, Start{Revision: revision})
		if known != (err == nil) || err != nil && !errors.IsResourceExpired(err) {
			t.Errorf("from %d: %v", revision, err)
		}
		if err == nil {
			w.Stop()
		}
	}
	late := m.Table(schema.GroupResource{Resource: "secrets"})
	if _, err := late.Watch(Selection{Match: everything}, Start{Revision: 6}); !errors.IsResourceExpired(err) {
		t.Errorf("of a resource that is asked for the first time: %v", err)
	}
}

// large is what is told of an object of 1 MiB.
var large = make([]byte, 1<<20)

// grow tells of a change of a/x, which is as large as that says.
func (m *Mirror) grow(revision uint64, told []byte) {
	o := &v1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: "x", ResourceVersion: strconv.FormatUint(revision, 10)}}
	t := m.Table(configMaps)
	m.mu.Lock()
	defer m.mu.Unlock()
	t.take(watch.Modified, o, server.Change{Revision: revision, Object: told})
	m.reach(revision)
}

func TestASlowWatcherIsLetGo(t *testing.T) {
	for what, of := range map[string]struct {
		told []byte
		most int
	}{
		"of many changes": {nil, maxBehind}, "of large objects": {large, maxBytesBehind / len(large)},
	} {
		synctest.Test(t, func(t *testing.T) {
			m := told(t, "5 ADDED a/x 1")
			begin := func() watch.Interface {
				w, err := m.Table(configMaps).Watch(Selection{Match: everything}, Start{Revision: 5})
				if err != nil {
					t.Fatal(err)
				}
				return w
			}
			slow, late := begin(), begin()
			tell(t, m, "6 MODIFIED a/x 1")
			synctest.Wait() // it is on its way to the readers
			for i := range of.most {
				m.grow(uint64(7+i), of.told)
			}
			if got := events(late); len(got) != of.most+1 {
				t.Errorf("%s: a reader who is late was told %d things of %d", what, len(got), of.most+1)
			}
			m.grow(uint64(7+of.most), of.told)
			if got := events(slow); got[len(got)-1] != "end" || len(got) > 2 {
				t.Errorf("%s: a reader who reads nothing was told %d things, the last one %s", what, len(got), got[len(got)-1])
			}
			late.Stop()
		})
	}
}

func TestHistoryOfLargeObjectsIsShort(t *testing.T) {
	m := told(t, "5 ADDED a/x 1", "7 BOOKMARK")
	for i := range 2 * maxHistoryBytes / len(large) {
		m.grow(uint64(8+i), large)
	}
	last := uint64(8 + 2*maxHistoryBytes/len(large) - 1)
	kept := uint64(maxHistoryBytes / len(large))
	for revision, known := range map[uint64]bool{7: false, last - kept - 1: false, last - kept: true, last: true} {
		w, err := m.Table(configMaps).Watch(Selection{Match: everything}, Start{Revision: revision})
		if known != (err == nil) || err != nil && !errors.IsResourceExpired(err) {
			t.Errorf("from %d, %d before the last: %v", revision, last-revision, err)
		}
		if err == nil {
			w.Stop()
		}
	}
}

func TestAwait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := told(t, "5 ADDED a/x 1", "6 ADDED a/y 1")
		table := m.Table(configMaps)
		x, y := types.NamespacedName{Namespace: "a", Name: "x"}, types.NamespacedName{Namespace: "a", Name: "y"}
		begin := func(wait func(context.Context) error) <-chan error {
			done := make(chan error, 1)
			go func() { done <- wait(t.Context()) }()
			return done
		}
		ended := func(what string, done <-chan error, want bool) {
			t.Helper()
			synctest.Wait()
			if got := len(done) == 1; got != want {
				t.Errorf("%s: ended %v, want %v", what, got, want)
			}
		}
		revision := begin(func(ctx context.Context) error { return table.Await(ctx, 8) })
		changed := begin(func(ctx context.Context) error { return table.AwaitChange(ctx, x, 7) })
		removed := begin(func(ctx context.Context) error { return table.AwaitChange(ctx, y, 7) })
		end := begin(func(ctx context.Context) error { return table.AwaitObject(ctx, y, labelled("3")) })
		wanted := begin(func(ctx context.Context) error { return table.AwaitObject(ctx, x, labelled("2")) })
		ended("an old revision", begin(func(ctx context.Context) error { return table.Await(ctx, 6) }), true)
		tell(t, m, "7 MODIFIED a/x 2")
		ended("a revision to come", revision, false)
		ended("an object that is as is wanted", wanted, true)
		ended("one that is not", end, false)
		ended("a change that came", changed, true)
		ended("a change that did not come", removed, false)
		tell(t, m, "8 DELETED a/y 1")
		ended("a revision that came", revision, true)
		ended("a change that was a removal", removed, true)
		ended("an end", end, true)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := table.Await(ctx, 100); !goerrors.Is(err, context.Canceled) {
			t.Errorf("after the end of its context: %v", err)
		}
	})
}
