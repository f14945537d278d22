package node

import (
	"context"
	"fmt"
	"io"
	"net"
	"path/filepath"

	v1 "k8s.io/api/core/v1"

	"github.com/podkeeper/podkeeper/runtime"
)

// Streams are what a command in a container is connected with.
type Streams = runtime.Streams

// execDir is where the pipes of commands are.
func (n *Node) execDir(pod *v1.Pod) string { return filepath.Join(n.runDir(pod), "exec") }

// ExecStreams runs a command in a container, connected with streams, and answers its exit code. When ctx ends first, or its
// output cannot be written, it and what it has started are killed.
func (n *Node) ExecStreams(ctx context.Context, t Target, command []string, s Streams) (int, error) {
	return n.Runtime.ExecStreams(ctx, t.ID(), n.execDir(t.Pod), command, s)
}

// AttachStreams connects streams with the main process of a container until that has ended, ctx or Stdin. Where ctx ends with
// another cause than context.Canceled, which is that the agent ends, a stdin that the container has once is closed.
func (n *Node) AttachStreams(ctx context.Context, t Target, s Streams) error {
	carried, err := n.carried(t)
	if err != nil {
		return err
	}
	to := runtime.Attachment{ID: t.ID(), Log: carried, StdinOnce: t.Container.StdinOnce}
	if t.Container.Stdin {
		to.Stdin = runtime.InputPipe(n.runDir(t.Pod), t.Container.Name, t.Attempt)
	}
	return n.Runtime.AttachStreams(ctx, to, s)
}

// LeftExecs looks for commands of an agent that was killed, and answers what ends them.
func (n *Node) LeftExecs() (end func(context.Context) error) {
	dirs, _ := filepath.Glob(filepath.Join(PodsDir(n.RunDir), "*", "exec"))
	return n.Runtime.LeftExecs(dirs)
}

// PortForward connects a stream with a TCP port of the Pod's loopback until the Pod has closed the connection, or ctx ends. The
// end of what the stream sends is passed on. The error has the words of containerd's CRI.
func (n *Node) PortForward(ctx context.Context, t Target, port int32, stream io.ReadWriter) error {
	id, place := t.SandboxID(), n.Network.NetNS(t.SandboxID())
	if t.Pod.Spec.HostNetwork {
		id, place = "", "host"
	}
	conn, err := n.Network.DialLocalhost(ctx, id, port)
	if err == nil {
		err = forward(ctx, conn, stream)
	}
	if err != nil {
		return fmt.Errorf("failed to execute portforward in network namespace %q: %w", place, err)
	}
	return nil
}

// forward copies both ways, and closes the connection.
func forward(ctx context.Context, conn net.Conn, stream io.ReadWriter) error {
	defer func() { _ = conn.Close() }()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	go func() {
		// What cannot be sent is the Pod's end, of which the other way tells.
		if _, err := io.Copy(struct{ io.Writer }{conn}, stream); err == nil {
			if half, ok := conn.(interface{ CloseWrite() error }); ok {
				_ = half.CloseWrite()
			}
		}
	}()
	_, err := io.Copy(stream, struct{ io.Reader }{conn})
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}
