package agent

import (
	"fmt"
	"time"

	authentication "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/podkeeper/podkeeper/agent/inputs"
	"github.com/podkeeper/podkeeper/manifests"
	"github.com/podkeeper/podkeeper/pki/tokens"
	"github.com/podkeeper/podkeeper/server"
)

// provideForTokens has the namespaces be there, with their accounts, of the Pods in the manifest directory that ask for tokens. Where
// there is an API nobody need have asked it for anything yet.
func (a *Agent) provideForTokens() {
	if names := withTokens(a.sources.directory()); a.cfg.CA != nil && len(names) > 0 {
		a.provide(names)
	}
}

// withTokens are the namespaces of Pods that ask for tokens.
func withTokens(set manifests.Set) map[string]bool {
	names := map[string]bool{}
	for _, p := range set.Pods {
		for key := range inputs.References(p.Pod) {
			if key.Kind == manifests.KindServiceAccount {
				names[key.Namespace] = true
			}
		}
	}
	return names
}

// Token signs a token of a ServiceAccount, as an authentication.k8s.io/v1 TokenRequest asks, and answers that with it, as an API
// server does (kubernetes/kubernetes pkg/registry/core/serviceaccount/storage/token.go).
func (a *Agent) Token(account types.NamespacedName, body []byte) (*authentication.TokenRequest, error) {
	request, err := manifests.TokenRequest(body)
	if err != nil {
		return nil, server.As(server.ErrInvalid, err.Error())
	}
	holder, there := a.sources.object(manifests.Key{Kind: manifests.KindServiceAccount, NamespacedName: account})
	switch {
	case !there:
		return nil, server.As(server.ErrNoObject, fmt.Sprintf("serviceaccounts %q not found", account.Name))
	case request.Name != "" && request.Name != account.Name || request.Namespace != "" && request.Namespace != account.Namespace:
		return nil, server.As(server.ErrInvalid, "metadata: must match the service account's name and namespace if specified")
	case request.UID != "" && request.UID != holder.GetUID():
		return nil, server.As(server.ErrChanged, fmt.Sprintf("the UID in the token request (%s) does not match the UID of the service account (%s)", request.UID, holder.GetUID()))
	}
	t := tokens.Token{
		Namespace: account.Namespace, Account: tokens.Ref{Name: account.Name, UID: holder.GetUID()}, Audiences: request.Spec.Audiences,
	}
	if len(t.Audiences) == 0 {
		t.Audiences = []string{tokens.Issuer}
	}
	if err := a.bind(&t, request.Spec.BoundObjectRef); err != nil {
		return nil, err
	}
	answer := request.DeepCopy()
	answer.TypeMeta = metav1.TypeMeta{APIVersion: authentication.SchemeGroupVersion.String(), Kind: "TokenRequest"}
	answer.Name, answer.Namespace, answer.UID = account.Name, account.Namespace, holder.GetUID()
	answer.CreationTimestamp = metav1.NewTime(time.Now())
	answer.Spec.Audiences = t.Audiences
	signed, expires, err := a.node.SignToken(t, time.Duration(*request.Spec.ExpirationSeconds)*time.Second)
	answer.Status = authentication.TokenRequestStatus{Token: signed, ExpirationTimestamp: metav1.NewTime(expires)}
	return answer, err
}

// bind has a token end with the object that is named. What that is bound to a Pod says its node, too.
func (a *Agent) bind(t *tokens.Token, to *authentication.BoundObjectReference) error {
	if to == nil {
		return nil
	}
	kind := schema.FromAPIVersionAndKind(to.APIVersion, to.Kind)
	name := types.NamespacedName{Namespace: t.Namespace, Name: to.Name}
	ref := &tokens.Ref{Name: to.Name}
	switch kind.GroupKind() {
	case schema.GroupKind{Kind: manifests.KindPod}:
		w := a.named(name)
		if w == nil || w.published.Load() == nil {
			return server.As(server.ErrNoPod, fmt.Sprintf("pods %q not found", to.Name))
		}
		pod := w.published.Load()
		if inputs.AccountOf(pod) != t.Account.Name {
			return server.BadRequest(fmt.Sprintf("cannot bind token for serviceaccount %q to pod running with different serviceaccount name.", t.Account.Name))
		}
		ref.UID, t.Pod, t.Node = pod.UID, ref, a.nodeRef()
	case schema.GroupKind{Kind: manifests.KindSecret}:
		secret, there := a.sources.object(manifests.Key{Kind: manifests.KindSecret, NamespacedName: name})
		if !there {
			return server.As(server.ErrNoObject, fmt.Sprintf("secrets %q not found", to.Name))
		}
		ref.UID, t.Secret = secret.GetUID(), ref
	case schema.GroupKind{Kind: manifests.KindNode}:
		if ref = a.nodeRef(); ref.Name != to.Name {
			return server.As(server.ErrNoObject, fmt.Sprintf("nodes %q not found", to.Name))
		}
		t.Node = ref
	default:
		return server.BadRequest("cannot bind token to object of type " + kind.String())
	}
	if to.UID != "" && to.UID != ref.UID {
		return server.As(server.ErrChanged, fmt.Sprintf("the UID in the bound object reference (%s) does not match the UID in record. The object might have been deleted and then recreated", to.UID))
	}
	return nil
}

// nodeRef is this node, with the UID of its object where there is one.
func (a *Agent) nodeRef() *tokens.Ref {
	ref := &tokens.Ref{Name: a.node.Name}
	if o, there := a.sources.object(manifests.Key{Kind: manifests.KindNode, NamespacedName: types.NamespacedName{Name: a.node.Name}}); there {
		ref.UID = o.GetUID()
	}
	return ref
}
