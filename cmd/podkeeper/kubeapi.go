package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/podkeeper/podkeeper/activate"
	podnode "github.com/podkeeper/podkeeper/agent/node"
	"github.com/podkeeper/podkeeper/pki"
	"github.com/podkeeper/podkeeper/server"
)

const (
	defaultRootDir = "/var/lib/podkeeper"
	// apiProgramName is what answers kubectl, and is kubectl, too; it is installed beside this program.
	apiProgramName = "podkeeper-api"
	// lookAtCertificates is how often they are looked at, besides each start of the API.
	lookAtCertificates = 24 * time.Hour
)

// pkiDir and kubeconfigFile are where an agent keeps certificates, and what its administrator shows to it.
func pkiDir(rootDir string) string         { return filepath.Join(rootDir, "pki") }
func kubeconfigFile(rootDir string) string { return filepath.Join(rootDir, "kubeconfig") }

// checkAPIAddress says what is wrong with --api-address.
func checkAPIAddress(address string) error {
	if address == "" {
		return nil
	}
	host, port, err := net.SplitHostPort(address)
	number, portErr := strconv.ParseUint(port, 10, 16)
	if err != nil || portErr != nil || number == 0 || strings.ContainsAny(host, " /") {
		return fmt.Errorf("--api-address: %q: must be HOST:PORT, such as 127.0.0.1:7443", address)
	}
	return nil
}

// readCA reads the CA of the API; it is nil where none is offered.
func (f *flags) readCA() func() ([]byte, error) {
	if f.apiAddress == "" {
		return nil
	}
	return func() ([]byte, error) { return os.ReadFile(filepath.Join(pkiDir(f.rootDir), "ca.crt")) }
}

// apiProgram is the path of what answers kubectl: a name is looked for beside this program. It is empty where nobody is to
// answer, or somebody else starts it.
func (f *flags) apiProgram() string {
	if f.apiAddress == "" || f.apiBinary == "" {
		return ""
	}
	if !strings.Contains(f.apiBinary, "/") {
		return besideUs(f.apiBinary)
	}
	if abs, err := filepath.Abs(f.apiBinary); err == nil {
		return abs
	}
	return f.apiBinary
}

// besideUs is the path of a program in the folder of this one.
func besideUs(name string) string {
	self, err := os.Executable()
	if err != nil {
		return name
	}
	return filepath.Join(filepath.Dir(self), name)
}

// kubeAPI is what the agent does for the Kubernetes API, which is served by another process: certificates, a socket for it,
// and its start.
type kubeAPI struct {
	flags  *flags
	node   *podnode.Node
	log    *slog.Logger
	mu     sync.Mutex // one renews certificates at a time
	handed string     // the folder of what that process is given
	group  int        // which may read it
}

// run offers the API until ctx ends, if it is to be offered. What fails is logged: Pods run without.
func (k *kubeAPI) run(ctx context.Context, h http.Handler) {
	if k.flags.apiAddress == "" {
		return
	}
	account, err := activate.FindAccount()
	if err != nil {
		k.log.Error("the Kubernetes API is not offered", "error", err)
		return
	}
	socket, err := server.ListenForGroup(k.flags.runDir, account.GID)
	if err != nil {
		k.log.Error("the Kubernetes API is not offered", "error", err)
		return
	}
	k.handed, k.group = filepath.Join(k.flags.runDir, "api"), account.GID
	if !isLoopback(k.host()) {
		k.log.Warn("the Kubernetes API answers other hosts, too", "address", k.flags.apiAddress)
	}
	var parts sync.WaitGroup
	parts.Go(func() {
		if err := server.Serve(ctx, socket, h); err != nil {
			k.log.Error("the Kubernetes API is cut off", "error", err)
		}
	})
	parts.Go(func() { k.keepCertificates(ctx) })
	if program := k.flags.apiProgram(); program != "" {
		parts.Go(func() {
			activate.Run(ctx, activate.Config{
				Address: k.flags.apiAddress, Program: program, Account: account, Prepare: k.renew, Log: k.log,
				Args: []string{"--agent-socket", socket.Addr().String(), "--tls-dir", k.handed},
			})
		})
	}
	parts.Wait()
}

// host is the one of --api-address.
func (k *kubeAPI) host() string {
	host, _, _ := net.SplitHostPort(k.flags.apiAddress) // checked at the start
	return host
}

func isLoopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}

// keepCertificates makes them, and looks at them from time to time.
func (k *kubeAPI) keepCertificates(ctx context.Context) {
	for {
		if err := k.renew(); err != nil {
			k.log.Error("there are no certificates for the Kubernetes API", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(lookAtCertificates):
		}
	}
}

// renew makes certificates where that is due, and hands over what is needed of them.
func (k *kubeAPI) renew() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	cfg := pki.Config{
		Dir: pkiDir(k.flags.rootDir), Kubeconfig: kubeconfigFile(k.flags.rootDir), Address: k.flags.apiAddress,
		Hosts: []string{k.flags.nodeName}, Write: podnode.WriteDurably, Log: k.log,
	}
	if ip, err := netip.ParseAddr(k.host()); k.host() == "" || err == nil && ip.IsUnspecified() {
		for _, own := range k.node.Host.List() {
			cfg.Hosts = append(cfg.Hosts, own.String())
		}
	}
	serving, err := pki.Renew(cfg, time.Now())
	if err != nil {
		return err
	}
	return serving.Hand(k.handed, k.group)
}
