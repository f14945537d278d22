package main

import (
	"context"
	"fmt"
	"time"

	"github.com/containerd/containerd/api/services/tasks/v1"
	"github.com/containerd/containerd/api/types"
	"github.com/containerd/containerd/v2/core/containers"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/containerd/v2/pkg/oci"
	"github.com/containerd/errdefs/pkg/errgrpc"
	"github.com/containerd/typeurl/v2"
	"github.com/opencontainers/runtime-spec/specs-go"
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

// runPause starts a pause task, as podkeeper has it, and answers its pid.
func (f *floor) runPause(ctx context.Context, pod string) (int, error) {
	id := pauseID(pod)
	spec := &specs.Spec{
		Version: specs.Version, Hostname: pod,
		Process: &specs.Process{Args: []string{"/sleep", pauseTime}, Cwd: "/", Env: []string{}, NoNewPrivileges: true, Capabilities: &specs.LinuxCapabilities{}},
		Root:    &specs.Root{Path: f.pauseRoot, Readonly: true},
		Mounts: []specs.Mount{
			{Destination: "/proc", Type: "proc", Source: "proc", Options: []string{"nosuid", "noexec", "nodev"}},
			{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "noexec", "mode=755", "size=64k"}},
		},
		Annotations: map[string]string{groupAnnotation: id},
		Linux: &specs.Linux{
			CgroupsPath: f.cgroup(id),
			Resources:   &specs.LinuxResources{Devices: []specs.LinuxDeviceCgroup{{Allow: false, Access: "rwm"}}},
			Namespaces: []specs.LinuxNamespace{
				{Type: specs.MountNamespace}, {Type: specs.PIDNamespace}, {Type: specs.IPCNamespace}, {Type: specs.UTSNamespace},
				{Type: specs.NetworkNamespace, Path: f.netNS(pod)},
			},
		},
	}
	if err := f.record(ctx, containers.Container{ID: id}, spec); err != nil {
		return 0, err
	}
	pid, err := f.createTask(ctx, id, nil)
	if err != nil {
		return 0, err
	}
	return pid, f.startTask(ctx, id)
}

// createApp creates the app's task, in the namespaces of the pause process.
func (f *floor) createApp(ctx context.Context, pod, id string, pausePID int) error {
	rootfs, err := f.prepareApp(ctx, pod, id, pausePID)
	if err != nil {
		return err
	}
	_, err = f.createTask(ctx, id, rootfs)
	return err
}

// prepareApp makes what the app's task needs: a root file system, which it answers, and a record with containerd's
// default spec and the Pod's limits and namespaces.
func (f *floor) prepareApp(ctx context.Context, pod, id string, pausePID int) ([]*types.Mount, error) {
	mounts, err := f.client.SnapshotService(snapshotter).Prepare(ctx, id, f.chainID,
		snapshots.WithLabels(map[string]string{"containerd.io/gc.root": time.Now().UTC().Format(time.RFC3339)}))
	if err != nil {
		return nil, fmt.Errorf("prepare root file system: %w", err)
	}
	record := containers.Container{ID: id, Image: demoImage, Snapshotter: snapshotter, SnapshotKey: id}
	shared := func(kind specs.LinuxNamespaceType, name string) oci.SpecOpts {
		return oci.WithLinuxNamespace(specs.LinuxNamespace{Type: kind, Path: fmt.Sprintf("/proc/%d/ns/%s", pausePID, name)})
	}
	spec, err := oci.GenerateSpec(namespaces.WithNamespace(ctx, f.lab.name+"-floor"), f.client, &record,
		oci.WithRootFSPath("rootfs"), oci.WithEnv(f.env), oci.WithProcessArgs("/bin/sh", "-c", command(pod)), oci.WithCgroup(f.cgroup(id)),
		oci.WithCPUCFS(cpuQuota, cpuPeriod), oci.WithCPUShares(cpuShares), oci.WithMemoryLimit(memoryLimit),
		shared(specs.IPCNamespace, "ipc"), shared(specs.UTSNamespace, "uts"),
		oci.WithLinuxNamespace(specs.LinuxNamespace{Type: specs.NetworkNamespace, Path: f.netNS(pod)}),
		oci.WithMounts([]specs.Mount{{Destination: "/out", Type: "bind", Source: f.lab.out, Options: []string{"rbind", "rw"}}}),
		oci.WithAnnotations(map[string]string{groupAnnotation: pauseID(pod)}))
	if err != nil {
		return nil, fmt.Errorf("make OCI spec: %w", err)
	}
	var rootfs []*types.Mount
	for _, m := range mounts {
		rootfs = append(rootfs, &types.Mount{Type: m.Type, Source: m.Source, Target: m.Target, Options: m.Options})
	}
	return rootfs, f.record(ctx, record, spec)
}

// record tells containerd of a container.
func (f *floor) record(ctx context.Context, record containers.Container, spec *specs.Spec) error {
	encoded, err := typeurl.MarshalAny(spec)
	if err != nil {
		return fmt.Errorf("encode OCI spec: %w", err)
	}
	record.Spec, record.Runtime = encoded, containers.RuntimeInfo{Name: "io.containerd.runc.v2"}
	if _, err := f.client.ContainerService().Create(ctx, record); err != nil {
		return fmt.Errorf("create record: %w", err)
	}
	return nil
}

// createTask answers the pid of a task that is yet to be started.
func (f *floor) createTask(ctx context.Context, id string, rootfs []*types.Mount) (int, error) {
	task, err := f.client.TaskService().Create(ctx, &tasks.CreateTaskRequest{ContainerID: id, Rootfs: rootfs})
	if err != nil {
		return 0, fmt.Errorf("create task: %w", errgrpc.ToNative(err))
	}
	return int(task.Pid), nil
}

func (f *floor) startTask(ctx context.Context, id string) error {
	if _, err := f.client.TaskService().Start(ctx, &tasks.StartRequest{ContainerID: id}); err != nil {
		return fmt.Errorf("start task: %w", errgrpc.ToNative(err))
	}
	return nil
}

// exec runs a command in a Pod's app and waits for its end.
func (f *floor) exec(ctx context.Context, pod, execID string) error {
	process, err := typeurl.MarshalAnyToProto(&specs.Process{Args: []string{"/bin/true"}, Cwd: "/", Env: []string{f.env[0]}})
	if err != nil {
		return fmt.Errorf("encode process: %w", err)
	}
	service := f.client.TaskService()
	if _, err := service.Exec(ctx, &tasks.ExecProcessRequest{ContainerID: pod, ExecID: execID, Spec: process}); err != nil {
		return fmt.Errorf("exec: %w", errgrpc.ToNative(err))
	}
	if _, err := service.Start(ctx, &tasks.StartRequest{ContainerID: pod, ExecID: execID}); err != nil {
		return fmt.Errorf("start command: %w", errgrpc.ToNative(err))
	}
	if _, err := service.Wait(ctx, &tasks.WaitRequest{ContainerID: pod, ExecID: execID}); err != nil {
		return fmt.Errorf("wait for command: %w", errgrpc.ToNative(err))
	}
	if _, err := service.DeleteProcess(ctx, &tasks.DeleteProcessRequest{ContainerID: pod, ExecID: execID}); err != nil {
		return fmt.Errorf("delete command: %w", errgrpc.ToNative(err))
	}
	return nil
}
