package volumes

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	v1 "k8s.io/api/core/v1"
)

// setupHostPath makes a host path of a type that says so, and checks that it is what its type says. Symlinks are
// followed: the path is the node owner's.
func setupHostPath(source *v1.HostPathVolumeSource) error {
	kind := hostPathType(source)
	switch kind {
	case v1.HostPathUnset:
		return nil
	case v1.HostPathDirectoryOrCreate:
		if err := os.MkdirAll(source.Path, 0o755); err != nil && !exists(source.Path) {
			return fmt.Errorf("make host path: %w", err)
		}
	case v1.HostPathFileOrCreate:
		f, err := os.OpenFile(source.Path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
		if err == nil {
			err = f.Close()
		}
		if err != nil && !errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("make host path: %w (the folder it is in must exist)", err)
		}
	case v1.HostPathDirectory, v1.HostPathFile, v1.HostPathSocket, v1.HostPathCharDev, v1.HostPathBlockDev:
	default:
		return fmt.Errorf("hostPath type %q is not known", kind)
	}
	info, err := os.Stat(source.Path)
	if err != nil {
		return fmt.Errorf("hostPath of type %s: %w", kind, err)
	}
	if got := describe(info.Mode()); got != describeType(kind) {
		return fmt.Errorf("hostPath of type %s: %s is %s, want %s", kind, source.Path, got, describeType(kind))
	}
	return nil
}

// exists says that something is at the path, whatever it is: the check that follows finds better words for what is wrong.
func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// hostPathSource is the path itself. Without a type, nothing is checked, and what is missing is made a folder when the
// container starts, as containerd's CRI plugin does under Kubernetes.
func hostPathSource(source *v1.HostPathVolumeSource) (string, error) {
	if hostPathType(source) != v1.HostPathUnset {
		return source.Path, nil
	}
	if _, err := os.Stat(source.Path); !errors.Is(err, fs.ErrNotExist) {
		return source.Path, err
	}
	if err := os.MkdirAll(source.Path, 0o755); err != nil {
		return "", fmt.Errorf("make host path: %w", err)
	}
	return source.Path, nil
}

func hostPathType(source *v1.HostPathVolumeSource) v1.HostPathType {
	if source.Type == nil {
		return v1.HostPathUnset
	}
	return *source.Type
}

// describe says what a mode is, in the words of describeType.
func describe(mode fs.FileMode) string {
	switch {
	case mode.IsDir():
		return "a directory"
	case mode.IsRegular():
		return "a file"
	case mode&fs.ModeSocket != 0:
		return "a socket"
	case mode&fs.ModeCharDevice != 0:
		return "a character device"
	case mode&fs.ModeDevice != 0:
		return "a block device"
	case mode&fs.ModeNamedPipe != 0:
		return "a named pipe"
	default:
		return "of an unknown kind"
	}
}

// describeType says what a hostPath type wants.
func describeType(kind v1.HostPathType) string {
	switch kind {
	case v1.HostPathDirectory, v1.HostPathDirectoryOrCreate:
		return "a directory"
	case v1.HostPathFile, v1.HostPathFileOrCreate:
		return "a file"
	case v1.HostPathSocket:
		return "a socket"
	case v1.HostPathCharDev:
		return "a character device"
	case v1.HostPathBlockDev:
		return "a block device"
	default:
		return "anything"
	}
}
