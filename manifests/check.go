package manifests

import (
	"context"
	"fmt"
	"reflect"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/conversion"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utilvalidation "k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	podapi "k8s.io/kubernetes/pkg/api/pod"
	"k8s.io/kubernetes/pkg/apis/core"
	corev1 "k8s.io/kubernetes/pkg/apis/core/v1"
	corevalidation "k8s.io/kubernetes/pkg/apis/core/validation"
)

// Kind is a kind of objects that podkeeper takes, as Kubernetes' API has it.
type Kind struct {
	schema.GroupVersionKind
	Resource   string // its name in paths, such as pods, without the group
	Namespaced bool
}

// Kinds are the kinds, sorted by name.
func Kinds() []Kind {
	var all []Kind
	for _, name := range allKinds() {
		of := kinds[name]
		all = append(all, Kind{GroupVersionKind: of.version.WithKind(name), Resource: of.plural, Namespaced: !of.clusterWide})
	}
	return all
}

// New is an empty object of the kind.
func (k Kind) New() runtime.Object {
	return reflect.New(kinds[k.Kind].typ).Interface().(runtime.Object)
}

// of is the kind of an object, which is one of Kinds.
func of(o metav1.Object) kind { return kinds[reflect.TypeOf(o).Elem().Name()] }

// Default fills in what Kubernetes fills in where nothing is written: defaults, and what follows from what is written.
func Default(o metav1.Object) {
	k := of(o)
	k.setDefaults(o)
	if k.complete != nil {
		k.complete(o, nil) // what is wrong is told by Check
	}
}

// Check says what is wrong with a new object: what podkeeper does not support, as forbidden, and what Kubernetes' API does not
// allow, in its words. The object has what Default fills in.
func Check(o metav1.Object) field.ErrorList {
	return of(o).check(o, func(o metav1.Object) field.ErrorList { return of(o).validate(o) })
}

// CheckEdit says what is wrong with an edit, likewise: ValidatePodUpdate and its kin. Both are as Default or Decode leave them,
// of one kind, name and UID. An edit of a manifest need not be such a one: it may make a new instance.
func CheckEdit(now, was metav1.Object) field.ErrorList {
	return of(now).check(now, func(o metav1.Object) field.ErrorList { return of(o).edit(o, was) })
}

// check holds an object to what podkeeper supports, then to rules of Kubernetes.
func (k kind) check(o metav1.Object, rules func(metav1.Object) field.ErrorList) field.ErrorList {
	own := o.(runtime.Object).DeepCopyObject().(metav1.Object)
	if pod, ok := own.(*v1.Pod); ok {
		pod.Spec.EphemeralContainers = nil // who may have them is for Kubernetes' rules to say
	}
	faults := k.refuse(own, nil)
	if k.complete != nil {
		faults = append(faults, k.complete(own, nil)...)
	}
	return together(faults, rules(o))
}

// together are own faults, and those of Kubernetes that say more.
func together(own []fault, rules field.ErrorList) field.ErrorList {
	var all field.ErrorList
	for _, f := range own {
		all = append(all, &field.Error{Type: field.ErrorTypeForbidden, Field: f.field, Detail: f.reason})
	}
	for _, err := range rules {
		if !covered(err.Field, own) {
			all = append(all, err)
		}
	}
	return all
}

// CheckStatusEdit says what is wrong with an edit of a Pod's status (ValidatePodStatusUpdate).
func CheckStatusEdit(now, was *v1.Pod) field.ErrorList { return editStatus(now, was) }

var editStatus = editOf(corev1.Convert_v1_Pod_To_core_Pod, editPod(corevalidation.ValidatePodStatusUpdate))

// CheckEphemeralEdit says what is wrong with an edit of a Pod's ephemeral containers (ValidatePodEphemeralContainersUpdate).
func CheckEphemeralEdit(now, was *v1.Pod) field.ErrorList {
	return together(refuseEphemeral(now, was), editEphemeral(now, was))
}

// Warnings are what Kubernetes' API warns of when an object is made, or edited where there was one before; else was is nil. The
// object has what Default fills in.
func Warnings(now, was metav1.Object) []string {
	if warn := of(now).warn; warn != nil {
		return warn(now, was)
	}
	return nil
}

// warnOf is what is warned of a kind whose types are T in manifests and I inside of Kubernetes.
func warnOf[T typed, I any](convert func(T, *I, conversion.Scope) error, warn func(now, was *I) []string) func(now, was metav1.Object) []string {
	return func(now, was metav1.Object) []string {
		after, err := internal(convert, now, "")
		var before *I
		if was != nil && err == nil {
			before, err = internal(convert, was, "")
		}
		if err != nil {
			return nil // what cannot be converted is refused
		}
		return warn(after, before)
	}
}

// ofNow are warnings that do not depend on what was before.
func ofNow[I any](warn func(now *I) []string) func(now, was *I) []string {
	return func(now, _ *I) []string { return warn(now) }
}

// warnOfPod warns of new Pods only (kubernetes/kubernetes pkg/registry/core/pod/strategy.go).
func warnOfPod(now, was *core.Pod) []string {
	if was != nil {
		return nil
	}
	var warnings []string
	if wrong := utilvalidation.IsDNS1123Label(now.Name); len(wrong) > 0 {
		warnings = append(warnings, fmt.Sprintf("metadata.name: this is used in the Pod's hostname, which can result in surprising behavior; a DNS label is recommended: %v", wrong))
	}
	return append(warnings, podapi.GetWarningsForPod(context.Background(), now, nil)...)
}
