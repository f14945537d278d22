package services

import (
	"fmt"
	"hash/fnv"

	v1 "k8s.io/api/core/v1"
	discovery "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/rand"
	"k8s.io/utils/ptr"
)

// EndpointSlices are the same in the newer form, Pods that end among them: a slice for each set of ports, and one without any where
// there is no Pod (kubernetes/kubernetes staging/src/k8s.io/endpointslice).
func EndpointSlices(s *v1.Service, found []*v1.Pod) (all []*discovery.EndpointSlice) {
	in := family(s)
	at := map[string]*discovery.EndpointSlice{}
	slice := func(of []port) *discovery.EndpointSlice {
		key := fmt.Sprint(of)
		if at[key] != nil {
			return at[key]
		}
		name := key
		if len(all) == 0 {
			name = "" // the first one is called the same whatever ports Pods have: mostly it is the only one
		}
		at[key] = newSlice(s, name, of)
		all = append(all, at[key])
		return at[key]
	}
	for _, pod := range found {
		ip := addressOf(pod, in)
		if ip == "" {
			continue
		}
		to := slice(ports(s, pod))
		to.Endpoints = append(to.Endpoints, endpoint(s, pod, ip))
	}
	if len(all) == 0 {
		slice(nil)
	}
	return all
}

func newSlice(s *v1.Service, key string, of []port) *discovery.EndpointSlice {
	hash := fnv.New32a()
	fmt.Fprintf(hash, "%s/%s %s %s %s", s.Namespace, s.Name, s.UID, family(s), key)
	suffix := rand.SafeEncodeString(fmt.Sprintf("%05d", hash.Sum32()%100_000))
	e := &discovery.EndpointSlice{
		TypeMeta:   metav1.TypeMeta{APIVersion: discovery.SchemeGroupVersion.String(), Kind: "EndpointSlice"},
		ObjectMeta: metadata(s, s.Name+"-"+suffix), AddressType: discovery.AddressType(family(s)), Endpoints: []discovery.Endpoint{}, Ports: []discovery.EndpointPort{},
	}
	e.GenerateName = s.Name + "-"
	e.Labels[discovery.LabelServiceName], e.Labels[discovery.LabelManagedBy] = s.Name, ManagedBy
	e.OwnerReferences = owner(s)
	for _, p := range of {
		e.Ports = append(e.Ports, discovery.EndpointPort{Name: ptr.To(p.name), Port: ptr.To(p.number), Protocol: ptr.To(p.protocol), AppProtocol: p.appProtocol()})
	}
	return e
}

// owner is a Service that has a UID.
func owner(s *v1.Service) []metav1.OwnerReference {
	if s.UID == "" {
		return nil
	}
	return []metav1.OwnerReference{{APIVersion: "v1", Kind: "Service", Name: s.Name, UID: s.UID, Controller: ptr.To(true), BlockOwnerDeletion: ptr.To(true)}}
}

func endpoint(s *v1.Service, pod *v1.Pod, ip string) discovery.Endpoint {
	serves, ends := ready(pod), pod.DeletionTimestamp != nil
	e := discovery.Endpoint{
		Addresses: []string{ip}, TargetRef: reference(pod),
		Conditions: discovery.EndpointConditions{
			Ready: ptr.To(s.Spec.PublishNotReadyAddresses || serves && !ends), Serving: ptr.To(serves), Terminating: ptr.To(ends),
		},
	}
	if name := hostname(s, pod); name != "" {
		e.Hostname = ptr.To(name)
	}
	if pod.Spec.NodeName != "" {
		e.NodeName = ptr.To(pod.Spec.NodeName)
	}
	return e
}
