package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	goruntime "runtime"
	"strings"
	"time"

	v1 "k8s.io/api/core/v1"
	rbac "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	apiversion "k8s.io/apimachinery/pkg/version"
	"k8s.io/apiserver/pkg/registry/rest"
	"k8s.io/metrics/pkg/apis/metrics/v1beta1"

	"github.com/podkeeper/podkeeper/kubeapi/access"
	"github.com/podkeeper/podkeeper/kubeapi/api"
	"github.com/podkeeper/podkeeper/kubeapi/idle"
	"github.com/podkeeper/podkeeper/kubeapi/metrics"
	"github.com/podkeeper/podkeeper/kubeapi/mirror"
	"github.com/podkeeper/podkeeper/kubeapi/openapi"
	"github.com/podkeeper/podkeeper/kubeapi/storage"
	"github.com/podkeeper/podkeeper/kubeapi/stream"
	"github.com/podkeeper/podkeeper/kubeapi/table"
	"github.com/podkeeper/podkeeper/kubeapi/token"
	"github.com/podkeeper/podkeeper/manifests"
	"github.com/podkeeper/podkeeper/pki/tokens"
	"github.com/podkeeper/podkeeper/server"
)

// errAgent is why it ends with the agent.
var errAgent = errors.New("the agent is gone")

// run answers until ctx ends, nobody has been connected for a while, or the agent is gone: clients connect anew, and whoever
// holds the socket starts another one.
func run(ctx context.Context, f *flags, log *slog.Logger) error {
	if _, err := readCertificates(f.tlsDir); err != nil {
		return err
	}
	l, err := idle.Listen(f.address, f.idle)
	if err != nil {
		return err
	}
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	agent := server.NewClientOf(f.socket)
	m, err := follow(ctx, agent, end)
	if err != nil {
		return errors.Join(err, l.Close())
	}
	handler, err := handlerOf(m, agent, filepath.Join(f.tlsDir, "sa.pub"), log)
	if err != nil {
		return errors.Join(err, l.Close())
	}
	srv := &http.Server{
		Handler: handler, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 90 * time.Second, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
		// Read anew for every connection: the agent renews them.
		TLSConfig: &tls.Config{MinVersion: tls.VersionTLS12, GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return readCertificates(f.tlsDir) }},
	}
	context.AfterFunc(ctx, func() { _ = srv.Close() })
	switch err := srv.ServeTLS(l, "", ""); {
	case errors.Is(err, idle.ErrIdle):
		return nil
	case !errors.Is(err, http.ErrServerClosed):
		return fmt.Errorf("serve: %w", err)
	}
	if err := context.Cause(ctx); errors.Is(err, errAgent) {
		return err
	}
	return nil
}

// follow fills a mirror, and returns when that has all there is.
func follow(ctx context.Context, agent *server.Client, end func(error)) (*mirror.Mirror, error) {
	m := mirror.New(storage.Decode)
	filled := make(chan struct{})
	go func() {
		err := agent.Follow(ctx, func(c server.Change) error {
			err := m.Take(c)
			if c.Type == server.Bookmark {
				close(filled)
			}
			return err
		})
		end(fmt.Errorf("%w: %w", errAgent, err))
	}()
	select {
	case <-filled:
		return m, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

func handlerOf(m *mirror.Mirror, agent *server.Client, tokenKey string, log *slog.Logger) (http.Handler, error) {
	rules := access.New(func(resource string) []runtime.Object {
		found, _ := m.Table(schema.GroupResource{Group: rbac.GroupName, Resource: resource}).List(mirror.Selection{})
		return found
	})
	tables := func(r schema.GroupResource) rest.TableConvertor { return table.Of(r, time.Now) }
	storages := storage.Storages(m, agent, func(r *storage.Resource) rest.TableConvertor { return tables(r.GroupResource()) })
	usage := func(ctx context.Context) (*server.Summary, error) { return agent.Stats(ctx, true) }
	storages[v1beta1.SchemeGroupVersion] = metrics.Storages(m, usage, tables)
	pods := m.Table(schema.GroupResource{Resource: "pods"})
	streams := stream.Storages(stream.Config{
		Agent: agent.Transport(), Codecs: storage.Codecs,
		Pod: func(name types.NamespacedName) (*v1.Pod, error) {
			o, err := pods.Get(name)
			if err != nil {
				return nil, err
			}
			return o.(*v1.Pod), nil
		},
	})
	for name, s := range streams {
		storages[v1.SchemeGroupVersion]["pods/"+name] = s
	}
	for gv, reviews := range rules.Reviews() {
		storages[gv] = reviews
	}
	for gv, more := range tokenStorages(m, agent, tokenKey) {
		maps.Copy(storages[gv], more)
	}
	return api.New(api.Config{
		Scheme: storage.Scheme, Codecs: storage.Codecs, Storages: storages, Types: openapi.NewTypes(), OpenAPI: openapi.Handler(), Authorizer: rules, Log: log,
		Version: versionInfo(),
	})
}

// versionInfo is what GET /version answers.
func versionInfo() apiversion.Info {
	parts := strings.SplitN(strings.TrimPrefix(manifests.KubernetesVersion, "v"), ".", 3)
	return apiversion.Info{
		Major: parts[0], Minor: parts[1], GitVersion: manifests.KubernetesVersion, GoVersion: goruntime.Version(), Compiler: goruntime.Compiler,
		Platform: goruntime.GOOS + "/" + goruntime.GOARCH,
	}
}

// tokenStorages are those of tokens, whose public key is in a file.
func tokenStorages(m *mirror.Mirror, agent *server.Client, key string) map[schema.GroupVersion]map[string]rest.Storage {
	return token.Storages(token.Config{
		Sign: agent.Token, Now: time.Now,
		Key: func() (*ecdsa.PublicKey, error) {
			pem, err := os.ReadFile(key)
			if err != nil {
				return nil, fmt.Errorf("read key of tokens: %w", err)
			}
			return tokens.PublicKey(pem)
		},
		Object: func(resource string, name types.NamespacedName) (runtime.Object, error) {
			return m.Table(schema.GroupResource{Resource: resource}).Get(name)
		},
	})
}

// readCertificates is what the agent has written: who we are, and whose clients we know.
func readCertificates(dir string) (*tls.Config, error) {
	own, err := tls.LoadX509KeyPair(filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key"))
	if err != nil {
		return nil, fmt.Errorf("read certificate: %w", err)
	}
	ca, err := os.ReadFile(filepath.Join(dir, "client-ca.crt"))
	if err != nil {
		return nil, fmt.Errorf("read certificate authority: %w", err)
	}
	clients := x509.NewCertPool()
	if !clients.AppendCertsFromPEM(ca) {
		return nil, fmt.Errorf("read certificate authority: %s: there is no certificate in it", filepath.Join(dir, "client-ca.crt"))
	}
	return &tls.Config{
		Certificates: []tls.Certificate{own}, ClientCAs: clients, ClientAuth: tls.RequireAndVerifyClientCert, MinVersion: tls.VersionTLS12,
		NextProtos: []string{"h2", "http/1.1"},
	}, nil
}
