package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/podkeeper/podkeeper/activate"
	"github.com/podkeeper/podkeeper/kubeapi/idle"
)

// seen is what the stand-in tells whoever asks: who that is to it, and what it finds around itself.
type seen struct {
	PID, UID, Groups int
	Client           string   // the subject of the client's certificate
	Agent            string   // what the agent says
	Forbidden        []string // what it may not do
	Args             []string
}

// beAPI answers one request after another as the API would: over TLS, to who has a certificate of the node. It ends with its agent.
func beAPI() error {
	var socket, dir string
	for i, arg := range os.Args {
		switch arg {
		case "--agent-socket":
			socket = os.Args[i+1]
		case "--tls-dir":
			dir = os.Args[i+1]
		}
	}
	agent := &http.Client{Transport: &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) {
		return net.Dial("unix", socket)
	}}}
	go endWith(agent)
	certificate, err := tls.LoadX509KeyPair(filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key"))
	if err != nil {
		return err
	}
	ca, err := os.ReadFile(filepath.Join(dir, "client-ca.crt"))
	if err != nil {
		return err
	}
	clients := x509.NewCertPool()
	clients.AppendCertsFromPEM(ca)
	l, err := idle.Listen("", time.Hour)
	if err != nil {
		return err
	}
	return http.Serve(tls.NewListener(l, &tls.Config{Certificates: []tls.Certificate{certificate}, ClientCAs: clients, ClientAuth: tls.RequireAndVerifyClientCert}),
		http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			s := seen{PID: os.Getpid(), UID: os.Getuid(), Client: r.TLS.PeerCertificates[0].Subject.String(), Args: os.Args[1:], Forbidden: forbidden(dir)}
			groups, _ := os.Getgroups()
			s.Groups = len(groups)
			if res, err := agent.Get("http://podkeeper/healthz"); err == nil {
				text, _ := io.ReadAll(res.Body)
				s.Agent = string(text)
				_ = res.Body.Close()
			}
			_ = json.NewEncoder(w).Encode(s)
		}))
}

// endWith ends this process when the agent has ended, and with it what it tells of objects.
func endWith(agent *http.Client) {
	res, err := agent.Get("http://podkeeper/objects")
	if err == nil {
		defer res.Body.Close()
		_, err = io.Copy(io.Discard, res.Body)
	}
	fmt.Fprintln(os.Stderr, "the agent is gone:", err)
	os.Exit(0) //nolint:gocritic // nothing is left to be closed
}

// forbidden are those of a list of deeds that this process may not do.
func forbidden(dir string) (names []string) {
	root := filepath.Join(dir, "..", "..", "root")
	for name, try := range map[string]func() error{
		"change":  func() error { return os.WriteFile(filepath.Join(dir, "tls.crt"), nil, 0o600) },
		"replace": func() error { return os.Rename(filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")) },
		"add":     func() error { return os.WriteFile(filepath.Join(dir, "more"), nil, 0o600) },
		"grant":   func() error { return os.Chmod(dir, 0o777) },
		"sign":    func() error { _, err := os.ReadFile(filepath.Join(root, "pki", "ca.key")); return err },
		"be root": func() error { _, err := os.ReadFile(filepath.Join(root, "kubeconfig")); return err },
		"agent":   func() error { _, err := net.Dial("unix", filepath.Join(dir, "..", "podkeeper.sock")); return err },
	} {
		if errors.Is(try(), fs.ErrPermission) {
			names = append(names, name)
		}
	}
	return names
}

var apiAddresses atomic.Int32

// withAPI starts the node's agent anew, with the stand-in for the API.
func (n *node) withAPI() (address string) {
	n.t.Helper()
	address = fmt.Sprintf("127.78.%d.%d:7443", os.Getpid()%250+1, apiAddresses.Add(1))
	self, err := os.Executable()
	if err == nil {
		err = os.Symlink(self, n.path(apiProgramName))
	}
	if err != nil {
		n.t.Fatal(err)
	}
	n.stopAgent()
	n.flags = []string{"--api-address", address, "--api-binary", n.path(apiProgramName)}
	n.restart()
	n.eventually("there is a kubeconfig", func() error { _, err := os.Stat(n.path("root", "kubeconfig")); return err })
	return address
}

// asks is what the API answers to who has a kubeconfig.
func (n *node) asks(kubeconfig string) (s seen) {
	n.t.Helper()
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		n.t.Fatal(err)
	}
	config.Timeout = patience
	client, err := rest.HTTPClientFor(config)
	if err != nil {
		n.t.Fatal(err)
	}
	defer client.CloseIdleConnections()
	n.eventually("the API answers", func() error {
		res, err := client.Get(config.Host)
		if err != nil {
			return err
		}
		defer res.Body.Close()
		return json.NewDecoder(res.Body).Decode(&s)
	})
	return s
}

func TestWhoMayReadTheFilesOfTheAPI(t *testing.T) {
	t.Parallel()
	n := launch(t)
	if _, err := os.Stat(n.path("root", "pki")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("there are certificates without --api-address: %v", err)
	}
	n.withAPI()
	account, err := activate.FindAccount()
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]struct {
		mode  fs.FileMode
		group int
	}{
		"root/kubeconfig": {0o600, 0}, "root/pki": {fs.ModeDir | 0o750, 0}, "root/pki/ca.crt": {0o600, 0}, "root/pki/ca.key": {0o600, 0},
		"root/pki/server.crt": {0o600, 0}, "root/pki/server.key": {0o600, 0}, "root/pki/admin.crt": {0o600, 0}, "root/pki/admin.key": {0o600, 0},
		"root/pki/sa.key": {0o600, 0}, "root/pki/sa.pub": {0o600, 0},
		"run/api": {fs.ModeDir | 0o750, account.GID}, "run/api/tls.crt": {0o640, account.GID}, "run/api/tls.key": {0o640, account.GID},
		"run/api/client-ca.crt": {0o640, account.GID}, "run/api/sa.pub": {0o640, account.GID},
		"run/podkeeper-api.sock": {fs.ModeSocket | 0o660, account.GID}, "run/podkeeper.sock": {fs.ModeSocket | 0o600, 0},
	} {
		n.eventually(path, func() error {
			info, err := os.Lstat(n.path(path))
			if err != nil {
				return err
			}
			if of := info.Sys().(*syscall.Stat_t); info.Mode() != want.mode || of.Uid != 0 || int(of.Gid) != want.group {
				return stop(fmt.Errorf("it is %v of %d:%d", info.Mode(), of.Uid, of.Gid))
			}
			return nil
		})
	}
}

func TestTheAPIIsStartedForAClient(t *testing.T) {
	t.Parallel()
	n := launch(t)
	address := n.withAPI()
	if strings.Contains(n.log.String(), "is started for a client") {
		t.Error("it is started though nobody asks")
	}
	first := n.asks(n.path("root", "kubeconfig"))
	want := []string{"--agent-socket", n.path("run", "podkeeper-api.sock"), "--tls-dir", n.path("run", "api")}
	if account, err := activate.FindAccount(); err != nil || first.UID != account.UID {
		t.Errorf("it runs as %d, not as %v: %v", first.UID, account, err)
	}
	if first.Groups != 0 || first.Agent != "ok" || first.Client != "CN=admin,O=system:masters" || strings.Join(first.Args, " ") != strings.Join(want, " ") {
		t.Errorf("it is %+v", first)
	}
	if len(first.Forbidden) != 7 {
		t.Errorf("only these are forbidden to it: %q", first.Forbidden)
	}
	if again := n.asks(n.path("root", "kubeconfig")); again.PID != first.PID {
		t.Errorf("another client is answered by %d, not %d", again.PID, first.PID)
	}
	conn, err := tls.Dial("tcp", address, &tls.Config{InsecureSkipVerify: true})
	if err == nil {
		_, err = conn.Read(make([]byte, 1)) // with TLS 1.3 a client without a certificate learns of it here
	}
	if err == nil || !strings.Contains(err.Error(), "certificate required") {
		t.Errorf("a client without a certificate: %v", err)
	}
	// One that is killed is started again for the next client.
	if err := syscall.Kill(first.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if again := n.asks(n.path("root", "kubeconfig")); again.PID == first.PID {
		t.Errorf("it is still %d", again.PID)
	}
}

func TestTheAPIOutlivesNoAgent(t *testing.T) {
	t.Parallel()
	n := launch(t)
	n.withAPI()
	n.apply("stay.yaml", simple("stay", forever))
	n.awaitReady("stay")
	kubeconfig := n.path("root", "kubeconfig")
	before, err := os.ReadFile(kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	for _, anew := range []func(){
		func() { n.kill(); n.restart() },
		func() { n.stopAgent(); n.restart() },
		func() { _ = n.agent.Process.Signal(syscall.SIGHUP) },
	} {
		first := n.asks(kubeconfig)
		anew()
		n.eventually("another one answers", func() error {
			if again := n.asks(kubeconfig); again.PID == first.PID {
				return fmt.Errorf("it is still %d", again.PID)
			}
			return nil
		})
	}
	if after, err := os.ReadFile(kubeconfig); err != nil || string(before) != string(after) {
		t.Errorf("the kubeconfig is another one: %v", err)
	}
	if pod, err := n.get("stay"); err != nil || !isReady(pod) || containerStatus(pod, "app").RestartCount != 0 {
		t.Errorf("the Pod: %+v, %v", pod, err)
	}
}
