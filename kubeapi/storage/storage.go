// Package storage answers k8s.io/apiserver's handlers: what is read comes from the mirror, what is written goes to the agent, which
// checks it again. Objects are those of v1, as the agent has them; there is no other version of any, but that Events are shown in the
// words of events.k8s.io as well.
//
//	handlers ─▶ Objects ─┬─▶ mirror           get, list, watch
//	                     └─▶ strategy, agent  create, update, patch, delete; the answer waits for the mirror
//
// It must not know of HTTP, of who asks, nor of what the agent makes of an object.
package storage

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/internalversion"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/registry/rest"
	"k8s.io/utils/ptr"

	"github.com/podkeeper/podkeeper/kubeapi/mirror"
	"github.com/podkeeper/podkeeper/server"
)

// patience is how long an answer waits until what was written is in the mirror.
const patience = 10 * time.Second

// Agent is what writes are asked of. The errors are those of server.Client.
type Agent interface {
	PutObject(ctx context.Context, id server.ObjectID, object []byte, want server.Condition) ([]byte, error)
	DeleteObject(ctx context.Context, id server.ObjectID, want server.Condition, grace *time.Duration) (object []byte, warning string, err error)
	PutStatus(ctx context.Context, id server.ObjectID, object []byte, want server.Condition) ([]byte, error)
	AddEphemeral(ctx context.Context, pod types.NamespacedName, container *v1.EphemeralContainer) (*v1.Pod, error)
}

// Objects are those of one resource, to be read. It implements what package rest wants of a resource.
type Objects struct {
	*Resource
	rest.TableConvertor
	table *mirror.Table
}

// Get answers an object.
func (o *Objects) Get(ctx context.Context, name string, _ *metav1.GetOptions) (runtime.Object, error) {
	return o.table.Get(o.named(ctx, name))
}

// named is the name of an object in the namespace that is asked about. The path of a Namespace seems to be in itself.
func (o *Objects) named(ctx context.Context, name string) types.NamespacedName {
	return types.NamespacedName{Namespace: o.namespace(ctx), Name: name}
}

func (o *Objects) namespace(ctx context.Context) string {
	if !o.Namespaced {
		return ""
	}
	return request.NamespaceValue(ctx)
}

func (o *Objects) selection(ctx context.Context, options *internalversion.ListOptions) mirror.Selection {
	label, field := labels.Everything(), fields.Everything()
	if options != nil && options.LabelSelector != nil {
		label = options.LabelSelector
	}
	if options != nil && options.FieldSelector != nil {
		field = options.FieldSelector
	}
	return mirror.Selection{Namespace: o.namespace(ctx), Match: func(object runtime.Object) bool {
		m, err := meta.Accessor(object)
		return err == nil && label.Matches(labels.Set(m.GetLabels())) && (field.Empty() || field.Matches(o.fieldsOf(object, m)))
	}}
}

// fieldsOf are the fields that a selector may ask for.
func (r *Resource) fieldsOf(object runtime.Object, m metav1.Object) fields.Set {
	set := fields.Set{}
	if r.Fields != nil {
		set = r.Fields(object)
	}
	set["metadata.name"] = m.GetName()
	if r.Namespaced {
		set["metadata.namespace"] = m.GetNamespace()
	}
	return set
}

// List answers all objects that are asked for: a limit is not followed, which Kubernetes' API leaves to a server.
func (o *Objects) List(ctx context.Context, options *internalversion.ListOptions) (runtime.Object, error) {
	if options == nil {
		options = &internalversion.ListOptions{}
	}
	wanted, err := revisionOf(options.ResourceVersion)
	if err != nil {
		return nil, err
	}
	if options.Continue != "" {
		return nil, errors.NewResourceExpired("the continue token is of another list: begin again without it")
	}
	if err := o.table.Await(ctx, wanted); err != nil {
		return nil, errors.NewTimeoutError(fmt.Sprintf("resource version %d is not known yet", wanted), 1)
	}
	found, revision := o.table.List(o.selection(ctx, options))
	if options.ResourceVersionMatch == metav1.ResourceVersionMatchExact && wanted != revision {
		return nil, errors.NewResourceExpired(fmt.Sprintf("the resource version %d is not kept any more", wanted))
	}
	list := o.NewList()
	if err := meta.SetList(list, found); err != nil {
		return nil, errors.NewInternalError(err)
	}
	m, err := meta.ListAccessor(list)
	if err != nil {
		return nil, errors.NewInternalError(err)
	}
	m.SetResourceVersion(strconv.FormatUint(revision, 10))
	return list, nil
}

// Watch tells of changes.
func (o *Objects) Watch(ctx context.Context, options *internalversion.ListOptions) (watch.Interface, error) {
	from, err := revisionOf(options.ResourceVersion)
	if err != nil {
		return nil, err
	}
	start := mirror.Start{Revision: from, Initial: ptr.Deref(options.SendInitialEvents, false)}
	if options.AllowWatchBookmarks { // else the library, which asks for what there is in the client's place, panics at one
		start.Mark = o.New()
	}
	return o.table.Watch(o.selection(ctx, options), start)
}

// revisionOf reads a resourceVersion; none is 0.
func revisionOf(version string) (uint64, error) {
	if version == "" {
		return 0, nil
	}
	revision, err := strconv.ParseUint(version, 10, 64)
	if err != nil {
		return 0, errors.NewBadRequest(fmt.Sprintf("invalid resource version %q", version))
	}
	return revision, nil
}

// Changeable are objects that can be written, too.
type Changeable struct {
	*Objects
	agent    Agent
	look     look
	strategy strategy
	write    func(ctx context.Context, object runtime.Object, want server.Condition) ([]byte, error) // asks the agent, and answers what it does
}

// Create makes an object. With a dry run everything is checked and nothing made.
func (c *Changeable) Create(ctx context.Context, object runtime.Object, validate rest.ValidateObjectFunc, options *metav1.CreateOptions) (runtime.Object, error) {
	m, err := meta.Accessor(object)
	if err != nil {
		return nil, errors.NewBadRequest(err.Error())
	}
	rest.FillObjectMetaSystemFields(m)
	if m.GetName() == "" && m.GetGenerateName() != "" {
		m.SetName(c.strategy.GenerateName(m.GetGenerateName()))
	}
	if err := rest.BeforeCreate(c.strategy, ctx, object); err != nil {
		return nil, err
	}
	if validate != nil {
		if err := validate(ctx, object.DeepCopyObject()); err != nil {
			return nil, err
		}
	}
	if was, err := c.table.Get(nameOf(m)); err == nil {
		return nil, exists(c.Resource, was)
	}
	if c.Admit != nil {
		if err := c.Admit(object, c.look); err != nil {
			return nil, err
		}
	}
	return c.put(ctx, object, server.Condition{New: true, DryRun: dry(options.DryRun)})
}

// exists says that there is an object by this name already.
func exists(r *Resource, was runtime.Object) error {
	m, err := meta.Accessor(was)
	if err != nil {
		return errors.NewInternalError(err)
	}
	fault := errors.NewAlreadyExists(r.GroupResource(), m.GetName())
	if m.GetDeletionTimestamp() != nil {
		fault.ErrStatus.Message = fmt.Sprintf("object is being deleted: %s", fault.ErrStatus.Message)
	}
	return fault
}

func nameOf(m metav1.Object) types.NamespacedName {
	return types.NamespacedName{Namespace: m.GetNamespace(), Name: m.GetName()}
}

func dry(run []string) bool { return len(run) > 0 }

// Update makes an object what info makes of it, or a new one where there is none and that is asked for.
//
//nolint:revive // the arguments are rest.Updater's
func (c *Changeable) Update(ctx context.Context, name string, info rest.UpdatedObjectInfo, create rest.ValidateObjectFunc, update rest.ValidateObjectUpdateFunc, orCreate bool, options *metav1.UpdateOptions) (runtime.Object, bool, error) {
	for {
		was, err := c.Get(ctx, name, nil)
		if errors.IsNotFound(err) && (orCreate || c.CreateOnUpdate) {
			object, err := c.createFrom(ctx, info, create, options)
			return object, err == nil, err
		}
		if err != nil {
			return nil, false, err
		}
		object, err := info.UpdatedObject(ctx, was.DeepCopyObject())
		if err != nil {
			return nil, false, err
		}
		whatever := object.(metav1.Object).GetResourceVersion() == ""
		want, err := c.checkUpdate(ctx, object, was, update)
		if err != nil {
			return nil, false, err
		}
		if same(object, was) {
			return was, false, nil
		}
		want.DryRun = dry(options.DryRun)
		made, err := c.put(ctx, object, want)
		if errors.IsConflict(err) && whatever && ctx.Err() == nil {
			continue // somebody was faster, which whoever asks for no version does not mind
		}
		return made, false, err
	}
}

// createFrom makes an object of nothing.
func (c *Changeable) createFrom(ctx context.Context, info rest.UpdatedObjectInfo, create rest.ValidateObjectFunc, options *metav1.UpdateOptions) (runtime.Object, error) {
	object, err := info.UpdatedObject(ctx, c.New())
	if err != nil {
		return nil, err
	}
	return c.Create(ctx, object, create, &metav1.CreateOptions{DryRun: options.DryRun})
}

// checkUpdate says what of an update is not allowed, and what must hold of the object for it to be made.
func (c *Changeable) checkUpdate(ctx context.Context, object, was runtime.Object, validate rest.ValidateObjectUpdateFunc) (want server.Condition, err error) {
	m, before := object.(metav1.Object), was.(metav1.Object)
	if m.GetResourceVersion() == "" {
		m.SetResourceVersion(before.GetResourceVersion())
	}
	if want.Revision, err = revisionOf(m.GetResourceVersion()); err != nil {
		return want, err
	}
	if uid := m.GetUID(); uid != "" && uid != before.GetUID() {
		return want, errors.NewConflict(c.GroupResource(), m.GetName(), fmt.Errorf("the UID in the precondition (%s) does not match the UID in record (%s)", uid, before.GetUID()))
	}
	if err := rest.BeforeUpdate(c.strategy, ctx, object, was); err != nil {
		return want, err
	}
	if validate != nil {
		return want, validate(ctx, object.DeepCopyObject(), was.DeepCopyObject())
	}
	return want, nil
}

// put asks the agent for an object to be what there is, and answers it as the mirror has it then.
func (c *Changeable) put(ctx context.Context, object runtime.Object, want server.Condition) (runtime.Object, error) {
	answer, err := c.write(ctx, object, want)
	if err != nil {
		return nil, c.fault(err, object.(metav1.Object).GetName(), want.New)
	}
	if want.DryRun && want.New {
		return object, given(object, answer)
	}
	if want.DryRun {
		return object, nil
	}
	return c.mirrored(ctx, answer)
}

// given adds to a Pod that would be made what the agent would give it.
func given(object runtime.Object, answer []byte) error {
	pod, ok := object.(*v1.Pod)
	if !ok {
		return nil
	}
	would, err := Decode(answer)
	if err != nil {
		return errors.NewInternalError(err)
	}
	if would, ok := would.(*v1.Pod); ok {
		pod.Spec, pod.Annotations = would.Spec, would.Annotations
	}
	return nil
}

// putWhole asks for all of an object.
func (c *Changeable) putWhole(ctx context.Context, object runtime.Object, want server.Condition) ([]byte, error) {
	body, err := c.encode(object)
	if err != nil {
		return nil, err
	}
	return c.agent.PutObject(ctx, c.id(object.(metav1.Object)), body, want)
}

func (r *Resource) id(m metav1.Object) server.ObjectID {
	return server.ObjectID{Resource: r.GroupResource().String(), Namespace: m.GetNamespace(), Name: m.GetName()}
}

// encode writes an object as the agent keeps it.
func (r *Resource) encode(object runtime.Object) ([]byte, error) {
	object = object.DeepCopyObject()
	object.GetObjectKind().SetGroupVersionKind(r.GroupVersionKind())
	return json.Marshal(object)
}

// mirrored answers an object as the mirror has it, once that has what the agent answered.
func (c *Changeable) mirrored(ctx context.Context, answer []byte) (runtime.Object, error) {
	object, err := Decode(answer)
	if err != nil {
		return nil, errors.NewInternalError(err)
	}
	m, err := meta.Accessor(object)
	if err != nil {
		return nil, errors.NewInternalError(err)
	}
	revision, err := revisionOf(m.GetResourceVersion())
	if err != nil {
		return nil, err
	}
	waiting, done := context.WithTimeout(ctx, patience)
	defer done()
	if err := c.table.AwaitChange(waiting, nameOf(m), revision); err != nil {
		return object, nil // it is written, which is what counts
	}
	if now, err := c.table.Get(nameOf(m)); err == nil {
		return now, nil
	}
	return object, nil
}

// Delete has the agent remove an object. A Pod is answered as one that ends.
func (c *Changeable) Delete(ctx context.Context, name string, validate rest.ValidateObjectFunc, options *metav1.DeleteOptions) (runtime.Object, bool, error) {
	object, err := c.Get(ctx, name, nil)
	if err != nil {
		return nil, false, err
	}
	m, err := meta.Accessor(object)
	if err != nil {
		return nil, false, errors.NewInternalError(err)
	}
	if validate != nil {
		if err := validate(ctx, object); err != nil {
			return nil, false, err
		}
	}
	want := server.Condition{DryRun: dry(options.DryRun)}
	if p := options.Preconditions; p != nil && !c.inManifest(m) { // what stands in a manifest has no revision to compare with
		if want.Revision, err = revisionOf(m.GetResourceVersion()); err != nil {
			return nil, false, err
		}
	}
	graceful, pending, err := rest.BeforeDelete(c.strategy, ctx, object, options)
	if err != nil {
		return nil, false, err
	}
	if pending || want.DryRun && graceful {
		return object, false, nil
	}
	return c.remove(ctx, m, want, options)
}

func (c *Changeable) remove(ctx context.Context, m metav1.Object, want server.Condition, options *metav1.DeleteOptions) (runtime.Object, bool, error) {
	var grace *time.Duration
	if options.GracePeriodSeconds != nil {
		grace = ptr.To(time.Duration(*options.GracePeriodSeconds) * time.Second)
	}
	answer, warning, err := c.agent.DeleteObject(ctx, c.id(m), want, grace)
	if err != nil {
		return nil, false, c.fault(err, m.GetName(), false)
	}
	warn(ctx, warning)
	object, err := Decode(answer)
	if err != nil {
		return nil, false, errors.NewInternalError(err)
	}
	if want.DryRun {
		return object, true, nil
	}
	waiting, done := context.WithTimeout(ctx, patience)
	defer done()
	if err := c.table.AwaitObject(waiting, nameOf(m), ends(m.GetUID())); err != nil {
		return object, false, nil
	}
	if now, err := c.table.Get(nameOf(m)); err == nil {
		if after, err := meta.Accessor(now); err == nil && after.GetUID() == m.GetUID() {
			return now, false, nil
		}
	}
	return object, true, nil
}

// ends tells whether an object is being deleted, or is another one than that of a UID.
func ends(uid types.UID) func(runtime.Object) bool {
	return func(o runtime.Object) bool {
		m := o.(metav1.Object)
		return m.GetUID() != uid || m.GetDeletionTimestamp() != nil
	}
}

// DeleteCollection removes all objects that are asked for, and answers them.
func (c *Changeable) DeleteCollection(ctx context.Context, validate rest.ValidateObjectFunc, options *metav1.DeleteOptions, which *internalversion.ListOptions) (runtime.Object, error) {
	list, err := c.List(ctx, which)
	if err != nil {
		return nil, err
	}
	return list, meta.EachListItem(list, func(object runtime.Object) error {
		m, err := meta.Accessor(object)
		if err != nil {
			return err
		}
		_, _, err = c.Delete(request.WithNamespace(ctx, m.GetNamespace()), m.GetName(), validate, options.DeepCopy())
		if errors.IsNotFound(err) {
			return nil
		}
		return err
	})
}
