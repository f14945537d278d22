package storage

import (
	"context"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apiserver/pkg/storage/names"
	"k8s.io/apiserver/pkg/warning"
	"k8s.io/utils/ptr"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/podkeeper/podkeeper/manifests"
)

// strategy is what package rest wants to know of a resource before it is written.
type strategy struct {
	runtime.ObjectTyper
	names.NameGenerator
	*Resource
	edit edit
}

// edit is what an update may change, and the rest that it may not.
type edit struct {
	keep  func(now, was runtime.Object)                // puts back what the update does not change
	check func(now, was metav1.Object) field.ErrorList // says what of it is not allowed
}

// whole is an edit of everything but the status.
var whole = edit{keep: keepStatus, check: manifests.CheckEdit}

func (s strategy) NamespaceScoped() bool                         { return s.Namespaced }
func (s strategy) AllowCreateOnUpdate(context.Context) bool      { return s.CreateOnUpdate }
func (s strategy) AllowUnconditionalUpdate(context.Context) bool { return true }
func (s strategy) Canonicalize(runtime.Object)                   {}

// PrepareForCreate empties what is the agent's to say.
func (s strategy) PrepareForCreate(_ context.Context, o runtime.Object) {
	if s.Prepare != nil {
		s.Prepare(o)
	}
}

// Validate says what is wrong with a new object, in Kubernetes' words and in podkeeper's.
func (s strategy) Validate(_ context.Context, o runtime.Object) field.ErrorList {
	return manifests.Check(o.(metav1.Object))
}

// WarningsOnCreate are Kubernetes' own.
func (s strategy) WarningsOnCreate(_ context.Context, o runtime.Object) []string {
	return manifests.Warnings(o.(metav1.Object), nil)
}

// PrepareForUpdate puts back what the update does not change.
func (s strategy) PrepareForUpdate(_ context.Context, now, was runtime.Object) {
	s.edit.keep(now, was)
	count(now, was)
}

// count counts the versions of a Pod's spec, as Kubernetes does (metadata.generation).
func count(now, was runtime.Object) {
	after, ok := now.(*v1.Pod)
	if before, same := was.(*v1.Pod); ok && same {
		after.Generation = before.Generation
		if !equality.Semantic.DeepEqual(after.Spec, before.Spec) {
			after.Generation++
		}
	}
}

// ValidateUpdate says what of an update is not allowed.
func (s strategy) ValidateUpdate(_ context.Context, now, was runtime.Object) field.ErrorList {
	return s.edit.check(now.(metav1.Object), was.(metav1.Object))
}

// WarningsOnUpdate are Kubernetes' own.
func (s strategy) WarningsOnUpdate(_ context.Context, now, was runtime.Object) []string {
	return manifests.Warnings(now.(metav1.Object), was.(metav1.Object))
}

// CheckGracefulDelete has Pods end in their own time, unless a client says otherwise.
func (s strategy) CheckGracefulDelete(_ context.Context, o runtime.Object, options *metav1.DeleteOptions) bool {
	pod, is := o.(*v1.Pod)
	if !is {
		return false
	}
	if options.GracePeriodSeconds == nil {
		options.GracePeriodSeconds = ptr.To(ptr.Deref(pod.Spec.TerminationGracePeriodSeconds, v1.DefaultTerminationGracePeriodSeconds))
	}
	return true
}

// same says whether two versions of an object are one and the same, but for when its managed fields were last claimed.
func same(now, was runtime.Object) bool {
	return equality.Semantic.DeepEqual(withoutClaims(now), withoutClaims(was))
}

// withoutClaims is an object without the times of its managed fields.
func withoutClaims(o runtime.Object) runtime.Object {
	o = o.DeepCopyObject()
	m := o.(metav1.Object)
	claims := m.GetManagedFields()
	for i := range claims {
		claims[i].Time = nil
	}
	m.SetManagedFields(claims)
	return o
}

func warn(ctx context.Context, text string) {
	if text != "" {
		warning.AddWarning(ctx, "", text)
	}
}
