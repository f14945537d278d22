// Package tokens is the room of service accounts' tokens: JWTs as Kubernetes makes them (kubernetes/kubernetes
// pkg/serviceaccount), signed with the node's key and read again with its public half. It is pure: keys and the time are given
// to it. It must not know which service accounts there are, nor who asks.
package tokens

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/keyutil"
)

// Issuer is who the node's tokens are from, and the audience of those that name none: what kubeadm gives to API servers. It is
// not taken from the configuration, for another one would make all tokens void.
const Issuer = "https://kubernetes.default.svc.cluster.local"

// Token is what a token says.
type Token struct {
	Namespace string
	Account   Ref  // the service account whose name is the subject
	Pod       *Ref // the token ends with it, as with the next ones; nil for none
	Node      *Ref // of the Pod, or on its own
	Secret    *Ref
	Audiences []string
	ID        string // another one for each token
	Issued    time.Time
	Expires   time.Time
}

// Ref is one object.
type Ref struct {
	Name string    `json:"name,omitempty"`
	UID  types.UID `json:"uid,omitempty"`
}

// bound is the claim that is Kubernetes' own.
type bound struct {
	Kubernetes struct {
		Namespace string `json:"namespace,omitempty"`
		Account   Ref    `json:"serviceaccount,omitempty"`
		Pod       *Ref   `json:"pod,omitempty"`
		Secret    *Ref   `json:"secret,omitempty"`
		Node      *Ref   `json:"node,omitempty"`
	} `json:"kubernetes.io"`
}

// Subject is a service account as a user.
func Subject(namespace, name string) string { return "system:serviceaccount:" + namespace + ":" + name }

// Sign writes a token.
func Sign(t Token, key *ecdsa.PrivateKey) (string, error) {
	id, err := keyID(&key.PublicKey)
	if err != nil {
		return "", err
	}
	signer, err := jose.NewSigner(jose.SigningKey{
		Algorithm: jose.ES256, Key: jose.JSONWebKey{Algorithm: string(jose.ES256), Key: key, KeyID: id, Use: "sig"},
	}, nil)
	if err != nil {
		return "", fmt.Errorf("sign token: %w", err)
	}
	own := bound{}
	own.Kubernetes.Namespace, own.Kubernetes.Account = t.Namespace, t.Account
	own.Kubernetes.Pod, own.Kubernetes.Secret, own.Kubernetes.Node = t.Pod, t.Secret, t.Node
	signed, err := jwt.Signed(signer).Claims(own).Claims(jwt.Claims{
		Issuer: Issuer, Subject: Subject(t.Namespace, t.Account.Name), ID: t.ID,
		IssuedAt: jwt.NewNumericDate(t.Issued), NotBefore: jwt.NewNumericDate(t.Issued), Expiry: jwt.NewNumericDate(t.Expires),
	}).Claims(map[string]any{"aud": t.Audiences}).Serialize() // a list even of one, as readers of Kubernetes' tokens know it
	if err != nil {
		return "", fmt.Errorf("sign token: %w", err)
	}
	return signed, nil
}

// keyID names a key, as Kubernetes does.
func keyID(key *ecdsa.PublicKey) (string, error) {
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return "", fmt.Errorf("encode key of tokens: %w", err)
	}
	sum := sha256.Sum256(der)
	return base64.RawURLEncoding.EncodeToString(sum[:]), nil
}

// ErrForeign is what is no token of the node's, in Kubernetes' words.
var ErrForeign = errors.New("invalid bearer token")

// Read answers what a token says that is valid now. The error says why it is none, in Kubernetes' words; ErrForeign says that it is
// none of this node. What it is for, and whether that is still there, is the caller's to ask.
func Read(signed string, key *ecdsa.PublicKey, now time.Time) (Token, error) {
	parsed, err := jwt.ParseSigned(signed, []jose.SignatureAlgorithm{jose.ES256})
	if err != nil {
		return Token{}, ErrForeign
	}
	said, own := jwt.Claims{}, bound{}
	if err := parsed.UnsafeClaimsWithoutVerification(&said); err != nil || said.Issuer != Issuer {
		return Token{}, ErrForeign
	}
	if err := parsed.Claims(key, &said, &own); err != nil {
		return Token{}, fmt.Errorf("invalid signature: %w", err)
	}
	if said.IssuedAt == nil || said.NotBefore == nil || said.Expiry == nil {
		return Token{}, ErrForeign
	}
	switch err := said.Validate(jwt.Expected{Time: now}); {
	case errors.Is(err, jwt.ErrExpired):
		return Token{}, errors.New("service account token has expired")
	case errors.Is(err, jwt.ErrNotValidYet):
		return Token{}, errors.New("service account token is not valid yet")
	case err != nil:
		return Token{}, errors.New("service account token is issued in the future")
	}
	return Token{
		Namespace: own.Kubernetes.Namespace, Account: own.Kubernetes.Account, Pod: own.Kubernetes.Pod, Node: own.Kubernetes.Node,
		Secret: own.Kubernetes.Secret, Audiences: said.Audience, ID: said.ID, Issued: said.IssuedAt.Time(), Expires: said.Expiry.Time(),
	}, nil
}

// PrivateKey reads the key that signs, in PEM.
func PrivateKey(pem []byte) (*ecdsa.PrivateKey, error) {
	read, err := keyutil.ParsePrivateKeyPEM(pem)
	if err != nil {
		return nil, fmt.Errorf("read key of tokens: %w", err)
	}
	key, ok := read.(*ecdsa.PrivateKey)
	if !ok || key.Curve != elliptic.P256() {
		return nil, errors.New("read key of tokens: it is none on the curve P-256")
	}
	return key, nil
}

// PublicKey reads its public half, in PEM.
func PublicKey(pem []byte) (*ecdsa.PublicKey, error) {
	read, err := keyutil.ParsePublicKeysPEM(pem)
	if err != nil {
		return nil, fmt.Errorf("read public key of tokens: %w", err)
	}
	key, ok := read[0].(*ecdsa.PublicKey) // there is one
	if !ok || key.Curve != elliptic.P256() {
		return nil, errors.New("read public key of tokens: it is none on the curve P-256")
	}
	return key, nil
}
