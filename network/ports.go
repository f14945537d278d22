package network

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strings"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/invoke"
)

const (
	portPlugin     = "portmap"
	portCapability = "portMappings"
	portChain      = "CNI-HOSTPORT-DNAT" // portmap's, to which all host ports are added
	iptablesBusy   = 4                   // the exit code of iptables that has no lock, or too little memory
)

// restorePorts has portmap add its rules again where they were swept out of the nat table, of all Pods or, where some have come since,
// of those from before. That adding is idempotent. To ask portmap about each Pod would cost several processes a Pod.
func (n *Network) restorePorts(ctx context.Context) error {
	ids, err := n.withPorts()
	if err != nil || len(ids) == 0 {
		return err
	}
	missing := withoutPorts(ctx, ids)
	var errs []error
	restored := 0
	for _, id := range missing {
		added, err := n.restorePortsOf(ctx, id)
		if err != nil {
			errs = append(errs, fmt.Errorf("host ports of sandbox %s: %w", id, err))
		}
		if added {
			restored++
		}
	}
	if err := errors.Join(errs...); err != nil || restored == 0 {
		return err
	}
	if len(withoutPorts(ctx, ids)) < len(ids) {
		n.cfg.Log.Warn("rules of host ports were gone from the firewall, and are back", "pods", restored)
		return nil
	}
	n.recordMu.Lock()
	defer n.recordMu.Unlock()
	n.otherPorts = true
	return nil
}

// withoutPorts are those of the sandboxes that packets find no way to; none where that cannot be told.
func withoutPorts(ctx context.Context, ids []string) []string {
	out, err := exec.CommandContext(ctx, "iptables", "-w", "-t", "nat", "-S").Output()
	if err != nil {
		return nil
	}
	jump, rules := false, ""
	for line := range strings.Lines(string(out)) {
		jump = jump || strings.HasPrefix(line, "-A PREROUTING ") && strings.Contains(line, portChain)
		if strings.HasPrefix(line, "-A "+portChain+" ") {
			rules += line
		}
	}
	return slices.DeleteFunc(slices.Clone(ids), func(id string) bool { return jump && strings.Contains(rules, id) })
}

// portRules are portmap's, each of which names its sandbox; none where there is no host port, or no iptables. It fails where that
// cannot be told.
func portRules(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "iptables", "-w", "-t", "nat", "-S", portChain).Output()
	var exit *exec.ExitError
	switch {
	case errors.Is(err, exec.ErrNotFound):
		return "", nil
	case errors.As(err, &exit) && exit.Exited() && exit.ExitCode() != iptablesBusy: // there is no such chain, or table
		return "", nil
	case err != nil:
		return "", fmt.Errorf("list rules of host ports: %w", err)
	}
	return string(out), nil
}

// withPorts are the sandboxes that have host ports by iptables.
func (n *Network) withPorts() ([]string, error) {
	n.recordMu.Lock()
	defer n.recordMu.Unlock()
	if n.otherPorts {
		return nil, nil
	}
	if err := n.readRecords(); err != nil {
		return nil, err
	}
	var out []string
	for id, ports := range n.recorded {
		if ports {
			out = append(out, id)
		}
	}
	slices.Sort(out)
	return out, nil
}

// restorePortsOf adds a sandbox's host ports again, by the plugin and the configuration that added them. A sandbox that is
// gone gets none.
func (n *Network) restorePortsOf(ctx context.Context, id string) (added bool, err error) {
	release, err := n.hold(ctx, id)
	if err != nil {
		return false, err
	}
	defer release()
	attachments, err := n.attachments(id)
	if err != nil {
		return false, err
	}
	for _, a := range attachments {
		list, err := libcni.NetworkConfFromBytes(a.Config)
		if err != nil {
			return added, fmt.Errorf("parse cached configuration: %w", err)
		}
		for _, plugin := range list.Plugins {
			if plugin.Network.Type != portPlugin || a.CapabilityArgs[portCapability] == nil || n.pinned(id) == "" {
				continue
			}
			if err := n.addPorts(ctx, list, plugin, a); err != nil {
				return added, err
			}
			added = true
		}
	}
	return added, nil
}

// addPorts calls portmap as the last plugin of a list, which libcni only does for a whole list.
func (n *Network) addPorts(ctx context.Context, list *libcni.NetworkConfigList, plugin *libcni.PluginConfig, a *libcni.NetworkAttachment) error {
	result, err := n.cachedResult(a)
	if err != nil {
		return err
	}
	previous, err := result.GetAsVersion(list.CNIVersion)
	if err != nil {
		return fmt.Errorf("convert result: %w", err)
	}
	conf, err := libcni.InjectConf(plugin, map[string]any{
		"name": list.Name, "cniVersion": list.CNIVersion, "prevResult": previous,
		"runtimeConfig": map[string]any{portCapability: a.CapabilityArgs[portCapability]},
	})
	if err != nil {
		return fmt.Errorf("build configuration: %w", err)
	}
	path, err := invoke.FindInPath(portPlugin, []string{n.cfg.BinDir})
	if err != nil {
		return fmt.Errorf("find plugin: %w", err)
	}
	_, err = invoke.ExecPluginWithResult(ctx, path, conf.Bytes, &invoke.Args{
		Command: "ADD", ContainerID: a.ContainerID, NetNS: n.pinned(a.ContainerID), PluginArgs: a.CniArgs, IfName: a.IfName, Path: n.cfg.BinDir,
	}, &plugins{})
	return err
}
