// Package token has tokens of service accounts be asked for, and says what they are worth.
//
//	serviceaccounts/token ─▶ Agent      which signs
//	tokenreviews ─▶ tokens.Read ─▶ mirror   is what the token is for still there?
//
// It must not know how tokens are signed, nor what somebody may do who has one.
package token

import (
	"context"
	"crypto/ecdsa"
	goerrors "errors"
	"time"

	authentication "k8s.io/api/authentication/v1"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/registry/rest"

	"github.com/podkeeper/podkeeper/server"
)

// Config is what tokens depend on.
type Config struct {
	Sign   func(ctx context.Context, account types.NamespacedName, request *authentication.TokenRequest) (*authentication.TokenRequest, error) // server.Client's
	Key    func() (*ecdsa.PublicKey, error)                                                                                                    // that tokens are signed with, as it is now
	Object func(resource string, name types.NamespacedName) (runtime.Object, error)                                                            // the error is one of Kubernetes' API: not found
	Now    func() time.Time
}

// Storages answers the storages, by group version and resource or resource/subresource.
func Storages(c Config) map[schema.GroupVersion]map[string]rest.Storage {
	return map[schema.GroupVersion]map[string]rest.Storage{
		v1.SchemeGroupVersion:             {"serviceaccounts/token": &requests{c}},
		authentication.SchemeGroupVersion: {"tokenreviews": &reviews{c}},
	}
}

// requests are asked of a service account.
type requests struct{ Config }

// New is an empty request.
func (r *requests) New() runtime.Object { return &authentication.TokenRequest{} }

// Destroy lets go of nothing.
func (r *requests) Destroy() {}

// PreserveRequestObjectMetaSystemFieldsOnSubresourceCreate has a UID stay, which says what account is meant.
func (r *requests) PreserveRequestObjectMetaSystemFieldsOnSubresourceCreate() bool { return true }

// Create has a token be signed.
func (r *requests) Create(ctx context.Context, name string, o runtime.Object, validate rest.ValidateObjectFunc, _ *metav1.CreateOptions) (runtime.Object, error) {
	asked, ok := o.(*authentication.TokenRequest)
	if !ok {
		return nil, errors.NewBadRequest("it is no TokenRequest")
	}
	if validate != nil {
		if err := validate(ctx, asked.DeepCopy()); err != nil {
			return nil, err
		}
	}
	signed, err := r.Sign(ctx, types.NamespacedName{Namespace: request.NamespaceValue(ctx), Name: name}, asked)
	if err != nil {
		return nil, fault(err, name)
	}
	signed.TypeMeta = metav1.TypeMeta{} // as within the handlers
	return signed, nil
}

// fault is what the agent says, as Kubernetes' API says it.
func fault(err error, name string) error {
	said := (*errors.StatusError)(nil)
	switch accounts := (schema.GroupResource{Resource: "serviceaccounts"}); {
	case goerrors.Is(err, server.ErrNoObject), goerrors.Is(err, server.ErrNoPod):
		said = errors.NewNotFound(accounts, name)
	case goerrors.Is(err, server.ErrChanged):
		said = errors.NewConflict(accounts, name, err)
	case goerrors.Is(err, server.ErrInvalid):
		said = errors.NewInvalid(authentication.SchemeGroupVersion.WithKind("TokenRequest").GroupKind(), name, nil)
	case goerrors.Is(err, server.ErrBadRequest):
		said = errors.NewBadRequest(err.Error())
	default:
		return errors.NewServiceUnavailable(err.Error())
	}
	said.ErrStatus.Message = err.Error() // which may be about what the token is bound to
	return said
}
