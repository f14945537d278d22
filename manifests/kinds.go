package manifests

import (
	"cmp"
	"maps"
	"reflect"
	"slices"
	"strings"

	coordinationv1 "k8s.io/api/coordination/v1"
	v1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	nodev1 "k8s.io/api/node/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation/field"
	nodeapi "k8s.io/kubernetes/pkg/api/node"
	volumeapi "k8s.io/kubernetes/pkg/api/persistentvolume"
	claimapi "k8s.io/kubernetes/pkg/api/persistentvolumeclaim"
	coordinationconv "k8s.io/kubernetes/pkg/apis/coordination/v1"
	coordinationvalidation "k8s.io/kubernetes/pkg/apis/coordination/validation"
	"k8s.io/kubernetes/pkg/apis/core"
	corev1 "k8s.io/kubernetes/pkg/apis/core/v1"
	"k8s.io/kubernetes/pkg/apis/core/validation"
	discoveryconv "k8s.io/kubernetes/pkg/apis/discovery/v1"
	discoveryvalidation "k8s.io/kubernetes/pkg/apis/discovery/validation"
	nodeconv "k8s.io/kubernetes/pkg/apis/node/v1"
	nodevalidation "k8s.io/kubernetes/pkg/apis/node/validation"
	rbacconv "k8s.io/kubernetes/pkg/apis/rbac/v1"
	rbacvalidation "k8s.io/kubernetes/pkg/apis/rbac/validation"
	schedulingconv "k8s.io/kubernetes/pkg/apis/scheduling/v1"
	schedulingvalidation "k8s.io/kubernetes/pkg/apis/scheduling/validation"
	"k8s.io/utils/ptr"
)

// The kinds that a manifest may have.
const (
	KindPod                = "Pod"
	KindConfigMap          = "ConfigMap"
	KindSecret             = "Secret"
	KindClaim              = "PersistentVolumeClaim"
	KindVolume             = "PersistentVolume"
	KindNamespace          = "Namespace"
	KindServiceAccount     = "ServiceAccount"
	KindService            = "Service"
	KindEndpoints          = "Endpoints"
	KindEndpointSlice      = "EndpointSlice"
	KindLimitRange         = "LimitRange"
	KindResourceQuota      = "ResourceQuota"
	KindPriorityClass      = "PriorityClass"
	KindRuntimeClass       = "RuntimeClass"
	KindLease              = "Lease"
	KindRole               = "Role"
	KindClusterRole        = "ClusterRole"
	KindRoleBinding        = "RoleBinding"
	KindClusterRoleBinding = "ClusterRoleBinding"
	KindNode               = "Node"  // not in the manifest directory
	KindEvent              = "Event" // likewise
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
	version     schema.GroupVersion // of its apiVersion
	typ         reflect.Type
	plural      string // its name in paths of Kubernetes' API
	example     string // of an object's name
	hidden      bool   // what stands in one is not for other eyes: no message quotes it
	clusterWide bool   // it has no namespace
	keptOnly    bool   // no manifest may have it: see DecodeKept

	odd      func(o metav1.Object, at *field.Path) []fault // finds what is not supported and cannot be told from one field alone; may be nil
	complete func(o metav1.Object, at *field.Path) []fault // fills in what follows from what is written, beside defaults; may be nil
	warn     func(now, was metav1.Object) []string         // says what Kubernetes warns of; was is nil for a new one; may be nil
}

// resource is the name that tells a kind from all others, such as pods, or leases.coordination.k8s.io.
func (k kind) resource() string {
	return schema.GroupResource{Group: k.version.Group, Resource: k.plural}.String()
}

var kinds = map[string]kind{
	KindPod: {
		version: v1.SchemeGroupVersion, typ: reflect.TypeFor[v1.Pod](), plural: "pods", example: "web",
		standard: standardOf(corev1.Convert_v1_Pod_To_core_Pod, corev1.SetObjectDefaults_Pod, validatePod, editPod(validation.ValidatePodUpdate)),
		warn:     warnOf(corev1.Convert_v1_Pod_To_core_Pod, warnOfPod),
		odd:      func(o metav1.Object, at *field.Path) []fault { return oddPod(o.(*v1.Pod), at) },
		complete: func(o metav1.Object, at *field.Path) []fault {
			profileByAnnotation(o.(*v1.Pod))
			mountToken(o.(*v1.Pod))
			return prioritise(o.(*v1.Pod), at)
		},
	},
	KindConfigMap: {
		version: v1.SchemeGroupVersion, typ: reflect.TypeFor[v1.ConfigMap](), plural: "configmaps", example: "settings",
		standard: standardOf(corev1.Convert_v1_ConfigMap_To_core_ConfigMap, corev1.SetObjectDefaults_ConfigMap,
			validation.ValidateConfigMap, validation.ValidateConfigMapUpdate),
	},
	KindSecret: {
		version: v1.SchemeGroupVersion, typ: reflect.TypeFor[v1.Secret](), plural: "secrets", example: "credentials", hidden: true,
		standard: standardOf(corev1.Convert_v1_Secret_To_core_Secret, corev1.SetObjectDefaults_Secret,
			validation.ValidateSecret, validation.ValidateSecretUpdate),
		complete: func(o metav1.Object, _ *field.Path) []fault {
			writeStringData(o.(*v1.Secret))
			return nil
		},
	},
	KindClaim: {
		version: v1.SchemeGroupVersion, typ: reflect.TypeFor[v1.PersistentVolumeClaim](), plural: "persistentvolumeclaims", example: "data",
		standard: standardOf(corev1.Convert_v1_PersistentVolumeClaim_To_core_PersistentVolumeClaim, corev1.SetObjectDefaults_PersistentVolumeClaim,
			validateClaim, validateClaimUpdate),
		warn: warnOf(corev1.Convert_v1_PersistentVolumeClaim_To_core_PersistentVolumeClaim, ofNow(claimapi.GetWarningsForPersistentVolumeClaim)),
		odd: func(o metav1.Object, at *field.Path) []fault {
			return oddAccess(o.(*v1.PersistentVolumeClaim).Spec.AccessModes, at.Child("spec"))
		},
	},
	KindVolume: {
		version: v1.SchemeGroupVersion, typ: reflect.TypeFor[v1.PersistentVolume](), plural: "persistentvolumes", example: "disk-1", clusterWide: true,
		standard: standardOf(corev1.Convert_v1_PersistentVolume_To_core_PersistentVolume, corev1.SetObjectDefaults_PersistentVolume,
			validateVolume, validateVolumeUpdate),
		warn: warnOf(corev1.Convert_v1_PersistentVolume_To_core_PersistentVolume, ofNow(volumeapi.GetWarningsForPersistentVolume)),
		odd:  func(o metav1.Object, at *field.Path) []fault { return oddVolume(o.(*v1.PersistentVolume), at) },
	},
	KindNamespace: {
		version: v1.SchemeGroupVersion, typ: reflect.TypeFor[v1.Namespace](), plural: "namespaces", example: "team", clusterWide: true,
		standard: standardOf(corev1.Convert_v1_Namespace_To_core_Namespace, corev1.SetObjectDefaults_Namespace,
			validation.ValidateNamespace, both(validation.ValidateNamespace, validation.ValidateNamespaceUpdate)),
	},
	KindServiceAccount: {
		version: v1.SchemeGroupVersion, typ: reflect.TypeFor[v1.ServiceAccount](), plural: "serviceaccounts", example: "builder",
		standard: standardOf(corev1.Convert_v1_ServiceAccount_To_core_ServiceAccount, nil,
			validation.ValidateServiceAccount, validation.ValidateServiceAccountUpdate),
	},
	KindService: {
		version: v1.SchemeGroupVersion, typ: reflect.TypeFor[v1.Service](), plural: "services", example: "web",
		standard: standardOf(corev1.Convert_v1_Service_To_core_Service, corev1.SetObjectDefaults_Service,
			validation.ValidateServiceCreate, validation.ValidateServiceUpdate),
		warn: warnOf(corev1.Convert_v1_Service_To_core_Service, warnOfService),
		complete: func(o metav1.Object, _ *field.Path) []fault {
			listAddress(o.(*v1.Service))
			return nil
		},
	},
	KindEndpoints: {
		//nolint:staticcheck // deprecated in favour of EndpointSlice, and asked for by clients all the same
		version: v1.SchemeGroupVersion, typ: reflect.TypeFor[v1.Endpoints](), plural: "endpoints", example: "web",
		standard: standardOf(corev1.Convert_v1_Endpoints_To_core_Endpoints, corev1.SetObjectDefaults_Endpoints,
			validation.ValidateEndpointsCreate, validation.ValidateEndpointsUpdate),
	},
	KindEndpointSlice: {
		version: discoveryv1.SchemeGroupVersion, typ: reflect.TypeFor[discoveryv1.EndpointSlice](), plural: "endpointslices", example: "web-1",
		standard: standardOf(discoveryconv.Convert_v1_EndpointSlice_To_discovery_EndpointSlice, discoveryconv.SetObjectDefaults_EndpointSlice,
			discoveryvalidation.ValidateEndpointSliceCreate, discoveryvalidation.ValidateEndpointSliceUpdate),
	},
	KindLimitRange: {
		version: v1.SchemeGroupVersion, typ: reflect.TypeFor[v1.LimitRange](), plural: "limitranges", example: "limits",
		standard: standardOf(corev1.Convert_v1_LimitRange_To_core_LimitRange, corev1.SetObjectDefaults_LimitRange,
			validation.ValidateLimitRange, anew(validation.ValidateLimitRange)),
	},
	KindResourceQuota: {
		version: v1.SchemeGroupVersion, typ: reflect.TypeFor[v1.ResourceQuota](), plural: "resourcequotas", example: "quota",
		standard: standardOf(corev1.Convert_v1_ResourceQuota_To_core_ResourceQuota, corev1.SetObjectDefaults_ResourceQuota,
			validation.ValidateResourceQuota, validation.ValidateResourceQuotaUpdate),
	},
	KindPriorityClass: {
		version: schedulingv1.SchemeGroupVersion, typ: reflect.TypeFor[schedulingv1.PriorityClass](), plural: "priorityclasses", example: "high", clusterWide: true,
		standard: standardOf(schedulingconv.Convert_v1_PriorityClass_To_scheduling_PriorityClass, schedulingconv.SetObjectDefaults_PriorityClass,
			schedulingvalidation.ValidatePriorityClass, schedulingvalidation.ValidatePriorityClassUpdate),
	},
	KindRuntimeClass: {
		version: nodev1.SchemeGroupVersion, typ: reflect.TypeFor[nodev1.RuntimeClass](), plural: "runtimeclasses", example: "crun", clusterWide: true,
		standard: standardOf(nodeconv.Convert_v1_RuntimeClass_To_node_RuntimeClass, nil,
			nodevalidation.ValidateRuntimeClass, both(nodevalidation.ValidateRuntimeClass, nodevalidation.ValidateRuntimeClassUpdate)),
		warn: warnOf(nodeconv.Convert_v1_RuntimeClass_To_node_RuntimeClass, ofNow(nodeapi.GetWarningsForRuntimeClass)),
	},
	KindLease: {
		version: coordinationv1.SchemeGroupVersion, typ: reflect.TypeFor[coordinationv1.Lease](), plural: "leases", example: "leader",
		standard: standardOf(coordinationconv.Convert_v1_Lease_To_coordination_Lease, nil,
			coordinationvalidation.ValidateLease, coordinationvalidation.ValidateLeaseUpdate),
	},
	KindRole: {
		version: rbacv1.SchemeGroupVersion, typ: reflect.TypeFor[rbacv1.Role](), plural: "roles", example: "reader",
		standard: standardOf(rbacconv.Convert_v1_Role_To_rbac_Role, nil, rbacvalidation.ValidateRole, rbacvalidation.ValidateRoleUpdate),
	},
	KindClusterRole: {
		version: rbacv1.SchemeGroupVersion, typ: reflect.TypeFor[rbacv1.ClusterRole](), plural: "clusterroles", example: "reader", clusterWide: true,
		standard: standardOf(rbacconv.Convert_v1_ClusterRole_To_rbac_ClusterRole, nil, validateClusterRole, validateClusterRoleUpdate),
	},
	KindRoleBinding: {
		version: rbacv1.SchemeGroupVersion, typ: reflect.TypeFor[rbacv1.RoleBinding](), plural: "rolebindings", example: "readers",
		standard: standardOf(rbacconv.Convert_v1_RoleBinding_To_rbac_RoleBinding, rbacconv.SetObjectDefaults_RoleBinding,
			rbacvalidation.ValidateRoleBinding, rbacvalidation.ValidateRoleBindingUpdate),
	},
	KindClusterRoleBinding: {
		version: rbacv1.SchemeGroupVersion, typ: reflect.TypeFor[rbacv1.ClusterRoleBinding](), plural: "clusterrolebindings", example: "readers", clusterWide: true,
		standard: standardOf(rbacconv.Convert_v1_ClusterRoleBinding_To_rbac_ClusterRoleBinding, rbacconv.SetObjectDefaults_ClusterRoleBinding,
			rbacvalidation.ValidateClusterRoleBinding, rbacvalidation.ValidateClusterRoleBindingUpdate),
	},
	KindNode: {
		version: v1.SchemeGroupVersion, typ: reflect.TypeFor[v1.Node](), plural: "nodes", example: "this", clusterWide: true, keptOnly: true,
		standard: standardOf(corev1.Convert_v1_Node_To_core_Node, corev1.SetObjectDefaults_Node,
			validation.ValidateNode, both(validation.ValidateNode, validation.ValidateNodeUpdate)),
	},
	KindEvent: {
		version: v1.SchemeGroupVersion, typ: reflect.TypeFor[v1.Event](), plural: "events", example: "web.1", keptOnly: true,
		standard: standardOf(corev1.Convert_v1_Event_To_core_Event, nil,
			func(event *core.Event) field.ErrorList {
				return validation.ValidateEventCreate(event, v1.SchemeGroupVersion)
			},
			func(now, was *core.Event) field.ErrorList {
				return validation.ValidateEventUpdate(now, was, v1.SchemeGroupVersion)
			}),
	},
}

// kindNames are the kinds that a manifest may have, sorted.
func kindNames() []string {
	return slices.DeleteFunc(allKinds(), func(name string) bool { return kinds[name].keptOnly })
}

// allKinds are the kinds, sorted.
func allKinds() []string { return slices.Sorted(maps.Keys(kinds)) }

// withArticle is a kind as a sentence has it: a Pod, an EndpointSlice.
func withArticle(kind string) string {
	if strings.ContainsRune("AEIO", rune(kind[0])) {
		return "an " + kind
	}
	return "a " + kind
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

// ResourceOf is the resource of a kind as Kubernetes writes a GroupResource, such as pods or leases.coordination.k8s.io; ""
// where there is none.
func ResourceOf(kind string) string {
	if of := kinds[kind]; of.typ != nil {
		return of.resource()
	}
	return ""
}

// KindOf is the kind of a resource, such as Pod for pods, and whether its objects are in no namespace; "" where there is none.
func KindOf(resource string) (kind string, clusterWide bool) {
	name := byResource[resource]
	return name, kinds[name].clusterWide
}

var byResource = func() map[string]string {
	all := make(map[string]string, len(kinds))
	for name, of := range kinds {
		all[of.resource()] = name
	}
	return all
}()
