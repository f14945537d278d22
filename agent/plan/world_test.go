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
// agent, deaths of the sandbox, looks that fail, shims that die, edits, ends that ask for a restart of all. It knows what is
// true, and holds every plan against that.
type world struct {
	*rapid.T
	pod        *v1.Pod
	now        time.Time
	sandbox    Sandbox // Running means it is ready and alive
	sandboxTry time.Time
	ready      bool // the record of the sandbox says that it was made in full
	attached   bool // and that its network is there
	hang       bool // hooks never end by themselves
	containers map[string]*inhabitant
	images     map[string]int // that the Pod names now
	flights    map[string]flight
	blind      map[string]bool // lanes ("" is the sandbox) that looks cannot tell of
	backoff    Backoff
	ending     *Ending
	restarting bool // the record says that all containers are being ended, to be done over
	tornDown   bool

	initDone map[string]bool // init containers that have succeeded in the present sandbox
	begun    map[string]bool // containers that have run in the present sandbox
}

// inhabitant is a container of the world: what is true of it, and what the agent has recorded.
type inhabitant struct {
	Container
	deaf  bool // it does not end when it is asked to
	noted bool // the agent has seen its end
	image int  // that this instance was made from
	had   int  // that is prepared
}

// flight is an action that is under way, and the image that it is about.
type flight struct {
	Action
	image int
}

func newWorld(t *rapid.T) *world {
	w := &world{T: t, now: t0, sandbox: Sandbox{Attempt: -1}, containers: map[string]*inhabitant{}, images: map[string]int{},
		flights: map[string]flight{}, blind: map[string]bool{}, initDone: map[string]bool{}, begun: map[string]bool{}}
	w.hang = rapid.Bool().Draw(t, "hooks hang")
	w.backoff.Max = rapid.SampledFrom([]time.Duration{0, 5 * time.Second, 30 * time.Second}).Draw(t, "longest back-off")
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
	for _, c := range w.all() {
		w.ownPolicy(c)
	}
	for _, c := range w.all() {
		if isInit(w.pod, c.Name) && !IsSidecar(c) {
			continue
		}
		c.Lifecycle = &v1.Lifecycle{}
		if rapid.Bool().Draw(t, "postStart") {
			c.Lifecycle.PostStart = &v1.LifecycleHandler{}
		}
		if rapid.Bool().Draw(t, "preStop") {
			c.Lifecycle.PreStop = &v1.LifecycleHandler{}
		}
	}
	return w
}

// exitCodes are those of containers that end by themselves. A kill is 137.
var exitCodes = []int32{0, 1, 3}

// ownPolicy gives a container a restart policy of its own, with rules, or none. A sidecar has one anyway; an init container
// with Always would be one.
func (w *world) ownPolicy(c *v1.Container) {
	policies := []v1.ContainerRestartPolicy{v1.ContainerRestartPolicyNever, v1.ContainerRestartPolicyOnFailure, v1.ContainerRestartPolicyAlways}
	if isInit(w.pod, c.Name) {
		policies = policies[:2]
	}
	switch {
	case !rapid.Bool().Draw(w.T, "policy of its own"):
		return
	case !IsSidecar(c):
		c.RestartPolicy = ptr(rapid.SampledFrom(policies).Draw(w.T, "own policy"))
	}
	for range rapid.IntRange(0, 2).Draw(w.T, "rules") {
		c.RestartPolicyRules = append(c.RestartPolicyRules, v1.ContainerRestartRule{
			Action: rapid.SampledFrom([]v1.ContainerRestartRuleAction{
				v1.ContainerRestartRuleActionRestart, v1.ContainerRestartRuleActionRestartAllContainers,
			}).Draw(w.T, "action"),
			ExitCodes: &v1.ContainerRestartRuleOnExitCodes{
				Operator: rapid.SampledFrom([]v1.ContainerRestartRuleOnExitCodesOperator{
					v1.ContainerRestartRuleOnExitCodesOpIn, v1.ContainerRestartRuleOnExitCodesOpNotIn,
				}).Draw(w.T, "operator"),
				Values: rapid.SliceOfNDistinct(rapid.SampledFrom(append(exitCodes, 137)), 1, 2, rapid.ID).Draw(w.T, "codes"),
			},
		})
	}
}

func hasPostStart(c *v1.Container) bool { return c.Lifecycle != nil && c.Lifecycle.PostStart != nil }
func hasPreStop(c *v1.Container) bool   { return c.Lifecycle != nil && c.Lifecycle.PreStop != nil }

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

// networkLane is the lane of Attach, which goes on beside all others.
const networkLane = "/network"

func lane(a Action) string {
	switch a.Verb {
	case Attach:
		return networkLane
	case PostStart, PreStop:
		return hookLane(a.Verb, a.Container)
	}
	return a.Container
}

func hookLane(hook Verb, name string) string { return "/" + string(hook) + "/" + name }

// unhook gives up hooks of a container.
func (w *world) unhook(name string, hooks ...Verb) {
	for _, hook := range hooks {
		delete(w.flights, hookLane(hook, name))
	}
}

// look is what the agent sees. Of what it cannot look at it knows what it has recorded: an end that was seen before, and
// that a sandbox was never made in full, or is being removed.
func (w *world) look() Seen {
	_, busy := w.flights[""]
	s := Seen{Sandbox: w.sandbox, Containers: map[string]Container{}, Ending: w.ending, Restarting: w.restarting, Backoff: w.backoff}
	s.Sandbox.Busy, s.Sandbox.RetryAt, s.Sandbox.Attached = busy, w.sandboxTry, w.attached
	_, s.Sandbox.Attaching = w.flights[networkLane]
	switch {
	case busy:
		s.Sandbox.State = None
	case w.ready && w.blind[""]:
		s.Sandbox.State = Unknown
	}
	for name, c := range w.containers {
		seen := c.Container
		_, seen.Busy = w.flights[name]
		seen.Prepared = c.Prepared && c.had == w.images[name]
		seen.Changed = !c.CreatedAt.IsZero() && c.image != w.images[name]
		_, post := w.flights[hookLane(PostStart, name)]
		_, pre := w.flights[hookLane(PreStop, name)]
		seen.Hooking = post || pre
		seen.Created = c.Created && c.Sandbox == w.sandbox.Attempt && !seen.Changed && !c.Redo
		if w.hidden(name) {
			seen.State, seen.ExitCode, seen.FinishedAt, seen.Leftover, seen.Lost, seen.Failed = Unknown, 0, time.Time{}, false, false, ""
		}
		s.Containers[name] = seen
	}
	return s
}

// hidden says whether a look cannot tell of a container that was made, whose end is not known yet.
func (w *world) hidden(name string) bool {
	c := w.containers[name]
	_, busy := w.flights[name]
	return !c.CreatedAt.IsZero() && !c.noted && !busy && w.blind[name]
}

// note is what the agent records before it plans: ends, and what they ask for; and, when nothing runs any more of a Pod whose
// containers all restart, that they are to be done over.
func (w *world) note() {
	for _, name := range w.names() {
		c := w.containers[name]
		if c.State != Exited || c.noted || w.hidden(name) {
			continue
		}
		c.noted = true
		if w.ending == nil && c.Stop == nil && c.PreStop == nil && RestartsAll(w.spec(name), c.ExitCode) {
			w.Logf("%v all restart, for %s has ended with %d", w.now.Sub(t0), name, c.ExitCode)
			w.restarting = true
		}
	}
	if !w.restarting {
		return
	}
	for name, c := range w.containers {
		if f, busy := w.flights[name]; busy && f.Verb != Prepare || c.State == Running || c.State == Exited && !c.noted {
			return
		}
	}
	for _, c := range w.containers {
		c.Redo, c.Created = !c.CreatedAt.IsZero(), false
	}
	w.restarting = false
	clear(w.initDone)
	clear(w.begun)
}

// launched says whether a container has an instance that was made in the present sandbox, or may have been, and that is not
// to be done over.
func (w *world) launched(name string) bool {
	c := w.containers[name]
	return !c.CreatedAt.IsZero() && c.Sandbox == w.sandbox.Attempt && !c.Redo
}

// step plans, holds the plan against the truth, and begins its actions. It answers the plan.
func (w *world) step() Plan {
	w.note()
	seen := w.look()
	p := Next(w.pod, seen, w.now)
	if again := Next(w.pod, seen, w.now); !reflect.DeepEqual(p, again) {
		w.Fatalf("the same look gave two plans: %v and %v", p, again)
	}
	w.independent(p)
	w.doneIsTrue(seen)
	for _, a := range p.Actions {
		w.Logf("%v %v", w.now.Sub(t0), a)
		if _, busy := w.flights[lane(a)]; busy {
			w.Fatalf("%v: it is busy", a)
		}
		image := w.images[a.Container]
		if c := w.containers[a.Container]; c != nil && a.Verb == Create {
			image = c.had
		}
		w.begin(a, seen)
		w.flights[lane(a)] = flight{a, image}
	}
	if !p.Wake.IsZero() && !p.Wake.After(w.now) {
		w.Fatalf("wake is not in the future: %v at %v", p.Wake, w.now)
	}
	return p
}

// doneIsTrue checks that a Pod which can go on is not taken for one that is done while a container may run that decides
// its fate.
func (w *world) doneIsTrue(seen Seen) {
	if n := (&next{pod: w.pod, seen: seen}); !Done(w.pod, seen) || n.lost() {
		return
	}
	for _, c := range w.pod.Spec.InitContainers {
		s := w.containers[c.Name]
		if !IsSidecar(&c) && s.State == Exited && s.Sandbox == w.sandbox.Attempt && s.ExitCode != 0 && !w.restarts(&c, s.Container) {
			return // it has failed for good
		}
	}
	for _, c := range w.pod.Spec.Containers {
		if got := w.containers[c.Name]; got.State != Exited || w.restarts(&c, got.Container) {
			w.Fatalf("the Pod is done, and %s is %q after %d", c.Name, got.State, got.ExitCode)
		}
	}
}

// independent checks that the actions of a plan do not depend on each other.
func (w *world) independent(p Plan) {
	verbs := map[Verb]bool{}
	who := map[string]bool{}
	for _, a := range p.Actions {
		if who[lane(a)] {
			w.Fatalf("two actions on %q: %v", lane(a), p.Actions)
		}
		verbs[a.Verb], who[lane(a)] = true, true
		if w.restarting && w.ending == nil && a.Verb != Kill {
			w.Fatalf("%v while all containers are being ended", a)
		}
	}
	for _, alone := range [][]Verb{
		{Start, CreateSandbox, RemoveSandbox, Teardown}, {Create, CreateSandbox, RemoveSandbox, Teardown},
		{Attach, CreateSandbox, RemoveSandbox, Teardown}, {Prepare, RemoveSandbox, Teardown},
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
		w.sandbox, w.ready, w.attached = Sandbox{State: Exited, Attempt: a.Attempt}, false, false
		clear(w.initDone)
		clear(w.begun)
	case RemoveSandbox, Teardown:
		w.nothingRuns(a)
		w.sandbox.State, w.ready = Exited, false
	case Attach:
		if w.attached || !w.ready {
			w.Fatalf("%v, attached already: %v", a, w.attached)
		}
	case Start:
		if s := seen.Containers[a.Container]; !s.Created || !w.attached || c.Sandbox != w.sandbox.Attempt || a.Attempt != s.Attempt {
			w.Fatalf("%v, attached: %v, of sandbox %d: %+v", a, w.attached, w.sandbox.Attempt, s)
		}
	case Prepare, Create:
		w.mayStart(a, seen)
		if a.Verb == Create {
			w.unhook(a.Container, PostStart, PreStop)
			*c = inhabitant{image: c.had, Container: Container{Attempt: a.Attempt, Sandbox: w.sandbox.Attempt, CreatedAt: w.now, Backoff: a.Backoff}}
			c.Unhooked, c.PreStopDue = hasPostStart(w.spec(a.Container)), hasPreStop(w.spec(a.Container))
		}
	case PostStart:
		if c.State != Running || !c.Unhooked || c.Stop != nil || c.PreStop != nil || seen.Containers[a.Container].Hooking || w.ending != nil {
			w.Fatalf("%v of %+v, ending: %v", a, c, w.ending)
		}
	case PreStop:
		w.mayStop(a, seen)
		if c.Stop != nil || !c.PreStopDue {
			w.Fatalf("%v after its time: %+v", a, c)
		}
		if c.PreStop == nil {
			c.PreStop = &Stop{Why: a.Why, Since: w.now, Grace: a.Grace}
		}
		w.unhook(a.Container, PostStart)
	case Terminate:
		w.mayStop(a, seen)
		w.mayBeSignalled(a)
		w.unhook(a.Container, PostStart, PreStop)
		if c.Stop != nil && c.Stop.Why == a.Why {
			w.Fatalf("%v: it was told already at %v", a, c.Stop.Since.Sub(t0))
		}
		c.Stop = &Stop{Why: a.Why, Since: w.now, Grace: a.Grace}
	case Kill:
		s := seen.Containers[a.Container]
		if !s.mayRun() || !s.Lost && (!w.restarting || w.ending != nil) && (c.Stop == nil || c.Stop.Since.Add(c.Stop.Grace).After(w.now)) {
			w.Fatalf("%v before its time", a)
		}
	case Clean:
		if c.State != Exited || !c.Leftover || !c.noted {
			w.Fatalf("%v: nothing to clean", a)
		}
	}
}

// mayBeSignalled checks that the preStop hook has ended, or has had its time.
func (w *world) mayBeSignalled(a Action) {
	c := w.containers[a.Container]
	ended := w.ending != nil && !w.now.Before(w.ending.Since.Add(Grace(w.pod)))
	if !c.PreStopDue || c.Stop != nil || ended || Done(w.pod, w.look()) {
		return
	}
	if c.PreStop == nil || c.PreStop.Since.Add(c.PreStop.Grace).After(w.now) {
		w.Fatalf("%v before its hook has ended: %+v", a, c.PreStop)
	}
}

func (w *world) nothingRuns(a Action) {
	if _, busy := w.flights[networkLane]; busy {
		w.Fatalf("%v while the network is being set up", a)
	}
	for name, c := range w.containers {
		if _, busy := w.flights[name]; c.State == Running || busy && a.Verb != CreateSandbox {
			w.Fatalf("%v while %s runs", a, name)
		}
	}
}

func (w *world) mayStart(a Action, seen Seen) {
	c := seen.Containers[a.Container]
	switch _, longest := w.backoff.limits(); {
	case w.ending != nil:
		w.Fatalf("%v of a Pod that ends", a)
	case c.mayRun() || w.containers[a.Container].State == Running:
		w.Fatalf("%v: it runs, or may", a)
	case c.RetryAt.After(w.now):
		w.Fatalf("%v before its time", a)
	case c.State == Exited && a.Attempt != c.Attempt+1, c.State == None && a.Attempt != c.Attempt:
		w.Fatalf("%v after attempt %d, %s", a, c.Attempt, c.State)
	case a.Verb != Create:
		return
	case seen.Sandbox.State != Running || w.sandbox.State != Running || !c.Prepared:
		w.Fatalf("%v without sandbox or image", a)
	case a.Backoff < 0 || a.Backoff > longest && a.Backoff != c.Backoff:
		w.Fatalf("%v, then after %v", a, a.Backoff)
	case c.State != Exited || c.Sandbox != w.sandbox.Attempt || c.Changed || ForEdit(c) || c.FinishedAt.Sub(c.CreatedAt) > 600*time.Second:
	case c.Backoff > 0 && w.now.Before(c.FinishedAt.Add(min(c.Backoff, longest))):
		w.Fatalf("%v before its back-off has passed", a)
	}
	w.mayFollow(a, seen)
}

func ForEdit(c Container) bool { return c.Stop != nil && c.Stop.Why == SpecChanged }

// mayFollow checks the order of the start.
func (w *world) mayFollow(a Action, seen Seen) {
	of, c := w.spec(a.Container), seen.Containers[a.Container]
	if isInit(w.pod, a.Container) && !IsSidecar(of) && w.initDone[a.Container] {
		w.Fatalf("%v: it has succeeded in this sandbox", a)
	}
	if c.State == Exited && (c.Sandbox == w.sandbox.Attempt || !isInit(w.pod, a.Container)) && !w.restarts(of, c) {
		w.Fatalf("%v, which has ended with %d for good", a, c.ExitCode)
	}
	for i, before := range w.pod.Spec.InitContainers {
		if before.Name == a.Container {
			return
		}
		followed := slices.ContainsFunc(w.all()[i+1:], func(later *v1.Container) bool { return w.launched(later.Name) })
		if s := seen.Containers[before.Name]; IsSidecar(&before) && !followed && (s.State != Running || !s.Started) {
			w.Fatalf("%v while %s is %s", a, before.Name, s.State)
		}
		if !IsSidecar(&before) && !w.initDone[before.Name] {
			w.Fatalf("%v before %s has succeeded", a, before.Name)
		}
		if !w.begun[before.Name] {
			w.Fatalf("%v before %s has started", a, before.Name)
		}
	}
}

func (w *world) mayStop(a Action, seen Seen) {
	c := seen.Containers[a.Container]
	reasons := map[Why]bool{
		PodEnds: w.ending != nil, PodDone: Done(w.pod, seen), SandboxGone: w.sandbox.State != Running,
		HookFailed:     c.Failed == HookFailed,
		LivenessFailed: c.Failed == LivenessFailed, StartupFailed: c.Failed == StartupFailed, SpecChanged: c.State == Running && c.Changed,
	}
	again := c.PreStop != nil && a.Why == c.PreStop.Why // an agent that was killed amid a hook
	if !c.mayRun() || c.Lost || !reasons[a.Why] && !again {
		w.Fatalf("%v: no reason to", a)
	}
	if seen.Sandbox.State == Unknown && w.ending == nil && !Done(w.pod, seen) {
		w.Fatalf("%v while nothing can be told of the sandbox", a)
	}
	limit := Grace(w.pod)
	if p := w.spec(a.Container).LivenessProbe; a.Why == LivenessFailed && p != nil {
		limit = time.Duration(*p.TerminationGracePeriodSeconds) * time.Second
	}
	if a.Grace > max(limit, minGrace) || a.Grace < minGrace && a.Verb == Terminate {
		w.Fatalf("%v within %v", a, a.Grace)
	}
}

// finish ends a flight: with what it was for, or in vain.
func (w *world) finish(key string, well bool) {
	a := w.flights[key]
	delete(w.flights, key)
	c := w.containers[a.Container]
	switch {
	case a.Verb == PreStop:
		c.PreStopDue = false
		return
	case a.Verb == PostStart && !well:
		c.Failed = HookFailed
		return
	case !well:
		retry := w.now.Add(time.Second)
		if key == networkLane { // the sandbox is of no use
			w.sandbox.State, w.ready = Exited, false
		}
		if c == nil {
			w.sandboxTry = retry
		} else {
			c.RetryAt = retry
		}
		return
	}
	switch a.Verb {
	case CreateSandbox:
		w.sandbox.State, w.ready = Running, true
	case RemoveSandbox:
		w.sandbox.State = None
	case Teardown:
		w.tornDown = true
	case Prepare:
		c.Prepared, c.Leftover, c.had = true, false, a.image
	case Attach:
		w.attached = true
	case Create:
		c.Created = true
	case Start:
		c.Created, c.State, c.StartedAt, w.begun[key] = false, Running, w.now, true
		c.Started = w.spec(key).StartupProbe == nil && !c.Unhooked
	case PostStart:
		c.Unhooked = false
		c.Started = w.spec(a.Container).StartupProbe == nil
	case Terminate:
		if c.State == Running && !c.deaf && !c.Lost {
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
	w.unhook(name, PostStart, PreStop)
	c.State, c.ExitCode, c.FinishedAt, c.Leftover, c.Prepared, c.Started, c.Failed, c.Lost = Exited, code, w.now, true, false, false, "", false
	if code == 0 && c.Sandbox == w.sandbox.Attempt && !ForEdit(c.Container) {
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
		c.Prepared, c.Created, c.RetryAt = false, false, time.Time{}
	}
}

// chance lets one thing happen.
func (w *world) chance() {
	running := w.running()
	switch what := rapid.IntRange(0, 16).Draw(w.T, "event"); {
	case what <= 4 && len(w.flights) > 0:
		w.finish(rapid.SampledFrom(slices.Sorted(maps.Keys(w.flights))).Draw(w.T, "flight"), rapid.IntRange(0, 4).Draw(w.T, "well") > 0)
	case what == 5 && len(running) > 0:
		w.exit(rapid.SampledFrom(running).Draw(w.T, "ends"), int(rapid.SampledFrom(exitCodes).Draw(w.T, "code")))
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
	case what == 11:
		lane := rapid.SampledFrom(append([]string{""}, w.names()...)).Draw(w.T, "hidden or not")
		w.blind[lane] = !w.blind[lane]
	case what == 12 && len(running) > 0:
		w.containers[rapid.SampledFrom(running).Draw(w.T, "lost")].Lost = true
	case what == 13 && w.ending == nil:
		w.images[rapid.SampledFrom(w.names()).Draw(w.T, "edited")]++
	case what == 14:
		w.retry()
	default:
		w.now = w.now.Add(time.Duration(rapid.IntRange(0, 400_000).Draw(w.T, "milliseconds")) * time.Millisecond)
	}
}

func (w *world) names() []string { return slices.Sorted(maps.Keys(w.containers)) }

// retry is what people ask for who have mended what was wrong.
func (w *world) retry() {
	w.sandboxTry = time.Time{}
	for _, c := range w.containers {
		c.RetryAt, c.Backoff = time.Time{}, 0
	}
}

// verdict is that of the next probe.
func (w *world) verdict(name string) {
	c := w.containers[name]
	probed, good := w.spec(name).StartupProbe != nil, rapid.Bool().Draw(w.T, "good")
	switch {
	case !probed || c.Failed != "" || c.Unhooked:
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
			return w.launched(l.Name) && w.containers[l.Name].State != None
		})
		if !IsSidecar(&c) && later && !busy && w.containers[c.Name].State == Exited {
			w.containers[c.Name] = &inhabitant{}
			return
		}
	}
}

// rest lets everything go well from now on, and nothing more happen, until there is nothing to do.
func (w *world) rest(steps int) {
	clear(w.blind)
	for range steps {
		p := w.step()
		switch {
		case w.tornDown:
			return
		case len(w.sound()) > 0:
			for _, key := range w.sound() {
				if _, there := w.flights[key]; there { // else what ended has ended it
					w.finish(key, true)
				}
			}
		case !p.Wake.IsZero():
			w.now = p.Wake
		default:
			return
		}
	}
	w.Fatalf("it does not come to rest")
}

// comeUp lets a Pod start without a hitch, for most of what may happen happens to one that runs.
func (w *world) comeUp() {
	for range 30 {
		w.step()
		for _, key := range w.sound() {
			w.finish(key, true)
		}
		for _, name := range w.running() {
			switch c := w.containers[name]; {
			case isInit(w.pod, name) && !IsSidecar(w.spec(name)):
				w.exit(name, 0)
			case !c.Unhooked:
				c.Started = true
			}
		}
	}
}

// sound are the flights that end. Hooks may hang.
func (w *world) sound() []string {
	var keys []string
	for _, key := range slices.Sorted(maps.Keys(w.flights)) {
		if v := w.flights[key].Verb; v != PostStart && v != PreStop || !w.hang {
			keys = append(keys, key)
		}
	}
	return keys
}

// settled checks that a Pod with which nothing is to be done is as it should be.
func (w *world) settled() {
	seen := w.look()
	if w.restarting {
		w.Fatalf("its containers are still to be ended: %+v", seen)
	}
	if Done(w.pod, seen) {
		if w.sandbox.State == Running || len(w.running()) > 0 {
			w.Fatalf("the Pod is done, and still there: %+v", seen)
		}
		return
	}
	for _, c := range w.all() {
		s := seen.Containers[c.Name]
		switch {
		case s.State == Running && s.Unhooked && w.hang && !w.mainBegun():
			return
		case s.State == Running && isInit(w.pod, c.Name) && (!IsSidecar(c) || !s.Started) && !w.mainBegun():
			return // it is what everything waits for
		case s.State == Running && (s.Lost || s.Changed):
			w.Fatalf("%s runs on, lost or of an image that is not wanted: %+v", c.Name, s)
		case s.State == Running, !IsSidecar(c) && s.State == Exited && !w.restarts(c, s), isInit(w.pod, c.Name) && !IsSidecar(c) && w.mainBegun(), w.initDone[c.Name]:
		default:
			w.Fatalf("nothing is done about %s: %+v", c.Name, s)
		}
	}
}

func (w *world) mainBegun() bool {
	return slices.ContainsFunc(w.pod.Spec.Containers, func(c v1.Container) bool { return w.begun[c.Name] })
}

// restarts says whether a container that has ended in this way is to run again.
func (w *world) restarts(c *v1.Container, s Container) bool {
	byProbe := s.Stop != nil && (s.Stop.Why == LivenessFailed || s.Stop.Why == StartupFailed)
	policy := w.pod.Spec.RestartPolicy
	if c.RestartPolicy != nil {
		policy = v1.RestartPolicy(*c.RestartPolicy)
	}
	failed := s.ExitCode != 0 || byProbe
	matches := slices.ContainsFunc(c.RestartPolicyRules, func(r v1.ContainerRestartRule) bool {
		return slices.Contains(r.ExitCodes.Values, int32(s.ExitCode)) == (r.ExitCodes.Operator == v1.ContainerRestartRuleOnExitCodesOpIn)
	})
	switch {
	case ForEdit(s) || s.Redo || matches && !byProbe:
		return true
	case policy == v1.RestartPolicyAlways && (IsSidecar(c) || !isInit(w.pod, c.Name)):
		return true
	default:
		return policy != v1.RestartPolicyNever && failed
	}
}

func TestPlansHoldInAnyWorld(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t)
		if rapid.Bool().Draw(t, "comes up first") {
			w.comeUp()
		}
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
		limit := w.now.Add(Grace(w.pod))
		for range rapid.IntRange(0, 10).Draw(t, "events at the end") {
			if w.step(); w.tornDown {
				return
			}
			w.chance()
			limit = later(limit, w.now) // what could not be told of may have been told to stop only now
		}
		w.rest(200)
		if !w.tornDown {
			t.Fatalf("the Pod never ended")
		}
		if took := w.now.Sub(limit); took > minGrace+time.Second {
			t.Fatalf("the end took %v more than it may", took)
		}
	})
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
