package network

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
)

// HostIPs are the node's own addresses, one of each family, IPv4 first: those of the interface with the default
// route, else the first global one of any interface that is not of some container network, else 127.0.0.1.
func HostIPs() ([]netip.Addr, error) {
	links, err := dump(netlink.LinkList)
	if err != nil {
		return nil, fmt.Errorf("list links: %w", err)
	}
	var out []netip.Addr
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		addr, err := hostIP(links, family)
		if err != nil {
			return nil, err
		}
		if addr.IsValid() {
			out = append(out, addr)
		}
	}
	if len(out) == 0 {
		return []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1})}, nil
	}
	return out, nil
}

// hostIP is the node's address of one family, the zero value if it has none.
func hostIP(links []netlink.Link, family int) (netip.Addr, error) {
	index, err := defaultLink(family)
	if err != nil {
		return netip.Addr{}, err
	}
	isDefault := func(l netlink.Link) bool { return l.Attrs().Index == index }
	isHosts := func(l netlink.Link) bool {
		return l.Attrs().Flags&net.FlagUp != 0 && l.Type() != "bridge" && l.Type() != "veth"
	}
	for _, eligible := range []func(netlink.Link) bool{isDefault, isHosts} {
		for _, link := range links {
			if !eligible(link) {
				continue
			}
			addr, err := globalAddress(link, family)
			if err != nil || addr.IsValid() {
				return addr, err
			}
		}
	}
	return netip.Addr{}, nil
}

// defaultLink is the index of the link with the default route of the lowest metric, 0 if there is none.
func defaultLink(family int) (int, error) {
	routes, err := dump(func() ([]netlink.Route, error) { return netlink.RouteList(nil, family) })
	if err != nil {
		return 0, fmt.Errorf("list routes: %w", err)
	}
	routes = slices.DeleteFunc(routes, func(r netlink.Route) bool { return !isDefault(r) })
	if len(routes) == 0 {
		return 0, nil
	}
	best := slices.MinFunc(routes, func(a, b netlink.Route) int { return a.Priority - b.Priority })
	if best.LinkIndex == 0 && len(best.MultiPath) > 0 {
		return best.MultiPath[0].LinkIndex, nil
	}
	return best.LinkIndex, nil
}

// isDefault says whether a route is for every address.
func isDefault(r netlink.Route) bool {
	if r.Dst == nil {
		return true
	}
	ones, _ := r.Dst.Mask.Size()
	return ones == 0 && r.Dst.IP.IsUnspecified()
}

// dumpRounds is how often a list is asked for that changes while the kernel tells it.
const dumpRounds = 5

// dump lists links, addresses or routes. Other Pods' come and go meanwhile: a list that is not whole is asked for again.
func dump[T any](list func() ([]T, error)) (out []T, err error) {
	for range dumpRounds {
		if out, err = list(); !errors.Is(err, netlink.ErrDumpInterrupted) {
			break
		}
	}
	return out, err
}

// globalAddress is a link's first address that others can reach, the zero value if it has none.
func globalAddress(link netlink.Link, family int) (netip.Addr, error) {
	addrs, err := dump(func() ([]netlink.Addr, error) { return netlink.AddrList(link, family) })
	if err != nil {
		return netip.Addr{}, fmt.Errorf("list addresses of %s: %w", link.Attrs().Name, err)
	}
	for _, a := range addrs {
		if addr, ok := netip.AddrFromSlice(a.IP); ok && addr.Unmap().IsGlobalUnicast() {
			return addr.Unmap(), nil
		}
	}
	return netip.Addr{}, nil
}
