package manifests

import (
	"errors"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/conversion"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/kubernetes/pkg/apis/rbac"
	rbacvalidation "k8s.io/kubernetes/pkg/apis/rbac/validation"
)

// standard is what Kubernetes itself makes of one kind.
type standard struct {
	setDefaults func(o metav1.Object)
	validate    func(o metav1.Object) field.ErrorList        // says what is wrong with a new one
	edit        func(now, was metav1.Object) field.ErrorList // says what is wrong with an edit
}

// typed is a type of Kubernetes' API.
type typed interface {
	metav1.Object
	runtime.Object
}

// standardOf is that of a kind whose types are T in manifests and I inside of Kubernetes. One without defaults has nil.
func standardOf[T typed, I any](
	convert func(T, *I, conversion.Scope) error, setDefaults func(T), validate func(*I) field.ErrorList, edit func(now, was *I) field.ErrorList,
) standard {
	return standard{
		setDefaults: func(o metav1.Object) {
			if setDefaults != nil {
				setDefaults(o.(T))
			}
		},
		validate: func(o metav1.Object) field.ErrorList {
			object, err := internal(convert, o, "")
			if err != nil {
				return field.ErrorList{field.InternalError(nil, err)}
			}
			return validate(object)
		},
		edit: editOf(convert, edit),
	}
}

// editOf is the check of an edit.
func editOf[T typed, I any](convert func(T, *I, conversion.Scope) error, edit func(now, was *I) field.ErrorList) func(now, was metav1.Object) field.ErrorList {
	return func(now, was metav1.Object) field.ErrorList {
		const some = "1" // an object that is edited has a version
		after, err := internal(convert, now, some)
		before, beforeErr := internal(convert, was, some)
		if err := errors.Join(err, beforeErr); err != nil {
			return field.ErrorList{field.InternalError(nil, err)}
		}
		return edit(after, before)
	}
}

// internal is an object as Kubernetes has it inside, of a version.
func internal[T typed, I any](convert func(T, *I, conversion.Scope) error, o metav1.Object, version string) (*I, error) {
	object := o.(T).DeepCopyObject().(T) // the conversion shares parts
	object.SetResourceVersion(version)
	out := new(I)
	return out, convert(object, out, nil)
}

// both is the check of an edit of kinds whose new objects are checked along with it.
func both[I any](validate func(*I) field.ErrorList, edit func(now, was *I) field.ErrorList) func(now, was *I) field.ErrorList {
	return func(now, was *I) field.ErrorList { return append(validate(now), edit(now, was)...) }
}

// anew is the check of an edit of kinds of which everything may be edited.
func anew[I any](validate func(*I) field.ErrorList) func(now, was *I) field.ErrorList {
	return func(now, _ *I) field.ErrorList { return validate(now) }
}

func validateClusterRole(role *rbac.ClusterRole) field.ErrorList {
	return rbacvalidation.ValidateClusterRole(role, rbacvalidation.ClusterRoleValidationOptions{})
}

func validateClusterRoleUpdate(now, was *rbac.ClusterRole) field.ErrorList {
	return rbacvalidation.ValidateClusterRoleUpdate(now, was, rbacvalidation.ClusterRoleValidationOptions{})
}
