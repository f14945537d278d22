package runtime

import (
	"context"
	"fmt"

	"time"

	"github.com/containerd/containerd/api/services/tasks/v1"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/errdefs"
)

// PrepareContainer makes a container's writable layer, which needs nothing of its Pod and so may be done early.
// The layer is a root of its own for containerd's garbage collector, because it may exist before the container's record.
func (r *Runtime) PrepareContainer(ctx context.Context, id string, image Image) error {
	_, err := r.client.SnapshotService(r.snapshotter).Prepare(ctx, id, image.chainID, snapshots.WithLabels(map[string]string{
		"containerd.io/gc.root": time.Now().UTC().Format(time.RFC3339),
	}))
	if err != nil && !errdefs.IsAlreadyExists(err) {
		return fmt.Errorf("prepare root file system: %w", err)
	}
	return nil
}

// CreateContainer makes the record of a container. An error is about its configuration: nothing was run yet.
func (r *Runtime) CreateContainer(ctx context.Context, cfg ContainerConfig) error {
	spec, err := r.containerSpec(ctx, &cfg)
	if err != nil {
		return err
	}
	return r.createRecord(ctx, record{id: cfg.ID, handler: cfg.Handler, labels: cfg.Labels, image: cfg.Image.Name}, spec)
}

// StartContainer makes the task of a container that was created and starts its main process. created, which may be nil, is
// called between the two, when all mounts are made.
func (r *Runtime) StartContainer(ctx context.Context, cfg ContainerConfig, created func()) error {
	rootfs, err := r.client.SnapshotService(r.snapshotter).Mounts(ctx, cfg.ID)
	if err != nil {
		return fmt.Errorf("find root file system: %w", err)
	}
	if err := checkPipes(cfg.Stdout, cfg.Stderr); err != nil {
		return err
	}
	req := &tasks.CreateTaskRequest{ContainerID: cfg.ID, Rootfs: protoMounts(rootfs), Stdout: cfg.Stdout, Stderr: cfg.Stderr}
	err = r.createTask(ctx, req)
	if created != nil {
		created()
	}
	if err != nil {
		return err
	}
	return r.Start(ctx, cfg.ID)
}
