package runtime

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/containerd/containerd/api/services/tasks/v1"
	"k8s.io/cri-streaming/pkg/streaming/remotecommand"
)

// Streams are what a command, or the main process of a container, is connected with. What is nil is not there. With a terminal
// there is no Stderr, and sizes for it come through Resize.
type Streams struct {
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	TTY            bool
	Resize         <-chan remotecommand.TerminalSize
}

// ExecStreams runs a command in a container that runs, connected with streams, and answers its exit code when all of its output
// was written. The end of Stdin reaches it: a terminal hangs up. When ctx ends first, or its output cannot be written, it and what it has started
// are killed. dir is a folder for pipes. Nothing is read from Stdin that came after the end, but a read may still be under way.
func (r *Runtime) ExecStreams(ctx context.Context, id, dir string, command []string, s Streams) (int, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	e := newExecution(id)
	process, err := r.execProcess(ctx, e, command, s.TTY)
	if err != nil {
		return 0, err
	}
	req := &tasks.ExecProcessRequest{ContainerID: id, ExecID: e.id, Spec: process, Terminal: s.TTY}
	var outputs []*outlet
	defer func() {
		for _, o := range outputs {
			o.close()
		}
	}()
	for end, to := range map[string]io.Writer{"out": s.Stdout, "err": s.Stderr} {
		if end == "err" && s.TTY {
			continue
		}
		o, err := newOutlet(e.pipe(dir, end), to)
		if err != nil {
			return 0, err
		}
		outputs = append(outputs, o)
		if end == "out" {
			req.Stdout = o.path
		} else {
			req.Stderr = o.path
		}
	}
	if s.Stdin != nil {
		req.Stdin = e.pipe(dir, "in")
		if err := makeFIFO(req.Stdin); err != nil {
			return 0, err
		}
		defer func() { _ = os.Remove(req.Stdin) }()
	}
	code, err := r.execute(ctx, req, func(ctx context.Context) <-chan struct{} {
		go r.resize(ctx, e, s.Resize)
		if s.Stdin != nil {
			go r.feedExec(ctx, e, req.Stdin, s.Stdin)
		}
		return passOn(outputs, cancel)
	})
	if cause := context.Cause(ctx); cause != nil && errors.Is(err, ErrExecTimeout) {
		err = cause
	}
	return code, err
}

// passOn writes the output of a command to where it is wanted, and answers what is closed when all of it is there. Where that
// cannot be written, cancel is called.
func passOn(outputs []*outlet, cancel context.CancelCauseFunc) <-chan struct{} {
	var copies sync.WaitGroup
	for _, o := range outputs {
		copies.Go(func() {
			if err := o.pass(); err != nil {
				cancel(err)
			}
		})
	}
	done := make(chan struct{})
	go func() { copies.Wait(); close(done) }()
	return done
}

// feedExec writes what comes to the pipe of a command's input, and then its end.
func (r *Runtime) feedExec(ctx context.Context, e execution, pipe string, from io.Reader) {
	if feed(ctx, func() (*os.File, error) { return openToWrite(ctx, pipe) }, from) == nil {
		// The shim holds the pipe open, too.
		_, _ = r.client.TaskService().CloseIO(ctx, &tasks.CloseIORequest{ContainerID: e.container, ExecID: e.id, Stdin: true})
	}
}

// resize gives sizes to the terminal of a command, or of the main process of a container, until ctx ends.
func (r *Runtime) resize(ctx context.Context, e execution, sizes <-chan remotecommand.TerminalSize) {
	for {
		select {
		case <-ctx.Done():
			return
		case size, more := <-sizes:
			if !more {
				return
			}
			// One without a terminal has no size, and one that has just ended needs none.
			_, _ = r.client.TaskService().ResizePty(ctx, &tasks.ResizePtyRequest{
				ContainerID: e.container, ExecID: e.id, Width: uint32(size.Width), Height: uint32(size.Height),
			})
		}
	}
}

// outlet is a pipe for output on its way to a writer. It is held open until the shim has opened it, so that nothing ends before
// it has begun.
type outlet struct {
	path string
	held *os.File
	to   io.Writer

	closing sync.Mutex
	closed  bool
	reading *os.File
}

// newOutlet makes the pipe. Output for nil is thrown away.
func newOutlet(path string, to io.Writer) (*outlet, error) {
	if err := makeFIFO(path); err != nil {
		return nil, err
	}
	held, err := openPipe(path)
	if err != nil {
		return nil, errors.Join(err, os.Remove(path))
	}
	if to == nil {
		to = io.Discard
	}
	return &outlet{path: path, held: held, to: to}, nil
}

// pass writes what comes through the pipe until the shim has closed it, or close was called. The error is that of a write.
func (o *outlet) pass() error {
	from, err := o.open()
	if err != nil || from == nil {
		return err
	}
	piece := make([]byte, 32<<10)
	for {
		n, err := from.Read(piece)
		if n > 0 {
			if _, err := o.to.Write(piece[:n]); err != nil {
				return fmt.Errorf("pass on output: %w", err)
			}
		}
		if err != nil { // the end, or closed
			return nil
		}
	}
}

// open opens the pipe to read only, so that its end is seen.
func (o *outlet) open() (*os.File, error) {
	o.closing.Lock()
	defer o.closing.Unlock()
	if o.closed {
		return nil, nil
	}
	from, err := os.OpenFile(o.path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("open exec pipe: %w", err)
	}
	o.held.Close()
	o.reading = from
	return from, nil
}

// close ends what is under way, and removes the pipe.
func (o *outlet) close() {
	o.closing.Lock()
	defer o.closing.Unlock()
	o.closed = true
	o.held.Close()
	if o.reading != nil {
		o.reading.Close()
	}
	_ = os.Remove(o.path)
}

// Pauses between two looks for a reader of input: the shim opens the pipe in its own time.
const (
	firstReaderPause = time.Millisecond
	lastReaderPause  = 100 * time.Millisecond
)

// feed writes what is read to a pipe until that ends. An end of ctx, or of the reader,
// is an error; what comes then is thrown away, so that it holds up nothing that comes the same way.
func feed(ctx context.Context, open func() (*os.File, error), from io.Reader) error {
	to, err := open()
	if err == nil {
		// It is closed at once, also while nothing is to be written: the shim waits for that.
		stop := context.AfterFunc(ctx, func() { _ = to.Close() })
		_, err = io.Copy(struct{ io.Writer }{to}, from)
		if stop() {
			err = errors.Join(err, to.Close())
		} else {
			err = ctx.Err()
		}
	}
	if err != nil {
		_, _ = io.Copy(io.Discard, from)
		return fmt.Errorf("pass on input: %w", err)
	}
	return nil
}

// openToWrite opens a pipe once it has a reader.
func openToWrite(ctx context.Context, pipe string) (*os.File, error) {
	for pause := firstReaderPause; ; pause = min(2*pause, lastReaderPause) {
		to, err := os.OpenFile(pipe, os.O_WRONLY|syscall.O_NONBLOCK, 0)
		if !errors.Is(err, syscall.ENXIO) {
			return to, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(pause):
		}
	}
}
