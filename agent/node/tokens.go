package node

import (
	"cmp"
	"crypto/ecdsa"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/uuid"

	"github.com/podkeeper/podkeeper/agent/inputs"
	"github.com/podkeeper/podkeeper/pki/tokens"
)

// errNoTokenKey is why there are no tokens where there is no API.
var errNoTokenKey = errors.New("there are no tokens of service accounts here: only an agent with --api-address signs them")

// tokenKey is the key that signs tokens, as it is now: it is made along with what else an API needs.
func (n *Node) tokenKey() (*ecdsa.PrivateKey, error) {
	pem, err := os.ReadFile(n.TokenKey)
	switch {
	case n.TokenKey == "" || errors.Is(err, fs.ErrNotExist):
		return nil, errNoTokenKey
	case err != nil:
		return nil, fmt.Errorf("read key of tokens: %w", err)
	}
	return tokens.PrivateKey(pem)
}

// SignToken signs a token that is valid for some time from now.
func (n *Node) SignToken(t tokens.Token, life time.Duration) (signed string, expires time.Time, err error) {
	key, err := n.tokenKey()
	if err != nil {
		return "", expires, err
	}
	t.ID, t.Issued = string(uuid.NewUUID()), time.Now()
	t.Expires = t.Issued.Add(life)
	signed, err = tokens.Sign(t, key)
	return signed, t.Expires, err
}

// podToken signs what a volume of a Pod asks for: a token that ends with the Pod.
func (n *Node) podToken(pod *v1.Pod, from *v1.ServiceAccountTokenProjection, account *v1.ServiceAccount) (string, error) {
	if _, err := n.tokenKey(); err != nil {
		return "", err // this first: where there is no API nobody makes accounts
	}
	if account == nil {
		return "", fmt.Errorf("serviceaccount %q not found", inputs.AccountOf(pod))
	}
	signed, _, err := n.SignToken(tokens.Token{
		Namespace: pod.Namespace, Account: tokens.Ref{Name: account.Name, UID: account.UID}, Audiences: []string{cmp.Or(from.Audience, tokens.Issuer)},
		Pod: &tokens.Ref{Name: pod.Name, UID: pod.UID}, Node: &tokens.Ref{Name: n.Name},
	}, inputs.Life(from))
	return signed, err
}
