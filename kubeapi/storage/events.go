package storage

import (
	"context"
	"fmt"

	v1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	"k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/internalversion"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/apiserver/pkg/registry/rest"

	"github.com/podkeeper/podkeeper/manifests"
)

// kept is what Events show in another form: the events of v1.
type kept interface {
	rest.Getter
	List(ctx context.Context, options *internalversion.ListOptions) (runtime.Object, error)
	Watch(ctx context.Context, options *internalversion.ListOptions) (watch.Interface, error)
	rest.Creater
	rest.Updater
	rest.GracefulDeleter
	DeleteCollection(ctx context.Context, validate rest.ValidateObjectFunc, options *metav1.DeleteOptions, which *internalversion.ListOptions) (runtime.Object, error)
}

// Events are those of v1 in the words of events.k8s.io. What is written by them is held to more rules, as in Kubernetes.
type Events struct {
	*Resource
	rest.TableConvertor
	of kept
}

// newEvents is the resource. The fields of selectors are told apart by eventLabels.
func newEvents() *Resource {
	return &Resource{
		GroupVersionResource: eventsv1.SchemeGroupVersion.WithResource("events"), Kind: "Event", Singular: "event", Short: []string{"ev"}, Namespaced: true,
		Object: &eventsv1.Event{}, Lists: &eventsv1.EventList{}, CreateOnUpdate: true,
	}
}

// asEvents shows events. What writes them checks an edit by the rules of events.k8s.io.
func (c *Changeable) asEvents(tables func(*Resource) rest.TableConvertor) *Events {
	r, of := newEvents(), *c
	of.strategy.edit = edit{keep: keepStatus, check: func(now, was metav1.Object) field.ErrorList {
		return manifests.CheckNewerEventEdit(now.(*v1.Event), was.(*v1.Event))
	}}
	return &Events{Resource: r, TableConvertor: tables(r), of: &of}
}

// eventLabels are the fields that selectors may ask for, by their names in v1 (kubernetes/kubernetes pkg/apis/events/v1).
var eventLabels = map[string]string{
	"reason": "reason", "regarding.kind": "involvedObject.kind", "regarding.namespace": "involvedObject.namespace", "regarding.name": "involvedObject.name",
	"regarding.uid": "involvedObject.uid", "regarding.apiVersion": "involvedObject.apiVersion", "regarding.resourceVersion": "involvedObject.resourceVersion",
	"regarding.fieldPath": "involvedObject.fieldPath", "reportingController": "reportingComponent", "type": "type",
	"metadata.namespace": "metadata.namespace", "metadata.name": "metadata.name",
}

func eventLabel(label, value string) (string, string, error) {
	if name, ok := eventLabels[label]; ok {
		return name, value, nil
	}
	return "", "", fmt.Errorf("field label not supported: %s", label)
}

// Get answers an event.
func (e *Events) Get(ctx context.Context, name string, options *metav1.GetOptions) (runtime.Object, error) {
	return newer(e.of.Get(ctx, name, options))
}

// List answers events.
func (e *Events) List(ctx context.Context, options *internalversion.ListOptions) (runtime.Object, error) {
	return newer(e.of.List(ctx, options))
}

// Watch tells of changes.
func (e *Events) Watch(ctx context.Context, options *internalversion.ListOptions) (watch.Interface, error) {
	w, err := e.of.Watch(ctx, options)
	if err != nil {
		return nil, err
	}
	return watch.Filter(w, func(change watch.Event) (watch.Event, bool) {
		if event, ok := change.Object.(*v1.Event); ok {
			change.Object = newEvent(event)
		}
		return change, true
	}), nil
}

// Create makes an event.
func (e *Events) Create(ctx context.Context, object runtime.Object, validate rest.ValidateObjectFunc, options *metav1.CreateOptions) (runtime.Object, error) {
	event, err := older(object)
	if err != nil {
		return nil, err
	}
	if faults := manifests.CheckNewerEvent(event); len(faults) > 0 {
		return nil, errors.NewInvalid(e.GroupVersionKind().GroupKind(), event.Name, faults)
	}
	return newer(e.of.Create(ctx, event, shown(validate), options))
}

// Update makes an event what info makes of it.
//
//nolint:revive // the arguments are rest.Updater's
func (e *Events) Update(ctx context.Context, name string, info rest.UpdatedObjectInfo, create rest.ValidateObjectFunc, update rest.ValidateObjectUpdateFunc, orCreate bool, options *metav1.UpdateOptions) (runtime.Object, bool, error) {
	object, made, err := e.of.Update(ctx, name, shownInfo{info}, shown(create), func(ctx context.Context, now, was runtime.Object) error {
		if update == nil {
			return nil
		}
		return update(ctx, shownOne(now), shownOne(was))
	}, orCreate, options)
	object, err = newer(object, err)
	return object, made, err
}

// Delete removes an event.
func (e *Events) Delete(ctx context.Context, name string, validate rest.ValidateObjectFunc, options *metav1.DeleteOptions) (runtime.Object, bool, error) {
	object, now, err := e.of.Delete(ctx, name, shown(validate), options)
	object, err = newer(object, err)
	return object, now, err
}

// DeleteCollection removes events, and answers them.
func (e *Events) DeleteCollection(ctx context.Context, validate rest.ValidateObjectFunc, options *metav1.DeleteOptions, which *internalversion.ListOptions) (runtime.Object, error) {
	return newer(e.of.DeleteCollection(ctx, shown(validate), options, which))
}

// shownInfo is an update of what is shown.
type shownInfo struct{ rest.UpdatedObjectInfo }

// UpdatedObject is what is kept after the update.
func (i shownInfo) UpdatedObject(ctx context.Context, was runtime.Object) (runtime.Object, error) {
	object, err := i.UpdatedObjectInfo.UpdatedObject(ctx, shownOne(was))
	if err != nil {
		return nil, err
	}
	return older(object)
}

// shown is a check of what is shown.
func shown(validate rest.ValidateObjectFunc) rest.ValidateObjectFunc {
	if validate == nil {
		return nil
	}
	return func(ctx context.Context, object runtime.Object) error { return validate(ctx, shownOne(object)) }
}

func shownOne(object runtime.Object) runtime.Object {
	if event, ok := object.(*v1.Event); ok {
		return newEvent(event)
	}
	return object
}

// newer is an answer of v1 in the words of events.k8s.io.
func newer(object runtime.Object, err error) (runtime.Object, error) {
	list, ok := object.(*v1.EventList)
	switch {
	case err != nil:
		return nil, err
	case !ok:
		return shownOne(object), nil
	}
	out := &eventsv1.EventList{ListMeta: list.ListMeta, Items: make([]eventsv1.Event, len(list.Items))}
	for i := range list.Items {
		out.Items[i] = *newEvent(&list.Items[i])
	}
	return out, nil
}

// older is an event as v1 has it.
func older(object runtime.Object) (*v1.Event, error) {
	event, ok := object.(*eventsv1.Event)
	if !ok {
		return nil, errors.NewBadRequest("it is no Event")
	}
	return oldEvent(event), nil
}

// newEvent is an event of v1 in the words of events.k8s.io (kubernetes/kubernetes pkg/apis/events/v1/conversion.go).
func newEvent(e *v1.Event) *eventsv1.Event {
	e = e.DeepCopy()
	out := &eventsv1.Event{
		ObjectMeta: e.ObjectMeta, EventTime: e.EventTime, ReportingController: e.ReportingController, ReportingInstance: e.ReportingInstance, Action: e.Action,
		Reason: e.Reason, Regarding: e.InvolvedObject, Related: e.Related, Note: e.Message, Type: e.Type, DeprecatedSource: e.Source,
		DeprecatedFirstTimestamp: e.FirstTimestamp, DeprecatedLastTimestamp: e.LastTimestamp, DeprecatedCount: e.Count,
	}
	if e.Series != nil {
		out.Series = &eventsv1.EventSeries{Count: e.Series.Count, LastObservedTime: e.Series.LastObservedTime}
	}
	return out
}

// oldEvent is the reverse.
func oldEvent(e *eventsv1.Event) *v1.Event {
	e = e.DeepCopy()
	out := &v1.Event{
		ObjectMeta: e.ObjectMeta, EventTime: e.EventTime, ReportingController: e.ReportingController, ReportingInstance: e.ReportingInstance, Action: e.Action,
		Reason: e.Reason, InvolvedObject: e.Regarding, Related: e.Related, Message: e.Note, Type: e.Type, Source: e.DeprecatedSource,
		FirstTimestamp: e.DeprecatedFirstTimestamp, LastTimestamp: e.DeprecatedLastTimestamp, Count: e.DeprecatedCount,
	}
	if e.Series != nil {
		out.Series = &v1.EventSeries{Count: e.Series.Count, LastObservedTime: e.Series.LastObservedTime}
	}
	return out
}
