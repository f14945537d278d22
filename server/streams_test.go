package server

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/net/websocket"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/remotecommand"
	"k8s.io/client-go/util/exec"
)

// Exec runs commands that are none: they do what they are called.
func (n node) Exec(pod types.NamespacedName, container string, command []string) (func(context.Context, Streams) (int, error), error) {
	switch {
	case pod.Name == "gone":
		return nil, fmt.Errorf("%w: %s", ErrNoPod, pod)
	case container == "waits":
		return nil, fmt.Errorf("container not found (%q)", container)
	}
	return func(ctx context.Context, s Streams) (int, error) {
		switch command[0] {
		case "echo":
			return echo(s)
		case "size":
			size := <-s.Resize
			_, err := fmt.Fprintf(s.Stdout, "%dx%d %v", size.Width, size.Height, s.TTY)
			return 0, err
		case "break":
			return 0, errors.New("it broke")
		case "hang":
			if _, err := io.WriteString(s.Stdout, "began"); err != nil {
				return 0, err
			}
			<-ctx.Done()
			n.ended <- command[1]
			return 0, ctx.Err()
		}
		return 3, nil
	}, nil
}

// Attach is to a main process that echoes its input. That of the container "tty" has a terminal.
func (n node) Attach(pod types.NamespacedName, container string) (bool, func(context.Context, Streams) error, error) {
	switch {
	case pod.Name == "gone":
		return false, nil, fmt.Errorf("%w: %s", ErrNoPod, pod)
	case container == "waits":
		return false, nil, errors.New("container waits not found in pod web_shop")
	}
	return container == "tty", func(ctx context.Context, s Streams) error {
		switch container {
		case "broken":
			return errors.New("it broke")
		case "hangs":
			if _, err := io.WriteString(s.Stdout, "began"); err != nil {
				return err
			}
			<-ctx.Done()
			n.ended <- context.Cause(ctx).Error()
			return ctx.Err()
		case "tty":
			said, err := io.ReadAll(s.Stdin) // first: over a WebSocket a size may wait behind it
			if err != nil {
				return err
			}
			size := <-s.Resize
			_, err = fmt.Fprintf(s.Stdout, "%dx%d %v %s", size.Width, size.Height, s.TTY, said)
			return err
		}
		_, err := echo(s)
		return err
	}, nil
}

func echo(s Streams) (int, error) {
	if s.Stderr != nil {
		if _, err := io.WriteString(s.Stderr, "complaint"); err != nil {
			return 0, err
		}
	}
	_, err := io.Copy(s.Stdout, s.Stdin)
	return 0, err
}

// protocols are the ways to make streams.
var protocols = map[string]func(*rest.Config, string, *url.URL) (remotecommand.Executor, error){
	"SPDY": remotecommand.NewSPDYExecutor,
	"WebSocket v5": func(c *rest.Config, _ string, u *url.URL) (remotecommand.Executor, error) {
		return remotecommand.NewWebSocketExecutor(c, http.MethodGet, u.String())
	},
	"WebSocket v4": func(c *rest.Config, _ string, u *url.URL) (remotecommand.Executor, error) {
		return remotecommand.NewWebSocketExecutorForProtocols(c, http.MethodGet, u.String(), "v4.channel.k8s.io")
	},
}

// streamServer serves a node over TCP until the test ends.
func streamServer(t *testing.T, src Source) string {
	t.Helper()
	srv := httptest.NewServer(Handler(src, prometheus.NewRegistry()))
	t.Cleanup(srv.Close)
	return srv.URL
}

// stream asks for streams and answers what came of it.
func stream(t *testing.T, protocol, at, path string, options remotecommand.StreamOptions) error {
	t.Helper()
	u, err := url.Parse(at + path)
	if err != nil {
		t.Fatal(err)
	}
	e, err := protocols[protocol](&rest.Config{Host: at}, http.MethodPost, u)
	if err != nil {
		t.Fatal(err)
	}
	return e.StreamWithContext(t.Context(), options)
}

// sizeOnce is a terminal that is never resized.
type sizeOnce chan remotecommand.TerminalSize

func newSize(width, height uint16) sizeOnce {
	s := make(sizeOnce, 1)
	s <- remotecommand.TerminalSize{Width: width, Height: height}
	close(s)
	return s
}

func (s sizeOnce) Next() *remotecommand.TerminalSize {
	size, more := <-s
	if !more {
		return nil
	}
	return &size
}

func TestExec(t *testing.T) {
	t.Parallel()
	much := make([]byte, 5<<20)
	_, _ = rand.Read(much)
	for protocol := range protocols {
		t.Run(protocol, func(t *testing.T) {
			t.Parallel()
			at := streamServer(t, node{})
			var out bytes.Buffer
			err := stream(t, protocol, at, "/exec/shop/web/app?command=code&output=1", remotecommand.StreamOptions{Stdout: &out})
			var exited exec.CodeExitError
			if !errors.As(err, &exited) || exited.Code != 3 || !strings.Contains(err.Error(), "exit code 3") {
				t.Errorf("a command that exits with 3: %v", err)
			}
			err = stream(t, protocol, at, "/exec/shop/web/app?command=break&output=1", remotecommand.StreamOptions{Stdout: &out})
			if err == nil || !strings.Contains(err.Error(), "Internal error occurred: error executing command in container: it broke") {
				t.Errorf("a command that cannot be run: %v", err)
			}
			err = stream(t, protocol, at, "/exec/shop/web/app?command=size&output=1&tty=1&error=1",
				remotecommand.StreamOptions{Stdout: &out, Tty: true, TerminalSizeQueue: newSize(123, 45)})
			if err != nil || out.String() != "123x45 true" {
				t.Errorf("a terminal: %q, %v", out.String(), err)
			}
			if protocol == "WebSocket v4" {
				return // it has no end of input
			}
			var errs bytes.Buffer
			out.Reset()
			err = stream(t, protocol, at, "/exec/shop/web/app?command=echo&input=1&output=1&error=1",
				remotecommand.StreamOptions{Stdin: bytes.NewReader(much), Stdout: &out, Stderr: &errs})
			if err != nil || !bytes.Equal(out.Bytes(), much) || errs.String() != "complaint" {
				t.Errorf("5 MB there and back: %d bytes, %q, %v", out.Len(), errs.String(), err)
			}
		})
	}
}

func TestAttach(t *testing.T) {
	t.Parallel()
	for protocol := range protocols {
		t.Run(protocol, func(t *testing.T) {
			t.Parallel()
			src := node{ended: make(chan string, 1)}
			at := streamServer(t, src)
			var out, errs bytes.Buffer
			err := stream(t, protocol, at, "/attach/shop/web/broken?output=1", remotecommand.StreamOptions{Stdout: &out})
			if err == nil || !strings.Contains(err.Error(), "Internal error occurred: error attaching to container: it broke") {
				t.Errorf("one that breaks: %v", err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			u, err := url.Parse(at + "/attach/shop/web/hangs?output=1")
			if err != nil {
				t.Fatal(err)
			}
			e, err := protocols[protocol](&rest.Config{Host: at}, http.MethodPost, u)
			if err != nil {
				t.Fatal(err)
			}
			if err := e.StreamWithContext(ctx, remotecommand.StreamOptions{Stdout: vanishing{cancel}}); !errors.Is(err, context.Canceled) {
				t.Errorf("a client that goes away: %v", err)
			}
			if got := <-src.ended; got != "the client has hung up" {
				t.Errorf("it ended because of %q", got)
			}
			if protocol == "WebSocket v4" {
				return // it has no end of input
			}
			err = stream(t, protocol, at, "/attach/shop/web/app?input=1&output=1&error=1",
				remotecommand.StreamOptions{Stdin: strings.NewReader("said"), Stdout: &out, Stderr: &errs})
			if err != nil || out.String() != "said" || errs.String() != "complaint" {
				t.Errorf("%q, %q, %v", out.String(), errs.String(), err)
			}
			out.Reset()
			err = stream(t, protocol, at, "/attach/shop/web/tty?input=1&output=1&tty=1",
				remotecommand.StreamOptions{Stdin: strings.NewReader("said"), Stdout: &out, Tty: true, TerminalSizeQueue: newSize(123, 45)})
			if err != nil || out.String() != "123x45 true said" {
				t.Errorf("a terminal: %q, %v", out.String(), err)
			}
		})
	}
}

func TestStreamsThatAreRefused(t *testing.T) {
	t.Parallel()
	at := streamServer(t, node{})
	for sentence, r := range map[string]struct {
		method, path string
		status       int
		words        string
	}{
		"a command in a Pod that is not there":    {"POST", "/exec/shop/gone/app?command=ls&output=1", 404, "pod does not exist"},
		"a command in a container that waits":     {"POST", "/exec/shop/web/waits?command=ls&output=1", 500, `container not found ("waits")`},
		"a command without a stream":              {"GET", "/exec/shop/web/app?command=ls", 400, "you must specify at least 1 of stdin, stdout, stderr"},
		"a command that nobody makes streams for": {"POST", "/exec/shop/web/app?command=ls&output=1", 400, "unable to upgrade"},
		"who attaches to a Pod that is not there": {"POST", "/attach/shop/gone/app?output=1", 404, "pod does not exist"},
		"who attaches to a container that waits":  {"POST", "/attach/shop/web/waits?output=1", 500, "container waits not found in pod web_shop"},
		"who attaches to nothing of a container":  {"POST", "/attach/shop/web/app", 400, "you must specify at least 1 of stdin, stdout, stderr"},
		"who wants of a terminal what it has not": {"POST", "/attach/shop/web/tty?output=1&error=1", 500, "tty and stderr cannot both be true"},
		"a method that makes no stream":           {"PUT", "/exec/shop/web/app?command=ls&output=1", 405, "/exec/shop/web/app is for streams, with POST or GET"},
	} {
		t.Run(sentence, func(t *testing.T) {
			t.Parallel()
			req, err := http.NewRequestWithContext(t.Context(), r.method, at+r.path, nil)
			if err != nil {
				t.Fatal(err)
			}
			res, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			if body, err := io.ReadAll(res.Body); res.StatusCode != r.status || !strings.HasPrefix(string(body), r.words) {
				t.Errorf("%d %s (%v), want %d %s", res.StatusCode, body, err, r.status, r.words)
			}
		})
	}
}

// vanishing cancels when something is written to it.
type vanishing struct{ cancel context.CancelFunc }

func (v vanishing) Write(p []byte) (int, error) { v.cancel(); return len(p), nil }

func TestAClientThatGoesAwayEndsItsCommand(t *testing.T) {
	t.Parallel()
	for protocol, executor := range protocols {
		t.Run(protocol, func(t *testing.T) {
			t.Parallel()
			src := node{ended: make(chan string, 1)}
			u, err := url.Parse(streamServer(t, src) + "/exec/shop/web/app?command=hang&command=it&input=1&output=1")
			if err != nil {
				t.Fatal(err)
			}
			e, err := executor(&rest.Config{Host: u.Host}, http.MethodPost, u)
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			endless, write := io.Pipe()
			defer write.Close()
			if err := e.StreamWithContext(ctx, remotecommand.StreamOptions{Stdin: endless, Stdout: vanishing{cancel}}); !errors.Is(err, context.Canceled) {
				t.Errorf("the client: %v", err)
			}
			if got := <-src.ended; got != "it" {
				t.Errorf("%q has ended", got)
			}
		})
	}
}

// TestAHangupIsSeenBehindWhatIsUnread has more come than is ever read.
func TestAHangupIsSeenBehindWhatIsUnread(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("unix", filepath.Join(runDir(t), "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	connect := func() (near, far net.Conn) {
		t.Helper()
		far, err := net.Dial("unix", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		if near, err = l.Accept(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { near.Close(); far.Close() })
		return near, far
	}
	near, far := connect()
	gone := make(chan struct{})
	h, err := watchHangup(near, func() { close(gone) })
	if err != nil {
		t.Fatal(err)
	}
	if _, err := far.Write([]byte("unread")); err != nil {
		t.Fatal(err)
	}
	select {
	case <-gone:
		t.Error("it is there, and yet it has gone")
	default:
	}
	far.Close()
	<-gone
	h.stop()

	near, _ = connect()
	h, err = watchHangup(near, func() { t.Error("it has gone, by itself") })
	if err != nil {
		t.Fatal(err)
	}
	near.Close()
	h.stop()
	if _, err := watchHangup(struct{ net.Conn }{near}, nil); err == nil {
		t.Error("what is no socket can be watched")
	}
}

// TestStreamsEndWithTheAgent tells that end from one by the client.
func TestStreamsEndWithTheAgent(t *testing.T) {
	t.Parallel()
	dir, src := runDir(t), node{ended: make(chan string, 1)}
	l, err := Listen(dir)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- Serve(ctx, l, Handler(src, prometheus.NewRegistry())) }()
	conn, err := net.Dial("unix", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	config, err := websocket.NewConfig("ws://podkeeper/attach/shop/web/hangs?output=1", "http://podkeeper")
	if err != nil {
		t.Fatal(err)
	}
	config.Protocol = []string{"v4.channel.k8s.io"}
	ws, err := websocket.NewClient(config, conn)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"\x01", "\x01began"} {
		var got []byte
		if err := websocket.Message.Receive(ws, &got); err != nil || string(got) != want {
			t.Fatalf("%q, %v, want %q", got, err, want)
		}
	}
	cancel()
	if got := <-src.ended; got != "context canceled" {
		t.Errorf("it ended because of %q", got)
	}
	if err := <-served; err != nil {
		t.Error(err)
	}
}
