// Package metrics answers metrics.k8s.io, which `kubectl top` asks: what Pods and the node use now.
//
//	handlers ─▶ the mirror's Pods and Node, by their labels ─▶ what the agent says of each
//
// Nothing is kept: the agent is asked whenever somebody asks here. What has no figures, because it does not run or runs not long
// enough, is not there, as with kubernetes-sigs/metrics-server. It must not know how figures are read.
package metrics

import (
	"context"

	"k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/internalversion"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/registry/rest"
	"k8s.io/metrics/pkg/apis/metrics/v1beta1"

	"github.com/podkeeper/podkeeper/kubeapi/mirror"
	"github.com/podkeeper/podkeeper/server"
)

// Usage says what Pods and the node use of CPUs and memory: [server.Client.Stats].
type Usage func(ctx context.Context) (*server.Summary, error)

// Storages answers the storages of v1beta1, by resource. tables says how one is printed.
func Storages(m *mirror.Mirror, usage Usage, tables func(schema.GroupResource) rest.TableConvertor) map[string]rest.Storage {
	storages := map[string]rest.Storage{}
	for name, s := range map[string]*figures{
		"pods":  {singular: "pod", kind: "podmetrics", namespaced: true, object: &v1beta1.PodMetrics{}, list: &v1beta1.PodMetricsList{}, of: ofPod},
		"nodes": {singular: "node", kind: "nodemetrics", object: &v1beta1.NodeMetrics{}, list: &v1beta1.NodeMetricsList{}, of: ofNode},
	} {
		s.TableConvertor, s.usage = tables(v1beta1.SchemeGroupVersion.WithResource(name).GroupResource()), usage
		s.about = m.Table(schema.GroupResource{Resource: name})
		storages[name] = s
	}
	return storages
}

// figures are the metrics of one resource, to be read.
type figures struct {
	rest.TableConvertor
	singular, kind string // kind is what metrics-server calls them where there are none
	namespaced     bool
	object, list   runtime.Object
	about          *mirror.Table // what they are about
	usage          Usage
	of             func(object runtime.Object, s *server.Summary) runtime.Object // nil where there are none
}

// New is an empty object.
func (f *figures) New() runtime.Object { return f.object.DeepCopyObject() }

// NewList is an empty list.
func (f *figures) NewList() runtime.Object { return f.list.DeepCopyObject() }

// Destroy lets go of nothing.
func (f *figures) Destroy() {}

// NamespaceScoped tells whether they are in namespaces.
func (f *figures) NamespaceScoped() bool { return f.namespaced }

// GetSingularName is what one of them is called.
func (f *figures) GetSingularName() string { return f.singular }

// Get answers those of one object.
func (f *figures) Get(ctx context.Context, name string, _ *metav1.GetOptions) (runtime.Object, error) {
	id := types.NamespacedName{Name: name}
	if f.namespaced {
		id.Namespace = request.NamespaceValue(ctx)
	}
	object, err := f.about.Get(id)
	if err != nil {
		return nil, f.none(id)
	}
	found, err := f.all(ctx, []runtime.Object{object})
	if err != nil {
		return nil, err
	}
	if len(found) == 0 {
		return nil, f.none(id)
	}
	return found[0], nil
}

// none is what metrics-server says where there are no figures.
func (f *figures) none(of types.NamespacedName) error {
	name := of.Name
	if f.namespaced {
		name = of.String()
	}
	return errors.NewNotFound(schema.GroupResource{Group: v1beta1.GroupName, Resource: f.kind}, name)
}

// List answers those of all objects that are asked for.
func (f *figures) List(ctx context.Context, options *internalversion.ListOptions) (runtime.Object, error) {
	which := mirror.Selection{Match: func(o runtime.Object) bool { return matches(options, o) }}
	if f.namespaced {
		which.Namespace = request.NamespaceValue(ctx)
	}
	objects, _ := f.about.List(which)
	found, err := f.all(ctx, objects)
	if err != nil {
		return nil, err
	}
	list := f.NewList()
	if err := meta.SetList(list, found); err != nil {
		return nil, errors.NewInternalError(err)
	}
	return list, nil
}

func matches(options *internalversion.ListOptions, o runtime.Object) bool {
	m, err := meta.Accessor(o)
	if err != nil || options == nil {
		return err == nil
	}
	if label := options.LabelSelector; label != nil && !label.Matches(labels.Set(m.GetLabels())) {
		return false
	}
	field := options.FieldSelector
	return field == nil || field.Matches(fields.Set{"metadata.name": m.GetName(), "metadata.namespace": m.GetNamespace()})
}

// all answers the figures of those objects that have some.
func (f *figures) all(ctx context.Context, objects []runtime.Object) ([]runtime.Object, error) {
	found := []runtime.Object{}
	if len(objects) == 0 {
		return found, nil
	}
	s, err := f.usage(ctx)
	if err != nil {
		return nil, errors.NewServiceUnavailable(err.Error())
	}
	for _, o := range objects {
		if of := f.of(o, s); of != nil {
			found = append(found, of)
		}
	}
	return found, nil
}
