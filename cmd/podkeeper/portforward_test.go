package main

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/portforward"
	"k8s.io/client-go/transport/spdy"
	"k8s.io/streaming/pkg/httpstream"
)

// dialers are what clients forward ports with.
var dialers = map[string]func(c *rest.Config, u *url.URL) (httpstream.Dialer, error){
	"SPDY": func(c *rest.Config, u *url.URL) (httpstream.Dialer, error) {
		transport, upgrader, err := spdy.RoundTripperFor(c)
		if err != nil {
			return nil, err
		}
		return spdy.NewDialerForStreaming(upgrader, &http.Client{Transport: transport}, http.MethodPost, u), nil
	},
	"WebSocket": func(c *rest.Config, u *url.URL) (httpstream.Dialer, error) {
		return portforward.NewSPDYOverWebsocketDialerForStreaming(u, c)
	},
}

// dialer forwards ports of a Pod.
func dialer(t *testing.T, name, at, pod string) httpstream.Dialer {
	t.Helper()
	u, err := url.Parse(at + "/portForward/default/" + pod)
	if err != nil {
		t.Fatal(err)
	}
	d, err := dialers[name](&rest.Config{Host: at}, u)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// forward has ports of this host lead to ports of a Pod until the test ends, and answers them.
func forward(t *testing.T, d httpstream.Dialer, ports ...string) (local []uint16) {
	t.Helper()
	stop, ready, ended := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	f, err := portforward.NewOnAddressesForStreaming(d, []string{"127.0.0.1"}, ports, stop, ready, io.Discard, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	go func() { ended <- f.ForwardPorts() }()
	select {
	case <-ready:
	case err := <-ended:
		t.Fatal(err)
	}
	t.Cleanup(func() {
		close(stop)
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	all, err := f.GetPorts()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range all {
		local = append(local, p.Local)
	}
	return local
}

// TestPortForward reaches servers that listen at the loopback alone: of a Pod, with IPv4 or IPv6, and of the host.
func TestPortForward(t *testing.T) {
	t.Parallel()
	n := launch(t)
	const site = "mkdir /tmp/w; seq 1 700000 > /tmp/w/big; cd /tmp/w; "
	const listens = "    readinessProbe: {exec: {command: [/bin/sh, -c, 'wget -qO /dev/null http://127.0.0.1:%d/big']}, periodSeconds: 1, timeoutSeconds: 30}\n"
	free := freePort(t)
	n.apply("web.yaml", simple("web", site+"httpd -p '[::1]:81'; exec httpd -f -p 127.0.0.1:80")+fmt.Sprintf(listens, 80))
	n.apply("host.yaml", simple("host", site+fmt.Sprintf("exec httpd -f -p 127.0.0.1:%d", free), "  hostNetwork: true")+fmt.Sprintf(listens, free))
	n.apply("done.yaml", simple("done", "true", "  restartPolicy: Never"))
	n.awaitReady("web")
	n.awaitReady("host")
	n.awaitPhase("done", v1.PodSucceeded)
	at := n.relay()
	var want bytes.Buffer
	for i := range 700_000 {
		fmt.Fprintln(&want, i+1)
	}
	for name := range dialers {
		t.Run(name, func(t *testing.T) {
			ports := forward(t, dialer(t, name, at, "web"), ":80", ":81")
			ports = append(ports, forward(t, dialer(t, name, at, "host"), fmt.Sprintf(":%d", free))...)
			for i, port := range ports {
				res, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/big", port))
				if err != nil {
					t.Fatal(err)
				}
				got, err := io.ReadAll(res.Body)
				res.Body.Close()
				if err != nil || !bytes.Equal(got, want.Bytes()) {
					t.Errorf("port %d: %s, %d bytes, want %d: %v", i, res.Status, len(got), want.Len(), err)
				}
			}
			if _, _, err := dialer(t, name, at, "done").Dial(portforward.PortForwardProtocolV1Name); err == nil || !strings.Contains(err.Error(), `pod not found ("done_default")`) {
				t.Errorf("a Pod that is done: %v", err)
			}
			conn, _, err := dialer(t, name, at, "web").Dial(portforward.PortForwardProtocolV1Name)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			header := http.Header{"Port": {"9"}, "Requestid": {"0"}, "Streamtype": {"error"}}
			errs, err := conn.CreateStream(header)
			if err != nil {
				t.Fatal(err)
			}
			header.Set("streamType", "data")
			if _, err := conn.CreateStream(header); err != nil && err.Error() != "Stream reset" { // which may come before the client knows it
				t.Fatal(err)
			}
			said, err := io.ReadAll(errs)
			for _, words := range []string{"error forwarding port 9 to pod web, uid : failed to execute portforward in network namespace ", "failed to connect to localhost:9 inside namespace ", "connection refused"} {
				if err != nil || !strings.Contains(string(said), words) {
					t.Errorf("a port that nobody listens at: %s, %v, want %s", said, err, words)
				}
			}
		})
	}
}
