package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"syscall"

	v1 "k8s.io/api/core/v1"
)

// maxRefusal is how much of an answer that is an error is read, in bytes.
const maxRefusal = 64 << 10

// Client asks the agent that listens in a run directory.
type Client struct {
	path string
	http http.Client
}

// NewClient returns a client of the agent with that run directory. It connects for each request, so the agent may come
// and go.
func NewClient(runDir string) *Client {
	path := filepath.Join(runDir, socketName)
	return &Client{path: path, http: http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", path)
		},
		DisableKeepAlives: true,
	}}}
}

// Pods are the Pods of the node.
func (c *Client) Pods(ctx context.Context) (*v1.PodList, error) {
	return ask[v1.PodList](ctx, c, "/pods")
}

// Events are the latest events of the node.
func (c *Client) Events(ctx context.Context) (*v1.EventList, error) {
	return ask[v1.EventList](ctx, c, "/events")
}

// Manifests is what the agent read from its manifest directory.
func (c *Client) Manifests(ctx context.Context) (*Manifests, error) {
	return ask[Manifests](ctx, c, "/manifests")
}

// Healthy is nil when the agent runs and is well, else what is wrong.
func (c *Client) Healthy(ctx context.Context) error {
	_, err := c.get(ctx, "/healthz")
	return err
}

// ask gets a path and decodes the answer.
func ask[T any](ctx context.Context, c *Client, path string) (*T, error) {
	body, err := c.get(ctx, path)
	if err != nil {
		return nil, err
	}
	answer := new(T)
	if err := json.Unmarshal(body, answer); err != nil {
		return nil, fmt.Errorf("decode the agent's answer to GET %s: %w", path, err)
	}
	return answer, nil
}

// get gets a path. An answer that is not 200 is an error in the agent's words.
func (c *Client) get(ctx context.Context, path string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://podkeeper"+path, nil)
	if err != nil {
		return nil, fmt.Errorf("make request: %w", err)
	}
	res, err := c.http.Do(req)
	if err != nil {
		return nil, c.unreachable(err)
	}
	from := io.Reader(res.Body)
	if res.StatusCode != http.StatusOK {
		from = io.LimitReader(res.Body, maxRefusal)
	}
	body, err := io.ReadAll(from)
	if err := errors.Join(err, res.Body.Close()); err != nil {
		return nil, fmt.Errorf("read the agent's answer to GET %s: %w", path, err)
	}
	if res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("get %s: the agent says (%s): %s", path, res.Status, strings.TrimSpace(string(body)))
	}
	return body, nil
}

// unreachable tells a user what to do about an agent that does not answer.
func (c *Client) unreachable(err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("no agent is running at %s: start one with `podkeeper agent`, or name the --run-dir of the one that runs: %w", c.path, err)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("not allowed to use %s: try again as root: %w", c.path, err)
	default:
		return fmt.Errorf("ask the agent at %s: %w", c.path, err)
	}
}
