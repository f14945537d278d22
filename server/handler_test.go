package server

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"
	authentication "k8s.io/api/authentication/v1"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// The heart of a client of WebSocket beats on until it fails, and the SPDY library waits for a second to be asked how it ended.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("k8s.io/client-go/tools/remotecommand.(*heartbeat).start"),
		goleak.IgnoreTopFunction("github.com/moby/spdystream.(*Connection).shutdown"))
}

// node is a Source.
type node struct {
	pods      []v1.Pod
	manifests Manifests
	events    []v1.Event
	sick      error
	retried   *[]string   // Pods; nil where there is none
	ended     chan string // commands whose time was up
}

func (n node) Pods() []v1.Pod       { return n.pods }
func (n node) Manifests() Manifests { return n.manifests }
func (n node) Events() []v1.Event   { return n.events }
func (n node) Healthy() error       { return n.sick }

func (n node) Stats(_ context.Context, only bool) (*Summary, error) {
	s := &Summary{Window: metav1.Duration{Duration: 15 * time.Second}}
	if s.Node.NodeName = "whole"; only {
		s.Node.NodeName = "cpu and memory"
	}
	return s, n.sick
}

func (n node) Resources(context.Context) prometheus.Gatherer {
	registry := prometheus.NewRegistry()
	registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "node_memory_working_set_bytes"}, func() float64 { return 7 }))
	return registry
}

func (n node) Containers(context.Context) prometheus.Gatherer {
	registry := prometheus.NewRegistry()
	registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "container_memory_rss"}, func() float64 { return 3 }))
	return registry
}

func (n node) Node(context.Context) *v1.Node {
	return &v1.Node{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Node"}, ObjectMeta: metav1.ObjectMeta{Name: "edge"}}
}

func (n node) Drain(on bool) error {
	if !on {
		return errors.New("the disk is full")
	}
	return nil
}

func (n node) Drained() (bool, int) { return true, 3 }

func (n node) Shorten(pod types.NamespacedName, grace time.Duration) error {
	switch {
	case pod.Name == "gone":
		return fmt.Errorf("%w: %s", ErrNoPod, pod)
	case grace != 5*time.Second:
		return fmt.Errorf("%w: it does not end", ErrConflict)
	}
	return nil
}

func (n node) AddEphemeral(pod types.NamespacedName, container []byte) (*v1.Pod, error) {
	switch pod.Name {
	case "gone":
		return nil, fmt.Errorf("%w: %s", ErrNoPod, pod)
	case "done":
		return nil, fmt.Errorf("%w: it is done", ErrConflict)
	case "broken":
		return nil, errors.New("the disk is full")
	}
	var c v1.EphemeralContainer
	if err := json.Unmarshal(container, &c); err != nil || c.Image == "" {
		return nil, fmt.Errorf("%w: no image", ErrInvalid)
	}
	p := &v1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: pod.Namespace, Name: pod.Name}}
	p.Spec.EphemeralContainers = []v1.EphemeralContainer{c}
	return p, nil
}

func (n node) Token(account types.NamespacedName, request []byte) (*authentication.TokenRequest, error) {
	switch account.Name {
	case "gone":
		return nil, As(ErrNoObject, "it is not there")
	case "another":
		return nil, As(ErrChanged, "it is another one")
	}
	var asked authentication.TokenRequest
	if err := json.Unmarshal(request, &asked); err != nil || len(asked.Spec.Audiences) == 0 {
		return nil, As(ErrInvalid, "for nobody")
	}
	asked.Status.Token = account.String() + " to " + asked.Spec.Audiences[0]
	return &asked, nil
}

func (n node) Follow(_ context.Context, tell func(Change) error) error {
	for _, c := range []Change{{Type: Added, Resource: "pods", Object: []byte(`{"kind":"Pod"}`), Revision: 7}, {Type: Bookmark, Revision: 8}} {
		if err := tell(c); err != nil {
			return err
		}
	}
	return nil
}

func (n node) PutObject(id ObjectID, body []byte, want Condition) ([]byte, error) {
	switch {
	case id.Name == "there" && want.New:
		return nil, As(ErrConflict, "it is there")
	case want.Revision == 7:
		return nil, As(ErrChanged, "it is another one")
	case id.Name == "file":
		return nil, As(ErrForbidden, "it comes from a file")
	case id.Name == "full":
		return nil, fmt.Errorf("write object: %w", syscall.ENOSPC)
	}
	if want.DryRun {
		return fmt.Appendf(nil, "%s in %q, not made: %s", id.Resource, id.Namespace, body), nil
	}
	return fmt.Appendf(nil, "%s in %q: %s", id.Resource, id.Namespace, body), nil
}

func (n node) PutStatus(id ObjectID, body []byte, want Condition) ([]byte, error) {
	if id.Resource != "pods" {
		return nil, As(ErrNoObject, "no Pod")
	}
	return fmt.Appendf(nil, "status of %s, dry run %v: %s", id.Name, want.DryRun, body), nil
}

func (n node) DeleteObject(id ObjectID, _ Condition, grace *time.Duration) ([]byte, string, error) {
	switch id.Name {
	case "gone":
		return nil, "", As(ErrNoObject, "it is not there")
	case "file":
		return []byte("as it was"), `it "begins" anew`, nil
	}
	return fmt.Appendf(nil, "within %v", *grace), "", nil
}

func (n node) Log(pod types.NamespacedName, container string, query url.Values) (func(context.Context, io.Writer) error, error) {
	switch {
	case pod.Name == "gone":
		return nil, fmt.Errorf("%w: %s", ErrNoPod, pod)
	case query.Get("tailLines") == "-1":
		return nil, fmt.Errorf("%w: tailLines", ErrInvalid)
	case container == "waits":
		return nil, BadRequest("it waits")
	}
	return func(ctx context.Context, out io.Writer) error {
		if _, err := io.WriteString(out, "one\n"); err != nil || query.Get("follow") == "" {
			return err
		}
		<-ctx.Done()
		return ctx.Err()
	}, nil
}

func (n node) Retry(pod types.NamespacedName) error {
	if n.retried == nil {
		return fmt.Errorf("there is no Pod %s", pod)
	}
	*n.retried = append(*n.retried, pod.String())
	return nil
}

// runDir is a folder whose name is short enough for a socket in it.
func runDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "pk")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// run serves h in a new run directory until the test ends.
func run(t *testing.T, h http.Handler) (dir string) {
	t.Helper()
	dir = runDir(t)
	l, err := Listen(dir)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- Serve(ctx, l, h) }()
	t.Cleanup(func() {
		cancel()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return dir
}

func meta(namespace, name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: namespace, Name: name}
}

// aNode has some of everything.
func aNode() node {
	return node{
		pods:   []v1.Pod{{ObjectMeta: meta("shop", "web")}, {ObjectMeta: meta("shop", "db")}, {ObjectMeta: meta("default", "zoo")}},
		events: []v1.Event{{ObjectMeta: meta("shop", "e1"), Reason: "Started"}, {ObjectMeta: meta("default", "e2"), Reason: "Killing"}},
		manifests: Manifests{
			Directory: "/etc/m",
			Pods:      []ManifestPod{{Namespace: "shop", Name: "web", File: "web.yaml", Revision: "r1"}},
			Objects:   []ManifestObject{{Kind: "ConfigMap", Namespace: "shop", Name: "settings", File: "web.yaml"}},
			Refused:   []Refused{{File: "a.yaml", Line: 3, Column: 5, Field: "spec", Reason: "no", Kind: "Pod", Namespace: "shop", Name: "a", Kept: true}},
		},
	}
}

func TestHandler(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewRegistry()
	registry.MustRegister(prometheus.NewCounter(prometheus.CounterOpts{Name: "podkeeper_test_total", Help: "A test."}))
	well, sick := aNode(), node{sick: errors.New("containerd does not answer")}
	tests := map[string]struct {
		src           Source
		method, path  string
		status        int
		kind          string // of content
		starts, holds string
	}{
		"Pods are a PodList":                    {well, "GET", "/pods", 200, "application/json", `{"kind":"PodList","apiVersion":"v1",`, `"name":"web"`},
		"no Pods are an empty list":             {sick, "GET", "/pods", 200, "application/json", `{"kind":"PodList"`, `"items":[]`},
		"events are an EventList":               {well, "GET", "/events", 200, "application/json", `{"kind":"EventList","apiVersion":"v1",`, `"reason":"Started"`},
		"no events of a namespace, either":      {well, "GET", "/events?namespace=none", 200, "application/json", `{"kind":"EventList"`, `"items":[]`},
		"manifests have lower camel case names": {well, "GET", "/manifests", 200, "application/json", `{"directory":"/etc/m","pods":[{"namespace":"shop","name":"web","file":"web.yaml","revision":"r1"}]`, `{"file":"a.yaml","line":3,"column":5,"field":"spec","reason":"no","kind":"Pod","namespace":"shop","name":"a","kept":true}`},
		"no manifests are empty lists":          {sick, "GET", "/manifests", 200, "application/json", `{"directory":"","pods":[],"objects":[],"refused":[]}`, ""},
		"a healthy agent is ok":                 {well, "GET", "/healthz", 200, "text/plain", "ok", ""},
		"a sick agent says what it has":         {sick, "GET", "/healthz", 503, "text/plain", "containerd does not answer", ""},
		"objects are told of line by line":      {well, "GET", "/objects", 200, "application/jsonl", `{"type":"ADDED","resource":"pods","object":{"kind":"Pod"},"revision":7}` + "\n" + `{"type":"BOOKMARK","revision":8}`, ""},
		"metrics are Prometheus'":               {well, "GET", "/metrics", 200, "text/plain", "# HELP podkeeper_test_total A test.", "podkeeper_test_total 0"},
		"usage is the kubelet's summary":        {well, "GET", "/stats/summary", 200, "application/json", `{"node":{"nodeName":"whole",`, `"window":"15s"`},
		"usage of CPUs and memory alone":        {well, "GET", "/stats/summary?only_cpu_and_memory=true", 200, "application/json", `{"node":{"nodeName":"cpu and memory",`, ""},
		"usage is the kubelet's series, too":    {well, "GET", "/metrics/resource", 200, "text/plain", "# HELP node_memory_working_set_bytes", "node_memory_working_set_bytes 7"},
		"usage that cannot be read":             {sick, "GET", "/stats/summary", 500, "text/plain", "containerd does not answer", ""},
		"a head is a get without a body":        {well, "HEAD", "/pods", 200, "application/json", "", ""},
		"and those of cAdvisor":                 {well, "GET", "/metrics/cadvisor", 200, "text/plain", "# HELP container_memory_rss", "container_memory_rss 3"},
		"the node is told":                      {well, "GET", "/node", 200, "application/json", `{"kind":"Node"`, `"name":"edge"`},
		"the node is drained":                   {well, "POST", "/drain", 200, "application/json", `{"drained":true,"running":3}`, ""},
		"or cannot be resumed":                  {well, "DELETE", "/drain", 500, "text/plain", "the disk is full", ""},
		"which takes these verbs":               {well, "PUT", "/drain", 405, "text/plain", "the node is drained with POST, and resumed with DELETE", ""},
		"another path is told what there is":    {well, "GET", "/pod", 404, "text/plain", "there is no /pod here; there are /attach/{namespace}/{name}/{container}, /containerLogs/{namespace}/{name}/{container}, /drain, /events, /exec/{namespace}/{name}/{container}, /healthz, /manifests, /metrics, /metrics/cadvisor, /metrics/resource, /node, /objects, /objects/{resource}/{namespace}/{name}, /objects/{resource}/{namespace}/{name}/status, /pods, /pods/{namespace}/{name}/ephemeralcontainers, /portForward/{namespace}/{name}, /retry, /serviceaccounts/{namespace}/{name}/token, /shorten, /stats/summary", ""},
		"the root is told what there is":        {well, "GET", "/", 404, "text/plain", "there is no / here", ""},
		"another method is told how to":         {well, "POST", "/pods", 405, "text/plain", "/pods can only be read", "manifests"},
		"nothing can be deleted":                {well, "DELETE", "/healthz", 405, "text/plain", "/healthz can only be read", ""},
		"a retry is done and says nothing":      {node{retried: new([]string)}, "POST", "/retry?namespace=shop&name=web", 204, "", "", ""},
		"a retry of an unknown Pod is told so":  {well, "POST", "/retry?namespace=shop&name=web", 404, "text/plain", "there is no Pod shop/web", ""},
		"a retry of no Pod is told how to":      {well, "POST", "/retry?name=web", 400, "text/plain", "which Pod? ask with ?namespace=NAMESPACE&name=NAME", ""},
		"a token is nothing to read":            {well, "GET", "/serviceaccounts/shop/web/token", 405, "text/plain", "tokens can only be asked for, with POST", ""},
		"a retry is nothing to read":            {well, "GET", "/retry?namespace=shop&name=web", 405, "text/plain", "/retry can only be asked for, with POST", ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := NewClient(run(t, Handler(tt.src, registry)))
			req, err := http.NewRequestWithContext(t.Context(), tt.method, "http://podkeeper"+tt.path, nil)
			if err != nil {
				t.Fatal(err)
			}
			res, err := c.http.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(res.Body)
			if err := errors.Join(err, res.Body.Close()); err != nil {
				t.Fatal(err)
			}
			if kind := res.Header.Get("Content-Type"); res.StatusCode != tt.status || !strings.HasPrefix(kind, tt.kind) ||
				!strings.HasPrefix(string(body), tt.starts) || !strings.Contains(string(body), tt.holds) {
				t.Errorf("%d %s\n%s\nwant %d %s\n%s…%s", res.StatusCode, kind, body, tt.status, tt.kind, tt.starts, tt.holds)
			}
		})
	}
}

func TestObjects(t *testing.T) {
	t.Parallel()
	for sentence, c := range map[string]struct {
		method, path  string
		header, value string
		status        int
		want          string
	}{
		"one is made":                      {"PUT", "/objects/pods/shop/web", "", "", 200, `pods in "shop": body`},
		"one of no namespace":              {"PUT", "/objects/persistentvolumes/_/disk", "", "", 200, `persistentvolumes in "": body`},
		"one that is to be new and is not": {"PUT", "/objects/pods/shop/there", "If-None-Match", "*", 409, "it is there"},
		"one that was edited meanwhile":    {"PUT", "/objects/pods/shop/web", "If-Match", `"7"`, 412, "it is another one"},
		"one of a file":                    {"PUT", "/objects/pods/shop/file", "", "", 403, "it comes from a file"},
		"a full disk":                      {"PUT", "/objects/pods/shop/full", "", "", 507, "write object: no space left on device"},
		"a revision that is none":          {"PUT", "/objects/pods/shop/web", "If-Match", "x", 400, "If-Match: x: want a resourceVersion"},
		"a condition that is none":         {"PUT", "/objects/pods/shop/web", "If-None-Match", "7", 400, "If-None-Match: 7: want *"},
		"one is removed":                   {"DELETE", "/objects/pods/shop/web?gracePeriodSeconds=3", "", "", 200, "within 3s"},
		"a status":                         {"PUT", "/objects/pods/shop/web/status?dryRun=true", "", "", 200, `status of web, dry run true: body`},
		"a status of what has none":        {"PUT", "/objects/configmaps/shop/web/status", "", "", 404, "no Pod"},
		"a status is not read":             {"GET", "/objects/pods/shop/web/status", "", "", 405, "the status of an object can be changed, with PUT"},
		"one is only checked":              {"PUT", "/objects/pods/shop/web?dryRun=true", "", "", 200, `pods in "shop", not made: body`},
		"a dry run that is none":           {"PUT", "/objects/pods/shop/web?dryRun=All", "", "", 400, "dryRun=All: want true or false"},
		"one that is not there":            {"DELETE", "/objects/pods/shop/gone", "", "", 404, "it is not there"},
		"a time that is none":              {"DELETE", "/objects/pods/shop/web?gracePeriodSeconds=-1", "", "", 400, "gracePeriodSeconds=-1: want a number of seconds"},
		"one is not read":                  {"GET", "/objects/pods/shop/web", "", "", 405, "objects can be made or changed, with PUT, and removed, with DELETE"},
	} {
		t.Run(sentence, func(t *testing.T) {
			t.Parallel()
			req := httptest.NewRequest(c.method, c.path, strings.NewReader("body"))
			if c.header != "" {
				req.Header.Set(c.header, c.value)
			}
			said := httptest.NewRecorder()
			Handler(aNode(), prometheus.NewRegistry()).ServeHTTP(said, req)
			if got := strings.TrimSpace(said.Body.String()); said.Code != c.status || got != c.want {
				t.Errorf("%d %s, want %d %s", said.Code, got, c.status, c.want)
			}
		})
	}
}

func TestAPodThatBeginsAnewIsWarnedOf(t *testing.T) {
	t.Parallel()
	said := httptest.NewRecorder()
	Handler(aNode(), prometheus.NewRegistry()).ServeHTTP(said, httptest.NewRequest(http.MethodDelete, "/objects/pods/shop/file", nil))
	if got := said.Header().Get("Warning"); said.Code != http.StatusOK || got != `299 - "it \"begins\" anew"` {
		t.Errorf("%d with the warning %s", said.Code, got)
	}
}

func TestPodsAreSortedAndTheSourceIsNot(t *testing.T) {
	t.Parallel()
	src := aNode()
	list, err := NewClient(run(t, Handler(src, prometheus.NewRegistry()))).Pods(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	names := func(pods []v1.Pod) (names []string) {
		for _, p := range pods {
			names = append(names, p.Namespace+"/"+p.Name)
		}
		return names
	}
	if diff := cmp.Diff([]string{"default/zoo", "shop/db", "shop/web"}, names(list.Items)); diff != "" {
		t.Errorf("pods (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(names(aNode().pods), names(src.pods)); diff != "" {
		t.Errorf("the source's own (-want +got):\n%s", diff)
	}
}

func TestClient(t *testing.T) {
	t.Parallel()
	c := NewClient(run(t, Handler(aNode(), prometheus.NewRegistry())))
	m, err := c.Manifests(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(aNode().manifests, *m); diff != "" {
		t.Errorf("manifests (-want +got):\n%s", diff)
	}
	usage, err := c.Stats(t.Context(), true)
	if err != nil || usage.Node.NodeName != "cpu and memory" || usage.Window.Duration != 15*time.Second {
		t.Errorf("usage: %+v, %v", usage, err)
	}
	events, err := c.Events(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(aNode().events, events.Items); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
	if err := c.Healthy(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestClientRetries(t *testing.T) {
	t.Parallel()
	var retried []string
	web := types.NamespacedName{Namespace: "shop", Name: "web & more"}
	if err := NewClient(run(t, Handler(node{retried: &retried}, prometheus.NewRegistry()))).Retry(t.Context(), web); err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff([]string{"shop/web & more"}, retried); diff != "" {
		t.Errorf("retried (-want +got):\n%s", diff)
	}
	err := NewClient(run(t, Handler(node{}, prometheus.NewRegistry()))).Retry(t.Context(), web)
	if !errors.Is(err, ErrNoPod) || err.Error() != "there is no Pod shop/web & more" {
		t.Errorf("of no Pod: %v", err)
	}
}

func TestClientSaysWhatTheAgentSays(t *testing.T) {
	t.Parallel()
	c := NewClient(run(t, Handler(node{sick: errors.New("containerd does not answer")}, prometheus.NewRegistry())))
	want := "get /healthz: the agent says (503 Service Unavailable): containerd does not answer"
	if err := c.Healthy(t.Context()); err == nil || err.Error() != want {
		t.Errorf("healthy: %v, want %s", err, want)
	}
}

func TestClientWithoutAnAgentSaysWhatToStart(t *testing.T) {
	t.Parallel()
	dead := runDir(t)
	leaveStaleSocket(t, dead)
	for name, dir := range map[string]string{
		"nothing was ever started": filepath.Join(runDir(t), "missing"),
		"the agent died":           dead,
	} {
		_, err := NewClient(dir).Pods(t.Context())
		if err == nil || !strings.HasPrefix(err.Error(), "no agent is running at "+dir) || !strings.Contains(err.Error(), "`podkeeper agent`") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// leaveStaleSocket leaves what an agent leaves that is killed.
func leaveStaleSocket(t *testing.T, dir string) {
	t.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(dir, socketName), Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestListen(t *testing.T) {
	t.Parallel()
	t.Run("the folder is made and the socket is its owner's alone", func(t *testing.T) {
		t.Parallel()
		dir := filepath.Join(runDir(t), "a", "b")
		l, err := Listen(dir)
		if err != nil {
			t.Fatal(err)
		}
		info, err := os.Lstat(filepath.Join(dir, "podkeeper.sock"))
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode() != fs.ModeSocket|0o600 {
			t.Errorf("the socket's mode is %s", info.Mode())
		}
		if err := errors.Join(l.Close(), l.Close()); err != nil {
			t.Errorf("close twice: %v", err)
		}
		if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
			t.Errorf("%v is left (%v)", left, err)
		}
	})
	t.Run("a living agent's socket is left alone", func(t *testing.T) {
		t.Parallel()
		dir := run(t, Handler(aNode(), prometheus.NewRegistry()))
		if _, err := Listen(dir); err == nil || !strings.Contains(err.Error(), "another agent is running") {
			t.Errorf("listen: %v", err)
		}
		if err := NewClient(dir).Healthy(t.Context()); err != nil {
			t.Errorf("the living agent: %v", err)
		}
	})
	t.Run("a dead agent's socket is replaced", func(t *testing.T) {
		t.Parallel()
		dir := runDir(t)
		leaveStaleSocket(t, dir)
		if err := os.WriteFile(filepath.Join(dir, socketName+".new"), nil, 0o600); err != nil {
			t.Fatal(err) // killed before the socket had its name
		}
		l, err := Listen(dir)
		if err != nil {
			t.Fatal(err)
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	t.Run("a stopped agent's folder can be used again", func(t *testing.T) {
		t.Parallel()
		dir := runDir(t)
		for range 3 {
			l, err := Listen(dir)
			if err != nil {
				t.Fatal(err)
			}
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
		}
	})
	t.Run("a path too long for a socket is refused in words", func(t *testing.T) {
		t.Parallel()
		if _, err := Listen("/" + strings.Repeat("x", 100)); err == nil || !strings.Contains(err.Error(), "at most 88 bytes") {
			t.Errorf("listen: %v", err)
		}
	})
	t.Run("a folder in the socket's place is an error that leaves no lock", func(t *testing.T) {
		t.Parallel()
		dir := runDir(t)
		inTheWay := filepath.Join(dir, socketName)
		if err := os.Mkdir(inTheWay, 0o700); err != nil {
			t.Fatal(err)
		}
		if _, err := Listen(dir); err == nil {
			t.Error("listen: no error")
		}
		if err := os.Remove(inTheWay); err != nil {
			t.Fatal(err)
		}
		l, err := Listen(dir)
		if err != nil {
			t.Fatal(err)
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
}

func TestListenForGroup(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("giving a socket to a group needs root")
	}
	const group = 65530
	for sentence, c := range map[string]struct{ before, after fs.FileMode }{
		"a folder that all may pass through stays as it is":   {0o755, 0o755},
		"one that only root may enter lets the group through": {0o750, 0o710},
	} {
		dir := runDir(t)
		if err := os.Chmod(dir, c.before); err != nil {
			t.Fatal(err)
		}
		if err := os.Mkdir(filepath.Join(dir, groupSocketName+fresh), 0o700); err != nil { // what is in the way goes
			t.Fatal(err)
		}
		l, err := ListenForGroup(dir, group)
		if err != nil {
			t.Fatal(err)
		}
		folder, err := os.Stat(dir)
		if err != nil || folder.Mode().Perm() != c.after {
			t.Errorf("%s: %v, %v", sentence, folder.Mode(), err)
		}
		socket, err := os.Lstat(l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		if of := socket.Sys().(*syscall.Stat_t); socket.Mode() != fs.ModeSocket|0o660 || of.Uid != 0 || of.Gid != group {
			t.Errorf("%s: the socket is %v of %d:%d", sentence, socket.Mode(), of.Uid, of.Gid)
		}
		if err := errors.Join(l.Close(), l.Close()); err != nil {
			t.Error(err)
		}
		if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
			t.Errorf("%v is left (%v)", left, err)
		}
	}
}

func TestServeLetsRequestsEnd(t *testing.T) {
	t.Parallel()
	dir := runDir(t)
	l, err := Listen(dir)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	h := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		cancel() // the agent is told to stop while it answers
		<-ctx.Done()
		writeBody(w, "text/plain", []byte("ok"))
	})
	served := make(chan error, 1)
	go func() { served <- Serve(ctx, l, h) }()
	if err := NewClient(dir).Healthy(t.Context()); err != nil {
		t.Errorf("the request that was being answered: %v", err)
	}
	if err := <-served; err != nil {
		t.Errorf("serve: %v", err)
	}
	if _, err := os.Lstat(filepath.Join(dir, socketName)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the socket is left: %v", err)
	}
}

func TestServeTellsOfABrokenListener(t *testing.T) {
	t.Parallel()
	l, err := Listen(runDir(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := Serve(t.Context(), l, http.NotFoundHandler()); !errors.Is(err, net.ErrClosed) {
		t.Errorf("serve: %v", err)
	}
}

func TestShorten(t *testing.T) {
	t.Parallel()
	client := NewClient(run(t, Handler(node{}, prometheus.NewRegistry())))
	for name, c := range map[string]struct {
		grace time.Duration
		want  error
	}{"web": {5 * time.Second, nil}, "gone": {5 * time.Second, ErrNoPod}, "stays": {time.Second, ErrConflict}} {
		if err := client.Shorten(t.Context(), types.NamespacedName{Namespace: "default", Name: name}, c.grace); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

func TestEphemeralContainers(t *testing.T) {
	t.Parallel()
	client := NewClient(run(t, Handler(node{}, prometheus.NewRegistry())))
	look := &v1.EphemeralContainer{EphemeralContainerCommon: v1.EphemeralContainerCommon{Name: "look", Image: "busybox"}, TargetContainerName: "app"}
	pod, err := client.AddEphemeral(t.Context(), types.NamespacedName{Namespace: "default", Name: "web"}, look)
	if err != nil || len(pod.Spec.EphemeralContainers) != 1 || pod.Spec.EphemeralContainers[0].TargetContainerName != "app" {
		t.Errorf("it is added as %v, %v", pod, err)
	}
	for name, want := range map[string]error{"gone": ErrNoPod, "done": ErrConflict} {
		if _, err := client.AddEphemeral(t.Context(), types.NamespacedName{Namespace: "default", Name: name}, look); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", name, err, want)
		}
	}
	if _, err := client.AddEphemeral(t.Context(), types.NamespacedName{Namespace: "default", Name: "web"}, &v1.EphemeralContainer{}); !errors.Is(err, ErrInvalid) {
		t.Errorf("without an image: %v", err)
	}
	if _, err := client.AddEphemeral(t.Context(), types.NamespacedName{Namespace: "default", Name: "broken"}, look); err == nil || !strings.Contains(err.Error(), "500") {
		t.Errorf("a fault of the agent's: %v", err)
	}
}

func TestLogs(t *testing.T) {
	t.Parallel()
	client := NewClient(run(t, Handler(node{}, prometheus.NewRegistry())))
	for sentence, c := range map[string]struct {
		pod, container string
		query          url.Values
		want           error
		text           string
	}{
		"a log":                        {"web", "app", nil, nil, "one\n"},
		"no such Pod":                  {"gone", "app", nil, ErrNoPod, ""},
		"one that has nothing to tell": {"web", "waits", nil, ErrBadRequest, ""},
		"a query that is wrong":        {"web", "app", url.Values{"tailLines": {"-1"}}, ErrInvalid, ""},
	} {
		var out bytes.Buffer
		err := client.Log(t.Context(), types.NamespacedName{Namespace: "default", Name: c.pod}, c.container, c.query, &out)
		if !errors.Is(err, c.want) || out.String() != c.text {
			t.Errorf("%s: %q, %v, want %q, %v", sentence, out.String(), err, c.text, c.want)
		}
	}
}

// told is closed by the first piece that is written.
type told chan struct{}

func (c told) Write(p []byte) (int, error) {
	close(c)
	return len(p), nil
}

func TestServeLetsGoOfWhoFollows(t *testing.T) {
	t.Parallel()
	dir := runDir(t)
	l, err := Listen(dir)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	served := make(chan error, 1)
	go func() { served <- Serve(ctx, l, Handler(node{}, prometheus.NewRegistry())) }()
	piece, followed := make(told), make(chan error, 1)
	go func() {
		web := types.NamespacedName{Namespace: "default", Name: "web"}
		followed <- NewClient(dir).Log(t.Context(), web, "app", url.Values{"follow": {"true"}}, piece)
	}()
	<-piece // at once, and not when the log ends
	cancel()
	if err := <-served; err != nil {
		t.Error(err)
	}
	if err := <-followed; err == nil {
		t.Error("a log that was cut off looks whole")
	}
}

func TestTokens(t *testing.T) {
	t.Parallel()
	client := NewClient(run(t, Handler(node{}, prometheus.NewRegistry())))
	ask := func(account string, audiences ...string) (*authentication.TokenRequest, error) {
		request := &authentication.TokenRequest{Spec: authentication.TokenRequestSpec{Audiences: audiences}}
		return client.Token(t.Context(), types.NamespacedName{Namespace: "shop", Name: account}, request)
	}
	if got, err := ask("builder", "vault"); err != nil || got.Status.Token != "shop/builder to vault" {
		t.Errorf("%+v, %v", got, err)
	}
	for account, want := range map[string]error{"gone": ErrNoObject, "another": ErrChanged} {
		if _, err := ask(account, "vault"); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", account, err, want)
		}
	}
	if _, err := ask("builder"); !errors.Is(err, ErrInvalid) || err.Error() != "for nobody" {
		t.Errorf("for nobody: %v", err)
	}
}
