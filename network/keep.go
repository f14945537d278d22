package network

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
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
	used, err := n.isUsed()
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
	return n.restoreBridge()
}

// isUsed says whether an address of the built-in network is in use. It reads a few names, however many there are.
func (n *Network) isUsed() (bool, error) {
	folder, err := os.Open(filepath.Join(n.leases(), n.cfg.Name))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("list addresses in use: %w", err)
	}
	defer folder.Close()
	names, err := folder.Readdirnames(8) // the lock and host-local's last address are among them
	if err != nil && !errors.Is(err, io.EOF) {
		return false, fmt.Errorf("list addresses in use: %w", err)
	}
	for _, name := range names {
		if isLease(name) {
			return true, nil
		}
	}
	return false, nil
}

// isLease tells an address from what else host-local keeps beside it.
func isLease(file string) bool {
	return !strings.HasPrefix(file, "last_reserved_ip") && file != "lock"
}

// restoreBridge makes the bridge again where someone deleted it, as the bridge plugin had, and connects the Pods to it.
// Their links live on without it. It has its old hardware address, which the Pods know.
func (n *Network) restoreBridge() error {
	_, err := netlink.LinkByName(n.bridge)
	if err == nil || !errors.As(err, &netlink.LinkNotFoundError{}) {
		return err
	}
	attachments, err := n.cni.GetCachedAttachments("")
	if err != nil {
		return fmt.Errorf("list attachments: %w", err)
	}
	var address net.HardwareAddr
	var ends []string
	for _, a := range attachments {
		if a.Network != n.cfg.Name {
			continue
		}
		result, err := n.cachedResult(a)
		if err != nil {
			return err
		}
		for _, i := range result.Interfaces {
			switch {
			case i.Sandbox != "":
			case i.Name == n.bridge:
				address, _ = net.ParseMAC(i.Mac)
			default:
				ends = append(ends, i.Name)
			}
		}
	}
	if len(ends) == 0 {
		return nil // the plugin makes it for the next Pod
	}
	if err := n.makeBridge(address, ends); err != nil {
		return fmt.Errorf("make bridge %s: %w", n.bridge, err)
	}
	n.cfg.Log.Warn("the bridge of the Pods' network was gone, and is back", "bridge", n.bridge)
	return nil
}

// makeBridge makes the bridge with the gateway's address, and connects the hosts' ends of the Pods' links to it.
func (n *Network) makeBridge(address net.HardwareAddr, ends []string) error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.HardwareAddr = n.bridge, address
	bridge := &netlink.Bridge{LinkAttrs: attrs}
	if err := netlink.LinkAdd(bridge); err != nil {
		return err
	}
	errs := []error{netlink.AddrAdd(bridge, &netlink.Addr{IPNet: prefix(n.cfg.Subnet.Addr().Next(), n.cfg.Subnet.Bits())}), netlink.LinkSetUp(bridge)}
	for _, end := range ends {
		link, err := netlink.LinkByName(end)
		if errors.As(err, &netlink.LinkNotFoundError{}) {
			continue // the Pod is gone
		}
		if err == nil {
			err = netlink.LinkSetMaster(link, bridge)
		}
		if err == nil {
			err = netlink.LinkSetHairpin(link, true)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func prefix(addr netip.Addr, bits int) *net.IPNet {
	return &net.IPNet{IP: addr.AsSlice(), Mask: net.CIDRMask(bits, addr.BitLen())}
}
