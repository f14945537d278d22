package node

import (
	"context"

	"github.com/podkeeper/podkeeper/agent/inputs"
	"github.com/podkeeper/podkeeper/volumes"
)

// FailedMount is the reason of a Fault about a volume (kubernetes/kubernetes pkg/kubelet/events).
const FailedMount = "FailedMount"

// given is what the Pod's volumes are made of besides the Pod. Its error is a Fault.
func (n *Node) given(t Target) (volumes.Given, error) {
	files, err := inputs.Files(inputs.Facts{Pod: t.Pod, NodeName: n.Name, Capacity: n.capacity(), Objects: t.Objects})
	if err != nil {
		return volumes.Given{}, &Fault{FailedMount, err}
	}
	given := volumes.Given{Files: map[string][]volumes.File{}}
	if given.Folders, err = n.folders(t); err != nil {
		return volumes.Given{}, err
	}
	for name, of := range files {
		given.Files[name] = make([]volumes.File, len(of))
		for i, f := range of {
			given.Files[name][i] = volumes.File(f)
		}
	}
	return given, nil
}

// RecursiveReadOnly says whether the kernel can make all that is mounted below a mount read-only.
func RecursiveReadOnly() bool { return volumes.RecursiveReadOnly() }

// Refresh brings the files in the Pod's volumes up to date with the Pod, as containers see them.
func (n *Node) Refresh(_ context.Context, t Target) error {
	given, err := n.given(t)
	if err != nil {
		return err
	}
	return n.Volumes.Update(t.Pod, given)
}
