package runtime

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/containerd/containerd/v2/core/mount"
	"github.com/moby/sys/mountinfo"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// A container in a user namespace sees the ids of files as the host does: what belongs to user 5 of the host belongs to user 5 in there,
// and to nobody else. The kernel does that, in mounts to which it was said before anybody could see them (mount_setattr(2),
// MOUNT_ATTR_IDMAP). containerd before 2.0 and runc before 1.2 cannot say so. So such mounts are made here, for the time in which the OCI
// runtime makes the container's own of them; and those of an image's layers, for the time in which its root file system is made of them.

// Users are ids of the host that users and groups of a user namespace have, those from 0 on in there. The zero value is no user
// namespace: ids are the host's.
type Users struct{ First, Count uint32 }

// Mappings says the same in the OCI runtime specification's terms.
func (u Users) Mappings() []specs.LinuxIDMapping {
	if u.Count == 0 {
		return nil
	}
	return []specs.LinuxIDMapping{{HostID: u.First, Size: u.Count}}
}

// UserNamespaces says why containers cannot have user namespaces of their own on this host, and what would be right; nil is that they
// can. What single file systems cannot do is seen when they are mounted.
func UserNamespaces() error {
	var system unix.Utsname
	if err := unix.Uname(&system); err != nil {
		return fmt.Errorf("ask the kernel for its version: %w", err)
	}
	most, err := os.ReadFile("/proc/sys/user/max_user_namespaces")
	if errors.Is(err, fs.ErrNotExist) {
		return errors.New("the kernel has no user namespaces: use one with CONFIG_USER_NS")
	}
	if err != nil {
		return fmt.Errorf("read the limit of user namespaces: %w", err)
	}
	return mappable(unix.ByteSliceToString(system.Release[:]), strings.TrimSpace(string(most)))
}

// mappable judges a kernel by its release, and by how many user namespaces it allows. Linux 5.19 has overlays of mapped layers.
func mappable(release, most string) error {
	var major, minor int
	if _, err := fmt.Sscanf(release, "%d.%d", &major, &minor); err == nil && (major < 5 || major == 5 && minor < 19) {
		return fmt.Errorf("user namespaces need Linux 5.19, for tmpfs 6.3, and this is %s: use a newer kernel", release)
	}
	if most == "0" {
		return errors.New("the host allows no user namespaces: sysctl -w user.max_user_namespaces=15000")
	}
	return nil
}

// CheckUsers fails where containers of a runtime handler cannot have a user namespace of their own. Empty is the default handler.
func (r *Runtime) CheckUsers(name string) error {
	handler, err := r.handler(name)
	if err != nil {
		return err
	}
	if handler.Type != runcType {
		return fmt.Errorf("can't set `spec.hostUsers: false`, RuntimeClass handler %q does not support user namespaces: its type is not %s", name, runcType)
	}
	return UserNamespaces()
}

// MapError is that something cannot be mounted in a user namespace.
type MapError struct {
	Destination string // where, in the container
	Err         error
}

// Error says what, and why.
func (e *MapError) Error() string {
	return fmt.Sprintf("map %s into user namespace: %v", e.Destination, e.Err)
}

// Unwrap answers what is behind it.
func (e *MapError) Unwrap() error { return e.Err }

// mappedDir is where in a sandbox's folder the mapped mounts of its containers are.
const mappedDir = "mapped"

// MappedDir is where the mapped mounts of a container are while it is being made.
func MappedDir(sandboxDir, id string) string { return filepath.Join(sandboxDir, mappedDir, id) }

// mapping makes mounts below a folder that are mapped into a user namespace.
type mapping struct {
	dir   string
	users *os.File
}

// openMapping begins with an empty folder: what an earlier try has left there goes. namespace is the path of the user namespace. It is to
// be released.
func openMapping(dir, namespace string) (*mapping, error) {
	if err := clearMapped(dir); err != nil {
		return nil, err
	}
	users, err := os.Open(namespace)
	if err != nil {
		return nil, fmt.Errorf("open user namespace: %w", err)
	}
	m := &mapping{dir, users}
	if err := m.apart(); err != nil {
		return nil, errors.Join(err, m.release())
	}
	return m, nil
}

// apart makes the folder, and keeps what is mounted in it out of every copy of the host's mounts, as of a hostPath volume of another
// container that is being made: it is none of its business, and could not be removed while the copy is there.
func (m *mapping) apart() error {
	if err := os.MkdirAll(m.dir, 0o700); err != nil {
		return fmt.Errorf("make folder of mapped mounts: %w", err)
	}
	err := unix.Mount(m.dir, m.dir, "", unix.MS_BIND, "")
	if err == nil {
		err = unix.Mount("", m.dir, "", unix.MS_UNBINDABLE, "")
	}
	if err != nil {
		return fmt.Errorf("keep mapped mounts apart: %w", err)
	}
	return nil
}

// release ends the mounts. What was made of them stays.
func (m *mapping) release() error { return errors.Join(m.users.Close(), clearMapped(m.dir)) }

// clearMapped ends all mounts on a folder and what is in it, and removes it. No folder is no error.
func clearMapped(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("clear mapped mounts: %w", err)
	}
	var targets []string
	for _, e := range entries {
		targets = append(targets, filepath.Join(dir, e.Name()))
	}
	for _, target := range append(targets, dir) {
		// Else what is unmounted below a copy of a shared tree of the host would be unmounted there, too.
		if err := unix.Mount("", target, "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil && !errors.Is(err, unix.EINVAL) {
			return fmt.Errorf("make %s private: %w", target, err)
		}
		if err := unmount(target); err != nil {
			return err
		}
		if err := os.Remove(target); err != nil {
			return fmt.Errorf("clear mapped mounts: %w", err)
		}
	}
	return nil
}

// mount mounts what is at a path, mapped, by a name in the folder, and answers where. recursive is whether what is mounted below comes
// along, unmapped as under the kubelet: it belongs to nobody in there.
func (m *mapping) mount(name, source string, recursive bool) (string, error) {
	flags := uint(unix.OPEN_TREE_CLONE | unix.OPEN_TREE_CLOEXEC)
	if recursive {
		flags |= unix.AT_RECURSIVE
	}
	tree, err := unix.OpenTree(unix.AT_FDCWD, source, flags)
	if err != nil {
		return "", fmt.Errorf("open %s: %w", source, err)
	}
	defer unix.Close(tree)
	err = unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_IDMAP, Userns_fd: uint64(m.users.Fd())})
	if err != nil {
		return "", fmt.Errorf("%s, in a file system of type %s, which cannot be mapped (tmpfs can from Linux 6.3 on; network file systems, "+
			"proc, sysfs and overlays cannot): %w", source, fileSystemOf(source), err)
	}
	target := filepath.Join(m.dir, name)
	if err := makeMountPoint(tree, target); err != nil {
		return "", fmt.Errorf("make mount point: %w", err)
	}
	if err := unix.MoveMount(tree, "", unix.AT_FDCWD, target, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return "", fmt.Errorf("mount %s at %s: %w", source, target, err)
	}
	return target, nil
}

// makeMountPoint makes a folder for a folder, and a file for anything else.
func makeMountPoint(of int, target string) error {
	var is unix.Stat_t
	if err := unix.Fstat(of, &is); err != nil {
		return err
	}
	if is.Mode&unix.S_IFMT == unix.S_IFDIR {
		return os.Mkdir(target, 0o700)
	}
	return os.WriteFile(target, nil, 0o600)
}

// fileSystemOf is the type of the file system that a path is in.
func fileSystemOf(path string) string {
	kind := "unknown"
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	}
	mounts, _ := mountinfo.GetMounts(mountinfo.ParentsFilter(path))
	longest := 0
	for _, m := range mounts {
		if len(m.Mountpoint) >= longest {
			kind, longest = m.FSType, len(m.Mountpoint)
		}
	}
	return kind
}

// volumes mounts those of a container's mounts that are to be mapped to where ownMounts says that they are.
func (m *mapping) volumes(mounts []specs.Mount) error {
	for i, v := range mounts {
		if len(v.UIDMappings) == 0 {
			continue
		}
		if _, err := m.mount(strconv.Itoa(i), v.Source, true); err != nil {
			return &MapError{v.Destination, err}
		}
	}
	return nil
}

// ownMounts are the mounts of a container as its OCI runtime is to make them: what is to be mapped is at its mapped place.
func (cfg *ContainerConfig) ownMounts() []specs.Mount {
	own := make([]specs.Mount, 0, len(cfg.Mounts))
	for i, v := range cfg.Mounts {
		if len(v.UIDMappings) > 0 {
			v.Source, v.UIDMappings, v.GIDMappings = filepath.Join(cfg.MappedDir, strconv.Itoa(i)), nil, nil
		}
		own = append(own, v)
	}
	return own
}

// layersMount is the name of the mount through which an overlay sees its lower layers.
const layersMount = "layers"

// rootfs has a root file system, as a snapshotter tells of it, be made of mapped mounts. Of an overlay these are the lower layers, and what
// is written belongs to the user namespace's own ids, from its root folder on; for the kernel makes, and cannot map, parts of an overlay
// as the host's root.
func (m *mapping) rootfs(mounts []mount.Mount, users Users) ([]mount.Mount, error) {
	out := make([]mount.Mount, 0, len(mounts))
	for _, of := range mounts {
		var err error
		switch of.Type {
		case "bind":
			of.Source, err = m.mount(layersMount, of.Source, false)
		case "overlay":
			of.Options, err = m.overlay(of.Options, users)
		default:
			err = fmt.Errorf("its file system of type %s cannot be mapped", of.Type)
		}
		if err != nil {
			return nil, &MapError{"/", err}
		}
		out = append(out, of)
	}
	return out, nil
}

// overlay maps the lower layers of an overlay, given as options, and has its upper one belong to the user namespace.
func (m *mapping) overlay(options []string, users Users) ([]string, error) {
	out := make([]string, 0, len(options))
	for _, option := range options {
		name, value, _ := strings.Cut(option, "=")
		switch name {
		case "lowerdir":
			mapped, err := m.lower(strings.Split(value, ":"))
			if err != nil {
				return nil, err
			}
			option = "lowerdir=" + strings.Join(mapped, ":")
		case "upperdir":
			if err := giveTo(value, users); err != nil {
				return nil, err
			}
		}
		out = append(out, option)
	}
	return out, nil
}

// lower mounts the folder that all layers are in, mapped, and answers where they are now.
func (m *mapping) lower(dirs []string) ([]string, error) {
	common := commonDir(dirs)
	target, err := m.mount(layersMount, common, false)
	if err != nil {
		return nil, err
	}
	mapped := make([]string, 0, len(dirs))
	for _, dir := range dirs {
		to := filepath.Join(target, strings.TrimPrefix(dir, common))
		var was, is unix.Stat_t
		if err := errors.Join(unix.Stat(dir, &was), unix.Stat(to, &is)); err != nil {
			return nil, fmt.Errorf("find layer %s: %w", dir, err)
		}
		if was.Dev != is.Dev || was.Ino != is.Ino {
			return nil, fmt.Errorf("layer %s is in a file system of its own, below %s", dir, common)
		}
		mapped = append(mapped, to)
	}
	return mapped, nil
}

// commonDir is the deepest folder that all of these are in, or are.
func commonDir(dirs []string) string {
	common := dirs[0]
	for _, dir := range dirs[1:] {
		for common != "/" && dir != common && !strings.HasPrefix(dir, common+"/") {
			common = filepath.Dir(common)
		}
	}
	return common
}

// giveTo has a folder belong to whom it belongs to, in a user namespace. What does already stays as it is.
func giveTo(dir string, users Users) error {
	var is unix.Stat_t
	if err := unix.Stat(dir, &is); err != nil {
		return fmt.Errorf("find writable layer %s: %w", dir, err)
	}
	if is.Uid >= users.First && is.Uid-users.First < users.Count {
		return nil
	}
	if err := os.Chown(dir, int(users.First+is.Uid), int(users.First+is.Gid)); err != nil {
		return fmt.Errorf("give writable layer to user namespace: %w", err)
	}
	return nil
}
