package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"slices"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/podkeeper/podkeeper/cgroups"
)

// Resize is a container that runs and is to have the resources that its Pod says.
type Resize struct {
	Target
	Given resource.Quantity // the limit of memory that it was given last; zero is none
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
	defer func() { err = errors.Join(err, release(err == nil)) }()
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
	limit := func(pod *v1.Pod) int64 {
		if m := cgroups.PodResources(pod, n.Cgroups.Config()).Memory; m != nil {
			return *m.Limit
		}
		return math.MaxInt64
	}
	release := func(bool) error { return nil }
	if now := limit(after); now < limit(before) {
		var err error
		release, err = n.Cgroups.Squeeze(after, "", now)
		if full := (*cgroups.InUse)(nil); errors.As(err, &full) {
			return fmt.Errorf("cannot decrease memory limits: attempting to set pod memory limit (%d) below current usage (%d)", now, full.Usage)
		}
		if err != nil {
			return err
		}
	}
	err := n.Cgroups.Ensure(after)
	return errors.Join(err, release(err == nil))
}

// squeeze has the kernel take back the memory of containers above limits that are lower than before. release ends that: kept says
// whether the limits are set by now.
func (n *Node) squeeze(pod *v1.Pod, containers []Resize) (release func(kept bool) error, err error) {
	var all []func(bool) error
	release = func(kept bool) error {
		var errs []error
		for _, one := range slices.Backward(all) {
			errs = append(errs, one(kept))
		}
		return errors.Join(errs...)
	}
	for _, c := range containers {
		memory := cgroups.Resized(pod, c.Container, n.Cgroups.Config()).Memory
		if memory == nil || !c.Given.IsZero() && c.Given.Value() <= *memory.Limit {
			continue
		}
		limit := *memory.Limit
		one, err := n.Cgroups.Squeeze(pod, c.ID(), limit)
		if full := (*cgroups.InUse)(nil); errors.As(err, &full) {
			err = fmt.Errorf("attempting to set container %q memory limit (%d) below current usage (%d)", c.Container.Name, limit, full.Usage)
		}
		switch {
		case errors.Is(err, fs.ErrNotExist): // it has ended
		case err != nil:
			return nil, errors.Join(err, release(false))
		default:
			all = append(all, one)
		}
	}
	return release, nil
}
