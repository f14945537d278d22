package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	v1 "k8s.io/api/core/v1"

	"github.com/podkeeper/podkeeper/agent/inputs"
	"github.com/podkeeper/podkeeper/manifests"
	"github.com/podkeeper/podkeeper/runtime"
	"github.com/podkeeper/podkeeper/volumes"
)

// FailedMount is the reason of a Fault about a volume (kubernetes/kubernetes pkg/kubelet/events).
const FailedMount = "FailedMount"

// given is what the Pod's volumes are made of besides the Pod. Its error is a Fault.
func (n *Node) given(t Target) (given volumes.Given, err error) {
	if given.Files, err = n.files(t); err == nil {
		given.Folders, err = n.folders(t)
	}
	return given, err
}

// files are what the Pod's volumes say that consist of files, by the volume's name: of all for which that can be told. The
// error, a Fault, is about the others.
func (n *Node) files(t Target) (map[string][]volumes.File, error) {
	files, err := inputs.Files(inputs.Facts{
		Pod: t.Pod, NodeName: n.Name, Capacity: n.unset(), Objects: t.Objects,
		Token: func(from *v1.ServiceAccountTokenProjection, account *v1.ServiceAccount) (string, error) {
			return n.podToken(t.Pod, from, account)
		},
	})
	out := map[string][]volumes.File{}
	for name, of := range files {
		out[name] = make([]volumes.File, len(of))
		for i, f := range of {
			out[name][i] = volumes.File(f)
		}
	}
	if err != nil {
		return out, &Fault{FailedMount, err}
	}
	return out, nil
}

// maxEnvFile is the size of a file up to which it is searched for variables, in bytes.
const maxEnvFile = 1 << 20

// envFile answers what a file of a volume of the Pod's gives a variable, if that is there.
func (n *Node) envFile(t Target, from *v1.FileKeySelector) (value string, found bool, err error) {
	file, err := n.Volumes.OpenFile(t.Pod, from.VolumeName, from.Path, volumes.Given{})
	if errors.Is(err, fs.ErrNotExist) {
		return "", false, nil
	}
	if err != nil {
		return "", false, err
	}
	defer file.Close()
	if info, err := file.Stat(); err != nil || info.Size() > maxEnvFile {
		return "", false, errors.Join(fmt.Errorf("file %q of volume %q: it has more than %d bytes", from.Path, from.VolumeName, maxEnvFile), err)
	}
	value, err = manifests.EnvValue(fmt.Sprintf("/proc/self/fd/%d", file.Fd()), from.Key)
	if err != nil {
		return "", false, fmt.Errorf("couldn't parse env file %q of volume %q: %w", from.Path, from.VolumeName, err)
	}
	return value, true, nil
}

// RecursiveReadOnly says whether the kernel can make all that is mounted below a mount read-only.
func RecursiveReadOnly() bool { return volumes.RecursiveReadOnly() }

// AppArmor says why no AppArmor profile can be set on this host, nil where one can.
func AppArmor() error { return runtime.AppArmor() }

// Refresh brings the files in the Pod's volumes up to date with the Pod, as containers see them.
func (n *Node) Refresh(_ context.Context, t Target) error {
	files, err := n.files(t)
	failed := n.Volumes.Update(t.Pod, volumes.Given{Files: files})
	if err != nil {
		return err // which Update has noticed, too
	}
	return failed
}
