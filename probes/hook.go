package probes

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	v1 "k8s.io/api/core/v1"
)

// hookAgent is what Kubernetes 1.37 calls itself when it runs a hook (pkg/kubelet/lifecycle/handlers.go).
const hookAgent = "kube-lifecycle/1.37"

// Hook does once what a container asks for after its start or before its stop. It returns when that is done, has failed, or
// ctx has ended.
type Hook func(ctx context.Context) error

// errInvalidHandler is the kubelet's answer to a tcpSocket, which the API has and no hook runs.
var errInvalidHandler = errors.New("invalid handler: must be exec, httpGet or sleep")

// NewHook makes the hook that a handler asks for (pkg/kubelet/lifecycle/handlers.go). An answer over HTTP is a success
// whatever its status; HTTPS is spoken without verification, and given up for HTTP where the other side speaks that. The
// errors are those of a hook that can never be run.
func NewHook(h *v1.LifecycleHandler, t Target, exec ExecFunc) (Hook, error) {
	switch {
	case h.Exec != nil:
		return execHook(h.Exec.Command, exec), nil
	case h.HTTPGet != nil:
		return newHTTPHook(h.HTTPGet, t)
	case h.Sleep != nil:
		return sleepHook(time.Duration(h.Sleep.Seconds) * time.Second), nil
	default:
		return nil, errInvalidHandler
	}
}

func execHook(command []string, exec ExecFunc) Hook {
	return func(ctx context.Context) error {
		code, output, err := exec(ctx, command)
		switch {
		case err != nil:
			return fmt.Errorf("run %q: %w", command, err)
		case code != 0:
			return fmt.Errorf("command %q exited with %d: %s", command, code, output)
		}
		return nil
	}
}

func sleepHook(d time.Duration) Hook {
	return func(ctx context.Context) error {
		timer := time.NewTimer(d)
		defer timer.Stop()
		select {
		case <-timer.C:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func newHTTPHook(get *v1.HTTPGetAction, t Target) (Hook, error) {
	r, err := newRequester(get, t, hookAgent)
	if err != nil {
		return nil, fmt.Errorf("make httpGet hook: %w", err)
	}
	client := r.client()
	return func(ctx context.Context) error {
		err := r.hook(ctx, client, r.scheme)
		if r.scheme == "https" && errors.Is(err, http.ErrSchemeMismatch) {
			return r.hook(ctx, client, "http")
		}
		return err
	}, nil
}

// hook makes the request and reads at most 10 KiB of the answer, which says nothing.
func (r *requester) hook(ctx context.Context, client *http.Client, scheme string) error {
	req, err := r.request(ctx, scheme)
	if err != nil {
		return err
	}
	res, err := client.Do(req)
	if err != nil {
		return err
	}
	_, _ = io.CopyN(io.Discard, res.Body, maxOutput)
	return res.Body.Close()
}
