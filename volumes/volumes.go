// Package volumes is the room of a Pod's volumes: it makes what a volume needs on the host, says what to mount into each
// container, resolves subPath without ever leaving the volume, and takes all of it away again.
//
//	<root>/<uid>/volumes/kubernetes.io~empty-dir/<volume>           an emptyDir, on disk or a tmpfs
//	<root>/<uid>/volume-subpaths/<volume>/<container>/<index>       a subPath, bound while the container starts
//
// It must not know when Pods start or stop, nor the OCI spec: it hands out finished mounts. It keeps no state: the disk
// and the mount table are the truth, so every call may be repeated, also after a crash in the middle of it.
package volumes

import (
	"errors"
	"fmt"
	"path/filepath"
	"reflect"
	"strings"

	"golang.org/x/sys/unix"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

const (
	emptyDirFolder = "volumes/kubernetes.io~empty-dir"
	subPathFolder  = "volume-subpaths"
)

// Mount is one bind mount of a container.
type Mount struct {
	Source      string // on the host
	Destination string // in the container, absolute
	ReadOnly    bool
	Propagation string // rprivate, rslave or rshared
}

// Volumes keeps the volumes of Pods below one folder. Its methods are safe for concurrent use for different Pods.
type Volumes struct {
	root   string
	memory int64
}

// Open keeps volumes below root, usually <root-dir>/pods, which is made when it is needed, on a node with this many bytes of
// memory.
func Open(root string, memory int64) *Volumes { return &Volumes{root: root, memory: memory} }

// Setup makes the Pod's volumes. What is there already is left as it is: a container may have changed it.
func (v *Volumes) Setup(pod *v1.Pod) error {
	folder, err := v.pod(pod.UID)
	if err != nil {
		return err
	}
	for i := range pod.Spec.Volumes {
		volume := &pod.Spec.Volumes[i]
		if err := plainName(volume.Name); err != nil {
			return fmt.Errorf("set up volume: %w", err)
		}
		switch {
		case volume.EmptyDir != nil:
			err = v.setupEmptyDir(pod, filepath.Join(folder, emptyDirFolder, volume.Name), volume.EmptyDir)
		case volume.HostPath != nil:
			err = setupHostPath(volume.HostPath)
		default:
			err = fmt.Errorf("%s is not supported: use emptyDir or hostPath", sourceName(volume))
		}
		if err != nil {
			return fmt.Errorf("set up volume %q: %w", volume.Name, err)
		}
	}
	return nil
}

// Mounts are the container's mounts, resolved for one start of it, which sees the present state of every subPath.
// expand replaces $(VAR) in a subPathExpr. The function it returns is never nil: it unmounts what was bound for this
// start, and is to be called once the runtime has made the container's mounts (the task is created) or the start was
// given up.
func (v *Volumes) Mounts(pod *v1.Pod, c *v1.Container, expand func(string) string) ([]Mount, func() error, error) {
	bound := &bindings{}
	folder, err := v.pod(pod.UID)
	if err != nil {
		return nil, bound.release, err
	}
	var out []Mount
	for i := range c.VolumeMounts {
		m := &c.VolumeMounts[i]
		source, err := source(pod, folder, m.Name)
		if err != nil {
			return nil, bound.release, errors.Join(fmt.Errorf("mount volume %q at %s: %w", m.Name, m.MountPath, err), bound.release())
		}
		subPath := m.SubPath
		if m.SubPathExpr != "" {
			subPath = expand(m.SubPathExpr)
		}
		if subPath != "" {
			target := filepath.Join(folder, subPathFolder, m.Name, c.Name, fmt.Sprint(i))
			if err := bound.bind(source, subPath, target); err != nil {
				return nil, bound.release, errors.Join(fmt.Errorf("mount volume %q at %s: %w", m.Name, m.MountPath, err), bound.release())
			}
			source = target
		}
		out = append(out, mount(m, source))
	}
	return out, bound.release, nil
}

// mount says how a volumeMount with this source is mounted.
func mount(m *v1.VolumeMount, source string) Mount {
	out := Mount{
		Source: source, Destination: filepath.Join("/", m.MountPath), ReadOnly: m.ReadOnly, Propagation: "rprivate",
	}
	if m.MountPropagation != nil {
		switch *m.MountPropagation {
		case v1.MountPropagationHostToContainer:
			out.Propagation = "rslave"
		case v1.MountPropagationBidirectional:
			out.Propagation = "rshared"
		case v1.MountPropagationNone:
		}
	}
	return out
}

// source is where the Pod's volume of this name is on the host.
func source(pod *v1.Pod, folder, name string) (string, error) {
	for i := range pod.Spec.Volumes {
		volume := &pod.Spec.Volumes[i]
		switch {
		case volume.Name != name:
		case volume.EmptyDir != nil:
			return filepath.Join(folder, emptyDirFolder, name), nil
		case volume.HostPath != nil:
			return hostPathSource(volume.HostPath)
		default:
			return "", fmt.Errorf("%s is not supported: use emptyDir or hostPath", sourceName(volume))
		}
	}
	return "", errors.New("the pod has no volume of this name")
}

// pod is the folder of a Pod.
func (v *Volumes) pod(uid types.UID) (string, error) {
	if err := plainName(string(uid)); err != nil {
		return "", fmt.Errorf("find folder of pod: %w", err)
	}
	return filepath.Join(v.root, string(uid)), nil
}

// plainName refuses what would not name one entry of a folder.
func plainName(name string) error {
	if name == "" || name == "." || name == ".." || strings.ContainsAny(name, "/\x00") {
		return fmt.Errorf("%q cannot name a folder", name)
	}
	return nil
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
