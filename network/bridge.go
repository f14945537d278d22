package network

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// ensureBridge answers the bridge, with the gateway's address and up. If it has to be made, the Pods that there are are
// connected to it.
func (n *Network) ensureBridge(host *netlink.Handle) (netlink.Link, error) {
	bridge, err := host.LinkByName(n.bridge)
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		n.mu.Lock()
		defer n.mu.Unlock()
		return n.restoreBridge(host)
	}
	if err != nil {
		return nil, fmt.Errorf("find bridge %s: %w", n.bridge, err)
	}
	return bridge, n.setUpBridge(host, bridge)
}

// setUpBridge gives the bridge what may be missing of it.
func (n *Network) setUpBridge(host *netlink.Handle, bridge netlink.Link) error {
	if bridge.Type() != "bridge" {
		return fmt.Errorf("link %s is a %s, not a bridge: configure another network", n.bridge, bridge.Type())
	}
	err := ignorePresent(host.AddrAdd(bridge, &netlink.Addr{IPNet: prefix(n.gateway(), n.cfg.Subnet.Bits())}))
	if err == nil && bridge.Attrs().Flags&net.FlagUp == 0 {
		err = host.LinkSetUp(bridge)
	}
	if err == nil {
		err = forwardPackets()
	}
	if err != nil {
		return fmt.Errorf("set up bridge %s: %w", n.bridge, err)
	}
	return nil
}

// makeBridge makes the bridge. With an address given to it, it does not take on those of its ports, one after another.
func (n *Network) makeBridge(host *netlink.Handle, address net.HardwareAddr) (netlink.Link, error) {
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.HardwareAddr = n.bridge, address
	if err := ignorePresent(host.LinkAdd(&netlink.Bridge{LinkAttrs: attrs})); err != nil {
		return nil, fmt.Errorf("make bridge %s: %w", n.bridge, err)
	}
	// A Pod cannot tell the host of routes. A host without IPv6 does not need to be told.
	_ = setParameter("net/ipv6/conf/"+n.bridge+"/accept_ra", "0")
	bridge, err := host.LinkByName(n.bridge)
	if err != nil {
		return nil, fmt.Errorf("find bridge %s: %w", n.bridge, err)
	}
	return bridge, n.setUpBridge(host, bridge)
}

// bridgeAddress is the hardware address of a network's bridge: of those that are locally administered, and always the same,
// for Pods know it for longer than the bridge lives.
func bridgeAddress(name string) net.HardwareAddr {
	return binary.BigEndian.AppendUint32(net.HardwareAddr{0x0a, 0x70}, hash(name))
}

// setMaster makes a host's end of a link a port of the bridge, through which a Pod can also reach itself.
func setMaster(host *netlink.Handle, end, bridge netlink.Link) error {
	if end.Attrs().MasterIndex != bridge.Attrs().Index {
		if err := host.LinkSetMaster(end, bridge); err != nil {
			return err
		}
	}
	return host.LinkSetHairpin(end, true)
}

// forwardPackets has the host forward IPv4 packets, unless it does.
func forwardPackets() error {
	const parameter = "net/ipv4/ip_forward"
	value, err := os.ReadFile(filepath.Join("/proc/sys", parameter))
	if err == nil && strings.TrimSpace(string(value)) != "1" {
		err = setParameter(parameter, "1")
	}
	if err != nil {
		return fmt.Errorf("forward packets: %w", err)
	}
	return nil
}

// setParameter sets a parameter of the kernel in the network namespace of this thread.
func setParameter(path, value string) error {
	return os.WriteFile(filepath.Join("/proc/sys", path), []byte(value), 0)
}

// ignorePresent leaves out the error that something is there already.
func ignorePresent(err error) error {
	if errors.Is(err, unix.EEXIST) {
		return nil
	}
	return err
}
