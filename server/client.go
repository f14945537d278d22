package server

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	authentication "k8s.io/api/authentication/v1"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	utilnet "k8s.io/apimachinery/pkg/util/net"
)

// ErrNoPod says that the agent has no such Pod; it is found by errors.Is.
var ErrNoPod = errors.New("no such Pod")

// ErrConflict says that a Pod is not in a state for what is asked, or that an object is there already, ErrInvalid that what is
// asked is wrong in itself, and ErrBadRequest that there is nothing to answer, for which Kubernetes has this word. Of objects,
// ErrNoObject says that there is none, ErrChanged that it is another one by now, ErrForbidden that it is not for requests to
// change, and ErrNoSpace that the disk is full.
var (
	ErrNoSpace    = errors.New("no space left")
	ErrNoObject   = errors.New("no such object")
	ErrChanged    = errors.New("changed meanwhile")
	ErrForbidden  = errors.New("forbidden")
	ErrConflict   = errors.New("not now")
	ErrInvalid    = errors.New("invalid")
	ErrBadRequest = errors.New("bad request")
)

// maxRefusal is how much of an answer that is an error is read, in bytes.
const maxRefusal = 64 << 10

// Client asks the agent that listens in a run directory.
type Client struct {
	path      string
	transport *http.Transport
	http      http.Client
}

// NewClient returns a client of the agent with that run directory. It connects for each request, so the agent may come
// and go.
func NewClient(runDir string) *Client { return NewClientOf(filepath.Join(runDir, socketName)) }

// NewClientOf returns a client of the agent that listens on a socket, likewise.
func NewClientOf(socket string) *Client {
	transport := &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", socket)
		},
		DisableKeepAlives: true,
	}
	return &Client{path: socket, transport: transport, http: http.Client{Transport: transport}}
}

// Transport connects with the agent, whatever host is asked for: to pass requests for streams on to it.
func (c *Client) Transport() *http.Transport { return c.transport }

// PID is the process that listens, even where it does not answer.
func (c *Client) PID(ctx context.Context) (int, error) {
	conn, err := c.transport.DialContext(ctx, "", "")
	if err != nil {
		return 0, c.unreachable(err)
	}
	defer func() { _ = conn.Close() }()
	raw, err := conn.(*net.UnixConn).SyscallConn()
	if err != nil {
		return 0, fmt.Errorf("ask who listens at %s: %w", c.path, err)
	}
	var peer *unix.Ucred
	var peerErr error
	err = raw.Control(func(fd uintptr) { peer, peerErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) })
	if err := errors.Join(err, peerErr); err != nil {
		return 0, fmt.Errorf("ask who listens at %s: %w", c.path, err)
	}
	return int(peer.Pid), nil
}

// Get is what the agent answers to a GET of a path, as it is.
func (c *Client) Get(ctx context.Context, path string) ([]byte, error) {
	return c.do(ctx, http.MethodGet, path, nil)
}

// Pods are the Pods of the node.
func (c *Client) Pods(ctx context.Context) (*v1.PodList, error) {
	return ask[v1.PodList](ctx, c, "/pods")
}

// Events are the latest events of the node.
func (c *Client) Events(ctx context.Context) (*v1.EventList, error) {
	return ask[v1.EventList](ctx, c, "/events")
}

// Node reads the node, as it is now.
func (c *Client) Node(ctx context.Context) (*v1.Node, error) { return ask[v1.Node](ctx, c, "/node") }

// Manifests is what the agent read from its manifest directory.
func (c *Client) Manifests(ctx context.Context) (*Manifests, error) {
	return ask[Manifests](ctx, c, "/manifests")
}

// Stats is what Pods and the node use, or of that their CPUs and memory.
func (c *Client) Stats(ctx context.Context, onlyCPUAndMemory bool) (*Summary, error) {
	return ask[Summary](ctx, c, "/stats/summary?only_cpu_and_memory="+strconv.FormatBool(onlyCPUAndMemory))
}

// Healthy is nil when the agent runs and is well, else what is wrong.
func (c *Client) Healthy(ctx context.Context) error {
	_, err := c.do(ctx, http.MethodGet, "/healthz", nil)
	return err
}

// Drain has all Pods end and none begin, or be back, and answers how far that is.
func (c *Client) Drain(ctx context.Context, on bool) (Drain, error) {
	method := http.MethodDelete
	if on {
		method = http.MethodPost
	}
	var d Drain
	answer, err := c.do(ctx, method, "/drain", nil)
	if err == nil {
		err = json.Unmarshal(answer, &d)
	}
	return d, err
}

// Drained answers whether the node is drained, and how many Pods still run.
func (c *Client) Drained(ctx context.Context) (*Drain, error) { return ask[Drain](ctx, c, "/drain") }

// Retry has everything that waits in a Pod tried at once. It returns when the
// agent knows, not when it is done. [ErrNoPod] is where there is no such Pod.
func (c *Client) Retry(ctx context.Context, pod types.NamespacedName) error {
	query := url.Values{"namespace": {pod.Namespace}, "name": {pod.Name}}
	_, err := c.do(ctx, http.MethodPost, "/retry?"+query.Encode(), nil)
	return known(err, ErrNoPod)
}

// Shorten has a Pod that ends be over within a time from now, in whole seconds, not later than it would be. The error is
// [ErrNoPod], or [ErrConflict] where the Pod does not end.
func (c *Client) Shorten(ctx context.Context, pod types.NamespacedName, grace time.Duration) error {
	query := url.Values{"namespace": {pod.Namespace}, "name": {pod.Name}, "gracePeriodSeconds": {strconv.Itoa(int(grace / time.Second))}}
	_, err := c.do(ctx, http.MethodPost, "/shorten?"+query.Encode(), nil)
	return known(err, ErrNoPod)
}

// AddEphemeral adds an ephemeral container to a Pod that runs, and answers the Pod with it. The error is [ErrNoPod],
// [ErrConflict] or [ErrInvalid], in the agent's words.
func (c *Client) AddEphemeral(ctx context.Context, pod types.NamespacedName, container *v1.EphemeralContainer) (*v1.Pod, error) {
	path := fmt.Sprintf("/pods/%s/%s/ephemeralcontainers", url.PathEscape(pod.Namespace), url.PathEscape(pod.Name))
	return post[v1.Pod](ctx, c, path, container, ErrNoPod)
}

// Token asks for a token of a ServiceAccount, and answers the request with it. The error is [ErrNoObject], [ErrInvalid],
// [ErrBadRequest] or [ErrChanged], in the agent's words.
func (c *Client) Token(ctx context.Context, account types.NamespacedName, request *authentication.TokenRequest) (*authentication.TokenRequest, error) {
	path := fmt.Sprintf("/serviceaccounts/%s/%s/token", url.PathEscape(account.Namespace), url.PathEscape(account.Name))
	return post[authentication.TokenRequest](ctx, c, path, request, ErrNoObject)
}

// Log writes the log of a container, as the query of a v1.PodLogOptions asks; with follow until the container has ended or
// ctx does. The error is [ErrNoPod], [ErrInvalid] or [ErrBadRequest], in the agent's words.
func (c *Client) Log(ctx context.Context, pod types.NamespacedName, container string, query url.Values, out io.Writer) error {
	path := fmt.Sprintf("/containerLogs/%s/%s/%s", url.PathEscape(pod.Namespace), url.PathEscape(pod.Name), url.PathEscape(container))
	res, err := c.send(ctx, http.MethodGet, path+"?"+query.Encode(), nil, nil)
	if err != nil {
		return known(err, ErrNoPod)
	}
	defer res.Body.Close()
	if _, err := io.CopyBuffer(struct{ io.Writer }{out}, res.Body, make([]byte, logPiece)); err != nil {
		return fmt.Errorf("read log: %w", err)
	}
	return nil
}

// logPiece is how much of a log is copied at once, in bytes.
const logPiece = 256 << 10

// Follow tells of every object there is, then by a [Bookmark] of the revision at which there were these, then of each change,
// until ctx ends or tell fails. The error says why it ended: whoever wants to go on begins again.
func (c *Client) Follow(ctx context.Context, tell func(Change) error) error {
	res, err := c.send(ctx, http.MethodGet, "/objects", nil, nil)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	lines := json.NewDecoder(res.Body)
	for {
		var change Change
		if err := lines.Decode(&change); err != nil {
			return fmt.Errorf("read changes of objects: %w", err)
		}
		if err := tell(change); err != nil {
			return err
		}
	}
}

// PutObject makes an object, in JSON, be what there is by a name, and answers it. The error is [ErrNoObject], [ErrConflict],
// [ErrChanged], [ErrForbidden], [ErrInvalid] or [ErrBadRequest], in the agent's words.
func (c *Client) PutObject(ctx context.Context, id ObjectID, object []byte, want Condition) ([]byte, error) {
	answer, _, err := c.change(ctx, http.MethodPut, id.path("", want.DryRun, nil), bytes.NewReader(object), want)
	return answer, err
}

// PutStatus makes the status of an object, a Pod's conditions, be what it is in one in JSON, and answers the object, likewise.
func (c *Client) PutStatus(ctx context.Context, id ObjectID, object []byte, want Condition) ([]byte, error) {
	answer, _, err := c.change(ctx, http.MethodPut, id.path("/status", want.DryRun, nil), bytes.NewReader(object), want)
	return answer, err
}

// DeleteObject removes an object, and answers it as it was, likewise; a Pod that stands in a manifest begins anew, which the
// warning says. A Pod has grace to end, or its own time where that is nil.
func (c *Client) DeleteObject(ctx context.Context, id ObjectID, want Condition, grace *time.Duration) (object []byte, warning string, err error) {
	return c.change(ctx, http.MethodDelete, id.path("", want.DryRun, grace), nil, want)
}

// path is that of an object, or of a part of it such as /status.
func (id ObjectID) path(part string, dryRun bool, grace *time.Duration) string {
	query := url.Values{}
	if dryRun {
		query.Set("dryRun", "true")
	}
	if grace != nil {
		query.Set("gracePeriodSeconds", strconv.FormatInt(int64(*grace/time.Second), 10))
	}
	return "/objects/" + url.PathEscape(id.Resource) + "/" + url.PathEscape(cmp.Or(id.Namespace, noNamespace)) + "/" + url.PathEscape(id.Name) + part + "?" + query.Encode()
}

func (c *Client) change(ctx context.Context, method, path string, body io.Reader, want Condition) (object []byte, warning string, err error) {
	header := http.Header{}
	if want.New {
		header.Set("If-None-Match", "*")
	}
	if want.Revision != 0 {
		header.Set("If-Match", strconv.FormatUint(want.Revision, 10))
	}
	answer, said, err := c.exchange(ctx, method, path, body, header)
	if err != nil {
		return nil, "", known(err, ErrNoObject)
	}
	warnings, _ := utilnet.ParseWarningHeaders(said["Warning"])
	for _, w := range warnings {
		warning = w.Text
	}
	return bytes.TrimSpace(answer), warning, nil
}

// known gives an answer that is one of the errors above its kind; missing is that of one that is not found.
func known(err, missing error) error {
	said := (*answer)(nil)
	if !errors.As(err, &said) {
		return err
	}
	switch said.code {
	case http.StatusNotFound:
		return kindOf{said.words, missing}
	case http.StatusForbidden:
		return kindOf{said.words, ErrForbidden}
	case http.StatusPreconditionFailed:
		return kindOf{said.words, ErrChanged}
	case http.StatusConflict:
		return kindOf{said.words, ErrConflict}
	case http.StatusUnprocessableEntity:
		return kindOf{said.words, ErrInvalid}
	case http.StatusBadRequest:
		return kindOf{said.words, ErrBadRequest}
	case http.StatusInsufficientStorage:
		return kindOf{said.words, ErrNoSpace}
	}
	return err
}

// kindOf is an error of a kind in the agent's words.
type kindOf struct {
	words string
	kind  error
}

// As is an error of one of these kinds, in words of its own.
func As(kind error, words string) error { return kindOf{words, kind} }

// BadRequest is an [ErrBadRequest] in these words.
func BadRequest(words string) error { return As(ErrBadRequest, words) }

func (e kindOf) Error() string { return e.words }

func (e kindOf) Is(target error) bool { return target == e.kind }

// ask gets a path and decodes the answer.
func ask[T any](ctx context.Context, c *Client, path string) (*T, error) {
	body, err := c.do(ctx, http.MethodGet, path, nil)
	if err != nil {
		return nil, err
	}
	return decode[T](body, path)
}

// post sends something to a path and decodes the answer; missing is the error of one that is not found.
func post[T any](ctx context.Context, c *Client, path string, asked any, missing error) (*T, error) {
	text, err := json.Marshal(asked)
	if err != nil {
		return nil, fmt.Errorf("encode what is asked of %s: %w", path, err)
	}
	body, err := c.do(ctx, http.MethodPost, path, bytes.NewReader(text))
	if err != nil {
		return nil, known(err, missing)
	}
	return decode[T](body, path)
}

func decode[T any](body []byte, path string) (*T, error) {
	said := new(T)
	if err := json.Unmarshal(body, said); err != nil {
		return nil, fmt.Errorf("decode the agent's answer about %s: %w", path, err)
	}
	return said, nil
}

// answer is one that is no success, in the agent's words.
type answer struct {
	method, path string
	code         int
	status       string
	words        string
}

func (a *answer) Error() string {
	return fmt.Sprintf("%s %s: the agent says (%s): %s", strings.ToLower(a.method), a.path, a.status, a.words)
}

// do makes a request and reads the answer. One that is no success is an error of type *answer.
func (c *Client) do(ctx context.Context, method, path string, asked io.Reader) ([]byte, error) {
	body, _, err := c.exchange(ctx, method, path, asked, nil)
	return body, err
}

// exchange is the same with headers.
func (c *Client) exchange(ctx context.Context, method, path string, asked io.Reader, header http.Header) (body []byte, said http.Header, err error) {
	res, err := c.send(ctx, method, path, asked, header)
	if err != nil {
		return nil, nil, err
	}
	body, err = io.ReadAll(res.Body)
	if err := errors.Join(err, res.Body.Close()); err != nil {
		return nil, nil, fmt.Errorf("read the agent's answer to %s %s: %w", method, path, err)
	}
	return body, res.Header, nil
}

// send makes a request. An answer that is no success is an error of type *answer.
func (c *Client) send(ctx context.Context, method, path string, asked io.Reader, header http.Header) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://podkeeper"+path, asked)
	if err != nil {
		return nil, fmt.Errorf("make request: %w", err)
	}
	maps.Copy(req.Header, header)
	res, err := c.http.Do(req)
	if err != nil {
		return nil, c.unreachable(err)
	}
	if res.StatusCode == http.StatusOK || res.StatusCode == http.StatusNoContent {
		return res, nil
	}
	words, err := io.ReadAll(io.LimitReader(res.Body, maxRefusal))
	if err := errors.Join(err, res.Body.Close()); err != nil {
		return nil, fmt.Errorf("read the agent's answer to %s %s: %w", method, path, err)
	}
	return nil, &answer{method: method, path: path, code: res.StatusCode, status: res.Status, words: strings.TrimSpace(string(words))}
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
