package storage

import (
	"strconv"

	coordination "k8s.io/api/coordination/v1"
	v1 "k8s.io/api/core/v1"
	discovery "k8s.io/api/discovery/v1"
	node "k8s.io/api/node/v1"
	rbac "k8s.io/api/rbac/v1"
	scheduling "k8s.io/api/scheduling/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

func core(resource string) schema.GroupVersionResource {
	return v1.SchemeGroupVersion.WithResource(resource)
}

// Resources are all that are kept as objects, by their names in Kubernetes' own discovery.
func Resources() []*Resource {
	return append(append(coreResources(), storageResources()...), otherResources()...)
}

func coreResources() []*Resource {
	return []*Resource{
		{
			GroupVersionResource: core("pods"), Kind: "Pod", Singular: "pod", Short: []string{"po"}, All: true, Namespaced: true, Object: &v1.Pod{}, Lists: &v1.PodList{},
			Selectable: []string{
				"spec.nodeName", "spec.restartPolicy", "spec.schedulerName", "spec.serviceAccountName", "spec.hostNetwork",
				"status.phase", "status.podIP", "status.nominatedNodeName",
			},
			Fields: podFields, Prepare: preparePod, Admit: admitPod,
		},
		{GroupVersionResource: core("configmaps"), Kind: "ConfigMap", Singular: "configmap", Short: []string{"cm"}, Namespaced: true, Object: &v1.ConfigMap{}, Lists: &v1.ConfigMapList{}},
		{
			GroupVersionResource: core("secrets"), Kind: "Secret", Singular: "secret", Namespaced: true, Object: &v1.Secret{}, Lists: &v1.SecretList{},
			Selectable: []string{"type"},
			Fields:     func(o runtime.Object) fields.Set { return fields.Set{"type": string(o.(*v1.Secret).Type)} },
		},
		{
			GroupVersionResource: core("namespaces"), Kind: "Namespace", Singular: "namespace", Short: []string{"ns"}, Object: &v1.Namespace{}, Lists: &v1.NamespaceList{},
			Selectable: []string{"status.phase"},
			Fields: func(o runtime.Object) fields.Set {
				return fields.Set{"status.phase": string(o.(*v1.Namespace).Status.Phase)}
			},
			Prepare: func(o runtime.Object) {
				ns := o.(*v1.Namespace)
				ns.Status = v1.NamespaceStatus{Phase: v1.NamespaceActive}
				ns.Spec.Finalizers = []v1.FinalizerName{v1.FinalizerKubernetes}
			},
		},
		{
			GroupVersionResource: core("nodes"), Kind: "Node", Singular: "node", Short: []string{"no"}, Object: &v1.Node{}, Lists: &v1.NodeList{},
			Selectable: []string{"spec.unschedulable"},
			Fields: func(o runtime.Object) fields.Set {
				return fields.Set{"spec.unschedulable": strconv.FormatBool(o.(*v1.Node).Spec.Unschedulable)}
			},
		},
		{
			GroupVersionResource: core("events"), Kind: "Event", Singular: "event", Short: []string{"ev"}, Namespaced: true, Object: &v1.Event{}, Lists: &v1.EventList{},
			CreateOnUpdate: true,
			Selectable: []string{
				"involvedObject.kind", "involvedObject.namespace", "involvedObject.name", "involvedObject.uid", "involvedObject.apiVersion",
				"involvedObject.resourceVersion", "involvedObject.fieldPath", "reason", "reportingComponent", "source", "type",
			},
			Fields: eventFields,
		},
		{GroupVersionResource: core("serviceaccounts"), Kind: "ServiceAccount", Singular: "serviceaccount", Short: []string{"sa"}, Namespaced: true, Object: &v1.ServiceAccount{}, Lists: &v1.ServiceAccountList{}},
		{
			GroupVersionResource: core("services"), Kind: "Service", Singular: "service", Short: []string{"svc"}, All: true, Namespaced: true, Object: &v1.Service{}, Lists: &v1.ServiceList{},
			Selectable: []string{"spec.clusterIP", "spec.type"},
			Fields: func(o runtime.Object) fields.Set {
				s := o.(*v1.Service)
				return fields.Set{"spec.clusterIP": s.Spec.ClusterIP, "spec.type": string(s.Spec.Type)}
			},
		},
		{GroupVersionResource: core("endpoints"), Kind: "Endpoints", Singular: "endpoints", Short: []string{"ep"}, Namespaced: true, CreateOnUpdate: true, Object: &v1.Endpoints{}, Lists: &v1.EndpointsList{}}, //nolint:staticcheck // kubectl still asks for it
		{GroupVersionResource: core("limitranges"), Kind: "LimitRange", Singular: "limitrange", Short: []string{"limits"}, Namespaced: true, Object: &v1.LimitRange{}, Lists: &v1.LimitRangeList{}},
		{GroupVersionResource: core("resourcequotas"), Kind: "ResourceQuota", Singular: "resourcequota", Short: []string{"quota"}, Namespaced: true, Object: &v1.ResourceQuota{}, Lists: &v1.ResourceQuotaList{}, Prepare: func(o runtime.Object) { o.(*v1.ResourceQuota).Status = v1.ResourceQuotaStatus{} }},
	}
}

func storageResources() []*Resource {
	return []*Resource{
		{GroupVersionResource: core("persistentvolumes"), Kind: "PersistentVolume", Singular: "persistentvolume", Short: []string{"pv"}, Object: &v1.PersistentVolume{}, Lists: &v1.PersistentVolumeList{}},
		{GroupVersionResource: core("persistentvolumeclaims"), Kind: "PersistentVolumeClaim", Singular: "persistentvolumeclaim", Short: []string{"pvc"}, Namespaced: true, Object: &v1.PersistentVolumeClaim{}, Lists: &v1.PersistentVolumeClaimList{}},
	}
}

func otherResources() []*Resource {
	access := rbac.SchemeGroupVersion.WithResource
	return []*Resource{
		{GroupVersionResource: scheduling.SchemeGroupVersion.WithResource("priorityclasses"), Kind: "PriorityClass", Singular: "priorityclass", Short: []string{"pc"}, Object: &scheduling.PriorityClass{}, Lists: &scheduling.PriorityClassList{}},
		{GroupVersionResource: node.SchemeGroupVersion.WithResource("runtimeclasses"), Kind: "RuntimeClass", Singular: "runtimeclass", Object: &node.RuntimeClass{}, Lists: &node.RuntimeClassList{}},
		{GroupVersionResource: coordination.SchemeGroupVersion.WithResource("leases"), Kind: "Lease", Singular: "lease", Namespaced: true, CreateOnUpdate: true, Object: &coordination.Lease{}, Lists: &coordination.LeaseList{}},
		{GroupVersionResource: discovery.SchemeGroupVersion.WithResource("endpointslices"), Kind: "EndpointSlice", Singular: "endpointslice", Namespaced: true, Object: &discovery.EndpointSlice{}, Lists: &discovery.EndpointSliceList{}},
		{GroupVersionResource: access("roles"), Kind: "Role", Singular: "role", Namespaced: true, CreateOnUpdate: true, Object: &rbac.Role{}, Lists: &rbac.RoleList{}},
		{GroupVersionResource: access("rolebindings"), Kind: "RoleBinding", Singular: "rolebinding", Namespaced: true, CreateOnUpdate: true, Object: &rbac.RoleBinding{}, Lists: &rbac.RoleBindingList{}},
		{GroupVersionResource: access("clusterroles"), Kind: "ClusterRole", Singular: "clusterrole", CreateOnUpdate: true, Object: &rbac.ClusterRole{}, Lists: &rbac.ClusterRoleList{}},
		{GroupVersionResource: access("clusterrolebindings"), Kind: "ClusterRoleBinding", Singular: "clusterrolebinding", CreateOnUpdate: true, Object: &rbac.ClusterRoleBinding{}, Lists: &rbac.ClusterRoleBindingList{}},
	}
}
