package admit

import (
	"fmt"
	"slices"
	"strings"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	resourcehelper "k8s.io/component-helpers/resource"
	"k8s.io/kubectl/pkg/util/qos"
	"k8s.io/utils/ptr"
)

// Use is what one object uses of quotas.
type Use struct {
	namespace string
	amounts   v1.ResourceList // by the names that quotas have, such as requests.cpu and count/pods
	pod       *podTraits      // nil for what is no Pod
}

// podTraits is what quotas ask of a Pod.
type podTraits struct {
	terminating      bool // by its deadline
	bestEffort       bool
	acrossNamespaces bool                       // its affinity is
	class            string                     // the name of its PriorityClass
	missing          map[v1.ResourceName]string // which of its containers do not say what
}

// one is how often there is an object.
var one = *resource.NewQuantity(1, resource.DecimalSI)

// others are the names of counts that are older than count/….
var others = map[string]v1.ResourceName{
	"configmaps": v1.ResourceConfigMaps, "secrets": v1.ResourceSecrets, "resourcequotas": v1.ResourceQuotas,
}

// UseOf is what an object of a resource, such as leases.coordination.k8s.io, uses. Of Pods it is UseOfPod. Events, and what is in no
// namespace, use nothing: then it is nil.
func UseOf(resource string, o metav1.Object) *Use {
	if resource == "events" || o.GetNamespace() == "" {
		return nil
	}
	u := &Use{namespace: o.GetNamespace(), amounts: v1.ResourceList{v1.ResourceName("count/" + resource): one}}
	if name, is := others[resource]; is {
		u.amounts[name] = one
	}
	switch o := o.(type) {
	case *v1.Pod:
		return UseOfPod(o, o.Spec.PriorityClassName)
	case *v1.Service:
		u.addService(o)
	case *v1.PersistentVolumeClaim:
		u.addClaim(o)
	}
	return u
}

func (u *Use) addService(s *v1.Service) {
	u.amounts[v1.ResourceServices] = one
	ports := len(s.Spec.Ports)
	switch s.Spec.Type {
	case v1.ServiceTypeLoadBalancer:
		u.amounts[v1.ResourceServicesLoadBalancers] = one
		if allocate := s.Spec.AllocateLoadBalancerNodePorts; allocate != nil && !*allocate {
			ports -= len(slices.DeleteFunc(slices.Clone(s.Spec.Ports), func(p v1.ServicePort) bool { return p.NodePort != 0 }))
		}
	case v1.ServiceTypeNodePort:
	default:
		ports = 0
	}
	u.amounts[v1.ResourceServicesNodePorts] = *resource.NewQuantity(int64(ports), resource.DecimalSI)
}

func (u *Use) addClaim(c *v1.PersistentVolumeClaim) {
	count := map[v1.ResourceName]resource.Quantity{v1.ResourcePersistentVolumeClaims: one}
	if asked, has := c.Spec.Resources.Requests[v1.ResourceStorage]; has {
		asked = asked.DeepCopy()
		asked.RoundUp(0)
		count[v1.ResourceRequestsStorage] = asked
	}
	class, old := c.Annotations[v1.BetaStorageClassAnnotation]
	if !old {
		class = ptr.Deref(c.Spec.StorageClassName, "")
	}
	for name, q := range count {
		if u.amounts[name] = q; class != "" {
			u.amounts[v1.ResourceName(class)+".storageclass.storage.k8s.io/"+name] = q
		}
	}
}

// UseOfPod is what a Pod with the PriorityClass of a name uses, "" for none. One that has ended uses nothing but its count.
func UseOfPod(pod *v1.Pod, class string) *Use {
	u := &Use{namespace: pod.Namespace, amounts: v1.ResourceList{"count/pods": one}, pod: &podTraits{
		terminating: pod.Spec.ActiveDeadlineSeconds != nil, bestEffort: qos.GetPodQOS(pod) == v1.PodQOSBestEffort,
		acrossNamespaces: crosses(pod.Spec.Affinity), class: class,
	}}
	if pod.Status.Phase == v1.PodFailed || pod.Status.Phase == v1.PodSucceeded {
		return u
	}
	u.amounts[v1.ResourcePods] = one
	options := resourcehelper.PodResourcesOptions{}
	u.addCompute(resourcehelper.PodRequests(pod, options), resourcehelper.PodLimits(pod, options))
	if !resourcehelper.IsPodLevelResourcesSet(pod) {
		u.pod.missing = missing(pod)
	}
	return u
}

// Ended is what a Pod uses once it has ended.
func (u *Use) Ended() *Use {
	return &Use{namespace: u.namespace, amounts: v1.ResourceList{"count/pods": one}, pod: u.pod}
}

// addCompute adds requests and limits, by all their names.
func (u *Use) addCompute(requests, limits v1.ResourceList) {
	for name, q := range requests {
		asked := v1.ResourceName(v1.DefaultResourceRequestsPrefix) + name
		switch {
		case native(name), strings.HasPrefix(string(name), v1.ResourceHugePagesPrefix):
			u.amounts[name], u.amounts[asked] = q, q
		case extended(name):
			u.amounts[asked] = q
		}
	}
	for name, q := range limits {
		if native(name) {
			u.amounts["limits."+name] = q
		}
	}
}

func native(name v1.ResourceName) bool {
	return name == v1.ResourceCPU || name == v1.ResourceMemory || name == v1.ResourceEphemeralStorage
}

// extended says whether a resource is a device or the like, by its name (kubernetes/kubernetes pkg/apis/core/v1/helper).
func extended(name v1.ResourceName) bool {
	return strings.Contains(string(name), "/") && !strings.Contains(string(name), v1.ResourceDefaultNamespacePrefix) &&
		!strings.HasPrefix(string(name), v1.DefaultResourceRequestsPrefix)
}

// missing is which containers say nothing of what quotas may want of each.
func missing(pod *v1.Pod) map[v1.ResourceName]string {
	var found map[v1.ResourceName][]string
	note := func(c *v1.Container, list v1.ResourceList, resource v1.ResourceName, names ...v1.ResourceName) {
		if _, says := list[resource]; says {
			return
		}
		if found == nil {
			found = map[v1.ResourceName][]string{}
		}
		for _, name := range names {
			found[name] = append(found[name], c.Name)
		}
	}
	for _, containers := range [][]v1.Container{pod.Spec.Containers, pod.Spec.InitContainers} {
		for i := range containers {
			c := &containers[i]
			note(c, c.Resources.Requests, v1.ResourceCPU, v1.ResourceCPU, v1.ResourceRequestsCPU)
			note(c, c.Resources.Requests, v1.ResourceMemory, v1.ResourceMemory, v1.ResourceRequestsMemory)
			note(c, c.Resources.Limits, v1.ResourceCPU, v1.ResourceLimitsCPU)
			note(c, c.Resources.Limits, v1.ResourceMemory, v1.ResourceLimitsMemory)
		}
	}
	var said map[v1.ResourceName]string
	for name, of := range found {
		if said == nil {
			said = map[v1.ResourceName]string{}
		}
		slices.Sort(of)
		said[name] = strings.Join(of, ",")
	}
	return said
}

// lacks says which containers do not say what each has to, "" where all do.
func (u *Use) lacks(needs []v1.ResourceName) string {
	if u.pod == nil || len(u.pod.missing) == 0 {
		return ""
	}
	var parts []string
	for _, name := range needs {
		if containers := u.pod.missing[name]; containers != "" {
			parts = append(parts, fmt.Sprintf("%s for: %s", name, containers))
		}
	}
	return strings.Join(parts, "; ")
}

// crosses says whether an affinity is about Pods of other namespaces.
func crosses(a *v1.Affinity) bool {
	if a == nil {
		return false
	}
	var terms []v1.PodAffinityTerm
	weighted := func(all []v1.WeightedPodAffinityTerm) {
		for _, w := range all {
			terms = append(terms, w.PodAffinityTerm)
		}
	}
	if a.PodAffinity != nil {
		terms = append(terms, a.PodAffinity.RequiredDuringSchedulingIgnoredDuringExecution...)
		weighted(a.PodAffinity.PreferredDuringSchedulingIgnoredDuringExecution)
	}
	if a.PodAntiAffinity != nil {
		terms = append(terms, a.PodAntiAffinity.RequiredDuringSchedulingIgnoredDuringExecution...)
		weighted(a.PodAntiAffinity.PreferredDuringSchedulingIgnoredDuringExecution)
	}
	return slices.ContainsFunc(terms, func(t v1.PodAffinityTerm) bool { return len(t.Namespaces) > 0 || t.NamespaceSelector != nil })
}
