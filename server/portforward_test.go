package server

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"golang.org/x/net/websocket"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/portforward"
	"k8s.io/client-go/transport/spdy"
	"k8s.io/streaming/pkg/httpstream"
)

// PortForward is a port that sends back what it gets when that has ended, or at port 1 nothing, and at port 2 asks and hangs.
func (n node) PortForward(pod types.NamespacedName) (func(context.Context, int32, io.ReadWriter) error, error) {
	switch pod.Name {
	case "gone":
		return nil, fmt.Errorf("%w: %s", ErrNoPod, pod)
	case "done":
		return nil, errors.New(`pod not found ("done_shop")`)
	}
	return func(ctx context.Context, port int32, stream io.ReadWriter) error {
		switch port {
		case 1:
			return errors.New("nobody listens")
		case 2:
			if _, err := io.WriteString(stream, "?"); err != nil {
				return err
			}
			<-ctx.Done()
			n.ended <- "port"
			return ctx.Err()
		}
		got, err := io.ReadAll(stream)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(stream, "%d: %s", port, got)
		return err
	}, nil
}

// dialers are the ways to forward ports.
var dialers = map[string]func(c *rest.Config, u *url.URL) (httpstream.Dialer, error){
	"SPDY": func(c *rest.Config, u *url.URL) (httpstream.Dialer, error) {
		transport, upgrader, err := spdy.RoundTripperFor(c)
		if err != nil {
			return nil, err
		}
		return spdy.NewDialerForStreaming(upgrader, &http.Client{Transport: transport}, http.MethodPost, u), nil
	},
	"SPDY in a WebSocket": func(c *rest.Config, u *url.URL) (httpstream.Dialer, error) {
		return portforward.NewSPDYOverWebsocketDialerForStreaming(u, c)
	},
}

// forwarding connects to a Pod.
func forwarding(t *testing.T, dialer, at, path string) (httpstream.Connection, error) {
	t.Helper()
	u, err := url.Parse(at + path)
	if err != nil {
		t.Fatal(err)
	}
	d, err := dialers[dialer](&rest.Config{Host: at}, u)
	if err != nil {
		t.Fatal(err)
	}
	conn, _, err := d.Dial(portforward.PortForwardProtocolV1Name)
	return conn, err
}

// streams are those of one connection to a port.
func streams(t *testing.T, conn httpstream.Connection, id, port string) (data, errs httpstream.Stream) {
	t.Helper()
	header := http.Header{"Port": {port}, "Requestid": {id}, "Streamtype": {"error"}}
	errs, err := conn.CreateStream(header)
	if err == nil {
		err = errs.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	header.Set("streamType", "data")
	if data, err = conn.CreateStream(header); err != nil && err.Error() != "Stream reset" { // where nobody listens that may come first
		t.Fatal(err)
	}
	return data, errs
}

func TestPortForward(t *testing.T) {
	t.Parallel()
	for dialer := range dialers {
		t.Run(dialer, func(t *testing.T) {
			t.Parallel()
			src := node{ended: make(chan string, 1)}
			at := streamServer(t, src)
			conn, err := forwarding(t, dialer, at, "/portForward/shop/web")
			if err != nil {
				t.Fatal(err)
			}
			much := strings.Repeat("much", 100_000)
			for id, want := range map[string]string{"80": "80: " + much, "8080": "8080: " + much} {
				data, errs := streams(t, conn, id, id)
				if _, err := io.WriteString(data, much); err != nil {
					t.Fatal(err)
				}
				if err := data.Close(); err != nil {
					t.Fatal(err)
				}
				got, err := io.ReadAll(data)
				said, errsErr := io.ReadAll(errs)
				if string(got) != want || len(said) > 0 || errors.Join(err, errsErr) != nil {
					t.Errorf("%d bytes, error %q: %v, %v", len(got), said, err, errsErr)
				}
			}
			_, errs := streams(t, conn, "none", "1")
			if said, err := io.ReadAll(errs); err != nil || string(said) != "error forwarding port 1 to pod web, uid : nobody listens" {
				t.Errorf("a port that nobody listens at: %q, %v", said, err)
			}
			data, _ := streams(t, conn, "hangs", "2")
			if _, err := io.ReadFull(data, make([]byte, 1)); err != nil { // a connection that ends earlier reaches no port
				t.Fatal(err)
			}
			if err := conn.Close(); err != nil {
				t.Fatal(err)
			}
			<-src.ended
			if _, err := forwarding(t, dialer, at, "/portForward/shop/gone"); err == nil || !strings.Contains(err.Error(), "pod does not exist") {
				t.Errorf("a Pod that is not there: %v", err)
			}
			if _, err := forwarding(t, dialer, at, "/portForward/shop/done"); err == nil || !strings.Contains(err.Error(), `pod not found ("done_shop")`) {
				t.Errorf("a Pod that is done: %v", err)
			}
		})
	}
}

// TestPortForwardByChannels has WebSockets carry the ports that the query names.
func TestPortForwardByChannels(t *testing.T) {
	t.Parallel()
	at := streamServer(t, node{})
	config, err := websocket.NewConfig(strings.Replace(at, "http", "ws", 1)+"/portForward/shop/web?port=1", at)
	if err != nil {
		t.Fatal(err)
	}
	config.Protocol = []string{"v4.channel.k8s.io"}
	conn, err := config.DialContext(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	port := binary.LittleEndian.AppendUint16(nil, 1)
	want := []string{"\x00" + string(port), "\x01" + string(port), "\x01error forwarding port 1 to pod web, uid : nobody listens"}
	for i := range want {
		var got []byte
		if err := websocket.Message.Receive(conn, &got); err != nil || string(got) != want[i] {
			t.Errorf("%q, %v, want %q", got, err, want[i])
		}
	}
	config.Protocol = []string{"SPDY/3.1+other.k8s.io"}
	if _, err := config.DialContext(t.Context()); err == nil {
		t.Error("another tunnel is opened")
	}
	config.Location.RawQuery, config.Protocol = "", []string{"v4.channel.k8s.io"}
	if _, err := config.DialContext(t.Context()); err == nil {
		t.Error("no port is forwarded")
	}
}
