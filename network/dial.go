package network

import (
	"context"
	"fmt"
	"net"
	"strconv"

	"github.com/vishvananda/netns"
)

// DialLocalhost connects to a TCP port of the loopback of a sandbox, over IPv4 or, where nobody listens there, IPv6. An empty id
// is the host. The error has the words of containerd's CRI (internal/cri/server/sandbox_portforward_linux.go), which people
// who forward ports get to see.
func (n *Network) DialLocalhost(ctx context.Context, id string, port int32) (net.Conn, error) {
	if id == "" {
		return dialLocalhost(ctx, "host", port)
	}
	ns, err := netns.GetFromPath(n.NetNS(id))
	if err != nil {
		return nil, fmt.Errorf("open network namespace: %w", err)
	}
	defer ns.Close()
	var conn net.Conn
	done := make(chan error, 1)
	go func() {
		done <- inNetNS(ns, func() (err error) {
			conn, err = dialLocalhost(ctx, n.NetNS(id), port)
			return err
		})
	}()
	if err := <-done; err != nil {
		if conn != nil { // the thread did not find home
			_ = conn.Close()
		}
		return nil, err
	}
	return conn, nil
}

// dialLocalhost connects from the calling thread: to addresses, one after the other, because to look up a name, or to try
// several at once, takes others.
func dialLocalhost(ctx context.Context, namespace string, port int32) (net.Conn, error) {
	var d net.Dialer
	conn, v4 := d.DialContext(ctx, "tcp4", net.JoinHostPort("127.0.0.1", strconv.Itoa(int(port))))
	if v4 == nil {
		return conn, nil
	}
	conn, v6 := d.DialContext(ctx, "tcp6", net.JoinHostPort("::1", strconv.Itoa(int(port))))
	if v6 != nil {
		return nil, fmt.Errorf("failed to connect to localhost:%d inside namespace %q, IPv4: %w IPv6 %w", port, namespace, v4, v6)
	}
	return conn, nil
}
