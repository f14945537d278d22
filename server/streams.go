package server

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/cri-streaming/pkg/streaming/remotecommand"
	"k8s.io/streaming/pkg/httpstream/wsstream"
	"k8s.io/utils/exec"
)

// Times of the kubelet's streams: after how long without a byte one is cut (streamingConnectionIdleTimeout's default), and how
// long a client has to open all of its parts.
const (
	streamIdle     = 4 * time.Hour
	streamCreation = remotecommand.DefaultStreamCreationTimeout
)

// Streams are what a command, or who attaches, is connected with. What is nil was not asked for. With a terminal there is no
// Stderr, and its sizes come through Resize.
type Streams struct {
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	TTY            bool
	Resize         <-chan remotecommand.TerminalSize
}

// errHungUp is why a stream ends that its client has left.
var errHungUp = errors.New("the client has hung up")

// upgrades answers the requests that a connection is made of, about a Pod.
func upgrades(serve func(w http.ResponseWriter, r *http.Request, pod types.NamespacedName)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodPost {
			w.Header().Set("Allow", "GET, POST")
			http.Error(w, fmt.Sprintf("%s is for streams, with POST or GET", r.URL.Path), http.StatusMethodNotAllowed)
			return
		}
		ctx, cancel := context.WithCancelCause(context.WithoutCancel(r.Context()))
		defer cancel(nil)
		defer context.AfterFunc(r.Context(), func() { // which ends, too, when the end of the connection is read
			if errors.Is(context.Cause(r.Context()), errStops) {
				cancel(context.Canceled)
			} else {
				cancel(errHungUp)
			}
		})()
		watched := &watchedWriter{ResponseWriter: w, gone: func() { cancel(errHungUp) }}
		defer watched.stop()
		serve(watched, r.WithContext(ctx), types.NamespacedName{Namespace: r.PathValue("namespace"), Name: r.PathValue("name")})
	}
}

// refuseStream answers an error in the kubelet's words (kubernetes/kubernetes pkg/kubelet/server/server.go, getExec).
func refuseStream(w http.ResponseWriter, err error) {
	if errors.Is(err, ErrNoPod) {
		http.Error(w, "pod does not exist", http.StatusNotFound)
		return
	}
	http.Error(w, err.Error(), codeOf(err))
}

// watchedWriter gives its connection away as any other does, and says when the client has hung up since.
type watchedWriter struct {
	http.ResponseWriter
	gone  func()
	watch *hangup
}

// Hijack gives the connection away.
func (w *watchedWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, buffered, err := http.NewResponseController(w.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	if w.watch, err = watchHangup(conn, w.gone); err != nil {
		return nil, nil, errors.Join(err, conn.Close())
	}
	return watchedConn{conn, w.gone}, buffered, nil
}

// watchedConn says when it is closed, which the SPDY library does by itself when a client says that it goes.
type watchedConn struct {
	net.Conn
	gone func()
}

// Close closes the connection.
func (c watchedConn) Close() error {
	c.gone()
	return c.Conn.Close()
}

func (w *watchedWriter) stop() {
	if w.watch != nil {
		w.watch.stop()
	}
}

func execute(src Source) http.HandlerFunc {
	return upgrades(func(w http.ResponseWriter, r *http.Request, pod types.NamespacedName) {
		options, err := remotecommand.NewOptions(r)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		command := r.URL.Query()["command"]
		run, err := src.Exec(pod, r.PathValue("container"), command)
		if err != nil {
			refuseStream(w, err)
			return
		}
		serveSession(w, r, options, session{what: "executing command in", run: func(ctx context.Context, s Streams) error {
			code, err := run(ctx, s)
			if err == nil && code != 0 { // in the words of containerd's CRI
				return exec.CodeExitError{Err: fmt.Errorf("error executing command %v, exit code %d", command, code), Code: code}
			}
			return err
		}})
	})
}

func attach(src Source) http.HandlerFunc {
	return upgrades(func(w http.ResponseWriter, r *http.Request, pod types.NamespacedName) {
		options, err := remotecommand.NewOptions(r)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		var do func(context.Context, Streams) error
		options.TTY, do, err = src.Attach(pod, r.PathValue("container")) // what it is cannot be changed once it runs
		if err == nil && options.TTY && options.Stderr {
			err = errors.New("tty and stderr cannot both be true") // in CRI's words
		}
		if err != nil {
			refuseStream(w, err)
			return
		}
		serveSession(w, r, options, session{what: "attaching to", attach: true, run: do})
	})
}

// session is what is done with the streams of a client.
type session struct {
	what   string // to a container, for errors
	attach bool
	run    func(ctx context.Context, s Streams) error
}

// serveSession makes of a request the streams that it asks for, over SPDY or WebSocket.
func serveSession(w http.ResponseWriter, r *http.Request, options *remotecommand.Options, of session) {
	if wsstream.IsWebSocketRequestWithStreamCloseProtocol(r) {
		serveV5(w, r, options, of)
		return
	}
	if of.attach {
		remotecommand.ServeAttach(w, r, executor{options, of}, "", "", "", options, streamIdle, streamCreation, remotecommand.SupportedStreamingProtocols)
		return
	}
	remotecommand.ServeExec(w, r, executor{options, of}, "", "", "", nil, options, streamIdle, streamCreation, remotecommand.SupportedStreamingProtocols)
}

// executor does a session as the library asks for it.
type executor struct {
	options *remotecommand.Options
	of      session
}

// ExecInContainer does the session.
//
//nolint:revive // argument-limit: the library's interface
func (e executor) ExecInContainer(ctx context.Context, _, _, _ string, _ []string, in io.Reader, out, errs io.WriteCloser, _ bool,
	resize <-chan remotecommand.TerminalSize, _ time.Duration) error {
	return e.of.run(ctx, streamsOf(e.options, in, out, errs, resize))
}

// AttachContainer does the session.
//
//nolint:revive // argument-limit: the library's interface
func (e executor) AttachContainer(ctx context.Context, _, _, _ string, in io.Reader, out, errs io.WriteCloser, _ bool,
	resize <-chan remotecommand.TerminalSize) error {
	return e.of.run(ctx, streamsOf(e.options, in, out, errs, resize))
}

// streamsOf leaves out what was not asked for.
func streamsOf(options *remotecommand.Options, in io.Reader, out, errs io.Writer, resize <-chan remotecommand.TerminalSize) Streams {
	s := Streams{TTY: options.TTY, Resize: resize}
	if options.Stdin {
		s.Stdin = in
	}
	if options.Stdout {
		s.Stdout = out
	}
	if options.Stderr {
		s.Stderr = errs
	}
	return s
}
