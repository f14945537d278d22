package api

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/internalversion"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/util/managedfields"
	"k8s.io/apimachinery/pkg/version"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/registry/rest"
	"k8s.io/apiserver/pkg/warning"
)

// settings is a storage of one ConfigMap in each namespace; one that is called panic is too much for it.
type settings struct{ rest.TableConvertor }

func (settings) New() runtime.Object     { return &v1.ConfigMap{} }
func (settings) NewList() runtime.Object { return &v1.ConfigMapList{} }
func (settings) Destroy()                {}
func (settings) NamespaceScoped() bool   { return true }
func (settings) GetSingularName() string { return "configmap" }
func (settings) ShortNames() []string    { return []string{"cm"} }
func (settings) Get(ctx context.Context, name string, _ *metav1.GetOptions) (runtime.Object, error) {
	switch who, _ := request.UserFrom(ctx); name {
	case "settings":
		warning.AddWarning(ctx, "", `it is "old"`)
		return &v1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: request.NamespaceValue(ctx), Name: name}, Data: map[string]string{"asks": who.GetName()}}, nil
	case "panic":
		panic("no")
	}
	return nil, errors.NewNotFound(schema.GroupResource{Resource: "configmaps"}, name)
}
func (s settings) List(context.Context, *internalversion.ListOptions) (runtime.Object, error) {
	return &v1.ConfigMapList{ListMeta: metav1.ListMeta{ResourceVersion: "5"}}, nil
}

// echo is a Direct.
type echo struct{}

func (echo) New() runtime.Object { return &v1.Pod{} }
func (echo) Destroy()            {}
func (echo) Verbs() []string     { return []string{"get"} }
func (echo) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	info, _ := request.RequestInfoFrom(r.Context())
	_, _ = io.WriteString(w, info.Namespace+"/"+info.Name+"/"+info.Subresource)
}

// polite allows everything but what mallory asks; only root may be somebody else.
type polite struct{}

func (polite) Authorize(_ context.Context, a authorizer.Attributes) (authorizer.Decision, string, error) {
	if name := a.GetUser().GetName(); name == "mallory" || a.GetVerb() == "impersonate" && name != "root" {
		return authorizer.DecisionNoOpinion, "", nil
	}
	return authorizer.DecisionAllow, "", nil
}

func served(t *testing.T) http.Handler {
	t.Helper()
	scheme := runtime.NewScheme()
	if err := v1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	h, err := New(Config{
		Scheme: scheme, Codecs: serializer.NewCodecFactory(scheme), Types: managedfields.NewDeducedTypeConverter(), OpenAPI: http.NotFoundHandler(),
		Version: version.Info{GitVersion: "v1"}, Authorizer: polite{}, Log: slog.New(slog.DiscardHandler),
		Storages: map[schema.GroupVersion]map[string]rest.Storage{v1.SchemeGroupVersion: {
			"configmaps": settings{rest.NewDefaultTableConvertor(schema.GroupResource{Resource: "configmaps"})}, "configmaps/echo": echo{},
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// ask asks as somebody; "" is nobody.
func ask(h http.Handler, who, method, path string, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, nil)
	if who != "" {
		r.TLS = &tls.ConnectionState{VerifiedChains: [][]*x509.Certificate{{{Subject: pkix.Name{CommonName: who, Organization: []string{"people"}}}}}}
	}
	for _, line := range header {
		name, value, _ := strings.Cut(line, ": ")
		r.Header.Set(name, value)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func TestRequests(t *testing.T) {
	h := served(t)
	const own = "/api/v1/namespaces/shop/configmaps"
	for what, of := range map[string]struct {
		who, method, path string
		code              int
		want              string
	}{
		"an object, for who asks":                   {"ann", "GET", own + "/settings", 200, `"asks":"ann"`},
		"a list":                                    {"ann", "GET", own, 200, `"kind":"ConfigMapList"`},
		"a subresource that answers by itself":      {"ann", "GET", own + "/x/echo", 200, "shop/x/echo"},
		"which takes no other verb":                 {"ann", "POST", own + "/x/echo", 405, "the server does not allow this method on the requested resource"},
		"no such object":                            {"ann", "GET", own + "/none", 404, `configmaps \"none\" not found`},
		"no such resource":                          {"ann", "GET", "/api/v1/replicationcontrollers", 404, "the server could not find the requested resource"},
		"no such group":                             {"ann", "GET", "/apis/apps/v1/deployments", 404, "the server could not find the requested resource"},
		"custom resources, of which there are none": {"ann", "GET", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", 200, `"items":[]`},
		"nor is one":                                {"ann", "GET", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/x", 404, "the server could not find the requested resource"},
		"no such path":                              {"ann", "GET", "/metrics", 404, "the server could not find the requested resource"},
		"what cannot be done with a resource":       {"ann", "DELETE", own + "/settings", 405, "the server does not allow this method on the requested resource"},
		"a watch of what cannot be watched":         {"ann", "GET", own + "?watch=true", 405, "the server does not allow this method on the requested resource"},
		"what makes a storage panic":                {"ann", "GET", own + "/panic", 500, "Internal error occurred: panic: no"},
		"a document that is written":                {"ann", "POST", "/version", 405, "the server does not allow this method on the requested resource"},
		"nobody learns nothing":                     {"", "GET", "/version", 401, "a client certificate is needed"},
		"who may not is told so in Kubernetes' way": {"mallory", "GET", own + "/settings", 403, `configmaps \"settings\" is forbidden: User \"mallory\" cannot get resource \"configmaps\" in API group \"\" in the namespace \"shop\"`},
		"nor may he ask for paths":                  {"mallory", "GET", "/version", 403, `User \"mallory\" cannot get path \"/version\"`},
		"the version":                               {"ann", "GET", "/version", 200, `"gitVersion": "v1"`},
		"health":                                    {"ann", "GET", "/readyz", 200, "ok"},
		"what paths there are":                      {"ann", "GET", "/", 200, `"/openapi/v3"`},
	} {
		w := ask(h, of.who, of.method, of.path)
		if w.Code != of.code || !strings.Contains(w.Body.String(), of.want) {
			t.Errorf("%s: %d %s, want %d with %s", what, w.Code, w.Body, of.code, of.want)
		}
	}
	if w := ask(h, "ann", "GET", own+"/settings"); w.Header().Get("Warning") != `299 - "it is \"old\""` {
		t.Errorf("it warns by %q", w.Header())
	}
}

func TestImpersonation(t *testing.T) {
	h := served(t)
	const object = "/api/v1/namespaces/shop/configmaps/settings"
	for what, of := range map[string]struct {
		who    string
		header []string
		code   int
		want   string
	}{
		"who may is somebody else":         {"root", []string{"Impersonate-User: ann", "Impersonate-Group: staff", "Impersonate-Extra-Scopes: view", "Impersonate-Uid: 7"}, 200, `"asks":"ann"`},
		"with what that one may":           {"root", []string{"Impersonate-User: mallory"}, 403, `User \"mallory\" cannot get resource \"configmaps\"`},
		"who may not is told so":           {"ann", []string{"Impersonate-User: root"}, 403, `User \"ann\" cannot impersonate resource \"users\"`},
		"nor may he be a service account":  {"ann", []string{"Impersonate-User: system:serviceaccount:shop:bot"}, 403, `cannot impersonate resource \"serviceaccounts\" in API group \"\" in the namespace \"shop\"`},
		"a group needs somebody who is in": {"root", []string{"Impersonate-Group: staff"}, 400, "can be impersonated with a user only"},
	} {
		if w := ask(h, of.who, "GET", object, of.header...); w.Code != of.code || !strings.Contains(w.Body.String(), of.want) {
			t.Errorf("%s: %d %s, want %d with %s", what, w.Code, w.Body, of.code, of.want)
		}
	}
}

func TestDiscovery(t *testing.T) {
	h := served(t)
	var list metav1.APIResourceList
	if err := json.Unmarshal(ask(h, "ann", "GET", "/api/v1").Body.Bytes(), &list); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, r := range list.APIResources {
		got = append(got, fmt.Sprint(r.Name, r.SingularName, r.ShortNames, r.Kind, r.Namespaced, r.Verbs))
	}
	want := []string{"configmapsconfigmap[cm]ConfigMaptrue [get list]", "configmaps/echo[]Podtrue [get]"}
	if !slices.Equal(got, want) {
		t.Errorf("there is\n%q, want\n%q", got, want)
	}
	all := ask(h, "ann", "GET", "/api", "Accept: application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList").Body.String()
	if !strings.Contains(all, `"subresource":"echo"`) || !strings.Contains(all, `"kind":"APIGroupDiscoveryList"`) {
		t.Errorf("in one document: %s", all)
	}
	if old := ask(h, "ann", "GET", "/api").Body.String(); !strings.Contains(old, `"versions":["v1"]`) {
		t.Errorf("for old clients: %s", old)
	}
}
