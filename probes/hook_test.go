package probes

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

func httpHandler(t *testing.T, server *httptest.Server, scheme v1.URIScheme) *v1.LifecycleHandler {
	t.Helper()
	u, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	host, port, err := net.SplitHostPort(u.Host)
	if err != nil {
		t.Fatal(err)
	}
	return &v1.LifecycleHandler{HTTPGet: &v1.HTTPGetAction{Scheme: scheme, Host: host, Port: intstr.Parse(port), Path: "/hook?x=1"}}
}

func TestHTTPHooks(t *testing.T) {
	t.Parallel()
	for sentence, c := range map[string]struct {
		tls    bool
		scheme v1.URIScheme
		status int
	}{
		"an answer is a success":                        {status: 200},
		"whatever its status":                           {status: 503},
		"HTTPS is not verified":                         {tls: true, scheme: v1.URISchemeHTTPS, status: 200},
		"and given up where the other side speaks HTTP": {scheme: v1.URISchemeHTTPS, status: 200},
		"HTTP is not given up for HTTPS":                {tls: true, status: 200},
	} {
		t.Run(sentence, func(t *testing.T) {
			t.Parallel()
			asked := make(chan *http.Request, 2)
			answer := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				asked <- r
				w.WriteHeader(c.status)
			})
			server := httptest.NewUnstartedServer(answer)
			server.Config.ErrorLog = nil
			if c.tls {
				server.StartTLS()
			} else {
				server.Start()
			}
			defer server.Close()
			hook, err := NewHook(httpHandler(t, server, c.scheme), Target{}, nil)
			if err == nil {
				err = hook(t.Context())
			}
			if err != nil {
				t.Fatal(err)
			}
			if c.tls && c.scheme == "" {
				return // the server has answered, without asking the handler
			}
			if r := <-asked; r.UserAgent() != hookAgent || r.RequestURI != "/hook?x=1" {
				t.Errorf("%s asks for %s", r.UserAgent(), r.RequestURI)
			}
		})
	}
}

func TestAHookFollowsNoRedirectToAnotherHost(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.RedirectHandler("http://elsewhere.invalid/", http.StatusFound))
	t.Cleanup(server.Close)
	hook, err := NewHook(httpHandler(t, server, v1.URISchemeHTTP), Target{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := hook(t.Context()); err != nil {
		t.Errorf("the answer is a success all the same: %v", err)
	}
}

func TestHooksThatFail(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.NotFoundHandler())
	closed := httpHandler(t, server, "")
	server.Close()
	for sentence, c := range map[string]struct {
		handler *v1.LifecycleHandler
		want    string
	}{
		"nobody answers":               {closed, "connection refused"},
		"a port that there is not":     {&v1.LifecycleHandler{HTTPGet: &v1.HTTPGetAction{Port: intstr.FromString("web")}}, "not among the container's ports"},
		"tcpSocket is no hook":         {&v1.LifecycleHandler{TCPSocket: &v1.TCPSocketAction{}}, "invalid handler"},
		"a command that fails":         {&v1.LifecycleHandler{Exec: &v1.ExecAction{Command: []string{"no"}}}, `command ["no"] exited with 3: said`},
		"a command that cannot be run": {&v1.LifecycleHandler{Exec: &v1.ExecAction{Command: []string{"broken"}}}, "no such file"},
	} {
		hook, err := NewHook(c.handler, Target{Container: &v1.Container{}}, func(_ context.Context, command []string) (int, []byte, error) {
			if command[0] == "broken" {
				return 0, nil, errors.New("no such file")
			}
			return 3, []byte("said"), nil
		})
		if err == nil {
			err = hook(t.Context())
		}
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", sentence, err, c.want)
		}
	}
}

func TestSleepHook(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		for _, seconds := range []int64{0, 7} {
			hook, err := NewHook(&v1.LifecycleHandler{Sleep: &v1.SleepAction{Seconds: seconds}}, Target{}, nil)
			begin := time.Now()
			if err != nil || hook(t.Context()) != nil || time.Since(begin) != time.Duration(seconds)*time.Second {
				t.Errorf("sleep %d took %v: %v", seconds, time.Since(begin), err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			if err := hook(ctx); seconds > 0 && !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("it cannot be given up: %v", err)
			}
			cancel()
		}
	})
}
