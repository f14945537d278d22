package node

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/util/uuid"

	"github.com/podkeeper/podkeeper/runtime"
)

// Item is a container that containerd has a record of, by its labels.
type Item struct {
	ID                  string
	Namespace, Pod, UID string
	Container           string // empty for a pause process, which builds before the first release had there
	Attempt             int
	Sandbox             int // attempt of the sandbox that it was made for
	Revision            string
	Users               Users  // of its user namespace
	Ours                bool   // it was made for this root directory
	MountedAt           string // it is an image that is a Pod's volume, and mounted there
}

// IsPause says whether it is a pause process, and so nobody's.
func (i Item) IsPause() bool { return i.Container == "" }

// SandboxID is the id of the sandbox that it was made for.
func (i Item) SandboxID() string {
	if i.IsPause() {
		return i.ID
	}
	return runtime.ID(i.UID, "", i.Sandbox)
}

// Find lists all that any podkeeper has made in containerd's namespace. It is a scan: for the start of the agent, and for
// sweeps.
func (n *Node) Find(ctx context.Context) ([]Item, error) {
	all, err := n.Runtime.List(ctx)
	return n.items(all), err
}

// FindLayers lists what writable layers there are of containers, with a record or without, and images that are volumes.
func (n *Node) FindLayers(ctx context.Context) ([]Item, error) {
	all, err := n.Runtime.ListSnapshots(ctx)
	if err != nil {
		return nil, err
	}
	items := n.items(all)
	mounted, err := n.Runtime.ListImageVolumes(ctx)
	for _, v := range mounted {
		for _, i := range n.items(map[string]map[string]string{v.Key: v.Labels}) {
			i.MountedAt = v.Dir
			items = append(items, i)
		}
	}
	return items, err
}

// items reads the labels of what any podkeeper has made.
func (n *Node) items(all map[string]map[string]string) []Item {
	var items []Item
	for id, labels := range all {
		if labels[labelUID] == "" {
			continue
		}
		attempt, _ := strconv.Atoi(labels[labelAttempt])
		sandbox, _ := strconv.Atoi(labels[labelSandbox])
		var users Users
		_, _ = fmt.Sscanf(labels[labelUsers], "%d:%d", &users.First, &users.Count) // else it has none
		items = append(items, Item{
			ID: id, Namespace: labels[labelNamespace], Pod: labels[labelPod], UID: labels[labelUID], Container: labels[labelContainer],
			Attempt: attempt, Sandbox: sandbox, Revision: labels[labelRevision], Ours: labels[labelIdentity] == n.Identity, Users: users,
		})
	}
	return items
}

// Remove removes one container, or one image that is a volume, by its id alone.
func (n *Node) Remove(ctx context.Context, i Item) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if i.MountedAt != "" {
		return n.Runtime.UnmountImage(ctx, i.ID, i.MountedAt)
	}
	if err := n.Runtime.Delete(ctx, i.ID); err != nil {
		return err
	}
	return n.Runtime.SettleShim(ctx, i.SandboxID())
}

// EndLostShims ends shims but those of the sandboxes that inUse answers; see runtime.
func (n *Node) EndLostShims(inUse func() []string) { n.Runtime.EndLostShims(inUse) }

// CollectNetworks frees what sandboxes that are gone still have of the network. keep is asked late, so that one that is
// made meanwhile is kept.
func (n *Node) CollectNetworks(ctx context.Context, keep func(sandbox string) bool) error {
	return n.Network.GC(ctx, keep)
}

// ReadIdentity is what tells one root directory from another: the content of a file in it, which is made with the folder
// where there is none. A folder that is not mounted yet so has another identity than the one that will be.
func ReadIdentity(rootDir string) (string, error) {
	file := filepath.Join(rootDir, "identity")
	content, err := os.ReadFile(file)
	if identity := strings.TrimSpace(string(content)); err == nil && identity != "" {
		return identity, nil
	}
	if err != nil && !os.IsNotExist(err) {
		return "", fmt.Errorf("read identity: %w", err)
	}
	identity := string(uuid.NewUUID())
	return identity, WriteDurably(file, []byte(identity+"\n"))
}
