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
	Mode int32  // permission bits
	User *int64 // whose it is; nil is root
}

// HasFiles says that a volume consists of files that are made of what is known of the Pod and its objects.
func HasFiles(volume *v1.Volume) bool {
	return volume.ConfigMap != nil || volume.Secret != nil || volume.DownwardAPI != nil || volume.Projected != nil
}

// Files are those of each volume that consists of files, by its name. The error is about volumes of which they cannot be told,
// and names them as the kubelet does; the others are there. The facts are about no container of their own: a resourceFieldRef
// names one.
func Files(f Facts) (map[string][]File, error) {
	all := map[string][]File{}
	var errs []error
	for i := range f.Pod.Spec.Volumes {
		volume := &f.Pod.Spec.Volumes[i]
		if !HasFiles(volume) {
			continue
		}
		files, err := f.files(volume)
		if err != nil {
			errs = append(errs, fmt.Errorf("MountVolume.SetUp failed for volume %q : %w", volume.Name, err))
			continue
		}
		all[volume.Name] = files
	}
	return all, errors.Join(errs...)
}

// projections are what a volume that has files has them from; one that is not projected has one.
func projections(volume *v1.Volume) []v1.VolumeProjection {
	switch {
	case volume.Projected != nil:
		return volume.Projected.Sources
	case volume.DownwardAPI != nil:
		return []v1.VolumeProjection{{DownwardAPI: &v1.DownwardAPIProjection{Items: volume.DownwardAPI.Items}}}
	case volume.ConfigMap != nil:
		from := volume.ConfigMap
		return []v1.VolumeProjection{{ConfigMap: &v1.ConfigMapProjection{
			LocalObjectReference: from.LocalObjectReference, Items: from.Items, Optional: from.Optional,
		}}}
	case volume.Secret != nil:
		from := volume.Secret
		return []v1.VolumeProjection{{Secret: &v1.SecretProjection{
			LocalObjectReference: v1.LocalObjectReference{Name: from.SecretName}, Items: from.Items, Optional: from.Optional,
		}}}
	}
	return nil
}

// defaultMode is that of a volume's files that have none of their own (kubernetes/kubernetes pkg/apis/core/v1/defaults.go).
func defaultMode(volume *v1.Volume) int32 {
	const readable = 0o644
	switch {
	case volume.Projected != nil:
		return ptr.Deref(volume.Projected.DefaultMode, readable)
	case volume.DownwardAPI != nil:
		return ptr.Deref(volume.DownwardAPI.DefaultMode, readable)
	case volume.ConfigMap != nil:
		return ptr.Deref(volume.ConfigMap.DefaultMode, readable)
	case volume.Secret != nil:
		return ptr.Deref(volume.Secret.DefaultMode, readable)
	}
	return readable
}

// files are those of a volume. Of two with one path the later source's is there.
func (f *Facts) files(volume *v1.Volume) ([]File, error) {
	all := []File{} // even none is given
	at := map[string]int{}
	for _, source := range projections(volume) {
		files, err := f.projected(source, defaultMode(volume))
		if err != nil {
			return nil, err
		}
		for _, file := range files {
			if i, taken := at[file.Path]; taken {
				all[i] = file
				continue
			}
			at[file.Path] = len(all)
			all = append(all, file)
		}
	}
	return all, nil
}

func (f *Facts) projected(source v1.VolumeProjection, mode int32) ([]File, error) {
	switch {
	case source.ConfigMap != nil:
		found, err := f.configMap(source.ConfigMap.Name, source.ConfigMap.Optional)
		if err != nil {
			return nil, err
		}
		return found.files(source.ConfigMap.Items, mode)
	case source.Secret != nil:
		found, err := f.secret(source.Secret.Name, source.Secret.Optional)
		if err != nil {
			return nil, err
		}
		return found.files(source.Secret.Items, mode)
	case source.DownwardAPI != nil:
		return f.downward(source.DownwardAPI.Items, mode)
	case source.ServiceAccountToken != nil:
		return f.token(source.ServiceAccountToken, mode)
	}
	return nil, nil // an empty source has no files; others are refused by name
}

// files are all that an object has, or the items that are asked for (kubernetes/kubernetes pkg/volume/configmap, MakePayload).
func (v values) files(items []v1.KeyToPath, mode int32) ([]File, error) {
	if len(items) == 0 {
		for _, key := range v.keys() {
			items = append(items, v1.KeyToPath{Key: key, Path: key})
		}
	}
	files := make([]File, 0, len(items))
	for _, item := range items {
		data, ok := v.bytes(item.Key)
		switch {
		case ok:
			files = append(files, File{Path: item.Path, Data: data, Mode: ptr.Deref(item.Mode, mode)})
		case !v.optional:
			return nil, fmt.Errorf("%s: %s", v.noFile, item.Key)
		}
	}
	return files, nil
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
