package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/opencontainers/runtime-spec/specs-go"
	v1 "k8s.io/api/core/v1"

	"github.com/podkeeper/podkeeper/cgroups"
)

// Resize is a container that runs and is to have the resources that its Pod says.
type Resize struct {
	Target
	Given    *v1.ResourceRequirements // what it has, or the most that it may have; nil where nobody knows
	GivenPod *v1.ResourceRequirements // and its Pod
}

// had are the limits that it has, or the widest that it may have.
func (r *Resize) had(cfg cgroups.Config) *specs.LinuxResources {
	if r.Given == nil {
		return &specs.LinuxResources{}
	}
	pod, c := *r.Pod, *r.Container
	pod.Spec.Resources, c.Resources = r.GivenPod, *r.Given
	return cgroups.Resized(&pod, &c, cfg)
}

// Resize gives containers that run the resources that their Pod says, and answers which of them have got them, also beside an
// error: what is gone by then is among them. The cgroup of the Pod has room for what all of its containers have or get meanwhile, and
// is left with that of after. Memory is only taken from what can do without: where somebody uses more than a new limit, nothing is
// changed (kubernetes/kubernetes pkg/kubelet/kuberuntime, doPodResizeAction).
func (n *Node) Resize(ctx context.Context, t Target, containers []Resize, after *v1.Pod) (given []string, err error) {
	if err := n.Cgroups.Ensure(t.Room); err != nil {
		return nil, err
	}
	release, err := n.squeeze(t.Pod, containers)
	if err != nil {
		return nil, fmt.Errorf("cannot decrease memory limits: %w", err)
	}
	defer func() { err = errors.Join(err, release(len(given))) }()
	for _, c := range containers {
		if err := n.Runtime.Update(ctx, c.ID(), cgroups.Resized(t.Pod, c.Container, n.Cgroups.Config())); err != nil {
			return given, err
		}
		given = append(given, c.Container.Name)
	}
	return given, n.narrow(t.Room, after)
}

// narrow gives the Pod's cgroup the limits of a later version, which may be lower.
func (n *Node) narrow(before, after *v1.Pod) error {
	cfg := n.Cgroups.Config()
	gets := cgroups.PodResources(after, cfg)
	release, err := n.Cgroups.Squeeze(after, "", cgroups.PodResources(before, cfg), gets)
	if full := (*cgroups.InUse)(nil); errors.As(err, &full) {
		return fmt.Errorf("cannot decrease memory limits: attempting to set pod memory limit (%d) below current usage (%d)", *gets.Memory.Limit, full.Usage)
	}
	if err != nil {
		return err
	}
	err = n.Cgroups.Ensure(after)
	return errors.Join(err, release(err == nil))
}

// squeeze has the kernel take back the memory of containers above limits that are lower than before. release ends that: so many of the
// containers, the first ones, have their limits by now.
func (n *Node) squeeze(pod *v1.Pod, containers []Resize) (release func(given int) error, err error) {
	var all []func(bool) error
	release = func(given int) error {
		var errs []error
		for i, one := range all {
			errs = append(errs, one(i < given))
		}
		return errors.Join(errs...)
	}
	for _, c := range containers {
		gets := cgroups.Resized(pod, c.Container, n.Cgroups.Config())
		one, err := n.Cgroups.Squeeze(pod, c.ID(), c.had(n.Cgroups.Config()), gets)
		full := (*cgroups.InUse)(nil)
		switch {
		case errors.Is(err, fs.ErrNotExist): // it has ended
			one = func(bool) error { return nil }
		case errors.As(err, &full):
			err = fmt.Errorf("attempting to set container %q memory limit (%d) below current usage (%d)", c.Container.Name, *gets.Memory.Limit, full.Usage)
			return nil, errors.Join(err, release(0))
		case err != nil:
			return nil, errors.Join(err, release(0))
		}
		all = append(all, one)
	}
	return release, nil
}
