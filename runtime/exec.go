package runtime

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
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

// ErrExecTimeout says that a command did not end in time and was killed. What it has started was killed, too, wherever that
// went, unless it took care to give up both its parents and its environment.
var ErrExecTimeout = errors.New("command timed out")

// execCleanup bounds what is done after a command that was given up.
const execCleanup = 10 * time.Second

// Exec runs a command in a container that runs and answers its exit code and the first limit bytes of what it wrote to
// stdout and stderr. When ctx ends first, the command and what it has started are killed and the error is ErrExecTimeout.
// dir is a folder for the pipe of the output.
func (r *Runtime) Exec(ctx context.Context, id, dir string, command []string, limit int64) (int, []byte, error) {
	execID := uuid.NewString()
	process, err := r.execProcess(ctx, id, execID, command)
	if err != nil {
		return 0, nil, err
	}
	pipe := filepath.Join(dir, execID)
	output, err := collect(pipe, limit)
	if err != nil {
		return 0, nil, err
	}
	defer func() { _ = os.Remove(pipe) }()
	// What was begun is never given up half-way, or the shim would keep something of it.
	lasting, cancel := outlasting(ctx, execCleanup)
	defer cancel()
	service := r.client.TaskService()
	code := 0
	_, err = service.Exec(lasting, &tasks.ExecProcessRequest{ContainerID: id, ExecID: execID, Spec: process, Stdout: pipe, Stderr: pipe})
	if err != nil {
		err = fmt.Errorf("exec: %w", errgrpc.ToNative(err))
	} else {
		code, err = r.runExec(ctx, lasting, id, execID)
	}
	if _, gone := service.DeleteProcess(lasting, &tasks.DeleteProcessRequest{ContainerID: id, ExecID: execID}); gone != nil &&
		!errdefs.IsNotFound(errgrpc.ToNative(gone)) {
		err = errors.Join(err, fmt.Errorf("clean up exec: %w", errgrpc.ToNative(gone)))
	}
	return code, output.end(), err
}

// outlasting is a context that ends some time after ctx does.
func outlasting(ctx context.Context, by time.Duration) (context.Context, context.CancelFunc) {
	lasting, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(by, cancel) })
	return lasting, func() { stop(); cancel() }
}

// execProcess is the container's own process with another command, marked.
func (r *Runtime) execProcess(ctx context.Context, id, execID string, command []string) (*anypb.Any, error) {
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
	process.Env = append(slices.Clone(process.Env), execMark+"="+execID)
	encoded, err := typeurl.MarshalAnyToProto(&process)
	if err != nil {
		return nil, fmt.Errorf("exec: encode process: %w", err)
	}
	return encoded, nil
}

// runExec starts what was made by Exec and waits for its end. It kills it when ctx ends first, or nobody can tell its end.
func (r *Runtime) runExec(ctx, lasting context.Context, id, execID string) (int, error) {
	// Without a deadline that containerd would see: it may be a little ahead of ours.
	waiting, cancel := outlasting(ctx, 0)
	defer cancel()
	service := r.client.TaskService()
	started, err := service.Start(lasting, &tasks.StartRequest{ContainerID: id, ExecID: execID})
	if err == nil {
		main, gone := hold(int(started.Pid))
		var ended *tasks.WaitResponse
		ended, err = service.Wait(waiting, &tasks.WaitRequest{ContainerID: id, ExecID: execID})
		if gone == nil {
			if err != nil {
				main.killTree()
			}
			main.release()
		}
		if err == nil {
			return int(ended.ExitStatus), nil
		}
	}
	if ctx.Err() != nil {
		err = ErrExecTimeout
	} else {
		err = fmt.Errorf("exec %s: %w", execID, errgrpc.ToNative(err))
	}
	_, _ = service.Kill(lasting, &tasks.KillRequest{ContainerID: id, ExecID: execID, Signal: uint32(syscall.SIGKILL)})
	left := killMarked(lasting, execMark+"="+execID, func(ctx context.Context) ([]int, error) { return r.pids(ctx, id) })
	if started != nil {
		_, _ = service.Wait(lasting, &tasks.WaitRequest{ContainerID: id, ExecID: execID})
	}
	return 0, errors.Join(err, left)
}

// collector reads a pipe until it is told to end, and keeps the beginning of what came.
type collector struct {
	pipe  *os.File
	raw   syscall.RawConn
	kept  []byte
	limit int64
	done  chan struct{}
	ended atomic.Bool
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

// execPipe is what the pipe of a command's output holds.
const execPipe = 64 << 10

// empty reads all there is now, or until it is told to end: a writer may never pause.
func (c *collector) empty(pipe int) {
	var piece [4096]byte
	for !c.ended.Load() {
		if !c.read(pipe, piece[:]) {
			return
		}
	}
}

// read reads a piece, and says whether there was one.
func (c *collector) read(pipe int, piece []byte) bool {
	n, err := syscall.Read(pipe, piece)
	if err != nil || n <= 0 {
		return false
	}
	c.kept = append(c.kept, piece[:min(int64(n), c.limit-int64(len(c.kept)))]...)
	return true
}

// end reads what is left and answers what was kept.
func (c *collector) end() []byte {
	c.ended.Store(true)
	_ = c.pipe.SetReadDeadline(time.Unix(1, 0))
	<-c.done
	var piece [4096]byte
	_ = c.raw.Control(func(fd uintptr) {
		for left := execPipe; left > 0 && c.read(int(fd), piece[:]); left -= len(piece) {
		}
	})
	_ = c.pipe.Close()
	return c.kept
}
