package agent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/moby/sys/signal"
	"golang.org/x/sync/errgroup"
	v1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"

	"github.com/podkeeper/podkeeper/cgroups"
	"github.com/podkeeper/podkeeper/network"
	"github.com/podkeeper/podkeeper/runtime"
	"github.com/podkeeper/podkeeper/volumes"
)

// Labels of what is made in containerd, by which it is found again.
const (
	labelNamespace = "io.kubernetes.pod.namespace"
	labelPod       = "io.kubernetes.pod.name"
	labelUID       = "io.kubernetes.pod.uid"
	labelContainer = "io.kubernetes.container.name"
	labelAttempt   = "podkeeper/attempt"
	labelRevision  = "podkeeper/revision"
)

// Node is where Pods run: the leaves behind what a worker does, and where their files are.
type Node struct {
	Runtime    *runtime.Runtime
	Network    *network.Network
	Volumes    *volumes.Volumes
	Cgroups    *cgroups.Tree
	DNS        network.ClusterDNS
	ResolvConf string // the node's file that Pods' are made from; empty is none
	Name       string
	RootDir    string // pods/<uid>: instance record, volumes, what containers have mounted
	RunDir     string // pods/<uid>: pipes and /dev/shm
	LogsDir    string
	Timeout    time.Duration // of one request to containerd (runtimeRequestTimeout)
	Memory     int64         // bytes the node has
	MinOOM     int           // the lowest oom_score_adj that may be written
	Log        *slog.Logger

	mu   sync.Mutex
	logs map[string]*runtime.Log // by container id, of the containers whose output is carried now
}

// maxExecOutput is how much of what a command writes is kept, as for the kubelet's probes.
const maxExecOutput = 10 << 10

// target is one container of a Pod's instance, or its sandbox. It is a copy: actions may read it while the worker goes on.
type target struct {
	pod       *v1.Pod
	revision  string
	sandbox   int           // attempt of the sandbox
	ips       []string      // of the sandbox
	container *v1.Container // nil for the sandbox
	attempt   int
	leftover  bool   // an earlier start of this attempt was cut off
	signal    string // the image's STOPSIGNAL
}

func (t target) sandboxID() string { return runtime.ID(string(t.pod.UID), "", t.sandbox) }
func (t target) id() string        { return t.idOf(t.attempt) }
func (t target) idOf(attempt int) string {
	return runtime.ID(string(t.pod.UID), t.container.Name, attempt)
}

func (n *Node) podDir(pod *v1.Pod) string { return filepath.Join(n.RootDir, "pods", string(pod.UID)) }
func (n *Node) runDir(pod *v1.Pod) string { return filepath.Join(n.RunDir, "pods", string(pod.UID)) }

func (n *Node) logDir(pod *v1.Pod) string {
	return filepath.Join(n.LogsDir, fmt.Sprintf("%s_%s_%s", pod.Namespace, pod.Name, pod.UID))
}

func (n *Node) logFile(t target) string {
	return filepath.Join(n.logDir(t.pod), t.container.Name, fmt.Sprintf("%d.log", t.attempt))
}

func (n *Node) labels(t target) map[string]string {
	labels := map[string]string{
		labelNamespace: t.pod.Namespace, labelPod: t.pod.Name, labelUID: string(t.pod.UID), labelContainer: "",
		labelAttempt: fmt.Sprint(t.sandbox), labelRevision: t.revision,
	}
	if t.container != nil {
		labels[labelContainer], labels[labelAttempt] = t.container.Name, fmt.Sprint(t.attempt)
	}
	return labels
}

// LookSandbox says whether the pause process runs.
func (n *Node) LookSandbox(ctx context.Context, t target) (bool, error) {
	c, err := n.Runtime.Look(ctx, t.sandboxID())
	return c.State == runtime.Running, err
}

// LookContainer looks at a container, and sees to it that the output of one that runs is carried to its log.
func (n *Node) LookContainer(ctx context.Context, t target) (runtime.Container, error) {
	c, err := n.Runtime.Look(ctx, t.id())
	if err == nil && (c.State == runtime.Running || c.State == runtime.Stopped) {
		_, err = n.carryLog(t)
	}
	return c, err
}

// CreateSandbox makes what the containers of a Pod share, the network and the pause process at the same time, and answers
// the Pod's addresses.
func (n *Node) CreateSandbox(ctx context.Context, t target) ([]string, error) {
	if err := n.Volumes.Setup(t.pod); err != nil {
		return nil, err
	}
	if err := n.Cgroups.Ensure(t.pod); err != nil {
		return nil, fmt.Errorf("make cgroup: %w", err)
	}
	id, host := t.sandboxID(), t.pod.Spec.HostNetwork
	netNS := ""
	if !host {
		if err := n.Network.CreateNetNS(id); err != nil {
			return nil, fmt.Errorf("make network namespace: %w", err)
		}
		netNS = n.Network.NetNS(id)
	}
	hostname, err := n.hostname(t.pod)
	if err != nil {
		return nil, err
	}
	var ips []netip.Addr
	work, ctx := errgroup.WithContext(ctx)
	work.Go(func() (err error) {
		if host {
			ips, err = network.HostIPs()
		} else {
			ips, err = n.Network.Add(ctx, networkSandbox(t))
		}
		if err != nil {
			return fmt.Errorf("set up network: %w", err)
		}
		return n.writeNetworkFiles(t.pod, ips)
	})
	work.Go(func() error {
		return n.Runtime.StartSandbox(ctx, runtime.SandboxConfig{
			ID: id, Handler: ptr.Deref(t.pod.Spec.RuntimeClassName, ""), Labels: n.labels(t), Dir: n.runDir(t.pod), Hostname: hostname, NetNS: netNS,
			HostIPC: t.pod.Spec.HostIPC, HostPID: t.pod.Spec.HostPID,
			CgroupsPath: n.Cgroups.CgroupsPath(t.pod, id), OOMScoreAdj: max(cgroups.SandboxOOMScoreAdj, n.MinOOM),
			Containers: containerNames(t.pod),
		})
	})
	if err := work.Wait(); err != nil {
		return nil, err
	}
	out := make([]string, 0, len(ips))
	for _, ip := range ips {
		out = append(out, ip.String())
	}
	return out, nil
}

func networkSandbox(t target) network.Sandbox {
	s := network.Sandbox{ID: t.sandboxID(), PodNamespace: t.pod.Namespace, PodName: t.pod.Name, PodUID: string(t.pod.UID)}
	for _, c := range allContainers(t.pod) {
		for _, p := range c.Ports {
			if p.HostPort != 0 {
				s.Ports = append(s.Ports, network.Port{
					HostPort: p.HostPort, ContainerPort: p.ContainerPort, Protocol: string(p.Protocol), HostIP: p.HostIP,
				})
			}
		}
	}
	return s
}

func containerNames(pod *v1.Pod) []string {
	var names []string
	for _, c := range allContainers(pod) {
		names = append(names, c.Name)
	}
	return names
}

// RemoveSandbox removes the pause process and the network. Containers are left alone.
func (n *Node) RemoveSandbox(ctx context.Context, t target) error {
	if t.sandbox < 0 {
		return nil
	}
	// Both are tried: what is left of one must not keep the other.
	err := n.Runtime.DeleteSandbox(ctx, t.sandboxID(), n.runDir(t.pod))
	if !t.pod.Spec.HostNetwork {
		err = errors.Join(err, n.Network.Remove(ctx, networkSandbox(t)))
	}
	return err
}

// Prepare makes image and writable layer of an instance ready, and at the same time cleans up after the one before.
func (n *Node) Prepare(ctx context.Context, t target, clean bool, pulling func()) (runtime.Pull, error) {
	var pull runtime.Pull
	work, ctx := errgroup.WithContext(ctx)
	if clean {
		last := t
		last.attempt--
		work.Go(func() error { return n.Clean(ctx, last) })
	}
	work.Go(func() (err error) {
		pull, err = n.Runtime.EnsureImage(ctx, t.container.Image, t.container.ImagePullPolicy, pulling)
		if err != nil {
			return err
		}
		return n.Runtime.PrepareContainer(ctx, t.id(), pull.Image)
	})
	return pull, work.Wait()
}

// configFault is an error in what a container is to be made of: nothing was run.
type configFault struct {
	reason string // CreateContainerConfigError or CreateContainerError
	err    error
}

func (f *configFault) Error() string { return f.err.Error() }
func (f *configFault) Unwrap() error { return f.err }

// Start makes the instance that was prepared and starts it, and removes the one before it. It answers when the main
// process began.
func (n *Node) Start(ctx context.Context, t target, image runtime.Image) (time.Time, error) {
	if t.leftover {
		if err := n.Runtime.Delete(ctx, t.id()); err != nil {
			return time.Time{}, err
		}
		if err := n.Runtime.PrepareContainer(ctx, t.id(), image); err != nil {
			return time.Time{}, err
		}
	}
	cfg, release, err := n.containerConfig(ctx, t, image)
	if err != nil {
		return time.Time{}, err
	}
	defer release()
	if err := n.Runtime.CreateContainer(ctx, cfg); err != nil {
		return time.Time{}, &configFault{"CreateContainerConfigError", err}
	}
	if _, err := n.carryLog(t); err != nil {
		return time.Time{}, &configFault{"CreateContainerError", err}
	}
	if err := n.Runtime.StartContainer(ctx, cfg, nil); err != nil {
		return time.Time{}, err
	}
	started := time.Now()
	if t.attempt > 0 {
		n.removeOld(ctx, t)
	}
	return started, nil
}

// removeOld removes the instance before, and the log of the one before that: one dead instance can be read.
func (n *Node) removeOld(ctx context.Context, t target) {
	if err := n.Runtime.Delete(ctx, t.idOf(t.attempt-1)); err != nil {
		n.Log.Warn("old container stays until the agent starts again", "pod", podName(t.pod), "container", t.container.Name, "error", err)
	}
	if t.attempt < 2 {
		return
	}
	old := t
	old.attempt -= 2
	files, _ := filepath.Glob(n.logFile(old) + "*")
	for _, f := range files {
		_ = os.Remove(f)
	}
	_ = os.Remove(n.terminationLog(old))
}

// Signal sends the stop signal of the image, or with kill SIGKILL to everything in the container.
func (n *Node) Signal(ctx context.Context, t target, kill bool) error {
	sig := syscall.SIGTERM
	if t.signal != "" {
		if parsed, err := signal.ParseSignal(t.signal); err == nil {
			sig = parsed
		}
	}
	if kill {
		sig = syscall.SIGKILL
	}
	err := n.Runtime.Signal(ctx, t.id(), sig, kill)
	if err != nil && kill {
		// A runtime that does not answer must not keep a container alive.
		return errors.Join(err, n.Cgroups.Kill(context.WithoutCancel(ctx), t.pod, t.id()))
	}
	return err
}

// Exec runs a command in a container.
func (n *Node) Exec(ctx context.Context, t target, command []string) (int, []byte, error) {
	return n.Runtime.Exec(ctx, t.id(), filepath.Join(n.runDir(t.pod), "exec"), command, maxExecOutput)
}

// Clean deletes the task of an instance that has ended, when the last of its output is in its log.
func (n *Node) Clean(ctx context.Context, t target) error {
	// The pipes are gone with the sandbox: then there is nothing to read.
	carried, err := n.carryLog(t)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := n.Runtime.DeleteTask(ctx, t.id()); err != nil {
		return err
	}
	n.mu.Lock()
	delete(n.logs, t.id())
	n.mu.Unlock()
	if carried == nil {
		return nil
	}
	return carried.Finish()
}

// carryLog begins to carry a container's output, or answers that it is carried.
func (n *Node) carryLog(t target) (*runtime.Log, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	id := t.id()
	if l := n.logs[id]; l != nil {
		return l, nil
	}
	stdout, stderr := runtime.Pipes(n.runDir(t.pod), t.container.Name)
	l, err := n.Runtime.OpenLog(stdout, stderr, n.logFile(t))
	if err != nil {
		return nil, err
	}
	if n.logs == nil {
		n.logs = map[string]*runtime.Log{}
	}
	n.logs[id] = l
	return l, nil
}

// Teardown removes all that a Pod's instance has had in containerd and on the network, attempts being the latest of each
// container. Nothing may run any more. What is left to do then is Sweep's.
func (n *Node) Teardown(ctx context.Context, t target, attempts map[string]int) error {
	var work errgroup.Group
	for _, c := range allContainers(t.pod) {
		// From the next one, which may be prepared, to the one before, which may not have been removed.
		for attempt := max(0, attempts[c.Name]-1); attempt <= attempts[c.Name]+1; attempt++ {
			work.Go(func() error { return n.remove(ctx, target{pod: t.pod, container: c, attempt: attempt}) })
		}
	}
	if err := work.Wait(); err != nil {
		return err
	}
	return n.RemoveSandbox(ctx, t)
}

// remove removes one instance of a container, without its log.
func (n *Node) remove(ctx context.Context, t target) error {
	n.mu.Lock()
	carried := n.logs[t.id()]
	delete(n.logs, t.id())
	n.mu.Unlock()
	if carried != nil {
		_ = carried.Close()
	}
	return n.Runtime.Delete(ctx, t.id())
}

// Sweep removes the rest of an instance that is torn down: cgroup, volumes, logs, and last the record of the instance.
func (n *Node) Sweep(pod *v1.Pod) error {
	if err := n.Cgroups.Remove(pod); err != nil {
		// A process that the runtime has lost sight of is still in there.
		if err := errors.Join(n.Cgroups.Kill(context.Background(), pod, ""), n.Cgroups.Remove(pod)); err != nil {
			return fmt.Errorf("remove cgroup: %w", err)
		}
	}
	if err := os.RemoveAll(n.logDir(pod)); err != nil {
		return fmt.Errorf("remove logs: %w", err)
	}
	return n.sweepDirs(pod)
}

// sweepDirs removes the folders of an instance.
func (n *Node) sweepDirs(pod *v1.Pod) error {
	if err := os.RemoveAll(n.runDir(pod)); err != nil {
		return fmt.Errorf("remove sandbox folder: %w", err)
	}
	// The volumes go first, so that no mount is left below when the folder is removed.
	if err := n.Volumes.Teardown(pod.UID); err != nil {
		return err
	}
	for _, file := range []string{"etc", "termination"} {
		if err := os.RemoveAll(filepath.Join(n.podDir(pod), file)); err != nil {
			return fmt.Errorf("remove instance: %w", err)
		}
	}
	for _, file := range []string{instanceFile + ".tmp", instanceFile, "."} {
		if err := os.Remove(filepath.Join(n.podDir(pod), file)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove instance: %w", err)
		}
	}
	return nil
}

// Close stops carrying output; containers run on.
func (n *Node) Close() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	var errs []error
	for _, l := range n.logs {
		errs = append(errs, l.Close())
	}
	n.logs = nil
	return errors.Join(errs...)
}

// podName is how a Pod is named in logs.
func podName(pod *v1.Pod) string { return pod.Namespace + "/" + pod.Name }
