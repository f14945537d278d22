package node

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"

	"k8s.io/utils/ptr"

	"github.com/podkeeper/podkeeper/agent/plan"
	"github.com/podkeeper/podkeeper/cgroups"
	"github.com/podkeeper/podkeeper/runtime"
	"github.com/podkeeper/podkeeper/sandbox"
)

// LookSandbox says whether the pause process runs, in a network that more containers can be made in. An error means that this
// cannot be told.
func (n *Node) LookSandbox(_ context.Context, t Target) (bool, error) {
	running, err := n.Sandboxes.Look(t.SandboxID(), n.runDir(t.Pod))
	return running && (t.Pod.Spec.HostNetwork || n.Network.HasNetNS(t.SandboxID())), err
}

// CreateSandbox makes what the containers of a Pod share, but for what Attach puts into it. It answers what is wrong with the
// Pod's DNS settings, in Kubernetes' words.
func (n *Node) CreateSandbox(ctx context.Context, t Target) (warnings []string, err error) {
	if err := n.Runtime.CheckHandler(t.handler()); err != nil {
		return nil, err
	}
	if err := n.checkUsers(t); err != nil {
		return nil, err
	}
	labels, err := n.seLinux(t)
	if err != nil {
		return nil, err
	}
	cfg := sandbox.Config{ID: t.SandboxID(), Users: sandbox.Users(t.Users)}
	if cfg.Sysctls, err = n.sysctls(t.Pod); err != nil {
		return nil, err
	}
	given, err := n.given(t)
	if err != nil {
		return nil, err
	}
	given.Label = labels.Files
	part, span := Part(ctx, "set up volumes")
	err = n.Volumes.Setup(part, t.Pod, given)
	EndPart(span, err)
	if err != nil {
		return nil, &Fault{FailedMount, err}
	}
	if err := n.Cgroups.Ensure(t.Room); err != nil {
		return nil, fmt.Errorf("make cgroup: %w", err)
	}
	if warnings, err = n.writeEtc(t.Pod); err != nil {
		return nil, err
	}
	switch {
	case t.Pod.Spec.HostNetwork:
	case t.Users.Count > 0:
		cfg.KeepNet = func(made string) error { return n.Network.KeepNetNS(cfg.ID, made) }
	default:
		if err := n.Network.CreateNetNS(cfg.ID); err != nil {
			return nil, fmt.Errorf("make network namespace: %w", err)
		}
		cfg.NetNS = n.Network.NetNS(cfg.ID)
	}
	return warnings, n.startPause(ctx, t, labels.Files, cfg)
}

// Attach sets up the network of a sandbox, and completes the file that tells containers of it. It answers the Pod's addresses,
// none on the host's network, where it has the node's. What is attached stays as it is.
func (n *Node) Attach(ctx context.Context, t Target) ([]string, error) {
	var ips []netip.Addr
	if !t.Pod.Spec.HostNetwork {
		var err error
		if ips, err = n.Network.Add(ctx, networkSandbox(t)); err != nil {
			return nil, fmt.Errorf("set up network: %w", err)
		}
	}
	return texts(ips), n.writeHosts(t.Pod, ips)
}

// startPause starts the pause process, with the pipes for the output of all containers open. Input is not to be held: it may
// have to end. label is SELinux's, of what containers share.
func (n *Node) startPause(ctx context.Context, t Target, label string, cfg sandbox.Config) error {
	dir, spec := n.runDir(t.Pod), &t.Pod.Spec
	var pipes []string
	for _, c := range plan.Containers(t.Pod) {
		pipes = append(pipes, runtime.AllPipes(dir, c)...)
		cfg.Pipes = append(cfg.Pipes, runtime.OutputPipes(dir, c)...)
	}
	if err := runtime.MakeSandboxDir(dir, spec.HostIPC, runtime.Users(t.Users), label, pipes); err != nil {
		return err
	}
	var err error
	if cfg.Hostname, err = n.hostname(t.Pod); err != nil {
		return err
	}
	place, err := n.Cgroups.Place(t.Pod, t.SandboxID())
	if err != nil {
		return err
	}
	cfg.Dir, cfg.Cgroup = dir, sandbox.Placement(place)
	cfg.HostIPC, cfg.SharedPID = spec.HostIPC, ptr.Deref(spec.ShareProcessNamespace, false)
	cfg.OOMScoreAdj = max(cgroups.SandboxOOMScoreAdj, n.MinOOM)
	return n.Sandboxes.Start(ctx, cfg)
}

// namespaces are what a container has of its sandbox.
func (n *Node) namespaces(ctx context.Context, t Target) (runtime.Namespaces, error) {
	shared, err := n.Sandboxes.Namespaces(t.SandboxID(), n.runDir(t.Pod))
	ns := runtime.Namespaces{IPC: shared.IPC, UTS: shared.UTS, PID: shared.PID, User: shared.User}
	if !t.Pod.Spec.HostNetwork {
		ns.Network = n.Network.NetNS(t.SandboxID())
	}
	if err != nil || t.Beside == "" {
		return ns, err
	}
	target, err := n.Runtime.Look(ctx, t.Beside)
	if err == nil && target.State != runtime.Running {
		err = &Fault{CreateContainerError, errors.New("the target container does not run")}
	}
	ns.PID = fmt.Sprintf("/proc/%d/ns/pid", target.PID)
	return ns, err
}

// RemoveSandbox removes the pause process and the network, after containers that were made and never started. Others are left
// alone. What is left of the network alone is a Leftover.
func (n *Node) RemoveSandbox(ctx context.Context, t Target, made ...Target) error {
	if t.Sandbox < 0 {
		return nil
	}
	for _, of := range made {
		if err := n.Runtime.Delete(ctx, of.ID()); err != nil {
			return err
		}
	}
	// Both are tried: what is left of one must not keep the other.
	var beside sync.WaitGroup
	var attached error
	beside.Go(func() { attached = n.detach(ctx, t) })
	err := n.removePause(ctx, t)
	beside.Wait()
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
type Leftover struct{ Err error }

func (l *Leftover) Error() string { return l.Err.Error() }

// Unwrap answers what is behind it.
func (l *Leftover) Unwrap() error { return l.Err }

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
