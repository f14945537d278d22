package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sync/errgroup"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/podkeeper/podkeeper/agent/plan"
	"github.com/podkeeper/podkeeper/runtime"
)

// RecordFile is the name of the record of an instance in its folder: the last that Forget removes.
const RecordFile = "pod.json"

// RemoveOld removes what the instance before has had in the runtime, when the last of its output is in its log, and the logs of
// those before that: one dead instance can be read.
func (n *Node) RemoveOld(ctx context.Context, t Target) error {
	if t.Uncleaned {
		if err := n.Clean(ctx, t.Of(t.Attempt-1)); err != nil {
			return err
		}
	}
	n.removeOldLogs(t)
	return n.Runtime.Delete(ctx, t.Of(t.Attempt-1).ID())
}

// removeOldLogs removes what instances before the last one have left to read: more than one has where an agent was killed.
func (n *Node) removeOldLogs(t Target) {
	for pattern, prefix := range map[string]string{
		filepath.Join(filepath.Dir(n.logFile(t)), "*.log*"):                     "",
		filepath.Join(filepath.Dir(n.terminationLog(t)), t.Container.Name+".*"): t.Container.Name + ".",
	} {
		files, _ := filepath.Glob(pattern)
		for _, file := range files {
			number, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(file), prefix), ".")
			attempt, err := strconv.Atoi(number)
			if err != nil || attempt >= t.Attempt-1 {
				continue
			}
			_ = os.Remove(file)
			_ = os.Remove(n.logLink(t.Of(attempt)))
		}
	}
}

// Teardown removes all that a Pod's instance has had in containerd and on the network, attempts being the latest of each
// container. When it succeeds, or answers a Leftover, nothing runs any more. A runtime that hangs is helped: the kernel ends
// what it can, and the shim goes.
func (n *Node) Teardown(ctx context.Context, t Target, attempts map[string]int) error {
	gentle, cancel := context.WithTimeout(ctx, patience)
	err := n.removeContainers(gentle, t, attempts)
	cancel()
	if err != nil && !IsAway(err) {
		n.Log.Warn("the runtime does not remove a pod: its shim is ended", "pod", podName(t.Pod), "error", err)
		killErr := n.Cgroups.Kill(ctx, t.Pod, "")
		err = errors.Join(killErr, n.Runtime.EndShim(t.SandboxID()), n.removeContainers(ctx, t, attempts))
	}
	if err != nil {
		return err
	}
	return n.RemoveSandbox(ctx, t)
}

func (n *Node) removeContainers(ctx context.Context, t Target, attempts map[string]int) error {
	var work errgroup.Group
	for _, c := range plan.Containers(t.Pod) {
		of := t
		of.Container = c
		// From the next one, which may be prepared, to the one before, which may not have been removed.
		for attempt := max(0, attempts[c.Name]-1); attempt <= attempts[c.Name]+1; attempt++ {
			id := of.Of(attempt).ID()
			work.Go(func() error {
				n.stopCarrying(id)
				return n.Runtime.Delete(ctx, id)
			})
		}
	}
	return work.Wait()
}

// Release gives back what an instance that is torn down still holds: its network, where detached does not say that it is
// off it, its cgroup, its volumes and its sandbox's folder. Logs and record stay.
func (n *Node) Release(ctx context.Context, t Target, detached bool) error {
	var errs []error
	if !detached {
		if err := n.detach(ctx, t); err != nil {
			errs = append(errs, fmt.Errorf("free network: %w", err))
		}
	}
	if id := n.Sandboxes.Recorded(n.runDir(t.Pod)); id != "" { // of an instance whose own record is lost
		errs = append(errs, n.Sandboxes.Delete(ctx, id, n.runDir(t.Pod)), n.Runtime.EndShim(id))
	}
	if err := n.Cgroups.Remove(t.Pod); err != nil {
		// A process that the runtime has lost sight of is still in there.
		if err := errors.Join(n.Cgroups.Kill(ctx, t.Pod, ""), n.Cgroups.Remove(t.Pod)); err != nil {
			errs = append(errs, fmt.Errorf("remove cgroup: %w", err))
		}
	}
	if err := runtime.DeleteSandboxDir(n.runDir(t.Pod)); err != nil {
		errs = append(errs, err)
	} else if err := os.RemoveAll(n.runDir(t.Pod)); err != nil {
		errs = append(errs, fmt.Errorf("remove sandbox folder: %w", err))
	}
	if err := n.unmountImages(ctx, t.Pod); err != nil {
		errs = append(errs, err)
	}
	if err := n.Volumes.Teardown(ctx, t.Pod.UID); err != nil {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// Forget removes the last of an instance that is released: its logs and, at the very end, its record.
func (n *Node) Forget(pod *v1.Pod) error {
	n.unlink(pod)
	if err := os.RemoveAll(n.logDir(pod)); err != nil {
		return fmt.Errorf("remove logs: %w", err)
	}
	return n.forgetFolder(pod)
}

// forgetFolder removes an instance's folder, its record at the very end.
func (n *Node) forgetFolder(pod *v1.Pod) error {
	dir := n.podDir(pod)
	for _, folder := range []string{"etc", "termination"} {
		if err := os.RemoveAll(filepath.Join(dir, folder)); err != nil {
			return fmt.Errorf("remove instance: %w", err)
		}
	}
	records, _ := filepath.Glob(filepath.Join(dir, RecordFile+".*"))
	for _, file := range append(records, filepath.Join(dir, RecordFile), dir) {
		if err := os.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove instance: %w", err)
		}
	}
	return nil
}

// Folders are the UIDs for which there are folders below the root or the run directory.
func (n *Node) Folders() []string {
	seen := map[string]bool{}
	var uids []string
	for _, dir := range []string{n.RootDir, n.RunDir} {
		entries, _ := os.ReadDir(PodsDir(dir)) // none is none
		for _, e := range entries {
			if !seen[e.Name()] {
				seen[e.Name()] = true
				uids = append(uids, e.Name())
			}
		}
	}
	return uids
}

// RemoveFolders removes the folders of an instance of which nothing but its UID is known.
func (n *Node) RemoveFolders(ctx context.Context, uid string) error {
	t := Target{Pod: &v1.Pod{ObjectMeta: metav1.ObjectMeta{UID: types.UID(uid)}}, Sandbox: -1}
	if err := n.Release(ctx, t, true); err != nil {
		return err
	}
	return n.forgetFolder(t.Pod)
}
