package manifests

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/conversion"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation/field"
	corev1 "k8s.io/kubernetes/pkg/apis/core/v1"
	"k8s.io/kubernetes/pkg/apis/core/validation"
	"k8s.io/utils/ptr"
)

// The kinds that a manifest may have.
const (
	KindPod       = "Pod"
	KindConfigMap = "ConfigMap"
	KindSecret    = "Secret"
	KindClaim     = "PersistentVolumeClaim"
	KindVolume    = "PersistentVolume"
)

// Key names an object.
type Key struct {
	Kind string // "" where it is not known
	types.NamespacedName
}

// PodKey is the Key of a Pod.
func PodKey(name types.NamespacedName) Key { return Key{Kind: KindPod, NamespacedName: name} }

// String is such as "Pod default/web".
func (k Key) String() string {
	return strings.TrimSpace(k.Kind + " " + strings.TrimPrefix(k.NamespacedName.String(), "/"))
}

// Covers tells whether the object that k names may be the other: a Key without a kind names all that are called so.
func (k Key) Covers(other Key) bool {
	return k.NamespacedName == other.NamespacedName && (k.Kind == "" || k.Kind == other.Kind)
}

func (k Key) compare(other Key) int {
	return cmp.Or(cmp.Compare(k.Kind, other.Kind), cmp.Compare(k.Namespace, other.Namespace), cmp.Compare(k.Name, other.Name))
}

// Object is one accepted object that Pods refer to.
type Object struct {
	metav1.Object // such as a *v1.ConfigMap, with Kubernetes' defaults, valid by its rules; never changed

	Kind     string
	Revision string // a hash of what the user wrote; not for other eyes, since of a Secret it tells what can be guessed
	File     string // the file it stands in
	Line     int    // the line of its metadata.name, 1-based
}

// Key names the object.
func (o Object) Key() Key {
	return Key{Kind: o.Kind, NamespacedName: types.NamespacedName{Namespace: o.GetNamespace(), Name: o.GetName()}}
}

// podUID is the UID that a manifest gives its Pod; those of others are nobody's concern.
func (o Object) podUID() types.UID {
	if o.Object == nil || o.Kind != KindPod {
		return ""
	}
	return o.GetUID()
}

// kind is what there is to know of one kind of object.
type kind struct {
	standard
	typ         reflect.Type
	resource    string // its name in paths of Kubernetes' API
	example     string // of an object's name
	hidden      bool   // what stands in one is not for other eyes: no message quotes it
	clusterWide bool   // it has no namespace

	odd      func(o metav1.Object, at *field.Path) []fault // finds what is not supported and cannot be told from one field alone; may be nil
	complete func(o metav1.Object, at *field.Path) []fault // fills in what follows from what is written, beside defaults; may be nil
}

var kinds = map[string]kind{
	KindPod: {
		typ: reflect.TypeFor[v1.Pod](), resource: "pods", example: "web",
		standard: standardOf(corev1.Convert_v1_Pod_To_core_Pod, corev1.SetObjectDefaults_Pod, validatePod, validatePodUpdate),
		odd:      func(o metav1.Object, at *field.Path) []fault { return oddPod(o.(*v1.Pod), at) },
		complete: func(o metav1.Object, at *field.Path) []fault {
			profileByAnnotation(o.(*v1.Pod))
			return prioritise(o.(*v1.Pod), at)
		},
	},
	KindConfigMap: {
		typ: reflect.TypeFor[v1.ConfigMap](), resource: "configmaps", example: "settings",
		standard: standardOf(corev1.Convert_v1_ConfigMap_To_core_ConfigMap, corev1.SetObjectDefaults_ConfigMap,
			validation.ValidateConfigMap, validation.ValidateConfigMapUpdate),
	},
	KindSecret: {
		typ: reflect.TypeFor[v1.Secret](), resource: "secrets", example: "credentials", hidden: true,
		standard: standardOf(corev1.Convert_v1_Secret_To_core_Secret, corev1.SetObjectDefaults_Secret,
			validation.ValidateSecret, validation.ValidateSecretUpdate),
		complete: func(o metav1.Object, _ *field.Path) []fault {
			writeStringData(o.(*v1.Secret))
			return nil
		},
	},
	KindClaim: {
		typ: reflect.TypeFor[v1.PersistentVolumeClaim](), resource: "persistentvolumeclaims", example: "data",
		standard: standardOf(corev1.Convert_v1_PersistentVolumeClaim_To_core_PersistentVolumeClaim, corev1.SetObjectDefaults_PersistentVolumeClaim,
			validateClaim, validateClaimUpdate),
		odd: func(o metav1.Object, at *field.Path) []fault {
			return oddAccess(o.(*v1.PersistentVolumeClaim).Spec.AccessModes, at.Child("spec"))
		},
	},
	KindVolume: {
		typ: reflect.TypeFor[v1.PersistentVolume](), resource: "persistentvolumes", example: "disk-1", clusterWide: true,
		standard: standardOf(corev1.Convert_v1_PersistentVolume_To_core_PersistentVolume, corev1.SetObjectDefaults_PersistentVolume,
			validateVolume, validateVolumeUpdate),
		odd: func(o metav1.Object, at *field.Path) []fault { return oddVolume(o.(*v1.PersistentVolume), at) },
	},
}

// kindNames are the kinds, sorted.
func kindNames() []string { return slices.Sorted(maps.Keys(kinds)) }

// standard is what Kubernetes itself makes of one kind.
type standard struct {
	setDefaults func(o metav1.Object)
	validate    func(o metav1.Object) field.ErrorList        // says what is wrong with a new one
	edit        func(now, was metav1.Object) field.ErrorList // says what is wrong with an edit
}

// standardOf is that of a kind whose types are T in manifests and I inside of Kubernetes.
func standardOf[T interface {
	metav1.Object
	runtime.Object
}, I any](
	convert func(T, *I, conversion.Scope) error, setDefaults func(T), validate func(*I) field.ErrorList, edit func(now, was *I) field.ErrorList,
) standard {
	internal := func(o metav1.Object, version string) (*I, error) {
		object := o.(T).DeepCopyObject().(T) // the conversion shares parts
		object.SetResourceVersion(version)
		out := new(I)
		return out, convert(object, out, nil)
	}
	return standard{
		setDefaults: func(o metav1.Object) { setDefaults(o.(T)) },
		validate: func(o metav1.Object) field.ErrorList {
			object, err := internal(o, "")
			if err != nil {
				return field.ErrorList{field.InternalError(nil, err)}
			}
			return validate(object)
		},
		edit: func(now, was metav1.Object) field.ErrorList {
			const some = "1" // an object that is edited has a version
			after, err := internal(now, some)
			before, beforeErr := internal(was, some)
			if err := errors.Join(err, beforeErr); err != nil {
				return field.ErrorList{field.InternalError(nil, err)}
			}
			return edit(after, before)
		},
	}
}

// CheckEdit says what of an edit Kubernetes' API does not allow, in its words: ValidatePodUpdate and its kin. Both are as
// Decode answers them, of one kind, name and UID. An edit of a manifest need not be such a one: it may make a new instance.
func CheckEdit(now, was metav1.Object) error {
	var errs []error
	for _, err := range kinds[reflect.TypeOf(now).Elem().Name()].edit(now, was) {
		errs = append(errs, fmt.Errorf("%s: %s", err.Field, err.ErrorBody()))
	}
	return errors.Join(errs...)
}

// isImmutable tells whether an object says so of itself.
func isImmutable(o metav1.Object) bool {
	switch o := o.(type) {
	case *v1.ConfigMap:
		return ptr.Deref(o.Immutable, false)
	case *v1.Secret:
		return ptr.Deref(o.Immutable, false)
	}
	return false
}

// writeStringData writes what stands under stringData to data, before what is there of the same name (kubernetes/kubernetes
// pkg/apis/core/v1/conversion.go).
func writeStringData(secret *v1.Secret) {
	for name, text := range secret.StringData {
		if secret.Data == nil {
			secret.Data = map[string][]byte{}
		}
		secret.Data[name] = []byte(text)
	}
	secret.StringData = nil
}

// ResourceOf is the name of a kind in paths of Kubernetes' API, "" where there is none.
func ResourceOf(kind string) string { return kinds[kind].resource }

// KindOf is the kind of a resource, such as Pod for pods, and whether its objects are in no namespace; "" where there is none.
func KindOf(resource string) (kind string, clusterWide bool) {
	for name, of := range kinds {
		if of.resource == resource {
			return name, of.clusterWide
		}
	}
	return "", false
}
