package runtime

import (
	"context"
	"fmt"

	"github.com/containerd/containerd/api/services/tasks/v1"
	"github.com/containerd/errdefs"
	"github.com/containerd/errdefs/pkg/errgrpc"
	"github.com/containerd/typeurl/v2"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// Update gives a container that runs other resources; what they do not name stays as it is. A container that has ended is none the
// worse for it.
func (r *Runtime) Update(ctx context.Context, id string, resources *specs.LinuxResources) error {
	encoded, err := typeurl.MarshalAnyToProto(resources)
	if err != nil {
		return fmt.Errorf("encode resources: %w", err)
	}
	_, err = r.client.TaskService().Update(ctx, &tasks.UpdateTaskRequest{ContainerID: id, Resources: encoded})
	if err = errgrpc.ToNative(err); err == nil || errdefs.IsNotFound(err) {
		return nil
	}
	if c, lookErr := r.Look(ctx, id); lookErr == nil && (c.State == Absent || c.State == Stopped) {
		return nil
	}
	return fmt.Errorf("update resources: %w", err)
}
