package inputs

import (
	"errors"
	"fmt"

	v1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"
)

// File is one file of a volume.
type File struct {
	Path string // relative to the volume
	Data []byte
	Mode int32 // permission bits
}

// HasFiles says that a volume consists of files that are made of what is known of the Pod.
func HasFiles(volume *v1.Volume) bool { return volume.DownwardAPI != nil || volume.Projected != nil }

// Files are those of each volume that consists of files, by its name. An error names the volume. The facts are about no
// container of their own: a resourceFieldRef names one.
func Files(f Facts) (map[string][]File, error) {
	all := map[string][]File{}
	for i := range f.Pod.Spec.Volumes {
		volume := &f.Pod.Spec.Volumes[i]
		if !HasFiles(volume) {
			continue
		}
		files, err := f.files(volume)
		if err != nil {
			return nil, fmt.Errorf("volume %q: %w", volume.Name, err)
		}
		all[volume.Name] = files
	}
	return all, nil
}

func (f *Facts) files(volume *v1.Volume) ([]File, error) {
	if volume.DownwardAPI != nil {
		return f.downward(volume.DownwardAPI.Items, ptr.Deref(volume.DownwardAPI.DefaultMode, v1.DownwardAPIVolumeSourceDefaultMode))
	}
	all := []File{} // even none is given
	for _, source := range volume.Projected.Sources {
		if source.DownwardAPI == nil {
			continue // an empty source has no files; others are refused by name
		}
		files, err := f.downward(source.DownwardAPI.Items, ptr.Deref(volume.Projected.DefaultMode, v1.ProjectedVolumeSourceDefaultMode))
		if err != nil {
			return nil, err
		}
		all = append(all, files...)
	}
	return all, nil
}

// downward are the files of the downward API (kubernetes/kubernetes pkg/volume/downwardapi, CollectData).
func (f *Facts) downward(items []v1.DownwardAPIVolumeFile, mode int32) ([]File, error) {
	files := make([]File, 0, len(items))
	for _, item := range items {
		var value string
		err := errors.New("neither fieldRef nor resourceFieldRef")
		switch {
		case item.FieldRef != nil:
			value, err = f.field(item.FieldRef.FieldPath)
		case item.ResourceFieldRef != nil:
			value, err = f.resource(item.ResourceFieldRef)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", item.Path, err)
		}
		files = append(files, File{Path: item.Path, Data: []byte(value), Mode: ptr.Deref(item.Mode, mode)})
	}
	return files, nil
}
