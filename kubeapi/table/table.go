// Package table makes of objects the tables that `kubectl get` prints: columns and cells are those of a cluster's API
// server, which has them in kubernetes/kubernetes, pkg/printers/internalversion/printers.go. It is pure: the time comes
// as an argument, and it does not know where the objects are from or who asks.
package table

import (
	"cmp"
	"context"
	"fmt"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Convertor makes tables of objects of one kind. It is a rest.TableConvertor of k8s.io/apiserver.
type Convertor struct {
	kind  *kind
	clock func() time.Time
}

// Of returns the Convertor of a resource. Ages are told by the clock. A resource that Kubernetes has no columns for gets
// a name and a time of creation, as it does there.
func Of(resource schema.GroupResource, clock func() time.Time) Convertor {
	return Convertor{cmp.Or(kinds[resource], &other), clock}
}

// kind is how objects of one kind are shown.
type kind struct {
	columns []metav1.TableColumnDefinition
	cells   func(o runtime.Object, now time.Time) ([]any, error) // one for each column
}

// ConvertToTable takes a single object or a list, and nil or *metav1.TableOptions as options.
func (c Convertor) ConvertToTable(_ context.Context, o, options runtime.Object) (*metav1.Table, error) {
	t := &metav1.Table{Rows: []metav1.TableRow{}}
	switch options := options.(type) {
	case nil:
		t.ColumnDefinitions = c.kind.columns
	case *metav1.TableOptions:
		if options == nil || !options.NoHeaders {
			t.ColumnDefinitions = c.kind.columns
		}
	default:
		return nil, fmt.Errorf("make table: options of type %T are not known", options)
	}
	now := c.clock()
	add := func(o runtime.Object) error {
		cells, err := c.kind.cells(o, now)
		t.Rows = append(t.Rows, metav1.TableRow{Cells: cells, Conditions: conditions(o), Object: runtime.RawExtension{Object: o}})
		return err
	}
	if list, err := meta.ListAccessor(o); err == nil {
		t.ResourceVersion, t.Continue = list.GetResourceVersion(), list.GetContinue()
		t.RemainingItemCount = list.GetRemainingItemCount()
		return t, meta.EachListItem(o, add)
	}
	if m, err := meta.CommonAccessor(o); err == nil {
		t.ResourceVersion = m.GetResourceVersion()
	}
	return t, add(o)
}

// show makes a kind of columns and of what stands in them.
func show[T runtime.Object](columns []metav1.TableColumnDefinition, cells func(o T, now time.Time) []any) *kind {
	return &kind{columns, func(o runtime.Object, now time.Time) ([]any, error) {
		typed, ok := o.(T)
		if !ok {
			return nil, fmt.Errorf("make table: %T where %T is expected", o, typed)
		}
		return cells(typed, now), nil
	}}
}

// always are columns that are shown always.
func always(names ...string) []metav1.TableColumnDefinition { return columns(0, names) }

// wide are columns that only -o wide shows.
func wide(names ...string) []metav1.TableColumnDefinition { return columns(1, names) }

func columns(priority int32, names []string) []metav1.TableColumnDefinition {
	defs := make([]metav1.TableColumnDefinition, len(names))
	for i, name := range names {
		defs[i] = metav1.TableColumnDefinition{Name: name, Type: "string", Priority: priority}
		if name == "Name" {
			defs[i].Format = "name"
		}
	}
	return defs
}

// conditions mark Pods that are over.
func conditions(o runtime.Object) []metav1.TableRowCondition {
	pod, ok := o.(*v1.Pod)
	if !ok {
		return nil
	}
	c := metav1.TableRowCondition{Type: metav1.RowCompleted, Status: metav1.ConditionTrue, Reason: string(pod.Status.Phase)}
	switch pod.Status.Phase {
	case v1.PodSucceeded:
		c.Message = "The pod has completed successfully."
	case v1.PodFailed:
		c.Message = "The pod failed."
	default:
		return nil
	}
	return []metav1.TableRowCondition{c}
}
