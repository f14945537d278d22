package main

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestPublishedIsWhatIsGenerated(t *testing.T) {
	spec, err := specification()
	if err != nil {
		t.Fatal(err)
	}
	want, err := documents(spec)
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob("../published/*")
	if err != nil {
		t.Fatal(err)
	}
	have := map[string]bool{}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".gz")
		have[name] = true
		if !bytes.Equal(unpack(t, file), want[name]) {
			t.Errorf("%s is not what Kubernetes publishes: run go generate in kubeapi/openapi", file)
		}
	}
	for name := range want {
		if !have[name] {
			t.Errorf("%s is missing: run go generate in kubeapi/openapi", name)
		}
	}
}

func unpack(t *testing.T, file string) []byte {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestResourceOfPath(t *testing.T) {
	for name, test := range map[string]struct{ path, gv, want string }{
		"of all namespaces":               {"/api/v1/pods", "api/v1", "pods"},
		"of one namespace":                {"/api/v1/namespaces/{namespace}/pods", "api/v1", "pods"},
		"one object":                      {"/api/v1/namespaces/{namespace}/pods/{name}", "api/v1", "pods"},
		"a subresource":                   {"/api/v1/namespaces/{namespace}/pods/{name}/log", "api/v1", "pods/log"},
		"a path below a subresource":      {"/api/v1/nodes/{name}/proxy/{path}", "api/v1", "nodes/proxy/{path}"},
		"a namespace":                     {"/api/v1/namespaces/{name}", "api/v1", "namespaces"},
		"a subresource of a namespace":    {"/api/v1/namespaces/{name}/finalize", "api/v1", "namespaces/finalize"},
		"the old way to watch":            {"/api/v1/watch/pods", "api/v1", "watch"},
		"what a group version has":        {"/api/v1/", "api/v1", ""},
		"of another group":                {"/apis/node.k8s.io/v1/runtimeclasses", "api/v1", ""},
		"of a version with a longer name": {"/apis/node.k8s.io/v1beta1/runtimeclasses", "apis/node.k8s.io/v1", ""},
	} {
		t.Run(name, func(t *testing.T) {
			if got := resourceOf(test.path, test.gv); got != test.want {
				t.Errorf("%s is of %q, not %q", test.path, got, test.want)
			}
		})
	}
}

func TestReachable(t *testing.T) {
	all := definitions{
		"Pod":     json.RawMessage(`{"spec": {"$ref": "#/components/schemas/PodSpec"}}`),
		"PodSpec": json.RawMessage(`{"again": {"allOf": [{"$ref":"#/components/schemas/Pod"}]}, "to": {"$ref": "#/components/schemas/End"}}`),
		"End":     json.RawMessage(`{"description": "refers to nothing"}`),
		"Node":    json.RawMessage(`{}`),
		"Broken":  json.RawMessage(`{"$ref": "#/components/schemas/Gone"}`),
	}
	for name, test := range map[string]struct {
		from, err string
		want      []string
	}{
		"what refers to nothing reaches nothing":  {from: "Node"},
		"references are followed, in circles too": {from: "PodSpec", want: []string{"End", "Pod", "PodSpec"}},
		"what is missing is an error":             {from: "Broken", err: "Broken refers to Gone, which is not there"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := reachable(definitions{test.from: all[test.from]}, all)
			if test.err != "" {
				if err == nil || err.Error() != test.err {
					t.Fatalf("error %v, not %s", err, test.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			want := definitions{}
			for _, n := range test.want {
				want[n] = all[n]
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestAResourceWithoutPathIsAnError(t *testing.T) {
	_, err := pathsOf(definitions{"/apis/authentication.k8s.io/v1/tokenreviews": nil}, "apis/authentication.k8s.io/v1")
	if want := "no path of apis/authentication.k8s.io/v1 has [selfsubjectreviews]"; err == nil || err.Error() != want {
		t.Errorf("error %v, not %s", err, want)
	}
}
