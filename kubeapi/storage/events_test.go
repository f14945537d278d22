package storage

import (
	"context"
	"encoding/json"
	goerrors "errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	v1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	"k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/internalversion"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/apiserver/pkg/registry/rest"

	"github.com/podkeeper/podkeeper/server"
)

// One event in both words: what one of them says the other says, too.
const (
	oldWords = `{
		"metadata": {"name": "web.1", "namespace": "shop", "uid": "e-1", "creationTimestamp": null}, "eventTime": "2026-01-31T12:00:00.000000Z",
		"series": {"count": 3, "lastObservedTime": "2026-01-31T12:01:00.000000Z"}, "reportingComponent": "kubelet", "reportingInstance": "n1", "action": "Pulling",
		"reason": "Pulled", "involvedObject": {"kind": "Pod", "name": "web", "fieldPath": "spec"}, "related": {"kind": "Node", "name": "n1"}, "message": "it is there",
		"type": "Normal", "source": {"component": "kubelet", "host": "n1"}, "firstTimestamp": "2026-01-31T11:00:00Z", "lastTimestamp": "2026-01-31T11:30:00Z", "count": 7
	}`
	newWords = `{
		"metadata": {"name": "web.1", "namespace": "shop", "uid": "e-1", "creationTimestamp": null}, "eventTime": "2026-01-31T12:00:00.000000Z",
		"series": {"count": 3, "lastObservedTime": "2026-01-31T12:01:00.000000Z"}, "reportingController": "kubelet", "reportingInstance": "n1", "action": "Pulling",
		"reason": "Pulled", "regarding": {"kind": "Pod", "name": "web", "fieldPath": "spec"}, "related": {"kind": "Node", "name": "n1"}, "note": "it is there",
		"type": "Normal", "deprecatedSource": {"component": "kubelet", "host": "n1"}, "deprecatedFirstTimestamp": "2026-01-31T11:00:00Z",
		"deprecatedLastTimestamp": "2026-01-31T11:30:00Z", "deprecatedCount": 7
	}`
)

func TestAnEventInBothWords(t *testing.T) {
	t.Parallel()
	before, after := &v1.Event{}, &eventsv1.Event{}
	for text, to := range map[string]any{oldWords: before, newWords: after} {
		decoder := json.NewDecoder(strings.NewReader(text))
		decoder.DisallowUnknownFields()
		if err := decoder.Decode(to); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(after, newEvent(before)); diff != "" {
		t.Errorf("to the new words:\n%s", diff)
	}
	if diff := cmp.Diff(before, oldEvent(after)); diff != "" {
		t.Errorf("to the old words:\n%s", diff)
	}
}

// keptEvents are events in memory.
type keptEvents struct {
	*testing.T
	events map[string]*v1.Event
	told   *watch.FakeWatcher
	asked  *internalversion.ListOptions
}

func (k *keptEvents) Get(_ context.Context, name string, _ *metav1.GetOptions) (runtime.Object, error) {
	if e := k.events[name]; e != nil {
		return e.DeepCopy(), nil
	}
	return nil, errors.NewNotFound(v1.Resource("events"), name)
}

func (k *keptEvents) List(_ context.Context, options *internalversion.ListOptions) (runtime.Object, error) {
	k.asked = options
	list := &v1.EventList{ListMeta: metav1.ListMeta{ResourceVersion: "5"}}
	for _, e := range k.events {
		list.Items = append(list.Items, *e)
	}
	return list, nil
}

func (k *keptEvents) Watch(context.Context, *internalversion.ListOptions) (watch.Interface, error) {
	return k.told, nil
}

func (k *keptEvents) New() runtime.Object { return &v1.Event{} }

func (k *keptEvents) Create(ctx context.Context, o runtime.Object, validate rest.ValidateObjectFunc, _ *metav1.CreateOptions) (runtime.Object, error) {
	if err := validate(ctx, o); err != nil {
		return nil, err
	}
	e := o.(*v1.Event)
	k.events[e.Name] = e
	return e, nil
}

func (k *keptEvents) Update(ctx context.Context, name string, info rest.UpdatedObjectInfo, create rest.ValidateObjectFunc, update rest.ValidateObjectUpdateFunc, _ bool, options *metav1.UpdateOptions) (runtime.Object, bool, error) {
	was := k.events[name]
	o, err := info.UpdatedObject(ctx, was.DeepCopy())
	if err == nil {
		err = update(ctx, o, was)
	}
	if err != nil {
		return nil, false, err
	}
	k.events[name] = o.(*v1.Event)
	return o, false, nil
}

func (k *keptEvents) Delete(ctx context.Context, name string, validate rest.ValidateObjectFunc, _ *metav1.DeleteOptions) (runtime.Object, bool, error) {
	e := k.events[name]
	delete(k.events, name)
	return e, true, validate(ctx, e)
}

func (k *keptEvents) DeleteCollection(ctx context.Context, _ rest.ValidateObjectFunc, _ *metav1.DeleteOptions, which *internalversion.ListOptions) (runtime.Object, error) {
	list, err := k.List(ctx, which)
	clear(k.events)
	return list, err
}

// isShown is a check that wants what is shown.
func isShown(_ context.Context, o runtime.Object) error {
	if _, ok := o.(*eventsv1.Event); !ok {
		return fmt.Errorf("it is asked about %T", o)
	}
	return nil
}

func TestEventsInNewerWords(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	k := &keptEvents{T: t, events: map[string]*v1.Event{}, told: watch.NewFakeWithChanSize(2, false)}
	e := &Events{Resource: newEvents(), of: k}
	event := &eventsv1.Event{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web.1"}, EventTime: metav1.NewMicroTime(time.Now()), ReportingController: "example.com/eye",
		ReportingInstance: "one", Action: "Look", Reason: "Seen", Type: "Normal", Note: "it is there", Regarding: v1.ObjectReference{Kind: "Pod", Namespace: "shop", Name: "web"},
	}
	made, err := e.Create(ctx, event, isShown, nil)
	if err != nil || made.(*eventsv1.Event).Note != "it is there" || k.events["web.1"].Message != "it is there" {
		t.Fatalf("%+v, %v", made, err)
	}
	counted := event.DeepCopy()
	counted.DeprecatedCount = 1
	if _, err := e.Create(ctx, counted, isShown, nil); !errors.IsInvalid(err) || !strings.Contains(err.Error(), "count: Invalid value") {
		t.Errorf("an event that counts is made: %v", err)
	}
	series := event.DeepCopy()
	series.Series = &eventsv1.EventSeries{Count: 2, LastObservedTime: metav1.NowMicro()}
	now, _, err := e.Update(ctx, "web.1", rest.DefaultUpdatedObjectInfo(series), isShown, func(ctx context.Context, now, was runtime.Object) error {
		return goerrors.Join(isShown(ctx, now), isShown(ctx, was), goerrors.New("no"))
	}, false, nil)
	if err == nil || err.Error() != "no" {
		t.Errorf("the check of an edit is not asked: %v, %v", now, err)
	}
	if now, _, err = e.Update(ctx, "web.1", rest.DefaultUpdatedObjectInfo(series), nil, nil, false, nil); err != nil || now.(*eventsv1.Event).Series.Count != 2 || k.events["web.1"].Series.Count != 2 {
		t.Errorf("an edit: %+v, %v", now, err)
	}
	if got, err := e.Get(ctx, "web.1", nil); err != nil || got.(*eventsv1.Event).Regarding.Name != "web" {
		t.Errorf("got %+v, %v", got, err)
	}
	if _, err := e.Get(ctx, "none", nil); !errors.IsNotFound(err) {
		t.Errorf("got one that there is not: %v", err)
	}
	list, err := e.List(ctx, &internalversion.ListOptions{})
	if err != nil || list.(*eventsv1.EventList).ResourceVersion != "5" || list.(*eventsv1.EventList).Items[0].Note != "it is there" {
		t.Errorf("listed %+v, %v", list, err)
	}
	w, err := e.Watch(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	k.told.Add(k.events["web.1"])
	if change := <-w.ResultChan(); change.Type != watch.Added || change.Object.(*eventsv1.Event).Reason != "Seen" {
		t.Errorf("told of %+v", change)
	}
	if gone, _, err := e.Delete(ctx, "web.1", isShown, nil); err != nil || gone.(*eventsv1.Event).Name != "web.1" || len(k.events) > 0 {
		t.Errorf("deleted %+v, %v", gone, err)
	}
	if all, err := e.DeleteCollection(ctx, nil, nil, nil); err != nil || len(all.(*eventsv1.EventList).Items) > 0 {
		t.Errorf("deleted %+v, %v", all, err)
	}
}

func TestSelectorsOfNewerEvents(t *testing.T) {
	t.Parallel()
	kind := eventsv1.SchemeGroupVersion.WithKind("Event")
	for label, want := range map[string]string{"regarding.name": "involvedObject.name", "reportingController": "reportingComponent", "metadata.name": "metadata.name"} {
		if got, value, err := Scheme.ConvertFieldLabel(kind, label, "x"); err != nil || got != want || value != "x" {
			t.Errorf("%s is %s: %v", label, got, err)
		}
	}
	if _, _, err := Scheme.ConvertFieldLabel(kind, "involvedObject.name", "x"); err == nil {
		t.Error("the older words are taken, too")
	}
	selectable := slices.Sorted(func(yield func(string) bool) {
		for name := range eventFields(&v1.Event{}) {
			if !yield(name) {
				return
			}
		}
	})
	for _, name := range eventLabels {
		if !slices.Contains(selectable, name) && !strings.HasPrefix(name, "metadata.") {
			t.Errorf("%s cannot be asked for", name)
		}
	}
}

func TestEventsAreOneStore(t *testing.T) {
	t.Parallel()
	a, _, _ := begin(t)
	all := Storages(a.mirror, a, func(r *Resource) rest.TableConvertor { return rest.NewDefaultTableConvertor(r.GroupResource()) })
	a.tell(server.Added, "events", map[string]any{
		"apiVersion": "v1", "kind": "Event", "metadata": map[string]any{"namespace": "shop", "name": "web.1"}, "message": "it is there",
		"involvedObject": map[string]any{"kind": "Pod", "name": "web"},
	})
	a.tell(server.Added, "events", map[string]any{
		"apiVersion": "v1", "kind": "Event", "metadata": map[string]any{"namespace": "shop", "name": "db.1"}, "involvedObject": map[string]any{"kind": "Pod", "name": "db"},
	})
	label, value, err := Scheme.ConvertFieldLabel(eventsv1.SchemeGroupVersion.WithKind("Event"), "regarding.name", "web")
	if err != nil {
		t.Fatal(err)
	}
	list, err := all[eventsv1.SchemeGroupVersion]["events"].(rest.Lister).List(asked(), &internalversion.ListOptions{FieldSelector: fields.OneTermEqualSelector(label, value)})
	if err != nil || len(list.(*eventsv1.EventList).Items) != 1 || list.(*eventsv1.EventList).Items[0].Note != "it is there" {
		t.Errorf("%+v, %v", list, err)
	}
}
