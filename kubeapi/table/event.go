package table

import (
	"cmp"
	"slices"
	"strings"
	"time"

	v1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/podkeeper/podkeeper/server"
)

func eventColumns() []metav1.TableColumnDefinition {
	return slices.Concat(always("Last Seen", "Type", "Reason", "Object"), wide("Subobject", "Source"),
		always("Message"), wide("First Seen", "Count", "Name"))
}

// event is an Event, of which there are two sorts: those that count and have a first and a last time, and newer ones
// that have a time and, where there are several, a series.
func event(e *v1.Event, now time.Time) []any {
	first := e.FirstTimestamp.Time
	if first.IsZero() {
		first = e.EventTime.Time
	}
	last, count := e.LastTimestamp.Time, cmp.Or(e.Count, 1)
	if last.IsZero() {
		last = first
	}
	if e.Series != nil {
		last, count = e.Series.LastObservedTime.Time, e.Series.Count
	}
	object := strings.ToLower(e.InvolvedObject.Kind)
	if e.InvolvedObject.Name != "" {
		object += "/" + e.InvolvedObject.Name
	}
	source := cmp.Or(e.Source.Component, e.ReportingController)
	if instance := cmp.Or(e.Source.Host, e.ReportingInstance); instance != "" {
		source += ", " + instance
	}
	return []any{
		server.Age(last, now), e.Type, e.Reason, object, e.InvolvedObject.FieldPath, source, strings.TrimSpace(e.Message),
		server.Age(first, now), int64(count), e.Name,
	}
}

// newEvent is the same Event with the names of its fields in events.k8s.io.
func newEvent(e *eventsv1.Event, now time.Time) []any {
	old := &v1.Event{
		ObjectMeta: e.ObjectMeta, InvolvedObject: e.Regarding, Type: e.Type, Reason: e.Reason, Message: e.Note,
		Source: e.DeprecatedSource, ReportingController: e.ReportingController, ReportingInstance: e.ReportingInstance,
		EventTime: e.EventTime, FirstTimestamp: e.DeprecatedFirstTimestamp, LastTimestamp: e.DeprecatedLastTimestamp,
		Count: e.DeprecatedCount,
	}
	if e.Series != nil {
		old.Series = &v1.EventSeries{Count: e.Series.Count, LastObservedTime: e.Series.LastObservedTime}
	}
	return event(old, now)
}
