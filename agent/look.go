package agent

import (
	"context"
	"errors"
	"fmt"
	"time"

	v1 "k8s.io/api/core/v1"

	"github.com/podkeeper/podkeeper/agent/node"
	"github.com/podkeeper/podkeeper/agent/plan"
	"github.com/podkeeper/podkeeper/agent/status"
)

// How long one question to the runtime may take, and how long a look waits for answers. What is not answered by then is
// unknown: a container that the runtime hangs on delays no other.
const (
	lookTimeout  = 30 * time.Second
	lookPatience = 2 * time.Second
)

// errUnanswered says that the runtime has not answered in time.
var errUnanswered = errors.New("the runtime does not answer")

// sight is one look at a Pod: what was found of those lanes ("" is the sandbox) that the runtime was asked about.
type sight map[string]glance

// glance is what was found of a container. Of the sandbox only whether its State is Running counts.
type glance struct {
	node.Container
	err error // it cannot be told
}

// ask is a question to the runtime that is under way.
type ask struct {
	done   chan struct{}
	answer glance
}

// look asks the runtime, by id and at once, for all that may have changed since it was recorded. What a deed is under way
// on is left to the deed. It answers and changes nothing.
func (w *worker) look(ctx context.Context) sight {
	found := sight{}
	fresh := map[string]*ask{}
	for lane, question := range w.questions() {
		if old := w.asks[lane]; old != nil {
			select {
			case <-old.done: // its answer is of the past
			default:
				found[lane] = glance{err: errUnanswered}
				continue
			}
		}
		fresh[lane] = w.put(ctx, question)
		w.asks[lane] = fresh[lane]
	}
	if len(fresh) == 0 {
		return found
	}
	timer := time.NewTimer(lookPatience)
	defer timer.Stop()
	patient := true
	for lane, a := range fresh {
		if patient {
			select {
			case <-a.done:
			case <-timer.C:
				patient = false
			}
		}
		select {
		case <-a.done:
			found[lane] = a.answer
		default:
			found[lane] = glance{err: errUnanswered}
		}
	}
	return found
}

// questions are what to ask about, by lane.
func (w *worker) questions() map[string]func(context.Context) glance {
	out := map[string]func(context.Context) glance{}
	if s := w.inst.Sandbox; s.Made && s.Ready && !w.busy("") {
		t := w.target("")
		out[""] = func(ctx context.Context) glance {
			running, err := w.host.LookSandbox(ctx, t)
			if running {
				return glance{Container: node.Container{State: node.Running}, err: err}
			}
			return glance{err: err}
		}
	}
	for _, c := range plan.Containers(w.inst.Pod) {
		rec := w.inst.Containers[c.Name]
		if !rec.Launched || rec.Unmade || rec.Exit != nil || w.busy(c.Name) {
			continue
		}
		t := w.target(c.Name)
		t.Overdue = rec.Stop != nil && !time.Now().Before(rec.Stop.Since.Add(rec.Stop.Grace))
		out[c.Name] = func(ctx context.Context) glance {
			found, err := w.host.LookContainer(ctx, t)
			return glance{Container: found, err: err}
		}
	}
	return out
}

// put puts a question. One that is answered late makes the worker look again.
func (w *worker) put(ctx context.Context, question func(context.Context) glance) *ask {
	a := &ask{done: make(chan struct{})}
	begin := time.Now()
	go func() {
		ctx, cancel := context.WithTimeout(ctx, lookTimeout)
		defer cancel()
		a.answer = question(ctx)
		close(a.done)
		if time.Since(begin) >= lookPatience {
			w.Wake()
		}
	}()
	return a
}

// note brings the records up to date with what was found.
func (w *worker) note(found sight) {
	var fault error
	for _, g := range found {
		if g.err != nil {
			fault = g.err
		}
	}
	if fault == nil {
		delete(w.faults, lookLane)
	} else if !w.retryAt(lookLane).After(time.Now()) {
		w.fail(lookLane, "RuntimeUnavailable", fault)
	}
	for _, c := range plan.Containers(w.inst.Pod) {
		if g, asked := found[c.Name]; asked && g.err == nil {
			w.noteContainer(c, g.Container)
		}
	}
}

// noteContainer records what a container that was started does.
func (w *worker) noteContainer(c *v1.Container, found node.Container) {
	rec := w.inst.Containers[c.Name]
	switch found.State {
	case node.Running:
		if rec.StartedAt.IsZero() { // an earlier agent has started it
			rec.StartedAt, rec.created = node.StartedAt(found.PID), false
		}
	case node.Stopped:
		if rec.created && !rec.tried {
			rec.created, rec.Unmade = false, true
			w.fail(c.Name, "RuntimeError", errors.New("the container was made, and ended before it was started"))
			return
		}
		w.exited(c, found)
	case node.Created, node.Absent:
		if rec.StartedAt.IsZero() {
			if rec.created && found.State == node.Absent && !w.busy("") { // else it went with its sandbox
				w.fail(c.Name, "RuntimeError", errors.New("the container was made, and the runtime does not know it"))
			}
			rec.created = rec.created && found.State == node.Created
			return // it is still to be started, or its start was cut off and is made again
		}
		found.ExitCode, found.ExitedAt = 137, time.Now()
		w.exited(c, found)
		rec.Exit.Reason = "ContainerStatusUnknown"
		rec.Exit.Message = "The container could not be located when the pod was terminated"
	case node.Lost:
		if rec.StartedAt.IsZero() {
			rec.StartedAt = rec.CreatedAt // it has processes, which have to end before it is made again
		}
	}
}

// exited records the end of an instance.
func (w *worker) exited(c *v1.Container, found node.Container) {
	rec := w.inst.Containers[c.Name]
	if rec.StartedAt.IsZero() {
		rec.StartedAt = rec.CreatedAt
	}
	t := w.target(c.Name)
	rec.Exit = w.host.Exit(t, found, rec.StartedAt)
	if found.ExitCode != 0 && w.ranOut(c.Name, fmt.Sprintf("Container %s ran out of memory", c.Name)) {
		rec.Exit.Reason = "OOMKilled"
	}
	if w.inst.Restarting {
		rec.Exit.Reason, rec.Exit.Message = status.RestartingAll, status.RemovedForAll
	}
	if w.inst.Ending == nil && rec.Stop == nil && rec.PreStop == nil && plan.RestartsAll(c, int(rec.Exit.ExitCode)) {
		w.log.Info("all containers restart", "pod", w.key.String(), "container", c.Name, "code", rec.Exit.ExitCode)
		w.inst.Restarting = true
	}
	rec.Started, rec.Ready, rec.created = false, false, false
	w.endProbes(c.Name)
	w.endHooks(c.Name)
	delete(w.faults, c.Name) // they were about one that ran
	w.log.Info("container ended", "pod", w.key.String(), "container", c.Name, "code", rec.Exit.ExitCode, "reason", rec.Exit.Reason)
}

// redo says of all containers that they are to be done over, once none of them runs. What is ephemeral has had its run.
func (w *worker) redo() {
	if !w.inst.Restarting {
		return
	}
	for name, rec := range w.inst.Containers {
		f, under := w.flights[name]
		if under && f.deed.action.Verb != plan.Prepare || rec.Launched && rec.Exit == nil && !rec.StartedAt.IsZero() {
			return
		}
	}
	for name, rec := range w.inst.Containers {
		rec.Redo, rec.created = rec.Launched && !plan.IsEphemeral(w.inst.Pod, name), false
	}
	w.inst.Restarting = false
}

// seen is what plan gets to know.
func (w *worker) seen(found sight) plan.Seen {
	s := plan.Seen{Ending: w.inst.Ending, Restarting: w.inst.Restarting, Containers: map[string]plan.Container{}, Backoff: w.backoffOf(w.inst.Pod)}
	s.Sandbox = plan.Sandbox{
		Attempt: w.inst.Sandbox.Attempt, Busy: w.busy(""), RetryAt: later(w.retryAt(""), w.retryAt(networkLane)),
		Attached: w.inst.Sandbox.Attached, Attaching: w.busy(networkLane),
	}
	if w.inst.Sandbox.Made && !s.Sandbox.Busy {
		g, asked := found[""]
		switch {
		case !asked:
			s.Sandbox.State = plan.Exited
		case g.err != nil:
			s.Sandbox.State = plan.Unknown
		case g.State == node.Running:
			s.Sandbox.State = plan.Running
		default:
			s.Sandbox.State = plan.Exited
		}
	}
	for _, c := range plan.Containers(w.inst.Pod) {
		s.Containers[c.Name] = w.seenContainer(c, found)
	}
	return s
}

// seenContainer is what plan gets to know of a container.
func (w *worker) seenContainer(c *v1.Container, found sight) plan.Container {
	rec := w.inst.Containers[c.Name]
	seen := plan.Container{
		Attempt: rec.Attempt, Sandbox: rec.Sandbox, CreatedAt: rec.CreatedAt, StartedAt: rec.StartedAt,
		Backoff: rec.Backoff, Started: rec.Started, Redo: rec.Redo,
		Busy: w.busy(c.Name), RetryAt: w.retryAt(c.Name), Changed: rec.Asked != "" && rec.Asked != c.Image, Resized: w.inst.Resizing != nil && rec.restartsFor(w.inst.Pod, c),
		Unhooked: !isHooked(c, rec), PreStop: rec.PreStop, Hooking: w.hooking(c.Name, time.Now()),
		PreStopDue: c.Lifecycle != nil && c.Lifecycle.PreStop != nil && !rec.PreStopDone,
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
	case found[c.Name].err != nil:
		seen.State = plan.Unknown
	case rec.Launched && !rec.StartedAt.IsZero():
		seen.State, seen.Lost = plan.Running, found[c.Name].State == node.Lost
		seen.Failed = w.failed(c.Name)
		if rec.Stop != nil && (rec.Stop.Why == plan.LivenessFailed || rec.Stop.Why == plan.StartupFailed) {
			seen.Failed = rec.Stop.Why // of a verdict that an earlier agent has heard
		}
	}
	ready, ok := w.prepared[c.Name]
	seen.Prepared = ok && ready.attempt == next && ready.asked == c.Image
	seen.Created = rec.created && rec.Sandbox == w.inst.Sandbox.Attempt && !seen.Changed && !rec.Redo
	seen.Tidying = rec.Uncleaned || w.busy(tidyLane(c.Name))
	return seen
}

func (w *worker) busy(lane string) bool { _, ok := w.flights[lane]; return ok }

// rebase takes times that the clock has been set back behind for the present: nothing waits longer for it than it would have.
func (i *instance) rebase(now time.Time) {
	past := func(t *time.Time) {
		if t.After(now) { // never one of this process, whose clock cannot be set
			*t = now
		}
	}
	if i.Ending != nil && i.Ending.Since.After(now) {
		if !i.Ending.Deadline.IsZero() {
			i.Ending.Deadline = now.Add(i.Ending.Deadline.Sub(i.Ending.Since))
		}
		past(&i.Ending.Since)
	}
	for _, rec := range i.Containers {
		if rec.Stop != nil {
			past(&rec.Stop.Since)
		}
		if rec.PreStop != nil {
			past(&rec.PreStop.Since)
		}
		if rec.Exit != nil && rec.Exit.FinishedAt.After(now) {
			exit := *rec.Exit
			past(&exit.FinishedAt.Time)
			rec.Exit = &exit
		}
	}
}
