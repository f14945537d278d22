package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"time"

	"k8s.io/client-go/util/keyutil"
)

// Pair is a certificate and its key, as PEM.
type Pair struct {
	Certificate, Key []byte
	Authority        []byte    // the certificate of the CA that has signed it
	Until            time.Time // the certificate is valid

	leaf    *x509.Certificate // of one that was read
	private crypto.PrivateKey
}

// readPair reads a certificate and its key from files.
func readPair(crt, key string) (p Pair, err error) {
	if p.Certificate, err = os.ReadFile(crt); err != nil {
		return p, err
	}
	if p.Key, err = os.ReadFile(key); err != nil {
		return p, err
	}
	parsed, err := tls.X509KeyPair(p.Certificate, p.Key)
	if err != nil {
		return p, fmt.Errorf("%s, %s: %w", crt, key, err)
	}
	p.leaf, p.private, p.Until = parsed.Leaf, parsed.PrivateKey, parsed.Leaf.NotAfter
	return p, nil
}

// publicPEM is the public half of a key.
func publicPEM(key any) ([]byte, error) {
	signer, ok := key.(*ecdsa.PrivateKey)
	if !ok || signer.Curve != elliptic.P256() {
		return nil, errors.New("it is no key on the curve P-256")
	}
	der, err := x509.MarshalPKIXPublicKey(&signer.PublicKey)
	if err != nil {
		return nil, fmt.Errorf("encode public key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: keyutil.PublicKeyBlockType, Bytes: der}), nil
}

func encode(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}
