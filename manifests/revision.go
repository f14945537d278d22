package manifests

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"reflect"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	corev1 "k8s.io/kubernetes/pkg/apis/core/v1"
)

// Normalise answers a copy of a Pod with Kubernetes' defaults, as Decode fills them in, and changes nothing that is
// set. A Pod that an earlier build decoded and recorded lacks the defaults that a library brought since: normalised, it
// differs from what Decode answers now only in what somebody changed. For a Pod of this build it is an equal copy.
func Normalise(pod *v1.Pod) *v1.Pod {
	normal := pod.DeepCopy()
	normal.TypeMeta = metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"}
	if normal.Namespace == "" {
		normal.Namespace = metav1.NamespaceDefault
	}
	corev1.SetObjectDefaults_Pod(normal)
	profileByAnnotation(normal)
	_ = prioritise(normal, nil) // what was taken once has nothing wrong with it
	return normal
}

// revise hashes what a user wrote of an object that has no defaults yet: name, namespace, UID, labels, annotations and
// all that is not dropped, such as the spec. It is the same wherever and from whatever file the same was read, and whatever a later library adds to types
// and defaults that the user did not write.
func revise(o metav1.Object) (string, error) {
	text := map[string]any{
		"metadata": written(reflect.ValueOf(metav1.ObjectMeta{
			Name: o.GetName(), GenerateName: o.GetGenerateName(), Namespace: o.GetNamespace(), UID: o.GetUID(),
			Labels: o.GetLabels(), Annotations: o.GetAnnotations(), Finalizers: o.GetFinalizers(),
		})),
	}
	v := reflect.ValueOf(o).Elem()
	for name, f := range jsonFields(v.Type()) {
		value := v.FieldByIndex(f.index)
		if _, known := text[name]; known || f.owner == "TypeMeta" || f.rule().dropped() || value.Kind() == reflect.Pointer && value.IsNil() {
			continue
		}
		text[name] = written(value)
	}
	raw, err := json.Marshal(text)
	if err != nil {
		return "", fmt.Errorf("hash object: %w", err)
	}
	const size = 16 // bytes: its 32 digits fit into a label
	sum := sha256.Sum256(raw)
	return hex.EncodeToString(sum[:size]), nil
}

// written is what is set in v: mappings by the names that manifests use, lists, and what stands in them. It does not go
// by what the API's types marshal to, since that changes with the library: an empty struct is there in one and not in
// the next.
func written(v reflect.Value) any {
	switch v.Kind() {
	case reflect.Pointer:
		return written(v.Elem())
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			return v.Interface()
		}
		list := make([]any, v.Len())
		for i := range list {
			list[i] = written(v.Index(i))
		}
		return list
	case reflect.Map:
		entries := make(map[string]any, v.Len())
		for _, key := range v.MapKeys() {
			entries[key.String()] = written(v.MapIndex(key))
		}
		return entries
	case reflect.Struct:
		return writtenFields(v)
	}
	return v.Interface()
}

func writtenFields(v reflect.Value) any {
	switch value := v.Interface().(type) {
	case resource.Quantity:
		return value.String()
	case intstr.IntOrString:
		if value.Type == intstr.Int {
			return value.IntVal
		}
		return value.StrVal
	}
	fields := make(map[string]any)
	for name, f := range jsonFields(v.Type()) {
		value := v.FieldByIndex(f.index)
		if !set(value) {
			continue
		}
		inside := written(value)
		// Only behind a pointer does an empty mapping say something: emptyDir: {}.
		if empty, ok := inside.(map[string]any); ok && len(empty) == 0 && value.Kind() == reflect.Struct {
			continue
		}
		fields[name] = inside
	}
	return fields
}
