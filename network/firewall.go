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

// prepare sets up the host's part of the built-in network, once.
func (n *Network) prepare(ctx context.Context) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.prepared {
		return nil
	}
	if err := n.checkRoutes(); err != nil {
		return err
	}
	if _, err := n.addRules(ctx); err != nil {
		return err
	}
	n.prepared = true
	return nil
}

// checkRoutes refuses a subnet that another interface has. A wider route, such as a VPN's for all of 10.0.0.0/8, is
// no obstacle.
func (n *Network) checkRoutes() error {
	routes, err := dump(func() ([]netlink.Route, error) { return netlink.RouteList(nil, netlink.FAMILY_V4) })
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

// chain is the name of this network's chains, one in each table.
func (n *Network) chain() string { return fmt.Sprintf("PODKEEPER-%08X", hash(n.cfg.Name)) }

// table is this network's part of an iptables table: a chain of its own, and the jump to it from a chain of the host's.
type table struct {
	name, from string
	jump       []string
	chain      []string
}

// tables give what leaves the subnet the host's address, and let through what a policy of DROP, as Docker and ufw set it,
// would end. They come after the host's own rules, which so have the first word.
func (n *Network) tables() []table {
	subnet, chain := n.cfg.Subnet.String(), n.chain()
	return []table{
		{"nat", "POSTROUTING", []string{"-s", subnet, "-j", chain}, []string{"-d " + subnet + " -j RETURN", "-d 224.0.0.0/4 -j RETURN", "-j MASQUERADE"}},
		{"filter", "FORWARD", []string{"-j", chain}, []string{"-s " + subnet + " -j ACCEPT", "-d " + subnet + " -j ACCEPT"}},
	}
}

// addRules makes each chain and the jump to it in one transaction, unless both are there, and answers in which tables one
// was missing. The chain is made before the jump, and is never empty.
func (n *Network) addRules(ctx context.Context) (missing []string, err error) {
	for _, t := range n.tables() {
		jumps := t.has(ctx, t.from, t.jump)
		if jumps && t.has(ctx, n.chain(), strings.Fields(t.chain[len(t.chain)-1])) {
			continue
		}
		lines := []string{":" + n.chain() + " - [0:0]"} // made if it was missing, emptied if not
		for _, rule := range t.chain {
			lines = append(lines, "-A "+n.chain()+" "+rule)
		}
		if !jumps {
			lines = append(lines, "-A "+t.from+" "+strings.Join(t.jump, " "))
		}
		if err := t.restore(ctx, lines); err != nil {
			return missing, fmt.Errorf("set up iptables: %w", err)
		}
		missing = append(missing, t.name)
	}
	return missing, nil
}

// removeRules removes chains and jumps, of which any may be missing.
func (n *Network) removeRules(ctx context.Context) error {
	for _, t := range n.tables() {
		lines := []string{":" + n.chain() + " - [0:0]"} // made if it was missing, emptied if not
		if t.has(ctx, t.from, t.jump) {
			lines = append(lines, "-D "+t.from+" "+strings.Join(t.jump, " "))
		}
		if err := t.restore(ctx, append(lines, "-X "+n.chain())); err != nil {
			return err
		}
	}
	return nil
}

// has says whether a rule is in a chain. What keeps iptables from answering will keep it from making the rule, and is
// reported then.
func (t table) has(ctx context.Context, chain string, rule []string) bool {
	args := append([]string{"-w", "-t", t.name, "-C", chain}, rule...)
	return exec.CommandContext(ctx, "iptables", args...).Run() == nil
}

// restore changes the table by these lines, all or none of them.
func (t table) restore(ctx context.Context, lines []string) error {
	cmd := exec.CommandContext(ctx, "iptables-restore", "-w", "--noflush")
	cmd.Stdin = strings.NewReader("*" + t.name + "\n" + strings.Join(lines, "\n") + "\nCOMMIT\n")
	if out, err := cmd.CombinedOutput(); err != nil {
		if errors.Is(err, exec.ErrNotFound) {
			return fmt.Errorf("install iptables, or configure a network: %w", err)
		}
		return fmt.Errorf("table %s: %w: %s", t.name, err, strings.TrimSpace(string(out)))
	}
	return nil
}

// Destroy removes the built-in network from the host: its bridge and its iptables chains. Attachments must be gone. A
// network that is not there is no error.
func (n *Network) Destroy() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.prepared = false
	// Without iptables there are no rules of ours.
	if err := n.removeRules(context.Background()); err != nil && !errors.Is(err, exec.ErrNotFound) {
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
