package plan

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	"pgregory.net/rapid"
)

// world carries out plans as the agent does, with luck that rapid draws: exits, probe verdicts, failures, crashes of the
// agent, deaths of the sandbox. It knows what is true, and holds every plan against that.
type world struct {
	*rapid.T
	pod        *v1.Pod
	now        time.Time
	sandbox    Sandbox // Running means it is ready and alive
	sandboxTry time.Time
	containers map[string]*inhabitant
	flights    map[string]Action
	ending     *Ending
	tornDown   bool

	initDone map[string]bool // init containers that have succeeded in the present sandbox
	begun    map[string]bool // containers that have run in the present sandbox
}

// inhabitant is a container of the world: what the agent has recorded of it, and what is in flight.
type inhabitant struct {
	Container
	deaf bool // it does not end when it is asked to
}

func newWorld(t *rapid.T) *world {
	w := &world{T: t, now: t0, sandbox: Sandbox{Attempt: -1}, containers: map[string]*inhabitant{}, flights: map[string]Action{},
		initDone: map[string]bool{}, begun: map[string]bool{}}
	var names []string
	for i := range rapid.IntRange(0, 4).Draw(t, "init containers") {
		names = append(names, rapid.SampledFrom([]string{"init", "side"}).Draw(t, "kind")+fmt.Sprint(i))
	}
	for i := range rapid.IntRange(1, 2).Draw(t, "containers") {
		names = append(names, fmt.Sprint("app", i))
	}
	w.pod = pod(rapid.SampledFrom([]v1.RestartPolicy{v1.RestartPolicyAlways, v1.RestartPolicyOnFailure, v1.RestartPolicyNever}).Draw(t, "policy"), names...)
	w.pod.Spec.TerminationGracePeriodSeconds = ptr(rapid.Int64Range(0, 40).Draw(t, "grace"))
	for _, c := range w.all() {
		w.containers[c.Name] = &inhabitant{}
		if rapid.Bool().Draw(t, "probes") && (!isInit(w.pod, c.Name) || IsSidecar(c)) {
			c.StartupProbe, c.LivenessProbe = &v1.Probe{}, &v1.Probe{TerminationGracePeriodSeconds: ptr(rapid.Int64Range(1, 90).Draw(t, "probe's grace"))}
		}
	}
	return w
}

func (w *world) all() []*v1.Container {
	var all []*v1.Container
	for i := range w.pod.Spec.InitContainers {
		all = append(all, &w.pod.Spec.InitContainers[i])
	}
	for i := range w.pod.Spec.Containers {
		all = append(all, &w.pod.Spec.Containers[i])
	}
	return all
}

func (w *world) spec(name string) *v1.Container {
	return w.all()[slices.IndexFunc(w.all(), func(c *v1.Container) bool { return c.Name == name })]
}

func (w *world) look() Seen {
	_, busy := w.flights[""]
	s := Seen{Sandbox: w.sandbox, Containers: map[string]Container{}, Ending: w.ending}
	s.Sandbox.Busy, s.Sandbox.RetryAt = busy, w.sandboxTry
	if busy {
		s.Sandbox.State = None
	}
	for name, c := range w.containers {
		seen := c.Container
		_, seen.Busy = w.flights[name]
		s.Containers[name] = seen
	}
	return s
}

// step plans, holds the plan against the truth, and begins its actions. It answers the plan.
func (w *world) step() Plan {
	seen := w.look()
	p := Next(w.pod, seen, w.now)
	if again := Next(w.pod, seen, w.now); !reflect.DeepEqual(p, again) {
		w.Fatalf("the same look gave two plans: %v and %v", p, again)
	}
	w.independent(p)
	for _, a := range p.Actions {
		w.Logf("%v %v", w.now.Sub(t0), a)
		if _, busy := w.flights[a.Container]; busy {
			w.Fatalf("%v: it is busy", a)
		}
		w.begin(a, seen)
		w.flights[a.Container] = a
	}
	if !p.Wake.IsZero() && !p.Wake.After(w.now) {
		w.Fatalf("wake is not in the future: %v at %v", p.Wake, w.now)
	}
	return p
}

// independent checks that the actions of a plan do not depend on each other.
func (w *world) independent(p Plan) {
	verbs := map[Verb]bool{}
	who := map[string]bool{}
	for _, a := range p.Actions {
		if who[a.Container] {
			w.Fatalf("two actions on %q: %v", a.Container, p.Actions)
		}
		verbs[a.Verb], who[a.Container] = true, true
	}
	for _, alone := range [][]Verb{
		{Start, CreateSandbox, RemoveSandbox, Teardown}, {Prepare, RemoveSandbox, Teardown},
		{Terminate, CreateSandbox, RemoveSandbox, Teardown}, {Kill, CreateSandbox, RemoveSandbox, Teardown},
	} {
		for _, other := range alone[1:] {
			if verbs[alone[0]] && verbs[other] {
				w.Fatalf("%s beside %s: %v", alone[0], other, p.Actions)
			}
		}
	}
}

// begin checks that an action is right, and records what the agent records before it acts.
func (w *world) begin(a Action, seen Seen) {
	c := w.containers[a.Container]
	switch a.Verb {
	case CreateSandbox:
		w.nothingRuns(a)
		if w.ending != nil || a.Attempt != w.sandbox.Attempt+1 {
			w.Fatalf("%v after attempt %d, ending: %v", a, w.sandbox.Attempt, w.ending)
		}
		w.sandbox = Sandbox{State: Exited, Attempt: a.Attempt}
		clear(w.initDone)
		clear(w.begun)
	case RemoveSandbox, Teardown:
		w.nothingRuns(a)
		w.sandbox.State = Exited
	case Prepare, Start:
		w.mayStart(a, seen)
		if a.Verb == Start {
			*c = inhabitant{Container: Container{Attempt: a.Attempt, Sandbox: w.sandbox.Attempt, CreatedAt: w.now, Backoff: a.Backoff}}
		}
	case Terminate:
		w.mayStop(a, seen)
		if c.Stop != nil && c.Stop.Why == a.Why {
			w.Fatalf("%v: it was told already at %v", a, c.Stop.Since.Sub(t0))
		}
		c.Stop = &Stop{Why: a.Why, Since: w.now, Grace: a.Grace}
	case Kill:
		if c.State != Running || c.Stop == nil || c.Stop.Since.Add(c.Stop.Grace).After(w.now) {
			w.Fatalf("%v before its time", a)
		}
	case Clean:
		if c.State != Exited || !c.Leftover {
			w.Fatalf("%v: nothing to clean", a)
		}
	}
}

func (w *world) nothingRuns(a Action) {
	for name, c := range w.containers {
		if _, busy := w.flights[name]; c.State == Running || busy && a.Verb != CreateSandbox {
			w.Fatalf("%v while %s runs", a, name)
		}
	}
}

func (w *world) mayStart(a Action, seen Seen) {
	c := seen.Containers[a.Container]
	switch {
	case w.ending != nil:
		w.Fatalf("%v of a Pod that ends", a)
	case c.State == Running:
		w.Fatalf("%v: it runs", a)
	case c.RetryAt.After(w.now):
		w.Fatalf("%v before its time", a)
	case c.State == Exited && a.Attempt != c.Attempt+1, c.State == None && a.Attempt != c.Attempt:
		w.Fatalf("%v after attempt %d, %s", a, c.Attempt, c.State)
	case a.Verb != Start:
		return
	case w.sandbox.State != Running || !c.Prepared:
		w.Fatalf("%v without sandbox or image", a)
	case c.State == Exited && c.Sandbox == w.sandbox.Attempt && c.Backoff > 0 && c.FinishedAt.Sub(c.CreatedAt) <= 600*time.Second && w.now.Before(c.FinishedAt.Add(c.Backoff)):
		w.Fatalf("%v before its back-off has passed", a)
	}
	w.mayFollow(a, c)
}

// mayFollow checks the order of the start.
func (w *world) mayFollow(a Action, c Container) {
	of := w.spec(a.Container)
	if isInit(w.pod, a.Container) && !IsSidecar(of) && w.initDone[a.Container] {
		w.Fatalf("%v: it has succeeded in this sandbox", a)
	}
	for _, before := range w.pod.Spec.InitContainers {
		if before.Name == a.Container {
			return
		}
		if !IsSidecar(&before) && !w.initDone[before.Name] {
			w.Fatalf("%v before %s has succeeded", a, before.Name)
		}
		if !w.begun[before.Name] {
			w.Fatalf("%v before %s has started", a, before.Name)
		}
	}
	if c.State == Exited && c.Sandbox == w.sandbox.Attempt && w.pod.Spec.RestartPolicy == v1.RestartPolicyNever {
		w.Fatalf("%v under Never", a)
	}
}

func (w *world) mayStop(a Action, seen Seen) {
	c := seen.Containers[a.Container]
	reasons := map[Why]bool{
		PodEnds: w.ending != nil, PodDone: Done(w.pod, seen), SandboxGone: w.sandbox.State != Running,
		LivenessFailed: c.Failed == LivenessFailed, StartupFailed: c.Failed == StartupFailed,
	}
	if c.State != Running || !reasons[a.Why] {
		w.Fatalf("%v: no reason to", a)
	}
	limit := Grace(w.pod)
	if p := w.spec(a.Container).LivenessProbe; a.Why == LivenessFailed && p != nil {
		limit = time.Duration(*p.TerminationGracePeriodSeconds) * time.Second
	}
	if a.Grace > max(limit, minGrace) || a.Grace <= 0 {
		w.Fatalf("%v within %v", a, a.Grace)
	}
}

// finish ends a flight: with what it was for, or in vain.
func (w *world) finish(key string, well bool) {
	a := w.flights[key]
	delete(w.flights, key)
	c := w.containers[key]
	if !well {
		retry := w.now.Add(time.Second)
		if c == nil {
			w.sandboxTry = retry
		} else {
			c.RetryAt = retry
		}
		return
	}
	switch a.Verb {
	case CreateSandbox:
		w.sandbox.State = Running
	case RemoveSandbox:
		w.sandbox.State = None
	case Teardown:
		w.tornDown = true
	case Prepare:
		c.Prepared, c.Leftover = true, false
	case Start:
		c.State, c.StartedAt, w.begun[key] = Running, w.now, true
		c.Started = w.spec(key).StartupProbe == nil
	case Terminate:
		if c.State == Running && !c.deaf {
			w.exit(key, 0)
		}
	case Kill:
		if c.State == Running {
			w.exit(key, 137)
		}
	case Clean:
		c.Leftover = false
	}
}

func (w *world) exit(name string, code int) {
	c := w.containers[name]
	c.State, c.ExitCode, c.FinishedAt, c.Leftover, c.Prepared, c.Started, c.Failed = Exited, code, w.now, true, false, false, ""
	if code == 0 && c.Sandbox == w.sandbox.Attempt {
		w.initDone[name] = true
	}
}

func (w *world) running() []string {
	var names []string
	for name, c := range w.containers {
		if _, busy := w.flights[name]; c.State == Running && !busy {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// crash forgets what only lives in the agent: what is in flight is done, or not.
func (w *world) crash() {
	for _, key := range slices.Sorted(maps.Keys(w.flights)) {
		if rapid.Bool().Draw(w.T, "done all the same") {
			w.finish(key, true)
			continue
		}
		delete(w.flights, key)
	}
	w.sandboxTry = time.Time{}
	for _, c := range w.containers {
		c.Prepared, c.RetryAt = false, time.Time{}
	}
}

// chance lets one thing happen.
func (w *world) chance() {
	running := w.running()
	switch what := rapid.IntRange(0, 11).Draw(w.T, "event"); {
	case what <= 4 && len(w.flights) > 0:
		w.finish(rapid.SampledFrom(slices.Sorted(maps.Keys(w.flights))).Draw(w.T, "flight"), rapid.IntRange(0, 4).Draw(w.T, "well") > 0)
	case what == 5 && len(running) > 0:
		w.exit(rapid.SampledFrom(running).Draw(w.T, "ends"), rapid.IntRange(0, 1).Draw(w.T, "code"))
	case what == 6 && len(running) > 0:
		w.verdict(rapid.SampledFrom(running).Draw(w.T, "probed"))
	case what == 7 && w.sandbox.State == Running:
		w.sandbox.State = Exited
	case what == 8:
		w.crash()
	case what == 9 && len(running) > 0:
		w.containers[rapid.SampledFrom(running).Draw(w.T, "deaf")].deaf = true
	case what == 10:
		w.prune()
	default:
		w.now = w.now.Add(time.Duration(rapid.IntRange(0, 400_000).Draw(w.T, "milliseconds")) * time.Millisecond)
	}
}

// verdict is that of the next probe.
func (w *world) verdict(name string) {
	c := w.containers[name]
	probed, good := w.spec(name).StartupProbe != nil, rapid.Bool().Draw(w.T, "good")
	switch {
	case !probed || c.Failed != "":
	case !c.Started && good:
		c.Started = true
	case !c.Started:
		c.Failed = StartupFailed
	case !good:
		c.Failed = LivenessFailed
	}
}

// prune loses all trace of an init container that a later one has followed.
func (w *world) prune() {
	for i, c := range w.pod.Spec.InitContainers {
		_, busy := w.flights[c.Name]
		later := slices.ContainsFunc(w.all()[i+1:], func(l *v1.Container) bool {
			s := w.containers[l.Name]
			return s.State != None && s.Sandbox == w.sandbox.Attempt
		})
		if !IsSidecar(&c) && later && !busy && w.containers[c.Name].State == Exited {
			w.containers[c.Name] = &inhabitant{}
			return
		}
	}
}

// rest lets everything go well from now on, and nothing more happen, until there is nothing to do.
func (w *world) rest(steps int) {
	for range steps {
		p := w.step()
		switch {
		case w.tornDown:
			return
		case len(w.flights) > 0:
			for _, key := range slices.Sorted(maps.Keys(w.flights)) {
				w.finish(key, true)
			}
		case !p.Wake.IsZero():
			w.now = p.Wake
		default:
			return
		}
	}
	w.Fatalf("it does not come to rest")
}

// settled checks that a Pod with which nothing is to be done is as it should be.
func (w *world) settled() {
	seen := w.look()
	if Done(w.pod, seen) {
		if w.sandbox.State == Running || len(w.running()) > 0 {
			w.Fatalf("the Pod is done, and still there: %+v", seen)
		}
		return
	}
	for _, c := range w.all() {
		s := seen.Containers[c.Name]
		switch {
		case s.State == Running && isInit(w.pod, c.Name) && (!IsSidecar(c) || !s.Started) && !w.mainBegun():
			return // it is what everything waits for
		case s.State == Running, !IsSidecar(c) && s.State == Exited && !restarts(w.pod, s), isInit(w.pod, c.Name) && !IsSidecar(c) && w.mainBegun(), w.initDone[c.Name]:
		default:
			w.Fatalf("nothing is done about %s: %+v", c.Name, s)
		}
	}
}

func (w *world) mainBegun() bool {
	return slices.ContainsFunc(w.pod.Spec.Containers, func(c v1.Container) bool { return w.begun[c.Name] })
}

func restarts(pod *v1.Pod, s Container) bool {
	byProbe := s.Stop != nil && (s.Stop.Why == LivenessFailed || s.Stop.Why == StartupFailed)
	return pod.Spec.RestartPolicy == v1.RestartPolicyAlways || pod.Spec.RestartPolicy == v1.RestartPolicyOnFailure && (s.ExitCode != 0 || byProbe)
}

func TestPlansHoldInAnyWorld(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t)
		for range rapid.IntRange(0, 80).Draw(t, "events") {
			w.step()
			w.chance()
		}
		w.rest(400)
		w.settled()
		for range rapid.IntRange(0, 10).Draw(t, "more events") {
			w.step()
			w.chance()
		}
		w.ending = &Ending{Since: w.now}
		end := w.now
		w.rest(200)
		if !w.tornDown {
			t.Fatalf("the Pod never ended")
		}
		if took := w.now.Sub(end); took > Grace(w.pod)+minGrace+time.Second {
			t.Fatalf("the end took %v", took)
		}
	})
}
