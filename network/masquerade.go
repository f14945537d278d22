package network

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
	"strings"

	"github.com/vishvananda/netlink"
)

// prepare sets up the host's part of the built-in network, once: what leaves the subnet is given the host's address.
func (n *Network) prepare(ctx context.Context) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.prepared {
		return nil
	}
	if err := n.checkRoutes(); err != nil {
		return err
	}
	if err := n.masquerade(ctx); err != nil {
		return err
	}
	n.prepared = true
	return nil
}

// restore puts back what a firewall's reload may have swept away.
func (n *Network) restore(ctx context.Context) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.prepared {
		return nil
	}
	return n.masquerade(ctx)
}

// checkRoutes refuses a subnet that another interface has. A wider route, such as a VPN's for all of 10.0.0.0/8, is
// no obstacle.
func (n *Network) checkRoutes() error {
	routes, err := netlink.RouteList(nil, netlink.FAMILY_V4)
	if err != nil {
		return fmt.Errorf("list routes: %w", err)
	}
	own := -1
	if link, err := netlink.LinkByName(n.bridge); err == nil {
		own = link.Attrs().Index
	}
	for _, r := range routes {
		if r.Dst == nil || r.LinkIndex == own {
			continue
		}
		addr, ok := netip.AddrFromSlice(r.Dst.IP)
		bits, _ := r.Dst.Mask.Size()
		if ok && bits >= n.cfg.Subnet.Bits() && n.cfg.Subnet.Contains(addr.Unmap()) {
			return fmt.Errorf("subnet %s is in use: the host has a route to %s: configure another subnet", n.cfg.Subnet, r.Dst)
		}
	}
	return nil
}

// chain is the iptables chain of this network.
func (n *Network) chain() string { return fmt.Sprintf("PODKEEPER-%08X", hash(n.cfg.Name)) }

// masquerade makes the chain and the jump to it in one transaction, unless the jump is there.
func (n *Network) masquerade(ctx context.Context) error {
	if n.hasJump(ctx) {
		return nil
	}
	subnet, chain := n.cfg.Subnet.String(), n.chain()
	return restoreTable(ctx, []string{
		":" + chain + " - [0:0]",
		"-A " + chain + " -d " + subnet + " -j RETURN",
		"-A " + chain + " -d 224.0.0.0/4 -j RETURN",
		"-A " + chain + " -j MASQUERADE",
		"-A POSTROUTING " + strings.Join(n.jump(), " "),
	})
}

func (n *Network) jump() []string { return []string{"-s", n.cfg.Subnet.String(), "-j", n.chain()} }

// hasJump says whether the jump is there. What keeps iptables from answering will keep it from making it, and is
// reported then.
func (n *Network) hasJump(ctx context.Context) bool {
	args := append([]string{"-w", "-t", "nat", "-C", "POSTROUTING"}, n.jump()...)
	return exec.CommandContext(ctx, "iptables", args...).Run() == nil
}

// restoreTable changes the nat table by these lines, all or none of them.
func restoreTable(ctx context.Context, lines []string) error {
	cmd := exec.CommandContext(ctx, "iptables-restore", "-w", "--noflush")
	cmd.Stdin = strings.NewReader("*nat\n" + strings.Join(lines, "\n") + "\nCOMMIT\n")
	if out, err := cmd.CombinedOutput(); err != nil {
		if errors.Is(err, exec.ErrNotFound) {
			return fmt.Errorf("set up masquerading: install iptables, or configure a network: %w", err)
		}
		return fmt.Errorf("set up masquerading: %w: %s", err, strings.TrimSpace(string(out)))
	}
	return nil
}

// Destroy removes the built-in network from the host: its bridge and its iptables chain. Attachments must be gone. A
// network that is not there is no error.
func (n *Network) Destroy() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	ctx := context.Background()
	n.prepared = false
	lines := []string{":" + n.chain() + " - [0:0]"} // made if it was missing, emptied if not
	if n.hasJump(ctx) {
		lines = append(lines, "-D POSTROUTING "+strings.Join(n.jump(), " "))
	}
	err := restoreTable(ctx, append(lines, "-X "+n.chain()))
	if errors.Is(err, exec.ErrNotFound) {
		err = nil // without iptables there are no rules of ours
	}
	if err != nil {
		return fmt.Errorf("remove rules of network %s: %w", n.cfg.Name, err)
	}
	link, err := netlink.LinkByName(n.bridge)
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		return nil
	}
	if err == nil {
		err = netlink.LinkDel(link)
	}
	if err != nil {
		return fmt.Errorf("remove bridge %s: %w", n.bridge, err)
	}
	return nil
}
