package network

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"time"

	cnitypes "github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

const (
	nameTries     = 8               // how many names are tried for a host's end of a link
	linkPatience  = 3 * time.Second // how long a link may take until packets pass
	shortestDelay = time.Millisecond
)

// sides are a Pod's network namespace and the host's, as far as netlink goes: no thread has to be in them.
type sides struct {
	ns           netns.NsHandle
	host, inside *netlink.Handle
}

func (n *Network) openSides(id string) (*sides, error) {
	s := &sides{ns: netns.None()}
	var err error
	if s.ns, err = netns.GetFromPath(n.NetNS(id)); err == nil {
		s.host, err = netlink.NewHandle(unix.NETLINK_ROUTE)
	}
	if err == nil {
		s.inside, err = netlink.NewHandleAt(s.ns, unix.NETLINK_ROUTE)
	}
	if err != nil {
		s.close()
		return nil, fmt.Errorf("open network namespace: %w", err)
	}
	return s, nil
}

func (s *sides) close() {
	for _, handle := range []*netlink.Handle{s.host, s.inside} {
		if handle != nil {
			handle.Close()
		}
	}
	if s.ns.IsOpen() {
		s.ns.Close()
	}
}

// connect makes a veth pair between the bridge and a sandbox, and gives the sandbox its address and the way to all others.
// Each step is done whether or not it was before, and the way to all others is the last that can be missing.
func (n *Network) connect(ctx context.Context, id string, addr netip.Addr) (*types100.Result, error) {
	s, err := n.openSides(id)
	if err != nil {
		return nil, err
	}
	defer s.close()
	bridge, err := n.ensureBridge(s.host)
	if err != nil {
		return nil, err
	}
	end, err := s.hostEnd(addr)
	if err == nil && end == nil {
		end, err = s.makePair()
	}
	if err == nil {
		err = setMaster(s.host, end, bridge)
	}
	if err != nil {
		return nil, fmt.Errorf("make link to bridge %s: %w", n.bridge, err)
	}
	inner, err := s.configure(prefix(addr, n.cfg.Subnet.Bits()), n.gateway())
	if err != nil {
		return nil, fmt.Errorf("configure %s: %w", interfaceName, err)
	}
	if end, err = s.awaitUp(ctx, end); err != nil {
		return nil, err
	}
	if bridge, err = s.awaitUp(ctx, bridge); err != nil { // it is down while it has no port
		return nil, err
	}
	// Neighbours that know the address from the Pod that had it before are told. The kernel does so, for arp_notify was set.
	if err := s.inside.LinkSetHardwareAddr(inner, inner.Attrs().HardwareAddr); err != nil {
		return nil, fmt.Errorf("announce %s: %w", interfaceName, err)
	}
	return n.result(id, addr, []netlink.Link{bridge, end, inner}), nil
}

// hostEnd is the host's end of the sandbox's link, nil if there is no link. One that was made for another address is taken
// away: that address may be another Pod's by now.
func (s *sides) hostEnd(addr netip.Addr) (netlink.Link, error) {
	inner, err := s.inside.LinkByName(interfaceName)
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	addrs, err := s.addresses(inner)
	if err != nil {
		return nil, err
	}
	end, err := s.peer(inner)
	if err != nil {
		return nil, err
	}
	if end == nil || len(addrs) > 0 && !slices.Contains(addrs, addr) {
		return nil, s.inside.LinkDel(inner)
	}
	return end, s.host.LinkSetUp(end)
}

// peer is the host's end of a link, nil if it is not there or the link is none of ours: another kind's parent may be what
// the whole host hangs on.
func (s *sides) peer(inner netlink.Link) (netlink.Link, error) {
	if inner.Type() != "veth" {
		return nil, nil
	}
	end, err := s.host.LinkByIndex(inner.Attrs().ParentIndex)
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		return nil, nil
	}
	if err != nil || end.Type() != "veth" || end.Attrs().ParentIndex != inner.Attrs().Index {
		return nil, err
	}
	return end, nil
}

func (s *sides) addresses(link netlink.Link) (out []netip.Addr, err error) {
	addrs, err := dump(func() ([]netlink.Addr, error) { return s.inside.AddrList(link, netlink.FAMILY_V4) })
	for _, a := range addrs {
		if addr, ok := netip.AddrFromSlice(a.IP); ok {
			out = append(out, addr.Unmap())
		}
	}
	return out, err
}

// makePair makes both ends at once, each in its namespace.
func (s *sides) makePair() (end netlink.Link, err error) {
	for range nameTries {
		attrs := netlink.NewLinkAttrs()
		attrs.Name, attrs.Flags = fmt.Sprintf("veth%08x", rand.Uint32()), net.FlagUp
		pair := netlink.NewVeth(attrs)
		pair.PeerName, pair.PeerNamespace = interfaceName, netlink.NsFd(s.ns)
		if err = s.host.LinkAdd(pair); !errors.Is(err, unix.EEXIST) {
			return pair, err
		}
	}
	return nil, err
}

// configure gives the sandbox's end its address, brings it up, and sends by the gateway what is for none of the subnet.
func (s *sides) configure(addr *net.IPNet, gateway netip.Addr) (netlink.Link, error) {
	inner, err := s.inside.LinkByName(interfaceName)
	if err != nil {
		return nil, err
	}
	done := make(chan error, 1)
	go func() {
		done <- inNetNS(s.ns, func() error {
			// The link's own IPv6 address need not be waited for, and neighbours are told of the other. Neither is worth a Pod,
			// where there is no IPv6 or parameters cannot be set.
			_ = setParameter("net/ipv6/conf/"+interfaceName+"/accept_dad", "0")
			_ = setParameter("net/ipv4/conf/"+interfaceName+"/arp_notify", "1")
			return nil
		})
	}()
	if err := <-done; err != nil {
		return nil, err
	}
	if err := ignorePresent(s.inside.AddrAdd(inner, &netlink.Addr{IPNet: addr})); err != nil {
		return nil, fmt.Errorf("add address %s: %w", addr, err)
	}
	if err := s.inside.LinkSetUp(inner); err != nil {
		return nil, fmt.Errorf("bring it up: %w", err)
	}
	route := &netlink.Route{LinkIndex: inner.Attrs().Index, Dst: everywhere(), Gw: gateway.AsSlice()}
	if err := ignorePresent(s.inside.RouteAdd(route)); err != nil {
		return nil, fmt.Errorf("add default route: %w", err)
	}
	return inner, nil
}

// awaitUp waits until a link of the host's lets packets through. Without it a Pod's first packets would be lost, and sent
// again after a second. To ask for the link has the kernel hurry.
func (s *sides) awaitUp(ctx context.Context, link netlink.Link) (netlink.Link, error) {
	limited, cancel := context.WithTimeout(ctx, linkPatience)
	defer cancel()
	for delay := shortestDelay; ; delay *= 2 {
		now, err := s.host.LinkByIndex(link.Attrs().Index)
		if err != nil {
			return nil, fmt.Errorf("look at link: %w", err)
		}
		if now.Attrs().OperState == netlink.OperUp {
			return now, nil
		}
		select {
		case <-time.After(delay):
		case <-limited.Done():
			return nil, fmt.Errorf("wait for link %s, which is %s: %w", now.Attrs().Name, now.Attrs().OperState, limited.Err())
		}
	}
}

// result is what a plugin would have answered: the bridge, and both ends of the link.
func (n *Network) result(id string, addr netip.Addr, links []netlink.Link) *types100.Result {
	inner := len(links) - 1
	subnet, gateway := prefix(addr, n.cfg.Subnet.Bits()), n.gateway().AsSlice()
	result := &types100.Result{CNIVersion: cniVersion, IPs: []*types100.IPConfig{{Interface: &inner, Address: *subnet, Gateway: gateway}}}
	for _, link := range links {
		result.Interfaces = append(result.Interfaces, &types100.Interface{Name: link.Attrs().Name, Mac: link.Attrs().HardwareAddr.String()})
	}
	result.Interfaces[inner].Sandbox = n.NetNS(id)
	result.Routes = []*cnitypes.Route{{Dst: *everywhere()}}
	return result
}

func everywhere() *net.IPNet { return prefix(netip.IPv4Unspecified(), 0) }

// isConnected says whether nothing is missing of a sandbox's link.
func (n *Network) isConnected(id string, addr netip.Addr) bool {
	s, err := n.openSides(id)
	if err != nil {
		return false
	}
	defer s.close()
	inner, err := s.inside.LinkByName(interfaceName)
	if err != nil || inner.Attrs().Flags&net.FlagUp == 0 {
		return false
	}
	addrs, err := s.addresses(inner)
	if err != nil || !slices.Contains(addrs, addr) {
		return false
	}
	routes, err := dump(func() ([]netlink.Route, error) { return s.inside.RouteList(nil, netlink.FAMILY_V4) })
	return err == nil && slices.ContainsFunc(routes, isDefault)
}

// disconnect takes a sandbox's link away, both ends. With its namespace gone, the kernel does.
func (n *Network) disconnect(id string) error {
	if n.pinned(id) == "" {
		return nil
	}
	s, err := n.openSides(id)
	if err != nil {
		return err
	}
	defer s.close()
	inner, err := s.inside.LinkByName(interfaceName)
	if err == nil {
		err = s.inside.LinkDel(inner)
	}
	if err != nil && !errors.As(err, &netlink.LinkNotFoundError{}) && !errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("remove %s: %w", interfaceName, err)
	}
	return nil
}
