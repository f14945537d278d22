package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	"github.com/podkeeper/podkeeper/agent/objects"
	"github.com/podkeeper/podkeeper/manifests"
	"github.com/podkeeper/podkeeper/server"
)

// systemNamespaces are those that every cluster has, and nobody may delete.
var systemNamespaces = []string{metav1.NamespaceDefault, v1.NamespaceNodeLease, metav1.NamespacePublic, metav1.NamespaceSystem}

// What is in every namespace (kubernetes/kubernetes pkg/controller/certificates/rootcacertpublisher and
// plugin/pkg/admission/serviceaccount).
const (
	defaultAccount  = "default"
	rootCAConfigMap = "kube-root-ca.crt"
	rootCAKey       = "ca.crt"
)

// namespaces is what is under way with them.
type namespaces struct {
	wake     chan struct{} // of size 1: one that is being deleted may be empty now
	emptying atomic.Bool   // one is being deleted, as far as is known

	mu     sync.Mutex // held while one is made, filled or emptied
	failed string     // why one could not be made, as was told last
}

func newNamespaces() *namespaces { return &namespaces{wake: make(chan struct{}, 1)} }

// Wake has those that are being deleted be looked at.
func (n *namespaces) Wake() {
	if !n.emptying.Load() {
		return
	}
	select {
	case n.wake <- struct{}{}:
	default:
	}
}

// begin has a namespace be emptied.
func (n *namespaces) begin() {
	n.emptying.Store(true)
	n.Wake()
}

// namespaceResource is what namespaces are called in paths.
const namespaceResource = "namespaces"

func namespaceID(name string) objects.ID {
	return objects.ID{Resource: namespaceResource, NamespacedName: types.NamespacedName{Name: name}}
}

// terminating says whether a namespace is being deleted.
func (a *Agent) terminating(name string) bool {
	o, err := a.objects.Get(namespaceID(name))
	return err == nil && objects.Ending(o.Content)
}

// completeNamespace fills in what every Namespace has.
func completeNamespace(id objects.ID, fields, was map[string]any) {
	child(child(fields, "metadata"), "labels")[v1.LabelMetadataName] = id.Name
	phase, spec := v1.NamespaceActive, child(fields, "spec")
	switch left, named, _ := unstructured.NestedSlice(was, "spec", "finalizers"); {
	case !objects.Ending(fields):
		spec["finalizers"] = []any{string(v1.FinalizerKubernetes)}
	case named && spec["finalizers"] == nil: // who says nothing of them leaves them
		spec["finalizers"] = left
		fallthrough
	default:
		phase = v1.NamespaceTerminating
	}
	child(fields, "status")["phase"] = string(phase)
}

// child is a part of an object, which is made where there is none.
func child(fields map[string]any, name string) map[string]any {
	part, ok := fields[name].(map[string]any)
	if !ok {
		part = map[string]any{}
		fields[name] = part
	}
	return part
}

// provide has the node, these namespaces and those of the system be there, for an API, with what is in every one. What cannot
// be written is told of once, and tried again with the next look.
func (a *Agent) provide(names map[string]bool) {
	for _, name := range systemNamespaces {
		names[name] = true
	}
	a.namespaces.mu.Lock()
	failed := ""
	made, err := a.provideObject(&v1.Node{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: manifests.KindNode}, ObjectMeta: metav1.ObjectMeta{Name: a.node.Name}, Spec: v1.NodeSpec{Taints: a.node.Taints}})
	if err != nil {
		failed = err.Error()
	}
	ca, err := a.cfg.CA()
	if err != nil {
		failed = err.Error()
	}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		some, err := a.provideOne(name, ca)
		if made = made || some; err != nil {
			failed = err.Error()
		}
	}
	if failed != "" && failed != a.namespaces.failed {
		a.log.Error("what every cluster has cannot be written", "error", failed)
	}
	a.namespaces.failed = failed
	a.namespaces.mu.Unlock()
	if made {
		a.offerObjects()
	}
}

// provideFor has namespaces be there for an API that tells of what was seen.
func (a *Agent) provideFor(seen map[objects.ID]sighting) {
	if a.cfg.CA == nil {
		return
	}
	names := map[string]bool{}
	for id := range seen {
		switch {
		case id.Resource == namespaceResource:
			names[id.Name] = true
		case id.Namespace != "" && id.Resource != eventResource:
			names[id.Namespace] = true
		}
	}
	a.provide(names)
}

// used says whether a namespace is there, or is to be: what was seen in it may be gone by now, and the namespace with it.
func (a *Agent) used(name string) bool {
	if _, err := a.objects.Get(namespaceID(name)); err == nil || slices.Contains(systemNamespaces, name) {
		return true
	}
	for id := range a.sightings() {
		if id.Namespace == name && id.Resource != eventResource {
			return true
		}
	}
	return false
}

// provideOne has one namespace be there, and says whether anything of it had to be made.
func (a *Agent) provideOne(name string, ca []byte) (made bool, err error) {
	if a.terminating(name) || !a.used(name) {
		return false, nil
	}
	meta := func(name, namespace string) metav1.ObjectMeta {
		return metav1.ObjectMeta{Name: name, Namespace: namespace}
	}
	core := func(kind string) metav1.TypeMeta { return metav1.TypeMeta{APIVersion: "v1", Kind: kind} }
	var errs []error
	all := []metav1.Object{
		&v1.Namespace{TypeMeta: core(manifests.KindNamespace), ObjectMeta: meta(name, "")},
		&v1.ServiceAccount{TypeMeta: core(manifests.KindServiceAccount), ObjectMeta: meta(defaultAccount, name)},
	}
	if ca != nil {
		all = append(all, &v1.ConfigMap{TypeMeta: core(manifests.KindConfigMap), ObjectMeta: meta(rootCAConfigMap, name), Data: map[string]string{rootCAKey: string(ca)}})
	}
	for _, o := range all {
		some, err := a.provideObject(o)
		made = made || some
		errs = append(errs, err)
	}
	return made, errors.Join(errs...)
}

// provideObject makes one object where there is none, or a ConfigMap that says something else.
func (a *Agent) provideObject(o metav1.Object) (made bool, err error) {
	kind := o.(runtime.Object).GetObjectKind().GroupVersionKind().Kind
	key := manifests.Key{Kind: kind, NamespacedName: types.NamespacedName{Namespace: o.GetNamespace(), Name: o.GetName()}}
	if there, err := a.objects.Get(objects.IDOf(key)); err == nil {
		said, _, _ := unstructured.NestedString(there.Content, "data", rootCAKey)
		if settings, ok := o.(*v1.ConfigMap); !ok || settings.Data[rootCAKey] == said {
			return false, nil
		}
	} else if a.manifestOf(key) != "" {
		return false, nil
	}
	body, err := json.Marshal(o)
	if err != nil {
		return false, fmt.Errorf("encode %s: %w", key, err)
	}
	_, err = a.objects.Put(objects.IDOf(key), body, objects.Condition{})
	return err == nil, err
}

// putInto writes an object, unless it is a new one of a namespace that is being deleted.
func (a *Agent) putInto(id objects.ID, body []byte, want objects.Condition) (objects.Object, error) {
	a.namespaces.mu.Lock()
	defer a.namespaces.mu.Unlock()
	if id.Namespace != "" && a.terminating(id.Namespace) {
		if _, err := a.objects.Get(id); err != nil {
			return objects.Object{}, server.As(server.ErrForbidden, fmt.Sprintf("%s %q is forbidden: unable to create new content in namespace %s because it is being terminated",
				id.Resource, id.Name, id.Namespace))
		}
	}
	body, err := a.addressed(id, body)
	if err == nil {
		body, err = a.judged(id, body, want.DryRun)
	}
	if err != nil {
		return objects.Object{}, err
	}
	return a.objects.Put(id, body, want)
}

// deletable says why a namespace may not be deleted, in Kubernetes' words as far as it has some.
func (a *Agent) deletable(name string) error {
	if slices.Contains(systemNamespaces, name) {
		return server.As(server.ErrForbidden, fmt.Sprintf("namespaces %q is forbidden: this namespace may not be deleted", name))
	}
	where := firstOf(a.sources.directory(), func(k manifests.Key) bool { return k.Namespace == name })
	if where == "" {
		return nil
	}
	return server.As(server.ErrForbidden, fmt.Sprintf("namespaces %q is forbidden: the manifest %s on the node is in it: remove that first", name, where))
}

// emptyNamespaces empties namespaces that are being deleted, until ctx ends: those of before, too.
func (a *Agent) emptyNamespaces(ctx context.Context) {
	a.namespaces.begin()
	var again <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case <-a.namespaces.wake:
		case <-again:
		}
		changed, err := a.emptyAll()
		if again = nil; err != nil {
			a.log.Error("namespaces cannot be emptied", "error", err)
			again = time.After(emptyRetry)
		}
		if changed {
			a.offerObjects()
			a.namespaces.Wake()
		}
	}
}

// emptyRetry is how soon is tried again what the disk did not allow.
const emptyRetry = 10 * time.Second

// emptyAll deletes what is in the namespaces that are being deleted and, of one in which nothing is left, the namespace. It
// says whether anything was.
func (a *Agent) emptyAll() (changed bool, err error) {
	a.namespaces.mu.Lock()
	defer a.namespaces.mu.Unlock()
	a.namespaces.emptying.Store(false) // unless there is one
	within := map[string][]objects.Object{}
	var ending []objects.Object
	for _, o := range a.objects.List() {
		within[o.Namespace] = append(within[o.Namespace], o)
		if o.ID == namespaceID(o.Name) && objects.Ending(o.Content) {
			ending = append(ending, o)
		}
	}
	var errs []error
	for _, namespace := range ending {
		a.namespaces.emptying.Store(true)
		some, err := a.emptyOne(namespace, within[namespace.Name])
		changed = changed || some
		errs = append(errs, err)
	}
	return changed, errors.Join(errs...)
}

// emptyOne deletes the objects of a namespace or, where there are none and its Pods have ended, the namespace itself.
func (a *Agent) emptyOne(namespace objects.Object, within []objects.Object) (changed bool, err error) {
	var errs []error
	for _, o := range within {
		if objects.Ending(o.Content) {
			continue // somebody is not done with it
		}
		_, err := a.objects.Delete(o.ID, objects.Condition{})
		changed = changed || err == nil
		errs = append(errs, err)
	}
	if len(within) > 0 || slices.ContainsFunc(a.all(), func(w *worker) bool { return w.key.Namespace == namespace.Name && !w.over() }) {
		return changed, errors.Join(errs...)
	}
	fields := runtime.DeepCopyJSON(namespace.Content)
	spec := child(fields, "spec")
	if left, _ := spec["finalizers"].([]any); len(left) == 0 {
		return changed, nil // somebody else is not done with it
	}
	spec["finalizers"] = []any{}
	body, err := json.Marshal(fields)
	if err != nil {
		return changed, fmt.Errorf("encode namespace: %w", err)
	}
	if _, err := a.objects.Put(namespace.ID, body, objects.Condition{}); err != nil {
		return changed, err
	}
	return true, nil
}
