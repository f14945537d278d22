package runtime

import (
	"context"
	"fmt"
	"io/fs"
	"strings"

	"github.com/containerd/errdefs"
)

// LayerDir is the folder in which the writable layer of a container keeps what was written. One that is gone is an error that
// wraps fs.ErrNotExist.
func (r *Runtime) LayerDir(ctx context.Context, id string) (string, error) {
	mounts, err := r.client.SnapshotService(r.snapshotter).Mounts(ctx, id)
	if errdefs.IsNotFound(err) {
		return "", fmt.Errorf("find writable layer: %w: %w", fs.ErrNotExist, err)
	}
	if err != nil {
		return "", fmt.Errorf("find writable layer: %w", err)
	}
	for _, m := range mounts {
		if m.Type == "bind" { // of an image without layers
			return m.Source, nil
		}
		for _, option := range m.Options {
			if dir, ok := strings.CutPrefix(option, "upperdir="); ok {
				return dir, nil
			}
		}
	}
	return "", fmt.Errorf("find writable layer: snapshotter %s does not say where it is", r.snapshotter)
}

// LayersDir is the folder in which containerd keeps layers.
func (r *Runtime) LayersDir(ctx context.Context) (string, error) {
	dirs, err := r.pluginDirs(ctx, "type=="+snapshotters+",id=="+r.snapshotter)
	if err != nil {
		return "", err
	}
	return dirs[0], nil
}
