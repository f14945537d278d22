package network

import (
	"fmt"
	"net"
	"slices"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
)

// Interface is what went through a network interface since it was made.
type Interface struct {
	Name                                    string
	Default                                 bool // it is a Pod's own, or has the node's default route
	RxBytes, RxPackets, RxErrors, RxDropped uint64
	TxBytes, TxPackets, TxErrors, TxDropped uint64
}

// Traffic is what went through the interfaces of a sandbox, or with no id through the node's, without loopback and what
// leads to containers.
func (n *Network) Traffic(id string) ([]Interface, error) {
	if id == "" {
		return hostTraffic()
	}
	ns, err := netns.GetFromPath(n.NetNS(id))
	if err != nil {
		return nil, fmt.Errorf("open network namespace: %w", err)
	}
	defer ns.Close()
	var links []netlink.Link
	done := make(chan error, 1)
	go func() {
		done <- inNetNS(ns, func() (err error) {
			links, err = dump(netlink.LinkList)
			return err
		})
	}()
	if err := <-done; err != nil {
		return nil, fmt.Errorf("list links of sandbox %s: %w", id, err)
	}
	return traffic(links, func(l netlink.Link) bool { return l.Attrs().Name == interfaceName }), nil
}

func hostTraffic() ([]Interface, error) {
	links, err := dump(netlink.LinkList)
	if err != nil {
		return nil, fmt.Errorf("list links: %w", err)
	}
	index, err := defaultLink(netlink.FAMILY_V4)
	if err == nil && index == 0 {
		index, err = defaultLink(netlink.FAMILY_V6)
	}
	links = slices.DeleteFunc(links, func(l netlink.Link) bool { return l.Type() == "bridge" || l.Type() == "veth" })
	return traffic(links, func(l netlink.Link) bool { return l.Attrs().Index == index }), err
}

// traffic is that of the links that are up.
func traffic(links []netlink.Link, isDefault func(netlink.Link) bool) (out []Interface) {
	for _, l := range links {
		a := l.Attrs()
		if a.Flags&net.FlagUp == 0 || a.Flags&net.FlagLoopback != 0 || a.Statistics == nil {
			continue
		}
		s := a.Statistics
		out = append(out, Interface{
			Name: a.Name, Default: isDefault(l), RxBytes: s.RxBytes, RxPackets: s.RxPackets, RxErrors: s.RxErrors, RxDropped: s.RxDropped,
			TxBytes: s.TxBytes, TxPackets: s.TxPackets, TxErrors: s.TxErrors, TxDropped: s.TxDropped,
		})
	}
	return out
}
