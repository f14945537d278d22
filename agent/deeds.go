package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/podkeeper/podkeeper/agent/inputs"
	"github.com/podkeeper/podkeeper/agent/node"
	"github.com/podkeeper/podkeeper/agent/plan"
)

// deed is a verb of a plan with all that belongs to it. begin, done and failed are called in the worker's goroutine, in
// that order; do runs beside the worker, and must touch nothing of it. Every one but do may be nil.
type deed struct {
	lane   string                          // what has one deed at a time: a container, "" for the sandbox
	action plan.Action                     // what it is told as
	starts bool                            // in vain once the instance has to go, never done without its record, and paced
	begin  func() (undo func())            // records what must be known before; undo takes that back
	do     func(ctx context.Context) error // the deed
	done   func()                          // records what has become of it
	failed func(err error)                 // judges what its failure means; nil is to try again later
	free   bool                            // it has no deadline of its own
	tells  func() string                   // how far it is, for people; may be nil
}

// deed answers what an action of a plan takes.
func (w *worker) deed(a plan.Action, now time.Time) deed {
	d := deed{lane: a.Container, action: a}
	switch a.Verb {
	case plan.CreateSandbox:
		w.createSandbox(&d)
	case plan.Attach:
		w.attach(&d)
	case plan.RemoveSandbox:
		w.removeSandbox(&d)
	case plan.Prepare:
		w.prepare(&d)
	case plan.Create:
		w.create(&d, now)
	case plan.Start:
		w.start(&d)
	case plan.PostStart:
		w.postStart(&d)
	case plan.PreStop:
		w.preStop(&d, now)
	case plan.Terminate:
		w.terminate(&d, now)
	case plan.Kill:
		w.kill(&d)
	case plan.Clean:
		w.clean(&d)
	case plan.Teardown:
		w.teardown(&d)
	default:
		d.do = func(context.Context) error { return fmt.Errorf("%s: no such action", a.Verb) }
	}
	return d
}

// earmarkOwn gives the instance what of the node is its alone, and is part of its record before it is used.
func (w *worker) earmarkOwn() {
	uid := w.inst.Pod.UID
	if node.HasUsers(w.inst.Pod) && w.inst.Users.Count == 0 && w.freeUsers != nil {
		w.inst.Users = earmark(w.roster, w.users, uid, w.freeUsers)
	}
	if node.HasLabels(w.inst.Pod) && w.inst.Level == "" && w.freeLevel != nil {
		free := w.freeLevel
		if asked := node.Level(w.inst.Pod); asked != "" { // which others may have, too
			free = func([]string) (string, bool) { return asked, true }
		}
		w.inst.Level = earmark(w.roster, w.levels, uid, free)
	}
}

func (w *worker) createSandbox(d *deed) {
	var t node.Target
	d.starts = true
	d.begin = func() func() {
		old := w.inst.Sandbox
		w.forget(w.inst.target("").SandboxID())
		w.inst.Sandbox = sandboxRecord{Attempt: d.action.Attempt, Made: true}
		w.earmarkOwn()
		t = w.target("")
		w.register(t.SandboxID(), w)
		if w.plugged && w.leftover != nil {
			w.leftover() // now that it is nobody's any more
		}
		w.plugged = false
		w.renewAt = inputs.RenewAt(t.Pod, time.Now())
		return func() { w.inst.Sandbox = old }
	}
	var warnings []string
	d.do = func(ctx context.Context) (err error) {
		begin := time.Now()
		if warnings, err = w.host.CreateSandbox(ctx, t); err == nil {
			w.metrics.sandbox.Observe(time.Since(begin).Seconds())
		}
		return err
	}
	d.done = func() {
		w.inst.Sandbox.Ready = true
		for _, warning := range warnings {
			w.event("", v1.EventTypeWarning, "DNSConfigForming", warning)
		}
	}
	d.failed = func(err error) { w.sandboxFailed(d.lane, err) }
}

// networkLane is the lane of Attach, beside which containers are made.
const networkLane = "/network"

func (w *worker) attach(d *deed) {
	t := w.target("")
	var ips []string
	d.lane, d.starts = networkLane, true
	d.do = func(ctx context.Context) (err error) {
		ips, err = w.host.Attach(ctx, t)
		return err
	}
	d.done = func() { w.inst.Sandbox.Attached, w.inst.Sandbox.IPs = true, ips }
	d.failed = func(err error) {
		w.inst.Sandbox.Ready = false // the next try begins with another sandbox
		w.sandboxFailed(d.lane, err)
	}
}

func (w *worker) sandboxFailed(lane string, err error) {
	reason, message := "FailedCreatePodSandBox", "Failed to create pod sandbox: "+err.Error()
	if fault := (*node.Fault)(nil); errors.As(err, &fault) {
		reason = fault.Reason
	}
	told := "FailedCreatePodSandBox"
	if reason == node.FailedMount {
		told, message = reason, err.Error()
	}
	w.event("", v1.EventTypeWarning, told, message)
	w.fail(lane, reason, err)
}

func (w *worker) removeSandbox(d *deed) {
	t := w.target("")
	var made []node.Target // and never started
	for _, c := range plan.Containers(w.inst.Pod) {
		if rec := w.inst.Containers[c.Name]; rec.created || rec.Unmade {
			made = append(made, w.target(c.Name))
		}
	}
	d.begin = func() func() {
		w.inst.Sandbox.Ready = false
		for _, t := range made {
			w.inst.Containers[t.Container.Name].Unmade = true
		}
		return nil
	}
	var left *node.Leftover
	d.do = func(ctx context.Context) error {
		err := w.host.RemoveSandbox(ctx, t, made...)
		if errors.As(err, &left) {
			return nil // the next one has another id
		}
		return err
	}
	d.done = func() {
		w.inst.Sandbox.Made, w.inst.Sandbox.Attached, w.inst.Sandbox.IPs = false, false, nil
		for _, t := range made {
			rec := w.inst.Containers[t.Container.Name]
			rec.created, rec.Unmade = false, false
		}
		if left != nil {
			w.plugged = true
			w.event("", v1.EventTypeWarning, "FailedCleanup", left.Error())
		}
	}
}

func (w *worker) prepare(d *deed) {
	t := w.target(d.lane).Of(d.action.Attempt)
	var pull node.Pull
	d.starts, d.free = true, true // a pull takes as long as it takes
	progress := w.tellProgress(d, t.Container.Image)
	_, missing := inputs.PullSecrets(t.Pod, t.Objects)
	d.do = func(ctx context.Context) (err error) {
		pull, err = w.host.Prepare(ctx, t, node.Pulling{Progress: progress, Begin: func(image string) {
			w.turn.yield() // what is waited for is not this host's work
			if len(missing) > 0 {
				w.events.add(t.Pod, "", v1.EventTypeWarning, "FailedToRetrieveImagePullSecret", fmt.Sprintf(
					"Unable to retrieve some image pull secrets (%s); attempting to pull the image may not succeed.", strings.Join(missing, ", ")))
			}
			w.events.add(t.Pod, d.lane, v1.EventTypeNormal, "Pulling", fmt.Sprintf("Pulling image %q", image))
		}})
		return err
	}
	d.done = func() {
		message := fmt.Sprintf("Container image %q already present on machine", t.Container.Image)
		if pull.Pulled {
			w.notePull(nil)
			w.metrics.pull.Observe(pull.Took.Seconds())
			message = fmt.Sprintf("Successfully pulled image %q in %s (%s including waiting). Image size: %d bytes.", t.Container.Image,
				pull.Took.Truncate(time.Millisecond), pull.Waiting.Truncate(time.Millisecond), pull.Image.Size)
		}
		w.event(d.lane, v1.EventTypeNormal, "Pulled", message)
		w.prepared[d.lane] = prepared{attempt: d.action.Attempt, asked: t.Container.Image, image: pull.Image}
	}
	d.failed = func(err error) { w.failPull(d.lane, err) }
}

// tellProgress has a pull tell how far it is.
func (w *worker) tellProgress(d *deed, image string) func(done, total int64) {
	const mib = 1 << 20
	var said atomic.Pointer[string]
	d.tells = func() string { return *said.Load() }
	said.Store(new(string))
	return func(done, total int64) {
		text := fmt.Sprintf("Pulling image %q: %d of %d MiB", image, done/mib, (total+mib-1)/mib)
		if total > 0 && text != *said.Swap(&text) {
			w.Wake()
		}
	}
}

func (w *worker) create(d *deed, now time.Time) {
	var t node.Target
	a := d.action
	made := w.prepared[d.lane]
	d.starts = true
	d.begin = func() func() {
		rec := w.inst.Containers[d.lane]
		old := *rec
		last := rec.Last
		if rec.Exit != nil {
			last = rec.Exit
		}
		// From here on something of the next instance may be there, and the last one has nothing more to tell.
		*rec = record{
			Attempt: a.Attempt, Sandbox: w.inst.Sandbox.Attempt, CreatedAt: now, Launched: true, Backoff: a.Backoff, Last: last,
			Asked: made.asked, Image: made.image.Name, ImageID: made.image.Digest, StopSignal: made.image.Config.StopSignal,
			Unmade:    old.Launched && old.Exit == nil && old.Attempt == a.Attempt, // its start was cut off, and that of it goes first
			Uncleaned: old.Uncleaned || old.Exit != nil && !old.Cleaned,
		}
		t = w.target(d.lane)
		rec.give(t.Pod, t.Container)
		if w.services != nil {
			t.Services = w.services(t.Pod)
		}
		w.forget(t.Of(old.Attempt).ID())
		w.register(t.ID(), w)
		return func() { *rec = old }
	}
	var user *v1.ContainerUser
	d.do = func(ctx context.Context) (err error) {
		user, err = w.host.Create(ctx, t, made.image)
		return err
	}
	d.done = func() {
		rec := w.inst.Containers[d.lane]
		rec.created, rec.Unmade, rec.User = true, false, user
		w.event(d.lane, v1.EventTypeNormal, "Created", "Created container: "+d.lane)
	}
	d.failed = func(err error) { w.startFailed(t, err) }
}

func (w *worker) start(d *deed) {
	t := w.target(d.lane)
	var startedAt time.Time
	d.starts = true
	d.begin = func() func() {
		w.inst.Containers[d.lane].tried = true
		return nil
	}
	d.do = func(ctx context.Context) (err error) {
		startedAt, err = w.host.Start(ctx, t)
		return err
	}
	d.done = func() {
		rec := w.inst.Containers[d.lane]
		rec.StartedAt, rec.created = startedAt, false
		w.event(d.lane, v1.EventTypeNormal, "Started", "Started container "+d.lane)
		if t.Attempt > 0 {
			w.metrics.restarts.Inc()
			w.tidy(t)
		}
	}
	d.failed = func(err error) { w.startFailed(t, err) }
}

// startFailed judges why an instance could not be made or started.
func (w *worker) startFailed(t node.Target, err error) {
	name := t.Container.Name
	if t.Attempt > 0 {
		w.tidy(t) // or every try would leave something
	}
	var fault *node.Fault
	switch {
	case errors.As(err, &fault):
		delete(w.prepared, name) // what is at fault may be the image: it is looked for anew
		w.event(name, v1.EventTypeWarning, "Failed", "Error: "+err.Error())
		w.fail(name, fault.Reason, err)
	case errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled):
		w.fail(name, "RuntimeError", err) // about the way to the runtime, not about what was asked of it
	default:
		w.event(name, v1.EventTypeWarning, "Failed", "Error: "+err.Error())
		w.startError(name, err)
	}
}

// startError records an instance whose main process could not be started as one that ended at once, as containerd does
// under CRI (StartError, 128): the back-off applies.
func (w *worker) startError(name string, err error) {
	rec := w.inst.Containers[name]
	rec.Exit = &v1.ContainerStateTerminated{
		ExitCode: 128, Reason: "StartError", Message: err.Error(), StartedAt: metav1.NewTime(rec.CreatedAt), FinishedAt: metav1.Now(),
		ContainerID: "containerd://" + w.target(name).ID(),
	}
	rec.StartedAt, rec.created = rec.CreatedAt, false
}

func (w *worker) terminate(d *deed, now time.Time) {
	t := w.target(d.lane)
	d.begin = func() func() {
		w.endHooks(d.lane)
		rec := w.inst.Containers[d.lane]
		if rec.Stop == nil || rec.Signalled {
			rec.Stop, rec.Signalled = &plan.Stop{Why: d.action.Why, Since: now, Grace: d.action.Grace}, false
		}
		if rec.PreStop == nil || rec.PreStop.Why != d.action.Why { // else it was told of
			w.event(d.lane, v1.EventTypeNormal, "Killing", killing(t.Pod, d.action))
		}
		return nil
	}
	d.do = func(ctx context.Context) error {
		// When its time is up it is killed, whether the runtime has answered or not.
		ctx, cancel := context.WithTimeout(ctx, max(d.action.Grace, firstRetry))
		defer cancel()
		return w.host.Signal(ctx, t, false)
	}
	d.done = func() { w.inst.Containers[d.lane].Signalled = true }
}

// killing tells people that, and why, a container is stopped, in the kubelet's words
// (kubernetes/kubernetes pkg/kubelet/kuberuntime, computePodActions and computeInitContainerActions).
func killing(pod *v1.Pod, a plan.Action) string {
	var what string
	again := true
	switch a.Why {
	case plan.LivenessFailed:
		what, again = "failed liveness probe", plan.RestartsOnFailure(pod, a.Container)
	case plan.StartupFailed:
		what, again = "failed startup probe", plan.RestartsOnFailure(pod, a.Container)
	case plan.SpecChanged:
		what = "definition changed"
	case plan.ResizeRestarts:
		return fmt.Sprintf("Container %s %s", a.Container, a.Why)
	case plan.HookFailed:
		return "FailedPostStartHook"
	default:
		return "Stopping container " + a.Container
	}
	switch {
	case slices.ContainsFunc(pod.Spec.InitContainers, func(c v1.Container) bool { return c.Name == a.Container }):
		return fmt.Sprintf("Init container %s %s", a.Container, what)
	case again:
		return fmt.Sprintf("Container %s %s, will be restarted", a.Container, what)
	default:
		return fmt.Sprintf("Container %s %s", a.Container, what)
	}
}

func (w *worker) kill(d *deed) {
	t := w.target(d.lane)
	d.do = func(ctx context.Context) error { return w.host.Signal(ctx, t, true) }
	d.done = func() { w.delay(d.lane, firstRetry, maxRetry) } // the end is an event of its own: again only if that does not come
	d.failed = func(err error) {
		w.event(d.lane, v1.EventTypeWarning, "FailedKillPod", "error killing pod: "+err.Error())
		w.fail(d.lane, "RuntimeError", err)
	}
}

func (w *worker) clean(d *deed) {
	t := w.target(d.lane)
	d.do = func(ctx context.Context) error { return w.host.Clean(ctx, t) }
	d.done = func() {
		rec := w.inst.Containers[d.lane]
		rec.Cleaned, rec.Exit = true, w.withLog(rec.Exit, t)
	}
}

// withLog completes what is told of the end of an instance, when the last of its output is in its log.
func (w *worker) withLog(exit *v1.ContainerStateTerminated, t node.Target) *v1.ContainerStateTerminated {
	if exit == nil || exit.Message != "" || exit.ExitCode == 0 ||
		t.Container.TerminationMessagePolicy != v1.TerminationMessageFallbackToLogsOnError {
		return exit
	}
	complete := *exit
	complete.Message = w.host.LogMessage(t)
	return &complete
}

// tidy removes the instance before another one, and what that has left, beside whatever comes next but the instance after:
// that one has its pipes. What fails is tried again.
func (w *worker) tidy(t node.Target) {
	d := deed{lane: tidyLane(t.Container.Name), action: plan.Action{Verb: plan.Tidy, Container: t.Container.Name}}
	if w.busy(d.lane) || w.retryAt(d.lane).After(time.Now()) {
		return
	}
	d.do = func(ctx context.Context) error { return w.host.RemoveOld(ctx, t) }
	d.done = func() {
		if rec := w.latest(t); rec != nil && rec.Uncleaned {
			rec.Uncleaned = false
			rec.Last = w.withLog(rec.Last, t.Of(t.Attempt-1))
		}
	}
	d.failed = func(error) { w.delay(d.lane, firstRetry, maxRetry) }
	w.next[d.lane] = d
}

// tidyUncleaned tidies where a start did not come to it: an agent was killed, or it failed. It answers when to try again.
func (w *worker) tidyUncleaned() (next time.Time) {
	if w.inst.Ending != nil {
		return next // all of it is removed
	}
	for _, c := range plan.Containers(w.inst.Pod) {
		if rec := w.inst.Containers[c.Name]; rec.Uncleaned && !rec.created && !w.busy(c.Name) {
			w.tidy(w.target(c.Name))
			next = earliest(next, w.retryAt(tidyLane(c.Name)))
		}
	}
	return next
}

// tidyLane is apart from those of containers, whose names have no slash.
func tidyLane(container string) string { return "/old/" + container }

func (w *worker) teardown(d *deed) {
	r := &remains{target: w.target(""), attempts: w.inst.attempts(), ids: w.inst.ids(), keep: w.inst.Ruling.Verdict == Evicted}
	d.do = func(ctx context.Context) error { return r.tearDown(ctx, w.host) }
	d.done = func() {
		for name := range w.inst.Containers {
			w.endProbes(name)
		}
		w.forget(r.ids...)
		w.freePorts(r.target.Pod)
		w.remains = append(w.remains, r)
		w.unswept.Store(true)
		if r.keep {
			w.inst.TornDown = true
			w.inst.Status = evictedStatus(w.inst)
			w.show(withStatus(w.inst))
			return
		}
		w.inst = nil // it is reported until its sweep was tried, or a successor takes its place
	}
	d.failed = func(err error) {
		w.event("", v1.EventTypeWarning, "FailedKillPod", "error killing pod: "+err.Error())
		w.fail("", "RuntimeError", err)
	}
}

// remains are an instance that is torn down, or is to be, and what must be known to remove the rest of it. Nothing waits
// for that but a successor of the same UID.
type remains struct {
	target   node.Target
	attempts map[string]int
	ids      []string
	torn     bool // nothing of it runs
	detached bool // it is off the network
	keep     bool // its record and its logs stay
	tried    bool // its sweep has failed before
}

// tearDown ends what may still run. A network that cannot be freed now is no reason to wait.
func (r *remains) tearDown(ctx context.Context, host host) error {
	err := host.Teardown(ctx, r.target, r.attempts)
	var left *node.Leftover
	if err != nil && !errors.As(err, &left) {
		return err
	}
	r.torn, r.detached = true, err == nil
	return nil
}

func (w *worker) sweep(r *remains) deed {
	d := deed{lane: sweepLane(r), action: plan.Action{Verb: plan.Sweep}, free: true}
	d.do = func(ctx context.Context) error {
		if !r.torn {
			if err := r.tearDown(ctx, w.host); err != nil {
				return err
			}
		}
		if err := w.host.Release(ctx, r.target, r.detached); err != nil || r.keep {
			return err
		}
		return w.host.Forget(r.target.Pod)
	}
	d.done = func() {
		w.dropRemains(r)
		if !r.keep {
			w.freeUID(r.target.Pod.UID)
		}
	}
	d.failed = func(err error) {
		r.tried = true
		w.events.add(r.target.Pod, "", v1.EventTypeWarning, "FailedCleanup", err.Error())
		w.delay(d.lane, firstRetry, maxSweepRetry)
	}
	return d
}

// sweepLane is apart from those of containers, whose names have no slash.
func sweepLane(r *remains) string { return "/sweep/" + string(r.target.Pod.UID) }

// fault is why the last deed of a lane failed, and when it is tried again.
type fault struct {
	reason, message string
	of              plan.Verb
	away            bool // the runtime did not answer: over as soon as it does
	delay           time.Duration
	retryAt         time.Time
}

// Delays between tries.
const (
	firstRetry     = time.Second
	maxRetry       = 30 * time.Second
	maxSweepRetry  = time.Minute
	firstPullRetry = 10 * time.Second // kubernetes/kubernetes pkg/kubelet/images
	maxPullRetry   = 300 * time.Second
)

func (w *worker) retryAt(lane string) time.Time {
	if f := w.faults[lane]; f != nil {
		return f.retryAt
	}
	return time.Time{}
}

// fail notes a failure; the next try waits, longer each time.
func (w *worker) fail(lane, reason string, err error) {
	f := w.delay(lane, firstRetry, maxRetry)
	f.reason, f.message, f.away = reason, err.Error(), node.IsAway(err)
}

func (w *worker) delay(lane string, first, limit time.Duration) *fault {
	f := w.faults[lane]
	if f == nil {
		f = &fault{}
		w.faults[lane] = f
	}
	f.delay = min(max(2*f.delay, first), limit)
	f.retryAt = time.Now().Add(f.delay)
	return f
}

// notePull tells of a pull that was done, or has failed.
func (w *worker) notePull(err error) {
	if w.pulled != nil {
		w.pulled(err)
	}
}

// failPull notes a failed pull in Kubernetes' words: the second failure on is a back-off.
func (w *worker) failPull(name string, err error) {
	w.notePull(err)
	reason := node.CreateContainerError
	var known *node.Fault
	if errors.As(err, &known) {
		reason = known.Reason
	}
	message := strings.TrimPrefix(err.Error(), reason+": ")
	image := w.target(name).Container.Image
	if of := (*node.VolumeImageError)(nil); errors.As(err, &of) {
		image = of.Image
	}
	event, text := imageFailed(reason, image, message)
	w.event(name, v1.EventTypeWarning, event, text)
	w.event(name, v1.EventTypeWarning, "Failed", "Error: "+reason)
	repeated := w.faults[name] != nil
	f := w.delay(name, firstPullRetry, maxPullRetry)
	f.reason, f.message, f.away = reason, message, false
	if repeated && reason == node.ErrImagePull {
		f.reason, f.message = "ImagePullBackOff", fmt.Sprintf("Back-off pulling image %q: %s: %s", image, reason, message)
		w.event(name, v1.EventTypeNormal, "BackOff", fmt.Sprintf("Back-off pulling image %q", image))
		w.event(name, v1.EventTypeWarning, "Failed", "Error: "+f.reason)
	}
}

// imageFailed tells people of an image that is not to be had, in the kubelet's words (kubernetes/kubernetes
// pkg/kubelet/images/image_manager.go). Messages of other reasons than a failed pull name the image themselves.
func imageFailed(reason, image, message string) (event, text string) {
	switch reason {
	case node.ErrImagePull:
		return "Failed", fmt.Sprintf("Failed to pull image %q: %s", image, message)
	case node.ErrImageNeverPull:
		return reason, message
	case node.InvalidImageName:
		return "InspectFailed", "Failed to apply default image tag " + message
	case node.ImageInspectError:
		return "InspectFailed", "Failed to inspect " + message
	default:
		return "Failed", message
	}
}
