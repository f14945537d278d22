package volumes

import (
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// fileSystem is one in memory that is a volume.
type fileSystem struct {
	kind    string // as in /proc/filesystems
	options map[string]string
	wishes  []string // options that older kernels do not know, and that are left out there
	refusal string   // what it most likely means when the kernel does not take the options
}

// tmpfs has room for this many bytes. A kernel that can promise it (6.3) never swaps it out.
func tmpfs(size int64) fileSystem {
	return fileSystem{
		kind: "tmpfs", options: map[string]string{"size": strconv.FormatInt(size, 10)}, wishes: []string{"noswap"},
		refusal: fmt.Sprintf("a tmpfs of %d bytes", size),
	}
}

// hugetlbfs has pages of this many bytes, and room for as many bytes as the limit says, in whole pages; 0 is no limit but that of
// the cgroup.
func hugetlbfs(page, limit int64) fileSystem {
	f := fileSystem{
		kind: "hugetlbfs", options: map[string]string{"pagesize": strconv.FormatInt(page, 10)},
		refusal: fmt.Sprintf("the node may have no huge pages of %s", resource.NewQuantity(page, resource.BinarySI)),
	}
	if limit > 0 {
		f.options["size"] = strconv.FormatInt(limit, 10)
	}
	return f
}

// mount mounts the file system on a folder where nothing is mounted yet. It is there with its mode and group, or not at
// all: hugetlbfs takes no setgid bit as an option, and setting it afterwards could be cut off.
func (f fileSystem) mount(folder string, mode fs.FileMode, gid int) error {
	mounted, err := mountinfo.Mounted(folder)
	if err != nil {
		return fmt.Errorf("look for %s: %w", f.kind, err)
	}
	if mounted {
		return nil
	}
	root, err := f.create()
	if err != nil {
		return fmt.Errorf("make %s (%s): %w", f.kind, f.refusal, err)
	}
	defer unix.Close(root)
	if gid >= 0 {
		if err := unix.Fchownat(root, "", 0, gid, unix.AT_EMPTY_PATH); err != nil {
			return fmt.Errorf("make %s: change group: %w", f.kind, err)
		}
	}
	if err := chmodHandle(root, unixMode(mode)); err != nil {
		return fmt.Errorf("make %s: change mode: %w", f.kind, err)
	}
	if err := unix.MoveMount(root, "", unix.AT_FDCWD, folder, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return fmt.Errorf("mount %s: %w", f.kind, err)
	}
	return nil
}

// create makes the file system and answers a handle of its root, which is mounted nowhere.
func (f fileSystem) create() (int, error) {
	made, err := unix.Fsopen(f.kind, unix.FSOPEN_CLOEXEC)
	if err != nil {
		return -1, err
	}
	defer unix.Close(made)
	if err := unix.FsconfigSetString(made, "source", f.kind); err != nil {
		return -1, err
	}
	for option, value := range f.options {
		if err := unix.FsconfigSetString(made, option, value); err != nil {
			return -1, fmt.Errorf("option %s=%s: %w", option, value, err)
		}
	}
	for _, option := range f.wishes {
		if err := unix.FsconfigSetFlag(made, option); err != nil && !errors.Is(err, unix.EINVAL) {
			return -1, fmt.Errorf("option %s: %w", option, err)
		}
	}
	if err := unix.FsconfigCreate(made); err != nil {
		return -1, err
	}
	return unix.Fsmount(made, unix.FSMOUNT_CLOEXEC, 0)
}

// chmodHandle changes the mode of what a handle is of, also of one that gives no access (O_PATH), whatever is at its
// path by now. It must not be a symlink's.
func chmodHandle(fd int, mode uint32) error {
	err := unix.Fchmodat(fd, "", mode, unix.AT_EMPTY_PATH)
	if errors.Is(err, unix.EOPNOTSUPP) { // before Linux 6.6
		err = unix.Chmod(fmt.Sprintf("/proc/self/fd/%d", fd), mode)
	}
	return err
}

// hugePageSize is the size in bytes of the pages of an emptyDir with this medium. The Pod has to ask for such pages,
// and if the medium names no size, then for those of one size only (pkg/volume/emptydir, getPageSizeMountOption).
func hugePageSize(pod *v1.Pod, medium v1.StorageMedium) (int64, error) {
	var want int64
	if medium != v1.StorageMediumHugePages {
		size, err := resource.ParseQuantity(strings.TrimPrefix(string(medium), string(v1.StorageMediumHugePagesPrefix)))
		if err != nil || size.Value() <= 0 {
			return 0, fmt.Errorf("emptyDir medium %q: want HugePages-<size>, for example HugePages-2Mi", medium)
		}
		want = size.Value()
	}
	var found int64
	for _, requests := range allRequests(pod) {
		for name := range requests {
			text, huge := strings.CutPrefix(string(name), v1.ResourceHugePagesPrefix)
			if !huge {
				continue
			}
			size, err := resource.ParseQuantity(text)
			switch {
			case err != nil || size.Value() <= 0:
				return 0, fmt.Errorf("resource %s: want hugepages-<size>, for example hugepages-2Mi", name)
			case want != 0 && size.Value() != want:
			case found != 0 && size.Value() != found:
				return 0, fmt.Errorf("medium: %s can't be used if container requests multiple huge page sizes", medium)
			default:
				found = size.Value()
			}
		}
	}
	if found == 0 {
		return 0, fmt.Errorf("medium %s: hugePages storage requested, "+
			"but there is no resource request for huge pages", medium)
	}
	return found, nil
}

// allRequests are the requests of the Pod itself and of its containers. Those for huge pages are the limits.
func allRequests(pod *v1.Pod) []v1.ResourceList {
	var out []v1.ResourceList
	if pod.Spec.Resources != nil {
		out = append(out, pod.Spec.Resources.Requests)
	}
	for _, containers := range [][]v1.Container{pod.Spec.Containers, pod.Spec.InitContainers} {
		for i := range containers {
			out = append(out, containers[i].Resources.Requests)
		}
	}
	return out
}
