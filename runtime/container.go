package runtime

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/containerd/containerd/api/services/tasks/v1"
	"github.com/containerd/containerd/api/types"
	"github.com/containerd/containerd/api/types/runc/options"
	tasktypes "github.com/containerd/containerd/api/types/task"
	"github.com/containerd/containerd/v2/core/containers"
	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/errdefs"
	"github.com/containerd/errdefs/pkg/errgrpc"
	"github.com/containerd/typeurl/v2"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// ID derives the id of one instance of a container, so that a crash between create and record cannot make a second one.
// The sandbox, which containerd does not know, is the container "".
func ID(podUID, container string, attempt int) string {
	sum := sha256.Sum256([]byte(podUID + "/" + container + "/" + strconv.Itoa(attempt)))
	return hex.EncodeToString(sum[:])
}

// isID says whether a name is one that ID makes.
func isID(name string) bool {
	sum, err := hex.DecodeString(name)
	return err == nil && len(sum) == sha256.Size
}

// State is what containerd and the kernel say of a container.
type State string

// The states of a container.
const (
	Absent  State = "absent"  // no task: never started, or ended and cleaned up
	Created State = "created" // a task that was not started yet
	Running State = "running"
	Stopped State = "stopped" // a task whose process has ended, not deleted yet
)

// Container is one look at a container's task.
type Container struct {
	ID       string
	State    State
	PID      int       // of its main process, on the host; while it is Created or Running
	ExitCode int       // while it is Stopped
	ExitedAt time.Time // while it is Stopped
}

// Look sees what a container's task does now. A container that does not exist is Absent, no error.
func (r *Runtime) Look(ctx context.Context, id string) (Container, error) {
	c := Container{ID: id, State: Absent}
	answer, err := r.client.TaskService().Get(ctx, &tasks.GetRequest{ContainerID: id})
	if err != nil {
		if errdefs.IsNotFound(errgrpc.ToNative(err)) {
			return c, nil
		}
		return c, fmt.Errorf("look at task %s: %w", id, errgrpc.ToNative(err))
	}
	task := answer.Process
	switch task.Status {
	case tasktypes.Status_CREATED:
		c.State, c.PID = Created, int(task.Pid)
	case tasktypes.Status_RUNNING, tasktypes.Status_PAUSED, tasktypes.Status_PAUSING:
		c.State, c.PID = Running, int(task.Pid)
	case tasktypes.Status_STOPPED:
		c.State, c.ExitCode, c.ExitedAt = Stopped, int(task.ExitStatus), task.ExitedAt.AsTime()
	default:
		return c, fmt.Errorf("look at task %s: containerd answers status %v", id, task.Status)
	}
	return c, nil
}

// List answers the labels of every container of the namespace by its id. It is a scan, for the start of the agent only.
func (r *Runtime) List(ctx context.Context) (map[string]map[string]string, error) {
	records, err := r.client.ContainerService().List(ctx)
	if err != nil {
		return nil, fmt.Errorf("list containers: %w", err)
	}
	labels := make(map[string]map[string]string, len(records))
	for _, record := range records {
		labels[record.ID] = record.Labels
	}
	return labels, nil
}

// record is what a container's record is made of beside the OCI spec.
type record struct {
	id, handler string
	labels      map[string]string
	image       string // its name
}

// createRecord makes the container's record. One that exists is left as it is.
func (r *Runtime) createRecord(ctx context.Context, rec record, spec *specs.Spec) error {
	handler, err := r.handler(rec.handler)
	if err != nil {
		return err
	}
	systemd := bySystemd(spec.Linux.CgroupsPath)
	if systemd { // or a scope whose process ran out of memory stays as a failed unit
		spec.Annotations["org.systemd.property.CollectMode"] = "'inactive-or-failed'"
		// Else crun makes one more cgroup in the scope, and the container's limits and counts are those of that (crun(1)).
		spec.Annotations["run.oci.systemd.subgroup"] = ""
	}
	anySpec, err := typeurl.MarshalAny(spec)
	if err != nil {
		return fmt.Errorf("encode OCI spec: %w", err)
	}
	opts := &options.Options{BinaryName: handler.BinaryName, SystemdCgroup: systemd}
	for _, ids := range spec.Linux.UIDMappings { // whose root may open its output by name, too: /dev/stdout
		opts.IoUid, opts.IoGid = ids.HostID, ids.HostID
	}
	runtimeOptions, err := typeurl.MarshalAny(opts)
	if err != nil {
		return fmt.Errorf("encode runtime options: %w", err)
	}
	c := containers.Container{
		ID: rec.id, Labels: rec.labels, Image: rec.image, Spec: anySpec,
		Runtime: containers.RuntimeInfo{Name: handler.Type, Options: runtimeOptions}, Snapshotter: r.snapshotter, SnapshotKey: rec.id,
	}
	if _, err := r.client.ContainerService().Create(ctx, c); err != nil && !errdefs.IsAlreadyExists(err) {
		return fmt.Errorf("create container record: %w", err)
	}
	return nil
}

// CheckHandler fails where a Pod asks for a runtime handler that is not known. Empty is the default.
func (r *Runtime) CheckHandler(name string) error {
	_, err := r.handler(name)
	return err
}

// Handlers are the names of the runtime handlers that are known, in alphabetical order.
func (r *Runtime) Handlers() []string { return slices.Sorted(maps.Keys(r.cfg.Handlers)) }

func (r *Runtime) handler(name string) (Handler, error) {
	handler, ok := r.cfg.Handlers[cmp.Or(name, r.cfg.DefaultHandler, Runc)]
	if !ok {
		return handler, fmt.Errorf("runtime handler %q is not known: see --runtime-handler", name)
	}
	return handler, nil
}

// unbroken is the context of a request that must not be given up half-way, because containerd would leave behind what it
// was just making: it fails where ctx has ended already, and keeps its deadline.
func unbroken(ctx context.Context) (context.Context, context.CancelFunc, error) {
	if err := ctx.Err(); err != nil {
		return nil, nil, err
	}
	whole := context.WithoutCancel(ctx)
	if deadline, ok := ctx.Deadline(); ok {
		bounded, cancel := context.WithDeadline(whole, deadline)
		return bounded, cancel, nil
	}
	return whole, func() {}, nil
}

// createTask makes the task of a record: all of the container but its running main process. What it meets in place of a shim
// that takes one more container goes away with time.
func (r *Runtime) createTask(ctx context.Context, sandbox string, req *tasks.CreateTaskRequest) error {
	whole, cancel, err := unbroken(ctx)
	if err != nil {
		return fmt.Errorf("failed to create containerd task: %w", err)
	}
	defer cancel()
	ends := 0
	for pause := firstShimPause; ; pause = min(2*pause, lastShimPause) {
		err := r.throughShim(ctx, sandbox, func() error {
			_, err := r.client.TaskService().Create(whole, req)
			return errgrpc.ToNative(err)
		})
		if err == nil || errdefs.IsAlreadyExists(err) {
			return nil
		}
		if shimEnded(err) {
			ends++
		}
		if ends > maxShimEnds || !shimEnded(err) && !shimWasBusy(err) {
			if noShim(err) {
				err = fmt.Errorf("%w: %w", ErrNoShim, err)
			}
			return fmt.Errorf("failed to create containerd task: %w", err)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("failed to create containerd task: %w", err)
		case <-time.After(pause):
		}
	}
}

func protoMounts(mounts []mount.Mount) []*types.Mount {
	var out []*types.Mount
	for _, m := range mounts {
		out = append(out, &types.Mount{Type: m.Type, Source: m.Source, Target: m.Target, Options: m.Options})
	}
	return out
}

// Start starts the main process of a container that was created. One that runs, or has run, is left as it is.
func (r *Runtime) Start(ctx context.Context, id string) error {
	ctx, cancel, err := unbroken(ctx)
	if err != nil {
		return fmt.Errorf("failed to start containerd task: %w", err)
	}
	defer cancel()
	_, err = r.client.TaskService().Start(ctx, &tasks.StartRequest{ContainerID: id})
	if err = errgrpc.ToNative(err); err != nil && !errdefs.IsAlreadyExists(err) && !isStarted(err) {
		return fmt.Errorf("failed to start containerd task: %w", err)
	}
	return nil
}

// isStarted knows the shim's word for a process that is past its start.
func isStarted(err error) bool {
	return errdefs.IsFailedPrecondition(err)
}

// Signal sends a signal to a container's main process, or with all to every process in the container. A container that
// has ended is left in peace.
func (r *Runtime) Signal(ctx context.Context, id string, sig syscall.Signal, all bool) error {
	_, err := r.client.TaskService().Kill(ctx, &tasks.KillRequest{ContainerID: id, Signal: uint32(sig), All: all})
	if err = errgrpc.ToNative(err); err != nil && !errdefs.IsNotFound(err) {
		return fmt.Errorf("send %v: %w", sig, err)
	}
	return nil
}

func (r *Runtime) deleteTask(ctx context.Context, id string) error {
	_, err := r.client.TaskService().Delete(ctx, &tasks.DeleteTaskRequest{ContainerID: id})
	if err = errgrpc.ToNative(err); err != nil && !errdefs.IsNotFound(err) {
		return fmt.Errorf("delete task: %w", err)
	}
	return nil
}

// Delete kills whatever still runs in a container, and removes its task, its record and its writable layer.
func (r *Runtime) Delete(ctx context.Context, id string) error {
	if err := r.endTask(ctx, id); err != nil {
		return err
	}
	if err := r.client.SnapshotService(r.snapshotter).Remove(ctx, id); err != nil && !errdefs.IsNotFound(err) {
		return fmt.Errorf("remove snapshot: %w", err)
	}
	if err := r.client.ContainerService().Delete(ctx, id); err != nil && !errdefs.IsNotFound(err) {
		return fmt.Errorf("delete container: %w", err)
	}
	return nil
}

// endTask kills a task that runs, waits for its end and deletes it.
func (r *Runtime) endTask(ctx context.Context, id string) error {
	c, err := r.Look(ctx, id)
	if err != nil {
		return err
	}
	switch c.State {
	case Absent: // or one that only containerd knows of: it ended before it had asked the shim for it
	case Running:
		if err := r.Signal(ctx, id, syscall.SIGKILL, true); err != nil {
			return err
		}
		if _, err := r.client.TaskService().Wait(ctx, &tasks.WaitRequest{ContainerID: id}); err != nil &&
			!errdefs.IsNotFound(errgrpc.ToNative(err)) {
			return fmt.Errorf("wait for task: %w", errgrpc.ToNative(err))
		}
	}
	return r.deleteTask(ctx, id)
}

// StartedAt answers when a process of this host began, from /proc, to a hundredth of a second.
func StartedAt(pid int) (time.Time, error) {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return time.Time{}, fmt.Errorf("look at process %d: %w", pid, err)
	}
	// The name, in parentheses, may hold spaces; the start time is field 22, the twentieth after the name.
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	if len(fields) < 20 {
		return time.Time{}, fmt.Errorf("look at process %d: short stat", pid)
	}
	ticks, err := strconv.ParseInt(fields[19], 10, 64)
	if err != nil {
		return time.Time{}, fmt.Errorf("look at process %d: %w", pid, err)
	}
	var up unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &up); err != nil {
		return time.Time{}, fmt.Errorf("read clock: %w", err)
	}
	const userHz = 100 // what the kernel reports ticks in, on every architecture Go runs on
	age := time.Duration(up.Nano()) - time.Duration(ticks)*(time.Second/userHz)
	return time.Now().Add(-age), nil
}
