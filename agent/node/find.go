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

// Item is a container or a sandbox that containerd has a record of, by its labels.
type Item struct {
	ID                  string
	Namespace, Pod, UID string
	Container           string // empty for a sandbox
	Attempt             int
	Revision            string
	Ours                bool // it was made for this root directory
}

// IsSandbox says whether it is a Pod's sandbox.
func (i Item) IsSandbox() bool { return i.Container == "" }

// Find lists all that any podkeeper has made in containerd's namespace. It is a scan: for the start of the agent, and for
// sweeps.
func (n *Node) Find(ctx context.Context) ([]Item, error) {
	all, err := n.Runtime.List(ctx)
	return n.items(all), err
}

// FindLayers lists what writable layers there are of containers, with a record or without.
func (n *Node) FindLayers(ctx context.Context) ([]Item, error) {
	all, err := n.Runtime.ListSnapshots(ctx)
	return n.items(all), err
}

// items reads the labels of what any podkeeper has made.
func (n *Node) items(all map[string]map[string]string) []Item {
	var items []Item
	for id, labels := range all {
		if labels[labelUID] == "" {
			continue
		}
		attempt, _ := strconv.Atoi(labels[labelAttempt])
		items = append(items, Item{
			ID: id, Namespace: labels[labelNamespace], Pod: labels[labelPod], UID: labels[labelUID], Container: labels[labelContainer],
			Attempt: attempt, Revision: labels[labelRevision], Ours: labels[labelIdentity] == n.Identity,
		})
	}
	return items
}

// Remove removes one container or sandbox by its id alone. The folder that the sandboxes of its Pod share stays.
func (n *Node) Remove(ctx context.Context, i Item) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if i.IsSandbox() {
		if err := n.Runtime.DeleteSandbox(ctx, i.ID, ""); err != nil {
			return err
		}
	}
	return n.Runtime.Delete(ctx, i.ID)
}

// EndLostShims ends shims that serve no container; see runtime.
func (n *Node) EndLostShims(inUse func(sandbox string) bool) { n.Runtime.EndLostShims(inUse) }

// HasTask says whether something of a container runs, or this cannot be told.
func (n *Node) HasTask(ctx context.Context, id string) bool {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	c, err := n.Runtime.Look(ctx, id)
	return err != nil || c.State != runtime.Absent
}

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
