package runtime

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/containerd/containerd/v2/core/remotes/docker"
	remoteerrors "github.com/containerd/containerd/v2/core/remotes/errors"
	"github.com/containerd/errdefs"
	"github.com/distribution/reference"

	"github.com/podkeeper/podkeeper/runtime/credentials"
)

// TestWhatARegistryIsShown is of tickets until none is left, as where each is refused.
func TestWhatARegistryIsShown(t *testing.T) {
	pod := []credentials.Credential{
		{Registry: "a.io", Username: "pod", Password: "1", Secret: credentials.Secret{Name: "s"}},
		{Registry: "a.io", Username: "pod", Password: "1", Secret: credentials.Secret{Name: "the same"}},
		{Registry: "a.io", Username: "pod", Password: "2", Secret: credentials.Secret{Name: "s"}},
	}
	for sentence, c := range map[string]struct {
		docker string // config.json
		pod    []credentials.Credential
		host   string
		want   string // USER:PASSWORD, or - for nothing
	}{
		"nothing":                               {`{}`, nil, "a.io", "-"},
		"the Pod's, then nothing":               {`{}`, pod, "a.io", "pod:1 pod:2 -"},
		"the node's, then nothing":              {`{"auths": {"a.io": {"auth": "bm9kZTozCg=="}}}`, nil, "a.io", "node:3 -"},
		"the Pod's, then the node's":            {`{"auths": {"a.io": {"auth": "bm9kZTozCg=="}}}`, pod, "a.io", "pod:1 pod:2 node:3 -"},
		"the node's for a path first":           {`{"auths": {"a.io": {"auth": "bm9kZTozCg=="}, "a.io/team": {"auth": "dGVhbTo0"}, "a.io/other": {"auth": "dGVhbTo0"}}}`, nil, "a.io", "team:4 node:3 -"},
		"a mirror gets what the registry would": {`{}`, pod, "mirror.io", "pod:1 pod:2 -"},
		"unless there is something for it":      {`{"auths": {"mirror.io": {"auth": "bm9kZTozCg=="}}}`, pod, "mirror.io", "node:3 node:3 node:3 -"},
		"a configuration that cannot be read":   {`{`, pod, "a.io", "pod:1 pod:2 error"},
	} {
		t.Run(sentence, func(t *testing.T) {
			dir := t.TempDir()
			t.Setenv("HOME", dir)
			t.Setenv("DOCKER_CONFIG", dir)
			if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte(c.docker), 0o600); err != nil {
				t.Fatal(err)
			}
			named, err := reference.ParseDockerRef("a.io/team/app:v1")
			if err != nil {
				t.Fatal(err)
			}
			r := &Runtime{cfg: Config{Log: slog.New(slog.DiscardHandler)}}
			var shown []string
			for _, stage := range r.tickets(named, c.pod) {
				some, err := stage(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				for _, ticket := range some {
					user, password, err := ticket.show(c.host)
					switch {
					case err != nil:
						shown = append(shown, "error")
					case user+password == "":
						shown = append(shown, "-")
					default:
						shown = append(shown, user+":"+strings.TrimSpace(password))
					}
				}
			}
			if got := strings.Join(shown, " "); got != c.want {
				t.Errorf("it is shown %s, want %s", got, c.want)
			}
		})
	}
}

func TestWhatIsARefusal(t *testing.T) {
	t.Parallel()
	status := func(code int) error {
		return fmt.Errorf("failed to resolve reference: %w", remoteerrors.ErrUnexpectedStatus{StatusCode: code})
	}
	for sentence, c := range map[string]struct {
		err  error
		want bool
	}{
		"unauthorized":                {status(401), true},
		"forbidden":                   {status(403), true},
		"too many requests of one":    {status(429), true},
		"the registry is in trouble":  {status(503), false},
		"authorization failed":        {fmt.Errorf("pull access denied: %w", docker.ErrInvalidAuthorization), true},
		"no such image, for this one": {fmt.Errorf("a.io/app:v1: %w", errdefs.ErrNotFound), true},
		"nobody listens":              {&net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}, false},
		"it hangs up":                 {io.ErrUnexpectedEOF, false},
		"it is given up":              {context.Canceled, false},
	} {
		t.Run(sentence, func(t *testing.T) {
			t.Parallel()
			if got := isRefusal(c.err); got != c.want {
				t.Errorf("%v is a refusal: %v", c.err, got)
			}
		})
	}
}

func TestRefusalsAreToldOnce(t *testing.T) {
	t.Parallel()
	denied, missing := fmt.Errorf("denied: %w", docker.ErrInvalidAuthorization), fmt.Errorf("app: %w", errdefs.ErrNotFound)
	all := distinct([]error{denied, missing, fmt.Errorf("denied: %w", docker.ErrInvalidAuthorization)})
	if all.Error() != "denied: authorization failed; app: not found" || !errors.Is(all, docker.ErrInvalidAuthorization) || !errdefs.IsNotFound(all) {
		t.Errorf("they say %v", all)
	}
	if distinct(nil) != nil {
		t.Error("nothing is an error")
	}
}
