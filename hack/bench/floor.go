package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"sync"
	"time"

	"github.com/containerd/containerd/api/services/tasks/v1"
	"github.com/containerd/containerd/api/types"
	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/containers"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/containerd/v2/pkg/oci"
	"github.com/containerd/errdefs/pkg/errgrpc"
	"github.com/containerd/typeurl/v2"
	"github.com/containernetworking/cni/libcni"
	"github.com/opencontainers/image-spec/identity"
	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/podkeeper/podkeeper/sandbox"
)

// groupAnnotation makes the containers of a Pod share one shim.
const groupAnnotation = "io.containerd.runc.v2.group"

// What the Pods of a run may use, as manifest says.
const (
	cpuPeriod   = 100_000 // µs
	cpuQuota    = 100_000 // µs: one CPU
	cpuShares   = 10      // 10m
	memoryLimit = 64 << 20
)

// floor does what a Pod of one container cannot do without, and nothing else: a network namespace, CNI's ADD, podkeeper's
// pause process, the app's task, one after another. No Pod's cgroup, no logs, no records, no files: what a node agent adds to
// this is its own cost.
type floor struct {
	lab       *lab
	client    *client.Client
	cni       *libcni.CNIConfig
	list      *libcni.NetworkConfigList
	chainID   string // the snapshot of the image
	env       []string
	sandboxes *sandbox.Sandboxes
}

// stages is how long each step of one Pod took.
type stages struct{ netNS, cni, pause, app time.Duration }

// floorBridge is the bridge of the floor's network.
func floorBridge() string { return "pkf" + strconv.Itoa(os.Getpid()) }

// newFloor imports the image.
func newFloor(ctx context.Context, l *lab) (*floor, error) {
	f := &floor{
		lab: l, client: l.floors,
		cni: libcni.NewCNIConfigWithCacheDir([]string{cniBin}, l.path("floor", "cni"), nil),
	}
	if err := os.MkdirAll(l.path("floor", "netns"), 0o755); err != nil {
		return nil, fmt.Errorf("make folder of floor: %w", err)
	}
	var err error
	if f.sandboxes, err = sandbox.Open(sandbox.Settings{RunDir: l.path("floor")}); err != nil {
		return nil, err
	}
	if f.list, err = floorNetwork(l); err != nil {
		return nil, err
	}
	return f, f.importImage(ctx)
}

// floorNetwork is a bridge with host-local addresses, as podkeeper's built-in network.
func floorNetwork(l *lab) (*libcni.NetworkConfigList, error) {
	conf, err := json.Marshal(map[string]any{
		"cniVersion": "1.0.0", "name": l.name + "-floor",
		"plugins": []map[string]any{{
			"type": "bridge", "bridge": floorBridge(), "isGateway": true, "hairpinMode": true,
			"ipam": map[string]any{
				"type": "host-local", "dataDir": l.path("floor", "ipam"),
				"ranges": [][]map[string]string{{{"subnet": fmt.Sprintf("10.191.%d.0/24", os.Getpid()%256)}}},
				"routes": []map[string]string{{"dst": "0.0.0.0/0"}},
			},
		}},
	})
	if err != nil {
		return nil, fmt.Errorf("build network configuration: %w", err)
	}
	list, err := libcni.NetworkConfFromBytes(conf)
	if err != nil {
		return nil, fmt.Errorf("build network configuration: %w", err)
	}
	return list, nil
}

func (f *floor) importImage(ctx context.Context) error {
	archive, err := os.Open(f.lab.archive())
	if err != nil {
		return fmt.Errorf("import image: %w", err)
	}
	defer archive.Close()
	found, err := f.client.Import(ctx, archive)
	if err != nil {
		return fmt.Errorf("import image: %w", err)
	}
	image := client.NewImage(f.client, found[0])
	if err := image.Unpack(ctx, snapshotter); err != nil {
		return fmt.Errorf("unpack image: %w", err)
	}
	layers, err := image.RootFS(ctx)
	if err != nil {
		return fmt.Errorf("read image: %w", err)
	}
	spec, err := image.Spec(ctx)
	if err != nil {
		return fmt.Errorf("read image: %w", err)
	}
	f.chainID, f.env = identity.ChainID(layers).String(), spec.Config.Env
	return nil
}

// runPod runs one Pod.
func (f *floor) runPod(ctx context.Context, pod string) (stages, error) {
	var s stages
	for _, step := range []struct {
		took *time.Duration
		do   func() error
	}{
		{&s.netNS, func() error { return pinNetNS(f.netNS(pod)) }},
		{&s.cni, func() error { _, err := f.cni.AddNetworkList(ctx, f.list, f.attachment(pod)); return err }},
		{&s.pause, func() error { return f.runPause(ctx, pod) }},
		{&s.app, func() error { return f.runApp(ctx, pod) }},
	} {
		begin := time.Now()
		if err := step.do(); err != nil {
			return s, fmt.Errorf("run floor's Pod %s: %w", pod, err)
		}
		*step.took = time.Since(begin)
	}
	return s, nil
}

// runMany runs Pods, so many at a time.
func (f *floor) runMany(ctx context.Context, pods []string, parallel int) error {
	work, ctx := errgroup.WithContext(ctx)
	work.SetLimit(parallel)
	for _, pod := range pods {
		work.Go(func() error { _, err := f.runPod(ctx, pod); return err })
	}
	return work.Wait()
}

// remove removes Pods.
func (f *floor) remove(ctx context.Context, pods []string) error {
	var work errgroup.Group
	work.SetLimit(4)
	for _, pod := range pods {
		work.Go(func() error {
			err := errors.Join(removeContainer(ctx, f.client, pod), f.sandboxes.Delete(ctx, pauseID(pod), f.box(pod)),
				f.cni.DelNetworkList(ctx, f.list, f.attachment(pod)))
			if err != nil {
				return fmt.Errorf("remove floor's Pod %s: %w", pod, err)
			}
			if err := unix.Unmount(f.netNS(pod), unix.MNT_DETACH); err != nil {
				return fmt.Errorf("unpin network namespace of %s: %w", pod, err)
			}
			return os.Remove(f.netNS(pod))
		})
	}
	return work.Wait()
}

func pauseID(pod string) string            { return pod + "-pause" }
func (f *floor) box(pod string) string     { return f.lab.path("floor", "pods", pod) }
func (f *floor) netNS(pod string) string   { return f.lab.path("floor", "netns", pod) }
func (f *floor) cgroup(name string) string { return "/" + f.lab.name + "/floor/" + name }

func (f *floor) attachment(pod string) *libcni.RuntimeConf {
	return &libcni.RuntimeConf{ContainerID: pod, NetNS: f.netNS(pod), IfName: "eth0"}
}

// runPause starts a pause process, as podkeeper has it.
func (f *floor) runPause(ctx context.Context, pod string) error {
	return f.sandboxes.Start(ctx, sandbox.Config{ID: pauseID(pod), Dir: f.box(pod), NetNS: f.netNS(pod), Hostname: pod})
}

// runApp starts the app's task: containerd's default spec, with the Pod's limits and namespaces.
func (f *floor) runApp(ctx context.Context, pod string) error {
	mounts, err := f.client.SnapshotService(snapshotter).Prepare(ctx, pod, f.chainID,
		snapshots.WithLabels(map[string]string{"containerd.io/gc.root": time.Now().UTC().Format(time.RFC3339)}))
	if err != nil {
		return fmt.Errorf("prepare root file system: %w", err)
	}
	record := containers.Container{ID: pod, Image: demoImage, Snapshotter: snapshotter, SnapshotKey: pod}
	ns, err := f.sandboxes.Namespaces(pauseID(pod), f.box(pod))
	if err != nil {
		return err
	}
	shared := func(kind specs.LinuxNamespaceType, path string) oci.SpecOpts {
		return oci.WithLinuxNamespace(specs.LinuxNamespace{Type: kind, Path: path})
	}
	spec, err := oci.GenerateSpec(namespaces.WithNamespace(ctx, f.lab.name+"-floor"), f.client, &record,
		oci.WithRootFSPath("rootfs"), oci.WithEnv(f.env), oci.WithProcessArgs("/bin/sh", "-c", command(pod)), oci.WithCgroup(f.cgroup(pod)),
		oci.WithCPUCFS(cpuQuota, cpuPeriod), oci.WithCPUShares(cpuShares), oci.WithMemoryLimit(memoryLimit),
		shared(specs.IPCNamespace, ns.IPC), shared(specs.UTSNamespace, ns.UTS),
		oci.WithLinuxNamespace(specs.LinuxNamespace{Type: specs.NetworkNamespace, Path: f.netNS(pod)}),
		oci.WithMounts([]specs.Mount{{Destination: "/out", Type: "bind", Source: f.lab.out, Options: []string{"rbind", "rw"}}}),
		oci.WithAnnotations(map[string]string{groupAnnotation: pauseID(pod)}))
	if err != nil {
		return fmt.Errorf("make OCI spec: %w", err)
	}
	var rootfs []*types.Mount
	for _, m := range mounts {
		rootfs = append(rootfs, &types.Mount{Type: m.Type, Source: m.Source, Target: m.Target, Options: m.Options})
	}
	return f.runTask(ctx, record, spec, rootfs)
}

// runTask makes a record and its task, and starts it.
func (f *floor) runTask(ctx context.Context, record containers.Container, spec *specs.Spec, rootfs []*types.Mount) error {
	encoded, err := typeurl.MarshalAny(spec)
	if err != nil {
		return fmt.Errorf("encode OCI spec: %w", err)
	}
	record.Spec, record.Runtime = encoded, containers.RuntimeInfo{Name: "io.containerd.runc.v2"}
	if _, err := f.client.ContainerService().Create(ctx, record); err != nil {
		return fmt.Errorf("create record: %w", err)
	}
	if _, err := f.client.TaskService().Create(ctx, &tasks.CreateTaskRequest{ContainerID: record.ID, Rootfs: rootfs}); err != nil {
		return fmt.Errorf("create task: %w", errgrpc.ToNative(err))
	}
	if _, err := f.client.TaskService().Start(ctx, &tasks.StartRequest{ContainerID: record.ID}); err != nil {
		return fmt.Errorf("start task: %w", errgrpc.ToNative(err))
	}
	return nil
}

// pinNetNS makes a network namespace, held by a mount, on a thread that ends with it.
func pinNetNS(path string) error {
	file, err := os.OpenFile(path, os.O_RDONLY|os.O_CREATE, 0o444)
	if err != nil {
		return fmt.Errorf("pin network namespace: %w", err)
	}
	if err := file.Close(); err != nil {
		return fmt.Errorf("pin network namespace: %w", err)
	}
	var work sync.WaitGroup
	work.Go(func() {
		runtime.LockOSThread() // never unlocked
		ns, makeErr := netns.New()
		if err = makeErr; err != nil {
			return
		}
		defer ns.Close()
		if err = netlink.LinkSetUp(&netlink.Device{LinkAttrs: netlink.LinkAttrs{Name: "lo"}}); err == nil {
			err = unix.Mount("/proc/thread-self/ns/net", path, "", unix.MS_BIND, "")
		}
	})
	work.Wait()
	if err != nil {
		return fmt.Errorf("pin network namespace %s: %w", path, err)
	}
	return nil
}

// removeBridge removes a bridge; one that is not there is no error.
func removeBridge(name string) error {
	link, err := netlink.LinkByName(name)
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		return nil
	}
	if err == nil {
		err = netlink.LinkDel(link)
	}
	if err != nil {
		return fmt.Errorf("remove bridge %s: %w", name, err)
	}
	return nil
}
