package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	authentication "k8s.io/api/authentication/v1"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/podkeeper/podkeeper/kubeapi/mirror"
	"github.com/podkeeper/podkeeper/kubeapi/storage"
	"github.com/podkeeper/podkeeper/server"
)

// obedient is an agent that does whatever it is asked, and has a mirror know of it at once.
type obedient struct {
	server.Source // nil: nothing else is asked for
	mirror        *mirror.Mirror

	mu       sync.Mutex
	revision uint64
	objects  map[server.ObjectID]map[string]any
}

// tell makes an object be there, nil is none, and answers it.
func (o *obedient) tell(id server.ObjectID, object map[string]any) ([]byte, error) {
	o.revision++
	c := server.Change{Type: server.Modified, Resource: id.Resource, Revision: o.revision}
	was := o.objects[id]
	if o.objects[id] = object; object == nil {
		c.Type, object = server.Deleted, was
		delete(o.objects, id)
	}
	metadata, ok := object["metadata"].(map[string]any)
	if !ok {
		return nil, server.ErrNoObject
	}
	metadata["resourceVersion"] = strconv.FormatUint(o.revision, 10)
	body, err := json.Marshal(object)
	if err != nil {
		return nil, err
	}
	c.Object = body
	return body, o.mirror.Take(c)
}

func (o *obedient) PutObject(id server.ObjectID, body []byte, want server.Condition) ([]byte, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	var object map[string]any
	if err := json.Unmarshal(body, &object); err != nil || want.DryRun {
		return body, err
	}
	return o.tell(id, object)
}

func (o *obedient) PutStatus(id server.ObjectID, body []byte, want server.Condition) ([]byte, error) {
	return o.PutObject(id, body, want)
}

func (o *obedient) DeleteObject(id server.ObjectID, want server.Condition, _ *time.Duration) (answer []byte, warning string, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if was := o.objects[id]; was == nil || want.DryRun {
		answer, err = json.Marshal(was)
		return answer, "", err
	}
	answer, err = o.tell(id, nil)
	return answer, "", err
}

func (o *obedient) AddEphemeral(pod types.NamespacedName, _ []byte) (*v1.Pod, error) {
	return &v1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: pod.Namespace, Name: pod.Name}}, nil
}

func (o *obedient) Token(account types.NamespacedName, _ []byte) (*authentication.TokenRequest, error) {
	return nil, server.As(server.ErrNoObject, account.String()+": there is no such account")
}

const (
	fuzzedPod       = `{"apiVersion":"v1","kind":"Pod","metadata":{"namespace":"default","name":"web","uid":"u-1","creationTimestamp":"2026-01-01T00:00:00Z"},"spec":{"containers":[{"name":"app","image":"demo"}]},"status":{"phase":"Running"}}`
	fuzzedConfigMap = `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"namespace":"default","name":"web","uid":"u-2","creationTimestamp":"2026-01-01T00:00:00Z"},"data":{"a":"1"}}`
)

// begin has there be what every request meets, and nothing else.
func (o *obedient) begin() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	for id := range o.objects {
		if _, err := o.tell(id, nil); err != nil {
			return err
		}
	}
	for resource, text := range map[string]string{"pods": fuzzedPod, "configmaps": fuzzedConfigMap} {
		var object map[string]any
		if err := json.Unmarshal([]byte(text), &object); err != nil {
			return err
		}
		if _, err := o.tell(server.ObjectID{Resource: resource, Namespace: "default", Name: "web"}, object); err != nil {
			return err
		}
	}
	return nil
}

// words are what is logged.
type words struct {
	mu   sync.Mutex
	said []string
}

func (w *words) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.said = append(w.said, string(p))
	return len(p), nil
}

// served is the whole API over an obedient agent, and what it logs.
func served(tb testing.TB) (http.Handler, *obedient, *words) {
	tb.Helper()
	o := &obedient{mirror: mirror.New(storage.Decode), objects: map[server.ObjectID]map[string]any{}}
	socket := filepath.Join(tb.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		tb.Fatal(err)
	}
	agent := &http.Server{Handler: server.Handler(o, nil)}
	go func() { _ = agent.Serve(l) }()
	tb.Cleanup(func() { _ = agent.Close() })
	log := &words{}
	h, err := handlerOf(o.mirror, server.NewClientOf(socket), tokenKey(tb), slog.New(slog.NewTextHandler(log, nil)))
	if err != nil {
		tb.Fatal(err)
	}
	return h, o, log
}

// tokenKey is a file with the public key of tokens.
func tokenKey(tb testing.TB) string {
	tb.Helper()
	file := filepath.Join(tb.TempDir(), "sa.pub")
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err == nil {
		err = os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), 0o600)
	}
	if err != nil {
		tb.Fatal(err)
	}
	return file
}

var (
	fuzzedVerbs = []string{"POST", "PUT", "PATCH", "DELETE"}
	fuzzedTypes = []string{
		"application/json", "application/yaml", "application/vnd.kubernetes.protobuf", "application/json-patch+json", "application/merge-patch+json",
		"application/strategic-merge-patch+json", "application/apply-patch+yaml",
	}
	fuzzedPaths = []string{
		"/api/v1/namespaces/default/pods", "/api/v1/namespaces/default/pods/web", "/api/v1/namespaces/default/pods/web/status",
		"/api/v1/namespaces/default/pods/web/ephemeralcontainers", "/api/v1/namespaces/default/pods/web/eviction", "/api/v1/namespaces/default/pods/web/binding",
		"/api/v1/namespaces/default/configmaps", "/api/v1/namespaces/default/configmaps/web", "/api/v1/namespaces/default/configmaps/new",
		"/api/v1/namespaces", "/api/v1/namespaces/default/services", "/api/v1/namespaces/default/events", "/api/v1/namespaces/default/secrets",
		"/apis/events.k8s.io/v1/namespaces/default/events", "/apis/coordination.k8s.io/v1/namespaces/default/leases/new",
		"/apis/rbac.authorization.k8s.io/v1/clusterroles/new", "/api/v1/namespaces/default/serviceaccounts/default/token",
		"/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews",
		"/apis/authorization.k8s.io/v1/subjectaccessreviews", "/apis/authorization.k8s.io/v1/namespaces/default/localsubjectaccessreviews",
		"/apis/authentication.k8s.io/v1/tokenreviews", "/apis/authentication.k8s.io/v1/selfsubjectreviews",
	}
)

// seeds are requests that are right, or nearly so.
func seeds(f *testing.F) {
	f.Helper()
	at := func(list []string, suffix string) (i uint8) {
		for n, s := range list {
			if strings.HasSuffix(s, suffix) {
				return uint8(n)
			}
		}
		f.Fatal(suffix)
		return 0
	}
	for _, s := range []struct{ verb, path, kind, query, body string }{
		{"POST", "/pods", "application/json", "", strings.ReplaceAll(fuzzedPod, "web", "new")},
		{"POST", "/pods", "application/yaml", "dryRun=All&fieldValidation=Strict", "apiVersion: v1\nkind: Pod\nmetadata: {generateName: x-}\nspec: {containers: [{name: a, image: b, x: 1}]}\n"},
		{"POST", "/default/configmaps", "protobuf", "", "k8s\x00\n\x0f\n\x02v1\x12\tConfigMap\x12\x12\n\x10\n\x03new\x12\x00\x1a\x00\"\x00*\x002\x008\x00B\x00\x1a\x00\"\x00"},
		{"POST", "/configmaps/web", "application/json", "", fuzzedConfigMap},
		{"PUT", "/configmaps/web", "application/json", "fieldManager=x", strings.Replace(fuzzedConfigMap, `"1"`, `"2"`, 1)},
		{"PUT", "/configmaps/new", "application/json", "", strings.ReplaceAll(fuzzedConfigMap, "web", "new")},
		{"PUT", "/pods/web", "application/json", "", strings.Replace(fuzzedPod, `"demo"`, `"demo:2"`, 1)},
		{"PUT", "/web/status", "application/json", "", strings.Replace(fuzzedPod, `"phase":"Running"`, `"conditions":[{"type":"a/b","status":"True"}]`, 1)},
		{"PATCH", "/configmaps/web", "json-patch+json", "", `[{"op":"test","path":"/data/a","value":"1"},{"op":"add","path":"/data/b","value":"2"},{"op":"copy","from":"/data/b","path":"/data/c"}]`},
		{"PATCH", "/configmaps/web", "json-patch+json", "", `[{"op":"test","path":""}]`},
		{"PATCH", "/configmaps/web", "application/merge-patch+json", "", `{"data":{"a":null},"metadata":{"labels":{"x":"y"},"finalizers":["a/b"]}}`},
		{"PATCH", "/pods/web", "strategic-merge-patch+json", "", `{"spec":{"containers":[{"name":"app","image":"demo:2"}],"$setElementOrder/containers":[{"name":"app"}]},"metadata":{"$patch":"replace"}}`},
		{"PATCH", "/pods/web", "apply-patch+yaml", "fieldManager=x&force=true", "apiVersion: v1\nkind: Pod\nmetadata: {name: web, labels: {a: b}}\n"},
		{"PATCH", "/leases/new", "apply-patch+yaml", "fieldManager=x", `{"apiVersion":"coordination.k8s.io/v1","kind":"Lease","metadata":{"name":"new"},"spec":{"holderIdentity":"a"}}`},
		{"PATCH", "/ephemeralcontainers", "strategic-merge-patch+json", "", `{"spec":{"ephemeralContainers":[{"name":"look","image":"demo","targetContainerName":"app"}]}}`},
		{"PATCH", "/clusterroles/new", "apply-patch+yaml", "fieldManager=x", `{"apiVersion":"rbac.authorization.k8s.io/v1","kind":"ClusterRole","rules":[{"verbs":["get"],"apiGroups":[""],"resources":["pods"]}]}`},
		{"DELETE", "/pods/web", "application/json", "gracePeriodSeconds=0", `{"kind":"DeleteOptions","apiVersion":"v1","gracePeriodSeconds":5,"preconditions":{"uid":"u-1","resourceVersion":"3"},"propagationPolicy":"Foreground"}`},
		{"DELETE", "/default/configmaps", "application/json", "labelSelector=a%3Db&fieldSelector=metadata.name%3Dweb", ""},
		{"POST", "/eviction", "application/json", "", `{"apiVersion":"policy/v1","kind":"Eviction","metadata":{"name":"web"},"deleteOptions":{"gracePeriodSeconds":-1,"dryRun":["All"]}}`},
		{"POST", "/binding", "application/json", "", `{"apiVersion":"v1","kind":"Binding","target":{"kind":"Node","name":"n"}}`},
		{"POST", "v1/namespaces", "application/json", "", `{"metadata":{"name":"shop"}}`},
		{"POST", "/services", "application/json", "", `{"metadata":{"name":"s"},"spec":{"ports":[{"port":80,"targetPort":"http"}],"selector":{"a":"b"}}}`},
		{"POST", "/secrets", "application/json", "", `{"metadata":{"name":"s"},"data":{"a":"!"},"stringData":{"b":"c"}}`},
		{"POST", "/v1/namespaces/default/events", "application/json", "", `{"metadata":{"name":"e"},"involvedObject":{"namespace":"default"},"count":1,"eventTime":null}`},
		{"POST", "/token", "application/json", "", `{"spec":{"audiences":["a"],"expirationSeconds":600}}`},
		{"POST", "/selfsubjectaccessreviews", "application/json", "", `{"spec":{"resourceAttributes":{"verb":"get","resource":"pods","fieldSelector":{"rawSelector":"a=b"}}}}`},
		{"POST", "/selfsubjectrulesreviews", "application/json", "", `{"spec":{"namespace":"default"}}`},
		{"POST", "/subjectaccessreviews", "application/json", "", `{"spec":{"user":"a","nonResourceAttributes":{"path":"/","verb":"get"}}}`},
		{"POST", "/localsubjectaccessreviews", "application/json", "", `{"metadata":{"namespace":"default"},"spec":{"user":"a","resourceAttributes":{"namespace":"default"}}}`},
		{"POST", "/tokenreviews", "application/json", "", `{"spec":{"token":"a.b.c"}}`},
	} {
		f.Add(at(fuzzedVerbs, s.verb), at(fuzzedPaths, s.path), at(fuzzedTypes, s.kind), s.query, []byte(s.body))
	}
}

// FuzzBodies has requests with whatever body be answered with an object, or with a Status that says what is wrong with them.
func FuzzBodies(f *testing.F) {
	seeds(f)
	h, o, log := served(f)
	who := &tls.ConnectionState{VerifiedChains: [][]*x509.Certificate{{{Subject: pkix.Name{CommonName: "admin", Organization: []string{"system:masters"}}}}}}
	f.Fuzz(func(t *testing.T, verb, path, kind uint8, query string, body []byte) {
		if err := o.begin(); err != nil {
			t.Fatal(err)
		}
		r := httptest.NewRequest(fuzzedVerbs[int(verb)%len(fuzzedVerbs)], fuzzedPaths[int(path)%len(fuzzedPaths)], strings.NewReader(string(body)))
		r.URL.RawQuery, r.TLS = query, who
		r.Header.Set("Content-Type", fuzzedTypes[int(kind)%len(fuzzedTypes)])
		r.Header.Set("Accept", "application/json")
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if err := answered(w); err != nil {
			t.Errorf("%s %s?%s as %s: %v", r.Method, r.URL.Path, query, r.Header.Get("Content-Type"), err)
		}
		log.mu.Lock()
		defer log.mu.Unlock()
		if len(log.said) > 0 {
			t.Errorf("%s %s?%s as %s: it logs %s", r.Method, r.URL.Path, query, r.Header.Get("Content-Type"), log.said)
			log.said = nil
		}
	})
}

// answered says what is wrong with an answer.
func answered(w *httptest.ResponseRecorder) error {
	var said struct {
		metav1.TypeMeta
		Status any `json:"status"`
		Code   int `json:"code"`
	}
	switch err := json.Unmarshal(w.Body.Bytes(), &said); {
	case err != nil:
		return fmt.Errorf("%d %q: %w", w.Code, w.Body, err)
	case said.Kind == "" || said.APIVersion == "":
		return fmt.Errorf("%d of no kind: %s", w.Code, w.Body)
	case w.Code >= 400 && (said.Kind != "Status" || said.Status != metav1.StatusFailure || said.Code != w.Code):
		return fmt.Errorf("%d with another Status: %s", w.Code, w.Body)
	case w.Code >= 500 && !strings.Contains(w.Body.String(), "failed to create typed patch object"): // which is Kubernetes' answer to unknown fields
		return fmt.Errorf("%d though the agent does all: %s", w.Code, w.Body)
	}
	return nil
}
