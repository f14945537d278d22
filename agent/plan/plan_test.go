package plan

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	v1 "k8s.io/api/core/v1"
)

// t0 is now in every table. Times in the tables are seconds from it.
var t0 = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

func at(seconds float64) time.Time { return t0.Add(time.Duration(seconds * float64(time.Second))) }

func ptr[T any](v T) *T { return &v }

// pod makes a Pod: its containers are told apart by their names, "init…", "side…" and all others.
func pod(policy v1.RestartPolicy, names ...string) *v1.Pod {
	p := &v1.Pod{Spec: v1.PodSpec{RestartPolicy: policy, TerminationGracePeriodSeconds: ptr(int64(30))}}
	for _, name := range names {
		c := v1.Container{Name: name}
		switch {
		case len(name) > 4 && name[:4] == "side":
			c.RestartPolicy = ptr(v1.ContainerRestartPolicyAlways)
			fallthrough
		case len(name) > 4 && name[:4] == "init":
			p.Spec.InitContainers = append(p.Spec.InitContainers, c)
		default:
			p.Spec.Containers = append(p.Spec.Containers, c)
		}
	}
	return p
}

func changed(p *v1.Pod, change func(*v1.Pod)) *v1.Pod {
	change(p)
	return p
}

func always(names ...string) *v1.Pod    { return pod(v1.RestartPolicyAlways, names...) }
func onFailure(names ...string) *v1.Pod { return pod(v1.RestartPolicyOnFailure, names...) }
func never(names ...string) *v1.Pod     { return pod(v1.RestartPolicyNever, names...) }

type with func(*Container)

// up is a container that has run for a minute; ended is one that ended now, after a second.
func up(more ...with) Container {
	return made(Container{State: Running, Started: true, CreatedAt: at(-60), StartedAt: at(-60)}, more)
}

func ended(code int, more ...with) Container {
	return made(Container{State: Exited, ExitCode: code, CreatedAt: at(-1), StartedAt: at(-1), FinishedAt: t0}, more)
}

func fresh(more ...with) Container { return made(Container{}, more) }

func made(c Container, more []with) Container {
	for _, change := range more {
		change(&c)
	}
	return c
}

func attempt(n int) with   { return func(c *Container) { c.Attempt = n } }
func sandbox(n int) with   { return func(c *Container) { c.Sandbox = n } }
func backoff(s int) with   { return func(c *Container) { c.Backoff = time.Duration(s) * time.Second } }
func finished(s int) with  { return func(c *Container) { c.FinishedAt = at(float64(s)) } }
func createdAt(s int) with { return func(c *Container) { c.CreatedAt = at(float64(s)) } }
func retry(s int) with     { return func(c *Container) { c.RetryAt = at(float64(s)) } }
func failed(why Why) with  { return func(c *Container) { c.Failed = why } }
func stop(why Why, since, grace float64) *Stop {
	return &Stop{Why: why, Since: at(since), Grace: time.Duration(grace * float64(time.Second))}
}
func told(why Why, since, grace float64) with {
	return func(c *Container) { c.Stop = stop(why, since, grace) }
}
func unknown(c *Container)    { c.State = Unknown }
func lost(c *Container)       { c.Lost = true }
func edited(c *Container)     { c.Changed = true }
func busy(c *Container)       { c.Busy = true }
func prepared(c *Container)   { c.Prepared = true }
func created(c *Container)    { c.Created = true }
func tidying(c *Container)    { c.Tidying = true }
func leftover(c *Container)   { c.Leftover = true }
func notStarted(c *Container) { c.Started = false }

type all map[string]Container

var (
	noSandbox = Sandbox{Attempt: -1}
	box       = Sandbox{State: Running, Attached: true}
	broken    = Sandbox{State: Exited}
	gone      = Sandbox{}
	hidden    = Sandbox{State: Unknown}
)

func ending(since float64) *Ending { return &Ending{Since: at(since), Reason: "test"} }

// show prints all that an action says.
func show(a Action) string {
	s := a.String()
	if a.Verb == Create && a.Backoff > 0 {
		s += fmt.Sprintf(", then after %v", a.Backoff)
	}
	if a.Verb == Terminate || a.Verb == PreStop {
		s += fmt.Sprintf(" within %v", a.Grace)
	}
	return s
}

type row struct {
	pod  *v1.Pod
	seen Seen
	want []string
	wake float64 // seconds from now; 0 is none
}

func check(t *testing.T, rows map[string]row) {
	t.Helper()
	t.Parallel()
	for sentence, r := range rows {
		t.Run(sentence, func(t *testing.T) {
			t.Parallel()
			got := Next(r.pod, r.seen, t0)
			var actions []string
			for _, a := range got.Actions {
				actions = append(actions, show(a))
			}
			if diff := cmp.Diff(r.want, actions); diff != "" {
				t.Errorf("actions (-want +got):\n%s", diff)
			}
			wake := time.Time{}
			if r.wake != 0 {
				wake = at(r.wake)
			}
			if !got.Wake.Equal(wake) {
				t.Errorf("wake at %v, want %v", got.Wake, wake)
			}
		})
	}
}

func TestSandboxAndStart(t *testing.T) {
	check(t, map[string]row{
		"a new Pod gets a sandbox, and images meanwhile": {pod: always("a", "b"), seen: Seen{Sandbox: noSandbox},
			want: []string{"create sandbox", "prepare a", "prepare b"}},
		"with init containers only the first image is wanted at once": {pod: always("init1", "init2", "a"), seen: Seen{Sandbox: noSandbox},
			want: []string{"create sandbox", "prepare init1"}},
		"a sandbox that is being made is waited for": {pod: always("a"), seen: Seen{Sandbox: Sandbox{Attempt: 0, Busy: true}, Containers: all{"a": fresh(prepared)}}},
		"a sandbox that could not be made is tried again in time": {pod: always("a"),
			seen: Seen{Sandbox: Sandbox{Attempt: 2, RetryAt: at(3)}, Containers: all{"a": fresh(busy)}}, wake: 3},
		"then under the next attempt": {pod: always("a"), seen: Seen{Sandbox: Sandbox{Attempt: 2, RetryAt: t0}, Containers: all{"a": fresh(busy)}},
			want: []string{"create sandbox (attempt 3)"}},
		"what is left of a broken sandbox goes first": {pod: always("a"), seen: Seen{Sandbox: broken, Containers: all{"a": fresh(prepared)}},
			want: []string{"remove sandbox"}},
		"in a sandbox containers are prepared": {pod: always("a"), seen: Seen{Sandbox: box}, want: []string{"prepare a"}},
		"what is prepared is made, beside what is not": {pod: always("a", "b"), seen: Seen{Sandbox: box, Containers: all{"a": fresh(prepared)}},
			want: []string{"create a", "prepare b"}},
		"a pull that hangs does not delay another container": {pod: always("a", "b"),
			seen: Seen{Sandbox: box, Containers: all{"a": fresh(busy), "b": fresh(prepared)}}, want: []string{"create b"}},
		"a pull that failed is tried again in time": {pod: always("a"), seen: Seen{Sandbox: box, Containers: all{"a": fresh(retry(10))}}, wake: 10},
		"a start that was cut off is made again, as the same attempt": {pod: always("a"),
			seen: Seen{Sandbox: box, Containers: all{"a": fresh(prepared, attempt(3), backoff(40), createdAt(-5))}},
			want: []string{"create a (attempt 3), then after 40s"}},
		"under Never, too":    {pod: never("a"), seen: Seen{Sandbox: box, Containers: all{"a": fresh(prepared, createdAt(-5))}}, want: []string{"create a"}},
		"what is made starts": {pod: always("a"), seen: Seen{Sandbox: box, Containers: all{"a": fresh(prepared, created, createdAt(0))}}, want: []string{"start a"}},
		"before the network is there containers are made": {pod: always("a", "b"),
			seen: Seen{Sandbox: Sandbox{State: Running}, Containers: all{"a": fresh(prepared)}}, want: []string{"attach", "create a", "prepare b"}},
		"but not started": {pod: always("a"),
			seen: Seen{Sandbox: Sandbox{State: Running, Attaching: true}, Containers: all{"a": fresh(prepared, created, createdAt(0))}}},
		"nor made where they are told the address": {pod: changed(always("a", "b"), func(p *v1.Pod) {
			p.Spec.Containers[0].Env = []v1.EnvVar{{Name: "IP", ValueFrom: &v1.EnvVarSource{FieldRef: &v1.ObjectFieldSelector{FieldPath: "status.podIP"}}}}
			p.Spec.Containers[1].Env = []v1.EnvVar{{Name: "NAME", ValueFrom: &v1.EnvVarSource{FieldRef: &v1.ObjectFieldSelector{FieldPath: "metadata.name"}}}}
		}), seen: Seen{Sandbox: Sandbox{State: Running, Attaching: true}, Containers: all{"a": fresh(prepared), "b": fresh(prepared)}}, want: []string{"create b"}},
		"the next init container is not made before its turn": {pod: always("init1", "init2", "a"),
			seen: Seen{Sandbox: Sandbox{State: Running, Attaching: true}, Containers: all{"init1": fresh(prepared, created, createdAt(0)), "init2": fresh(prepared)}}},
		"everything runs: nothing to do": {pod: always("init1", "side1", "a"),
			seen: Seen{Sandbox: box, Containers: all{"init1": ended(0), "side1": up(), "a": up()}}},
		"what an ended init container has left is cleaned": {pod: always("init1", "a"),
			seen: Seen{Sandbox: box, Containers: all{"init1": ended(0, leftover), "a": up()}}, want: []string{"clean init1"}},
	})
}

func TestSandboxLost(t *testing.T) {
	check(t, map[string]row{
		"Always: what runs is stopped first, in spec order": {pod: always("init1", "side1", "a", "b"),
			seen: Seen{Sandbox: broken, Containers: all{"init1": ended(0), "side1": up(), "a": up(), "b": up()}},
			want: []string{"stop side1 (sandbox is gone) within 30s", "stop a (sandbox is gone) within 30s", "stop b (sandbox is gone) within 30s"}},
		"Always: what was told to stop has its time": {pod: always("a"),
			seen: Seen{Sandbox: broken, Containers: all{"a": up(told(SandboxGone, -10, 30))}}, wake: 20},
		"Always: and is killed after it": {pod: always("a"),
			seen: Seen{Sandbox: broken, Containers: all{"a": up(told(SandboxGone, -30, 30))}}, want: []string{"kill a"}},
		"Always: then the sandbox goes": {pod: always("a"), seen: Seen{Sandbox: broken, Containers: all{"a": ended(137)}},
			want: []string{"remove sandbox"}},
		"Always: and a new one comes with a new instance of every container": {pod: always("a", "b"),
			seen: Seen{Sandbox: gone, Containers: all{"a": ended(137), "b": ended(0, attempt(4))}},
			want: []string{"create sandbox (attempt 1)", "prepare a (attempt 1)", "prepare b (attempt 5)"}},
		"a new sandbox is no failure: no back-off, and the one there was stays": {pod: always("a"),
			seen: Seen{Sandbox: Sandbox{State: Running, Attempt: 1, Attached: true}, Containers: all{"a": ended(137, backoff(80), prepared)}},
			want: []string{"create a (attempt 1), then after 1m20s"}},
		"init runs again in a new sandbox, from the first": {pod: always("init1", "init2", "a"),
			seen: Seen{Sandbox: Sandbox{State: Running, Attempt: 1, Attached: true}, Containers: all{"init1": ended(0), "init2": ended(0), "a": ended(137)}},
			want: []string{"prepare init1 (attempt 1)"}},
		"init exits count from the present sandbox only": {pod: always("init1", "init2", "a"),
			seen: Seen{Sandbox: Sandbox{State: Running, Attempt: 1, Attached: true}, Containers: all{"init1": ended(0, sandbox(1)), "init2": ended(0), "a": ended(137)}},
			want: []string{"prepare init2 (attempt 1)"}},
		"OnFailure: init runs again too, though it had succeeded": {pod: onFailure("init1", "a"),
			seen: Seen{Sandbox: Sandbox{State: Running, Attempt: 1, Attached: true}, Containers: all{"init1": ended(0), "a": ended(137)}},
			want: []string{"prepare init1 (attempt 1)"}},
		"OnFailure: a container that had succeeded stays ended": {pod: onFailure("a", "b"),
			seen: Seen{Sandbox: Sandbox{State: Running, Attempt: 1, Attached: true}, Containers: all{"a": ended(0), "b": ended(137, prepared)}},
			want: []string{"create b (attempt 1)"}},
		"OnFailure: nor is its image wanted": {pod: onFailure("a", "b"), seen: Seen{Sandbox: gone, Containers: all{"a": ended(0), "b": ended(1)}},
			want: []string{"create sandbox (attempt 1)", "prepare b (attempt 1)"}},
		"OnFailure: all had succeeded, so there is no new sandbox": {pod: onFailure("a"), seen: Seen{Sandbox: gone, Containers: all{"a": ended(0)}}},
		"Never: what runs is stopped with the whole period":        {pod: never("a"), seen: Seen{Sandbox: broken, Containers: all{"a": up()}}, want: []string{"stop a (pod is done) within 30s"}},
		"Never: which counts from the stop": {pod: never("a"),
			seen: Seen{Sandbox: broken, Containers: all{"a": up(told(PodDone, -10, 30))}}, wake: 20},
		"Never: a sidecar alone has the whole period too": {pod: never("side1", "a"),
			seen: Seen{Sandbox: broken, Containers: all{"side1": up()}}, want: []string{"stop side1 (pod is done) within 30s"}},
		"Never: there is no second sandbox after a container was made": {pod: never("a"), seen: Seen{Sandbox: gone, Containers: all{"a": ended(137)}}},
		"Never: there is one before": {pod: never("a"), seen: Seen{Sandbox: gone, Containers: all{"a": fresh(busy)}},
			want: []string{"create sandbox (attempt 1)"}},
	})
}

func TestRestart(t *testing.T) {
	next := func(c Container) Seen { return Seen{Sandbox: box, Containers: all{"a": c}} }
	check(t, map[string]row{
		"Always: exit 0 is restarted, at once the first time": {pod: always("a"), seen: next(ended(0)), want: []string{"prepare a (attempt 1)"}},
		"Always: exit 1 too":                       {pod: always("a"), seen: next(ended(1)), want: []string{"prepare a (attempt 1)"}},
		"OnFailure: exit 1 is restarted":           {pod: onFailure("a"), seen: next(ended(1)), want: []string{"prepare a (attempt 1)"}},
		"OnFailure: exit 0 is the end":             {pod: onFailure("a"), seen: next(ended(0)), want: []string{"remove sandbox"}},
		"Never: exit 1 is the end":                 {pod: never("a"), seen: next(ended(1)), want: []string{"remove sandbox"}},
		"Never: exit 0 is the end":                 {pod: never("a"), seen: next(ended(0)), want: []string{"remove sandbox"}},
		"the end of one is not the Pod's":          {pod: never("a", "b"), seen: Seen{Sandbox: box, Containers: all{"a": ended(0, leftover), "b": up()}}, want: []string{"clean a"}},
		"OnFailure: nor is a success":              {pod: onFailure("a", "b"), seen: Seen{Sandbox: box, Containers: all{"a": ended(0), "b": up()}}},
		"the first restart is followed by 10s":     {pod: always("a"), seen: next(ended(1, prepared)), want: []string{"create a (attempt 1), then after 10s"}},
		"it waits for the pipes of the one before": {pod: always("a"), seen: next(ended(1, prepared, tidying))},
		"a second restart waits 10s, and what was left is cleaned meanwhile": {pod: always("a"), seen: next(ended(1, attempt(1), backoff(10), leftover)),
			want: []string{"clean a"}, wake: 10},
		"back-off counts from the end": {pod: always("a"), seen: next(ended(1, attempt(1), backoff(10), finished(-4))), wake: 6},
		"and is over exactly in time": {pod: always("a"), seen: next(ended(1, attempt(1), backoff(10), finished(-10), prepared)),
			want: []string{"create a (attempt 2), then after 20s"}},
		"the image is not looked at before": {pod: always("a"), seen: next(ended(1, attempt(1), backoff(10), finished(-9))), wake: 1},
		"160s is followed by 300s": {pod: always("a"), seen: next(ended(1, attempt(6), backoff(160), finished(-160), prepared)),
			want: []string{"create a (attempt 7), then after 5m0s"}},
		"300s stays": {pod: always("a"), seen: next(ended(1, attempt(7), backoff(300), finished(-300), prepared)),
			want: []string{"create a (attempt 8), then after 5m0s"}},
		"ten minutes are not enough to start over": {pod: always("a"), seen: next(ended(1, attempt(7), backoff(300), createdAt(-600))), wake: 300},
		"more than ten minutes start over": {pod: always("a"), seen: next(ended(1, attempt(7), backoff(300), createdAt(-601), prepared)),
			want: []string{"create a (attempt 8), then after 10s"}},
		"exit 0 backs off like any other": {pod: always("a"), seen: next(ended(0, attempt(1), backoff(10))), wake: 10},
		"one that backs off does not delay another": {pod: always("a", "b"),
			seen: Seen{Sandbox: box, Containers: all{"a": ended(1, backoff(40)), "b": fresh(prepared)}}, want: []string{"create b"}, wake: 40},
		"the earliest of several times is the wake": {pod: always("a", "b"),
			seen: Seen{Sandbox: box, Containers: all{"a": ended(1, backoff(40)), "b": ended(1, backoff(20))}}, wake: 20},
		"a restart whose pull failed waits for that": {pod: always("a"), seen: next(ended(1, retry(7))), wake: 7},
		"a container that is busy is left alone":     {pod: always("a"), seen: next(ended(1, busy, leftover))},
	})
}

func TestProbeStops(t *testing.T) {
	own := func(p *v1.Pod) {
		p.Spec.Containers[0].LivenessProbe = &v1.Probe{TerminationGracePeriodSeconds: ptr(int64(5))}
		p.Spec.Containers[0].StartupProbe = &v1.Probe{TerminationGracePeriodSeconds: ptr(int64(6))}
	}
	plain := func(p *v1.Pod) { p.Spec.Containers[0].LivenessProbe = &v1.Probe{} }
	next := func(c Container) Seen { return Seen{Sandbox: box, Containers: all{"a": c}} }
	stopped := told(LivenessFailed, -1, 30)
	rows := map[string]row{
		"failed liveness stops with the probe's own period":               {pod: changed(always("a"), own), seen: next(up(failed(LivenessFailed))), want: []string{"stop a (liveness failed) within 5s"}},
		"failed startup has its own":                                      {pod: changed(always("a"), own), seen: next(up(notStarted, failed(StartupFailed))), want: []string{"stop a (startup failed) within 6s"}},
		"without one it is the Pod's":                                     {pod: changed(always("a"), plain), seen: next(up(failed(LivenessFailed))), want: []string{"stop a (liveness failed) within 30s"}},
		"it is told once":                                                 {pod: changed(always("a"), own), seen: next(up(failed(LivenessFailed), told(LivenessFailed, -2, 5))), wake: 3},
		"and killed when its time is up":                                  {pod: changed(always("a"), own), seen: next(up(failed(LivenessFailed), told(LivenessFailed, -5, 5))), want: []string{"kill a"}},
		"and again while it is still there":                               {pod: changed(always("a"), own), seen: next(up(failed(LivenessFailed), told(LivenessFailed, -50, 5))), want: []string{"kill a"}},
		"not while that is under way":                                     {pod: changed(always("a"), own), seen: next(up(failed(LivenessFailed), told(LivenessFailed, -50, 5), busy))},
		"a kill that failed is tried again in time":                       {pod: changed(always("a"), own), seen: next(up(told(LivenessFailed, -50, 5), retry(2))), wake: 2},
		"a busy container is not stopped":                                 {pod: changed(always("a"), own), seen: next(up(failed(LivenessFailed), busy))},
		"a sidecar's failed liveness leaves the rest alone":               {pod: always("side1", "a"), seen: Seen{Sandbox: box, Containers: all{"side1": up(failed(LivenessFailed)), "a": up()}}, want: []string{"stop side1 (liveness failed) within 30s"}},
		"a liveness stop that exits 0 is still a failure under OnFailure": {pod: onFailure("a"), seen: next(ended(0, stopped)), want: []string{"prepare a (attempt 1)"}},
		"so is a startup stop":                                            {pod: onFailure("a"), seen: next(ended(0, told(StartupFailed, -1, 30))), want: []string{"prepare a (attempt 1)"}},
		"any other stop that exits 0 is none":                             {pod: onFailure("a"), seen: next(ended(0, told(SandboxGone, -1, 30))), want: []string{"remove sandbox"}},
		"Never: it is killed and not restarted":                           {pod: never("a"), seen: next(ended(137, stopped)), want: []string{"remove sandbox"}},
		"Always: a liveness stop backs off like any other end":            {pod: always("a"), seen: next(ended(0, stopped, backoff(20))), wake: 20},
	}
	for _, policy := range []v1.RestartPolicy{v1.RestartPolicyAlways, v1.RestartPolicyOnFailure, v1.RestartPolicyNever} {
		rows[fmt.Sprintf("failed liveness stops under %s", policy)] = row{pod: changed(pod(policy, "a"), plain), seen: next(up(failed(LivenessFailed))),
			want: []string{"stop a (liveness failed) within 30s"}}
	}
	check(t, rows)
}

func TestUnknown(t *testing.T) {
	next := func(c Container) Seen { return Seen{Sandbox: box, Containers: all{"a": c}} }
	check(t, map[string]row{
		"it is left alone":                              {pod: always("a"), seen: next(up(unknown))},
		"even when its image was changed":               {pod: always("a"), seen: next(up(unknown, edited))},
		"it delays no other":                            {pod: always("a", "b"), seen: Seen{Sandbox: box, Containers: all{"a": up(unknown), "b": ended(1)}}, want: []string{"prepare b (attempt 1)"}},
		"what it was told before is waited for":         {pod: always("a"), seen: next(up(unknown, told(LivenessFailed, -10, 30))), wake: 20},
		"and it is killed when its time is up":          {pod: always("a"), seen: next(up(unknown, told(LivenessFailed, -30, 30))), want: []string{"kill a"}},
		"not while that is under way":                   {pod: always("a"), seen: next(up(unknown, told(LivenessFailed, -30, 30), busy))},
		"a sidecar holds what waits for it":             {pod: always("side1", "a"), seen: Seen{Sandbox: box, Containers: all{"side1": up(unknown)}}},
		"so does an init container":                     {pod: always("init1", "a"), seen: Seen{Sandbox: box, Containers: all{"init1": up(unknown)}}},
		"a sidecar holds nothing that has started once": {pod: always("side1", "a"), seen: Seen{Sandbox: box, Containers: all{"side1": up(unknown), "a": ended(1)}}, want: []string{"prepare a (attempt 1)"}},
		"nothing before it runs again":                  {pod: always("init1", "init2", "a"), seen: Seen{Sandbox: box, Containers: all{"init2": up(unknown)}}},
		"Never: the Pod is not done while one may run":  {pod: never("a", "b"), seen: Seen{Sandbox: box, Containers: all{"a": ended(0), "b": up(unknown)}}},
		"OnFailure: nor here":                           {pod: onFailure("a"), seen: next(up(unknown))},
		"Never: the Pod is done though a sidecar may run, which is told": {pod: never("side1", "a"), seen: Seen{Sandbox: box, Containers: all{"side1": up(unknown), "a": ended(0, finished(-3))}},
			want: []string{"stop side1 (pod is done) within 27s"}},
		"Never: and its sandbox stays until that has ended": {pod: never("side1", "a"),
			seen: Seen{Sandbox: box, Containers: all{"side1": up(unknown, told(PodDone, -5, 30)), "a": ended(0, finished(-5))}}, wake: 25},
		"when the Pod ends it is told like any other": {pod: always("a"), seen: Seen{Ending: ending(-5), Sandbox: box, Containers: all{"a": up(unknown)}},
			want: []string{"stop a (pod ends) within 25s"}},
		"and killed in time":                     {pod: always("a"), seen: Seen{Ending: ending(-30), Sandbox: box, Containers: all{"a": up(unknown, told(PodEnds, -30, 30))}}, want: []string{"kill a"}},
		"and again while it may still be there":  {pod: always("a"), seen: Seen{Ending: ending(-60), Sandbox: box, Containers: all{"a": up(unknown, told(PodEnds, -60, 30))}}, want: []string{"kill a"}},
		"nothing is torn down before it is gone": {pod: always("a"), seen: Seen{Ending: ending(-5), Sandbox: box, Containers: all{"a": up(unknown, told(PodEnds, -5, 30))}}, wake: 25},
		"a sidecar waits for it": {pod: always("side1", "a"), seen: Seen{Ending: ending(-5), Sandbox: box, Containers: all{"side1": up(), "a": up(unknown, told(PodEnds, -5, 30))}},
			wake: 25},
		"it is stopped when the sandbox is gone": {pod: always("a"), seen: Seen{Sandbox: broken, Containers: all{"a": up(unknown)}}, want: []string{"stop a (sandbox is gone) within 30s"}},
		"and what is left of that stays till then": {pod: always("a"), seen: Seen{Sandbox: broken, Containers: all{"a": up(unknown, told(SandboxGone, -5, 30))}},
			wake: 25},
	})
}

func TestUnknownSandbox(t *testing.T) {
	check(t, map[string]row{
		"nothing is made or removed":         {pod: always("a"), seen: Seen{Sandbox: hidden}},
		"nothing is started":                 {pod: always("a", "b"), seen: Seen{Sandbox: hidden, Containers: all{"a": up(), "b": fresh(prepared)}}},
		"nothing is restarted, nor cleaned":  {pod: always("a"), seen: Seen{Sandbox: hidden, Containers: all{"a": ended(1, prepared, leftover)}}},
		"nothing is stopped for its probe":   {pod: always("a"), seen: Seen{Sandbox: hidden, Containers: all{"a": up(failed(LivenessFailed))}}},
		"nor for an edit":                    {pod: always("a"), seen: Seen{Sandbox: hidden, Containers: all{"a": up(edited)}}},
		"nor for being lost":                 {pod: always("a"), seen: Seen{Sandbox: hidden, Containers: all{"a": up(lost)}}},
		"what was told to stop has its time": {pod: always("a"), seen: Seen{Sandbox: hidden, Containers: all{"a": up(told(LivenessFailed, -10, 30))}}, wake: 20},
		"and is killed after it": {pod: always("side1", "a"),
			seen: Seen{Sandbox: hidden, Containers: all{"side1": up(unknown, told(LivenessFailed, -30, 30)), "a": up(told(LivenessFailed, -30, 30))}},
			want: []string{"kill side1", "kill a"}},
		"Never: the Pod is not done for it":     {pod: never("a"), seen: Seen{Sandbox: hidden, Containers: all{"a": up()}}},
		"Never: a Pod that is done loses it":    {pod: never("a"), seen: Seen{Sandbox: hidden, Containers: all{"a": ended(0)}}, want: []string{"remove sandbox"}},
		"a Pod that ends does so all the same":  {pod: always("a"), seen: Seen{Ending: ending(0), Sandbox: hidden, Containers: all{"a": up(unknown)}}, want: []string{"stop a (pod ends) within 30s"}},
		"and is torn down when all have ended":  {pod: always("a"), seen: Seen{Ending: ending(-3), Sandbox: hidden, Containers: all{"a": ended(0)}}, want: []string{"tear down"}},
		"the first one is awaited while made":   {pod: always("a"), seen: Seen{Sandbox: Sandbox{Busy: true}, Containers: all{"a": fresh(prepared)}}},
		"Never: an init that failed is the end": {pod: never("init1", "a"), seen: Seen{Sandbox: hidden, Containers: all{"init1": ended(1)}}, want: []string{"remove sandbox"}},
	})
}

func TestLost(t *testing.T) {
	next := func(c Container) Seen { return Seen{Sandbox: box, Containers: all{"a": c}} }
	check(t, map[string]row{
		"it is killed at once":                {pod: always("a"), seen: next(up(lost)), want: []string{"kill a"}},
		"it has no time left":                 {pod: always("a"), seen: next(up(lost, told(LivenessFailed, -1, 30))), want: []string{"kill a"}},
		"not while that is under way":         {pod: always("a"), seen: next(up(lost, busy))},
		"a kill that failed is tried in time": {pod: always("a"), seen: next(up(lost, retry(2))), wake: 2},
		"then it is restarted":                {pod: always("a"), seen: next(ended(137, prepared)), want: []string{"create a (attempt 1), then after 10s"}},
		"a sidecar too":                       {pod: always("side1", "a"), seen: Seen{Sandbox: box, Containers: all{"side1": up(lost), "a": up()}}, want: []string{"kill side1"}},
		"it is killed when the Pod ends":      {pod: always("a"), seen: Seen{Ending: ending(0), Sandbox: box, Containers: all{"a": up(lost)}}, want: []string{"kill a"}},
		"and when the sandbox is gone":        {pod: always("a"), seen: Seen{Sandbox: broken, Containers: all{"a": up(lost)}}, want: []string{"kill a"}},
		"a sidecar has its turn all the same": {pod: always("side1", "a"), seen: Seen{Ending: ending(0), Sandbox: box, Containers: all{"side1": up(lost), "a": up()}},
			want: []string{"stop a (pod ends) within 30s"}, wake: 30},
	})
}

func TestChanged(t *testing.T) {
	next := func(c Container) Seen { return Seen{Sandbox: box, Containers: all{"a": c}} }
	stopped := told(SpecChanged, -1, 30)
	rows := map[string]row{
		"it is told once":                            {pod: always("a"), seen: next(up(edited, told(SpecChanged, -2, 30))), wake: 28},
		"and killed when its time is up":             {pod: always("a"), seen: next(up(edited, told(SpecChanged, -30, 30))), want: []string{"kill a"}},
		"a failed probe comes first":                 {pod: always("a"), seen: next(up(edited, failed(LivenessFailed))), want: []string{"stop a (liveness failed) within 30s"}},
		"what a probe had stopped is not told again": {pod: always("a"), seen: next(up(edited, told(LivenessFailed, -2, 30))), wake: 28},
		"no other is stopped":                        {pod: always("a", "b"), seen: Seen{Sandbox: box, Containers: all{"a": up(edited), "b": up()}}, want: []string{"stop a (its image was changed) within 30s"}},
		"the restart is at once, and so is the next": {pod: always("a"), seen: next(ended(137, stopped, prepared, attempt(5), backoff(160))), want: []string{"create a (attempt 6)"}},
		"an init container runs again, though it ended with 0": {pod: always("init1", "a"), seen: Seen{Sandbox: box, Containers: all{"init1": ended(0, stopped)}},
			want: []string{"prepare init1 (attempt 1)"}},
		"Never: that is no failure of the Pod": {pod: never("init1", "a"), seen: Seen{Sandbox: box, Containers: all{"init1": ended(143, stopped)}},
			want: []string{"prepare init1 (attempt 1)"}},
		"a sidecar is restarted":                    {pod: always("side1", "a"), seen: Seen{Sandbox: box, Containers: all{"side1": up(edited), "a": up()}}, want: []string{"stop side1 (its image was changed) within 30s"}},
		"what waits for its restart waits no more":  {pod: always("a"), seen: next(ended(1, edited, prepared, attempt(5), backoff(160))), want: []string{"create a (attempt 6)"}},
		"Never: what has ended stays so":            {pod: never("a"), seen: next(ended(1, edited)), want: []string{"remove sandbox"}},
		"OnFailure: what has succeeded stays ended": {pod: onFailure("a", "b"), seen: Seen{Sandbox: box, Containers: all{"a": ended(0, edited), "b": up()}}},
	}
	for _, policy := range []v1.RestartPolicy{v1.RestartPolicyAlways, v1.RestartPolicyOnFailure, v1.RestartPolicyNever} {
		rows[fmt.Sprintf("it is stopped with the Pod's period under %s", policy)] = row{pod: pod(policy, "a"), seen: next(up(edited)),
			want: []string{"stop a (its image was changed) within 30s"}}
		for _, code := range []int{0, 143} {
			rows[fmt.Sprintf("and restarted after %d under %s", code, policy)] = row{pod: pod(policy, "a"), seen: next(ended(code, stopped)),
				want: []string{"prepare a (attempt 1)"}}
		}
	}
	check(t, rows)
}

func TestBackoffLimits(t *testing.T) {
	next := func(longest time.Duration, c Container) Seen {
		return Seen{Sandbox: box, Containers: all{"a": c}, Backoff: Backoff{Max: longest}}
	}
	check(t, map[string]row{
		"the longest wait is the one given":           {pod: always("a"), seen: next(30*time.Second, ended(1, prepared, backoff(20), finished(-20))), want: []string{"create a (attempt 1), then after 30s"}},
		"and stays":                                   {pod: always("a"), seen: next(30*time.Second, ended(1, prepared, backoff(30), finished(-30))), want: []string{"create a (attempt 1), then after 30s"}},
		"one below 10s is the first wait, too":        {pod: always("a"), seen: next(5*time.Second, ended(1, prepared)), want: []string{"create a (attempt 1), then after 5s"}},
		"and every one after it":                      {pod: always("a"), seen: next(5*time.Second, ended(1, prepared, backoff(5), finished(-5))), want: []string{"create a (attempt 1), then after 5s"}},
		"one above 10s does not change the first":     {pod: always("a"), seen: next(30*time.Second, ended(1, prepared)), want: []string{"create a (attempt 1), then after 10s"}},
		"a wait that was longer before is cut to it":  {pod: always("a"), seen: next(30*time.Second, ended(1, backoff(300))), wake: 30},
		"it starts over after ten minutes as always":  {pod: always("a"), seen: next(5*time.Second, ended(1, prepared, backoff(5), createdAt(-601))), want: []string{"create a (attempt 1), then after 5s"}},
		"a negative one is Kubernetes' default":       {pod: always("a"), seen: next(-1, ended(1, prepared, backoff(160), finished(-160))), want: []string{"create a (attempt 1), then after 5m0s"}},
		"a wait that was taken back begins from none": {pod: always("a"), seen: next(0, ended(1, prepared, attempt(7), backoff(0))), want: []string{"create a (attempt 8), then after 10s"}},
	})
}

func TestShortestPeriod(t *testing.T) {
	short := func(p *v1.Pod) {
		p.Spec.Containers[0].LivenessProbe = &v1.Probe{TerminationGracePeriodSeconds: ptr(int64(1))}
		p.Spec.Containers[0].StartupProbe = &v1.Probe{TerminationGracePeriodSeconds: ptr(int64(1))}
	}
	hasty := func(p *v1.Pod) { p.Spec.TerminationGracePeriodSeconds = ptr(int64(0)) }
	next := func(c Container) Seen { return Seen{Sandbox: box, Containers: all{"a": c}} }
	check(t, map[string]row{
		"a liveness probe's own":            {pod: changed(always("a"), short), seen: next(up(failed(LivenessFailed))), want: []string{"stop a (liveness failed) within 2s"}},
		"a startup probe's own":             {pod: changed(always("a"), short), seen: next(up(notStarted, failed(StartupFailed))), want: []string{"stop a (startup failed) within 2s"}},
		"the Pod's, where the probe has no": {pod: changed(always("a"), hasty), seen: next(up(failed(LivenessFailed))), want: []string{"stop a (liveness failed) within 2s"}},
		"the Pod's, for an edit":            {pod: changed(always("a"), hasty), seen: next(up(edited)), want: []string{"stop a (its image was changed) within 2s"}},
		"the Pod's, after a lost sandbox":   {pod: changed(always("a"), hasty), seen: Seen{Sandbox: broken, Containers: all{"a": up()}}, want: []string{"stop a (sandbox is gone) within 2s"}},
	})
}

func TestInit(t *testing.T) {
	check(t, map[string]row{
		"one after another":                    {pod: always("init1", "init2", "a"), seen: Seen{Sandbox: box, Containers: all{"init1": up()}}},
		"the next when the last has succeeded": {pod: always("init1", "init2", "a"), seen: Seen{Sandbox: box, Containers: all{"init1": ended(0)}}, want: []string{"prepare init2"}},
		"all others when all have":             {pod: always("init1", "init2", "a", "b"), seen: Seen{Sandbox: box, Containers: all{"init1": ended(0), "init2": ended(0)}}, want: []string{"prepare a", "prepare b"}},
		"Always: one that failed is run again": {pod: always("init1", "a"), seen: Seen{Sandbox: box, Containers: all{"init1": ended(1)}}, want: []string{"prepare init1 (attempt 1)"}},
		"OnFailure: too":                       {pod: onFailure("init1", "a"), seen: Seen{Sandbox: box, Containers: all{"init1": ended(1)}}, want: []string{"prepare init1 (attempt 1)"}},
		"with the same back-off":               {pod: onFailure("init1", "a"), seen: Seen{Sandbox: box, Containers: all{"init1": ended(1, backoff(20))}}, wake: 20},
		"Never: it is the end of the Pod":      {pod: never("init1", "a"), seen: Seen{Sandbox: box, Containers: all{"init1": ended(1)}}, want: []string{"remove sandbox"}},
		"Never: sidecars are stopped then":     {pod: never("side1", "init1", "a"), seen: Seen{Sandbox: box, Containers: all{"side1": up(), "init1": ended(1)}}, want: []string{"stop side1 (pod is done) within 30s"}},
		"Never: one that succeeded is no end":  {pod: never("init1", "a"), seen: Seen{Sandbox: box, Containers: all{"init1": ended(0)}}, want: []string{"prepare a"}},
		"nothing re-runs when its record is gone but a later init container has one": {pod: always("init1", "init2", "a"),
			seen: Seen{Sandbox: box, Containers: all{"init2": ended(0)}}, want: []string{"prepare a"}},
		"nor when a sidecar after it has": {pod: always("init1", "side1", "a"), seen: Seen{Sandbox: box, Containers: all{"side1": up(notStarted)}}},
		"nor when a container has":        {pod: always("init1", "init2", "a"), seen: Seen{Sandbox: box, Containers: all{"a": up()}}},
		"nor when the start of one was cut off": {pod: always("init1", "a"),
			seen: Seen{Sandbox: box, Containers: all{"a": fresh(createdAt(-1), prepared)}}, want: []string{"create a"}},
		"an ended container counts as well": {pod: always("init1", "a"), seen: Seen{Sandbox: box, Containers: all{"a": ended(1, backoff(10))}}, wake: 10},
	})
}

func TestSidecars(t *testing.T) {
	check(t, map[string]row{
		"the next starts when it has started":            {pod: always("side1", "a"), seen: Seen{Sandbox: box, Containers: all{"side1": up()}}, want: []string{"prepare a"}},
		"not before":                                     {pod: always("side1", "a"), seen: Seen{Sandbox: box, Containers: all{"side1": up(notStarted)}}},
		"sidecars start one after another":               {pod: always("side1", "side2", "a"), seen: Seen{Sandbox: box, Containers: all{"side1": up()}}, want: []string{"prepare side2"}},
		"init containers wait for them":                  {pod: always("side1", "init1", "a"), seen: Seen{Sandbox: box, Containers: all{"side1": up(notStarted)}}},
		"one that crashes before the first start":        {pod: always("side1", "a"), seen: Seen{Sandbox: box, Containers: all{"side1": ended(1, backoff(10))}}, wake: 10},
		"Never: sidecars restart all the same":           {pod: never("side1", "a"), seen: Seen{Sandbox: box, Containers: all{"side1": ended(0), "a": up()}}, want: []string{"prepare side1 (attempt 1)"}},
		"a crashed sidecar does not hold back a restart": {pod: always("side1", "a"), seen: Seen{Sandbox: box, Containers: all{"side1": ended(1, backoff(20)), "a": ended(1)}}, want: []string{"prepare a (attempt 1)"}, wake: 20},
		"nor what has not started yet beside what has":   {pod: always("side1", "a", "b"), seen: Seen{Sandbox: box, Containers: all{"side1": ended(1, backoff(20)), "a": up()}}, want: []string{"prepare b"}, wake: 20},
		"nor a restart that is being made":               {pod: always("side1", "a"), seen: Seen{Sandbox: box, Containers: all{"side1": ended(1, backoff(20)), "a": fresh(attempt(1), createdAt(-1), prepared)}}, want: []string{"create a (attempt 1)"}, wake: 20},
		"nor init containers after it that have begun":   {pod: always("side1", "init1", "a"), seen: Seen{Sandbox: box, Containers: all{"side1": ended(1, backoff(20)), "init1": ended(0)}}, want: []string{"prepare a"}, wake: 20},
		"nor sidecars after it that have begun": {pod: always("side1", "side2", "a"),
			seen: Seen{Sandbox: box, Containers: all{"side1": ended(1, backoff(20)), "side2": ended(1)}}, want: []string{"prepare side2 (attempt 1)"}, wake: 20},
		"whose probes are heard meanwhile": {pod: always("side1", "side2", "a"),
			seen: Seen{Sandbox: box, Containers: all{"side1": ended(1, backoff(20)), "side2": up(notStarted, failed(StartupFailed))}},
			want: []string{"stop side2 (startup failed) within 30s"}, wake: 20},
		"all are kept up once a container has started": {pod: always("side1", "side2", "a"), seen: Seen{Sandbox: box, Containers: all{"side1": ended(1), "side2": ended(0), "a": up()}}, want: []string{"prepare side1 (attempt 1)", "prepare side2 (attempt 1)"}},
		"the Pod is done without them":                 {pod: never("side1", "a"), seen: Seen{Sandbox: box, Containers: all{"side1": up(), "a": ended(0)}}, want: []string{"stop side1 (pod is done) within 30s"}},
		"they are not restarted then":                  {pod: never("side1", "a"), seen: Seen{Sandbox: box, Containers: all{"side1": ended(1, leftover), "a": ended(0)}}, want: []string{"clean side1"}},
		"OnFailure: likewise":                          {pod: onFailure("side1", "a"), seen: Seen{Sandbox: box, Containers: all{"side1": ended(1), "a": ended(0)}}, want: []string{"remove sandbox"}},
		"Always: the Pod is never done":                {pod: always("side1", "a"), seen: Seen{Sandbox: box, Containers: all{"side1": up(), "a": ended(0, backoff(10))}}, wake: 10},
		"a done Pod has the rest of its period": {pod: never("side1", "a"),
			seen: Seen{Sandbox: box, Containers: all{"side1": up(), "a": ended(0, finished(-3))}}, want: []string{"stop side1 (pod is done) within 27s"}},
		"a done Pod without sandbox rests": {pod: never("a"), seen: Seen{Sandbox: gone, Containers: all{"a": ended(0)}}},
		"its sandbox is removed once":      {pod: never("a"), seen: Seen{Sandbox: Sandbox{Busy: true}, Containers: all{"a": ended(0)}}},
		"and again in time when that failed": {pod: never("a"),
			seen: Seen{Sandbox: Sandbox{State: Exited, RetryAt: at(4)}, Containers: all{"a": ended(0)}}, wake: 4},
	})
}

func TestEnd(t *testing.T) {
	two := always("side1", "side2", "a", "b")
	grace := func(seconds int64) *v1.Pod {
		return changed(always("a"), func(p *v1.Pod) { p.Spec.TerminationGracePeriodSeconds = &seconds })
	}
	stopping := told(PodEnds, -5, 30)
	check(t, map[string]row{
		"all containers are told at once, sidecars are not": {pod: two, seen: Seen{Ending: ending(0), Sandbox: box, Containers: all{"side1": up(), "side2": up(), "a": up(), "b": up()}},
			want: []string{"stop a (pod ends) within 30s", "stop b (pod ends) within 30s"}, wake: 30},
		"the last sidecar goes first": {pod: two, seen: Seen{Ending: ending(-5), Sandbox: box, Containers: all{"side1": up(), "side2": up(), "a": ended(0), "b": ended(0)}},
			want: []string{"stop side2 (pod ends) within 25s"}, wake: 25},
		"then the one before": {pod: two, seen: Seen{Ending: ending(-9), Sandbox: box, Containers: all{"side1": up(), "side2": ended(0), "a": ended(0), "b": ended(0)}},
			want: []string{"stop side1 (pod ends) within 21s"}},
		"one that does not run never holds up another": {pod: two, seen: Seen{Ending: ending(0), Sandbox: box, Containers: all{"side1": up(), "side2": ended(1, backoff(300)), "b": ended(1)}},
			want: []string{"stop side1 (pod ends) within 30s"}},
		"when the time is up all are told, and get two seconds": {pod: two, seen: Seen{Ending: ending(-30), Sandbox: box, Containers: all{"side1": up(), "side2": up(), "a": up(told(PodEnds, -30, 30)), "b": ended(0)}},
			want: []string{"kill a", "stop side2 (pod ends) within 2s", "stop side1 (pod ends) within 2s"}},
		"whole seconds are taken off": {pod: grace(30), seen: Seen{Ending: ending(-1.9), Sandbox: box, Containers: all{"a": up()}},
			want: []string{"stop a (pod ends) within 29s"}},
		"never less than two seconds are left": {pod: grace(30), seen: Seen{Ending: ending(-29), Sandbox: box, Containers: all{"a": up()}},
			want: []string{"stop a (pod ends) within 2s"}},
		"a period of one second is two":  {pod: grace(1), seen: Seen{Ending: ending(0), Sandbox: box, Containers: all{"a": up()}}, want: []string{"stop a (pod ends) within 2s"}},
		"so is none":                     {pod: grace(0), seen: Seen{Ending: ending(0), Sandbox: box, Containers: all{"a": up()}}, want: []string{"stop a (pod ends) within 2s"}},
		"so is a negative one":           {pod: grace(-7), seen: Seen{Ending: ending(0), Sandbox: box, Containers: all{"a": up()}}, want: []string{"stop a (pod ends) within 2s"}},
		"without a period it is 30s":     {pod: changed(always("a"), func(p *v1.Pod) { p.Spec.TerminationGracePeriodSeconds = nil }), seen: Seen{Ending: ending(0), Sandbox: box, Containers: all{"a": up()}}, want: []string{"stop a (pod ends) within 30s"}},
		"what was told is waited for":    {pod: always("a"), seen: Seen{Ending: ending(-5), Sandbox: box, Containers: all{"a": up(stopping)}}, wake: 25},
		"and killed in time":             {pod: always("a"), seen: Seen{Ending: ending(-30), Sandbox: box, Containers: all{"a": up(told(PodEnds, -30, 30))}}, want: []string{"kill a"}},
		"and killed again":               {pod: always("a"), seen: Seen{Ending: ending(-90), Sandbox: box, Containers: all{"a": up(told(PodEnds, -90, 30))}}, want: []string{"kill a"}},
		"a longer stop is shortened":     {pod: always("a"), seen: Seen{Ending: ending(-5), Sandbox: box, Containers: all{"a": up(told(LivenessFailed, -10, 300))}}, want: []string{"stop a (pod ends) within 25s"}},
		"a shorter one is not prolonged": {pod: always("a"), seen: Seen{Ending: ending(-5), Sandbox: box, Containers: all{"a": up(told(LivenessFailed, -3, 5))}}, wake: 2},
		"no second signal for the fraction of a second that flooring gave": {pod: always("a"),
			seen: Seen{Ending: ending(-4.1), Sandbox: box, Containers: all{"a": up(told(PodEnds, -0.4, 27))}}, wake: 26.6},
		"a sidecar that a probe had stopped is killed in time while it waits for its turn": {pod: always("side1", "a"),
			seen: Seen{Ending: ending(-5), Sandbox: box, Containers: all{"side1": up(told(LivenessFailed, -10, 10)), "a": up(stopping)}},
			want: []string{"kill side1"}, wake: 25},
		"a sidecar that has ended is not killed": {pod: always("side1", "a"),
			seen: Seen{Ending: ending(-5), Sandbox: box, Containers: all{"side1": ended(0, told(LivenessFailed, -10, 5)), "a": up(stopping)}}, wake: 25},
		"a busy container is waited for":             {pod: always("a"), seen: Seen{Ending: ending(0), Sandbox: box, Containers: all{"a": fresh(busy)}}},
		"a signal that failed is sent in time":       {pod: always("a"), seen: Seen{Ending: ending(0), Sandbox: box, Containers: all{"a": up(retry(1))}}, wake: 1},
		"what has ended is left to the tearing down": {pod: always("a", "b"), seen: Seen{Ending: ending(-2), Sandbox: box, Containers: all{"a": ended(0, leftover), "b": up(stopping)}}, wake: 25},
		"nothing is started or restarted":            {pod: always("a", "b"), seen: Seen{Ending: ending(0), Sandbox: box, Containers: all{"a": ended(1), "b": fresh(prepared)}}, want: []string{"tear down"}},
		"which takes what is left of all":            {pod: always("a"), seen: Seen{Ending: ending(-2), Sandbox: box, Containers: all{"a": ended(0, leftover)}}, want: []string{"tear down"}},
		"the end of a Pod that never was":            {pod: always("a"), seen: Seen{Ending: ending(0), Sandbox: noSandbox}, want: []string{"tear down"}},
		"so is its network":                          {pod: always("a"), seen: Seen{Ending: ending(0), Sandbox: Sandbox{State: Running, Attaching: true}}},
		"a sandbox that is being made is awaited":    {pod: always("a"), seen: Seen{Ending: ending(0), Sandbox: Sandbox{Busy: true}}},
		"tearing down is tried again in time":        {pod: always("a"), seen: Seen{Ending: ending(0), Sandbox: Sandbox{State: Exited, RetryAt: at(8)}}, wake: 8},
		"an init container that runs has no place in the order": {pod: always("side1", "init1", "a"), seen: Seen{Ending: ending(0), Sandbox: box, Containers: all{"side1": up(), "init1": up()}},
			want: []string{"stop init1 (pod ends) within 30s", "stop side1 (pod ends) within 30s"}},
		"nor does a sidecar wait for one that was told": {pod: always("side1", "init1", "side2", "a"),
			seen: Seen{Ending: ending(-5), Sandbox: box, Containers: all{"side1": up(), "init1": up(stopping), "side2": ended(0)}},
			want: []string{"stop side1 (pod ends) within 25s"}, wake: 25},
		"nor for an ephemeral container": {pod: changed(always("side1", "a"), func(p *v1.Pod) {
			p.Spec.EphemeralContainers = []v1.EphemeralContainer{{EphemeralContainerCommon: v1.EphemeralContainerCommon{Name: "look"}}}
		}), seen: Seen{Ending: ending(-5), Sandbox: box, Containers: all{"side1": up(), "a": ended(0), "look": up(stopping)}},
			want: []string{"stop side1 (pod ends) within 25s"}, wake: 25},
		"but nothing is torn down under them": {pod: always("side1", "init1", "a"),
			seen: Seen{Ending: ending(-5), Sandbox: box, Containers: all{"side1": ended(0), "init1": up(stopping)}}, wake: 25},
		"a Pod that is done ends like any other":    {pod: never("a"), seen: Seen{Ending: ending(0), Sandbox: gone, Containers: all{"a": ended(0)}}, want: []string{"tear down"}},
		"a broken sandbox does not matter any more": {pod: always("a"), seen: Seen{Ending: ending(0), Sandbox: broken, Containers: all{"a": up()}}, want: []string{"stop a (pod ends) within 30s"}},
	})
}

func TestPreStop(t *testing.T) {
	hooked := func(c *Container) { c.PreStopDue = true }
	under := func(c *Container) { c.PreStopDue, c.Hooking = true, true }
	begun := func(why Why, since, grace float64) with {
		return func(c *Container) { c.PreStop = stop(why, since, grace) }
	}
	end := func(since float64, c all) Seen { return Seen{Ending: ending(since), Sandbox: box, Containers: c} }
	check(t, map[string]row{
		"it comes before the signal, with the whole period": {pod: always("a"), seen: end(0, all{"a": up(hooked)}),
			want: []string{"preStop of a (pod ends) within 30s"}, wake: 30},
		"of sidecars, too, which wait for their turn with the signal alone": {pod: always("side1", "side2", "a"),
			seen: end(0, all{"side1": up(hooked), "side2": up(hooked), "a": up(hooked)}),
			want: []string{"preStop of a (pod ends) within 30s", "preStop of side2 (pod ends) within 30s", "preStop of side1 (pod ends) within 30s"}, wake: 30},
		"a sidecar whose turn it is gets what is left": {pod: always("side1", "a"),
			seen: end(-6.5, all{"side1": up(begun(PodEnds, -6.5, 30)), "a": ended(0)}), want: []string{"stop side1 (pod ends) within 24s"}},
		"while it runs there is no signal": {pod: always("a"), seen: end(-4, all{"a": up(under, begun(PodEnds, -4, 30))}), wake: 26},
		"the whole seconds that it took are taken off": {pod: always("a"), seen: Seen{Sandbox: box, Containers: all{"a": up(begun(LivenessFailed, -3.7, 30))}},
			want: []string{"stop a (liveness failed) within 27s"}},
		"when the period is over the signal comes, and two seconds": {pod: always("a"), seen: end(-30, all{"a": up(under, begun(PodEnds, -30, 30))}),
			want: []string{"stop a (pod ends) within 2s"}},
		"one that took all but a second leaves two": {pod: always("a"), seen: end(-29, all{"a": up(begun(PodEnds, -29, 30))}),
			want: []string{"stop a (pod ends) within 2s"}},
		"a probe's own period bounds it": {pod: changed(always("a"), func(p *v1.Pod) {
			p.Spec.Containers[0].LivenessProbe = &v1.Probe{TerminationGracePeriodSeconds: ptr(int64(5))}
		}), seen: Seen{Sandbox: box, Containers: all{"a": up(hooked, failed(LivenessFailed))}}, want: []string{"preStop of a (liveness failed) within 5s"}, wake: 5},
		"what was told to end has had its time for it": {pod: always("a"), seen: end(-1, all{"a": up(hooked, told(PodEnds, -1, 30))}), wake: 29},
		"what has ended has none":                      {pod: always("a"), seen: end(0, all{"a": ended(0, hooked)}), want: []string{"tear down"}},
		"nor has what is lost":                         {pod: always("a"), seen: end(0, all{"a": up(hooked, lost)}), want: []string{"kill a"}},
	})
}

func TestBackoffGoesUp(t *testing.T) {
	t.Parallel()
	c := ended(1)
	var waits []int
	for range 8 {
		now := c.FinishedAt
		for {
			p := Next(always("a"), Seen{Sandbox: box, Containers: all{"a": c}}, now)
			if len(p.Actions) == 1 && p.Actions[0].Verb == Prepare {
				c.Prepared = true
				continue
			}
			if len(p.Actions) == 1 && p.Actions[0].Verb == Create {
				waits = append(waits, int(now.Sub(c.FinishedAt).Seconds()))
				c = ended(1, attempt(p.Actions[0].Attempt))
				c.Backoff, c.CreatedAt, c.FinishedAt = p.Actions[0].Backoff, now, now.Add(time.Second)
				break
			}
			now = p.Wake
		}
	}
	if diff := cmp.Diff([]int{0, 10, 20, 40, 80, 160, 300, 300}, waits); diff != "" {
		t.Errorf("seconds between an end and the restart (-want +got):\n%s", diff)
	}
}

func TestBackingOff(t *testing.T) {
	t.Parallel()
	waiting := ended(1, backoff(20))
	for sentence, r := range map[string]struct {
		pod  *v1.Pod
		seen Seen
		want time.Time
	}{
		"a restart that waits":               {always("a"), Seen{Sandbox: box, Containers: all{"a": waiting}}, at(20)},
		"one that is due does not":           {always("a"), Seen{Sandbox: box, Containers: all{"a": ended(1, backoff(20), finished(-20))}}, time.Time{}},
		"nor does one that will not restart": {never("a", "b"), Seen{Sandbox: box, Containers: all{"a": waiting, "b": up()}}, time.Time{}},
		"nor one that runs":                  {always("a"), Seen{Sandbox: box, Containers: all{"a": up(backoff(20))}}, time.Time{}},
		"nor when the Pod ends":              {always("a"), Seen{Ending: ending(0), Sandbox: box, Containers: all{"a": waiting}}, time.Time{}},
		"nor a sidecar when the Pod is done": {never("side1", "b"), Seen{Sandbox: box, Containers: all{"side1": waiting, "b": ended(0)}}, time.Time{}},
		"nor after the loss of the sandbox":  {always("a"), Seen{Sandbox: Sandbox{State: Running, Attempt: 1, Attached: true}, Containers: all{"a": waiting}}, time.Time{}},
	} {
		t.Run(sentence, func(t *testing.T) {
			t.Parallel()
			c := &append(r.pod.Spec.InitContainers, r.pod.Spec.Containers...)[0]
			if got := BackingOff(r.pod, r.seen, c, t0); !got.Equal(r.want) {
				t.Errorf("got %v, want %v", got, r.want)
			}
		})
	}
}

func TestActionPrintsItself(t *testing.T) {
	t.Parallel()
	for want, a := range map[string]Action{
		"stop web (liveness failed)": {Verb: Terminate, Container: "web", Why: LivenessFailed},
		"create sandbox":             {Verb: CreateSandbox},
		"create sandbox (attempt 2)": {Verb: CreateSandbox, Attempt: 2},
		"start web (attempt 3)":      {Verb: Start, Container: "web", Attempt: 3},
		"attach":                     {Verb: Attach},
		"tear down":                  {Verb: Teardown},
		"kill web":                   {Verb: Kill, Container: "web"},
	} {
		if got := a.String(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
