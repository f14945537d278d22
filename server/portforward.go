package server

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"

	"golang.org/x/net/websocket"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/cri-streaming/pkg/streaming/portforward"
	"k8s.io/streaming/pkg/httpstream"
	"k8s.io/streaming/pkg/httpstream/spdy"
	"k8s.io/streaming/pkg/httpstream/wsstream"
)

func portForward(src Source) http.HandlerFunc {
	return upgrades(func(w http.ResponseWriter, r *http.Request, pod types.NamespacedName) {
		options, tunnel := &portforward.V4Options{}, wsstream.IsWebSocketRequestWithTunnelingProtocol(r)
		if !tunnel {
			var err error
			if options, err = portforward.NewV4Options(r); err != nil {
				http.Error(w, err.Error(), http.StatusBadRequest)
				return
			}
		}
		forward, err := src.PortForward(pod)
		if err != nil {
			refuseStream(w, err)
			return
		}
		ctx := r.Context() // the library's own ends never
		to := forwarder(func(port int32, stream io.ReadWriter) error { return forward(ctx, port, stream) })
		serve := func(w http.ResponseWriter, r *http.Request) {
			portforward.ServePortForward(w, r, to, pod.Name, "", options, streamIdle, streamCreation, portforward.SupportedProtocols)
		}
		if tunnel {
			serveInTunnel(w, r, serve)
			return
		}
		serve(w, r)
	})
}

// forwarder is what the library asks for every connection.
type forwarder func(port int32, stream io.ReadWriter) error

// PortForward connects a stream with a port.
func (f forwarder) PortForward(_ context.Context, _, _ string, port int32, stream io.ReadWriteCloser) error {
	return f(port, stream)
}

// serveInTunnel serves SPDY inside of a WebSocket, as clients speak it to an API server (kubernetes/enhancements KEP-4006). Each
// side has the messages of the other for a connection.
func serveInTunnel(w http.ResponseWriter, r *http.Request, serve func(http.ResponseWriter, *http.Request)) {
	websocket.Server{
		Handshake: func(config *websocket.Config, _ *http.Request) error {
			const protocol = portforward.WebsocketsSPDYTunnelingPortForwardV1
			if !slices.Contains(config.Protocol, protocol) {
				return errors.New("unable to upgrade: only " + protocol + " is supported")
			}
			config.Protocol = []string{protocol}
			return nil
		},
		Handler: func(conn *websocket.Conn) {
			conn.PayloadType = websocket.BinaryFrame
			inner := r.Clone(r.Context())
			inner.Method = http.MethodPost
			inner.Header = http.Header{}
			inner.Header.Set(httpstream.HeaderConnection, httpstream.HeaderUpgrade)
			inner.Header.Set(httpstream.HeaderUpgrade, spdy.HeaderSpdy31)
			inner.Header.Set(httpstream.HeaderProtocolVersion, portforward.PortForwardV1Name)
			serve(tunnelWriter{conn, http.Header{}}, inner)
		},
	}.ServeHTTP(w, r)
}

// tunnelWriter answers a request for a connection that is there already.
type tunnelWriter struct {
	conn   net.Conn
	header http.Header
}

// Header is what nobody reads: the answer was the tunnel's.
func (t tunnelWriter) Header() http.Header { return t.header }

// WriteHeader does nothing.
func (t tunnelWriter) WriteHeader(int) {}

// Write writes nothing.
func (t tunnelWriter) Write(p []byte) (int, error) { return len(p), nil }

// Hijack gives the tunnel away.
func (t tunnelWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return t.conn, bufio.NewReadWriter(bufio.NewReader(t.conn), bufio.NewWriter(t.conn)), nil
}
