package node

import (
	"context"

	v1 "k8s.io/api/core/v1"

	"github.com/podkeeper/podkeeper/agent/inputs"
	"github.com/podkeeper/podkeeper/volumes"
)

// given is what the Pod's volumes are made of besides the Pod.
func (n *Node) given(pod *v1.Pod) (volumes.Given, error) {
	files, err := inputs.Files(inputs.Facts{Pod: pod, NodeName: n.Name, Capacity: n.capacity()})
	if err != nil {
		return volumes.Given{}, err
	}
	given := volumes.Given{Files: map[string][]volumes.File{}}
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
	given, err := n.given(t.Pod)
	if err != nil {
		return err
	}
	return n.Volumes.Update(t.Pod, given)
}
