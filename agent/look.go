package agent

import (
	"context"
	"errors"
	"fmt"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/podkeeper/podkeeper/agent/plan"
	"github.com/podkeeper/podkeeper/agent/status"
	"github.com/podkeeper/podkeeper/runtime"
)

// lookTimeout bounds one look, so that a runtime that hangs is told from a Pod at rest.
const lookTimeout = 30 * time.Second

// lookFault is the name under which a look that failed is noted.
const lookFault = "/look"

// look sees the Pod: what is recorded, and for what may have changed since, what containerd says. What an action is under
// way on is left to the action.
func (w *worker) look(ctx context.Context) (plan.Seen, error) {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	var errs []error
	seen := plan.Seen{Ending: w.inst.Ending, Containers: map[string]plan.Container{}}
	sandbox, err := w.lookSandbox(ctx)
	errs = append(errs, err)
	seen.Sandbox = sandbox
	for _, c := range allContainers(w.inst.Pod) {
		errs = append(errs, w.lookContainer(ctx, c))
		seen.Containers[c.Name] = w.seenContainer(c)
	}
	return seen, errors.Join(errs...)
}

func (w *worker) lookSandbox(ctx context.Context) (plan.Sandbox, error) {
	rec := &w.inst.Sandbox
	seen := plan.Sandbox{Attempt: rec.Attempt, Busy: w.busy(""), RetryAt: w.retryAt("")}
	if !rec.Made || seen.Busy {
		return seen, nil
	}
	seen.State = plan.Exited
	if !rec.Ready {
		return seen, nil
	}
	running, err := w.host.LookSandbox(ctx, w.target(""))
	if running || err != nil {
		seen.State = plan.Running
		w.register(w.target("").sandboxID(), w)
	}
	return seen, err
}

// lookContainer brings the record of a container up to date with what containerd says of it.
func (w *worker) lookContainer(ctx context.Context, c *v1.Container) error {
	rec := w.inst.Containers[c.Name]
	if !rec.Launched || rec.Exit != nil || w.busy(c.Name) {
		return nil
	}
	t := w.target(c.Name)
	w.register(t.id(), w)
	found, err := w.host.LookContainer(ctx, t)
	if err != nil {
		return err
	}
	switch found.State {
	case runtime.Running:
		if rec.StartedAt.IsZero() {
			rec.StartedAt = w.startedAt(found)
		}
		w.probe(c, t)
	case runtime.Stopped:
		w.exited(c, found)
	case runtime.Created, runtime.Absent:
		if rec.StartedAt.IsZero() {
			return nil // its start was cut off, and is made again
		}
		found.ExitCode, found.ExitedAt = 137, time.Now()
		w.exited(c, found)
		rec.Exit.Reason = "ContainerStatusUnknown"
		rec.Exit.Message = "The container could not be located when the pod was terminated"
	}
	return nil
}

// startedAt is when a process began that an earlier agent has started.
func (w *worker) startedAt(c runtime.Container) time.Time {
	at, err := runtime.StartedAt(c.PID)
	if err != nil {
		return time.Now()
	}
	return at
}

// exited records the end of an instance.
func (w *worker) exited(c *v1.Container, found runtime.Container) {
	rec := w.inst.Containers[c.Name]
	if rec.StartedAt.IsZero() {
		rec.StartedAt = rec.CreatedAt
	}
	t := w.target(c.Name)
	rec.Exit = w.host.Exit(t, found, rec.StartedAt)
	if found.ExitCode == 137 {
		var killed bool
		if killed, w.inst.OOMKills = w.host.OOMKilled(t, w.inst.OOMKills); killed {
			rec.Exit.Reason = "OOMKilled"
		}
	}
	rec.Started, rec.Ready = false, false
	w.endProbes(c.Name)
	delete(w.faults, c.Name) // they were about one that ran
	w.log.Info("container ended", "pod", w.key.String(), "container", c.Name, "code", rec.Exit.ExitCode, "reason", rec.Exit.Reason)
}

// seenContainer is what plan gets to know of a container.
func (w *worker) seenContainer(c *v1.Container) plan.Container {
	rec := w.inst.Containers[c.Name]
	seen := plan.Container{
		Attempt: rec.Attempt, Sandbox: rec.Sandbox, CreatedAt: rec.CreatedAt, StartedAt: rec.StartedAt,
		Backoff: rec.Backoff, Started: rec.Started,
		Busy: w.busy(c.Name), RetryAt: w.retryAt(c.Name),
	}
	if stop := rec.Stop; stop != nil && (rec.Signalled || rec.Exit != nil || !time.Now().Before(stop.Since.Add(stop.Grace))) {
		seen.Stop = stop // else the signal is still to be sent: an agent was killed before, or the runtime refused
	}
	next := rec.Attempt
	switch {
	case rec.Exit != nil:
		seen.State, seen.ExitCode, seen.FinishedAt = plan.Exited, int(rec.Exit.ExitCode), rec.Exit.FinishedAt.Time
		seen.Leftover = !rec.Cleaned
		next++
	case rec.Launched && !rec.StartedAt.IsZero():
		seen.State = plan.Running
		seen.Failed = w.failed(c.Name)
		if rec.Stop != nil && (rec.Stop.Why == plan.LivenessFailed || rec.Stop.Why == plan.StartupFailed) {
			seen.Failed = rec.Stop.Why // of a verdict that an earlier agent has heard
		}
	}
	prepared, ok := w.prepared[c.Name]
	seen.Prepared = ok && prepared.attempt == next
	return seen
}

func (w *worker) busy(name string) bool { _, ok := w.flights[name]; return ok }

// publish reports the Pod, for everyone who asks.
func (w *worker) publish(seen plan.Seen, now time.Time) {
	facts := status.Facts{
		Seen: seen, Containers: map[string]status.Container{}, HostIPs: w.hostIPs(), PodIPs: w.inst.Sandbox.IPs,
		StartTime: w.inst.Pod.CreationTimestamp.Time, Previous: w.inst.Status,
	}
	for _, name := range []string{"", lookFault} {
		if f := w.faults[name]; f != nil {
			facts.Reason, facts.Message = f.reason, f.message
		}
	}
	for name, rec := range w.inst.Containers {
		c := status.Container{Image: rec.Image, ImageID: rec.ImageID, Ready: rec.Ready, Exit: rec.Exit, Last: rec.Last}
		if rec.Launched {
			c.ID = "containerd://" + w.target(name).id()
		}
		if f := w.faults[name]; f != nil {
			c.Waiting = &status.Fault{Reason: f.reason, Message: f.message}
		}
		facts.Containers[name] = c
	}
	w.inst.Status = status.Make(w.inst.Pod, facts, now)
	w.published.Store(withStatus(w.inst))
	w.measure()
}

// withStatus is the Pod as it is reported: a copy of its top only, for neither side changes what is below.
func withStatus(inst *instance) *v1.Pod {
	pod := *inst.Pod
	pod.Status = inst.Status
	if inst.Ending != nil {
		grace := int64(plan.Grace(inst.Pod) / time.Second)
		pod.DeletionTimestamp = &metav1.Time{Time: inst.Ending.Since.Add(plan.Grace(inst.Pod))}
		pod.DeletionGracePeriodSeconds = &grace
	}
	return &pod
}

// tellBackoff tells people once an instance that the restart of a container waits.
func (w *worker) tellBackoff(seen plan.Seen, now time.Time) {
	for _, c := range allContainers(w.inst.Pod) {
		rec := w.inst.Containers[c.Name]
		if rec.Exit == nil || rec.told || plan.BackingOff(w.inst.Pod, seen, c, now).IsZero() {
			continue
		}
		rec.told = true
		w.events.add(w.inst.Pod, c.Name, v1.EventTypeWarning, "BackOff", fmt.Sprintf("Back-off restarting failed container %s in pod %s_%s(%s)",
			c.Name, w.inst.Pod.Name, w.inst.Pod.Namespace, w.inst.Pod.UID))
	}
}

// measure notes how long it took from the manifest to every container started, once.
func (w *worker) measure() {
	if w.seenAt.IsZero() {
		return
	}
	for _, s := range w.inst.Status.ContainerStatuses {
		if s.State.Running == nil && s.State.Terminated == nil {
			return
		}
	}
	w.metrics.podStart.Observe(time.Since(w.seenAt).Seconds())
	w.seenAt = time.Time{}
}
