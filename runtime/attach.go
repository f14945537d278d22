package runtime

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"syscall"

	"github.com/containerd/containerd/api/services/tasks/v1"
)

// Attachment is the main process of a container that runs, for who attaches to it.
type Attachment struct {
	ID        string
	Log       *Log   // that carries its output
	Stdin     string // its InputPipe; empty is none
	StdinOnce bool   // it is closed for good after the first who had it, unless there is a terminal
}

// ErrBehind says that somebody who follows output did not take it in time, and misses some.
var ErrBehind = errors.New("the output is taken too slowly: some of it is lost")

// errDetached says that who is attached has ended the input, and so leaves.
var errDetached = errors.New("detached")

// AttachStreams connects streams with the main process of a container: they get the output that comes from now on. It returns
// when the container has ended, when ctx does, or when Stdin does, but for one that the container has once: that is closed then,
// and the output goes on (containerd internal/cri/io/container_io.go, Attach). Where ctx ends because the agent does, which
// is to have no other cause than context.Canceled, the container's stdin stays open. The error is ErrBehind, or that of a write.
func (r *Runtime) AttachStreams(ctx context.Context, to Attachment, s Streams) error {
	f := to.Log.follow()
	defer to.Log.unfollow(f)
	attached, detach := context.WithCancelCause(ctx)
	defer detach(nil)
	go r.resize(attached, execution{container: to.ID}, s.Resize)
	fed := to.Stdin != "" && s.Stdin != nil
	once := to.StdinOnce && !s.TTY
	if fed {
		go func() {
			_ = feed(attached, func() (*os.File, error) { return os.OpenFile(to.Stdin, os.O_WRONLY|syscall.O_NONBLOCK, 0) }, s.Stdin)
			if once {
				r.closeStdin(attached, to.ID)
			} else {
				detach(errDetached)
			}
		}()
	}
	err := f.pass(attached, s.Stdout, s.Stderr)
	if fed && once && !errors.Is(context.Cause(ctx), context.Canceled) {
		r.closeStdin(ctx, to.ID)
	}
	if errors.Is(err, errDetached) {
		return nil
	}
	return err
}

// closeStdin ends the input of a container. The shim holds its pipe open until then.
func (r *Runtime) closeStdin(ctx context.Context, id string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), execCleanup)
	defer cancel()
	_, _ = r.client.TaskService().CloseIO(ctx, &tasks.CloseIORequest{ContainerID: id, Stdin: true}) // of one that has ended there is none
}

// maxBehind is how much output waits for who follows it, in bytes. Who is further behind is cut off: a container is held up by
// nobody who watches it.
const maxBehind = 8 << 20

// follower gets a copy of what the streams of a container carry.
type follower struct {
	ready chan struct{} // of size 1, carries no data

	mu     sync.Mutex
	pieces []piece
	size   int
	ended  bool
	err    error // why it has
}

// piece is some output of one stream.
type piece struct {
	stream string
	text   []byte
}

// push takes a copy of some output.
func (f *follower) push(stream string, text []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.ended {
		return
	}
	if f.size+len(text) > maxBehind {
		f.pieces, f.size, f.ended, f.err = nil, 0, true, ErrBehind
	} else {
		f.pieces, f.size = append(f.pieces, piece{stream, append([]byte(nil), text...)}), f.size+len(text)
	}
	f.wake()
}

// end says that no more will come.
func (f *follower) end() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ended = true
	f.wake()
}

func (f *follower) wake() {
	select {
	case f.ready <- struct{}{}:
	default:
	}
}

// take answers what has come, and whether more will.
func (f *follower) take() (pieces []piece, ended bool, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	pieces, f.pieces, f.size = f.pieces, nil, 0
	return pieces, f.ended, f.err
}

// pass writes what comes until no more will, or ctx ends, whose cause is the error then. Output for nil is thrown away.
func (f *follower) pass(ctx context.Context, stdout, stderr io.Writer) error {
	for {
		pieces, ended, err := f.take()
		for _, p := range pieces {
			to := stdout
			if p.stream == "stderr" {
				to = stderr
			}
			if to == nil {
				continue
			}
			if _, err := to.Write(p.text); err != nil {
				return fmt.Errorf("pass on output: %w", err)
			}
		}
		if ended {
			return err
		}
		select {
		case <-f.ready:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
