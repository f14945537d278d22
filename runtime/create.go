package runtime

import (
	"context"
	"fmt"
	"maps"
	"time"

	"github.com/containerd/containerd/api/services/tasks/v1"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// gcRoot keeps a snapshot from containerd's garbage collector, because it may exist before the container's record does.
const gcRoot = "containerd.io/gc.root"

// PrepareLayer makes a container's writable layer, which needs nothing of its Pod and so may be done early. It carries the
// labels, by which ListSnapshots tells whose it is. One that is there is left as it is; unless it stands on another image,
// that of an earlier try: then all that there is of the container is removed first.
func (r *Runtime) PrepareLayer(ctx context.Context, id string, image Image, labels map[string]string) error {
	layers := r.client.SnapshotService(r.snapshotter)
	all := map[string]string{gcRoot: time.Now().UTC().Format(time.RFC3339)}
	maps.Copy(all, labels)
	_, err := layers.Prepare(ctx, id, image.chainID, snapshots.WithLabels(all))
	if errdefs.IsAlreadyExists(err) {
		var present snapshots.Info
		present, err = layers.Stat(ctx, id)
		if err == nil && present.Parent == image.chainID {
			return nil
		}
		if err == nil {
			err = r.Delete(ctx, id)
		}
		if err == nil {
			_, err = layers.Prepare(ctx, id, image.chainID, snapshots.WithLabels(all))
		}
	}
	if err != nil {
		return fmt.Errorf("prepare root file system: %w", err)
	}
	return nil
}

// ListSnapshots answers the labels of every writable layer of the namespace that PrepareLayer has made, by the container's
// id. A layer may be there before its record, and stay where that is never made: List does not know of it then, and Delete
// removes it. It is a scan.
func (r *Runtime) ListSnapshots(ctx context.Context) (map[string]map[string]string, error) {
	layers := map[string]map[string]string{}
	err := r.client.SnapshotService(r.snapshotter).Walk(ctx, func(_ context.Context, info snapshots.Info) error {
		if info.Kind == snapshots.KindActive && isID(info.Name) { // else an image's, or one that is being unpacked
			layers[info.Name] = info.Labels
		}
		return nil
	}, `labels."`+gcRoot+`"`)
	if err != nil {
		return nil, fmt.Errorf("list snapshots: %w", err)
	}
	return layers, nil
}

// CreateContainer makes the record of a container, and answers who it will run as. An error is about its configuration: nothing
// was run yet.
func (r *Runtime) CreateContainer(ctx context.Context, cfg ContainerConfig) (specs.User, error) {
	spec, err := r.containerSpec(ctx, &cfg)
	if err != nil {
		return specs.User{}, err
	}
	return spec.Process.User, r.createRecord(ctx, record{id: cfg.ID, handler: cfg.Handler, labels: cfg.Labels, image: cfg.Image.Name}, spec)
}

// CreateTask makes the task of a container that was created: all of it but its running main process, which Start starts. ErrNoShim is
// an error that goes away with time; what cannot be mapped into the container's user namespace is a MapError. After both nothing was run.
func (r *Runtime) CreateTask(ctx context.Context, cfg ContainerConfig) error {
	pipes := []string{cfg.Stdout, cfg.Stderr}
	if cfg.Stdin != "" {
		pipes = append(pipes, cfg.Stdin)
	}
	if err := checkPipes(pipes...); err != nil {
		return err
	}
	rootfs, err := r.client.SnapshotService(r.snapshotter).Mounts(ctx, cfg.ID)
	if err != nil {
		return fmt.Errorf("find root file system: %w", err)
	}
	if cfg.Users.Count > 0 {
		mapped, err := openMapping(cfg.MappedDir, cfg.Namespaces.User)
		if err != nil {
			return err
		}
		defer func() {
			if err := mapped.release(); err != nil {
				r.cfg.Log.Warn("mapped mounts stay until the Pod ends", "container", cfg.ID, "error", err)
			}
		}()
		if err := mapped.volumes(cfg.Mounts); err != nil {
			return err
		}
		if rootfs, err = mapped.rootfs(rootfs, cfg.Users); err != nil {
			return err
		}
	}
	req := &tasks.CreateTaskRequest{
		ContainerID: cfg.ID, Rootfs: protoMounts(withContext(rootfs, cfg.SELinux.Files)), Stdin: cfg.Stdin, Stdout: cfg.Stdout, Stderr: cfg.Stderr, Terminal: cfg.Container.TTY,
	}
	if req.Terminal {
		req.Stderr = ""
	}
	return r.createTask(ctx, cfg.Sandbox, req)
}
