package volumes

import (
	"path/filepath"

	v1 "k8s.io/api/core/v1"
)

// EmptyDirs are the folders of the Pod's emptyDirs that are on disk, by the names of the volumes. They may not be there.
func (v *Volumes) EmptyDirs(pod *v1.Pod) (map[string]string, error) {
	folder, err := v.pod(pod.UID)
	if err != nil {
		return nil, err
	}
	dirs := map[string]string{}
	for _, volume := range pod.Spec.Volumes {
		if e := volume.EmptyDir; e == nil || e.Medium != v1.StorageMediumDefault {
			continue
		}
		if err := plainName(volume.Name); err != nil {
			return nil, err
		}
		dirs[volume.Name] = filepath.Join(folder, volumesFolder, emptyDirFolder, volume.Name)
	}
	return dirs, nil
}
