package openapi

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/openapi3"
	"k8s.io/client-go/rest"
)

// client is client-go's, which kubectl uses.
func client(t *testing.T) *discovery.DiscoveryClient {
	t.Helper()
	server := httptest.NewServer(Handler())
	t.Cleanup(server.Close)
	c, err := discovery.NewDiscoveryClientForConfig(&rest.Config{Host: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestClientGoReadsV3(t *testing.T) {
	root := openapi3.NewRoot(client(t).OpenAPIV3())
	gvs, err := root.GroupVersions()
	if err != nil {
		t.Fatal(err)
	}
	if want := (schema.GroupVersion{Version: "v1"}); !slices.Contains(gvs, want) || len(gvs) != len(groupVersions()) {
		t.Errorf("the index has %v", gvs)
	}
	for _, gv := range gvs {
		doc, err := root.GVSpec(gv)
		if err != nil {
			t.Fatalf("%s: %v", gv, err)
		}
		if len(doc.Paths.Paths) == 0 || len(doc.Components.Schemas) == 0 {
			t.Errorf("%s has %d paths and %d schemas", gv, len(doc.Paths.Paths), len(doc.Components.Schemas))
		}
	}
}

func TestClientGoReadsV2(t *testing.T) {
	doc, err := client(t).OpenAPISchema()
	if err != nil {
		t.Fatal(err)
	}
	var paths []string
	for _, p := range doc.GetPaths().GetPath() {
		paths = append(paths, p.Name)
	}
	for _, want := range []string{"/api/v1/namespaces/{namespace}/pods/{name}", "/apis/node.k8s.io/v1/runtimeclasses"} {
		if !slices.Contains(paths, want) {
			t.Errorf("%s is not among the %d paths", want, len(paths))
		}
	}
	if slices.Contains(paths, "/apis/apps/v1/deployments") {
		t.Error("there are Deployments, which are not served")
	}
}

func TestHandler(t *testing.T) {
	v3 := address(t, "api/v1")
	const cached = "private, max-age=31536000, immutable"
	for name, test := range map[string]struct {
		method, path string
		header       map[string]string
		code         int
		want         map[string]string // headers
	}{
		"who says nothing gets JSON":                            {path: "/openapi/v3/api/v1", code: 200, want: map[string]string{"Content-Type": "application/json", "Cache-Control": ""}},
		"an address with the right hash can be cached for ever": {path: v3, code: 200, want: map[string]string{"Cache-Control": cached}},
		"one with a wrong hash can not":                         {path: "/openapi/v3/api/v1?hash=12", code: 200, want: map[string]string{"Cache-Control": ""}},
		"compressed for who can read it": {
			path: v3, header: map[string]string{"Accept-Encoding": "br, gzip"}, code: 200, want: map[string]string{"Content-Encoding": "gzip"},
		},
		"and plain for who cannot": {path: v3, header: map[string]string{"Accept-Encoding": "gzip;q=0"}, code: 200, want: map[string]string{"Content-Encoding": ""}},
		"JSON of v3 for who would rather have protobuf": {
			path: v3, header: map[string]string{"Accept": "application/com.github.proto-openapi.spec.v3@v1.0+protobuf, application/json"}, code: 200,
			want: map[string]string{"Content-Type": "application/json"},
		},
		"no v3 for who reads only protobuf": {path: v3, header: map[string]string{"Accept": "application/com.github.proto-openapi.spec.v3@v1.0+protobuf"}, code: 406},
		"protobuf of v2, under a name that is a media type": {
			path: "/openapi/v2", header: map[string]string{"Accept": typeV2Asked}, code: 200, want: map[string]string{"Content-Type": typeV2Answered},
		},
		"JSON of v2 for who takes anything": {path: "/openapi/v2", header: map[string]string{"Accept": "*/*"}, code: 200, want: map[string]string{"Content-Type": "application/json"}},
		"no v2 as YAML":                     {path: "/openapi/v2", header: map[string]string{"Accept": "application/yaml"}, code: 406},
		"a group version that is not there": {path: "/openapi/v3/apis/apps/v1", code: 404},
		"v2 is no group version":            {path: "/openapi/v3/v2", code: 404},
		"a path that leads elsewhere":       {path: "/openapi/v3/..%2Fpublished%2Fv2", code: 404},
		"nothing can be posted":             {method: "POST", path: "/openapi/v2", code: 405},
	} {
		t.Run(name, func(t *testing.T) {
			r := httptest.NewRequest(test.method, test.path, nil)
			for k, v := range test.header {
				r.Header.Set(k, v)
			}
			w := httptest.NewRecorder()
			Handler().ServeHTTP(w, r)
			if w.Code != test.code {
				t.Fatalf("status %d, not %d: %.200s", w.Code, test.code, w.Body)
			}
			for k, v := range test.want {
				if got := w.Header().Get(k); got != v {
					t.Errorf("%s: %q, not %q", k, got, v)
				}
			}
		})
	}
}

func TestWhatIsKnownIsNotSentAgain(t *testing.T) {
	for _, path := range []string{"/openapi/v2", "/openapi/v3", "/openapi/v3/api/v1"} {
		first, again := httptest.NewRecorder(), httptest.NewRecorder()
		r := httptest.NewRequest("GET", path, nil)
		Handler().ServeHTTP(first, r)
		r.Header.Set("If-None-Match", first.Header().Get("ETag"))
		Handler().ServeHTTP(again, r)
		if again.Code != http.StatusNotModified || again.Body.Len() > 0 {
			t.Errorf("%s: status %d and %d bytes", path, again.Code, again.Body.Len())
		}
	}
}

func TestPlainIsWhatIsCompressed(t *testing.T) {
	plain, compressed := httptest.NewRecorder(), httptest.NewRecorder()
	r := httptest.NewRequest("GET", "/openapi/v3/apis/node.k8s.io/v1", nil)
	Handler().ServeHTTP(plain, r)
	r.Header.Set("Accept-Encoding", "gzip")
	Handler().ServeHTTP(compressed, r)
	z, err := gzip.NewReader(compressed.Body)
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(plain.Body.Bytes(), text) {
		t.Error("they differ")
	}
}

// address is that of a group version in the index.
func address(t *testing.T, gv string) string {
	t.Helper()
	w := httptest.NewRecorder()
	Handler().ServeHTTP(w, httptest.NewRequest("GET", "/openapi/v3", nil))
	var list struct {
		Paths map[string]struct{ ServerRelativeURL string }
	}
	if err := json.Unmarshal(w.Body.Bytes(), &list); err != nil {
		t.Fatal(err)
	}
	url := list.Paths[gv].ServerRelativeURL
	if !strings.HasPrefix(url, "/openapi/v3/"+gv+"?hash=") {
		t.Fatalf("%s is at %q; there are %v", gv, url, slices.Collect(maps.Keys(list.Paths)))
	}
	return url
}
