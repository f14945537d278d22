package manifests

import (
	"cmp"
	"maps"
	"reflect"
	"slices"
	"strings"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/kubernetes/pkg/apis/core"
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
	typ         reflect.Type
	example     string // of a name
	hidden      bool   // what stands in one is not for other eyes: no message quotes it
	clusterWide bool   // it has no namespace

	odd      func(o metav1.Object, at *field.Path) []fault // finds what is not supported and cannot be told from one field alone; may be nil
	complete func(o metav1.Object, at *field.Path) []fault // fills in what follows from what is written; faults are in that
	validate func(o metav1.Object) field.ErrorList         // says what is wrong by Kubernetes' rules
	frozen   func(now, was metav1.Object) (field string)   // the field that an edit must not touch; nil for none ever
}

var kinds = map[string]kind{
	KindPod: {
		typ: reflect.TypeFor[v1.Pod](), example: "web",
		odd: func(o metav1.Object, at *field.Path) []fault { return oddPod(o.(*v1.Pod), at) },
		complete: func(o metav1.Object, at *field.Path) []fault {
			corev1.SetObjectDefaults_Pod(o.(*v1.Pod))
			profileByAnnotation(o.(*v1.Pod))
			return prioritise(o.(*v1.Pod), at)
		},
		validate: func(o metav1.Object) field.ErrorList { return validatePod(o.(*v1.Pod)) },
	},
	KindConfigMap: {
		typ: reflect.TypeFor[v1.ConfigMap](), example: "settings",
		complete: func(o metav1.Object, _ *field.Path) []fault {
			corev1.SetObjectDefaults_ConfigMap(o.(*v1.ConfigMap))
			return nil
		},
		validate: func(o metav1.Object) field.ErrorList {
			internal := new(core.ConfigMap)
			if err := corev1.Convert_v1_ConfigMap_To_core_ConfigMap(o.(*v1.ConfigMap), internal, nil); err != nil {
				return field.ErrorList{field.InternalError(nil, err)}
			}
			return validation.ValidateConfigMap(internal)
		},
		frozen: frozenConfigMap,
	},
	KindSecret: {
		typ: reflect.TypeFor[v1.Secret](), example: "credentials", hidden: true,
		complete: completeSecret,
		validate: func(o metav1.Object) field.ErrorList {
			internal := new(core.Secret)
			if err := corev1.Convert_v1_Secret_To_core_Secret(o.(*v1.Secret), internal, nil); err != nil {
				return field.ErrorList{field.InternalError(nil, err)}
			}
			return validation.ValidateSecret(internal)
		},
		frozen: frozenSecret,
	},
	KindClaim:  claimKind,
	KindVolume: volumeKind,
}

// kindNames are the kinds, sorted.
func kindNames() []string { return slices.Sorted(maps.Keys(kinds)) }

// completeSecret fills in the defaults of a Secret, and what stands under stringData, which comes before data of the same
// name (kubernetes/kubernetes pkg/apis/core/v1/conversion.go).
func completeSecret(o metav1.Object, _ *field.Path) []fault {
	secret := o.(*v1.Secret)
	corev1.SetObjectDefaults_Secret(secret)
	for name, text := range secret.StringData {
		if secret.Data == nil {
			secret.Data = map[string][]byte{}
		}
		secret.Data[name] = []byte(text)
	}
	secret.StringData = nil
	return nil
}

// frozenConfigMap is Kubernetes' rule for `immutable` (ValidateConfigMapUpdate).
func frozenConfigMap(now, was metav1.Object) string {
	n, w := now.(*v1.ConfigMap), was.(*v1.ConfigMap)
	switch {
	case !ptr.Deref(w.Immutable, false):
	case !ptr.Deref(n.Immutable, false):
		return "immutable"
	case !equality.Semantic.DeepEqual(n.Data, w.Data):
		return "data"
	case !equality.Semantic.DeepEqual(n.BinaryData, w.BinaryData):
		return "binaryData"
	}
	return ""
}

// frozenSecret is the same for Secrets (ValidateSecretUpdate).
func frozenSecret(now, was metav1.Object) string {
	n, w := now.(*v1.Secret), was.(*v1.Secret)
	switch {
	case !ptr.Deref(w.Immutable, false):
	case !ptr.Deref(n.Immutable, false):
		return "immutable"
	case n.Type != w.Type:
		return "type"
	case !equality.Semantic.DeepEqual(n.Data, w.Data):
		return "data"
	}
	return ""
}

// resources are the kinds by their names in paths of Kubernetes' API.
var resources = map[string]string{
	"pods": KindPod, "configmaps": KindConfigMap, "secrets": KindSecret, "persistentvolumes": KindVolume, "persistentvolumeclaims": KindClaim,
}

// ResourceOf is the name of a kind in paths of Kubernetes' API, "" where there is none.
func ResourceOf(kind string) string {
	for resource, of := range resources {
		if of == kind {
			return resource
		}
	}
	return ""
}

// KindOf is the kind of a resource, such as Pod for pods, and whether its objects are in no namespace; "" where there is none.
func KindOf(resource string) (kind string, clusterWide bool) {
	kind = resources[resource]
	return kind, kinds[kind].clusterWide
}
