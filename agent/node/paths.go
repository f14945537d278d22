package node

import (
	"fmt"
	"path/filepath"

	v1 "k8s.io/api/core/v1"

	"github.com/podkeeper/podkeeper/runtime"
)

// PodsDir is the folder below a root or run directory that has one folder a Pod, named by its UID.
func PodsDir(dir string) string { return filepath.Join(dir, "pods") }

func (n *Node) podDir(pod *v1.Pod) string { return filepath.Join(PodsDir(n.RootDir), string(pod.UID)) }
func (n *Node) runDir(pod *v1.Pod) string { return filepath.Join(PodsDir(n.RunDir), string(pod.UID)) }

func (n *Node) logDir(pod *v1.Pod) string {
	return filepath.Join(n.LogsDir, fmt.Sprintf("%s_%s_%s", pod.Namespace, pod.Name, pod.UID))
}

func (n *Node) logFile(t Target) string {
	return filepath.Join(n.logDir(t.Pod), t.Container.Name, fmt.Sprintf("%d.log", t.Attempt))
}

func (n *Node) terminationDir(pod *v1.Pod) string { return filepath.Join(n.podDir(pod), "termination") }

func (n *Node) terminationLog(t Target) string {
	return filepath.Join(n.terminationDir(t.Pod), fmt.Sprintf("%s.%d", t.Container.Name, t.Attempt))
}

func (n *Node) etcFile(pod *v1.Pod, name string) string {
	return filepath.Join(n.podDir(pod), "etc", name)
}

// seccompDir is where profiles of type Localhost are, as in the kubelet's root directory.
func (n *Node) seccompDir() string { return filepath.Join(n.RootDir, "seccomp") }

func (n *Node) shm(pod *v1.Pod) string {
	if pod.Spec.HostIPC {
		return "/dev/shm"
	}
	return runtime.Shm(n.runDir(pod))
}
