// Package credentials knows what gives access to images in registries: it reads the Secrets that Pods name in
// imagePullSecrets, and finds what of it is for an image, by the rules of Kubernetes. It is pure: it reads no file and asks
// no registry.
package credentials

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"

	"k8s.io/apimachinery/pkg/types"
)

// Secret says which Secret a credential is from. The zero value is none: the credential is the node's own.
type Secret struct {
	Namespace string
	Name      string
	UID       types.UID
}

// Credential is a name and a password for images of one registry, or of one path in it. It prints without the password.
type Credential struct {
	Registry string // host[:port][/path] without a scheme; parts of the host may be globs
	Username string
	Password string
	Secret   Secret
}

// OfNode says whether a credential is the node's own, so that what it gives access to is for all Pods.
func (c Credential) OfNode() bool { return c.Secret == Secret{} }

// Hash tells a name and a password from others, in hexadecimal digits. It says nothing of where they are from, nor what
// they are for. It is what the kubelet makes of them in its records (kubernetes/kubernetes
// pkg/credentialprovider/keyring.go).
func (c Credential) Hash() string {
	encoded, err := json.Marshal(struct {
		Username string `json:"username,omitempty"`
		Password string `json:"password,omitempty"`
	}{c.Username, c.Password})
	if err != nil {
		return "" // never: strings can be encoded
	}
	sum := sha256.Sum256(encoded)
	return hex.EncodeToString(sum[:])
}

// Format writes a credential without its password, whatever the verb: it cannot get into a log by accident.
func (c Credential) Format(f fmt.State, _ rune) {
	_, _ = fmt.Fprintf(f, "credential for %s", c.Registry)
	if !c.OfNode() {
		_, _ = fmt.Fprintf(f, " of secret %s/%s", c.Secret.Namespace, c.Secret.Name)
	}
}
