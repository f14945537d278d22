package volumes

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
	v1 "k8s.io/api/core/v1"
	resourcehelper "k8s.io/component-helpers/resource"
)

// emptyDirMode lets every user of the Pod write.
const emptyDirMode = 0o777

// setupEmptyDir makes a folder or a tmpfs for the Pod.
func (v *Volumes) setupEmptyDir(pod *v1.Pod, folder string, source *v1.EmptyDirVolumeSource) error {
	switch source.Medium {
	case v1.StorageMediumDefault, v1.StorageMediumMemory:
	default:
		return fmt.Errorf("emptyDir medium %q is not supported: use \"\" (disk) or Memory", source.Medium)
	}
	if err := makeFolder(pod, folder); err != nil {
		return fmt.Errorf("make emptyDir: %w", err)
	}
	if source.Medium == v1.StorageMediumDefault {
		return nil
	}
	mounted, err := mountinfo.Mounted(folder)
	if err != nil {
		return fmt.Errorf("look for tmpfs: %w", err)
	}
	if mounted {
		return nil
	}
	size := memorySize(pod, source, v.memory)
	mode, gid := ownership(pod)
	options := fmt.Sprintf("size=%d,mode=%o", size, unixMode(mode))
	if gid >= 0 {
		options += fmt.Sprintf(",gid=%d", gid)
	}
	if err := unix.Mount("tmpfs", folder, "tmpfs", 0, options); err != nil {
		return fmt.Errorf("mount tmpfs of %d bytes: %w", size, err)
	}
	return nil
}

// makeFolder makes an emptyDir's folder with its mode and group. It gets its name last, so that one that is there is
// finished.
func makeFolder(pod *v1.Pod, folder string) error {
	if _, err := os.Lstat(folder); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	parent, name := filepath.Split(folder)
	if err := os.MkdirAll(parent, 0o750); err != nil {
		return err
	}
	unfinished := filepath.Join(parent, "."+name)
	if err := os.Mkdir(unfinished, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	mode, gid := ownership(pod)
	if err := os.Chown(unfinished, 0, max(gid, 0)); err != nil && gid >= 0 {
		return err
	}
	if err := os.Chmod(unfinished, mode); err != nil {
		return err
	}
	return os.Rename(unfinished, folder)
}

// ownership is the mode and the group (-1: unchanged) of an emptyDir: with fsGroup, new files get its group.
func ownership(pod *v1.Pod) (fs.FileMode, int) {
	if s := pod.Spec.SecurityContext; s != nil && s.FSGroup != nil {
		return emptyDirMode | fs.ModeSetgid, int(*s.FSGroup)
	}
	return emptyDirMode, -1
}

// unixMode writes Go's mode as chmod(2) wants it.
func unixMode(mode fs.FileMode) uint32 {
	out := uint32(mode.Perm())
	if mode&fs.ModeSetgid != 0 {
		out |= unix.S_ISGID
	}
	return out
}

// memorySize is the size of a tmpfs in bytes: the least of its sizeLimit, the Pod's memory limit and the node's memory
// (KEP-1967).
func memorySize(pod *v1.Pod, source *v1.EmptyDirVolumeSource, node int64) int64 {
	size := node
	if limit := podMemoryLimit(pod); limit > 0 {
		size = min(size, limit)
	}
	if source.SizeLimit != nil && source.SizeLimit.Value() > 0 {
		size = min(size, source.SizeLimit.Value())
	}
	return size
}

// podMemoryLimit is the Pod's memory limit in bytes, 0 while one of its containers may use what it likes.
func podMemoryLimit(pod *v1.Pod) int64 {
	podLevel := resourcehelper.IsPodLevelLimitsSet(pod) && !pod.Spec.Resources.Limits.Memory().IsZero()
	unlimited := func(c v1.Container) bool { return c.Resources.Limits.Memory().IsZero() }
	if !podLevel && slices.ContainsFunc(slices.Concat(pod.Spec.InitContainers, pod.Spec.Containers), unlimited) {
		return 0
	}
	limits := resourcehelper.PodLimits(pod, resourcehelper.PodResourcesOptions{})
	return limits.Memory().Value()
}
