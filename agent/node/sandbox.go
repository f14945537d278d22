package node

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sync/errgroup"
	"k8s.io/utils/ptr"

	"github.com/podkeeper/podkeeper/agent/plan"
	"github.com/podkeeper/podkeeper/cgroups"
	"github.com/podkeeper/podkeeper/runtime"
	"github.com/podkeeper/podkeeper/sandbox"
)

// Sandbox is what was made for the containers of a Pod to share.
type Sandbox struct {
	IPs      []string // none on the host's network, where the Pod has the node's
	Warnings []string // what is wrong with the Pod's DNS settings, in Kubernetes' words
}

// sysctls of a Pod's own network: every process may bind low ports and ping, as under containerd's CRI
// (enable_unprivileged_ports, enable_unprivileged_icmp).
var sysctls = map[string]string{"net.ipv4.ip_unprivileged_port_start": "0", "net.ipv4.ping_group_range": "0 2147483647"}

// LookSandbox says whether the pause process runs. An error means that this cannot be told.
func (n *Node) LookSandbox(_ context.Context, t Target) (bool, error) {
	return n.Sandboxes.Look(t.SandboxID(), n.runDir(t.Pod))
}

// CreateSandbox makes what the containers of a Pod share, the network and the pause process at the same time.
func (n *Node) CreateSandbox(ctx context.Context, t Target) (Sandbox, error) {
	var made Sandbox
	if err := n.Runtime.CheckHandler(ptr.Deref(t.Pod.Spec.RuntimeClassName, "")); err != nil {
		return made, err
	}
	if err := n.Volumes.Setup(t.Pod); err != nil {
		return made, err
	}
	if err := n.Cgroups.Ensure(t.Pod); err != nil {
		return made, fmt.Errorf("make cgroup: %w", err)
	}
	id, host := t.SandboxID(), t.Pod.Spec.HostNetwork
	netNS := ""
	if !host {
		if err := n.Network.CreateNetNS(id); err != nil {
			return made, fmt.Errorf("make network namespace: %w", err)
		}
		netNS = n.Network.NetNS(id)
	}
	hostname, err := n.hostname(t.Pod)
	if err != nil {
		return made, err
	}
	work, ctx := errgroup.WithContext(ctx)
	work.Go(func() error {
		var ips []netip.Addr
		if !host {
			if ips, err = n.Network.Add(ctx, networkSandbox(t)); err != nil {
				return fmt.Errorf("set up network: %w", err)
			}
		}
		made.IPs = texts(ips)
		made.Warnings, err = n.writeEtc(t.Pod, ips)
		return err
	})
	work.Go(func() error { return n.startPause(ctx, t, sandbox.Config{NetNS: netNS, Hostname: hostname}) })
	return made, work.Wait()
}

// startPause starts the pause process, with the pipes of all containers open.
func (n *Node) startPause(ctx context.Context, t Target, cfg sandbox.Config) error {
	dir, spec := n.runDir(t.Pod), &t.Pod.Spec
	var names []string
	for _, c := range plan.Containers(t.Pod) {
		names = append(names, c.Name)
		stdout, stderr := runtime.Pipes(dir, c.Name)
		cfg.Pipes = append(cfg.Pipes, stdout, stderr)
	}
	if err := runtime.MakeSandboxDir(dir, spec.HostIPC, names); err != nil {
		return err
	}
	place, err := n.Cgroups.Place(t.Pod, t.SandboxID())
	if err != nil {
		return err
	}
	cfg.ID, cfg.Dir, cfg.Cgroup, cfg.Sysctls = t.SandboxID(), dir, sandbox.Placement(place), sysctls
	cfg.HostIPC, cfg.SharedPID = spec.HostIPC, ptr.Deref(spec.ShareProcessNamespace, false)
	cfg.OOMScoreAdj = max(cgroups.SandboxOOMScoreAdj, n.MinOOM)
	return n.Sandboxes.Start(ctx, cfg)
}

// namespaces are what a container has of its sandbox.
func (n *Node) namespaces(t Target) (runtime.Namespaces, error) {
	shared, err := n.Sandboxes.Namespaces(t.SandboxID(), n.runDir(t.Pod))
	ns := runtime.Namespaces{IPC: shared.IPC, UTS: shared.UTS, PID: shared.PID}
	if !t.Pod.Spec.HostNetwork {
		ns.Network = n.Network.NetNS(t.SandboxID())
	}
	return ns, err
}

// Addresses are those of a sandbox that was made by an earlier agent.
func (n *Node) Addresses(ctx context.Context, t Target) ([]string, error) {
	if t.Pod.Spec.HostNetwork {
		return nil, nil
	}
	ips, err := n.Network.Add(ctx, networkSandbox(t))
	return texts(ips), err
}

// RemoveSandbox removes the pause process and the network. Containers are left alone. What is left of the network alone is a
// Leftover.
func (n *Node) RemoveSandbox(ctx context.Context, t Target) error {
	if t.Sandbox < 0 {
		return nil
	}
	// Both are tried: what is left of one must not keep the other.
	err, attached := n.removePause(ctx, t), n.detach(ctx, t)
	if err == nil && attached != nil {
		return &Leftover{attached}
	}
	return errors.Join(err, attached)
}

// removePause ends the pause process and, as no container is left that would need it, the shim.
func (n *Node) removePause(ctx context.Context, t Target) error {
	id, dir := t.SandboxID(), n.runDir(t.Pod)
	if err := n.Sandboxes.Delete(ctx, id, dir); err != nil {
		return err
	}
	if err := n.Cgroups.Kill(ctx, t.Pod, id); err != nil { // one whose record is lost
		return err
	}
	return errors.Join(n.Runtime.EndShim(id), n.Cgroups.Displace(t.Pod, id), runtime.DeleteSandboxDir(dir))
}

// Leftover is an error of a removal after which nothing runs any more and nothing is in the way of a successor, and yet
// something is left, which Release removes.
type Leftover struct{ err error }

func (l *Leftover) Error() string { return l.err.Error() }

// Unwrap answers what is behind it.
func (l *Leftover) Unwrap() error { return l.err }

// detach takes the sandbox off the network. A plugin that hangs is given up.
func (n *Node) detach(ctx context.Context, t Target) error {
	if t.Pod.Spec.HostNetwork || t.Sandbox < 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return n.Network.Remove(ctx, networkSandbox(t))
}

func texts(ips []netip.Addr) []string {
	var out []string
	for _, ip := range ips {
		out = append(out, ip.String())
	}
	return out
}
