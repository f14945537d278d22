package volumes

import (
	"errors"
	"fmt"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"
	v1 "k8s.io/api/core/v1"
)

// place is where a volume is on the host.
type place struct {
	path     string
	readOnly bool // for every container
	fixed    bool // nothing is ever made in it for a subPath
}

// resolved is a mount before its subPath is looked up.
type resolved struct {
	Mount
	place
}

// mountOf says how a volumeMount is mounted.
func mountOf(pod *v1.Pod, folder string, m *v1.VolumeMount, given Given) (resolved, error) {
	at, err := locate(pod, folder, m.Name, given)
	if err != nil {
		return resolved{}, err
	}
	out := Mount{
		Source: at.path, Destination: filepath.Join("/", m.MountPath),
		ReadOnly: m.ReadOnly || at.readOnly, Propagation: "rprivate",
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
	out.Recursive, err = recursive(m, kernelRecursive())
	return resolved{out, at}, err
}

// recursive says whether what is mounted below a read-only mount is read-only, too. The rule is that of the API's
// recursiveReadOnly, and of the kubelet's resolveRecursiveReadOnly; possible says that the kernel can do it.
func recursive(m *v1.VolumeMount, possible bool) (bool, error) {
	if m.RecursiveReadOnly == nil || *m.RecursiveReadOnly == v1.RecursiveReadOnlyDisabled {
		return false, nil
	}
	mode := *m.RecursiveReadOnly
	switch {
	case mode != v1.RecursiveReadOnlyEnabled && mode != v1.RecursiveReadOnlyIfPossible:
		return false, fmt.Errorf("recursiveReadOnly %q is not known: use Disabled, IfPossible or Enabled", mode)
	case !m.ReadOnly:
		return false, fmt.Errorf("recursiveReadOnly %s: the mount must be readOnly", mode)
	case m.MountPropagation != nil && *m.MountPropagation != v1.MountPropagationNone:
		return false, fmt.Errorf("recursiveReadOnly %s: mountPropagation must be None, not %s",
			mode, *m.MountPropagation)
	case mode == v1.RecursiveReadOnlyEnabled && !possible:
		return false, errors.New("recursiveReadOnly Enabled: the kernel cannot do it: it needs Linux 5.12")
	}
	return possible, nil
}

// RecursiveReadOnly says whether the kernel can make all that is mounted below a mount read-only.
func RecursiveReadOnly() bool { return kernelRecursive() }

// kernelRecursive asks the kernel whether it has mount_setattr(2), without which a runtime can make only single mounts
// read-only. Nothing is changed by it.
var kernelRecursive = sync.OnceValue(func() bool {
	return !errors.Is(unix.MountSetattr(unix.AT_FDCWD, "/", 0, &unix.MountAttr{}), unix.ENOSYS)
})

// locate says where the Pod's volume of this name is on the host.
func locate(pod *v1.Pod, folder, name string, given Given) (place, error) {
	for i := range pod.Spec.Volumes {
		volume := &pod.Spec.Volumes[i]
		kind := payloadKind(volume)
		switch {
		case volume.Name != name:
		case volume.EmptyDir != nil:
			return place{path: filepath.Join(folder, volumesFolder, emptyDirFolder, name)}, nil
		case volume.HostPath != nil:
			path, err := hostPathSource(volume.HostPath)
			return place{path: path}, err
		case kind != "":
			return place{path: filepath.Join(folder, volumesFolder, kind, name), readOnly: true}, nil
		case isFolder(volume):
			return locateFolder(volume, given)
		default:
			return place{}, unsupported(volume)
		}
	}
	return place{}, errors.New("the pod has no volume of this name")
}
