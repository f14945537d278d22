package doctor

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Network is what is known of the network that a Pod would get now.
type Network struct {
	Name     string
	Subnet   string  // of the built-in network, empty for any other
	Skipped  []error // configurations that cannot be read
	Plugins  []string
	Missing  []string // of the plugins
	Optional bool     // the plugins are for Pods with host ports only
	Faults   []error  // what else would keep it from being set up
	Links    bool     // bridges and veth pairs are made
	Forwards bool     // the host forwards packets of Pods
	Iptables bool     // packets are rewritten or filtered
	// Rehearse makes links and, if asked to, the built-in network's iptables rules in a network namespace of its own.
	Rehearse func(ctx context.Context, rules bool) error
}

func (h Host) network(ctx context.Context, a Agent) []Finding {
	const name = "network"
	n, err := a.Network(ctx)
	if err != nil {
		return []Finding{fail(name, "%v: mend it, or remove it to have the built-in network", err)}
	}
	findings := []Finding{ok(name, "%s", n.Name)}
	if err := errors.Join(n.Faults...); err != nil {
		findings[0] = fail(name, "%s: %v", n.Name, err)
	}
	for _, err := range n.Skipped {
		findings = append(findings, warn(name, "%v: it is skipped: mend or remove it", err))
	}
	findings = append(findings, h.plugins(a.PluginDir, n))
	if n.Iptables {
		findings = append(findings, h.iptables(ctx, n))
	}
	if n.Links {
		findings = append(findings, h.rehearse(ctx, n))
	}
	if n.Forwards {
		findings = append(findings, h.forwarding())
	}
	return findings
}

// pluginFolders are where distributions and Kubernetes have CNI plugins.
var pluginFolders = []string{"/opt/cni/bin", "/usr/lib/cni"}

func (h Host) plugins(folder string, n Network) Finding {
	const name = "CNI plugins"
	if len(n.Missing) == 0 {
		return ok(name, "%s in %s", strings.Join(n.Plugins, ", "), folder)
	}
	missing := strings.Join(n.Missing, ", ")
	for _, other := range pluginFolders {
		isThere := func(plugin string) bool { return h.program(other, plugin) != "" }
		if !slices.ContainsFunc(n.Plugins, func(plugin string) bool { return !isThere(plugin) }) {
			return fail(name, "%s missing in %s: use --cni-bin-dir %s, which has them", missing, folder, other)
		}
	}
	mend := fmt.Sprintf("%s has the usual ones; or say with --cni-bin-dir where they are", h.install("containernetworking-plugins"))
	if n.Optional {
		return warn(name, "%s missing in %s, which Pods with host ports need: %s", missing, folder, mend)
	}
	return fail(name, "%s missing in %s: %s", missing, folder, mend)
}

// iptables must be found by the agent and by the plugins that it starts.
func (h Host) iptables(ctx context.Context, n Network) Finding {
	const name = "iptables"
	for _, program := range []string{"iptables", "iptables-restore"} {
		if h.program(h.Path, program) != "" {
			continue
		}
		if path := h.program(servicePath, program); path != "" {
			return warn(name, "%s is not in PATH, and an agent started from here would not find it: add its folder to PATH", path)
		}
		if n.Subnet == "" {
			return warn(name, "%s is missing, which plugins may need for masquerading and host ports: %s", program, h.install("iptables"))
		}
		return fail(name, "%s is missing: %s", program, h.install("iptables"))
	}
	path := h.program(h.Path, "iptables")
	said, err := h.run(ctx, path, "--version")
	if err != nil {
		return fail(name, "it does not run: %v: %s", err, h.install("--reinstall iptables"))
	}
	return ok(name, "%s, %s", said, path)
}

// rehearse leaves out what needs iptables where that is not to be found: this was said already.
func (h Host) rehearse(ctx context.Context, n Network) Finding {
	const name = "kernel network"
	what, rules := "bridge, veth", n.Subnet != "" && h.program(h.Path, "iptables-restore") != ""
	if rules {
		what += ", iptables rules"
	}
	if !h.isRoot() {
		return warn(name, "%s not tried: only root can", what)
	}
	if err := n.Rehearse(ctx, rules); err != nil {
		return fail(name, "%v: use a kernel that has %s, or load the modules", err, what)
	}
	return ok(name, "%s can be made", what)
}

// forwarding is switched on by the bridge plugin, where it may.
func (h Host) forwarding() Finding {
	const name, file = "forwarding", "/proc/sys/net/ipv4/ip_forward"
	value, err := h.read(file)
	if err != nil {
		return fail(name, "cannot be told: %v: mount /proc", err)
	}
	text := "net.ipv4.ip_forward is on"
	if value == "0" {
		if ro, err := h.readOnly(file); err != nil || ro {
			return fail(name, "net.ipv4.ip_forward is off and cannot be written to (%s): sysctl -w net.ipv4.ip_forward=1 on the host", cause(err, "read-only"))
		}
		text = "net.ipv4.ip_forward is off; a plugin switches it on for the first Pod"
	}
	return ok(name, "%s", text)
}
