package volumes

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	resourcehelper "k8s.io/component-helpers/resource"
	"k8s.io/utils/ptr"
)

// emptyDirMode lets every user of the Pod write.
const emptyDirMode = 0o777

// setupEmptyDir makes a folder for the Pod, or mounts a tmpfs or huge pages. What containers make in a folder with a label gets the
// like from the kernel.
func (v *Volumes) setupEmptyDir(pod *v1.Pod, folder string, source *v1.EmptyDirVolumeSource, label labelling) error {
	mode, gid := ownership(pod, source)
	medium, err := v.medium(pod, source)
	if err != nil {
		return err
	}
	if err := makeFolder(folder, mode, gid); err != nil {
		return fmt.Errorf("make emptyDir: %w", err)
	}
	if medium.kind != "" {
		return medium.labelled(label).mount(folder, mode, gid)
	}
	if label == "" {
		return nil
	}
	root, err := os.OpenFile(folder, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return fmt.Errorf("label emptyDir: %w", err)
	}
	defer root.Close()
	return label.change(int(root.Fd()), folder)
}

// medium is the file system that an emptyDir is, none of its own for one on disk.
func (v *Volumes) medium(pod *v1.Pod, source *v1.EmptyDirVolumeSource) (fileSystem, error) {
	huge := strings.HasPrefix(string(source.Medium), string(v1.StorageMediumHugePagesPrefix))
	switch {
	case source.Medium == v1.StorageMediumDefault:
		return fileSystem{}, nil
	case source.Medium == v1.StorageMediumMemory:
		return tmpfs(memorySize(pod, source, v.memory)), nil
	case source.Medium == v1.StorageMediumHugePages || huge:
		page, err := hugePageSize(pod, source.Medium)
		limit := ptr.Deref(source.SizeLimit, resource.Quantity{})
		return hugetlbfs(page, limit.Value()), err
	default:
		return fileSystem{}, fmt.Errorf("emptyDir medium %q is not supported: "+
			"use \"\" (disk), Memory, HugePages or HugePages-<size>", source.Medium)
	}
}

// makeFolder makes a folder with its mode and group (-1: ours). It gets its name last, so that one that is there is
// finished, and is left as it is.
func makeFolder(folder string, mode fs.FileMode, gid int) error {
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
	if err := os.Chown(unfinished, 0, max(gid, 0)); err != nil && gid >= 0 {
		return err
	}
	if err := os.Chmod(unfinished, mode); err != nil {
		return err
	}
	return os.Rename(unfinished, folder)
}

// ownership is the mode and the group (-1: unchanged) of an emptyDir. With fsGroup, whose permissions come on top of
// the mode that is asked for, new files get its group.
func ownership(pod *v1.Pod, source *v1.EmptyDirVolumeSource) (fs.FileMode, int) {
	mode := fs.FileMode(emptyDirMode)
	if source.Mode != nil {
		mode = fs.FileMode(*source.Mode).Perm()
		if *source.Mode&unix.S_ISVTX != 0 {
			mode |= fs.ModeSticky
		}
	}
	gid := fsGroup(pod)
	if gid >= 0 {
		mode |= 0o770 | fs.ModeSetgid
	}
	return mode, gid
}

// fsGroup is the group that the Pod's volumes get, -1 for none.
func fsGroup(pod *v1.Pod) int {
	if s := pod.Spec.SecurityContext; s != nil && s.FSGroup != nil {
		return int(*s.FSGroup)
	}
	return -1
}

// unixMode writes Go's mode as chmod(2) wants it.
func unixMode(mode fs.FileMode) uint32 {
	out := uint32(mode.Perm())
	if mode&fs.ModeSetgid != 0 {
		out |= unix.S_ISGID
	}
	if mode&fs.ModeSticky != 0 {
		out |= unix.S_ISVTX
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
