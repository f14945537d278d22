package manifests

import (
	v1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/kubernetes/pkg/apis/core"
	corev1 "k8s.io/kubernetes/pkg/apis/core/v1"
	"k8s.io/kubernetes/pkg/apis/core/validation"
)

// CheckNewerEvent says what is wrong with a new Event that was given as one of events.k8s.io/v1: Kubernetes holds it to more than
// one of v1 (ValidateEventCreate).
func CheckNewerEvent(event *v1.Event) field.ErrorList {
	object, err := internal(corev1.Convert_v1_Event_To_core_Event, metav1.Object(event), "")
	if err != nil {
		return field.ErrorList{field.InternalError(nil, err)}
	}
	return validation.ValidateEventCreate(object, eventsv1.SchemeGroupVersion)
}

// CheckNewerEventEdit says what is wrong with an edit of one, likewise (ValidateEventUpdate).
func CheckNewerEventEdit(now, was *v1.Event) field.ErrorList { return editNewerEvent(now, was) }

var editNewerEvent = editOf(corev1.Convert_v1_Event_To_core_Event, func(now, was *core.Event) field.ErrorList {
	return validation.ValidateEventUpdate(now, was, eventsv1.SchemeGroupVersion)
})
