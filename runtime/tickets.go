package runtime

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync/atomic"

	"github.com/containerd/containerd/v2/core/remotes"
	"github.com/containerd/containerd/v2/core/remotes/docker"
	"github.com/containerd/containerd/v2/core/remotes/docker/config"
	"github.com/distribution/reference"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"

	"github.com/podkeeper/podkeeper/runtime/credentials"
)

// ticket is what a registry is shown: a credential, or what the node's docker configuration has for each host, or nothing.
type ticket struct {
	registry   string                  // the host that the credential is for
	credential *credentials.Credential // nil is none
	ofHost     bool                    // what the docker configuration has
	shown      atomic.Bool             // a host has got something of the docker configuration
}

// ticketStage makes tickets when those before were of no use, as that may take time.
type ticketStage func(context.Context) ([]*ticket, error)

// tickets are what is shown for an image, in this order: what the Pod has, what docker's configuration has for the
// repository and paths above it, what credential providers answer, what docker's configuration and its helpers have for the
// host, nothing. Unlike the kubelet, it does ask for an image without credentials where those that there are were refused: an
// expired password must not keep anyone from a public image.
func (r *Runtime) tickets(named reference.Named, has []credentials.Credential) []ticketStage {
	registry, seen := reference.Domain(named), map[string]bool{}
	of := func(all []credentials.Credential) (some []*ticket) {
		for _, c := range all {
			if !seen[c.Hash()] {
				seen[c.Hash()] = true
				some = append(some, &ticket{registry: registry, credential: &c})
			}
		}
		return some
	}
	host := &ticket{registry: registry, ofHost: true}
	return []ticketStage{
		func(context.Context) ([]*ticket, error) { return of(has), nil },
		func(context.Context) ([]*ticket, error) { return of(pathCredentials(named.Name())), nil },
		func(ctx context.Context) ([]*ticket, error) {
			all, err := r.cfg.Providers.Credentials(ctx, named.Name())
			if err != nil {
				r.cfg.Log.Warn("credential provider gives nothing", "image", named.Name(), "error", err)
			}
			return of(all), err
		},
		func(context.Context) ([]*ticket, error) { return []*ticket{host}, nil },
		func(context.Context) ([]*ticket, error) {
			if !host.shown.Load() {
				return nil, nil // there was nothing to show
			}
			return []*ticket{{registry: registry}}, nil
		},
	}
}

// pathCredentials are those of docker's configuration that are not for a whole registry: the keychain does not know them. A
// file that cannot be read is the keychain's to tell of.
func pathCredentials(image string) (some []credentials.Credential) {
	for _, file := range credentialFiles() {
		text, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		all, _ := credentials.FromConfig(text)
		for _, c := range credentials.ForImage(all, image) {
			if strings.ContainsAny(c.Registry, "/*?[") {
				some = append(some, c)
			}
		}
		return some // as the keychain does, which reads the first
	}
	return nil
}

// show answers what a host is shown. What hosts.toml names in a registry's place is shown what that is, unless docker's
// configuration has something for it.
func (t *ticket) show(host string) (username, secret string, err error) {
	if t.credential == nil && !t.ofHost {
		return "", "", nil
	}
	if t.credential != nil && t.isOwn(host) {
		return t.credential.Username, t.credential.Password, nil
	}
	username, secret, err = hostCredentials(host)
	switch {
	case t.credential != nil && (err != nil || username+secret == ""):
		return t.credential.Username, t.credential.Password, nil
	case username+secret != "":
		t.shown.Store(true)
	}
	return username, secret, err
}

// isOwn says whether a host is the registry itself, and not one that hosts.toml names.
func (t *ticket) isOwn(host string) bool {
	own, err := docker.DefaultHost(t.registry)
	return err == nil && host == own
}

// hostCredentials are what docker's configuration and its helpers have for a host.
func hostCredentials(host string) (username, secret string, err error) {
	registry, err := name.NewRegistry(host)
	if err != nil {
		return "", "", fmt.Errorf("read registry name of %s: %w", host, err)
	}
	authenticator, err := authn.DefaultKeychain.Resolve(registry)
	if err != nil {
		return "", "", fmt.Errorf("find credentials for %s: %w", host, err)
	}
	auth, err := authenticator.Authorization()
	if err != nil {
		return "", "", fmt.Errorf("find credentials for %s: %w", host, err)
	}
	if auth.IdentityToken != "" {
		return "", auth.IdentityToken, nil
	}
	return auth.Username, auth.Password, nil
}

// resolver asks registries, by hosts.toml where there is one.
func (r *Runtime) resolver(ctx context.Context, t *ticket, stalled *watchdog) remotes.Resolver {
	return docker.NewResolver(docker.ResolverOptions{Hosts: config.ConfigureHosts(ctx, config.HostOptions{
		HostDir: config.HostDirFromRoot(r.cfg.HostsDir), Credentials: t.show, UpdateClient: stalled.watch,
	})})
}
