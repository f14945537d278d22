package node

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/podkeeper/podkeeper/runtime"
	"github.com/podkeeper/podkeeper/volumes"
)

// mounts are the Pod's volumes and the files that Kubernetes gives every container, unless the container itself mounts
// something there.
func (n *Node) mounts(t Target, labels runtime.SELinuxLabels, expand func(string) string) ([]specs.Mount, func(), error) {
	folders, err := n.folders(t)
	if err != nil {
		return nil, nil, err
	}
	resolved, unmount, err := n.Volumes.Mounts(t.Pod, t.Container, volumes.Given{Folders: folders}, expand)
	release := func() {
		if err := unmount(); err != nil {
			n.Log.Warn("subPath stays mounted until the Pod ends", "pod", podName(t.Pod), "container", t.Container.Name, "error", err)
		}
	}
	if err != nil {
		release()
		return nil, nil, err
	}
	var out []specs.Mount
	for i, m := range resolved {
		out = append(out, bind(m.Source, m.Destination, m.Propagation, m.ReadOnly))
		if !isImage(t.Pod, t.Container.VolumeMounts[i].Name) { // which is mapped already
			mapInto(t.Users, &out[len(out)-1])
		}
		if m.Recursive {
			out[len(out)-1].Options = append(out[len(out)-1].Options, "rro")
		}
	}
	file := n.terminationLog(t)
	if err = writeFile(file, nil, 0o666); err == nil {
		err = os.Chmod(file, 0o666) // for any user, whatever the umask
	}
	if err != nil {
		release()
		return nil, nil, fmt.Errorf("make termination log: %w", err)
	}
	sc := t.Container.SecurityContext
	readOnly := sc != nil && sc.ReadOnlyRootFilesystem != nil && *sc.ReadOnlyRootFilesystem
	given := []specs.Mount{
		bind(n.etcFile(t.Pod, "hosts"), "/etc/hosts", "rprivate", readOnly),
		bind(n.etcFile(t.Pod, "hostname"), "/etc/hostname", "rprivate", readOnly),
		bind(n.etcFile(t.Pod, "resolv.conf"), "/etc/resolv.conf", "rprivate", readOnly),
		bind(file, t.Container.TerminationMessagePath, "rprivate", false),
	}
	for i := range given {
		mapInto(t.Users, &given[i])
		if err := runtime.SetSELinuxLabel(given[i].Source, labels.Files); err != nil {
			release()
			return nil, nil, err
		}
	}
	given = append(given, bind(n.shm(t.Pod), "/dev/shm", "rprivate", false)) // which belongs to the user namespace
	for _, m := range given {
		if !slices.ContainsFunc(out, func(own specs.Mount) bool { return filepath.Clean(own.Destination) == m.Destination }) {
			out = append(out, m)
		}
	}
	return out, release, nil
}

// mapInto has a mount be mapped into a user namespace.
func mapInto(users Users, m *specs.Mount) {
	m.UIDMappings, m.GIDMappings = runtime.Users(users).Mappings(), runtime.Users(users).Mappings()
}

func bind(source, destination, propagation string, readOnly bool) specs.Mount {
	options := []string{"rbind", propagation, "rw"}
	if readOnly {
		options[2] = "ro"
	}
	return specs.Mount{Source: source, Destination: destination, Type: "bind", Options: options}
}

// writeFile writes a file, and makes its folder. Until the containers that see it start it may be half-written: it is
// written anew before.
func writeFile(file string, content []byte, mode os.FileMode) error {
	if err := os.MkdirAll(filepath.Dir(file), 0o750); err != nil {
		return fmt.Errorf("write %s: %w", file, err)
	}
	if err := os.WriteFile(file, content, mode); err != nil {
		return fmt.Errorf("write %s: %w", file, err)
	}
	return nil
}
