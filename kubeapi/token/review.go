package token

import (
	"context"
	goerrors "errors"
	"fmt"
	"slices"
	"time"

	authentication "k8s.io/api/authentication/v1"
	"k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apiserver/pkg/authentication/serviceaccount"
	"k8s.io/apiserver/pkg/registry/rest"

	"github.com/podkeeper/podkeeper/pki/tokens"
)

// reviews are questions about tokens. They are answered, and not kept.
type reviews struct{ Config }

// New is an empty question.
func (r *reviews) New() runtime.Object { return &authentication.TokenReview{} }

// Destroy lets go of nothing.
func (r *reviews) Destroy() {}

// NamespaceScoped says that it is asked in no namespace.
func (r *reviews) NamespaceScoped() bool { return false }

// GetSingularName is what one of them is called.
func (r *reviews) GetSingularName() string { return "tokenreview" }

// Create says whose a token is, or why it is nobody's.
func (r *reviews) Create(ctx context.Context, o runtime.Object, validate rest.ValidateObjectFunc, _ *metav1.CreateOptions) (runtime.Object, error) {
	review, ok := o.(*authentication.TokenReview)
	if !ok {
		return nil, errors.NewBadRequest("it is no TokenReview")
	}
	if review.Spec.Token == "" {
		return nil, errors.NewBadRequest("token is required for TokenReview in authentication")
	}
	if validate != nil {
		if err := validate(ctx, o.DeepCopyObject()); err != nil {
			return nil, err
		}
	}
	key, err := r.Key()
	if err != nil {
		return nil, errors.NewInternalError(err)
	}
	review.Status = authentication.TokenReviewStatus{}
	t, err := tokens.Read(review.Spec.Token, key, r.Now())
	if err == nil {
		review.Status.Audiences, err = meant(t, review.Spec.Audiences)
	}
	if err == nil {
		err = r.stands(t)
	}
	if err != nil {
		review.Status = authentication.TokenReviewStatus{Error: err.Error()}
		return review, nil
	}
	review.Status.Authenticated, review.Status.User = true, userOf(t)
	return review, nil
}

// meant are the audiences of a token among those that are asked for, or the API where none is.
func meant(t tokens.Token, asked []string) (common []string, err error) {
	if len(asked) == 0 {
		asked = []string{tokens.Issuer}
	}
	for _, audience := range t.Audiences {
		if slices.Contains(asked, audience) {
			common = append(common, audience)
		}
	}
	if len(common) == 0 {
		return nil, fmt.Errorf("token audiences %q is invalid for the target audiences %q", t.Audiences, asked)
	}
	return common, nil
}

// stands says why a token is void though it is valid in itself: what it is for is gone, or ends for longer than clocks differ
// (kubernetes/kubernetes pkg/serviceaccount/claims.go).
func (r *reviews) stands(t tokens.Token) error {
	account, err := r.metadata("serviceaccounts", t.Namespace, t.Account.Name)
	switch {
	case err != nil:
		return err
	case account.GetUID() != t.Account.UID:
		return fmt.Errorf("service account UID (%s) does not match claim (%s)", account.GetUID(), t.Account.UID)
	case r.ended(account):
		return fmt.Errorf("service account %s/%s has been deleted", t.Namespace, t.Account.Name)
	}
	node := t.Node
	if t.Pod != nil {
		node = nil // of the Pod
	}
	return goerrors.Join(
		r.bound("secret", t.Namespace, t.Secret), r.bound("pod", t.Namespace, t.Pod), r.bound("node", "", node),
	)
}

// bound says why what a token is bound to is not there, if it is bound.
func (r *reviews) bound(kind, namespace string, to *tokens.Ref) error {
	if to == nil {
		return nil
	}
	m, err := r.metadata(kind+"s", namespace, to.Name)
	switch {
	case err == nil && m.GetUID() != to.UID:
		return fmt.Errorf("%s UID (%s) does not match service account %s ref claim (%s)", kind, m.GetUID(), kind, to.UID)
	case err != nil, r.ended(m):
		return goerrors.New("service account token has been invalidated")
	}
	return nil
}

func (r *reviews) metadata(resource, namespace, name string) (metav1.Object, error) {
	o, err := r.Object(resource, types.NamespacedName{Namespace: namespace, Name: name})
	if err != nil {
		return nil, err
	}
	return meta.Accessor(o)
}

func (r *reviews) ended(m metav1.Object) bool {
	at := m.GetDeletionTimestamp()
	return at != nil && at.Add(leeway).Before(r.Now())
}

// leeway is by how much clocks may differ.
const leeway = time.Minute

// userOf is who a token's holder is.
func userOf(t tokens.Token) authentication.UserInfo {
	account := serviceaccount.ServiceAccountInfo{
		Namespace: t.Namespace, Name: t.Account.Name, UID: string(t.Account.UID), CredentialID: "JTI=" + t.ID,
	}
	if t.Pod != nil {
		account.PodName, account.PodUID = t.Pod.Name, string(t.Pod.UID)
	}
	if t.Node != nil {
		account.NodeName, account.NodeUID = t.Node.Name, string(t.Node.UID)
	}
	who := account.UserInfo()
	user := authentication.UserInfo{Username: who.GetName(), UID: who.GetUID(), Groups: who.GetGroups(), Extra: map[string]authentication.ExtraValue{}}
	for name, values := range who.GetExtra() {
		user.Extra[name] = values
	}
	return user
}
