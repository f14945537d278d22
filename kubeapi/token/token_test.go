package token

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	goerrors "errors"
	"reflect"
	"slices"
	"strings"
	"testing"
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

	"github.com/podkeeper/podkeeper/pki/tokens"
	"github.com/podkeeper/podkeeper/server"
)

var noon = time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)

// there are the objects of shop and the node, by resource/name.
func there() map[string]runtime.Object {
	m := func(name string, uid types.UID) metav1.ObjectMeta {
		return metav1.ObjectMeta{Namespace: "shop", Name: name, UID: uid}
	}
	return map[string]runtime.Object{
		"serviceaccounts/builder": &v1.ServiceAccount{ObjectMeta: m("builder", "a-1")}, "pods/web": &v1.Pod{ObjectMeta: m("web", "p-1")},
		"secrets/old": &v1.Secret{ObjectMeta: m("old", "s-1")}, "nodes/n1": &v1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1", UID: "n-1"}},
	}
}

// reviewed asks about a token, with objects.
func reviewed(t *testing.T, of tokens.Token, objects map[string]runtime.Object, audiences ...string) authentication.TokenReviewStatus {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := tokens.Sign(of, key)
	if err != nil {
		t.Fatal(err)
	}
	c := Config{
		Key: func() (*ecdsa.PublicKey, error) { return &key.PublicKey, nil }, Now: func() time.Time { return noon },
		Object: func(resource string, name types.NamespacedName) (runtime.Object, error) {
			if o := objects[resource+"/"+name.Name]; o != nil && (name.Namespace == "shop") != (resource == "nodes") {
				return o, nil
			}
			return nil, errors.NewNotFound(schema.GroupResource{Resource: resource}, name.Name)
		},
	}
	review := &authentication.TokenReview{Spec: authentication.TokenReviewSpec{Token: signed, Audiences: audiences}}
	review.Status.Authenticated = true // which is not for who asks to say
	answer, err := Storages(c)[authentication.SchemeGroupVersion]["tokenreviews"].(rest.Creater).Create(t.Context(), review, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	return answer.(*authentication.TokenReview).Status
}

// valid is a token of the account.
func valid() tokens.Token {
	return tokens.Token{
		Namespace: "shop", Account: tokens.Ref{Name: "builder", UID: "a-1"}, Audiences: []string{"vault", tokens.Issuer}, ID: "t-1",
		Issued: noon.Add(-time.Hour), Expires: noon.Add(time.Hour),
	}
}

func TestWhoseATokenIs(t *testing.T) {
	t.Parallel()
	of := valid()
	of.Pod, of.Node = &tokens.Ref{Name: "web", UID: "p-1"}, &tokens.Ref{Name: "n1", UID: "n-1"}
	got := reviewed(t, of, there(), "x", "vault")
	want := authentication.TokenReviewStatus{Authenticated: true, Audiences: []string{"vault"}, User: authentication.UserInfo{
		Username: "system:serviceaccount:shop:builder", UID: "a-1", Groups: []string{"system:serviceaccounts", "system:serviceaccounts:shop"},
		Extra: map[string]authentication.ExtraValue{
			"authentication.kubernetes.io/credential-id": {"JTI=t-1"}, "authentication.kubernetes.io/pod-name": {"web"}, "authentication.kubernetes.io/pod-uid": {"p-1"},
			"authentication.kubernetes.io/node-name": {"n1"}, "authentication.kubernetes.io/node-uid": {"n-1"},
		},
	}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, want %+v", got, want)
	}
}

func TestWhatATokenIsWorth(t *testing.T) {
	t.Parallel()
	type change func(t *tokens.Token, objects map[string]runtime.Object)
	ending := func(o metav1.Object, since time.Duration) {
		at := metav1.NewTime(noon.Add(-since))
		o.SetDeletionTimestamp(&at)
	}
	const void = "service account token has been invalidated"
	for sentence, of := range map[string]struct {
		change   change
		audience string
		want     string // "" is taken
	}{
		"it is taken":                   {func(*tokens.Token, map[string]runtime.Object) {}, "", ""},
		"not for somebody else":         {func(*tokens.Token, map[string]runtime.Object) {}, "x", `token audiences ["vault" "` + tokens.Issuer + `"] is invalid for the target audiences ["x"]`},
		"nor for the API where another": {func(t *tokens.Token, _ map[string]runtime.Object) { t.Audiences = []string{"x"} }, "", `token audiences ["x"] is invalid for the target audiences ["` + tokens.Issuer + `"]`},
		"nor after its end":             {func(t *tokens.Token, _ map[string]runtime.Object) { t.Expires = noon.Add(-time.Hour) }, "", "service account token has expired"},
		"nor without its account":       {func(_ *tokens.Token, o map[string]runtime.Object) { delete(o, "serviceaccounts/builder") }, "", `serviceaccounts "builder" not found`},
		"nor with another one by its name": {func(_ *tokens.Token, o map[string]runtime.Object) {
			o["serviceaccounts/builder"].(*v1.ServiceAccount).UID = "a-2"
		}, "", "service account UID (a-2) does not match claim (a-1)"},
		"nor with one that ended": {func(_ *tokens.Token, o map[string]runtime.Object) {
			ending(o["serviceaccounts/builder"].(*v1.ServiceAccount), 2*time.Minute)
		}, "", "service account shop/builder has been deleted"},
		"but with one that ends just now": {func(_ *tokens.Token, o map[string]runtime.Object) {
			ending(o["serviceaccounts/builder"].(*v1.ServiceAccount), 30*time.Second)
		}, "", ""},
		"with its Pod":       {func(t *tokens.Token, _ map[string]runtime.Object) { t.Pod = &tokens.Ref{Name: "web", UID: "p-1"} }, "", ""},
		"not without it":     {func(t *tokens.Token, _ map[string]runtime.Object) { t.Pod = &tokens.Ref{Name: "gone", UID: "p-1"} }, "", void},
		"nor with another":   {func(t *tokens.Token, _ map[string]runtime.Object) { t.Pod = &tokens.Ref{Name: "web", UID: "p-0"} }, "", "pod UID (p-1) does not match service account pod ref claim (p-0)"},
		"with its Secret":    {func(t *tokens.Token, _ map[string]runtime.Object) { t.Secret = &tokens.Ref{Name: "old", UID: "s-1"} }, "", ""},
		"not without that":   {func(t *tokens.Token, _ map[string]runtime.Object) { t.Secret = &tokens.Ref{Name: "new", UID: "s-1"} }, "", void},
		"with its node":      {func(t *tokens.Token, _ map[string]runtime.Object) { t.Node = &tokens.Ref{Name: "n1", UID: "n-1"} }, "", ""},
		"not with another's": {func(t *tokens.Token, _ map[string]runtime.Object) { t.Node = &tokens.Ref{Name: "n1", UID: "n-0"} }, "", "node UID (n-1) does not match service account node ref claim (n-0)"},
		"that of a Pod need not be known": {func(t *tokens.Token, _ map[string]runtime.Object) {
			t.Pod, t.Node = &tokens.Ref{Name: "web", UID: "p-1"}, &tokens.Ref{Name: "n1"}
		}, "", ""},
	} {
		token, objects := valid(), there()
		of.change(&token, objects)
		got := reviewed(t, token, objects, slices.DeleteFunc([]string{of.audience}, func(s string) bool { return s == "" })...)
		if got.Error != of.want || got.Authenticated != (of.want == "") || (got.User.Username != "") != got.Authenticated {
			t.Errorf("%s: %+v, want %q", sentence, got, of.want)
		}
	}
}

func TestATokenIsNeeded(t *testing.T) {
	t.Parallel()
	create := func(key error, token string) error {
		c := Config{Key: func() (*ecdsa.PublicKey, error) { return nil, key }}
		_, err := (&reviews{c}).Create(t.Context(), &authentication.TokenReview{Spec: authentication.TokenReviewSpec{Token: token}}, nil, nil)
		return err
	}
	if err := create(nil, ""); !errors.IsBadRequest(err) {
		t.Errorf("without one: %v", err)
	}
	if err := create(goerrors.New("no key"), "x"); !errors.IsInternalError(err) {
		t.Errorf("without a key: %v", err)
	}
}

func TestRequestsArePassedOn(t *testing.T) {
	t.Parallel()
	create := func(fault error) (runtime.Object, error) {
		c := Config{Sign: func(_ context.Context, account types.NamespacedName, asked *authentication.TokenRequest) (*authentication.TokenRequest, error) {
			signed := asked.DeepCopy()
			signed.Kind, signed.Status.Token = "TokenRequest", account.String()
			return signed, fault
		}}
		ctx := request.WithNamespace(t.Context(), "shop")
		of := Storages(c)[v1.SchemeGroupVersion]["serviceaccounts/token"].(rest.NamedCreater)
		return of.Create(ctx, "builder", &authentication.TokenRequest{}, rest.ValidateAllObjectFunc, nil)
	}
	got, err := create(nil)
	if err != nil || got.(*authentication.TokenRequest).Status.Token != "shop/builder" || got.(*authentication.TokenRequest).Kind != "" {
		t.Errorf("%+v, %v", got, err)
	}
	for sentence, of := range map[string]struct {
		kind error
		is   func(error) bool
	}{
		"no account": {server.ErrNoObject, errors.IsNotFound}, "no Pod": {server.ErrNoPod, errors.IsNotFound}, "another UID": {server.ErrChanged, errors.IsConflict},
		"a wrong time": {server.ErrInvalid, errors.IsInvalid}, "a wrong kind": {server.ErrBadRequest, errors.IsBadRequest}, "no agent": {goerrors.New("gone"), errors.IsServiceUnavailable},
	} {
		_, err := create(server.As(of.kind, "in its words"))
		if !of.is(err) || !strings.Contains(err.Error(), "in its words") {
			t.Errorf("%s: %v", sentence, err)
		}
	}
}
