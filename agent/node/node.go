// Package node is what a Pod's worker does to the world: it makes and removes sandboxes and containers, looks at them,
// signals them and carries their output. It is the only room that knows runtime, sandbox, network, volumes and cgroups, and
// puts them together; the worker sees it through an interface that tests replace.
//
//	target.go     which container of which instance of which Pod: ids and labels
//	paths.go      where its files are
//	sandbox.go    what the containers of a Pod share
//	users.go      which ids of the host its user namespace has
//	sysctls.go    what of the kernel a Pod may set for itself
//	pull.go       its image
//	container.go  what a container is made of, and its start
//	resize.go     what it is given later
//	mounts.go     its mounts
//	images.go     images that are there, and their end
//	imagevolumes.go  images that are volumes
//	claims.go     where the data of claims is
//	labels.go     the node as Pods may ask for it
//	facts.go      what the node says of itself
//	tokens.go     tokens of service accounts
//	given.go      what the files in its volumes say
//	etc.go        hosts, hostname, resolv.conf
//	logs.go       its output on the way to its log
//	streams.go    who talks to what runs in it
//	exit.go       what is told of its end
//	usage.go      what is used of the node
//	storage.go    what a Pod has on disk
//	pressure.go   what the node may run out of
//	find.go       what earlier agents have left
//	durable.go    when an instance's record is on disk
//	remove.go     the end of all of that
//
// Everything is idempotent: what is already done, or already gone, counts as success. Nothing here decides: when and why
// something is done is plan's business, and what became of it the worker's.
package node

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/types"

	"github.com/podkeeper/podkeeper/agent/admit"
	"github.com/podkeeper/podkeeper/cgroups"
	"github.com/podkeeper/podkeeper/network"
	"github.com/podkeeper/podkeeper/runtime"
	"github.com/podkeeper/podkeeper/sandbox"
	"github.com/podkeeper/podkeeper/volumes"
)

// Node is where Pods run: the leaves, and where files are.
type Node struct {
	Runtime    *runtime.Runtime
	Sandboxes  *sandbox.Sandboxes
	Network    *network.Network
	Volumes    *volumes.Volumes
	Cgroups    *cgroups.Tree
	DNS        network.ClusterDNS
	ResolvConf string // the node's file that Pods' are made from; empty is none
	Name       string
	Labels     map[string]string // that Pods may ask for, besides those that every node has
	Taints     []v1.Taint        // that its object has from its beginning
	Extended   v1.ResourceList   // what it has that only Pods know what to do with
	Identity   string            // of the root directory; what is made in containerd carries it
	RootDir    string            // pods/<uid>: instance record, volumes, what containers have mounted
	RunDir     string            // pods/<uid>: pipes and /dev/shm
	LogsDir    string
	TokenKey   string // the file of the key that signs tokens of service accounts; it is there where there is an API
	Host       *network.HostAddresses
	CPUs       int
	Memory     int64         // bytes the node has
	MaxPods    int           // that it runs at once
	Reserve    admit.Reserve // what of it is not for Pods
	MinOOM     int           // the lowest oom_score_adj that may be written
	// UnsafeSysctls may be set by Pods besides the safe ones: names, or patterns that end in a star.
	UnsafeSysctls  []string
	SeccompDefault bool   // a Pod that says nothing of seccomp has RuntimeDefault (KubeletConfiguration.seccompDefault)
	IDsPerPod      uint32 // that a Pod's user namespace has, a multiple of UsersUnit
	Log            *slog.Logger

	claims sync.Mutex // held while one is bound
	bound  atomic.Pointer[map[types.NamespacedName]string]
	images sync.Mutex // held while one is mounted
	dirs   atomic.Pointer[storageDirs]

	mu        sync.Mutex
	logs      map[string]*runtime.Log // by container id, of the containers whose output is carried now
	layerDirs map[string]string       // by container id, of some that were measured
}

// capacity is what the node has.
func (n *Node) capacity() v1.ResourceList {
	return v1.ResourceList{
		v1.ResourceCPU:    *resource.NewQuantity(int64(n.CPUs), resource.DecimalSI),
		v1.ResourceMemory: *resource.NewQuantity(n.Memory, resource.BinarySI),
	}
}

// Fault is an error that is told in one of Kubernetes' words: the reason of a container that waits.
type Fault struct {
	Reason string // such as ErrImagePull or CreateContainerConfigError
	Err    error
}

// Error is the text without the reason, which is told beside it.
func (f *Fault) Error() string { return f.Err.Error() }

// Unwrap answers what is behind it.
func (f *Fault) Unwrap() error { return f.Err }

// Reasons of faults that are not an image's (kubernetes/kubernetes pkg/kubelet/kuberuntime).
const (
	CreateContainerConfigError = "CreateContainerConfigError"
	CreateContainerError       = "CreateContainerError"
)

// The reasons of a Fault when an image is not to be had (kubernetes/kubernetes pkg/kubelet/images/types.go): the registry did
// not give it, it is not there and must not be pulled, its name is none, and what is there of it cannot be read.
const (
	ErrImagePull      = "ErrImagePull"
	ErrImageNeverPull = "ErrImageNeverPull"
	InvalidImageName  = "InvalidImageName"
	ImageInspectError = "ImageInspectError"
)

// IsAway says whether an error is that containerd does not answer: it is about no Pod.
func IsAway(err error) bool { return runtime.IsUnavailable(err) }

// imageFault names the reason of an image that is not to be had.
func imageFault(err error) error {
	for _, known := range []error{runtime.ErrInvalidImageName, runtime.ErrImageNeverPull, runtime.ErrImagePull, runtime.ErrImageInspect} {
		if errors.Is(err, known) {
			return &Fault{Reason: known.Error(), Err: err}
		}
	}
	return &Fault{Reason: CreateContainerError, Err: err}
}

// Close stops carrying output, and lets go of sandboxes; they and containers run on.
func (n *Node) Close() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	var errs []error
	for _, l := range n.logs {
		errs = append(errs, l.Close())
	}
	n.logs = nil
	return errors.Join(append(errs, n.Sandboxes.Close())...)
}

// How long is waited for a runtime, or a plugin, that may hang, before something else is tried: for an answer that is
// usually there at once, and for work.
const (
	shortPatience = 2 * time.Second
	patience      = 10 * time.Second
)

// Notice says which container or sandbox to look at again: its main process ended, or a process of it was killed for want
// of memory. Without an ID it is all of them: something may have been missed.
type Notice = runtime.Event

// Watch calls see for every notice until ctx ends.
func (n *Node) Watch(ctx context.Context, see func(Notice)) {
	var work sync.WaitGroup
	work.Go(func() { n.Sandboxes.Watch(ctx, func(id string) { see(Notice{ID: id}) }) })
	n.Runtime.Events(ctx, see)
	work.Wait()
}

// HostIPs are the node's addresses now, the primary first.
func (n *Node) HostIPs() []string { return texts(n.Host.List()) }

// Keep keeps up until ctx ends what Pods need of the host that others may sweep away. moved is called when the node's
// addresses are others.
func (n *Node) Keep(ctx context.Context, moved func()) {
	var work sync.WaitGroup
	work.Go(func() { n.Network.Keep(ctx) })
	work.Go(func() { n.Host.Watch(ctx, func([]netip.Addr) { moved() }) })
	work.Wait()
}

// ImportImages imports the archives of a folder, and again those that change, until ctx ends.
func (n *Node) ImportImages(ctx context.Context, dir string, imported func()) {
	n.Runtime.ImportDir(ctx, dir, imported)
}

// WatchRegistries calls changed whenever what is configured of image registries, or the credentials for them, has changed,
// until ctx ends.
func (n *Node) WatchRegistries(ctx context.Context, changed func()) {
	n.Runtime.WatchRegistryConfig(ctx, changed)
}

// Ping says whether containerd answers.
func (n *Node) Ping(ctx context.Context) error {
	_, err := n.Runtime.Version(ctx)
	return err
}
