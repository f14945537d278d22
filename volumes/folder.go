package volumes

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
	v1 "k8s.io/api/core/v1"
)

const (
	folderMode = 0o777
	// unfinishedMode marks a folder that was made and has not got its mode yet. No umask changes it, and nobody else
	// makes such folders: the sticky bit has no meaning without permission to write.
	unfinishedMode = unix.S_ISVTX
)

// isFolder says that the volume is one of the folders that are given.
func isFolder(volume *v1.Volume) bool {
	return volume.PersistentVolumeClaim != nil || volume.Ephemeral != nil || volume.Image != nil
}

// locateFolder says where a volume is that is a folder of the host. Images are read-only, and so is a claim that the
// Pod wants to be.
func locateFolder(volume *v1.Volume, given Given) (place, error) {
	folder, ok := given.Folders[volume.Name]
	if !ok {
		return place{}, errors.New("its folder is not given")
	}
	claim := volume.PersistentVolumeClaim
	readOnly := folder.ReadOnly || volume.Image != nil || claim != nil && claim.ReadOnly
	return place{path: folder.Path, readOnly: readOnly, fixed: readOnly}, nil
}

// setupFolder makes a folder of the host where it is to be made, and applies the SELinux label and fsGroup.
func setupFolder(ctx context.Context, pod *v1.Pod, volume *v1.Volume, given Given) error {
	folder, ok := given.Folders[volume.Name]
	if !ok {
		return errors.New("its folder is not given")
	}
	if folder.Create {
		if err := createFolder(folder.Path); err != nil {
			return fmt.Errorf("make folder: %w", err)
		}
	}
	info, err := os.Stat(folder.Path)
	if err != nil {
		return fmt.Errorf("find folder: %w", err)
	}
	if !info.IsDir() {
		return fmt.Errorf("find folder: %s is %s, want a directory", folder.Path, describe(info.Mode()))
	}
	at, err := locateFolder(volume, given)
	if err != nil || !folder.Ownership {
		return err
	}
	if given.Label != "" && !at.readOnly {
		if err := changeAll(ctx, folder.Path, labelling(given.Label)); err != nil {
			return fmt.Errorf("apply SELinux label: %w", err)
		}
	}
	gid := fsGroup(pod)
	if gid < 0 {
		return nil
	}
	policy := v1.FSGroupChangeAlways
	if p := pod.Spec.SecurityContext.FSGroupChangePolicy; p != nil {
		policy = *p
	}
	if err := (grouping{gid, at.readOnly}).apply(ctx, folder.Path, policy); err != nil {
		return fmt.Errorf("apply fsGroup %d: %w", gid, err)
	}
	return nil
}

// createFolder makes a folder that is missing, or was begun and not finished. Unlike makeFolder it makes nothing beside
// it: the folder it is in is not ours.
func createFolder(path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	if err := unix.Mkdir(path, unfinishedMode); err != nil && !errors.Is(err, unix.EEXIST) {
		return &fs.PathError{Op: "mkdir", Path: path, Err: err}
	}
	info, err := os.Lstat(path)
	if err != nil {
		return err
	}
	if !info.IsDir() || unixMode(info.Mode()) != unfinishedMode {
		return nil
	}
	return os.Chmod(path, folderMode)
}
