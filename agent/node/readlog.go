package node

import (
	"context"
	"io"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"

	"github.com/podkeeper/podkeeper/runtime"
)

// ReadLog writes the log of an instance of a container to its end, or with Follow until all of its output is there. The
// options have their defaults.
func (n *Node) ReadLog(ctx context.Context, t Target, options *v1.PodLogOptions, out io.Writer) error {
	q := runtime.LogQuery{
		Tail: ptr.Deref(options.TailLines, -1), Limit: ptr.Deref(options.LimitBytes, -1), Timestamps: options.Timestamps,
	}
	switch {
	case options.SinceTime != nil:
		q.Since = options.SinceTime.Time
	case options.SinceSeconds != nil:
		q.Since = time.Now().Add(-time.Duration(*options.SinceSeconds) * time.Second)
	}
	n.mu.Lock()
	if carried := n.logs[t.ID()]; carried != nil && options.Follow {
		q.Follow = carried.Grown
	}
	n.mu.Unlock()
	stdout, stderr := out, out
	switch ptr.Deref(options.Stream, v1.LogStreamAll) {
	case v1.LogStreamStdout:
		stderr = nil
	case v1.LogStreamStderr:
		stdout = nil
	}
	return runtime.ReadLog(ctx, n.logFile(t), q, stdout, stderr)
}
