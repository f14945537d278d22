package agent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	goruntime "runtime"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	v1 "k8s.io/api/core/v1"
	apiresource "k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/kubectl/pkg/util/fieldpath"
	"k8s.io/kubectl/pkg/util/resource"
	"k8s.io/utils/ptr"

	"github.com/podkeeper/podkeeper/cgroups"
	"github.com/podkeeper/podkeeper/manifests"
	"github.com/podkeeper/podkeeper/network"
	"github.com/podkeeper/podkeeper/runtime"
)

// containerConfig makes everything a container is made of. release ends what is needed only while it is being created.
func (n *Node) containerConfig(ctx context.Context, t target, image runtime.Image) (runtime.ContainerConfig, func(), error) {
	none := runtime.ContainerConfig{}
	env, lookup, err := n.environment(t)
	if err != nil {
		return none, nil, &configFault{"CreateContainerConfigError", err}
	}
	expand := func(s string) string { return manifests.Expand(s, lookup) }
	mounts, release, err := n.mounts(t, expand)
	if err != nil {
		return none, nil, &configFault{"CreateContainerError", err}
	}
	pause, err := n.Runtime.Look(ctx, t.sandboxID())
	if err == nil && pause.PID == 0 {
		err = errors.New("the sandbox is gone")
	}
	if err != nil {
		release()
		return none, nil, fmt.Errorf("find sandbox: %w", err)
	}
	netNS := ""
	if !t.pod.Spec.HostNetwork {
		netNS = n.Network.NetNS(t.sandboxID())
	}
	hostname, err := n.hostname(t.pod)
	if err != nil {
		release()
		return none, nil, &configFault{"CreateContainerConfigError", err}
	}
	cfg := runtime.ContainerConfig{
		ID: t.id(), Labels: n.labels(t), Sandbox: t.sandboxID(), Image: image, Pod: t.pod, Container: t.container,
		Env: env, Hostname: hostname, Mounts: mounts,
		Handler:     ptr.Deref(t.pod.Spec.RuntimeClassName, ""),
		CgroupsPath: n.Cgroups.CgroupsPath(t.pod, t.id()),
		Resources:   cgroups.ContainerResources(t.pod, t.container, n.Cgroups.Config()),
		OOMScoreAdj: max(cgroups.OOMScoreAdj(t.pod, t.container, n.Memory), n.MinOOM),
		Namespaces:  runtime.SandboxNamespaces(pause.PID, netNS, t.pod.Spec.HostIPC),
	}
	cfg.Stdout, cfg.Stderr = runtime.Pipes(n.runDir(t.pod), t.container.Name)
	for _, s := range t.container.Command {
		cfg.Command = append(cfg.Command, expand(s))
	}
	for _, s := range t.container.Args {
		cfg.Args = append(cfg.Args, expand(s))
	}
	return cfg, release, nil
}

// hostname is the name the Pod's processes see: the node's own on its network.
func (n *Node) hostname(pod *v1.Pod) (string, error) {
	if pod.Spec.HostNetwork {
		return os.Hostname()
	}
	name, _, err := network.Hostname(pod, n.DNS.Domain)
	return name, err
}

// environment is the container's own environment in declared order, $(VAR) replaced by what was declared before
// (semantics of kubernetes/kubernetes pkg/kubelet makeEnvironmentVariables).
func (n *Node) environment(t target) (env []string, lookup func(string) (string, bool), err error) {
	known := map[string]string{}
	lookup = func(name string) (string, bool) {
		value, ok := known[name]
		return value, ok
	}
	for i := range t.container.Env {
		e := &t.container.Env[i]
		value := manifests.Expand(e.Value, lookup)
		if e.ValueFrom != nil {
			if value, err = n.valueFrom(t, e.ValueFrom); err != nil {
				return nil, nil, fmt.Errorf("env %s: %w", e.Name, err)
			}
		}
		known[e.Name] = value
		env = append(env, e.Name+"="+value)
	}
	return env, lookup, nil
}

// valueFrom resolves the downward API.
func (n *Node) valueFrom(t target, from *v1.EnvVarSource) (string, error) {
	if ref := from.ResourceFieldRef; ref != nil {
		c := t.container
		if ref.ContainerName != "" {
			at := slices.IndexFunc(allContainers(t.pod), func(c *v1.Container) bool { return c.Name == ref.ContainerName })
			if at < 0 {
				return "", fmt.Errorf("resourceFieldRef: no container %q", ref.ContainerName)
			}
			c = allContainers(t.pod)[at]
		}
		return resource.ExtractContainerResourceValue(ref, n.withNodeLimits(c))
	}
	if from.FieldRef == nil {
		return "", errors.New("valueFrom: neither fieldRef nor resourceFieldRef")
	}
	switch from.FieldRef.FieldPath {
	case "spec.nodeName":
		return n.Name, nil
	case "spec.serviceAccountName":
		return t.pod.Spec.ServiceAccountName, nil
	case "status.podIP":
		return strings.Join(t.ips[:min(1, len(t.ips))], ""), nil
	case "status.podIPs":
		return strings.Join(t.ips, ","), nil
	case "status.hostIP", "status.hostIPs":
		ips, err := network.HostIPs()
		if err != nil || len(ips) == 0 {
			return "", fmt.Errorf("find node's address: %w", err)
		}
		if from.FieldRef.FieldPath == "status.hostIP" {
			ips = ips[:1]
		}
		return joinIPs(ips), nil
	}
	return fieldpath.ExtractFieldPathAsString(t.pod, from.FieldRef.FieldPath)
}

func joinIPs(ips []netip.Addr) string {
	var out []string
	for _, ip := range ips {
		out = append(out, ip.String())
	}
	return strings.Join(out, ",")
}

// capacity is what the node has.
func (n *Node) capacity() v1.ResourceList {
	return v1.ResourceList{
		v1.ResourceCPU:    *apiresource.NewQuantity(int64(goruntime.NumCPU()), apiresource.DecimalSI),
		v1.ResourceMemory: *apiresource.NewQuantity(n.Memory, apiresource.BinarySI),
	}
}

// withNodeLimits is the container with what the node has where it sets no limit itself, as resourceFieldRef sees it.
func (n *Node) withNodeLimits(c *v1.Container) *v1.Container {
	c = c.DeepCopy()
	if c.Resources.Limits == nil {
		c.Resources.Limits = v1.ResourceList{}
	}
	for name, capacity := range n.capacity() {
		if limit := c.Resources.Limits[name]; limit.IsZero() {
			c.Resources.Limits[name] = capacity
		}
	}
	return c
}

// mounts are the Pod's volumes and the files that Kubernetes gives every container, unless the container itself mounts
// something there.
func (n *Node) mounts(t target, expand func(string) string) ([]specs.Mount, func(), error) {
	resolved, unmount, err := n.Volumes.Mounts(t.pod, t.container, expand)
	release := func() {
		if err := unmount(); err != nil {
			n.Log.Warn("subPath stays mounted until the Pod ends", "pod", podName(t.pod), "container", t.container.Name, "error", err)
		}
	}
	if err != nil {
		release()
		return nil, nil, err
	}
	var out []specs.Mount
	for _, m := range resolved {
		out = append(out, bind(m.Source, m.Destination, m.Propagation, m.ReadOnly))
	}
	file := n.terminationLog(t)
	if err = writeFile(file, nil, 0o666); err == nil {
		err = os.Chmod(file, 0o666) // for any user, whatever the umask
	}
	if err != nil {
		release()
		return nil, nil, fmt.Errorf("make termination log: %w", err)
	}
	given := []specs.Mount{
		bind(n.etcFile(t.pod, "hosts"), "/etc/hosts", "rprivate", false),
		bind(n.etcFile(t.pod, "hostname"), "/etc/hostname", "rprivate", false),
		bind(n.etcFile(t.pod, "resolv.conf"), "/etc/resolv.conf", "rprivate", false),
		bind(n.shm(t.pod), "/dev/shm", "rprivate", false),
		bind(file, t.container.TerminationMessagePath, "rprivate", false),
	}
	for _, m := range given {
		if !slices.ContainsFunc(out, func(own specs.Mount) bool { return filepath.Clean(own.Destination) == m.Destination }) {
			out = append(out, m)
		}
	}
	return out, release, nil
}

func bind(source, destination, propagation string, readOnly bool) specs.Mount {
	options := []string{"rbind", propagation, "rw"}
	if readOnly {
		options[2] = "ro"
	}
	return specs.Mount{Source: source, Destination: destination, Type: "bind", Options: options}
}

func (n *Node) etcFile(pod *v1.Pod, name string) string {
	return filepath.Join(n.podDir(pod), "etc", name)
}

func (n *Node) shm(pod *v1.Pod) string {
	if pod.Spec.HostIPC {
		return "/dev/shm"
	}
	return runtime.Shm(n.runDir(pod))
}

func (n *Node) terminationLog(t target) string {
	return filepath.Join(n.podDir(t.pod), "termination", fmt.Sprintf("%s.%d", t.container.Name, t.attempt))
}

// writeNetworkFiles writes the files that name the Pod and its neighbours.
func (n *Node) writeNetworkFiles(pod *v1.Pod, ips []netip.Addr) error {
	hosts, err := os.ReadFile("/etc/hosts")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("read the node's hosts: %w", err)
	}
	var resolv []byte
	if n.ResolvConf != "" {
		if resolv, err = os.ReadFile(n.ResolvConf); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("read the node's resolv.conf: %w", err)
		}
	}
	resolv, warnings := network.ResolvConf(pod, resolv, n.DNS)
	for _, w := range warnings {
		n.Log.Warn("resolv.conf is cut", "pod", podName(pod), "reason", w)
	}
	name, err := n.hostname(pod)
	if err != nil {
		return err
	}
	files := map[string][]byte{"hosts": n.DNS.Hosts(pod, ips, hosts), "hostname": []byte(name + "\n"), "resolv.conf": resolv}
	for file, content := range files {
		if err := writeFile(n.etcFile(pod, file), content, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// Limits of a termination message (kubernetes/kubernetes pkg/kubelet/container).
const (
	maxMessage       = 4096
	maxMessageLog    = 2048
	maxMessageLines  = 80
	maxMessagesOfPod = 12 << 10
)

// Exit reports how an instance ended.
func (n *Node) Exit(t target, c runtime.Container, startedAt time.Time) *v1.ContainerStateTerminated {
	exit := &v1.ContainerStateTerminated{
		ExitCode: int32(c.ExitCode), Reason: "Error", ContainerID: "containerd://" + t.id(),
		StartedAt: metav1.NewTime(startedAt), FinishedAt: metav1.NewTime(c.ExitedAt),
	}
	if c.ExitCode == 0 {
		exit.Reason = "Completed"
	}
	exit.Message = head(n.terminationLog(t), messageLimit(t.pod))
	return exit
}

// OOMKilled says whether a container ran out of memory: of the kills in its Pod's cgroup, told were told of before. It is
// called before the task is deleted, and the container's own cgroup with it.
func (n *Node) OOMKilled(t target, told uint64) (killed bool, now uint64) {
	killed, now, err := n.Cgroups.OOMKilled(t.pod, t.id(), told)
	if err != nil {
		n.Log.Warn("cannot tell whether a container ran out of memory", "pod", t.pod.Namespace+"/"+t.pod.Name, "container", t.container.Name, "error", err)
	}
	return killed, now
}

// messageLimit is a container's share of what the termination messages of a Pod may take.
func messageLimit(pod *v1.Pod) int { return min(maxMessage, maxMessagesOfPod/len(allContainers(pod))) }

// LogMessage is the end of a log, for a container that failed without a word. The log must be complete: after Clean.
func (n *Node) LogMessage(t target) string {
	return lastLines(n.logFile(t), min(maxMessageLog, messageLimit(t.pod)))
}

func head(file string, limit int) string {
	f, err := os.Open(file)
	if err != nil {
		return ""
	}
	defer f.Close()
	content, _ := io.ReadAll(io.LimitReader(f, int64(limit)))
	return string(content)
}

// lastLines are the last lines of a log in CRI's format, without time and stream.
func lastLines(file string, limit int) string {
	content, err := os.ReadFile(file)
	if err != nil {
		return ""
	}
	lines := bytes.Split(bytes.TrimSuffix(content, []byte("\n")), []byte("\n"))
	lines = lines[max(0, len(lines)-maxMessageLines):]
	var text []byte
	for _, line := range lines {
		if fields := bytes.SplitN(line, []byte(" "), 4); len(fields) == 4 {
			text = append(text, fields[3]...)
			if string(fields[2]) != "P" { // else the line goes on in the next one
				text = append(text, '\n')
			}
		}
	}
	return string(text[max(0, len(text)-limit):])
}
