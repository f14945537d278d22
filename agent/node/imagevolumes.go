package node

import (
	"context"
	"errors"
	"fmt"
	"slices"

	v1 "k8s.io/api/core/v1"

	"github.com/podkeeper/podkeeper/runtime"
	"github.com/podkeeper/podkeeper/runtime/credentials"
	"github.com/podkeeper/podkeeper/volumes"
)

// VolumeImageError is why the image of a volume is not to be had.
type VolumeImageError struct {
	Image string // as the Pod has it
	error
}

// Unwrap answers what is behind it.
func (e *VolumeImageError) Unwrap() error { return e.error }

// imageVolumes are the Pod's volumes that are images.
func imageVolumes(pod *v1.Pod) (all []*v1.Volume) {
	for i := range pod.Spec.Volumes {
		if pod.Spec.Volumes[i].Image != nil {
			all = append(all, &pod.Spec.Volumes[i])
		}
	}
	return all
}

// isImage says whether the Pod's volume of this name is an image.
func isImage(pod *v1.Pod, name string) bool {
	return slices.ContainsFunc(imageVolumes(pod), func(v *v1.Volume) bool { return v.Name == name })
}

// mountImages makes those volumes ready that a container mounts and that are images: pulled as its own image is, and mounted.
// Containers of one Pod may ask for one volume at once.
func (n *Node) mountImages(ctx context.Context, t Target, given []credentials.Credential, told Pulling) error {
	labels, err := n.seLinux(t)
	if err != nil {
		return &Fault{FailedMount, err}
	}
	for _, volume := range imageVolumes(t.Pod) {
		if !mountsVolume(t.Container, volume.Name) {
			continue
		}
		image := volume.Image.Reference
		pull, err := n.Runtime.EnsureImage(ctx, runtime.Request{
			Image: image, Policy: volume.Image.PullPolicy, Credentials: given, Progress: told.Progress, Pulling: func() { told.Begin(image) },
		})
		if err != nil {
			return imageFault(&VolumeImageError{image, err})
		}
		dir, err := n.Volumes.ImageDir(t.Pod, volume.Name)
		if err == nil {
			n.images.Lock()
			err = n.Runtime.MountImage(ctx, pull.Image, runtime.ImageVolume{
				Key: runtime.VolumeKey(string(t.Pod.UID), volume.Name), Dir: dir, Labels: n.labels(t), Mapped: HasUsers(t.Pod), SELinux: labels,
			})
			n.images.Unlock()
		}
		if err != nil {
			return &Fault{FailedMount, err}
		}
	}
	return nil
}

// mapImages mounts those that a container mounts in the Pod's user namespace, given by its path. Without one they are mounted already.
func (n *Node) mapImages(ctx context.Context, t Target, labels runtime.SELinuxLabels, namespace string) error {
	for _, volume := range imageVolumes(t.Pod) {
		if namespace == "" || !mountsVolume(t.Container, volume.Name) {
			continue
		}
		dir, err := n.Volumes.ImageDir(t.Pod, volume.Name)
		if err == nil {
			n.images.Lock()
			err = n.Runtime.MountMapped(ctx, runtime.ImageVolume{
				Key: runtime.VolumeKey(string(t.Pod.UID), volume.Name), Dir: dir, SELinux: labels,
			}, namespace)
			n.images.Unlock()
		}
		if err != nil {
			return &Fault{CreateContainerError, fmt.Errorf("mount volume %q: %w", volume.Name, err)}
		}
	}
	return nil
}

func mountsVolume(c *v1.Container, name string) bool {
	for i := range c.VolumeMounts {
		if c.VolumeMounts[i].Name == name {
			return true
		}
	}
	return false
}

// folders are where the Pod's volumes are that are claims or images, by the volume's name. The error is a Fault.
func (n *Node) folders(t Target) (map[string]volumes.Folder, error) {
	all, err := n.claimed(t)
	if err != nil {
		return nil, err
	}
	for _, volume := range imageVolumes(t.Pod) {
		dir, err := n.Volumes.ImageDir(t.Pod, volume.Name)
		if err != nil {
			return nil, &Fault{FailedMount, err}
		}
		all[volume.Name] = volumes.Folder{Path: dir}
	}
	return all, nil
}

// unmountImages ends the Pod's volumes that are images.
func (n *Node) unmountImages(ctx context.Context, pod *v1.Pod) error {
	var errs []error
	for _, volume := range imageVolumes(pod) {
		dir, err := n.Volumes.ImageDir(pod, volume.Name)
		if err == nil {
			err = n.Runtime.UnmountImage(ctx, runtime.VolumeKey(string(pod.UID), volume.Name), dir)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
