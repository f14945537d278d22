package runtime

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/containerd/containerd/api/services/tasks/v1"
	"github.com/containerd/errdefs"
	"github.com/containerd/errdefs/pkg/errgrpc"
	"github.com/containerd/typeurl/v2"
	"github.com/google/uuid"
	"github.com/opencontainers/runtime-spec/specs-go"
	"google.golang.org/protobuf/types/known/anypb"
)

// ErrExecTimeout says that a command did not end in time and was killed, with every process it had started.
var ErrExecTimeout = errors.New("command timed out")

// execCleanup bounds what is done after a command that was given up.
const execCleanup = 10 * time.Second

// Exec runs a command in a container that runs and answers its exit code and the first limit bytes of what it wrote to
// stdout and stderr. When ctx ends first, the command and its children are killed and the error is ErrExecTimeout.
// dir is a folder for the pipe of the output.
func (r *Runtime) Exec(ctx context.Context, id, dir string, command []string, limit int64) (int, []byte, error) {
	execID := uuid.NewString()
	process, err := r.execProcess(ctx, id, command)
	if err != nil {
		return 0, nil, err
	}
	pipe := filepath.Join(dir, execID)
	output, err := collect(pipe, limit)
	if err != nil {
		return 0, nil, err
	}
	defer func() { _ = os.Remove(pipe) }()
	service := r.client.TaskService()
	_, err = service.Exec(ctx, &tasks.ExecProcessRequest{ContainerID: id, ExecID: execID, Spec: process, Stdout: pipe, Stderr: pipe})
	if err != nil {
		output.end()
		return 0, nil, fmt.Errorf("exec: %w", errgrpc.ToNative(err))
	}
	code, err := r.runExec(ctx, id, execID)
	cleanup, cancel := context.WithTimeout(context.WithoutCancel(ctx), execCleanup)
	defer cancel()
	if _, gone := service.DeleteProcess(cleanup, &tasks.DeleteProcessRequest{ContainerID: id, ExecID: execID}); gone != nil &&
		!errdefs.IsNotFound(errgrpc.ToNative(gone)) {
		err = errors.Join(err, fmt.Errorf("clean up exec: %w", errgrpc.ToNative(gone)))
	}
	return code, output.end(), err
}

// execProcess is the container's own process with another command.
func (r *Runtime) execProcess(ctx context.Context, id string, command []string) (*anypb.Any, error) {
	record, err := r.client.ContainerService().Get(ctx, id)
	if err != nil {
		return nil, fmt.Errorf("exec: %w", err)
	}
	decoded, err := typeurl.UnmarshalAny(record.Spec)
	if err != nil {
		return nil, fmt.Errorf("exec: read OCI spec: %w", err)
	}
	spec, ok := decoded.(*specs.Spec)
	if !ok || spec.Process == nil {
		return nil, fmt.Errorf("exec: container %s has no process", id)
	}
	process := *spec.Process
	process.Args, process.Terminal = command, false
	encoded, err := typeurl.MarshalAnyToProto(&process)
	if err != nil {
		return nil, fmt.Errorf("exec: encode process: %w", err)
	}
	return encoded, nil
}

// runExec starts what was made by Exec and waits for its end, killing it when ctx ends first.
func (r *Runtime) runExec(ctx context.Context, id, execID string) (int, error) {
	service := r.client.TaskService()
	started, err := service.Start(ctx, &tasks.StartRequest{ContainerID: id, ExecID: execID})
	if err == nil {
		var ended *tasks.WaitResponse
		if ended, err = service.Wait(ctx, &tasks.WaitRequest{ContainerID: id, ExecID: execID}); err == nil {
			return int(ended.ExitStatus), nil
		}
	}
	if ctx.Err() == nil {
		return 0, fmt.Errorf("exec %s: %w", execID, errgrpc.ToNative(err))
	}
	cleanup, cancel := context.WithTimeout(context.WithoutCancel(ctx), execCleanup)
	defer cancel()
	if started != nil {
		killTree(int(started.Pid))
	}
	_, _ = service.Kill(cleanup, &tasks.KillRequest{ContainerID: id, ExecID: execID, Signal: uint32(syscall.SIGKILL)})
	_, _ = service.Wait(cleanup, &tasks.WaitRequest{ContainerID: id, ExecID: execID})
	return 0, ErrExecTimeout
}

// killTree kills a process and all its descendants. Each is stopped before its children are read, so that none is missed.
func killTree(pid int) {
	if pid <= 1 || syscall.Kill(pid, syscall.SIGSTOP) != nil {
		return
	}
	threads, _ := filepath.Glob("/proc/" + strconv.Itoa(pid) + "/task/*/children")
	for _, file := range threads {
		children, _ := os.ReadFile(file)
		for _, child := range strings.Fields(string(children)) {
			if n, err := strconv.Atoi(child); err == nil {
				killTree(n)
			}
		}
	}
	_ = syscall.Kill(pid, syscall.SIGKILL)
}

// collector reads a pipe until it is told to end, and keeps the beginning of what came.
type collector struct {
	pipe  *os.File
	raw   syscall.RawConn
	kept  []byte
	limit int64
	done  chan struct{}
}

func collect(path string, limit int64) (*collector, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("create exec pipe: %w", err)
	}
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		return nil, fmt.Errorf("create exec pipe: %w", err)
	}
	pipe, err := openPipe(path)
	if err != nil {
		return nil, errors.Join(err, os.Remove(path))
	}
	c := &collector{pipe: pipe, limit: limit, done: make(chan struct{})}
	if c.raw, err = pipe.SyscallConn(); err != nil {
		return nil, errors.Join(fmt.Errorf("open exec pipe: %w", err), pipe.Close(), os.Remove(path))
	}
	go func() {
		defer close(c.done)
		_ = c.raw.Read(func(fd uintptr) bool { c.empty(int(fd)); return false })
	}()
	return c, nil
}

// empty reads all there is now.
func (c *collector) empty(pipe int) {
	var piece [4096]byte
	for {
		n, err := syscall.Read(pipe, piece[:])
		if err != nil || n <= 0 {
			return
		}
		c.kept = append(c.kept, piece[:min(int64(n), c.limit-int64(len(c.kept)))]...)
	}
}

// end reads what is left and answers what was kept.
func (c *collector) end() []byte {
	_ = c.pipe.SetReadDeadline(time.Unix(1, 0))
	<-c.done
	_ = c.raw.Control(func(fd uintptr) { c.empty(int(fd)) })
	_ = c.pipe.Close()
	return c.kept
}
