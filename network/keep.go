package network

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const (
	keepEvery    = 10 * time.Second // how soon what was swept off the host is missed
	keepPatience = 15 * time.Second // how long one look may take: iptables waits for whoever holds its lock
)

// Keep looks every ten seconds, until ctx ends, whether what Pods need of the host's network is still there, and puts it
// back: a firewall's reload sweeps it away, and tells nobody. A look costs four short iptables processes while the built-in
// network is in use, and one more while Pods have host ports.
func (n *Network) Keep(ctx context.Context) {
	told := ""
	for ticker := time.NewTicker(keepEvery); ; {
		limited, cancel := context.WithTimeout(ctx, keepPatience)
		err := n.Restore(limited)
		cancel()
		if ctx.Err() != nil {
			ticker.Stop()
			return
		}
		now := ""
		if err != nil {
			now = err.Error()
		}
		if now != told && err != nil {
			n.cfg.Log.Error("the Pods' network cannot be kept up", "error", err)
		}
		told = now
		select {
		case <-ctx.Done():
		case <-ticker.C:
		}
	}
}

// Restore puts back what others have swept off the host: the rules and the bridge of the built-in network while that is in
// use, also by Pods of an earlier agent, and the rules of host ports. What is there is left alone.
func (n *Network) Restore(ctx context.Context) error {
	err := errors.Join(n.restoreBuiltIn(ctx), n.restorePorts(ctx))
	if err != nil {
		return fmt.Errorf("restore network: %w", err)
	}
	return nil
}

// restoreBuiltIn puts back the host's part of the built-in network.
func (n *Network) restoreBuiltIn(ctx context.Context) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	used, err := n.leases.any()
	if err != nil || !used && !n.prepared {
		return err
	}
	missing, err := n.addRules(ctx)
	for _, table := range missing {
		if n.prepared {
			n.cfg.Log.Warn("rules of the Pods' network were gone from the firewall, and are back", "table", table, "chain", n.chain())
		}
	}
	if err != nil {
		return err
	}
	n.prepared = true
	if !used {
		return nil
	}
	host, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("open netlink: %w", err)
	}
	defer host.Close()
	_, err = n.restoreBridge(host)
	return err
}

// restoreBridge makes the bridge, unless it is there, and connects the Pods to it. Where someone deleted it, their links live
// on without it, and they know it by its hardware address, which so stays as it was. The caller holds mu.
func (n *Network) restoreBridge(host *netlink.Handle) (netlink.Link, error) {
	bridge, err := host.LinkByName(n.bridge)
	if err == nil {
		n.address = bridge.Attrs().HardwareAddr
		return bridge, nil
	}
	if !errors.As(err, &netlink.LinkNotFoundError{}) {
		return nil, fmt.Errorf("find bridge %s: %w", n.bridge, err)
	}
	if n.address == nil {
		if n.address, err = n.recordedAddress(); err != nil {
			return nil, err
		}
	}
	if bridge, err = n.makeBridge(host, n.address); err != nil {
		return nil, err
	}
	connected, err := n.reconnect(bridge)
	if connected > 0 {
		n.cfg.Log.Warn("the bridge of the Pods' network was gone, and is back", "bridge", n.bridge, "pods", connected)
	}
	return bridge, err
}

// recordedAddress is the hardware address of a bridge that an earlier agent had a plugin make, or else of one of our own.
func (n *Network) recordedAddress() (net.HardwareAddr, error) {
	attachments, err := n.cni.GetCachedAttachments("")
	if err != nil {
		return nil, fmt.Errorf("list attachments: %w", err)
	}
	for _, a := range attachments {
		if a.Network != n.cfg.Name {
			continue
		}
		result, err := n.cachedResult(a)
		if err != nil {
			return nil, err
		}
		for _, i := range result.Interfaces {
			if address, err := net.ParseMAC(i.Mac); err == nil && i.Name == n.bridge {
				return address, nil
			}
		}
	}
	return bridgeAddress(n.cfg.Name), nil
}

// reconnect connects the hosts' ends of all Pods' links to the bridge, and answers how many.
func (n *Network) reconnect(bridge netlink.Link) (connected int, err error) {
	all, err := n.leases.all()
	if err != nil {
		return 0, err
	}
	var errs []error
	for _, one := range all {
		if one.sandbox == "" || n.pinned(one.sandbox) == "" {
			continue
		}
		done, err := n.reconnectOne(one.sandbox, bridge)
		if err != nil {
			errs = append(errs, fmt.Errorf("connect sandbox %s to bridge %s: %w", one.sandbox, n.bridge, err))
		}
		if done {
			connected++
		}
	}
	return connected, errors.Join(errs...)
}

// reconnectOne leaves a sandbox without a link alone: it is gone, or just being added.
func (n *Network) reconnectOne(id string, bridge netlink.Link) (done bool, err error) {
	s, err := n.openSides(id)
	if err != nil {
		return false, err
	}
	defer s.close()
	inner, err := s.inside.LinkByName(interfaceName)
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	end, err := s.peer(inner)
	if err != nil || end == nil {
		return false, err
	}
	if err := setMaster(s.host, end, bridge); err != nil && !errors.Is(err, unix.ENODEV) {
		return false, err
	}
	return true, nil
}

func prefix(addr netip.Addr, bits int) *net.IPNet {
	return &net.IPNet{IP: addr.AsSlice(), Mask: net.CIDRMask(bits, addr.BitLen())}
}
