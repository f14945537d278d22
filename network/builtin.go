package network

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/invoke"
	types100 "github.com/containernetworking/cni/pkg/types/100"
)

// addBuiltIn attaches a sandbox to the built-in network, as the plugins bridge and host-local would, or completes what was
// begun. Host ports are left to portmap, and so are recorded by libcni.
func (n *Network) addBuiltIn(ctx context.Context, s Sandbox) ([]netip.Addr, error) {
	if err := n.prepare(ctx); err != nil {
		return nil, fmt.Errorf("prepare built-in network %s: %w", n.cfg.Name, err)
	}
	addr, err := n.leases.take(s.ID)
	if err != nil {
		return nil, err
	}
	result, err := n.connect(ctx, s.ID, addr)
	if err != nil {
		return nil, err
	}
	if len(s.Ports) > 0 {
		list, err := n.portList(result)
		if err != nil {
			return nil, err
		}
		if _, err := n.cni.AddNetworkList(ctx, list, n.arguments(s)); err != nil {
			return nil, fmt.Errorf("set up host ports: %w", err)
		}
		n.note(s.ID, true)
	}
	return []netip.Addr{addr}, nil
}

// portList is the part of the built-in network that is a plugin's: host ports, for a link of which portmap is told as if a
// plugin had made it. To remove them, it need not be told.
func (n *Network) portList(link *types100.Result) (*libcni.NetworkConfigList, error) {
	plugin := map[string]any{"type": portPlugin, "capabilities": map[string]bool{portCapability: true}, "snat": true}
	if link != nil {
		plugin["prevResult"] = link
	}
	b, err := json.Marshal(map[string]any{"cniVersion": cniVersion, "name": n.cfg.Name, "plugins": []any{plugin}})
	if err != nil {
		return nil, fmt.Errorf("build network configuration: %w", err)
	}
	list, err := libcni.NetworkConfFromBytes(b)
	if err != nil {
		return nil, fmt.Errorf("build network configuration: %w", err)
	}
	return list, nil
}

// removePorts undoes what an addition of host ports did that was cut short before it was recorded. portmap finds its rules
// by the sandbox, whatever ports it is told. Where it is not installed, it has made none.
func (n *Network) removePorts(ctx context.Context, id string) error {
	if _, err := invoke.FindInPath(portPlugin, []string{n.cfg.BinDir}); err != nil {
		return nil
	}
	list, err := n.portList(nil)
	if err != nil {
		return err
	}
	rt := n.arguments(Sandbox{ID: id, Ports: []Port{{HostPort: 1, ContainerPort: 1}}})
	rt.NetNS = n.pinned(id)
	return n.cni.DelNetworkList(ctx, list, rt)
}

// undoBuiltIn undoes an addition of which there is no record: without host ports there is none, and otherwise it was cut
// short.
func (n *Network) undoBuiltIn(ctx context.Context, s Sandbox, addr netip.Addr) error {
	if len(s.Ports) > 0 {
		if err := n.removePorts(ctx, s.ID); err != nil {
			return err
		}
	}
	return n.removeBuiltIn(s.ID, addr)
}

// removeBuiltIn takes a sandbox's link away, and gives back its address, in this order: the next one to have the address
// must not meet it. The zero address means that it is not known.
func (n *Network) removeBuiltIn(id string, addr netip.Addr) error {
	if err := n.disconnect(id); err != nil {
		return err
	}
	if addr.IsValid() {
		return n.leases.free(lease{addr, id})
	}
	return n.leases.freeUnknown(id)
}
