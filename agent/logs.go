package agent

import (
	"context"
	"fmt"
	"io"
	"net/url"
	"slices"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/podkeeper/podkeeper/agent/node"
	"github.com/podkeeper/podkeeper/agent/plan"
	"github.com/podkeeper/podkeeper/manifests"
	"github.com/podkeeper/podkeeper/server"
)

// Log answers what writes the log of a container, as the query of a v1.PodLogOptions asks: to the end, or with follow until
// the container has ended. The error is server.ErrNoPod, server.ErrInvalid with what is wrong with the query, or
// server.ErrBadRequest that there is no such log, in the kubelet's words.
func (a *Agent) Log(key types.NamespacedName, container string, query url.Values) (func(context.Context, io.Writer) error, error) {
	options, err := manifests.LogOptions(query)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", server.ErrInvalid, err)
	}
	// A worker that answers has looked, so that what runs has its log carried.
	pod, err := a.askOf(key, func(*worker) error { return nil })
	if err != nil {
		return nil, err
	}
	t, err := logOf(pod, container, options.Previous)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, out io.Writer) error { return a.node.ReadLog(ctx, t, options, out) }, nil
}

// logOf is the instance of a container whose log is meant (kubernetes/kubernetes pkg/kubelet/kubelet_pods.go,
// validateContainerLogStatus).
func logOf(pod *v1.Pod, container string, previous bool) (node.Target, error) {
	none := func(format string, args ...any) (node.Target, error) {
		return node.Target{}, server.BadRequest(fmt.Sprintf(format, args...))
	}
	all := plan.Containers(pod)
	at := slices.IndexFunc(all, func(c *v1.Container) bool { return c.Name == container })
	if at < 0 {
		return none("container %s is not valid for pod %s", container, pod.Name)
	}
	s := containerStatus(pod, container)
	if s == nil {
		return none("container %q in pod %q is not available", container, pod.Name)
	}
	id := s.ContainerID
	switch last := s.LastTerminationState.Terminated; {
	case previous && last == nil:
		return none("previous terminated container %q in pod %q not found", container, pod.Name)
	case previous, s.State.Running == nil && s.State.Terminated == nil && last != nil:
		id = last.ContainerID
	case s.State.Running == nil && s.State.Terminated == nil:
		return none("container %q in pod %q is waiting to start: %s", container, pod.Name, waitsFor(s.State.Waiting))
	}
	t := node.Target{Pod: pod, Container: all[at], Attempt: int(s.RestartCount) + 1}
	for ; t.Attempt >= 0; t.Attempt-- {
		if "containerd://"+t.ID() == id {
			return t, nil
		}
	}
	return none("container %q in pod %q is terminated", container, pod.Name)
}

func containerStatus(pod *v1.Pod, container string) *v1.ContainerStatus {
	for _, statuses := range [][]v1.ContainerStatus{
		pod.Status.ContainerStatuses, pod.Status.InitContainerStatuses, pod.Status.EphemeralContainerStatuses,
	} {
		for i := range statuses {
			if statuses[i].Name == container {
				return &statuses[i]
			}
		}
	}
	return nil
}

// waitsFor says why a container has not begun.
func waitsFor(waiting *v1.ContainerStateWaiting) string {
	switch {
	case waiting == nil:
		return "no logs yet"
	case waiting.Reason == node.ErrImagePull:
		return "image can't be pulled"
	case waiting.Reason == "ImagePullBackOff":
		return "trying and failing to pull image"
	}
	return waiting.Reason
}
