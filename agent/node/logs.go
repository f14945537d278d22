package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	v1 "k8s.io/api/core/v1"

	"github.com/podkeeper/podkeeper/runtime"
)

// Carry begins to carry a container's output to its log, unless it is carried already.
func (n *Node) Carry(t Target) error {
	_, err := n.carried(t)
	return err
}

func (n *Node) carried(t Target) (*runtime.Log, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	id := t.ID()
	if l := n.logs[id]; l != nil {
		return l, nil
	}
	stdout, stderr := runtime.Pipes(n.runDir(t.Pod), t.Container.Name, t.Attempt)
	l, err := n.Runtime.OpenLog(stdout, stderr, n.logFile(t))
	if err != nil {
		return nil, err
	}
	if err := n.link(t); err != nil {
		n.Log.Warn("log is not linked", "pod", podName(t.Pod), "container", t.Container.Name, "error", err)
	}
	if n.logs == nil {
		n.logs = map[string]*runtime.Log{}
	}
	n.logs[id] = l
	return l, nil
}

// Clean deletes the task of an instance that has ended, when the last of its output is in its log.
func (n *Node) Clean(ctx context.Context, t Target) error {
	// The pipes are gone with the sandbox: then there is nothing to read.
	carried, err := n.carried(t)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := n.Runtime.DeleteTask(ctx, t.SandboxID(), t.ID()); err != nil {
		return err
	}
	n.mu.Lock()
	delete(n.logs, t.ID())
	n.mu.Unlock()
	if carried == nil {
		return nil
	}
	return carried.Finish()
}

// stopCarrying lets go of a container's log, where it is carried.
func (n *Node) stopCarrying(id string) {
	n.mu.Lock()
	carried := n.logs[id]
	delete(n.logs, id)
	n.mu.Unlock()
	if carried != nil {
		_ = carried.Close()
	}
}

// maxLinkName is what a file name may have before ".log".
const maxLinkName = 255 - len(".log")

// logLink is where log collectors look for a container's log, beside the folder of all logs: /var/log/containers
// (kubernetes/kubernetes pkg/kubelet/kuberuntime/legacy.go).
func (n *Node) logLink(t Target) string {
	return n.linkName(t.Pod, fmt.Sprintf("%s-%s", t.Container.Name, t.ID())) + ".log"
}

// linkName is the path of a link of a Pod without ".log". An empty rest gives what all links of the Pod begin with.
func (n *Node) linkName(pod *v1.Pod, rest string) string {
	name := fmt.Sprintf("%s_%s_%s", pod.Name, pod.Namespace, rest)
	return filepath.Join(n.linksDir(), name[:min(len(name), maxLinkName)])
}

func (n *Node) linksDir() string { return filepath.Join(filepath.Dir(n.LogsDir), "containers") }

// unlink removes all links to logs of an instance, by where they lead: which attempts have one depends on when an agent was
// killed. Those of another instance of the Pod stay.
func (n *Node) unlink(pod *v1.Pod) {
	links, _ := filepath.Glob(n.linkName(pod, "") + "*") // no name has a character that Glob knows
	for _, link := range links {
		if file, err := os.Readlink(link); err == nil && filepath.Dir(filepath.Dir(file)) == n.logDir(pod) {
			_ = os.Remove(link)
		}
	}
}

// SweepLinks removes the links that lead to logs of Pods that are gone, as the kubelet does
// (kubernetes/kubernetes pkg/kubelet/kuberuntime/kuberuntime_gc.go, evictPodLogsDirectories). A log that is only being
// rotated has its Pod's folder still.
func (n *Node) SweepLinks() {
	links, _ := filepath.Glob(filepath.Join(n.linksDir(), "*.log"))
	for _, link := range links {
		file, err := os.Readlink(link)
		folder := filepath.Dir(filepath.Dir(file))
		if err != nil || filepath.Dir(folder) != n.LogsDir {
			continue
		}
		if _, err := os.Lstat(folder); errors.Is(err, fs.ErrNotExist) {
			_ = os.Remove(link)
		}
	}
}

// link makes the link to a container's log.
func (n *Node) link(t Target) error {
	link := n.logLink(t)
	if target, err := os.Readlink(link); err == nil && target == n.logFile(t) {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(link), 0o755); err != nil {
		return fmt.Errorf("link log: %w", err)
	}
	if err := os.Remove(link); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("link log: %w", err)
	}
	if err := os.Symlink(n.logFile(t), link); err != nil {
		return fmt.Errorf("link log: %w", err)
	}
	return nil
}
