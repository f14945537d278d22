package network

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/invoke"
	"github.com/vishvananda/netlink"
)

// Needs is what the network that a Pod would get now asks of the host.
type Needs struct {
	Skipped  []error      // configurations that cannot be read
	Subnet   netip.Prefix // of the built-in network, invalid for any other
	Plugins  []string     // all of them, those for addresses too
	Missing  []string     // those of them that are not there
	Optional bool         // the plugins are only for Pods with host ports: all others do without them
	Faults   []error      // what else would fail at once: plugins that are too old, a subnet in use
	Links    bool         // bridges and veth pairs are made
	Forwards bool         // the host forwards packets of Pods
	Iptables bool         // packets are rewritten or filtered
}

// Needs looks at the configuration and at the plugins. It changes nothing.
func (n *Network) Needs(ctx context.Context) (Needs, error) {
	var needs Needs
	files, err := n.confFiles()
	if err != nil {
		return needs, err
	}
	list, builtIn, err := n.configuration()
	if err != nil {
		return needs, err
	}
	if builtIn {
		if list, err = n.portList(nil); err != nil {
			return needs, err
		}
		needs.Subnet, needs.Optional, needs.Links, needs.Forwards, needs.Iptables = n.cfg.Subnet, true, true, true, true
		if err := n.checkRoutes(); err != nil {
			needs.Faults = append(needs.Faults, err)
		}
	}
	for _, file := range files {
		_, err := readConfiguration(file)
		if err == nil {
			break // this is the one
		}
		needs.Skipped = append(needs.Skipped, fmt.Errorf("%s: %w", file, err))
	}
	for _, plugin := range list.Plugins {
		kind := plugin.Network.Type
		needs.Links = needs.Links || kind == "bridge" || kind == "ptp"
		needs.Forwards = needs.Forwards || kind == "ptp" || kind == "bridge" && isSet(plugin.Bytes, "isGateway", "isDefaultGateway")
		needs.Iptables = needs.Iptables || kind == "portmap" || kind == "firewall" || isSet(plugin.Bytes, "ipMasq")
		for _, name := range []string{kind, plugin.Network.IPAM.Type} {
			if name == "" || slices.Contains(needs.Plugins, name) {
				continue
			}
			needs.Plugins = append(needs.Plugins, name)
			if _, err := invoke.FindInPath(name, []string{n.cfg.BinDir}); err != nil {
				needs.Missing = append(needs.Missing, name)
			} else if err := n.checkPlugin(ctx, list, name); err != nil {
				needs.Faults = append(needs.Faults, err)
			}
		}
	}
	return needs, nil
}

// checkPlugin asks a plugin whether it speaks the configuration's version of CNI.
func (n *Network) checkPlugin(ctx context.Context, list *libcni.NetworkConfigList, name string) error {
	spoken, err := n.cni.GetVersionInfo(ctx, name)
	if err != nil {
		return fmt.Errorf("ask plugin %s for its version: %w", name, err)
	}
	if list.CNIVersion != "" && !slices.Contains(spoken.SupportedVersions(), list.CNIVersion) {
		return fmt.Errorf("plugin %s does not know cniVersion %s: install newer plugins, or write an older version into the configuration", name, list.CNIVersion)
	}
	return nil
}

// isSet says whether one of these fields is true in a plugin's configuration.
func isSet(plugin []byte, fields ...string) bool {
	var values map[string]any
	if err := json.Unmarshal(plugin, &values); err != nil {
		return false // never: libcni has read it
	}
	return slices.ContainsFunc(fields, func(field string) bool { return values[field] == true })
}

// Rehearse makes a bridge, a veth pair and, if asked to, the built-in network's iptables rules in a network namespace of
// its own, which ends with it. It says what the kernel or iptables cannot do. The kernel may load modules for it, as it
// will for the first Pod.
func (n *Network) Rehearse(ctx context.Context, rules bool) error {
	done := make(chan error, 1)
	go func() {
		done <- inNewNetNS(func() error { return n.rehearse(ctx, rules) })
	}()
	return <-done
}

func (n *Network) rehearse(ctx context.Context, rules bool) error {
	var errs []error
	for _, link := range []netlink.Link{
		&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "bridge"}},
		&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "veth"}, PeerName: "peer"},
	} {
		if err := netlink.LinkAdd(link); err != nil {
			errs = append(errs, fmt.Errorf("make %s: %w", link.Type(), err))
		}
	}
	if rules {
		_, err := n.addRules(ctx)
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
