package pki

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/util/validation"
)

// Rights are what a person may do, as the organization of a client certificate: a group to Kubernetes. [RightsIn] makes
// those of less than everything.
type Rights string

// Everything is the right to do everything.
const Everything Rights = "system:masters"

// RightsIn are the rights to do everything in a namespace (podkeeper:admin:<namespace>), to read it (podkeeper:view:<namespace>)
// or, without a namespace, to read everything (podkeeper:view) or do it. Who may only read sees no Secrets.
func RightsIn(namespace string, readOnly bool) (Rights, error) {
	kind := "podkeeper:admin"
	switch {
	case namespace == "" && !readOnly:
		return Everything, nil
	case readOnly:
		kind = "podkeeper:view"
	}
	if namespace != "" {
		if faults := validation.IsDNS1123Label(namespace); len(faults) > 0 {
			return "", fmt.Errorf("namespace %q: %s", namespace, strings.Join(faults, ", "))
		}
		kind += ":" + namespace
	}
	return Rights(kind), nil
}

// String says it to people.
func (r Rights) String() string {
	namespace := ""
	if parts := strings.SplitN(string(r), ":", 3); len(parts) == 3 {
		namespace = " of the namespace " + parts[2]
	}
	switch {
	case r == Everything:
		return "everything"
	case strings.HasPrefix(string(r), "podkeeper:view"):
		return "read everything" + namespace + " but Secrets"
	default:
		return "everything" + namespace
	}
}

// client is what the certificate of a person says.
func client(name string, rights Rights) *x509.Certificate {
	return &x509.Certificate{
		Subject:  pkix.Name{CommonName: name, Organization: []string{string(rights)}},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
}

// Person signs a certificate for a person with the CA in a directory. It is valid for a year, and cannot be taken back but
// with the CA itself. The error is fs.ErrNotExist where there is no CA.
func Person(dir, name string, rights Rights, now time.Time) (Pair, error) {
	if err := checkName(name); err != nil {
		return Pair{}, err
	}
	ca, err := readAuthority(dir)
	if errors.Is(err, errNoCertificate) {
		err = fmt.Errorf("read CA in %s: %w", dir, fs.ErrNotExist) // the agent is about to make it
	}
	if err != nil {
		return Pair{}, err
	}
	return ca.issue(client(name, rights), now)
}

// checkName refuses names that mean something to Kubernetes, or nothing to anybody.
func checkName(name string) error {
	switch {
	case name == "" || strings.TrimSpace(name) != name:
		return fmt.Errorf("name %q: must not be empty, nor begin or end with a space", name)
	case strings.HasPrefix(name, "system:"):
		return fmt.Errorf("name %q: must not begin with system:, which is Kubernetes' own", name)
	case len(name) > maxName:
		return fmt.Errorf("name %q: must have at most %d bytes", name, maxName)
	}
	return nil
}

// maxName is how long the common name of a certificate may be (RFC 5280, ub-common-name).
const maxName = 64
