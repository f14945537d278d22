package network

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
)

// TestAFirewallThatForwardsNothingLetsPodsThrough has a host with the policy that Docker and ufw set, and a neighbour of
// it: a Pod reaches the neighbour from the host's address, and the neighbour reaches the Pod's host port.
func TestAFirewallThatForwardsNothingLetsPodsThrough(t *testing.T) {
	n := open(t, nil)
	asHost(t, func() {
		reach := amongNeighbours(t, n, "f1")
		reach("at first")

		if err := n.GC(context.Background(), nothing); err != nil {
			t.Error(err)
		}
		if err := n.Destroy(); err != nil {
			t.Error(err)
		}
		n.noRules(t)
	})
}

// amongNeighbours has a host that forwards nothing, a neighbour of it and a Pod with a host port. reach checks that traffic
// flows between the two.
func amongNeighbours(t *testing.T, n *Network, id string) (reach func(when string)) {
	t.Helper()
	run(t, "iptables", "-P", "FORWARD", "DROP")
	pod := sandbox(id)
	pod.Ports = []Port{{HostPort: 8080, ContainerPort: 80, Protocol: "TCP"}}
	ip := add(t, n, pod)
	if err := n.CreateNetNS("neighbour"); err != nil {
		t.Fatal(err)
	}
	host, neighbour := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	wire(t, n.NetNS("neighbour"), host, neighbour)
	serve(t, n.NetNS("neighbour"), neighbour, 81)
	serve(t, n.NetNS(pod.ID), ip, 80)
	return func(when string) {
		t.Helper()
		if got := ask(t, n.NetNS(pod.ID), neighbour, 81); got != host {
			t.Errorf("%s: the neighbour sees %v, want the host, %v", when, got, host)
		}
		if got := ask(t, n.NetNS("neighbour"), host, 8080); got != neighbour {
			t.Errorf("%s: the Pod sees %v, want the neighbour, %v", when, got, neighbour)
		}
	}
}

// asHost runs f where the host's network namespace is one of the test's own.
func asHost(t *testing.T, f func()) {
	t.Helper()
	done := make(chan error)
	go func() {
		defer close(done) // also when f fails the test
		done <- inNewNetNS(func() error {
			f()
			return nil
		})
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// wire connects the host to a namespace.
func wire(t *testing.T, ns string, here, there netip.Addr) {
	t.Helper()
	handle, err := netns.GetFromPath(ns)
	if err != nil {
		t.Fatal(err)
	}
	defer handle.Close()
	end := func(name string, addr netip.Addr) {
		link, err := netlink.LinkByName(name)
		if err == nil {
			err = netlink.AddrAdd(link, &netlink.Addr{IPNet: &net.IPNet{IP: addr.AsSlice(), Mask: net.CIDRMask(24, 32)}})
		}
		if err == nil {
			err = netlink.LinkSetUp(link)
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	veth := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "here"}, PeerName: "there", PeerNamespace: netlink.NsFd(handle)}
	if err := netlink.LinkAdd(veth); err != nil {
		t.Fatal(err)
	}
	end("here", here)
	inNamespace(t, ns, func() { end("there", there) })
}

// serve tells everyone who connects to an address in a namespace by what address it is known.
func serve(t *testing.T, ns string, addr netip.Addr, port uint16) {
	t.Helper()
	var listener net.Listener
	inNamespace(t, ns, func() {
		var err error
		if listener, err = net.Listen("tcp", netip.AddrPortFrom(addr, port).String()); err != nil {
			t.Error(err)
		}
	})
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			fmt.Fprint(conn, netip.MustParseAddrPort(conn.RemoteAddr().String()).Addr())
			conn.Close()
		}
	}()
	t.Cleanup(func() {
		listener.Close()
		<-done
	})
}

// ask connects from a namespace to what serves, and returns its answer.
func ask(t *testing.T, ns string, addr netip.Addr, port uint16) (seen netip.Addr) {
	t.Helper()
	inNamespace(t, ns, func() {
		conn, err := net.DialTimeout("tcp", netip.AddrPortFrom(addr, port).String(), 3*time.Second)
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		answer, err := io.ReadAll(conn)
		if err == nil {
			seen, err = netip.ParseAddr(string(answer))
		}
		if err != nil {
			t.Error(err)
		}
	})
	return seen
}
