package main

import (
	"context"
	"crypto/ecdsa"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	authentication "k8s.io/api/authentication/v1"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/keyutil"
	"k8s.io/utils/ptr"

	"github.com/podkeeper/podkeeper/pki/tokens"
	"github.com/podkeeper/podkeeper/server"
)

// key gives the node a key for tokens, as an API would, and answers its public half.
func (n *node) key() *ecdsa.PublicKey {
	n.t.Helper()
	pem, err := keyutil.MakeEllipticPrivateKeyPEM()
	if err != nil {
		n.t.Fatal(err)
	}
	key, err := tokens.PrivateKey(pem)
	if err != nil {
		n.t.Fatal(err)
	}
	if err := errors.Join(os.MkdirAll(n.path("root", "pki"), 0o700), os.WriteFile(n.path("root", "pki", "sa.key"), pem, 0o600)); err != nil {
		n.t.Fatal(err)
	}
	return &key.PublicKey
}

// TestTokens has a container read what it was given to show who it is: its user alone may, with its group, and what is said there
// is true. Before there is a key the Pod waits, and says for what; after an agent's end its tokens are renewed.
func TestTokens(t *testing.T) {
	t.Parallel()
	n := launch(t)
	n.apply("token.yaml", fmt.Sprintf(`apiVersion: v1
kind: Pod
metadata: {name: token}
spec:
  terminationGracePeriodSeconds: 1
  serviceAccountName: builder
  automountServiceAccountToken: true
  securityContext: {runAsUser: 1001, runAsGroup: 2000, fsGroup: 3000}
  containers:
  - name: app
    image: %s
    command: [/bin/sh, -c]
    args:
    - |
      cd /var/run/secrets/kubernetes.io/serviceaccount
      echo own $(cat token)
      echo vault $(cat /vault/token)
      echo $(cat namespace) $(cat ca.crt) $(stat -L -c %%a:%%u:%%g token)
      sleep 1000
    volumeMounts: [{name: vault, mountPath: /vault}]
  volumes:
  - name: vault
    projected: {sources: [{serviceAccountToken: {path: token, audience: vault, expirationSeconds: 600}}]}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: builder, uid: a-1}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: kube-root-ca.crt}
data: {ca.crt: the CA}
`, image))
	n.await("token", "waits for an API", func(p *v1.Pod) bool {
		return p.Status.Reason == "FailedMount" && strings.Contains(p.Status.Message, "only an agent with --api-address")
	})
	key := n.key()
	pod := n.awaitReady("token")
	n.says(pod, "app", "default the CA 640:1001:3000")
	said := map[string]tokens.Token{}
	for _, line := range n.logLines(pod, "app", 0) {
		whose, signed, _ := strings.Cut(line, " ")
		if token, err := tokens.Read(signed, key, time.Now()); err == nil {
			said[whose] = token
		}
	}
	for whose, want := range map[string]struct {
		audience string
		life     time.Duration
	}{"own": {tokens.Issuer, 3607 * time.Second}, "vault": {"vault", 10 * time.Minute}} {
		got := said[whose]
		if got.Account != (tokens.Ref{Name: "builder", UID: "a-1"}) || !ptr.Equal(got.Pod, &tokens.Ref{Name: "token", UID: pod.UID}) || got.Node.Name != "testnode" ||
			!slices.Equal(got.Audiences, []string{want.audience}) || got.Expires.Sub(got.Issued) != want.life {
			encoded, _ := json.Marshal(got)
			t.Errorf("%s says %s", whose, encoded)
		}
	}
	request := &authentication.TokenRequest{Spec: authentication.TokenRequestSpec{
		BoundObjectRef: &authentication.BoundObjectReference{APIVersion: "v1", Kind: "Pod", Name: "token", UID: pod.UID},
	}}
	answer, err := n.client().Token(context.Background(), types.NamespacedName{Namespace: "default", Name: "builder"}, request)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := tokens.Read(answer.Status.Token, key, time.Now()); err != nil || !ptr.Equal(got.Pod, &tokens.Ref{Name: "token", UID: pod.UID}) {
		t.Errorf("the one that is asked for says %+v: %v", got, err)
	}
	file := fmt.Sprintf("/proc/%d/root/vault/token", n.pid(pod, "app"))
	before, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	n.kill()
	n.restart()
	n.eventually("the next agent, which does not know how old tokens are, renews them", func() error {
		now, err := os.ReadFile(file)
		if err == nil && string(now) == string(before) {
			err = errors.New("it is as it was")
		}
		if err != nil {
			return err
		}
		_, err = tokens.Read(string(now), key, time.Now())
		return err
	})
	if _, err := n.client().Token(context.Background(), types.NamespacedName{Namespace: "default", Name: "none"}, request); !errors.Is(err, server.ErrNoObject) {
		t.Errorf("of no account: %v", err)
	}
}
