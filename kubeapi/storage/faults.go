package storage

import (
	goerrors "errors"
	"fmt"
	"net/http"

	"k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/podkeeper/podkeeper/server"
)

// fault is what the agent says of a write, as Kubernetes' API says it; made is whether it was of a new object.
func (r *Resource) fault(err error, name string, made bool) error {
	resource := r.GroupResource()
	switch {
	case goerrors.Is(err, server.ErrNoObject), goerrors.Is(err, server.ErrNoPod):
		return errors.NewNotFound(resource, name)
	case goerrors.Is(err, server.ErrConflict) && made:
		return inWords(errors.NewAlreadyExists(resource, name), err)
	case goerrors.Is(err, server.ErrConflict):
		return errors.NewConflict(resource, name, err)
	case goerrors.Is(err, server.ErrChanged):
		return errors.NewConflict(resource, name, goerrors.New("the object has been modified; please apply your changes to the latest version and try again"))
	case goerrors.Is(err, server.ErrForbidden):
		return inWords(errors.NewForbidden(resource, name, err), err)
	case goerrors.Is(err, server.ErrInvalid):
		return inWords(errors.NewInvalid(r.GroupVersionKind().GroupKind(), name, field.ErrorList{field.Forbidden(field.NewPath("object"), err.Error())}), err)
	case goerrors.Is(err, server.ErrBadRequest):
		return errors.NewBadRequest(err.Error())
	case goerrors.Is(err, server.ErrNoSpace):
		return &errors.StatusError{ErrStatus: metav1.Status{
			Status: metav1.StatusFailure, Code: http.StatusInsufficientStorage, Reason: metav1.StatusReasonInternalError,
			Message: fmt.Sprintf("%s %q is not written: %v", resource, name, err),
		}}
	}
	return errors.NewServiceUnavailable(err.Error())
}

// inWords is a fault in the agent's words.
func inWords(fault *errors.StatusError, err error) error {
	fault.ErrStatus.Message = err.Error()
	return fault
}
