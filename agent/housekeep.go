package agent

import (
	"context"
	"errors"
	"os"
	"time"

	"k8s.io/apimachinery/pkg/types"
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

// sweepNode removes containers, sandboxes and folders of UIDs that no worker has claimed. A worker claims before it makes
// anything, and the lists are read before the claims.
func (a *Agent) sweepNode(ctx context.Context) {
	limited, cancel := context.WithTimeout(ctx, listTimeout)
	items, err := a.node.Find(limited)
	layers, layersErr := a.node.FindLayers(limited)
	cancel()
	if err = errors.Join(err, layersErr); err != nil {
		a.log.Warn("node is not swept", "error", err)
		return
	}
	for _, i := range append(items, layers...) { // to remove a container is to remove its layer
		if !i.Ours || a.claimed(types.UID(i.UID)) {
			continue
		}
		a.log.Info("remove stray container", "id", i.ID, "pod", i.Namespace+"/"+i.Pod, "container", i.Container)
		if err := a.node.Remove(ctx, i); err != nil {
			a.log.Warn("stray container stays until the next sweep", "id", i.ID, "error", err)
		}
	}
	for _, uid := range a.node.Folders() {
		if a.claimed(types.UID(uid)) || setAsideFor(a.podsDir, uid) {
			continue
		}
		if err := a.node.RemoveFolders(ctx, uid); err != nil {
			a.log.Warn("leftover of a pod stays", "uid", uid, "error", err)
		}
	}
}

// setAsideFor says whether there is a record that could not be read: then nothing of its Pod is removed.
func setAsideFor(podsDir, uid string) bool {
	_, err := os.Lstat(recordFile(podsDir, uid) + setAside)
	return err == nil
}
