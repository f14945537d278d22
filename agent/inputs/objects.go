package inputs

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"github.com/podkeeper/podkeeper/agent/plan"
	"github.com/podkeeper/podkeeper/manifests"
)

// Objects are those that a Pod refers to, as they were at one moment. One that is not there is missing; with nil that is not
// known.
type Objects map[manifests.Key]manifests.Object

// Same says whether two moments are the same.
func (o Objects) Same(other Objects) bool {
	return (o == nil) == (other == nil) && maps.EqualFunc(o, other, func(a, b manifests.Object) bool { return a.Revision == b.Revision })
}

// Digest is another one whenever a ConfigMap or a Secret is.
func (o Objects) Digest() string {
	sum := sha256.New()
	for _, key := range slices.SortedFunc(maps.Keys(o), func(a, b manifests.Key) int { return cmp.Compare(a.String(), b.String()) }) {
		if key.Kind == manifests.KindConfigMap || key.Kind == manifests.KindSecret {
			fmt.Fprintf(sum, "%s %s\n", key, o[key].Revision)
		}
	}
	return hex.EncodeToString(sum.Sum(nil))
}

// References are the objects that a Pod refers to, and whether it needs them: one that is optional wherever it is named, or
// a Secret for pulling images, it does not.
func References(pod *v1.Pod) map[manifests.Key]bool {
	needs := map[manifests.Key]bool{}
	add := func(kind, name string, optional *bool) {
		key := manifests.Key{Kind: kind, NamespacedName: types.NamespacedName{Namespace: pod.Namespace, Name: name}}
		needs[key] = needs[key] || !ptr.Deref(optional, false)
	}
	for _, s := range pod.Spec.ImagePullSecrets {
		add(manifests.KindSecret, s.Name, ptr.To(true))
	}
	for i := range pod.Spec.Volumes {
		if claim := pod.Spec.Volumes[i].PersistentVolumeClaim; claim != nil {
			add(manifests.KindClaim, claim.ClaimName, nil)
		}
		for _, p := range projections(&pod.Spec.Volumes[i]) {
			switch {
			case p.ConfigMap != nil:
				add(manifests.KindConfigMap, p.ConfigMap.Name, p.ConfigMap.Optional)
			case p.Secret != nil:
				add(manifests.KindSecret, p.Secret.Name, p.Secret.Optional)
			case p.ServiceAccountToken != nil:
				add(manifests.KindServiceAccount, AccountOf(pod), nil)
			}
		}
	}
	for _, c := range plan.Containers(pod) {
		for _, from := range c.EnvFrom {
			switch {
			case from.ConfigMapRef != nil:
				add(manifests.KindConfigMap, from.ConfigMapRef.Name, from.ConfigMapRef.Optional)
			case from.SecretRef != nil:
				add(manifests.KindSecret, from.SecretRef.Name, from.SecretRef.Optional)
			}
		}
		for _, e := range c.Env {
			switch from := e.ValueFrom; {
			case from == nil:
			case from.ConfigMapKeyRef != nil:
				add(manifests.KindConfigMap, from.ConfigMapKeyRef.Name, from.ConfigMapKeyRef.Optional)
			case from.SecretKeyRef != nil:
				add(manifests.KindSecret, from.SecretKeyRef.Name, from.SecretKeyRef.Optional)
			}
		}
	}
	return needs
}

// Claim is a claim of the Pod's namespace. The error is Kubernetes' that there is none.
func Claim(pod *v1.Pod, name string, objects Objects) (*v1.PersistentVolumeClaim, error) {
	f := Facts{Pod: pod, Objects: objects}
	claim, ok := f.object(manifests.KindClaim, name).(*v1.PersistentVolumeClaim)
	if !ok {
		return nil, fmt.Errorf("persistentvolumeclaim %q not found", name)
	}
	return claim, nil
}

// PersistentVolumes are all that there are, in no order.
func PersistentVolumes(objects Objects) (all []*v1.PersistentVolume) {
	for _, o := range objects {
		if volume, ok := o.Object.(*v1.PersistentVolume); ok {
			all = append(all, volume)
		}
	}
	return all
}

// PullSecrets are the Secrets that a Pod names for pulling its images, and the names of those that are missing.
func PullSecrets(pod *v1.Pod, objects Objects) (found []*v1.Secret, missing []string) {
	f := Facts{Pod: pod, Objects: objects}
	for _, ref := range pod.Spec.ImagePullSecrets {
		if secret, ok := f.object(manifests.KindSecret, ref.Name).(*v1.Secret); ok {
			found = append(found, secret)
		} else {
			missing = append(missing, ref.Name)
		}
	}
	return found, missing
}

// values are what stands in a ConfigMap or a Secret.
type values struct {
	kind, name string // of the object
	text       map[string]string
	binary     map[string][]byte
	optional   bool
	noFile     string // the kubelet's words for a key that is asked for as a file and is not there
}

// configMap answers a ConfigMap of the Pod's namespace. One that is missing and need not be there is empty.
func (f *Facts) configMap(name string, optional *bool) (values, error) {
	found := values{kind: manifests.KindConfigMap, name: name, optional: ptr.Deref(optional, false), noFile: "configmap references non-existent config key"}
	o, ok := f.object(manifests.KindConfigMap, name).(*v1.ConfigMap)
	if !ok {
		return found.absent()
	}
	found.text, found.binary = o.Data, o.BinaryData
	return found, nil
}

// secret answers a Secret of the Pod's namespace, likewise.
func (f *Facts) secret(name string, optional *bool) (values, error) {
	found := values{kind: manifests.KindSecret, name: name, optional: ptr.Deref(optional, false), noFile: "references non-existent secret key"}
	o, ok := f.object(manifests.KindSecret, name).(*v1.Secret)
	if !ok {
		return found.absent()
	}
	found.binary = o.Data
	return found, nil
}

func (f *Facts) object(kind, name string) any {
	return f.Objects[manifests.Key{Kind: kind, NamespacedName: types.NamespacedName{Namespace: f.Pod.Namespace, Name: name}}].Object
}

// absent is the answer of an API server that has no such object.
func (v values) absent() (values, error) {
	if !v.optional {
		return v, fmt.Errorf("%s %q not found", strings.ToLower(v.kind), v.name)
	}
	return v, nil
}

// bytes are what stands under a key.
func (v values) bytes(key string) ([]byte, bool) {
	if text, ok := v.text[key]; ok {
		return []byte(text), true
	}
	data, ok := v.binary[key]
	return data, ok
}

// variable is what stands under a key, if it is given, as the value of a variable. namespace is the object's.
func (v values) variable(namespace, key string) (value string, given bool, err error) {
	data, ok := v.bytes(key)
	if !ok && !v.optional {
		return "", false, fmt.Errorf("couldn't find key %s in %s %s/%s", key, v.kind, namespace, v.name)
	}
	return string(data), ok, nil
}

// keys are all keys, sorted.
func (v values) keys() []string {
	all := slices.AppendSeq(slices.Collect(maps.Keys(v.text)), maps.Keys(v.binary))
	slices.Sort(all)
	return all
}
