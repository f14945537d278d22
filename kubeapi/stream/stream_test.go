package stream

import (
	"context"
	goerrors "errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"golang.org/x/net/websocket"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apiserver/pkg/endpoints/request"
)

func pod(main int) *v1.Pod {
	p := &v1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web"}}
	p.Spec.InitContainers = []v1.Container{{Name: "init"}}
	p.Spec.EphemeralContainers = []v1.EphemeralContainer{{EphemeralContainerCommon: v1.EphemeralContainerCommon{Name: "debug"}}}
	for _, name := range []string{"app", "proxy"}[:main] {
		p.Spec.Containers = append(p.Spec.Containers, v1.Container{Name: name})
	}
	return p
}

func TestWhereStreamsGo(t *testing.T) {
	c := Config{}
	for what, of := range map[string]struct {
		where func(*v1.Pod, url.Values) (*url.URL, error)
		main  int
		query string
		want  string
	}{
		"a command in the only container": {c.exec, 1, "command=ls&command=-l&stdout=true&stderr=true", "/exec/shop/web/app?command=ls&command=-l&error=1&output=1"},
		"with a terminal":                 {c.exec, 2, "container=proxy&command=sh&stdin=1&stdout=1&tty=true&stderr=false", "/exec/shop/web/proxy?command=sh&input=1&output=1&tty=1"},
		"without a command":               {c.exec, 1, "stdout=true", "you must specify at least one command"},
		"the main process of one":         {c.attach, 2, "container=debug&stdin=true&stdout=true", "/attach/shop/web/debug?input=1&output=1"},
		"none of several": {
			c.attach, 2, "",
			"a container name must be specified for pod web, choose one of: [app proxy] or one of the init containers: [init] or one of the ephemeral containers: [debug]",
		},
		"one that there is not": {c.attach, 1, "container=x", "container x is not valid for pod web"},
		"ports":                 {c.portForward, 2, "ports=80&ports=8080", "/portForward/shop/web?port=80&port=8080"},
	} {
		query, err := url.ParseQuery(of.query)
		if err != nil {
			t.Fatal(err)
		}
		to, err := of.where(pod(of.main), query)
		got := ""
		if err != nil {
			if got = err.Error(); !errors.IsBadRequest(err) {
				t.Errorf("%s: %v is no bad request", what, err)
			}
		} else {
			got = to.RequestURI()
		}
		if got != of.want {
			t.Errorf("%s: %s, want %s", what, got, of.want)
		}
	}
}

// serve serves the streams of a Pod, web, whose agent answers by agent. The path is that of a stream, such as /web/log.
func serve(t *testing.T, agent http.HandlerFunc) *httptest.Server {
	t.Helper()
	behind := httptest.NewServer(agent)
	t.Cleanup(behind.Close)
	scheme := runtime.NewScheme()
	metav1.AddToGroupVersion(scheme, schema.GroupVersion{Version: "v1"})
	s := Storages(Config{
		Codecs: serializer.NewCodecFactory(scheme),
		Agent: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "tcp", behind.Listener.Addr().String())
		}},
		Pod: func(name types.NamespacedName) (*v1.Pod, error) {
			if name.Name != "web" {
				return nil, errors.NewNotFound(schema.GroupResource{Resource: "pods"}, name.Name)
			}
			return pod(1), nil
		},
	})
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name, sub, _ := strings.Cut(strings.Trim(r.URL.Path, "/"), "/")
		ctx := request.WithRequestInfo(r.Context(), &request.RequestInfo{Namespace: "shop", Name: name, Verb: "get", IsResourceRequest: true})
		s[sub].(http.Handler).ServeHTTP(w, r.WithContext(ctx))
	}))
	t.Cleanup(front.Close)
	return front
}

func TestLog(t *testing.T) {
	said := func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.URL.RequestURI()) }
	for what, of := range map[string]struct {
		name, query string
		agent       http.HandlerFunc
		code        int
		want        string
	}{
		"the text, with the query as it is": {"web/log", "container=app&tailLines=3&follow=true", said, 200, "/containerLogs/shop/web/app?follow=true&tailLines=3"},
		"a wrong query":                     {"web/log", "tailLines=-1", said, 400, "must be greater than or equal to 0"},
		"no such Pod":                       {"none/log", "", said, 404, `pods \"none\" not found`},
		"the agent's refusal":               {"web/log", "", func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "it has not started", 400) }, 400, `"message":"it has not started"`},
		"a stream without an upgrade":       {"web/exec", "command=ls", said, 400, "Upgrade request required"},
	} {
		res, err := http.Get(serve(t, of.agent).URL + "/" + of.name + "?" + of.query)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(res.Body)
		if err := goerrors.Join(err, res.Body.Close()); err != nil {
			t.Fatal(err)
		}
		if res.StatusCode != of.code || !strings.Contains(string(got), of.want) {
			t.Errorf("%s: %d %s, want %d with %s", what, res.StatusCode, got, of.code, of.want)
		}
	}
}

func TestLogOverAWebSocket(t *testing.T) {
	front := serve(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "some lines\n") })
	config, err := websocket.NewConfig(strings.Replace(front.URL, "http", "ws", 1)+"/web/log", front.URL)
	if err != nil {
		t.Fatal(err)
	}
	config.Protocol = []string{"binary.k8s.io"}
	conn, err := websocket.DialConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	var got, piece []byte
	for err == nil {
		got = append(got, piece...)
		err = websocket.Message.Receive(conn, &piece)
	}
	if !goerrors.Is(err, io.EOF) || string(got) != "some lines\n" {
		t.Errorf("it says %q: %v", got, err)
	}
}
