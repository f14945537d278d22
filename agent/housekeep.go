package agent

import (
	"context"
	"errors"
	"os"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/podkeeper/podkeeper/agent/node"
)

// sweepEvery is how often the node is searched for what belongs to no Pod.
const sweepEvery = 5 * time.Minute

// housekeep searches the node, at the start and from time to time, for what belongs to no Pod: what could not be removed
// when its time came, and what is nobody's fault.
func (a *Agent) housekeep(ctx context.Context) {
	ticker := time.NewTicker(sweepEvery)
	defer ticker.Stop()
	for ctx.Err() == nil {
		a.sweepNode(ctx)
		select {
		case <-ctx.Done():
		case <-ticker.C:
		}
	}
}

// sweepNode removes links to no log, and containers, sandboxes, layers and folders of UIDs that no worker has claimed. A
// worker claims before it makes anything, and so does the sweep.
func (a *Agent) sweepNode(ctx context.Context) {
	a.node.SweepLinks()
	a.noteEnded()
	limited, cancel := context.WithTimeout(ctx, listTimeout)
	items, err := a.node.Find(limited)
	layers, layersErr := a.node.FindLayers(limited)
	cancel()
	if err = errors.Join(err, layersErr); err != nil {
		a.log.Warn("node is not swept", "error", err)
		return
	}
	found := map[string][]node.Item{} // to remove a container is to remove its layer
	for _, uid := range a.node.Folders() {
		found[uid] = nil
	}
	for _, i := range append(items, layers...) {
		if i.Ours {
			found[i.UID] = append(found[i.UID], i)
		}
	}
	for uid, items := range found {
		if a.reserve(types.UID(uid)) {
			a.sweepUID(ctx, uid, items)
			a.freeUID(types.UID(uid))
		}
	}
}

// sweepUID removes what is left of an instance. Where its record could not be read, its folders stay.
func (a *Agent) sweepUID(ctx context.Context, uid string, items []node.Item) {
	kept := setAsideFor(a.podsDir, uid)
	if kept && len(items) == 0 {
		return
	}
	a.log.Info("remove what belongs to no pod", "uid", uid)
	var errs []error
	for _, i := range items {
		errs = append(errs, a.node.Remove(ctx, i))
	}
	if !kept {
		errs = append(errs, a.node.RemoveFolders(ctx, uid))
	}
	if err := errors.Join(errs...); err != nil {
		a.log.Warn("leftover of a pod stays until the next sweep", "uid", uid, "error", err)
	}
}

// setAsideFor says whether there is a record that could not be read: then nothing of its Pod is removed.
func setAsideFor(podsDir, uid string) bool {
	_, err := os.Lstat(recordFile(podsDir, uid) + setAside)
	return err == nil
}
