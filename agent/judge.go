package agent

import (
	"encoding/json"
	"fmt"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	utiljson "k8s.io/apimachinery/pkg/util/json"

	"github.com/podkeeper/podkeeper/agent/objects"
	"github.com/podkeeper/podkeeper/manifests"
	"github.com/podkeeper/podkeeper/server"
)

// judged is an object that is made through the API, in JSON, with what other objects give it. The error is server.ErrForbidden where
// they do not allow it, in the words of the API server's admission plugins. What is no such object is the store's to say.
func (a *Agent) judged(id objects.ID, body []byte) ([]byte, error) {
	var fields map[string]any
	if id.Resource != podResource || a.keeps(id) || utiljson.Unmarshal(body, &fields) != nil {
		return body, nil
	}
	var pod v1.Pod
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(fields, &pod); err != nil {
		return body, nil
	}
	manifests.Default(&pod)
	if err := a.give(&pod); err != nil {
		return nil, forbidden(id, err)
	}
	if err := writeGiven(fields, &pod); err != nil {
		return nil, err
	}
	return json.Marshal(fields)
}

// forbidden is how Kubernetes says that an object is not allowed.
func forbidden(id objects.ID, why error) error {
	return server.As(server.ErrForbidden, fmt.Sprintf("%s %q is forbidden: %v", id.Resource, id.Name, why))
}

// give gives a new Pod what objects give it. The error is why they do not allow it.
func (a *Agent) give(pod *v1.Pod) error {
	class, _, err := a.sources.classOf(pod, a.sources.policy())
	if err != nil {
		return err
	}
	return manifests.Classify(pod, class)
}

// writeGiven writes what a Pod was given into its object.
func writeGiven(fields map[string]any, pod *v1.Pod) error {
	written, err := runtime.DefaultUnstructuredConverter.ToUnstructured(pod)
	if err != nil {
		return fmt.Errorf("encode pod: %w", err)
	}
	given, _ := written["spec"].(map[string]any)
	spec := child(fields, "spec")
	for _, name := range []string{"overhead", "nodeSelector", "tolerations"} {
		if given[name] != nil {
			spec[name] = given[name]
		}
	}
	return nil
}
