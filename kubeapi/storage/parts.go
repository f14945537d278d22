package storage

import (
	"context"
	"fmt"
	"slices"

	v1 "k8s.io/api/core/v1"
	policy "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apiserver/pkg/registry/rest"

	"github.com/podkeeper/podkeeper/manifests"
	"github.com/podkeeper/podkeeper/server"
)

// Part is a subresource that changes a part of an object.
type Part struct{ of *Changeable }

// New is an empty object.
func (p *Part) New() runtime.Object { return p.of.New() }

// Destroy lets go of nothing.
func (p *Part) Destroy() {}

// Get answers the whole object.
func (p *Part) Get(ctx context.Context, name string, options *metav1.GetOptions) (runtime.Object, error) {
	return p.of.Get(ctx, name, options)
}

// Update changes the part; there must be the object.
//
//nolint:revive // the arguments are rest.Updater's
func (p *Part) Update(ctx context.Context, name string, info rest.UpdatedObjectInfo, create rest.ValidateObjectFunc, update rest.ValidateObjectUpdateFunc, _ bool, options *metav1.UpdateOptions) (runtime.Object, bool, error) {
	return p.of.Update(ctx, name, info, create, update, false, options)
}

// ConvertToTable prints the whole object.
func (p *Part) ConvertToTable(ctx context.Context, o, options runtime.Object) (*metav1.Table, error) {
	return p.of.ConvertToTable(ctx, o, options)
}

// part is a Changeable of another edit.
func (c *Changeable) part(e edit, write func(ctx context.Context, object runtime.Object, want server.Condition) ([]byte, error)) *Part {
	of := *c
	of.strategy.edit, of.write = e, write
	return &Part{&of}
}

// status is a Pod's status, of which clients may change conditions.
func (c *Changeable) status() *Part {
	return c.part(edit{
		keep: func(now, was runtime.Object) {
			pod, before := now.(*v1.Pod), was.(*v1.Pod)
			pod.Spec = before.Spec
			pod.DeletionTimestamp, pod.OwnerReferences = before.DeletionTimestamp, before.OwnerReferences
		},
		check: func(now, was metav1.Object) field.ErrorList {
			return manifests.CheckStatusEdit(now.(*v1.Pod), was.(*v1.Pod))
		},
	}, c.putStatus)
}

// putStatus asks for a Pod's conditions, and waits until the mirror has them.
func (c *Changeable) putStatus(ctx context.Context, object runtime.Object, want server.Condition) ([]byte, error) {
	pod := object.(*v1.Pod)
	body, err := c.encode(pod)
	if err != nil {
		return nil, err
	}
	answer, err := c.agent.PutStatus(ctx, c.id(pod), body, want)
	if err != nil || want.DryRun {
		return answer, err
	}
	o, err := Decode(answer)
	if err != nil {
		return nil, err
	}
	taken := slices.DeleteFunc(pod.Status.Conditions, func(written v1.PodCondition) bool { return !has(o, written) })
	waiting, done := context.WithTimeout(ctx, patience)
	defer done()
	_ = c.table.AwaitObject(waiting, nameOf(pod), func(o runtime.Object) bool {
		return !slices.ContainsFunc(taken, func(written v1.PodCondition) bool { return !has(o, written) })
	})
	return answer, nil // it is written, which is what counts
}

// has tells whether a Pod has a condition.
func has(o runtime.Object, want v1.PodCondition) bool {
	return slices.ContainsFunc(o.(*v1.Pod).Status.Conditions, func(c v1.PodCondition) bool {
		return c.Type == want.Type && c.Status == want.Status && c.Reason == want.Reason && c.Message == want.Message
	})
}

// resize is what a Pod asks for, of which clients may change cpu and memory.
func (c *Changeable) resize() *Part {
	return c.part(edit{
		keep: keepButResources,
		check: func(now, was metav1.Object) field.ErrorList {
			return manifests.CheckResize(now.(*v1.Pod), was.(*v1.Pod))
		},
	}, c.putWhole)
}

// keepButResources puts back all of a Pod but what its containers ask for, where they are the same ones; else it is refused
// (kubernetes/kubernetes pkg/registry/core/pod/strategy.go, dropNonResizeUpdates).
func keepButResources(now, was runtime.Object) {
	pod, before := now.(*v1.Pod), was.(*v1.Pod)
	spec := before.Spec.DeepCopy()
	spec.Resources = pod.Spec.Resources
	for _, of := range []struct{ now, was []v1.Container }{{pod.Spec.InitContainers, spec.InitContainers}, {pod.Spec.Containers, spec.Containers}} {
		if !slices.EqualFunc(of.now, of.was, func(a, b v1.Container) bool { return a.Name == b.Name }) {
			return
		}
		for i := range of.was {
			of.was[i].Resources, of.was[i].ResizePolicy = of.now[i].Resources, of.now[i].ResizePolicy
		}
	}
	pod.Spec, pod.Status = *spec, before.Status
	metav1.ResetObjectMetaForStatus(pod, before)
}

// ephemeral is a Pod's ephemeral containers, to which clients may add.
func (c *Changeable) ephemeral() *Part {
	return c.part(edit{
		keep: func(now, was runtime.Object) {
			pod, before := now.(*v1.Pod), was.(*v1.Pod)
			added := pod.Spec.EphemeralContainers
			pod.Spec = *before.Spec.DeepCopy()
			pod.Spec.EphemeralContainers = added
			pod.Status, pod.Labels, pod.Annotations = before.Status, before.Labels, before.Annotations
		},
		check: func(now, was metav1.Object) field.ErrorList {
			return manifests.CheckEphemeralEdit(now.(*v1.Pod), was.(*v1.Pod))
		},
	}, c.addEphemeral)
}

// addEphemeral adds what a Pod has of ephemeral containers beyond what it had.
func (c *Changeable) addEphemeral(ctx context.Context, object runtime.Object, want server.Condition) ([]byte, error) {
	pod := object.(*v1.Pod)
	had, err := c.table.Get(nameOf(pod))
	if err != nil {
		return nil, err
	}
	now := had.(*v1.Pod)
	for i := range pod.Spec.EphemeralContainers {
		container := &pod.Spec.EphemeralContainers[i]
		if want.DryRun || slices.ContainsFunc(now.Spec.EphemeralContainers, func(e v1.EphemeralContainer) bool { return e.Name == container.Name }) {
			continue
		}
		if _, err := c.agent.AddEphemeral(ctx, nameOf(pod), container); err != nil {
			return nil, err
		}
	}
	pod.GenerateName, pod.ResourceVersion = now.GenerateName, now.ResourceVersion
	return c.encode(pod)
}

// Eviction is pods/eviction: a deletion, for there are no disruption budgets.
type Eviction struct{ pods *Changeable }

// New is an empty request.
func (e *Eviction) New() runtime.Object { return &policy.Eviction{} }

// Destroy lets go of nothing.
func (e *Eviction) Destroy() {}

// GroupVersionKind is that of policy/v1, by which clients know that they may evict.
func (e *Eviction) GroupVersionKind(schema.GroupVersion) schema.GroupVersionKind {
	return policy.SchemeGroupVersion.WithKind("Eviction")
}

// Create evicts a Pod.
func (e *Eviction) Create(ctx context.Context, name string, o runtime.Object, validate rest.ValidateObjectFunc, create *metav1.CreateOptions) (runtime.Object, error) {
	eviction, ok := o.(*policy.Eviction)
	if !ok || eviction.Name != "" && eviction.Name != name {
		return nil, errors.NewBadRequest("name in URL does not match name in Eviction object")
	}
	options := &metav1.DeleteOptions{}
	if eviction.DeleteOptions != nil {
		options = eviction.DeleteOptions
	}
	if len(create.DryRun) > 0 {
		options.DryRun = create.DryRun
	}
	if _, _, err := e.pods.Delete(ctx, name, validate, options); err != nil {
		return nil, err
	}
	return &metav1.Status{Status: metav1.StatusSuccess, Code: 201}, nil
}

// Binding is pods/binding, which is refused: every Pod is on this node from its beginning.
type Binding struct{ pods *Changeable }

// New is an empty request.
func (b *Binding) New() runtime.Object { return &v1.Binding{} }

// Destroy lets go of nothing.
func (b *Binding) Destroy() {}

// Create refuses, in the API server's words.
func (b *Binding) Create(ctx context.Context, name string, _ runtime.Object, _ rest.ValidateObjectFunc, _ *metav1.CreateOptions) (runtime.Object, error) {
	o, err := b.pods.Get(ctx, name, nil)
	if err != nil {
		return nil, err
	}
	return nil, errors.NewConflict(schema.GroupResource{Resource: "pods/binding"}, name, fmt.Errorf("pod %s is already assigned to node %q", name, o.(*v1.Pod).Spec.NodeName))
}
