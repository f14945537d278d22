package manifests

import (
	"fmt"
	"reflect"
	"regexp"
	"strings"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	podapi "k8s.io/kubernetes/pkg/api/pod"
	"k8s.io/kubernetes/pkg/apis/core"
	corev1 "k8s.io/kubernetes/pkg/apis/core/v1"
	"k8s.io/kubernetes/pkg/apis/core/validation"
)

// uidForm is what a UID may look like: it becomes part of file names, of cgroup names and of labels in containerd.
var uidForm = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?$`)

// judge finds everything that is wrong with a Pod as it was written: fields that podkeeper does not support, and what
// Kubernetes' own validation of a new Pod says, in its words. Between the two it takes the Pod's revision and fills in
// the defaults, which are setDefaults' to know.
func judge(pod *v1.Pod, at *field.Path, setDefaults func(*v1.Pod)) (revision string, faults []fault) {
	faults = unfit(pod, at)
	pod.Status = v1.PodStatus{}
	if pod.Namespace == "" {
		pod.Namespace = metav1.NamespaceDefault
	}
	revision, err := revise(pod)
	if err != nil {
		faults = append(faults, fault{reason: err.Error()})
	}
	setDefaults(pod)
	faults = append(faults, prioritise(pod, at)...)
	for _, err := range validate(pod) {
		name := err.Field
		if at != nil {
			name = join(at, name)
		}
		if !covered(name, faults) {
			faults = append(faults, fault{field: name, reason: err.ErrorBody() + hint(err, pod)})
		}
	}
	return revision, faults
}

// unfit finds what podkeeper has to say about a Pod before Kubernetes does.
func unfit(pod *v1.Pod, at *field.Path) []fault {
	var faults []fault
	if pod.Name == "" {
		faults = append(faults, fault{field: join(at, "metadata.name"), reason: "missing: a Pod needs a name, such as web"})
	}
	if pod.UID != "" && !uidForm.MatchString(string(pod.UID)) {
		faults = append(faults, fault{
			field: join(at, "metadata.uid"), reason: fmt.Sprintf("%q: wants at most 63 letters, digits and dashes", pod.UID),
		})
	}
	faults = append(faults, unsupported(reflect.ValueOf(pod), at)...)
	return append(faults, odd(pod, at)...)
}

// validate is what the API server checks when a Pod is created (its pod strategy).
func validate(pod *v1.Pod) field.ErrorList {
	internal := new(core.Pod)
	if err := corev1.Convert_v1_Pod_To_core_Pod(pod.DeepCopy(), internal, nil); err != nil {
		return field.ErrorList{field.InternalError(field.NewPath("spec"), err)}
	}
	options := podapi.GetValidationOptionsFromPodSpecAndMeta(&internal.Spec, nil, &internal.ObjectMeta, nil)
	options.ResourceIsPod = true
	return validation.ValidatePodCreate(internal, options)
}

// covered tells whether a field, or one around it, is complained of already.
func covered(name string, faults []fault) bool {
	for _, f := range faults {
		if rest, ok := strings.CutPrefix(name, f.field); ok && (rest == "" || rest[0] == '.' || rest[0] == '[') {
			return true
		}
	}
	return false
}

// hint adds what was probably meant to a message of Kubernetes that only says what is wrong.
func hint(err *field.Error, pod *v1.Pod) string {
	value, ok := err.BadValue.(string)
	if !ok {
		return ""
	}
	switch {
	case err.Type == field.ErrorTypeRequired && err.Detail == "":
		return required(err.Field)
	case err.Type == field.ErrorTypeNotFound && strings.Contains(err.Field, ".volumeMounts["):
		names := make([]string, 0, len(pod.Spec.Volumes))
		for _, volume := range pod.Spec.Volumes {
			names = append(names, volume.Name)
		}
		if near := nearest(value, names); near != "" {
			return fmt.Sprintf(": did you mean %q?", near)
		}
		return ": no volume under spec.volumes has this name"
	case err.Type == field.ErrorTypeDuplicate && strings.HasSuffix(err.Field, ".name"):
		return ": another one has this name already"
	}
	return ""
}

func required(name string) string {
	switch name[strings.LastIndexByte(name, '.')+1:] {
	case "containers":
		return ": a Pod needs at least one"
	case "image":
		return ": the image to run, such as docker.io/library/busybox:1.37"
	case "name":
		return ": such as app"
	}
	return ""
}
