package pki

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"time"

	"k8s.io/client-go/util/keyutil"
)

// authority is the node's CA.
type authority struct {
	certificate *x509.Certificate
	key         crypto.Signer
	pem         []byte // the certificate
}

// advice ends an error about a CA that is there.
const advice = "put back the ca.crt and ca.key that were there, or remove both to have a new CA, with which no kubeconfig that was handed out works any more"

// errNoCertificate is a CA whose key is all that there is: it was being made when the agent was killed, or its certificate,
// which the key can sign again, is lost.
var errNoCertificate = errors.New("it has no certificate")

// readAuthority reads the CA in a directory. The error is fs.ErrNotExist where there is none.
func readAuthority(dir string) (*authority, error) {
	crt, key := filepath.Join(dir, "ca.crt"), filepath.Join(dir, "ca.key")
	pair, err := readPair(crt, key)
	if errors.Is(err, fs.ErrNotExist) {
		_, crtErr := os.Lstat(crt)
		signer, keyErr := readSigner(key)
		switch {
		case keyErr == nil && errors.Is(crtErr, fs.ErrNotExist):
			return &authority{key: signer}, errNoCertificate
		case errors.Is(keyErr, fs.ErrNotExist) && errors.Is(crtErr, fs.ErrNotExist):
			return nil, fmt.Errorf("read CA: %w", err)
		}
		err = errors.Join(keyErr, crtErr)
	}
	if err != nil {
		return nil, fmt.Errorf("read CA in %s: %v: %s", dir, err, advice) //nolint:errorlint // not to be taken for one that is not there
	}
	signer, ok := pair.private.(crypto.Signer)
	if !ok || !pair.leaf.IsCA {
		return nil, fmt.Errorf("read CA in %s: %s is no CA's certificate: %s", dir, crt, advice)
	}
	return &authority{certificate: pair.leaf, key: signer, pem: pair.Certificate}, nil
}

// readSigner reads a private key.
func readSigner(file string) (crypto.Signer, error) {
	key, err := keyutil.PrivateKeyFromFile(file)
	if err != nil {
		return nil, err
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("%s cannot sign", file)
	}
	return signer, nil
}

// renewAuthority makes the CA where there is none. One that expires goes on with its key, so that what it has signed stays
// valid.
func (cfg Config) renewAuthority(now time.Time) (*authority, error) {
	ca, err := readAuthority(cfg.Dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return nil, fmt.Errorf("make key of the CA: %w", err)
		}
		encoded, err := keyutil.MarshalPrivateKeyToPEM(key)
		if err != nil {
			return nil, fmt.Errorf("encode key of the CA: %w", err)
		}
		if err := cfg.Write(cfg.file("ca.key"), encoded); err != nil {
			return nil, err
		}
		ca = &authority{key: key}
	case errors.Is(err, errNoCertificate):
	case err != nil:
		return nil, err
	default:
		if err = due(ca.certificate, now); err == nil {
			return ca, nil
		}
	}
	cfg.Log.Info("a certificate of the CA is made", "file", cfg.file("ca.crt"), "reason", reason(err))
	if err := ca.certify(now); err != nil {
		return nil, err
	}
	return ca, cfg.Write(cfg.file("ca.crt"), ca.pem)
}

// certify has the CA sign for itself.
func (ca *authority) certify(now time.Time) error {
	wanted := &x509.Certificate{
		Subject: pkix.Name{CommonName: "podkeeper-ca"}, NotBefore: now.Add(-backdated), NotAfter: now.Add(authorityLife),
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	if ca.certificate != nil {
		wanted.RawSubject = ca.certificate.RawSubject // what it has signed names it
	}
	der, err := x509.CreateCertificate(rand.Reader, wanted, wanted, ca.key.Public(), ca.key)
	if err != nil {
		return fmt.Errorf("sign certificate of the CA: %w", err)
	}
	if ca.certificate, err = x509.ParseCertificate(der); err != nil {
		return fmt.Errorf("read certificate of the CA: %w", err)
	}
	ca.pem = encode(der)
	return nil
}

// issue signs a certificate with a key of its own. It does not outlive the CA's.
func (ca *authority) issue(wanted *x509.Certificate, now time.Time) (Pair, error) {
	wanted.NotBefore, wanted.NotAfter = now.Add(-backdated), now.Add(leafLife)
	if wanted.NotAfter.After(ca.certificate.NotAfter) {
		wanted.NotAfter = ca.certificate.NotAfter
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return Pair{}, fmt.Errorf("make key of %s: %w", wanted.Subject.CommonName, err)
	}
	der, err := x509.CreateCertificate(rand.Reader, wanted, ca.certificate, &key.PublicKey, ca.key)
	if err != nil {
		return Pair{}, fmt.Errorf("sign certificate of %s: %w", wanted.Subject.CommonName, err)
	}
	encoded, err := keyutil.MarshalPrivateKeyToPEM(key)
	if err != nil {
		return Pair{}, fmt.Errorf("encode key of %s: %w", wanted.Subject.CommonName, err)
	}
	return Pair{Certificate: encode(der), Key: encoded, Authority: ca.pem, Until: wanted.NotAfter}, nil
}

// suits says why a pair is not as wanted, nil where it is.
func (ca *authority) suits(p Pair, wanted *x509.Certificate, now time.Time) error {
	is := p.leaf
	switch {
	case !bytes.Equal(is.RawIssuer, ca.certificate.RawSubject) || is.CheckSignatureFrom(ca.certificate) != nil:
		return errors.New("it is of another CA")
	case is.Subject.String() != wanted.Subject.String() || !slices.Equal(is.ExtKeyUsage, wanted.ExtKeyUsage):
		return fmt.Errorf("it is for %s", is.Subject)
	case !slices.Equal(is.DNSNames, wanted.DNSNames) || !slices.EqualFunc(is.IPAddresses, wanted.IPAddresses, net.IP.Equal):
		return errors.New("it is for other hosts")
	}
	return due(is, now)
}

// due says why a certificate is to be made anew, nil where it is not yet.
func due(c *x509.Certificate, now time.Time) error {
	switch {
	case now.Before(c.NotBefore):
		return errors.New("it is not valid yet")
	case now.After(c.NotAfter):
		return errors.New("it has expired")
	case now.After(c.NotAfter.Add(-c.NotAfter.Sub(c.NotBefore) / 3)):
		return errors.New("it expires soon")
	}
	return nil
}
