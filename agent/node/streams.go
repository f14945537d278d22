package node

import (
	"context"
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

// LeftExecs looks for commands of an agent that was killed, and answers what ends them.
func (n *Node) LeftExecs() (end func(context.Context) error) {
	dirs, _ := filepath.Glob(filepath.Join(PodsDir(n.RunDir), "*", "exec"))
	return n.Runtime.LeftExecs(dirs)
}
