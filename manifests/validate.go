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
	"k8s.io/kubernetes/pkg/apis/core/validation"
	"k8s.io/kubernetes/pkg/capabilities"
)

// uidForm is what a UID may look like: it becomes part of file names, of cgroup names and of labels in containerd.
var uidForm = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?$`)

// judge finds everything that is wrong with an object as it was written: fields that podkeeper does not support, and what
// Kubernetes' own validation of a new one says, in its words. Between the two it takes the object's revision and completes
// it.
func (k kind) judge(o metav1.Object, at *field.Path) (revision string, faults []fault) {
	faults = k.unfit(o, at)
	delete(o.GetAnnotations(), ManifestAnnotation)
	if o.GetNamespace() == "" && !k.clusterWide {
		o.SetNamespace(metav1.NamespaceDefault)
	}
	revision, err := revise(o)
	if err != nil {
		faults = append(faults, fault{reason: err.Error()})
	}
	k.setDefaults(o)
	if k.complete != nil {
		faults = append(faults, k.complete(o, at)...)
	}
	for _, err := range k.validate(o) {
		name := err.Field
		if at != nil {
			name = join(at, name)
		}
		if !covered(name, faults) {
			faults = append(faults, fault{field: name, reason: err.ErrorBody() + hint(err, o)})
		}
	}
	return revision, faults
}

// unfit finds what podkeeper has to say about an object before Kubernetes does.
func (k kind) unfit(o metav1.Object, at *field.Path) []fault {
	var faults []fault
	if o.GetName() == "" {
		faults = append(faults, fault{
			field: join(at, "metadata.name"), reason: fmt.Sprintf("missing: %s needs a name, such as %s", withArticle(k.typ.Name()), k.example),
		})
	}
	if uid := o.GetUID(); uid != "" && !uidForm.MatchString(string(uid)) {
		faults = append(faults, fault{field: join(at, "metadata.uid"), reason: fmt.Sprintf("%q: wants at most 63 letters, digits and dashes", uid)})
	}
	if k.clusterWide && o.GetNamespace() != "" {
		faults = append(faults, fault{field: join(at, "metadata.namespace"), reason: withArticle(k.typ.Name()) + " is in no namespace: remove it"})
	}
	return append(faults, k.refuse(o, at)...)
}

// refuse finds what podkeeper does not support.
func (k kind) refuse(o metav1.Object, at *field.Path) []fault {
	faults := append(unsupported(reflect.ValueOf(o), at), wrongAnnotations(o, at)...)
	if k.odd != nil {
		faults = append(faults, k.odd(o, at)...)
	}
	return faults
}

// init lets Pods be privileged, as every kubelet does (kubernetes/kubernetes cmd/kubelet/app/server.go,
// RunKubelet): Kubernetes' validation asks once in a process, and where nobody has said so it forbids them.
func init() { capabilities.Setup(true, 0) }

// validatePod is what the API server checks when a Pod is created (its pod strategy).
func validatePod(pod *core.Pod) field.ErrorList {
	options := podapi.GetValidationOptionsFromPodSpecAndMeta(&pod.Spec, nil, &pod.ObjectMeta, nil)
	options.ResourceIsPod = true
	return validation.ValidatePodCreate(pod, options)
}

// editPod is what it checks when one is edited: ValidatePodUpdate, or its kin of subresources.
func editPod(edit func(now, was *core.Pod, options validation.PodValidationOptions) field.ErrorList) func(now, was *core.Pod) field.ErrorList {
	return func(now, was *core.Pod) field.ErrorList {
		options := podapi.GetValidationOptionsFromPodSpecAndMeta(&now.Spec, &was.Spec, &now.ObjectMeta, &was.ObjectMeta)
		options.ResourceIsPod = true
		return edit(now, was, options)
	}
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
func hint(err *field.Error, of metav1.Object) string {
	value, ok := err.BadValue.(string)
	if !ok {
		return ""
	}
	switch {
	case err.Type == field.ErrorTypeRequired && err.Detail == "":
		return required(err.Field)
	case err.Type == field.ErrorTypeNotFound && strings.Contains(err.Field, ".volumeMounts["):
		var names []string
		if pod, ok := of.(*v1.Pod); ok {
			for _, volume := range pod.Spec.Volumes {
				names = append(names, volume.Name)
			}
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
