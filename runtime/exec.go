package runtime

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
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

// ErrExecUnanswered says that the runtime did not start a command in time, or did not tell that it had ended. So nothing is known of it
// but that it is no more.
var ErrExecUnanswered = errors.New("the runtime did not answer in time")

// execCleanup bounds what is done after a command that was given up.
const execCleanup = 10 * time.Second

// Exec runs a command in a container that runs and answers its exit code and the first limit bytes of what it wrote to
// stdout and stderr. When ctx ends first, the command and what it has started are killed and the error is ErrExecTimeout, or
// ErrExecUnanswered.
// dir is a folder for the pipe of the output.
func (r *Runtime) Exec(ctx context.Context, id, dir string, command []string, limit int64) (int, []byte, error) {
	e := newExecution(id)
	process, err := r.execProcess(ctx, e, command, false)
	if err != nil {
		return 0, nil, err
	}
	pipe := e.pipe(dir, "out")
	output, err := collect(pipe, limit)
	if err != nil {
		return 0, nil, err
	}
	defer func() { _ = os.Remove(pipe) }()
	req := &tasks.ExecProcessRequest{ContainerID: id, ExecID: e.id, Spec: process, Stdout: pipe, Stderr: pipe}
	code, err := r.execute(ctx, req, func(context.Context) <-chan struct{} { return nothing })
	return code, output.end(), err
}

// execution is a command in a container beside its main process: the container's id, and its own.
type execution struct{ container, id string }

func newExecution(container string) execution { return execution{container, uuid.NewString()} }

// pipe is the path of a pipe of the command. Its name says whose it is, for who finds it when the agent was killed.
func (e execution) pipe(dir, end string) string {
	return filepath.Join(dir, e.container+"."+e.id+"."+end)
}

// mark is what the command and all that it starts have in their environment.
func (e execution) mark() string { return execMark + "=" + e.id }

// nothing is what has ended from the start.
var nothing = func() <-chan struct{} { c := make(chan struct{}); close(c); return c }()

// execute makes a command, runs it to its end, and removes what the shim has of it.
func (r *Runtime) execute(ctx context.Context, req *tasks.ExecProcessRequest, begun func(context.Context) <-chan struct{}) (int, error) {
	// What was begun is never given up half-way, or the shim would keep something of it.
	lasting, cancel := outlasting(ctx, execCleanup)
	defer cancel()
	service := r.client.TaskService()
	code := 0
	_, err := service.Exec(lasting, req)
	if err != nil {
		err = fmt.Errorf("exec: %w", errgrpc.ToNative(err))
	} else {
		code, err = r.runExec(ctx, lasting, execution{req.ContainerID, req.ExecID}, begun)
	}
	return code, errors.Join(err, r.forgetExec(lasting, execution{req.ContainerID, req.ExecID}))
}

// forgetExec removes what the shim has of a command that has ended.
func (r *Runtime) forgetExec(ctx context.Context, e execution) error {
	_, err := r.client.TaskService().DeleteProcess(ctx, &tasks.DeleteProcessRequest{ContainerID: e.container, ExecID: e.id})
	if err = errgrpc.ToNative(err); err != nil && !errdefs.IsNotFound(err) {
		return fmt.Errorf("clean up exec: %w", err)
	}
	return nil
}

// outlasting is a context that ends some time after ctx does.
func outlasting(ctx context.Context, by time.Duration) (context.Context, context.CancelFunc) {
	lasting, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(by, cancel) })
	return lasting, func() { stop(); cancel() }
}

// execProcess is the container's own process with another command, marked.
func (r *Runtime) execProcess(ctx context.Context, e execution, command []string, terminal bool) (*anypb.Any, error) {
	record, err := r.client.ContainerService().Get(ctx, e.container)
	if err != nil {
		return nil, fmt.Errorf("exec: %w", err)
	}
	decoded, err := typeurl.UnmarshalAny(record.Spec)
	if err != nil {
		return nil, fmt.Errorf("exec: read OCI spec: %w", err)
	}
	spec, ok := decoded.(*specs.Spec)
	if !ok || spec.Process == nil {
		return nil, fmt.Errorf("exec: container %s has no process", e.container)
	}
	process := *spec.Process
	process.Args, process.Terminal, process.ConsoleSize = command, terminal, nil
	process.Env = append(slices.Clone(process.Env), e.mark())
	if terminal { // as under containerd's CRI
		process.Env = append(slices.DeleteFunc(process.Env, func(v string) bool { return strings.HasPrefix(v, "TERM=") }), "TERM=xterm")
	}
	encoded, err := typeurl.MarshalAnyToProto(&process)
	if err != nil {
		return nil, fmt.Errorf("exec: encode process: %w", err)
	}
	return encoded, nil
}

// runExec starts what was made of a command, and waits for its end and for that of what begun answers, which is called once it
// runs. It kills it when ctx ends first, or nobody can tell its end.
func (r *Runtime) runExec(ctx, lasting context.Context, e execution, begun func(context.Context) <-chan struct{}) (int, error) {
	// Without a deadline that containerd would see: it may be a little ahead of ours.
	waiting, cancel := outlasting(ctx, 0)
	defer cancel()
	service := r.client.TaskService()
	started, err := service.Start(lasting, &tasks.StartRequest{ContainerID: e.container, ExecID: e.id})
	unanswered := ctx.Err() != nil // the command has had no time
	if err == nil {
		main, gone := holdOf(e.container, int(started.Pid))
		output := begun(waiting)
		var ended *tasks.WaitResponse
		ended, err = service.Wait(waiting, &tasks.WaitRequest{ContainerID: e.container, ExecID: e.id})
		if gone == nil {
			if err != nil {
				unanswered = unanswered || main.ended()
				main.killTree()
			}
			main.release()
		} else if err != nil {
			unanswered = true
		}
		if err == nil {
			select { // what it has left behind may write on
			case <-output:
				return int(ended.ExitStatus), nil
			case <-waiting.Done():
			}
		}
	}
	switch {
	case unanswered && ctx.Err() != nil:
		err = fmt.Errorf("exec %s: %w", e.id, ErrExecUnanswered)
	case ctx.Err() != nil:
		err = ErrExecTimeout
	default:
		err = fmt.Errorf("exec %s: %w", e.id, errgrpc.ToNative(err))
	}
	return 0, errors.Join(err, r.killExec(lasting, e, started != nil))
}

// killExec kills a command and all that it has started, and waits for its end where it was started.
func (r *Runtime) killExec(ctx context.Context, e execution, started bool) error {
	service := r.client.TaskService()
	_, _ = service.Kill(ctx, &tasks.KillRequest{ContainerID: e.container, ExecID: e.id, Signal: uint32(syscall.SIGKILL)})
	left := killMarked(ctx, e.mark(), func(ctx context.Context) ([]int, error) { return r.pids(ctx, e.container) })
	if started {
		_, _ = service.Wait(ctx, &tasks.WaitRequest{ContainerID: e.container, ExecID: e.id})
	}
	return left
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
	if err := makeFIFO(path); err != nil {
		return nil, err
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

// makeFIFO makes the pipe of a command, and its folder.
func makeFIFO(path string) error {
	err := os.MkdirAll(filepath.Dir(path), 0o700)
	if err == nil {
		err = syscall.Mkfifo(path, 0o600)
	}
	if err != nil {
		return fmt.Errorf("create exec pipe: %w", err)
	}
	return nil
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
