// Package pki is the room of the node's certificates: a CA of its own, what the Kubernetes API shows to clients, what the
// node's administrator and other people show to it, and the key of the tokens of service accounts. It must not know who
// serves with them, nor what a right allows.
//
//	pki.go        Renew: what is kept in a directory, made where it is missing or does not fit any more
//	authority.go  the CA
//	pair.go       a certificate and its key
//	people.go     certificates of people, and what they may do
//	kubeconfig.go what kubectl reads
//	serving.go    what is handed to the process that serves
package pki

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/client-go/util/keyutil"
)

const (
	authorityLife = 10 * 365 * 24 * time.Hour
	leafLife      = 365 * 24 * time.Hour
	// backdated is how long certificates are valid already: a client's clock may be behind.
	backdated = time.Hour
)

// Config says what certificates are for.
type Config struct {
	Dir        string   // of certificates and keys
	Kubeconfig string   // the file with the administrator's kubeconfig
	Address    string   // host:port that the API answers at
	Hosts      []string // names and addresses of the node, besides the address's own and those of the loopback
	// Write replaces a file that only root may read, in one step and durably, and makes its directory.
	Write func(file string, content []byte) error
	Log   *slog.Logger
}

// Renew makes what is missing in the directory, is broken, expires within a third of its life, or does not fit: of another
// CA, or for other hosts. What it makes it says in the log. A CA that is there and cannot be read is an error, and never
// replaced: kubeconfigs that people have would be void.
func Renew(cfg Config, now time.Time) (*Serving, error) {
	ca, err := cfg.renewAuthority(now)
	if err != nil {
		return nil, err
	}
	host, _, err := net.SplitHostPort(cfg.Address)
	if err != nil {
		return nil, fmt.Errorf("read address of the API: %w", err)
	}
	server, err := cfg.renewPair("server", ca, server(append([]string{"127.0.0.1", "::1", "localhost", host}, cfg.Hosts...)), now)
	if err != nil {
		return nil, err
	}
	admin, err := cfg.renewPair("admin", ca, client("admin", Everything), now)
	if err != nil {
		return nil, err
	}
	tokenKey, err := cfg.renewTokenKey()
	if err != nil {
		return nil, err
	}
	kubeconfig, err := Kubeconfig{Server: serverURL(cfg.Address), User: "admin", Namespace: "default"}.Encode(admin)
	if err != nil {
		return nil, err
	}
	if err := cfg.keep(cfg.Kubeconfig, kubeconfig); err != nil {
		return nil, err
	}
	return &Serving{Certificate: server.Certificate, Key: server.Key, ClientCA: ca.pem, TokenKey: tokenKey}, nil
}

func (cfg Config) file(name string) string { return filepath.Join(cfg.Dir, name) }

// keep has a file hold this content.
func (cfg Config) keep(file string, content []byte) error {
	if old, err := os.ReadFile(file); err == nil && bytes.Equal(old, content) {
		return nil
	}
	return cfg.Write(file, content)
}

// server is what the certificate of the API says. Its order is that of hosts.
func server(hosts []string) *x509.Certificate {
	wanted := &x509.Certificate{
		Subject: pkix.Name{CommonName: "podkeeper"}, KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	for _, host := range hosts {
		ip := net.ParseIP(host)
		switch {
		case ip != nil && !ip.IsUnspecified() && !slices.ContainsFunc(wanted.IPAddresses, ip.Equal):
			wanted.IPAddresses = append(wanted.IPAddresses, ip)
		case ip == nil && len(validation.IsDNS1123Subdomain(host)) == 0 && !slices.Contains(wanted.DNSNames, host):
			wanted.DNSNames = append(wanted.DNSNames, host)
		}
	}
	return wanted
}

// renewPair makes a certificate and its key, unless those that are there are as wanted.
func (cfg Config) renewPair(name string, ca *authority, wanted *x509.Certificate, now time.Time) (Pair, error) {
	crt, key := cfg.file(name+".crt"), cfg.file(name+".key")
	old, err := readPair(crt, key)
	if err == nil {
		err = ca.suits(old, wanted, now)
	}
	if err == nil {
		old.Authority = ca.pem
		return old, nil
	}
	cfg.Log.Info("a certificate is made", "file", crt, "reason", reason(err))
	made, err := ca.issue(wanted, now)
	if err == nil {
		err = errors.Join(cfg.Write(key, made.Key), cfg.Write(crt, made.Certificate))
	}
	return made, err
}

// renewTokenKey makes the key of service accounts' tokens unless it is there, and answers its public half.
func (cfg Config) renewTokenKey() (public []byte, err error) {
	file := cfg.file("sa.key")
	key, err := keyutil.PrivateKeyFromFile(file)
	if err == nil {
		public, err = publicPEM(key)
	}
	if err != nil {
		cfg.Log.Info("the key of tokens is made; older tokens are void", "file", file, "reason", reason(err))
		made, err := keyutil.MakeEllipticPrivateKeyPEM()
		if err != nil {
			return nil, fmt.Errorf("make key of tokens: %w", err)
		}
		if key, err = keyutil.ParsePrivateKeyPEM(made); err != nil {
			return nil, fmt.Errorf("read key of tokens: %w", err)
		}
		if public, err = publicPEM(key); err != nil {
			return nil, err
		}
		if err := cfg.Write(file, made); err != nil {
			return nil, err
		}
	}
	return public, cfg.keep(cfg.file("sa.pub"), public)
}

// reason says why something is made.
func reason(err error) string {
	if errors.Is(err, fs.ErrNotExist) {
		return "it is missing"
	}
	return err.Error()
}
