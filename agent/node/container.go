package node

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	"github.com/moby/sys/signal"
	v1 "k8s.io/api/core/v1"

	"github.com/podkeeper/podkeeper/agent/inputs"
	"github.com/podkeeper/podkeeper/agent/plan"
	"github.com/podkeeper/podkeeper/cgroups"
	"github.com/podkeeper/podkeeper/manifests"
	"github.com/podkeeper/podkeeper/runtime"
)

// State is what a look finds a container doing.
type State string

// The states that a look finds.
const (
	Absent  State = "absent"  // nothing of it runs: never started, or ended and cleaned up
	Created State = "created" // made, and not started yet
	Running State = "running"
	Stopped State = "stopped" // its main process has ended, what is left of it is not cleaned up yet
	Lost    State = "lost"    // the runtime does not know it, and yet its processes run
)

// Container is one look at a container.
type Container struct {
	State    State
	PID      int       // of its main process, on the host, while it is Created or Running
	ExitCode int       // while it is Stopped
	ExitedAt time.Time // while it is Stopped
}

// Image is an image that is present and unpacked.
type Image = runtime.Image

// Pull says what became of a request for an image.
type Pull = runtime.Pull

// LookContainer asks the runtime what a container does. An error means that this cannot be told: the runtime does not
// answer. Of a container that should be dead by now, the kernel is asked instead.
func (n *Node) LookContainer(ctx context.Context, t Target) (Container, error) {
	bounded := ctx
	if t.Overdue {
		var cancel context.CancelFunc
		bounded, cancel = context.WithTimeout(ctx, shortPatience/2)
		defer cancel()
	}
	c, err := n.Runtime.Look(bounded, t.ID())
	found := Container{State: State(c.State), PID: c.PID, ExitCode: c.ExitCode, ExitedAt: c.ExitedAt}
	if err == nil && found.State != Absent || err != nil && !t.Overdue {
		return found, err
	}
	processes, kernelErr := n.Cgroups.Processes(t.Pod, t.ID())
	switch {
	case kernelErr != nil:
		return found, errors.Join(err, kernelErr)
	case err == nil && processes > 0:
		found.State = Lost
	case err != nil && processes == 0:
		found.State, err = Absent, nil
	}
	return found, err
}

// StartedAt is when a process of this host began; now, where that cannot be told.
func StartedAt(pid int) time.Time {
	at, err := runtime.StartedAt(pid)
	if err != nil {
		return time.Now()
	}
	return at
}

// Create makes the instance that was prepared: all of it but its running main process. It answers who that runs as. A Fault is
// about its configuration.
func (n *Node) Create(ctx context.Context, t Target, image Image) (*v1.ContainerUser, error) {
	if t.Leftover {
		if err := n.Runtime.Delete(ctx, t.ID()); err != nil {
			return nil, err
		}
		if err := n.Runtime.PrepareLayer(ctx, t.ID(), image, n.labels(t)); err != nil {
			return nil, err
		}
	}
	if plan.IsEphemeral(t.Pod, t.Container.Name) { // the pause process has the pipes of all others open, as a shim needs it
		if err := runtime.MakePipes(n.runDir(t.Pod), runtime.AllPipes(n.runDir(t.Pod), t.Container)); err != nil {
			return nil, &Fault{CreateContainerError, err}
		}
		if err := n.Carry(t); err != nil {
			return nil, &Fault{CreateContainerError, err}
		}
	}
	cfg, release, err := n.containerConfig(ctx, t, image)
	if err != nil {
		return nil, err
	}
	defer release()
	user, err := n.Runtime.CreateContainer(ctx, cfg)
	if err != nil {
		return nil, &Fault{CreateContainerConfigError, err}
	}
	if err := n.Runtime.CreateTask(ctx, cfg); errors.Is(err, runtime.ErrNoShim) {
		return nil, &Fault{CreateContainerError, err} // under CRI the sandbox would have none, which is tried until it has
	} else if err != nil {
		return nil, mapFault(t.Container, err)
	}
	who := &v1.LinuxContainerUser{UID: int64(user.UID), GID: int64(user.GID)}
	for _, gid := range user.AdditionalGids {
		who.SupplementalGroups = append(who.SupplementalGroups, int64(gid))
	}
	return &v1.ContainerUser{Linux: who}, nil
}

// Start starts the main process of an instance that was made, and answers when it began. After a Fault nothing was run.
func (n *Node) Start(ctx context.Context, t Target) (time.Time, error) {
	if err := n.Carry(t); err != nil {
		return time.Time{}, &Fault{CreateContainerError, err}
	}
	if err := n.Runtime.Start(ctx, t.ID()); err != nil {
		return time.Time{}, err
	}
	return time.Now(), nil
}

// containerConfig makes everything a container is made of. release ends what is needed only while it is being created.
func (n *Node) containerConfig(ctx context.Context, t Target, image Image) (runtime.ContainerConfig, func(), error) {
	none := runtime.ContainerConfig{}
	env, lookup, err := inputs.Environment(inputs.Facts{
		Pod: t.Pod, Container: t.Container, NodeName: n.Name, PodIPs: t.IPs, HostIPs: n.HostIPs(), Capacity: n.unset(), Objects: t.Objects, Services: t.Services,
		EnvFile: func(from *v1.FileKeySelector) (string, bool, error) { return n.envFile(t, from) },
	})
	if err != nil {
		return none, nil, &Fault{CreateContainerConfigError, err}
	}
	expand := func(s string) string { return manifests.Expand(s, lookup) }
	namespaces, err := n.namespaces(ctx, t)
	if err != nil {
		return none, nil, err
	}
	hostname, err := n.hostname(t.Pod)
	if err != nil {
		return none, nil, &Fault{CreateContainerConfigError, err}
	}
	labels, err := n.seLinux(t)
	if err != nil {
		return none, nil, &Fault{CreateContainerConfigError, err}
	}
	if err := n.mapImages(ctx, t, labels, namespaces.User); err != nil {
		return none, nil, err
	}
	mounts, release, err := n.mounts(t, labels, expand)
	if err != nil {
		return none, nil, &Fault{CreateContainerError, err}
	}
	cfg := runtime.ContainerConfig{
		ID: t.ID(), Labels: n.labels(t), Sandbox: t.SandboxID(), Image: image, Pod: t.Pod, Container: t.Container,
		Env: env, Hostname: hostname, Mounts: mounts,
		SeccompDir: n.seccompDir(), SeccompDefault: n.SeccompDefault,
		Handler:     t.handler(),
		CgroupsPath: n.Cgroups.CgroupsPath(t.Pod, t.ID()),
		Resources:   cgroups.ContainerResources(t.Pod, t.Container, n.Cgroups.Config()),
		OOMScoreAdj: max(cgroups.OOMScoreAdj(t.Pod, t.Container, n.Memory), n.MinOOM),
		Namespaces:  namespaces,
		Users:       runtime.Users(t.Users),
		MappedDir:   runtime.MappedDir(n.runDir(t.Pod), t.ID()),
		SELinux:     labels,
	}
	cfg.Stdout, cfg.Stderr = runtime.Pipes(n.runDir(t.Pod), t.Container.Name, t.Attempt)
	if t.Container.Stdin {
		cfg.Stdin = runtime.InputPipe(n.runDir(t.Pod), t.Container.Name, t.Attempt)
	}
	for _, s := range t.Container.Command {
		cfg.Command = append(cfg.Command, expand(s))
	}
	for _, s := range t.Container.Args {
		cfg.Args = append(cfg.Args, expand(s))
	}
	return cfg, release, nil
}

// Signal sends the stop signal of the image, or with kill SIGKILL to everything in the container: by the runtime and then,
// whether that answers or not, by the kernel, so that no shim keeps a container alive.
func (n *Node) Signal(ctx context.Context, t Target, kill bool) error {
	sig := syscall.SIGTERM
	if t.StopSignal != "" {
		if parsed, err := signal.ParseSignal(t.StopSignal); err == nil {
			sig = parsed
		}
	}
	if !kill {
		return n.Runtime.Signal(ctx, t.ID(), sig, false)
	}
	bounded, cancel := context.WithTimeout(ctx, shortPatience)
	defer cancel()
	err := n.Runtime.Signal(bounded, t.ID(), syscall.SIGKILL, true)
	if kernelErr := n.Cgroups.Kill(ctx, t.Pod, t.ID()); kernelErr != nil {
		return errors.Join(err, kernelErr)
	}
	return nil
}

// maxExecOutput is how much of what a command writes is kept, as for the kubelet's probes.
const maxExecOutput = 10 << 10

// Exec runs a command in a container. One that does not end before ctx does is killed, and the error is
// context.DeadlineExceeded: that the runtime did not answer in time is another, and says nothing of the command.
func (n *Node) Exec(ctx context.Context, t Target, command []string) (int, []byte, error) {
	code, output, err := n.Runtime.Exec(ctx, t.ID(), n.execDir(t.Pod), command, maxExecOutput)
	switch {
	case errors.Is(err, runtime.ErrExecTimeout):
		err = fmt.Errorf("%w: %w", context.DeadlineExceeded, err)
	case errors.Is(err, context.DeadlineExceeded):
		err = fmt.Errorf("the runtime does not answer: %v", err) //nolint:errorlint // it must not be taken for the command's
	}
	return code, output, err
}
