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

	v1 "k8s.io/api/core/v1"
)

// Sandbox is what was made for the containers of a Pod to share.
type Sandbox struct {
	IPs      []string // none on the host's network, where the Pod has the node's
	Warnings []string // what is wrong with the Pod's DNS settings, in Kubernetes' words
}

// LookSandbox says whether the pause process runs. An error means that this cannot be told.
func (n *Node) LookSandbox(ctx context.Context, t Target) (bool, error) {
	c, err := n.Runtime.Look(ctx, t.SandboxID())
	return c.State == runtime.Running, err
}

// CreateSandbox makes what the containers of a Pod share, the network and the pause process at the same time.
func (n *Node) CreateSandbox(ctx context.Context, t Target) (Sandbox, error) {
	var made Sandbox
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
	work.Go(func() error {
		return n.Runtime.StartSandbox(ctx, runtime.SandboxConfig{
			ID: id, Handler: ptr.Deref(t.Pod.Spec.RuntimeClassName, ""), Labels: n.labels(t), Dir: n.runDir(t.Pod), Hostname: hostname, NetNS: netNS,
			HostIPC: t.Pod.Spec.HostIPC, HostPID: t.Pod.Spec.HostPID,
			CgroupsPath: n.Cgroups.CgroupsPath(t.Pod, id), OOMScoreAdj: max(cgroups.SandboxOOMScoreAdj, n.MinOOM),
			Containers: containerNames(t.Pod),
		})
	})
	return made, work.Wait()
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
	err := n.Runtime.DeleteSandbox(ctx, t.SandboxID(), n.runDir(t.Pod))
	if detached := n.detach(ctx, t); detached != nil {
		err = errors.Join(err, &Leftover{detached})
	}
	return err
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

func containerNames(pod *v1.Pod) []string {
	var names []string
	for _, c := range plan.Containers(pod) {
		names = append(names, c.Name)
	}
	return names
}

func texts(ips []netip.Addr) []string {
	var out []string
	for _, ip := range ips {
		out = append(out, ip.String())
	}
	return out
}
