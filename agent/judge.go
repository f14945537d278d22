package agent

import (
	"encoding/json"
	"fmt"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	utiljson "k8s.io/apimachinery/pkg/util/json"

	"github.com/podkeeper/podkeeper/agent/admit"
	"github.com/podkeeper/podkeeper/agent/objects"
	"github.com/podkeeper/podkeeper/manifests"
	"github.com/podkeeper/podkeeper/server"
)

// judged is an object that is made or edited through the API, in JSON, with what other objects give it. The error is
// server.ErrForbidden, or server.ErrInvalid, where they do not allow it, in the words of the API server and its admission plugins. What
// is no such object is the store's to say.
func (a *Agent) judged(id objects.ID, body []byte) ([]byte, error) {
	var fields map[string]any
	isPod, isClaim := id.Resource == podResource && !a.keeps(id), id.Resource == claimResource
	if !isPod && !isClaim || utiljson.Unmarshal(body, &fields) != nil {
		return body, nil
	}
	var err error
	if isClaim {
		err = a.judgeClaim(fields)
	} else {
		err = a.give(fields)
	}
	switch {
	case apierrors.IsInvalid(err):
		return nil, server.As(server.ErrInvalid, err.Error())
	case err != nil:
		return nil, forbidden(id, err)
	}
	return json.Marshal(fields)
}

// forbidden is how Kubernetes says that an object is not allowed.
func forbidden(id objects.ID, why error) error {
	return server.As(server.ErrForbidden, fmt.Sprintf("%s %q is forbidden: %v", id.Resource, id.Name, why))
}

// judgeClaim says which LimitRange does not allow a claim.
func (a *Agent) judgeClaim(fields map[string]any) error {
	var claim v1.PersistentVolumeClaim
	if runtime.DefaultUnstructuredConverter.FromUnstructured(fields, &claim) != nil {
		return nil
	}
	return a.sources.policy().limits[claim.Namespace].CheckClaim(&claim)
}

// give gives a new Pod what objects give it. The error is why they do not allow it.
func (a *Agent) give(fields map[string]any) error {
	var pod v1.Pod
	if runtime.DefaultUnstructuredConverter.FromUnstructured(fields, &pod) != nil {
		return nil
	}
	manifests.Default(&pod)
	policy := a.sources.policy()
	class, _, err := a.sources.classOf(&pod, policy)
	if err == nil {
		err = manifests.Classify(&pod, class)
	}
	if err != nil {
		return err
	}
	given, err := policy.within(&pod)
	if err != nil {
		return err
	}
	return writeGiven(fields, given)
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
