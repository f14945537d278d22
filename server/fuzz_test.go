package server

import (
	"bytes"
	"context"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sys/unix"
	"k8s.io/apimachinery/pkg/types"
)

// only is a listener of one connection.
type only struct {
	conns chan net.Conn
	done  chan struct{}
}

func (l *only) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}
func (l *only) Close() error   { close(l.done); return nil }
func (l *only) Addr() net.Addr { return &net.UnixAddr{Name: "fuzzed"} }

// socketPair is a connection, by both of its ends.
func socketPair(t *testing.T) (near, far *net.UnixConn) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	end := func(fd int) *net.UnixConn {
		file := os.NewFile(uintptr(fd), "")
		defer file.Close()
		conn, err := net.FileConn(file)
		if err != nil {
			t.Fatal(err)
		}
		return conn.(*net.UnixConn)
	}
	return end(fds[0]), end(fds[1])
}

// fuzzed is a node whose containers run any command, and none.
type fuzzed struct{ node }

func (fuzzed) Exec(types.NamespacedName, string, []string) (func(context.Context, Streams) (int, error), error) {
	return func(_ context.Context, s Streams) (int, error) {
		if s.Stdin != nil {
			_, _ = io.Copy(s.Stdout, s.Stdin)
		}
		return 3, nil
	}, nil
}

func (fuzzed) Attach(types.NamespacedName, string) (bool, func(context.Context, Streams) error, error) {
	return false, func(_ context.Context, s Streams) error {
		if s.Stdin != nil {
			_, _ = io.Copy(io.Discard, s.Stdin)
		}
		return nil
	}, nil
}

func (fuzzed) PortForward(types.NamespacedName) (func(context.Context, int32, io.ReadWriter) error, error) {
	return func(_ context.Context, _ int32, stream io.ReadWriter) error {
		_, err := io.Copy(io.Discard, stream)
		return err
	}, nil
}

func (fuzzed) DeleteObject(ObjectID, Condition, *time.Duration) ([]byte, string, error) {
	return []byte("{}"), "", nil
}

// FuzzRequests has whatever bytes come at a socket, WebSockets among them: nothing panics, and who hangs up is let go of. No seed
// begins to speak SPDY: Kubernetes' library waits half a minute for the streams of who has hung up.
func FuzzRequests(f *testing.F) {
	for _, request := range []string{
		"GET /pods HTTP/1.1\r\nHost: x\r\n\r\n",
		"GET /pods?namespace=%00%2f..%2f HTTP/1.0\r\n\r\n",
		"POST /retry?namespace=a&name=../x HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n",
		"POST /shorten?gracePeriodSeconds=-9223372036854775808&name=a HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n",
		"PUT /objects/pods/..%2f..%2fetc/x?dryRun=maybe HTTP/1.1\r\nHost: x\r\nIf-Match: x\r\nContent-Length: 2\r\n\r\n{}",
		"DELETE /objects/pods/_/x?gracePeriodSeconds=1e9 HTTP/1.1\r\nHost: x\r\nIf-None-Match: *\r\n\r\n",
		"PUT /objects/pods/a/b HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n",
		"POST /pods/a/b/ephemeralcontainers HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n{",
		"GET /containerLogs/a/b/c?tailLines=x&follow=1&sinceTime=%00 HTTP/1.1\r\nHost: x\r\n\r\n",
		"GET /attach/a/b/c?input=1 HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Protocol: v5.channel.k8s.io\r\n\r\n\x82\xff\xff\xff\xff\xff\xff\xff\xff\xff",
		"GET /exec/a/b/c?command=x&input=1&tty=1&output=1 HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Protocol: v4.channel.k8s.io\r\n\r\n\x82\x84\x00\x00\x00\x00\x04{}x",
		"GET /portForward/a/b?port=0&port=99999999999 HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Protocol: v4.channel.k8s.io\r\n\r\n",
		"\x16\x03\x01\x00", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "\r\n\r\n", "",
	} {
		f.Add([]byte(request))
	}
	handler := Handler(fuzzed{aNode()}, prometheus.NewRegistry())
	f.Fuzz(func(t *testing.T, request []byte) {
		var said bytes.Buffer
		l := &only{make(chan net.Conn, 1), make(chan struct{})}
		srv := &http.Server{Handler: handler, ErrorLog: log.New(&said, "", 0), ReadHeaderTimeout: headerTime}
		served := make(chan struct{})
		go func() { _ = srv.Serve(l); close(served) }()
		near, far := socketPair(t)
		l.conns <- far
		_ = near.SetDeadline(time.Now().Add(50 * time.Millisecond)) // for no longer anybody is waited for
		_, _ = near.Write(request)
		_ = near.CloseWrite()
		_, _ = io.Copy(io.Discard, near)
		near.Close()
		if err := srv.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
		<-served
		if strings.Contains(said.String(), "panic") {
			t.Errorf("%q: %s", request, said.String())
		}
	})
}
