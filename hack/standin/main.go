// Command standin takes the place of etcd, kube-apiserver, kube-controller-manager and kube-scheduler in Pods that are written
// for these: it is started by their names with their flags, and says at their ports that it is well.
//
//	etcd --data-dir=/var/lib/etcd --listen-metrics-urls=http://127.0.0.1:2381 …
//	kube-scheduler --bind-address=127.0.0.1 --kubeconfig=/etc/kubernetes/scheduler.conf …
//
// Each file that a flag names has to say nothing but its own name, so that it is known to be the one that was meant. In the data
// directory there is a file "started" with a line for each start. A SIGUSR1 has it be no longer ready, and the next one ready again.
package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

func main() {
	flags := map[string]string{}
	for _, arg := range os.Args[1:] {
		name, value, _ := strings.Cut(strings.TrimPrefix(arg, "--"), "=")
		flags[name] = value
	}
	if err := run(filepath.Base(os.Args[0]), flags); err != nil {
		log.Fatal(err)
	}
}

// run answers until it is told to end.
func run(program string, flags map[string]string) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	for name, value := range flags {
		if name == "data-dir" || !filepath.IsAbs(value) {
			continue
		}
		text, err := os.ReadFile(value)
		if err != nil {
			return fmt.Errorf("read --%s: %w", name, err)
		}
		if strings.TrimSpace(string(text)) != value {
			return fmt.Errorf("--%s=%s is another file: it says %q", name, value, text)
		}
	}
	if err := note(flags["data-dir"]); err != nil {
		return err
	}
	address, secure, err := where(program, flags)
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	if secure {
		pair, err := certificate()
		if err != nil {
			return err
		}
		listener = tls.NewListener(listener, &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12})
	}
	server := &http.Server{Handler: health(), ReadHeaderTimeout: 10 * time.Second}
	context.AfterFunc(ctx, func() { _ = server.Close() })
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve: %w", err)
	}
	return nil
}

// health says that the program is well, and until it is told otherwise, that it is ready.
func health() http.Handler {
	var unready atomic.Bool
	told := make(chan os.Signal, 1)
	signal.Notify(told, syscall.SIGUSR1)
	go func() {
		for range told {
			unready.Store(!unready.Load())
		}
	}()
	mux := http.NewServeMux()
	for _, path := range []string{"/healthz", "/livez"} {
		mux.HandleFunc("GET "+path, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	}
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if unready.Load() {
			http.Error(w, "not ready", http.StatusInternalServerError)
			return
		}
		fmt.Fprintln(w, "ok")
	})
	return mux
}

// note writes down that the program has started, where it has a directory for its data.
func note(dir string) error {
	if dir == "" {
		return nil
	}
	file, err := os.OpenFile(filepath.Join(dir, "started"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("note the start: %w", err)
	}
	defer file.Close()
	if _, err := fmt.Fprintln(file, "started"); err != nil {
		return fmt.Errorf("note the start: %w", err)
	}
	return nil
}

// where is the address that the program is asked at whether it is well, and whether that is by HTTPS.
func where(program string, flags map[string]string) (address string, secure bool, err error) {
	switch program {
	case "etcd":
		u, err := url.Parse(flags["listen-metrics-urls"])
		if err != nil {
			return "", false, fmt.Errorf("read --listen-metrics-urls: %w", err)
		}
		return u.Host, u.Scheme == "https", nil
	case "kube-apiserver":
		return net.JoinHostPort(flags["bind-address"], flags["secure-port"]), true, nil
	case "kube-controller-manager":
		return net.JoinHostPort(flags["bind-address"], "10257"), true, nil
	case "kube-scheduler":
		return net.JoinHostPort(flags["bind-address"], "10259"), true, nil
	}
	return "", false, fmt.Errorf("%q is no program of a control plane", program)
}

// certificate is one that nobody has signed.
func certificate() (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("make key: %w", err)
	}
	now := time.Now()
	template := &x509.Certificate{SerialNumber: big.NewInt(now.Unix()), NotBefore: now.Add(-time.Hour), NotAfter: now.Add(24 * time.Hour)}
	signed, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("make certificate: %w", err)
	}
	return tls.Certificate{Certificate: [][]byte{signed}, PrivateKey: key}, nil
}
