package agent

import (
	"encoding/json"
	"fmt"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	utiljson "k8s.io/apimachinery/pkg/util/json"

	"github.com/podkeeper/podkeeper/agent/admit"
	"github.com/podkeeper/podkeeper/agent/objects"
	"github.com/podkeeper/podkeeper/manifests"
	"github.com/podkeeper/podkeeper/server"
)

// judged is an object that is made or edited through the API, in JSON, with what other objects give it. The error is
// server.ErrForbidden, or server.ErrInvalid, where they do not allow it, in the words of the API server and its admission plugins. What
// is no such object is the store's to say. Unless it is a dry run, a new one has its room in quotas until fulfil.
func (a *Agent) judged(id objects.ID, body []byte, dryRun bool) ([]byte, error) {
	if id.Resource != podResource && id.Resource != claimResource && (id.Namespace == "" || !a.hasQuota(id.Namespace)) {
		return body, nil
	}
	var fields map[string]any
	if utiljson.Unmarshal(body, &fields) != nil || fields == nil {
		return body, nil
	}
	now := typedOf(id, fields)
	var was metav1.Object
	kept, missing := a.objects.Get(id)
	if missing == nil {
		was = typedOf(id, kept.Content)
	}
	if now == nil || objects.Ending(kept.Content) {
		return body, nil
	}
	var err error
	switch o := now.(type) {
	case *v1.Pod:
		if before, _ := was.(*v1.Pod); before == nil {
			now, err = a.give(fields, o)
		} else if isResized(o, before) {
			err = a.sources.policy().limits[id.Namespace].Check(o)
		}
	case *v1.PersistentVolumeClaim:
		err = a.sources.policy().limits[id.Namespace].CheckClaim(o)
	}
	if err == nil && (was == nil || countsAnew(now, was)) {
		err = a.promise(id, now, was, !dryRun)
	}
	switch {
	case apierrors.IsInvalid(err):
		return nil, server.As(server.ErrInvalid, err.Error())
	case err != nil:
		return nil, forbidden(id, err)
	case id.Resource == podResource && was == nil:
		return json.Marshal(fields) // with what it was given
	}
	return body, nil
}

// typedOf is an object of a resource, with Kubernetes' defaults; nil where it is none.
func typedOf(id objects.ID, fields map[string]any) metav1.Object {
	name, _ := manifests.KindOf(id.Resource)
	for _, kind := range manifests.Kinds() {
		if kind.Kind != name {
			continue
		}
		o := kind.New()
		if runtime.DefaultUnstructuredConverter.FromUnstructured(fields, o) != nil {
			return nil
		}
		typed := o.(metav1.Object)
		typed.SetNamespace(id.Namespace)
		typed.SetName(id.Name)
		manifests.Default(typed)
		return typed
	}
	return nil
}

// forbidden is how Kubernetes says that an object is not allowed.
func forbidden(id objects.ID, why error) error {
	return server.As(server.ErrForbidden, fmt.Sprintf("%s %q is forbidden: %v", id.Resource, id.Name, why))
}

// give gives a new Pod, and its object, what objects give it. The error is why they do not allow it.
func (a *Agent) give(fields map[string]any, pod *v1.Pod) (*v1.Pod, error) {
	policy := a.sources.policy()
	class, _, err := a.sources.classOf(pod, policy)
	if err == nil {
		err = manifests.Classify(pod, class)
	}
	if err != nil {
		return nil, err
	}
	given, err := policy.within(pod)
	if err != nil {
		return nil, err
	}
	if err := writeGiven(fields, given); err != nil {
		return nil, err
	}
	_ = manifests.Prioritise(given, policy.priorities) // for quotas: without its class it waits
	return given, nil
}

// writeGiven writes what a Pod was given into its object.
func writeGiven(fields map[string]any, pod *v1.Pod) error {
	written, err := runtime.DefaultUnstructuredConverter.ToUnstructured(pod)
	if err != nil {
		return fmt.Errorf("encode pod: %w", err)
	}
	given, spec := child(written, "spec"), child(fields, "spec")
	for _, name := range []string{"overhead", "nodeSelector", "tolerations"} {
		if given[name] != nil {
			spec[name] = given[name]
		}
	}
	told, is := pod.Annotations[admit.LimitRangerAnnotation]
	if !is {
		return nil
	}
	child(child(fields, "metadata"), "annotations")[admit.LimitRangerAnnotation] = told
	for _, name := range []string{"containers", "initContainers"} {
		into, _ := spec[name].([]any)
		from, _ := given[name].([]any)
		for i := range into {
			container, isContainer := into[i].(map[string]any)
			filled, _ := from[i].(map[string]any)
			if isContainer {
				container["resources"] = filled["resources"]
			}
		}
	}
	return nil
}
