package storage

import (
	"fmt"
	"slices"
	"strconv"

	v1 "k8s.io/api/core/v1"
	nodev1 "k8s.io/api/node/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	"k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/podkeeper/podkeeper/kubeapi/mirror"
	"github.com/podkeeper/podkeeper/manifests"
)

// Resource is what there is to know of one resource. Its names are those of Kubernetes' own discovery.
type Resource struct {
	schema.GroupVersionResource
	Kind       string
	Singular   string
	Short      []string
	All        bool // `kubectl get all` shows it
	Namespaced bool
	Object     runtime.Object // an empty one
	Lists      runtime.Object // an empty list

	CreateOnUpdate bool                             // a PUT makes what there is not
	Selectable     []string                         // the fields that selectors may ask for, beside metadata.name and metadata.namespace
	Fields         func(runtime.Object) fields.Set  // what stands in them; may be nil
	Prepare        func(runtime.Object)             // empties what a client may not say of a new one; may be nil
	Admit          func(runtime.Object, look) error // completes a new one by what there is, or says why it may not be among that; may be nil
}

// GroupVersionKind is the kind of the objects.
func (r *Resource) GroupVersionKind() schema.GroupVersionKind {
	return r.GroupVersion().WithKind(r.Kind)
}

// What package rest asks of a storage.

// New is an empty object.
func (r *Resource) New() runtime.Object { return r.Object.DeepCopyObject() }

// NewList is an empty list.
func (r *Resource) NewList() runtime.Object { return r.Lists.DeepCopyObject() }

// Destroy lets go of nothing: there is nothing.
func (r *Resource) Destroy() {}

// NamespaceScoped tells whether objects are in namespaces.
func (r *Resource) NamespaceScoped() bool { return r.Namespaced }

// GetSingularName is what one of them is called.
func (r *Resource) GetSingularName() string { return r.Singular }

// ShortNames are what kubectl takes for its name, too.
func (r *Resource) ShortNames() []string { return r.Short }

// Categories are the groups that kubectl takes for many resources.
func (r *Resource) Categories() []string {
	if r.All {
		return []string{"all"}
	}
	return nil
}

// selectable tells whether a field selector may ask for a field.
func (r *Resource) selectable(name string) bool {
	return name == "metadata.name" || r.Namespaced && name == "metadata.namespace" || slices.Contains(r.Selectable, name)
}

func podFields(o runtime.Object) fields.Set {
	pod := o.(*v1.Pod)
	return fields.Set{
		"spec.nodeName": pod.Spec.NodeName, "spec.restartPolicy": string(pod.Spec.RestartPolicy), "spec.schedulerName": pod.Spec.SchedulerName,
		"spec.serviceAccountName": pod.Spec.ServiceAccountName, "spec.hostNetwork": strconv.FormatBool(pod.Spec.HostNetwork), "status.phase": string(pod.Status.Phase),
		"status.podIP": pod.Status.PodIP, "status.nominatedNodeName": pod.Status.NominatedNodeName,
	}
}

func eventFields(o runtime.Object) fields.Set {
	event := o.(*v1.Event)
	about := event.InvolvedObject
	source := event.Source.Component
	if source == "" {
		source = event.ReportingController
	}
	return fields.Set{
		"involvedObject.kind": about.Kind, "involvedObject.namespace": about.Namespace, "involvedObject.name": about.Name, "involvedObject.uid": string(about.UID),
		"involvedObject.apiVersion": about.APIVersion, "involvedObject.resourceVersion": about.ResourceVersion, "involvedObject.fieldPath": about.FieldPath,
		"reason": event.Reason, "reportingComponent": event.ReportingController, "source": source, "type": event.Type,
	}
}

func preparePod(o runtime.Object) {
	pod := o.(*v1.Pod)
	pod.Generation, pod.Status = 1, v1.PodStatus{Phase: v1.PodPending}
	if pod.Spec.ServiceAccountName == "" { // as the admission plugin ServiceAccount has it
		pod.Spec.ServiceAccountName, pod.Spec.DeprecatedServiceAccount = defaultAccount, defaultAccount
	}
}

// look answers the objects of a resource.
type look func(resource schema.GroupResource) *mirror.Table

// admitPod refuses a Pod of an account or of a class that is not there, and gives it the priority of its class.
func admitPod(o runtime.Object, there look) error {
	pod := o.(*v1.Pod)
	if err := admitAccount(pod, there); err != nil {
		return err
	}
	listed, _ := there(schedulingv1.Resource("priorityclasses")).List(mirror.Selection{})
	var classes []*schedulingv1.PriorityClass
	for _, class := range listed {
		classes = append(classes, class.(*schedulingv1.PriorityClass))
	}
	if err := manifests.Prioritise(pod, classes); err != nil {
		return errors.NewForbidden(schema.GroupResource{Resource: "pods"}, pod.Name, err)
	}
	if err := classify(pod, there); err != nil {
		return errors.NewForbidden(schema.GroupResource{Resource: "pods"}, pod.Name, err)
	}
	return nil
}

// classify gives a Pod what its RuntimeClass asks for, or says in Kubernetes' words why it may not have it.
func classify(pod *v1.Pod, there look) error {
	listed, _ := there(nodev1.Resource("runtimeclasses")).List(mirror.Selection{})
	var classes []*nodev1.RuntimeClass
	for _, class := range listed {
		classes = append(classes, class.(*nodev1.RuntimeClass))
	}
	class, err := manifests.RuntimeClassOf(pod, classes)
	if err != nil {
		return err
	}
	return manifests.Classify(pod, class)
}

// admitAccount refuses a Pod of an account that is not there, in the words of the admission plugin ServiceAccount. That which every
// namespace has may be made along with the Pod.
func admitAccount(pod *v1.Pod, there look) error {
	if pod.Spec.ServiceAccountName == defaultAccount {
		return nil
	}
	account := types.NamespacedName{Namespace: pod.Namespace, Name: pod.Spec.ServiceAccountName}
	if _, err := there(schema.GroupResource{Resource: "serviceaccounts"}).Get(account); err != nil {
		err = errors.NewNotFound(schema.GroupResource{Resource: "serviceaccount"}, account.Name) // as that plugin's lister says it
		return errors.NewForbidden(schema.GroupResource{Resource: "pods"}, pod.Name, fmt.Errorf("error looking up service account %s: %w", account, err))
	}
	return nil
}

// defaultAccount is the ServiceAccount that every namespace has.
const defaultAccount = "default"

// keepStatus puts back the status of what was, and the address of a Service.
func keepStatus(now, was runtime.Object) {
	switch now := now.(type) {
	case *v1.Pod:
		now.Status = was.(*v1.Pod).Status
		manifests.KeepPriority(now, was.(*v1.Pod))
	case *v1.Namespace:
		now.Status = was.(*v1.Namespace).Status
	case *v1.Node:
		now.Status = was.(*v1.Node).Status
	case *v1.Service:
		now.Status = was.(*v1.Service).Status
		manifests.KeepAddress(now, was.(*v1.Service))
	case *v1.ResourceQuota:
		now.Status = was.(*v1.ResourceQuota).Status
	case *v1.PersistentVolume:
		now.Status = was.(*v1.PersistentVolume).Status
	case *v1.PersistentVolumeClaim:
		now.Status = was.(*v1.PersistentVolumeClaim).Status
	}
}

// inManifest says whether an object is not for clients to change.
func (r *Resource) inManifest(m metav1.Object) bool {
	return m.GetAnnotations()[manifests.ManifestAnnotation] != ""
}
