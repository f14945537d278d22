// Package inputs works out what a container is given: its environment, `$(VAR)` in its command, and what it may know of
// its Pod and node (the downward API). It is pure: all that it tells comes in as Facts, and it must not know how any of it
// was found, nor how it gets into a container.
//
// The rules are Kubernetes' own (kubernetes/kubernetes pkg/kubelet/kubelet_pods.go, makeEnvironmentVariables), except that
// the order is the declared one.
package inputs

import (
	"errors"
	"fmt"
	"strings"

	v1 "k8s.io/api/core/v1"
	"k8s.io/kubectl/pkg/util/fieldpath"
	"k8s.io/kubectl/pkg/util/resource"
	"k8s.io/utils/ptr"

	"github.com/podkeeper/podkeeper/agent/plan"
	"github.com/podkeeper/podkeeper/manifests"
)

// Facts are what may be told to a container.
type Facts struct {
	Pod       *v1.Pod
	Container *v1.Container
	NodeName  string
	PodIPs    []string        // the primary first
	HostIPs   []string        // the node's, the primary first
	Capacity  v1.ResourceList // what the node has for Pods, for limits that are not set
	Objects   Objects
	Services  []*v1.Service // that there are when the container starts
	// Token signs a token of the Pod's service account, which is nil where there is none. It is asked for volumes only.
	Token func(from *v1.ServiceAccountTokenProjection, account *v1.ServiceAccount) (string, error)
	// EnvFile answers what a file of a volume of the Pod's gives a variable, if that is there.
	EnvFile func(from *v1.FileKeySelector) (value string, found bool, err error)
}

// Environment is the container's own environment, NAME=value in declared order, what tells of Services and what envFrom brings first
// and sorted, with `$(VAR)` replaced by what was declared before. lookup answers what its command and arguments may refer to. An error names
// the variable, or the object that is missing, in the kubelet's words.
func Environment(f Facts) (env []string, lookup func(name string) (string, bool), err error) {
	known := map[string]string{}
	lookup = func(name string) (string, bool) {
		value, ok := known[name]
		return value, ok
	}
	var order []string
	set := func(name, value string) {
		if _, again := known[name]; !again {
			order = append(order, name)
		}
		known[name] = value
	}
	for _, v := range f.services() {
		set(v.name, v.value)
	}
	for i := range f.Container.EnvFrom {
		if err := f.envFrom(&f.Container.EnvFrom[i], set); err != nil {
			return nil, nil, err
		}
	}
	for i := range f.Container.Env {
		e := &f.Container.Env[i]
		value, given := manifests.Expand(e.Value, lookup), true
		if e.ValueFrom != nil {
			if value, given, err = f.valueFrom(e); err != nil {
				return nil, nil, err
			}
		}
		if given {
			set(e.Name, value)
		}
	}
	for _, name := range order {
		env = append(env, name+"="+known[name])
	}
	return env, lookup, nil
}

// envFrom sets all that one object has. What is binary in a ConfigMap is no variable.
func (f *Facts) envFrom(from *v1.EnvFromSource, set func(name, value string)) error {
	var found values
	var err error
	switch {
	case from.ConfigMapRef != nil:
		found, err = f.configMap(from.ConfigMapRef.Name, from.ConfigMapRef.Optional)
		found.binary = nil
	case from.SecretRef != nil:
		found, err = f.secret(from.SecretRef.Name, from.SecretRef.Optional)
	}
	if err != nil {
		return err
	}
	for _, key := range found.keys() {
		value, _ := found.bytes(key)
		set(from.Prefix+key, string(value))
	}
	return nil
}

// Static replaces `$(VAR)` in the command of a probe by what the manifest itself gives; the downward API does not reach it.
func Static(c *v1.Container, command []string) []string {
	known := map[string]string{}
	lookup := func(name string) (string, bool) { value, ok := known[name]; return value, ok }
	for _, e := range c.Env {
		if e.ValueFrom == nil {
			known[e.Name] = manifests.Expand(e.Value, lookup)
		}
	}
	out := make([]string, 0, len(command))
	for _, s := range command {
		out = append(out, manifests.Expand(s, lookup))
	}
	return out
}

// valueFrom is the value of a variable that comes from elsewhere, if it is given.
func (f *Facts) valueFrom(e *v1.EnvVar) (value string, given bool, err error) {
	switch from := e.ValueFrom; {
	case from.ConfigMapKeyRef != nil:
		found, err := f.configMap(from.ConfigMapKeyRef.Name, from.ConfigMapKeyRef.Optional)
		found.binary = nil
		if err != nil {
			return "", false, err
		}
		return found.variable(f.Pod.Namespace, from.ConfigMapKeyRef.Key)
	case from.SecretKeyRef != nil:
		found, err := f.secret(from.SecretKeyRef.Name, from.SecretKeyRef.Optional)
		if err != nil {
			return "", false, err
		}
		return found.variable(f.Pod.Namespace, from.SecretKeyRef.Key)
	case from.FileKeyRef != nil:
		return f.fileKey(from.FileKeyRef)
	case from.ResourceFieldRef != nil:
		value, err = f.resource(from.ResourceFieldRef)
	case from.FieldRef != nil:
		value, err = f.field(from.FieldRef.FieldPath)
	default:
		err = errors.New("valueFrom: no source")
	}
	if err != nil {
		return "", false, fmt.Errorf("env %s: %w", e.Name, err)
	}
	return value, true, nil
}

// fileKey is what a file gives a variable. A value that is empty is none.
func (f *Facts) fileKey(from *v1.FileKeySelector) (value string, given bool, err error) {
	value, found, err := f.EnvFile(from)
	switch {
	case err != nil:
		return "", false, err
	case found && value != "":
		return value, true, nil
	case ptr.Deref(from.Optional, false):
		return "", false, nil
	}
	return "", false, fmt.Errorf("environment variable key %q not found in file %q", from.Key, from.Path)
}

// resource is a request or limit of a container of the Pod. A limit that is not set is what the node has.
func (f *Facts) resource(ref *v1.ResourceFieldSelector) (string, error) {
	of := f.Container
	if ref.ContainerName != "" {
		of = nil
		for _, c := range plan.Containers(f.Pod) {
			if c.Name == ref.ContainerName {
				of = c
			}
		}
		if of == nil {
			return "", fmt.Errorf("resourceFieldRef: no container %q", ref.ContainerName)
		}
	}
	of = of.DeepCopy()
	if of.Resources.Limits == nil {
		of.Resources.Limits = v1.ResourceList{}
	}
	for name, capacity := range f.Capacity {
		if limit := of.Resources.Limits[name]; limit.IsZero() {
			of.Resources.Limits[name] = capacity
		}
	}
	return resource.ExtractContainerResourceValue(ref, of)
}

// field is a field of the Pod, or of what is known of its node and addresses.
func (f *Facts) field(path string) (string, error) {
	switch path {
	case "spec.nodeName":
		return f.NodeName, nil
	case "spec.serviceAccountName":
		return f.Pod.Spec.ServiceAccountName, nil
	case "status.podIP":
		return first(f.PodIPs), nil
	case "status.podIPs":
		return strings.Join(f.PodIPs, ","), nil
	case "status.hostIP":
		return first(f.HostIPs), nil
	case "status.hostIPs":
		return strings.Join(f.HostIPs, ","), nil
	}
	return fieldpath.ExtractFieldPathAsString(f.Pod, path)
}

func first(s []string) string {
	if len(s) == 0 {
		return ""
	}
	return s[0]
}
