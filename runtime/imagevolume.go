package runtime

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"time"

	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/errdefs"
	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// labelMountedAt is where an image volume is mounted, so that a sweep which knows nothing of its Pod can unmount it.
const labelMountedAt = "podkeeper/mounted-at"

// ImageVolume is one image volume that there is, or is left.
type ImageVolume struct {
	Key    string
	Dir    string // where it is mounted, or was to be
	Labels map[string]string

	// Not told by ListImageVolumes:
	Mapped  bool // it is mounted by MountMapped alone
	SELinux SELinuxLabels
}

// VolumeKey derives the key of a Pod's image volume, as ID does for containers.
func VolumeKey(podUID, volume string) string {
	sum := sha256.Sum256([]byte(podUID + "/volumes/" + volume))
	return hex.EncodeToString(sum[:])
}

// MountImage mounts the files of an image read-only at the volume's Dir, which is made. Its Key, of VolumeKey, is its alone. The
// Labels tell ListImageVolumes whose it is. What is mounted already is left as it is, unless it is another image. What of it
// exists outlives the image's name, and is there until UnmountImage.
func (r *Runtime) MountImage(ctx context.Context, image Image, volume ImageVolume) error {
	layers := r.client.SnapshotService(r.snapshotter)
	key, dir := volume.Key, volume.Dir
	present, err := layers.Stat(ctx, key)
	if err != nil && !errdefs.IsNotFound(err) {
		return fmt.Errorf("find image volume: %w", err)
	}
	same := err == nil && present.Parent == image.chainID && present.Labels[labelMountedAt] == dir
	if same {
		if mounted, err := mountinfo.Mounted(dir); err == nil && (mounted || volume.Mapped) {
			return nil
		}
	} else {
		old := dir
		if at := present.Labels[labelMountedAt]; at != "" {
			old = at
		}
		if err := errors.Join(r.UnmountImage(ctx, key, old), r.UnmountImage(ctx, key, dir)); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("mount image volume: %w", err)
	}
	var mounts []mount.Mount
	if same {
		mounts, err = layers.Mounts(ctx, key)
	} else {
		all := map[string]string{gcRoot: time.Now().UTC().Format(time.RFC3339), labelMountedAt: dir}
		maps.Copy(all, volume.Labels)
		mounts, err = layers.View(ctx, key, image.chainID, snapshots.WithLabels(all))
	}
	if err != nil {
		return fmt.Errorf("prepare image volume: %w", err)
	}
	if volume.Mapped {
		return nil
	}
	if err := mountReadOnly(withContext(mounts, volume.SELinux.Shared), dir); err != nil {
		return fmt.Errorf("mount image volume at %s: %w", dir, err)
	}
	return nil
}

// mountReadOnly mounts a view, which is one mount.
func mountReadOnly(view []mount.Mount, dir string) error {
	for i, m := range view {
		if !m.ReadOnly() {
			view[i].Options = append(slices.Clone(m.Options), "ro")
		}
	}
	if err := mount.All(view, dir); err != nil {
		return errors.Join(err, unmount(dir))
	}
	return nil
}

// MountMapped mounts an image volume that MountImage has made ready so that it is mapped into a user namespace, by the path of that: no
// overlay can be, but its layers can. What is mounted already is left as it is.
func (r *Runtime) MountMapped(ctx context.Context, volume ImageVolume, namespace string) (err error) {
	layersDir := volume.Dir + ".mapped"
	if mounted, err := mountinfo.Mounted(volume.Dir); err != nil {
		return fmt.Errorf("look for image volume: %w", err)
	} else if mounted {
		return clearMapped(layersDir)
	}
	view, err := r.client.SnapshotService(r.snapshotter).Mounts(ctx, volume.Key)
	if err != nil {
		return fmt.Errorf("find image volume: %w", err)
	}
	m, err := openMapping(layersDir, namespace)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, m.release()) }()
	if view, err = m.rootfs(view, Users{}); err != nil {
		return err
	}
	if err := mountReadOnly(withContext(view, volume.SELinux.Shared), volume.Dir); err != nil {
		return fmt.Errorf("mount image volume at %s: %w", volume.Dir, err)
	}
	return nil
}

// UnmountImage ends an image volume: the mount at dir, and what MountImage has made beside. What is gone is no error. The
// folder stays.
func (r *Runtime) UnmountImage(ctx context.Context, key, dir string) error {
	if err := unmount(dir); err != nil {
		return err
	}
	if err := r.client.SnapshotService(r.snapshotter).Remove(ctx, key); err != nil && !errdefs.IsNotFound(err) {
		return fmt.Errorf("remove image volume: %w", err)
	}
	return nil
}

// unmount unmounts all that is mounted at a folder. What still uses it keeps it until it ends.
func unmount(dir string) error {
	for {
		switch err := unix.Unmount(dir, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err {
		case nil:
		case unix.EINVAL, unix.ENOENT: // no mount, no folder
			return nil
		default:
			return fmt.Errorf("unmount %s: %w", dir, err)
		}
	}
}

// ListImageVolumes answers the image volumes of the namespace. It is a scan.
func (r *Runtime) ListImageVolumes(ctx context.Context) ([]ImageVolume, error) {
	var found []ImageVolume
	err := r.client.SnapshotService(r.snapshotter).Walk(ctx, func(_ context.Context, info snapshots.Info) error {
		if info.Kind == snapshots.KindView && isID(info.Name) {
			found = append(found, ImageVolume{Key: info.Name, Dir: info.Labels[labelMountedAt], Labels: info.Labels})
		}
		return nil
	}, `labels."`+labelMountedAt+`"`)
	if err != nil {
		return nil, fmt.Errorf("list image volumes: %w", err)
	}
	return found, nil
}
