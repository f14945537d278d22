package agent

import (
	"context"
	"fmt"
	"io"

	"k8s.io/apimachinery/pkg/types"

	"github.com/podkeeper/podkeeper/agent/node"
	"github.com/podkeeper/podkeeper/server"
)

// Exec answers what runs a command in a container, and answers its exit code. The error is server.ErrNoPod, or that the
// container does not run, in the kubelet's words (kubernetes/kubernetes pkg/kubelet/kubelet_pods.go, GetExec).
func (a *Agent) Exec(pod types.NamespacedName, container string, command []string) (func(context.Context, server.Streams) (int, error), error) {
	t, runs, err := a.runningTarget(pod, container)
	if err == nil && !runs {
		err = fmt.Errorf("container not found (%q)", container)
	}
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, s server.Streams) (int, error) {
		return a.node.ExecStreams(ctx, t, command, node.Streams(s))
	}, nil
}

// Attach answers whether a container has a terminal, and what connects streams with its main process. The error is
// server.ErrNoPod, or that the container does not run, in the kubelet's words (kubernetes/kubernetes
// pkg/kubelet/kubelet_pods.go, GetAttach).
func (a *Agent) Attach(pod types.NamespacedName, container string) (tty bool, attach func(context.Context, server.Streams) error, err error) {
	t, runs, err := a.runningTarget(pod, container)
	if err == nil && !runs {
		err = fmt.Errorf("container %s not found in pod %s", container, fullName(pod))
	}
	if err != nil {
		return false, nil, err
	}
	return t.Container.TTY, func(ctx context.Context, s server.Streams) error {
		return a.node.AttachStreams(ctx, t, node.Streams(s))
	}, nil
}

// PortForward answers what connects a stream with a port of a Pod. The error is server.ErrNoPod, or that nothing of the Pod runs,
// in the kubelet's words (kubernetes/kubernetes pkg/kubelet/kubelet_pods.go, GetPortForward).
func (a *Agent) PortForward(pod types.NamespacedName) (func(ctx context.Context, port int32, stream io.ReadWriter) error, error) {
	var t node.Target
	err := a.ask(pod, func(w *worker) error {
		if w.inst == nil || w.inst.TornDown || !w.inst.Sandbox.Made || !w.inst.Sandbox.Ready {
			return fmt.Errorf("pod not found (%q)", fullName(pod))
		}
		t = w.target("")
		return nil
	})
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, port int32, stream io.ReadWriter) error {
		return a.node.PortForward(ctx, t, port, stream)
	}, nil
}

// fullName is how the kubelet names a Pod in such errors.
func fullName(pod types.NamespacedName) string { return pod.Name + "_" + pod.Namespace }

// runningTarget is the instance of a container that runs.
func (a *Agent) runningTarget(pod types.NamespacedName, container string) (t node.Target, runs bool, err error) {
	err = a.ask(pod, func(w *worker) error { t, runs = w.runningTarget(container); return nil })
	return t, runs, err
}

func (w *worker) runningTarget(container string) (node.Target, bool) {
	if w.inst == nil {
		return node.Target{}, false
	}
	rec := w.inst.Containers[container]
	if rec == nil || !rec.Launched || rec.Exit != nil || rec.StartedAt.IsZero() {
		return node.Target{}, false
	}
	t := w.target(container)
	return t, t.Container != nil
}
