package probes

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// outcome is what a check came to; its output must contain the words given.
type outcome struct {
	result Result
	words  string
	err    error
}

func expect(t *testing.T, ctx context.Context, check Check, want outcome) {
	t.Helper()
	result, output, err := check(ctx)
	if result != want.result || !strings.Contains(output, want.words) || !errors.Is(err, want.err) {
		t.Errorf("check: %s %q %v, want %s %q %v", result, output, err, want.result, want.words, want.err)
	}
	if len(output) > maxOutput {
		t.Errorf("the output has %d bytes, want at most %d", len(output), maxOutput)
	}
}

// expired is a context whose time is up, for answers that never come.
func expired(t *testing.T) context.Context {
	ctx, cancel := context.WithDeadline(t.Context(), time.Now().Add(-time.Second))
	t.Cleanup(cancel)
	return ctx
}

func mustCheck(t *testing.T, p v1.ProbeHandler, target Target, exec ExecFunc) Check {
	t.Helper()
	check, err := NewCheck(&v1.Probe{ProbeHandler: p}, target, exec)
	if err != nil {
		t.Fatal(err)
	}
	return check
}

func TestExecCheck(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		code   int
		output string
		err    error
		want   outcome
	}{
		"status 0 is success":                   {0, "up", nil, outcome{Success, "up", nil}},
		"another status is failure":             {3, "down", nil, outcome{Failure, "down", nil}},
		"not ending in time is failure":         {0, "", fmt.Errorf("command timed out: %w", context.DeadlineExceeded), outcome{Failure, "command timed out", nil}},
		"not being run at all is no result":     {0, "", errRuntime, outcome{Unknown, "", errRuntime}},
		"of much output the first 10 KiB stays": {1, "head" + strings.Repeat("x", 20<<10), nil, outcome{Failure, "head", nil}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			exec := func(_ context.Context, command []string) (int, []byte, error) {
				if !slices.Equal(command, []string{"cat", "$(FILE)"}) {
					t.Errorf("ran %q", command)
				}
				return tt.code, []byte(tt.output), tt.err
			}
			handler := v1.ProbeHandler{Exec: &v1.ExecAction{Command: []string{"cat", "$(FILE)"}}}
			expect(t, t.Context(), mustCheck(t, handler, Target{}, exec), tt.want)
		})
	}
}

// web serves the pages that the tests of the HTTP check ask for.
func web() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/status/{code}", func(w http.ResponseWriter, r *http.Request) {
		code, err := strconv.Atoi(r.PathValue("code"))
		if err != nil {
			panic(err)
		}
		w.WriteHeader(code)
		if code != http.StatusNoContent && code != http.StatusNotModified {
			_, _ = fmt.Fprint(w, "secret body")
		}
	})
	mux.HandleFunc("/echo", func(w http.ResponseWriter, r *http.Request) {
		_, _ = fmt.Fprintf(w, "%s host=%s close=%v query=%s\n", r.Proto, r.Host, r.Close, r.URL.RawQuery)
		if err := r.Header.Write(w); err != nil {
			panic(err)
		}
	})
	mux.HandleFunc("/big", func(w http.ResponseWriter, _ *http.Request) {
		// The reader goes away in the middle of it.
		_, _ = w.Write(bytes.Repeat([]byte("x"), 1<<20))
	})
	mux.HandleFunc("/cut", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "100")
		_, _ = fmt.Fprint(w, "half")
	})
	mux.Handle("/local", http.RedirectHandler("/status/200", http.StatusFound))
	mux.Handle("/broken", http.RedirectHandler("/status/500", http.StatusFound))
	mux.Handle("/elsewhere", http.RedirectHandler("http://elsewhere.invalid/", http.StatusMovedPermanently))
	mux.Handle("/loop", http.RedirectHandler("/loop", http.StatusFound))
	return mux
}

// serve starts an HTTP server and returns a handler that asks it.
func serve(t *testing.T, start func(*httptest.Server), path string) (*v1.HTTPGetAction, Target) {
	t.Helper()
	srv := httptest.NewUnstartedServer(web())
	srv.Config.ErrorLog = log.New(io.Discard, "", 0)
	start(srv)
	t.Cleanup(srv.Close)
	u, err := url.Parse(srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	port, err := strconv.Atoi(u.Port())
	if err != nil {
		t.Fatal(err)
	}
	return &v1.HTTPGetAction{Path: path, Port: intstr.FromInt(port), Scheme: v1.URIScheme(strings.ToUpper(u.Scheme))}, Target{PodIP: fixed(u.Hostname())}
}

func TestHTTPCheck(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		path string
		want outcome
	}{
		"200 is success":                               {"/status/200", outcome{Success, "secret body", nil}},
		"204 is success":                               {"/status/204", outcome{Success, "", nil}},
		"304 is success, with a warning":               {"/status/304", outcome{Warning, "Probe terminated redirects", nil}},
		"399 is success, with a warning":               {"/status/399", outcome{Warning, "Probe terminated redirects", nil}},
		"400 is failure":                               {"/status/400", outcome{Failure, "HTTP probe failed with statuscode: 400", nil}},
		"500 is failure":                               {"/status/500", outcome{Failure, "HTTP probe failed with statuscode: 500", nil}},
		"a redirect within the host is followed":       {"/local", outcome{Success, "secret body", nil}},
		"a redirect within the host can end badly":     {"/broken", outcome{Failure, "statuscode: 500", nil}},
		"a redirect to another host is not followed":   {"/elsewhere", outcome{Warning, "Probe terminated redirects", nil}},
		"redirects without end are failure":            {"/loop", outcome{Failure, "stopped after 10 redirects", nil}},
		"a big body is read in part":                   {"/big", outcome{Success, "xxx", nil}},
		"a body that ends early is failure":            {"/cut", outcome{Failure, "unexpected EOF", nil}},
		"the path may have a query":                    {"/echo?a=b&c", outcome{Success, "query=a=b&c", nil}},
		"no connection is kept":                        {"/echo", outcome{Success, "close=true", nil}},
		"the headers are those of Kubernetes":          {"/echo", outcome{Success, "Accept: */*\r\nConnection: close\r\nUser-Agent: kube-probe/1.37\r\n", nil}},
		"clear text is HTTP/1.1":                       {"/echo", outcome{Success, "HTTP/1.1", nil}},
		"the host is the Pod's address":                {"/echo", outcome{Success, "host=127.0.0.1:", nil}},
		"a path that is no URL is sent escaped":        {"/%zz", outcome{Failure, "statuscode: 404", nil}},
		"a path that names a host stays with the Pod":  {"//elsewhere.invalid/echo", outcome{Success, "host=127.0.0.1:", nil}},
		"a path without its slash is that of the root": {"echo", outcome{Success, "host=127.0.0.1:", nil}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			get, target := serve(t, (*httptest.Server).Start, tt.path)
			expect(t, t.Context(), mustCheck(t, v1.ProbeHandler{HTTPGet: get}, target, nil), tt.want)
		})
	}
}

func TestHTTPCheckHeaders(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		headers   []v1.HTTPHeader
		want, not string
	}{
		"Host is what the server sees":         {[]v1.HTTPHeader{{Name: "Host", Value: "shop.example"}}, "host=shop.example ", "Host:"},
		"the user agent can be another":        {[]v1.HTTPHeader{{Name: "user-agent", Value: "me"}}, "User-Agent: me", "kube-probe"},
		"Accept can be another":                {[]v1.HTTPHeader{{Name: "Accept", Value: "text/html"}}, "Accept: text/html", "*/*"},
		"an empty Accept takes it away":        {[]v1.HTTPHeader{{Name: "Accept"}}, "User-Agent", "Accept"},
		"a header given twice is sent twice":   {[]v1.HTTPHeader{{Name: "X-A", Value: "1"}, {Name: "x-a", Value: "2"}}, "X-A: 1\r\nX-A: 2", "Accept-Encoding"},
		"compression is not asked for by self": {nil, "Accept: */*", "Accept-Encoding"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			get, target := serve(t, (*httptest.Server).Start, "/echo")
			get.HTTPHeaders = tt.headers
			check := mustCheck(t, v1.ProbeHandler{HTTPGet: get}, target, nil)
			for range 2 { // a check leaves nothing behind that changes the next
				_, output, err := check(t.Context())
				if err != nil || !strings.Contains(output, tt.want) || strings.Contains(output, tt.not) {
					t.Errorf("the server saw %q (%v), want %q and no %q", output, err, tt.want, tt.not)
				}
			}
		})
	}
}

func TestHTTPCheckTLSAndHTTP2(t *testing.T) {
	t.Parallel()
	h2c := v1.HTTPProtocolHTTP2
	tests := map[string]struct {
		start    func(*httptest.Server)
		protocol *v1.HTTPProtocol
		want     outcome
	}{
		"a certificate that nobody vouches for is good enough": {(*httptest.Server).StartTLS, nil, outcome{Success, "HTTP/1.1", nil}},
		"TLS agrees on HTTP/2":                                 {func(s *httptest.Server) { s.EnableHTTP2 = true; s.StartTLS() }, nil, outcome{Success, "HTTP/2.0", nil}},
		"HTTP/2 in clear text where the probe asks for it": {func(s *httptest.Server) {
			s.Config.Protocols = new(http.Protocols)
			s.Config.Protocols.SetUnencryptedHTTP2(true)
			s.Start()
		}, &h2c, outcome{Success, "HTTP/2.0", nil}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			get, target := serve(t, tt.start, "/echo")
			get.Protocol = tt.protocol
			expect(t, t.Context(), mustCheck(t, v1.ProbeHandler{HTTPGet: get}, target, nil), tt.want)
		})
	}
}

// TestARedirectToHTTPSIsFollowedWithoutVerification has a server that speaks HTTP send its visitors to TLS, as many do.
func TestARedirectToHTTPSIsFollowedWithoutVerification(t *testing.T) {
	t.Parallel()
	secure := httptest.NewTLSServer(web())
	t.Cleanup(secure.Close)
	plain := httptest.NewServer(http.RedirectHandler(secure.URL+"/status/200", http.StatusMovedPermanently))
	t.Cleanup(plain.Close)
	check := mustCheck(t, v1.ProbeHandler{HTTPGet: httpHandler(t, plain, v1.URISchemeHTTP).HTTPGet}, Target{}, nil)
	expect(t, t.Context(), check, outcome{Success, "secret body", nil})
}

// TestHTTPCheckTimeout asks a server that begins to answer and never ends.
func TestHTTPCheckTimeout(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]string{
		"no answer in time is failure":                "",
		"an answer that does not end in time, either": "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithCancelCause(t.Context())
			port := listen(t, func(conn net.Conn) {
				if _, err := http.ReadRequest(bufio.NewReader(conn)); err == nil {
					_, _ = io.WriteString(conn, answer)
				}
				cancel(context.DeadlineExceeded) // the time is up when half of it is said
				_, _ = io.Copy(io.Discard, conn) // until the check hangs up
			})
			get := &v1.HTTPGetAction{Port: intstr.FromInt32(port), Path: "/"}
			expect(t, ctx, mustCheck(t, v1.ProbeHandler{HTTPGet: get}, Target{PodIP: fixed("127.0.0.1")}, nil), outcome{Failure, "context", nil})
		})
	}
	t.Run("no connection in time is failure", func(t *testing.T) {
		t.Parallel()
		get, target := serve(t, (*httptest.Server).Start, "/")
		expect(t, expired(t), mustCheck(t, v1.ProbeHandler{HTTPGet: get}, target, nil), outcome{Failure, "context deadline exceeded", nil})
	})
}

// listen accepts connections on loopback until the test ends.
func listen(t *testing.T, serve func(net.Conn)) (port int32) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			serve(conn)
			_ = conn.Close()
		}
	}()
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		<-done
	})
	return int32(l.Addr().(*net.TCPAddr).Port)
}

// closedPort is a port that nobody listens on.
func closedPort(t *testing.T) int32 {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := int32(l.Addr().(*net.TCPAddr).Port)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return port
}

func TestTCPCheck(t *testing.T) {
	t.Parallel()
	open := listen(t, func(net.Conn) {})
	named := &v1.Container{Ports: []v1.ContainerPort{{Name: "web", ContainerPort: open}}}
	tests := map[string]struct {
		action v1.TCPSocketAction
		target Target
		want   outcome
	}{
		"an open port is success":               {v1.TCPSocketAction{Port: intstr.FromInt32(open)}, Target{PodIP: fixed("127.0.0.1")}, outcome{Success, "", nil}},
		"a closed port is failure":              {v1.TCPSocketAction{Port: intstr.FromInt32(closedPort(t))}, Target{PodIP: fixed("127.0.0.1")}, outcome{Failure, "connection refused", nil}},
		"a port may be a name":                  {v1.TCPSocketAction{Port: intstr.FromString("web")}, Target{fixed("127.0.0.1"), named}, outcome{Success, "", nil}},
		"a host may be named instead of the IP": {v1.TCPSocketAction{Port: intstr.FromInt32(open), Host: "127.0.0.1"}, Target{PodIP: fixed("192.0.2.1")}, outcome{Success, "", nil}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			expect(t, t.Context(), mustCheck(t, v1.ProbeHandler{TCPSocket: &tt.action}, tt.target, nil), tt.want)
		})
	}
	t.Run("no connection in time is failure", func(t *testing.T) {
		action := v1.TCPSocketAction{Port: intstr.FromInt32(open)}
		expect(t, expired(t), mustCheck(t, v1.ProbeHandler{TCPSocket: &action}, Target{PodIP: fixed("127.0.0.1")}, nil), outcome{Failure, "i/o timeout", nil})
	})
}

// serveGRPC runs a gRPC server and returns its port.
func serveGRPC(t *testing.T, register func(*grpc.Server), options ...grpc.ServerOption) int32 {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := grpc.NewServer(options...)
	register(srv)
	done := make(chan error, 1)
	go func() { done <- srv.Serve(l) }()
	t.Cleanup(func() {
		srv.Stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return int32(l.Addr().(*net.TCPAddr).Port)
}

func TestGRPCCheck(t *testing.T) {
	t.Parallel()
	hs := health.NewServer()
	hs.SetServingStatus("db", grpc_health_v1.HealthCheckResponse_NOT_SERVING)
	withHealth := func(s *grpc.Server) { grpc_health_v1.RegisterHealthServer(s, hs) }
	web := httptest.NewUnstartedServer(nil)
	web.StartTLS() // for its certificate
	defer web.Close()
	plain := serveGRPC(t, withHealth)
	secret := serveGRPC(t, withHealth, grpc.Creds(credentials.NewServerTLSFromCert(&web.TLS.Certificates[0])))
	none := serveGRPC(t, func(*grpc.Server) {})
	db, cache, tls := "db", "cache", v1.GRPCProbeModeTLS
	tests := map[string]struct {
		action v1.GRPCAction
		want   outcome
	}{
		"a server that serves is success":                      {v1.GRPCAction{Port: plain}, outcome{Success, "service healthy", nil}},
		"a service that does not serve is failure":             {v1.GRPCAction{Port: plain, Service: &db}, outcome{Failure, `service unhealthy (responded with "NOT_SERVING")`, nil}},
		"a service that the server has not is failure":         {v1.GRPCAction{Port: plain, Service: &cache}, outcome{Failure, "error: health rpc probe failed: ", nil}},
		"a server without the health service is failure":       {v1.GRPCAction{Port: none}, outcome{Failure, "does not implement the grpc health protocol", nil}},
		"a certificate that nobody vouches for is good enough": {v1.GRPCAction{Port: secret, Mode: &tls}, outcome{Success, "service healthy", nil}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			expect(t, t.Context(), mustCheck(t, v1.ProbeHandler{GRPC: &tt.action}, Target{PodIP: fixed("127.0.0.1")}, nil), tt.want)
		})
	}
	t.Run("nobody there until the time is up is failure", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		check := mustCheck(t, v1.ProbeHandler{GRPC: &v1.GRPCAction{Port: closedPort(t)}}, Target{PodIP: fixed("127.0.0.1")}, nil)
		expect(t, ctx, check, outcome{Failure, "health rpc did not complete in time", nil})
	})
}

func TestNewCheckRefuses(t *testing.T) {
	t.Parallel()
	web := intstr.FromString("web")
	other := &v1.Container{Ports: []v1.ContainerPort{{Name: "admin", ContainerPort: 81}}}
	tests := map[string]struct {
		handler v1.ProbeHandler
		target  Target
		want    string
	}{
		"no handler":                      {v1.ProbeHandler{}, Target{PodIP: fixed("10.0.0.1")}, "make probe: no handler is set (exec, httpGet, tcpSocket or grpc)"},
		"a command and nothing to run it": {v1.ProbeHandler{Exec: &v1.ExecAction{}}, Target{}, "make exec probe: nothing to run commands with"},
		"a port name that is not there":   {v1.ProbeHandler{HTTPGet: &v1.HTTPGetAction{Port: web}}, Target{fixed("10.0.0.1"), other}, `make httpGet probe: port "web" is not among the container's ports`},
		"a port name and no container":    {v1.ProbeHandler{TCPSocket: &v1.TCPSocketAction{Port: web}}, Target{PodIP: fixed("10.0.0.1")}, `make tcpSocket probe: port "web" is not among the container's ports`},
		"a port out of range":             {v1.ProbeHandler{GRPC: &v1.GRPCAction{Port: 70000}}, Target{PodIP: fixed("10.0.0.1")}, "make grpc probe: port 70000 is not between 1 and 65535"},
		"a host that no URL can have":     {v1.ProbeHandler{HTTPGet: &v1.HTTPGetAction{Port: intstr.FromInt32(80), Host: "a b"}}, Target{}, "make httpGet probe: "},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := NewCheck(&v1.Probe{ProbeHandler: tt.handler}, tt.target, nil)
			if err == nil || !strings.HasPrefix(err.Error(), tt.want) {
				t.Errorf("NewCheck: %v, want %q", err, tt.want)
			}
		})
	}
}

func TestAddressOfIPv6(t *testing.T) {
	t.Parallel()
	at, err := newEndpoint("", intstr.FromInt32(80), Target{PodIP: fixed("fd00::1")})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := at(); err != nil || got != "[fd00::1]:80" {
		t.Errorf("address: %q %v, want [fd00::1]:80", got, err)
	}
}

// fixed is an address that does not change.
func fixed(ip string) func() string { return func() string { return ip } }

// TestEveryCheckAsksWhereThePodIsNow has a Pod whose address is that of its node: unknown at first, then one where
// nothing listens, then the right one.
func TestEveryCheckAsksWhereThePodIsNow(t *testing.T) {
	t.Parallel()
	web := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	t.Cleanup(web.Close)
	_, text, _ := net.SplitHostPort(web.Listener.Addr().String())
	port, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	for name, handler := range map[string]v1.ProbeHandler{
		"httpGet":   {HTTPGet: &v1.HTTPGetAction{Port: intstr.FromInt(port)}},
		"tcpSocket": {TCPSocket: &v1.TCPSocketAction{Port: intstr.FromInt(port)}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ip := ""
			check := mustCheck(t, handler, Target{PodIP: func() string { return ip }}, nil)
			if result, _, err := check(t.Context()); result != Unknown || !errors.Is(err, errNoAddress) {
				t.Errorf("without an address: got %s, %v", result, err)
			}
			for _, c := range []struct {
				ip   string
				want Result
			}{{"127.0.0.9", Failure}, {"127.0.0.1", Success}} {
				ip = c.ip
				if result, output, err := check(t.Context()); result != c.want || err != nil {
					t.Errorf("at %s: got %s, %q, %v; want %s", ip, result, output, err, c.want)
				}
			}
		})
	}
}
