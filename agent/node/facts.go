package node

import (
	"context"
	"maps"
	"os"
	"strings"

	"golang.org/x/sys/unix"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/utils/ptr"

	"github.com/podkeeper/podkeeper/cgroups"
	"github.com/podkeeper/podkeeper/manifests"
)

// What a kubelet tells at most, unless it is configured otherwise.
const (
	maxImages     = 50
	maxNamesOfOne = 5 // kubernetes/kubernetes pkg/kubelet/nodestatus, MaxNamesPerImageInNodeStatus
	unknown       = "Unknown"
)

// Facts is what the node says of itself, but for its conditions and Images. The error is that containerd does not answer; the
// facts are good all the same.
func (n *Node) Facts(ctx context.Context) (v1.NodeStatus, error) {
	version, err := n.Runtime.Version(ctx)
	if err != nil {
		version = unknown
	}
	status := v1.NodeStatus{
		Capacity:  n.resources(),
		Addresses: n.addresses(),
		NodeInfo: v1.NodeSystemInfo{
			MachineID: readText("/etc/machine-id"), SystemUUID: systemUUID(), BootID: readText("/proc/sys/kernel/random/boot_id"),
			KernelVersion: kernelVersion(), OSImage: osImage(readText("/etc/os-release")),
			ContainerRuntimeVersion: "containerd://" + strings.TrimPrefix(version, "v"), KubeletVersion: manifests.KubernetesVersion,
			OperatingSystem: n.Object().Labels[v1.LabelOSStable], Architecture: n.Object().Labels[v1.LabelArchStable],
		},
	}
	status.Allocatable = n.Reserve.Allocatable(status.Capacity)
	status.RuntimeHandlers = n.runtimeHandlers()
	return status, err
}

// runtimeHandlers are those that RuntimeClasses may name, and the default one, which has no name.
func (n *Node) runtimeHandlers() []v1.NodeRuntimeHandler {
	var all []v1.NodeRuntimeHandler
	for _, name := range append([]string{""}, n.Runtime.Handlers()...) {
		all = append(all, v1.NodeRuntimeHandler{Name: name, Features: &v1.NodeRuntimeHandlerFeatures{
			RecursiveReadOnlyMounts: ptr.To(RecursiveReadOnly()), UserNamespaces: ptr.To(n.Runtime.CheckUsers(name) == nil),
		}})
	}
	return all
}

// Images are the images that are there, as a node tells of them.
func (n *Node) Images(ctx context.Context) ([]v1.ContainerImage, error) {
	listed, err := n.Runtime.Images(ctx)
	var told []v1.ContainerImage
	for _, image := range listed[:min(len(listed), maxImages)] {
		told = append(told, v1.ContainerImage{Names: image.Names[:min(len(image.Names), maxNamesOfOne)], SizeBytes: image.Size})
	}
	return told, err
}

// PodCIDR is the subnet of the built-in network, "" where Pods have another one.
func (n *Node) PodCIDR() string { return n.Network.BuiltInSubnet() }

// resources are what the node has. What cannot be read now is left out.
func (n *Node) resources() v1.ResourceList {
	all := n.capacity()
	all[v1.ResourcePods] = *resource.NewQuantity(int64(n.MaxPods), resource.DecimalSI)
	var disk unix.Statfs_t
	if err := unix.Statfs(n.RootDir, &disk); err == nil {
		all[v1.ResourceEphemeralStorage] = *resource.NewQuantity(int64(disk.Blocks)*disk.Bsize, resource.BinarySI)
	}
	pages, err := cgroups.HugePages()
	if err != nil {
		n.Log.Debug("the node is taken to have no huge pages", "error", err)
	}
	for name, size := range pages {
		all[name] = size
	}
	maps.Copy(all, n.Extended)
	return all
}

// Allocatable is what Pods may have of the node, now.
func (n *Node) Allocatable() v1.ResourceList { return n.Reserve.Allocatable(n.resources()) }

// unset is what a container without a limit is told that its limit is (kubernetes/kubernetes pkg/api/v1/resource/helpers.go,
// MergeContainerResourceLimits).
func (n *Node) unset() v1.ResourceList {
	all := n.Allocatable()
	return v1.ResourceList{
		v1.ResourceCPU: all[v1.ResourceCPU], v1.ResourceMemory: all[v1.ResourceMemory], v1.ResourceEphemeralStorage: all[v1.ResourceEphemeralStorage],
	}
}

func (n *Node) addresses() []v1.NodeAddress {
	var all []v1.NodeAddress
	for _, ip := range n.HostIPs() {
		all = append(all, v1.NodeAddress{Type: v1.NodeInternalIP, Address: ip})
	}
	return append(all, v1.NodeAddress{Type: v1.NodeHostName, Address: n.Name})
}

// readText is what stands in a small file, "" where it cannot be read.
func readText(file string) string {
	content, err := os.ReadFile(file)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(content))
}

// systemUUID is that of the machine's firmware or, where it has none, the machine's ID.
func systemUUID() string {
	if uuid := readText("/sys/class/dmi/id/product_uuid"); uuid != "" {
		return uuid
	}
	return readText("/etc/machine-id")
}

func kernelVersion() string {
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return unknown
	}
	return unix.ByteSliceToString(name.Release[:])
}

// osImage is what a system calls itself in its os-release.
func osImage(release string) string {
	for line := range strings.Lines(release) {
		if name, ok := strings.CutPrefix(strings.TrimSpace(line), "PRETTY_NAME="); ok {
			return strings.Trim(name, `"'`)
		}
	}
	return unknown
}
