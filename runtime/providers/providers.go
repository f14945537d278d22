// Package providers asks credential providers for credentials of registries: programs of the cloud's that the node's owner
// has installed, by Kubernetes' exec protocol. It knows programs and their answers, and neither Pods nor registries.
package providers

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sync/singleflight"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	credentialprovider "k8s.io/kubelet/pkg/apis/credentialprovider/v1"

	"github.com/podkeeper/podkeeper/runtime/credentials"
)

// Providers are the credential providers of a node, in the order of their configuration. They are safe for use by several
// goroutines. nil is none.
type Providers struct{ programs []*program }

// program is one provider.
type program struct {
	name, path, apiVersion string
	matches, args, env     []string
	keep                   time.Duration // an answer that does not say for how long
	timeout                time.Duration

	running singleflight.Group // by image
	answers answers
}

// Credentials asks the providers that are for an image what there is for it, in their order. image is a full name without
// tag and digest. The error says which providers gave no answer, by their names; what the others said holds.
func (p *Providers) Credentials(ctx context.Context, image string) ([]credentials.Credential, error) {
	if p == nil {
		return nil, nil
	}
	var all []credentials.Credential
	var errs []error
	for _, program := range p.programs {
		is := func(pattern string) bool { return credentials.Matches(pattern, image) }
		if !slices.ContainsFunc(program.matches, is) {
			continue
		}
		some, err := program.credentials(ctx, image)
		if err != nil {
			errs = append(errs, fmt.Errorf("credential provider %q: %w", program.name, err))
		}
		all = append(all, some...)
	}
	return credentials.ForImage(all, image), errors.Join(errs...)
}

// credentials answers what the program says or has said. Whoever asks for the same image meanwhile gets the same answer.
func (p *program) credentials(ctx context.Context, image string) ([]credentials.Credential, error) {
	if known, ok := p.answers.find(image, time.Now()); ok {
		return known, nil
	}
	said, err, _ := p.running.Do(image, func() (any, error) { return p.learn(context.WithoutCancel(ctx), image) })
	all, _ := said.([]credentials.Credential)
	return all, err
}

// learn asks the program and remembers what it says.
func (p *program) learn(ctx context.Context, image string) ([]credentials.Credential, error) {
	response, err := p.ask(ctx, image)
	if err != nil {
		return nil, err
	}
	return p.take(response, image)
}

// take takes the credentials out of an answer, and remembers them.
func (p *program) take(response *credentialprovider.CredentialProviderResponse, image string) ([]credentials.Credential, error) {
	auths := make(map[string][2]string, len(response.Auth))
	for pattern, auth := range response.Auth {
		auths[pattern] = [2]string{auth.Username, auth.Password}
	}
	all := credentials.FromAuths(auths)
	key, err := cacheKey(response.CacheKeyType, image)
	if err != nil {
		return nil, err
	}
	keep := p.keep
	if response.CacheDuration != nil {
		keep = response.CacheDuration.Duration
	}
	p.answers.keep(key, all, time.Now(), keep)
	return all, nil
}

// What a program may say, in bytes. Of its complaints as much is told.
const (
	maxAnswer    = 1 << 20
	maxComplaint = 1 << 10
)

// ask runs the program once. What it answers is told nobody in an error: it may hold credentials.
func (p *program) ask(ctx context.Context, image string) (*credentialprovider.CredentialProviderResponse, error) {
	request, err := json.Marshal(credentialprovider.CredentialProviderRequest{
		TypeMeta: metav1.TypeMeta{Kind: "CredentialProviderRequest", APIVersion: p.apiVersion}, Image: image,
	})
	if err != nil {
		return nil, fmt.Errorf("encode request: %w", err)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, p.timeout, fmt.Errorf("has not answered for %v", p.timeout))
	defer cancel()
	answer, complaint := &bounded{limit: maxAnswer}, &bounded{limit: maxComplaint}
	cmd := exec.CommandContext(ctx, p.path, p.args...)
	cmd.Env = append(os.Environ(), p.env...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(request), answer, complaint
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // what it has started ends with it
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		if said := strings.TrimSpace(complaint.kept.String()); said != "" {
			return nil, fmt.Errorf("%w: %s", err, said)
		}
		return nil, err
	}
	return p.read(answer.kept.Bytes())
}

// read reads what the program has answered.
func (p *program) read(answer []byte) (*credentialprovider.CredentialProviderResponse, error) {
	response := &credentialprovider.CredentialProviderResponse{}
	decoder := json.NewDecoder(bytes.NewReader(answer))
	decoder.DisallowUnknownFields()
	if decoder.Decode(response) != nil || decoder.More() {
		return nil, errors.New("its answer is not the JSON of a CredentialProviderResponse")
	}
	if response.Kind != "CredentialProviderResponse" || response.APIVersion != p.apiVersion {
		return nil, fmt.Errorf("its answer must be kind: CredentialProviderResponse, apiVersion: %s", p.apiVersion)
	}
	return response, nil
}

// bounded keeps the beginning of what is written.
type bounded struct {
	kept  bytes.Buffer
	limit int
}

// Write takes all, and keeps what there is room for.
func (b *bounded) Write(p []byte) (int, error) {
	b.kept.Write(p[:min(len(p), b.limit-b.kept.Len())])
	return len(p), nil
}
