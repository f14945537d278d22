package agent

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/keyutil"
	"k8s.io/utils/ptr"

	"github.com/podkeeper/podkeeper/manifests"
	"github.com/podkeeper/podkeeper/pki/tokens"
	"github.com/podkeeper/podkeeper/server"
)

// signs is an agent with a key, the account shop/builder, and the Pod shop/web of it.
func signs(t *testing.T) *Agent {
	t.Helper()
	pem, err := keyutil.MakeEllipticPrivateKeyPEM()
	if err != nil {
		t.Fatal(err)
	}
	a := follows(t)
	a.node.TokenKey = filepath.Join(t.TempDir(), "sa.key")
	if err := os.WriteFile(a.node.TokenKey, pem, 0o600); err != nil {
		t.Fatal(err)
	}
	kept := func(kind string, o metav1.Object, uid types.UID) manifests.Object {
		o.SetNamespace("shop")
		o.SetUID(uid)
		return manifests.Object{Object: o, Kind: kind}
	}
	a.sources.tell(SourceAPI, manifests.Set{Objects: []manifests.Object{
		kept(manifests.KindServiceAccount, &v1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "builder"}}, "a-1"),
		kept(manifests.KindSecret, &v1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "old"}}, "s-1"),
	}})
	a.sources.tell(SourceDirectory, manifests.Set{})
	w := newWorker(types.NamespacedName{Namespace: "shop", Name: "web"}, a.surroundings)
	w.published.Store(&v1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web", UID: "p-1"}, Spec: v1.PodSpec{ServiceAccountName: "builder"}})
	a.enlist(w)
	return a
}

func TestTokensAreSigned(t *testing.T) {
	t.Parallel()
	a := signs(t)
	pem, err := os.ReadFile(a.node.TokenKey)
	if err != nil {
		t.Fatal(err)
	}
	key, err := tokens.PrivateKey(pem)
	if err != nil {
		t.Fatal(err)
	}
	account := types.NamespacedName{Namespace: "shop", Name: "builder"}
	for sentence, of := range map[string]struct {
		body string
		want tokens.Token
		life time.Duration
	}{
		"for the API, for an hour":    {`{}`, tokens.Token{Audiences: []string{tokens.Issuer}}, time.Hour},
		"for somebody, for some time": {`{"spec": {"audiences": ["vault", "x"], "expirationSeconds": 600}}`, tokens.Token{Audiences: []string{"vault", "x"}}, 10 * time.Minute},
		"bound to a Pod, on its node": {
			`{"spec": {"boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": "web", "uid": "p-1"}}}`,
			tokens.Token{Audiences: []string{tokens.Issuer}, Pod: &tokens.Ref{Name: "web", UID: "p-1"}, Node: &tokens.Ref{Name: "here"}}, time.Hour,
		},
		"bound to a Secret": {
			`{"spec": {"boundObjectRef": {"apiVersion": "v1", "kind": "Secret", "name": "old"}}}`,
			tokens.Token{Audiences: []string{tokens.Issuer}, Secret: &tokens.Ref{Name: "old", UID: "s-1"}}, time.Hour,
		},
		"bound to the node": {
			`{"spec": {"boundObjectRef": {"apiVersion": "v1", "kind": "Node", "name": "here"}}}`,
			tokens.Token{Audiences: []string{tokens.Issuer}, Node: &tokens.Ref{Name: "here"}}, time.Hour,
		},
	} {
		answer, err := a.Token(account, []byte(of.body))
		if err != nil {
			t.Errorf("%s: %v", sentence, err)
			continue
		}
		got, err := tokens.Read(answer.Status.Token, &key.PublicKey, time.Now())
		if err != nil {
			t.Errorf("%s: %v", sentence, err)
			continue
		}
		same := ptr.Equal[tokens.Ref]
		if got.Namespace != "shop" || got.Account != (tokens.Ref{Name: "builder", UID: "a-1"}) || !slices.Equal(got.Audiences, of.want.Audiences) ||
			!same(got.Pod, of.want.Pod) || !same(got.Secret, of.want.Secret) || !same(got.Node, of.want.Node) || got.Expires.Sub(got.Issued) != of.life || got.ID == "" {
			t.Errorf("%s: %+v", sentence, got)
		}
		if answer.Kind != "TokenRequest" || answer.Name != "builder" || answer.UID != "a-1" || answer.Status.ExpirationTimestamp.Unix() != got.Expires.Unix() {
			t.Errorf("%s: it is answered with %+v", sentence, answer)
		}
	}
}

func TestTokensThatAreNotSigned(t *testing.T) {
	t.Parallel()
	a := signs(t)
	for sentence, of := range map[string]struct {
		account, body string
		kind          error
		words         string
	}{
		"of an account that there is not": {"none", `{}`, server.ErrNoObject, `serviceaccounts "none" not found`},
		"of one of another UID":           {"builder", `{"metadata": {"uid": "a-2"}}`, server.ErrChanged, "does not match the UID of the service account"},
		"of one of another name":          {"builder", `{"metadata": {"name": "other"}}`, server.ErrInvalid, "must match the service account's name"},
		"for too short a time":            {"builder", `{"spec": {"expirationSeconds": 5}}`, server.ErrInvalid, "10 minutes"},
		"for a Pod that there is not": {
			"builder", `{"spec": {"boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": "none"}}}`, server.ErrNoPod, `pods "none" not found`,
		},
		"for an instance of a Pod that is gone": {
			"builder", `{"spec": {"boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": "web", "uid": "p-0"}}}`, server.ErrChanged, "might have been deleted and then recreated",
		},
		"for a kind that nothing can be bound to": {
			"builder", `{"spec": {"boundObjectRef": {"apiVersion": "v1", "kind": "ConfigMap", "name": "x"}}}`, server.ErrBadRequest, "cannot bind token to object of type /v1, Kind=ConfigMap",
		},
		"for another node": {
			"builder", `{"spec": {"boundObjectRef": {"apiVersion": "v1", "kind": "Node", "name": "there"}}}`, server.ErrNoObject, `nodes "there" not found`,
		},
	} {
		_, err := a.Token(types.NamespacedName{Namespace: "shop", Name: of.account}, []byte(of.body))
		if !errors.Is(err, of.kind) || !strings.Contains(err.Error(), of.words) {
			t.Errorf("%s: %v", sentence, err)
		}
	}
	a.all()[0].published.Store(&v1.Pod{ObjectMeta: metav1.ObjectMeta{UID: "p-1"}})
	body := []byte(`{"spec": {"boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": "web"}}}`)
	if _, err := a.Token(types.NamespacedName{Namespace: "shop", Name: "builder"}, body); !errors.Is(err, server.ErrBadRequest) {
		t.Errorf("for a Pod of another account: %v", err)
	}
	a.node.TokenKey = ""
	if answer, err := a.Token(types.NamespacedName{Namespace: "shop", Name: "builder"}, []byte(`{}`)); err == nil || !strings.Contains(err.Error(), "--api-address") {
		t.Errorf("without a key: %v, %v", answer, err)
	}
}

func TestAccountsAreThereForPodsThatAskForTokens(t *testing.T) {
	t.Parallel()
	pod := func(namespace string, automount bool) manifests.Pod {
		p := &v1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "web"}}
		p.Spec.Containers, p.Spec.AutomountServiceAccountToken = []v1.Container{{Name: "app"}}, &automount
		manifests.Default(p)
		return manifests.Pod{Pod: p}
	}
	if got := withTokens(manifests.Set{Pods: []manifests.Pod{pod("shop", true), pod("back", false)}}); !maps.Equal(got, map[string]bool{"shop": true}) {
		t.Errorf("in %v", got)
	}
}

func TestTokensInVolumesAreRenewed(t *testing.T) {
	inBubble(t, func(a *agency) {
		p := a.labelled("1")
		p.Spec.Volumes = append(p.Spec.Volumes, v1.Volume{Name: "tokens", VolumeSource: v1.VolumeSource{Projected: &v1.ProjectedVolumeSource{
			Sources: []v1.VolumeProjection{{ServiceAccountToken: &v1.ServiceAccountTokenProjection{Path: "token", ExpirationSeconds: ptr.To[int64](600)}}},
		}}})
		a.offer(p, said()) // without its account: what is asked for a token is another's
		a.pass(479)
		a.expect("refresh") // they are made with the sandbox
		a.pass(490)
		a.expect("refresh", "480 refresh 1")
		a.pass(1000)
		a.expect("refresh", "480 refresh 1", "960 refresh 1")

		a.succeed() // the next agent does not know how old they are
		a.offer(p, said())
		a.pass(1010)
		a.expect("refresh", "480 refresh 1", "960 refresh 1", "1000 refresh 1")
		a.pass(1490)
		a.expect("refresh", "480 refresh 1", "960 refresh 1", "1000 refresh 1", "1480 refresh 1")
		a.w.want(nil)
		a.pass(2000)
		a.expect("refresh", "480 refresh 1", "960 refresh 1", "1000 refresh 1", "1480 refresh 1")
	})
}
