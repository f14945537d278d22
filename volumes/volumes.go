// Package volumes is the room of a Pod's volumes: it makes what a volume needs on the host, says what to mount into
// each container, resolves subPath without ever leaving the volume, and takes all of it away again.
//
//	<root>/<uid>/volumes/kubernetes.io~empty-dir/<volume>           an emptyDir, on disk, a tmpfs or huge pages
//	<root>/<uid>/volumes/kubernetes.io~<kind>/<volume>              the files of a configmap, secret, downward-api or
//	                                                                projected volume, in a tmpfs
//	<root>/<uid>/volumes/kubernetes.io~image/<volume>               where the caller mounts an image
//	<root>/<uid>/volume-subpaths/<volume>/<container>/<index>       a subPath, bound while the container starts
//
// It must not know when Pods start or stop, where ConfigMaps and claims come from, nor the OCI spec: it is given the
// files and folders that volumes are made of, and hands out finished mounts. It keeps no state: the disk and the mount
// table are the truth, so every call may be repeated, also after a crash in the middle of it.
package volumes

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"

	"golang.org/x/sys/unix"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

const (
	volumesFolder   = "volumes"
	emptyDirFolder  = "kubernetes.io~empty-dir"
	configMapFolder = "kubernetes.io~configmap"
	secretFolder    = "kubernetes.io~secret"
	downwardFolder  = "kubernetes.io~downward-api"
	projectedFolder = "kubernetes.io~projected"
	imageFolder     = "kubernetes.io~image"
	ephemeralFolder = "kubernetes.io~ephemeral"
	subPathFolder   = "volume-subpaths"
)

// Given is what a Pod's volumes are made of besides the Pod, by the name of the volume. A volume that needs an entry
// and has none is an error.
type Given struct {
	Files   map[string][]File // of configMap, secret, downwardAPI and projected volumes: all of their files
	Folders map[string]Folder // of persistentVolumeClaim, ephemeral and image volumes: where they are on the host
	Label   string            // of SELinux, for what is in the Pod's volumes but those of the host; empty leaves it as it is
}

// File is one file of a volume whose content podkeeper writes.
type File struct {
	Path string // relative to the volume; may have folders
	Data []byte
	Mode int32  // permission bits; with fsGroup, its group may read in any case
	User *int64 // whose it is; nil is root
}

// Folder is a folder of the host that is a volume.
type Folder struct {
	Path      string // absolute; symlinks in it are followed, it is the node owner's
	Create    bool   // made where it is missing, with mode 0777, as the provisioners of hostPath volumes do
	ReadOnly  bool   // for every container
	Ownership bool   // the Pod's fsGroup applies, by its fsGroupChangePolicy, and its SELinux label
}

// Mount is one bind mount of a container.
type Mount struct {
	Source      string // on the host
	Destination string // in the container, absolute
	ReadOnly    bool
	Recursive   bool   // what is mounted below is read-only, too (the OCI option rro)
	Propagation string // rprivate, rslave or rshared
}

// Volumes keeps the volumes of Pods below one folder. Its methods are safe for concurrent use for different Pods.
type Volumes struct {
	root   string
	memory int64
}

// Open keeps volumes below root, usually <root-dir>/pods, which is made when it is needed, on a node with this many
// bytes of memory.
func Open(root string, memory int64) *Volumes { return &Volumes{root: root, memory: memory} }

// Setup makes the Pod's volumes. What is there already is left as it is: a container may have changed it. Only files
// that are given are brought up to date, as by Update, and fsGroup is applied anew unless its fsGroupChangePolicy is
// OnRootMismatch and the volume's root has it. ctx ends that before the next file; the next call begins anew. The error
// names the volume.
func (v *Volumes) Setup(ctx context.Context, pod *v1.Pod, given Given) error {
	folder, err := v.pod(pod.UID)
	if err != nil {
		return err
	}
	for i := range pod.Spec.Volumes {
		volume := &pod.Spec.Volumes[i]
		if err := plainName(volume.Name); err != nil {
			return fmt.Errorf("set up volume: %w", err)
		}
		kind := payloadKind(volume)
		switch {
		case volume.EmptyDir != nil:
			at := filepath.Join(folder, volumesFolder, emptyDirFolder, volume.Name)
			err = v.setupEmptyDir(pod, at, volume.EmptyDir, labelling(given.Label))
		case volume.HostPath != nil:
			err = setupHostPath(volume.HostPath)
		case kind != "":
			err = v.setupPayload(pod, volume, given)
		case isFolder(volume):
			err = setupFolder(ctx, pod, volume, given)
		default:
			err = unsupported(volume)
		}
		if err != nil {
			return fmt.Errorf("set up volume %q: %w", volume.Name, err)
		}
	}
	return nil
}

// Update brings the files of the Pod's configMap, secret, downwardAPI and projected volumes up to date, while its
// containers run. Who opens a volume's ..data and the files below that sees all as before or all as given; files from
// before may be missing by the time they are opened, and then ..data is to be opened anew, as under Kubernetes. A
// volume whose files are as given is not written to. An error of one volume, which it names, does not keep the others.
func (v *Volumes) Update(pod *v1.Pod, given Given) error {
	if _, err := v.pod(pod.UID); err != nil {
		return err
	}
	var errs []error
	for i := range pod.Spec.Volumes {
		volume := &pod.Spec.Volumes[i]
		if payloadKind(volume) == "" {
			continue
		}
		err := plainName(volume.Name)
		if err == nil {
			err = v.setupPayload(pod, volume, given)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("update volume %q: %w", volume.Name, err))
		}
	}
	return errors.Join(errs...)
}

// Mounts are the container's mounts, one for each of its volumeMounts and in their order, resolved for one start of it,
// which sees the present state of every subPath. expand replaces $(VAR) in a subPathExpr. The function it returns is
// never nil: it unmounts what was bound for this start, and is to be called once the runtime has made the container's
// mounts (the task is created) or the start was given up.
func (v *Volumes) Mounts(
	pod *v1.Pod, c *v1.Container, given Given, expand func(string) string,
) (mounts []Mount, release func() error, err error) {
	bound := &bindings{}
	folder, err := v.pod(pod.UID)
	if err != nil {
		return nil, bound.release, err
	}
	var out []Mount
	for i := range c.VolumeMounts {
		m := &c.VolumeMounts[i]
		resolved, err := mountOf(pod, folder, m, given)
		subPath := m.SubPath
		if m.SubPathExpr != "" {
			subPath = expand(m.SubPathExpr)
		}
		if err == nil && subPath != "" {
			target := filepath.Join(folder, subPathFolder, m.Name, c.Name, fmt.Sprint(i))
			err = bound.bind(resolved.place, subPath, target)
			resolved.Source = target
		}
		if err != nil {
			err = fmt.Errorf("mount volume %q at %s: %w", m.Name, m.MountPath, err)
			return nil, bound.release, errors.Join(err, bound.release())
		}
		out = append(out, resolved.Mount)
	}
	return out, bound.release, nil
}

// pod is the folder of a Pod.
func (v *Volumes) pod(uid types.UID) (string, error) {
	if err := plainName(string(uid)); err != nil {
		return "", fmt.Errorf("find folder of pod: %w", err)
	}
	return filepath.Join(v.root, string(uid)), nil
}

// ImageDir is the folder where the caller mounts the image that is the Pod's volume of this name. The folder is made;
// whether something is mounted there already is for the caller to see. Teardown unmounts it, and deletes nothing in it.
func (v *Volumes) ImageDir(pod *v1.Pod, volume string) (string, error) {
	folder, err := v.pod(pod.UID)
	if err != nil {
		return "", err
	}
	if err := plainName(volume); err != nil {
		return "", fmt.Errorf("find folder of image volume: %w", err)
	}
	folder = filepath.Join(folder, volumesFolder, imageFolder, volume)
	if err := os.MkdirAll(folder, 0o750); err != nil {
		return "", fmt.Errorf("make folder of image volume %q: %w", volume, err)
	}
	return folder, nil
}

// EphemeralDir is where the Pod's volume of this name is that is a claim of the Pod's own, to be made by Setup. Teardown deletes
// it.
func (v *Volumes) EphemeralDir(pod *v1.Pod, volume string) (string, error) {
	folder, err := v.pod(pod.UID)
	if err != nil {
		return "", err
	}
	return filepath.Join(folder, volumesFolder, ephemeralFolder, volume), plainName(volume)
}

// plainName refuses what would not name one entry of a folder.
func plainName(name string) error {
	if name == "" || name == "." || name == ".." || strings.ContainsAny(name, "/\x00") {
		return fmt.Errorf("%q cannot name a folder", name)
	}
	return nil
}

// unsupported names a source that podkeeper has no volumes of.
func unsupported(volume *v1.Volume) error {
	return fmt.Errorf("%s is not supported: use configMap, downwardAPI, emptyDir, ephemeral, hostPath, image, "+
		"persistentVolumeClaim, projected or secret", sourceName(volume))
}

// sourceName is the manifest's word for a volume's source.
func sourceName(volume *v1.Volume) string {
	source := reflect.ValueOf(volume.VolumeSource)
	for i := range source.NumField() {
		if !source.Field(i).IsNil() {
			name, _, _ := strings.Cut(source.Type().Field(i).Tag.Get("json"), ",")
			return "source " + name
		}
	}
	return "a volume without a source"
}

// notEmpty says that a folder could not be removed because something else is in it.
func notEmpty(err error) bool { return errors.Is(err, unix.ENOTEMPTY) || errors.Is(err, unix.EEXIST) }
