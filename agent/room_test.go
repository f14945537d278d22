package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/containerd/errdefs"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/podkeeper/podkeeper/agent/node"
	"github.com/podkeeper/podkeeper/agent/plan"
	"github.com/podkeeper/podkeeper/manifests"
)

// another is a second worker beside the first, of a Pod of another name.
func (a *agency) another(name string) *worker {
	w := newWorker(types.NamespacedName{Namespace: "default", Name: name}, a.w.surroundings)
	w.awaiting = true
	a.roster.enlist(w)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.run(ctx)
	}()
	a.others = append(a.others, func() { cancel(); <-done })
	return w
}

func wishFor(p *v1.Pod, revision string) *Wish {
	return &Wish{Pod: &manifests.Pod{Pod: manifests.Normalise(p), Revision: revision}, Source: SourceDirectory}
}

func scheduled(w *worker) v1.PodCondition {
	if pod := w.published.Load(); pod != nil {
		for _, c := range pod.Status.Conditions {
			if c.Type == v1.PodScheduled {
				return c
			}
		}
	}
	return v1.PodCondition{}
}

func TestAUIDIsOneInstancesAlone(t *testing.T) {
	inBubble(t, func(a *agency) {
		a.host.deaf = true
		p := a.pod("app")
		p.UID = "given"
		a.wantPod(p)
		a.pass(10)
		w := a.another("renamed")
		renamed := p.DeepCopy()
		renamed.Name = "renamed"
		a.w.want(nil)
		w.want(wishFor(renamed, "1"))
		a.pass(20)
		if c := scheduled(w); c.Status != v1.ConditionFalse || !strings.Contains(c.Message, "metadata.uid given is that of default/web") {
			t.Errorf("while the first one ends: %+v", c)
		}
		a.pass(50)
		a.expect("start", "0 start app 0", "40 start app 0")
		a.expect("tear down", "40 tear down")
		if c := scheduled(w); c.Status != v1.ConditionTrue {
			t.Errorf("after it: %+v", c)
		}
	})
}

func TestAPortOfTheHostIsOnePodsAlone(t *testing.T) {
	inBubble(t, func(a *agency) {
		with := func(name, ip string) *v1.Pod {
			p := a.pod("app")
			p.Name = name
			p.Spec.Containers[0].Ports = []v1.ContainerPort{{ContainerPort: 80, HostPort: 8080, HostIP: ip}}
			return p
		}
		a.wantPod(with("web", ""))
		a.pass(5)
		w := a.another("second")
		w.want(wishFor(with("second", "127.0.0.1"), "1"))
		a.pass(10)
		pod := w.published.Load()
		const want = "0/1 nodes are available: 1 node(s) didn't have free ports for the requested pod ports. hostPort 8080/TCP is in use by default/web"
		if c := scheduled(w); pod.Status.Phase != v1.PodPending || c.Reason != v1.PodReasonUnschedulable || c.Message != want {
			t.Errorf("%s: %+v", pod.Status.Phase, c)
		}
		a.w.want(nil)
		a.pass(11)
		a.expect("start", "0 start app 0", "10 start app 0")
	})
}

func TestPortsOfDifferentAddressesOrProtocolsDoNotMeet(t *testing.T) {
	t.Parallel()
	pod := func(uid, ip string, protocol v1.Protocol) *v1.Pod {
		p := &v1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: uid, UID: types.UID(uid)}}
		p.Spec.Containers = []v1.Container{{Name: "app", Ports: []v1.ContainerPort{{HostPort: 53, HostIP: ip, Protocol: protocol}}}}
		return p
	}
	r := newRoster(node.NewObject("node", nil))
	for _, row := range []struct {
		pod *v1.Pod
		ok  bool
	}{
		{pod("a", "127.0.0.1", ""), true}, {pod("b", "127.0.0.2", v1.ProtocolTCP), true}, {pod("c", "", v1.ProtocolUDP), true},
		{pod("d", "0.0.0.0", v1.ProtocolTCP), false}, {pod("e", "127.0.0.1", v1.ProtocolTCP), false},
	} {
		w := &worker{key: key(row.pod), wake: make(chan struct{}, 1)}
		if _, ok := r.claim(w, row.pod, nil); ok != row.ok {
			t.Errorf("%s: %v, want %v", row.pod.Name, ok, row.ok)
		}
	}
	r.freePorts(pod("a", "127.0.0.1", ""))
	w := &worker{key: key(pod("f", "", "")), wake: make(chan struct{}, 1)}
	if _, ok := r.claim(w, pod("f", "127.0.0.1", ""), nil); !ok {
		t.Error("a port that was given back is not free")
	}
}

func TestALookThatHangsHoldsUpNoOther(t *testing.T) {
	inBubble(t, func(a *agency) {
		a.want("1", "stuck", "other")
		a.pass(10)
		a.host.set(func() { a.host.hangs = "stuck" })
		a.host.exit("other", 1)
		a.pass(20)
		a.expect("start other", "0 start other 0", "12 start other 1")
		a.expect("start stuck", "0 start stuck 0")
		if s := a.status("stuck"); s.State.Running == nil || s.RestartCount != 0 {
			t.Errorf("of what cannot be told the last is told: %+v", s)
		}
		if s := a.w.published.Load().Status; s.Reason != "RuntimeUnavailable" {
			t.Errorf("reason %q", s.Reason)
		}
	})
}

func TestWhatCannotBeLookedAtEndsAllTheSame(t *testing.T) {
	inBubble(t, func(a *agency) {
		a.host.signal = func(ctx context.Context, t node.Target, kill bool) error {
			if t.Container.Name == "stuck" && !kill {
				<-ctx.Done()
				return ctx.Err()
			}
			return nil
		}
		a.want("1", "stuck", "other")
		a.pass(10)
		a.host.set(func() { a.host.hangs = "stuck" })
		a.w.want(nil)
		a.pass(200)
		if got := a.host.noted("term other"); len(got) != 1 || seconds(t, got[0]) > 13 {
			t.Errorf("its sibling: %q", got)
		}
		if got := a.host.noted("kill stuck"); len(got) == 0 || seconds(t, got[0]) > 10+120+33 {
			t.Errorf("killed: %q", got)
		}
		select {
		case <-a.done:
		default:
			t.Error("the Pod is still there")
		}
	})
}

func TestNothingStartsWithoutItsRecord(t *testing.T) {
	inBubble(t, func(a *agency) {
		a.want("1", "app")
		a.pass(5)
		obstacle := a.w.inst.file + ".tmp"
		if err := os.Mkdir(obstacle, 0o700); err != nil {
			t.Fatal(err)
		}
		a.host.exit("app", 1)
		a.pass(15)
		a.expect("start", "0 start app 0")
		if s := a.w.published.Load().Status; s.Reason != "FailedRecord" || !strings.Contains(s.Message, "is a directory") {
			t.Errorf("%s: %s", s.Reason, s.Message)
		}
		if !slices.ContainsFunc(a.w.events.List(), func(e v1.Event) bool { return e.Reason == "FailedRecord" }) {
			t.Error("no event FailedRecord")
		}
		if err := os.Remove(obstacle); err != nil {
			t.Fatal(err)
		}
		a.pass(60)
		if got := a.host.noted("start"); len(got) != 2 || a.written().Containers["app"].Attempt != 1 {
			t.Errorf("after that: %q, attempt %d", got, a.written().Containers["app"].Attempt)
		}
		if s := a.w.published.Load().Status; s.Reason != "" {
			t.Errorf("%s: %s", s.Reason, s.Message)
		}
	})
}

func TestAPodWhoseRecordCannotBeWrittenEndsAllTheSame(t *testing.T) {
	inBubble(t, func(a *agency) {
		a.want("1", "app")
		a.pass(5)
		if err := os.Mkdir(a.w.inst.file+".tmp", 0o700); err != nil {
			t.Fatal(err)
		}
		a.w.want(nil)
		a.pass(6)
		a.expect("tear down", "5 tear down")
	})
}

func TestAClockSetBackMakesNothingLonger(t *testing.T) {
	inBubble(t, func(a *agency) {
		a.host.deaf = true
		a.want("1", "app", "other")
		a.pass(5)
		a.host.exit("app", 1)
		a.pass(10)
		a.host.exit("app", 1)
		a.pass(11)
		a.dismiss()
		inst := a.written() // of an hour from now
		inst.Containers["app"].Exit.FinishedAt.Time = time.Now().Add(time.Hour)
		inst.Containers["other"].Stop = &plan.Stop{Why: plan.LivenessFailed, Since: time.Now().Add(time.Hour), Grace: 30 * time.Second}
		inst.Containers["other"].Signalled = true
		a.employ(inst)
		a.pass(60)
		a.expect("start app", "0 start app 0", "5 start app 1", "21 start app 2")
		a.expect("kill other", "41 kill other 0")
	})
}

func TestAPublishedStatusIsNotWrittenTo(t *testing.T) {
	inBubble(t, func(a *agency) {
		p := a.pod("app")
		p.Spec.RestartPolicy = v1.RestartPolicyNever
		p.Spec.Containers[0].TerminationMessagePolicy = v1.TerminationMessageFallbackToLogsOnError
		a.host.clean = func() { time.Sleep(time.Second) }
		a.wantPod(p)
		a.pass(1)
		a.host.exit("app", 1)
		synctest.Wait()
		before := a.w.published.Load()
		a.pass(5)
		if got := before.Status.ContainerStatuses[0].State.Terminated.Message; got != "" {
			t.Errorf("a status that was handed out says now %q", got)
		}
		if got := a.status("app").State.Terminated.Message; got != "the last lines" {
			t.Errorf("message %q", got)
		}
	})
}

func TestASweepThatHangsHoldsUpNobody(t *testing.T) {
	inBubble(t, func(a *agency) {
		a.host.release = func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
		a.want("1", "app")
		a.pass(10)
		a.want("2", "app")
		a.pass(400)
		a.expect("start", "0 start app 0", "10 start app 0")
		if a.w.stepping.lasts() != 0 {
			t.Error("the worker hangs")
		}
	})
}

func TestALogThatCannotBeWrittenHoldsUpNothing(t *testing.T) {
	inBubble(t, func(a *agency) {
		a.want("1", "app", "other")
		a.pass(5)
		a.host.set(func() { a.host.mute = map[string]bool{"app": true} })
		a.host.exit("other", 1)
		a.pass(6)
		a.expect("start other", "0 start other 0", "5 start other 1")
		if !slices.ContainsFunc(a.w.events.List(), func(e v1.Event) bool { return e.Reason == "FailedLog" }) {
			t.Error("no event FailedLog")
		}
		a.w.want(nil)
		a.pass(7)
		a.expect("tear down", "6 tear down")
	})
}

func TestWhatFailedBecauseContainerdWasAwayIsTriedWhenItIsBack(t *testing.T) {
	inBubble(t, func(a *agency) {
		a.host.prepare = func(context.Context, node.Target) error {
			return &node.Fault{Reason: node.ErrImagePull, Err: fmt.Errorf("dial: %w", errdefs.ErrUnavailable)}
		}
		a.want("1", "app")
		a.pass(1.5)
		if s := a.status("app").State.Waiting; s == nil || s.Reason == node.ErrImagePull {
			t.Errorf("it is no fault of the image: %+v", s)
		}
		a.host.set(func() { a.host.prepare = nil })
		a.w.Forgive(forgiveAway)
		synctest.Wait()
		a.expect("start", "1.5 start app 0")
	})
}

func TestWhatIsLostIsKilledBeforeItIsStartedAgain(t *testing.T) {
	inBubble(t, func(a *agency) {
		a.want("1", "app")
		a.pass(5)
		a.host.set(func() { a.host.lost = "app" })
		a.w.Wake()
		a.pass(6)
		a.expect("kill", "5 kill app 0")
		a.expect("start", "0 start app 0", "5 start app 1")
	})
}

// Kubernetes starts what its runtime cannot tell of again under every policy. It did run, so under Never that was it.
func TestWhatIsLostUnderNeverHasFailed(t *testing.T) {
	inBubble(t, func(a *agency) {
		p := a.pod("app")
		p.Spec.RestartPolicy = v1.RestartPolicyNever
		a.wantPod(p)
		a.pass(5)
		a.host.set(func() { a.host.lost = "app" })
		a.w.Wake()
		a.pass(100)
		a.expect("kill", "5 kill app 0")
		a.expect("start", "0 start app 0")
		if phase := a.w.published.Load().Status.Phase; phase != v1.PodFailed {
			t.Errorf("the Pod is %s", phase)
		}
	})
}

func TestDeadlineDoesNotCountTheWaitForATurn(t *testing.T) {
	inBubble(t, func(a *agency) {
		a.w.turn.turns = newTurns(1)
		give, err := a.w.turn.turns.take(context.Background(), 0)
		if err != nil {
			t.Fatal(err)
		}
		defer give()
		a.w.timeout = handOn / 2
		a.want("1", "app")
		a.pass(5)
		a.expect("start", "1 start app 0")
	})
}

func TestDeathOfAChildIsTold(t *testing.T) {
	inBubble(t, func(a *agency) {
		p := a.pod("app")
		for _, name := range []string{"cache", "more"} {
			p.Spec.Volumes = append(p.Spec.Volumes, v1.Volume{Name: name, VolumeSource: v1.VolumeSource{EmptyDir: &v1.EmptyDirVolumeSource{Medium: v1.StorageMediumMemory}}})
		}
		p.Spec.Volumes = append(p.Spec.Volumes, v1.Volume{Name: "disk", VolumeSource: v1.VolumeSource{EmptyDir: &v1.EmptyDirVolumeSource{}}})
		a.wantPod(p)
		a.pass(5)
		a.host.set(func() { a.host.oomKills = 1 })
		a.w.OOM(a.w.target("app").ID())
		a.pass(10)
		i := slices.IndexFunc(a.w.events.List(), func(e v1.Event) bool { return e.Reason == "OOMKilling" })
		if i < 0 || !strings.Contains(a.w.events.List()[i].Message, `: 40 MiB of the Pod's memory are files in memory-backed volumes ("cache", "more")`) {
			t.Errorf("events: %+v", a.w.events.List())
		}
		a.host.exit("app", 137) // by a signal from outside: the kill for want of memory is of the past
		a.pass(11)
		if last := a.status("app").LastTerminationState.Terminated; last == nil || last.Reason == "OOMKilled" {
			t.Errorf("%+v", last)
		}
	})
}

func TestMaxRestartPeriod(t *testing.T) {
	inBubble(t, func(a *agency) {
		a.host.started = func(node.Target) { a.host.exit("app", 1) }
		p := a.pod("app")
		p.Annotations[manifests.MaxRestartPeriod] = "5s"
		a.wantPod(p)
		a.pass(14)
		a.expect("start", "0 start app 0", "0 start app 1", "5 start app 2", "10 start app 3")
	})
}

func TestEditsThatNeedNoNewInstance(t *testing.T) {
	inBubble(t, func(a *agency) {
		p := a.pod("app", "other")
		a.wantPod(p)
		a.pass(5)
		uid := a.w.published.Load().UID
		labelled := p.DeepCopy()
		labelled.Labels = map[string]string{"tier": "front"}
		a.wish(labelled, "2")
		a.pass(6)
		if pod := a.w.published.Load(); pod.Labels["tier"] != "front" || a.written().Revision != "2" || a.written().Pod.Labels["tier"] != "front" {
			t.Errorf("labels %v", pod.Labels)
		}
		a.expect("term")
		newer := labelled.DeepCopy()
		newer.Spec.Containers[0].Image = "app:2"
		a.wish(newer, "3")
		a.pass(8)
		a.expect("term", "6 term app 0")
		a.expect("start", "0 start app 0", "0 start other 0", "6 start app 1")
		if s := a.status("app"); s.Image != "docker.io/app:2" || s.RestartCount != 1 || a.w.published.Load().UID != uid {
			t.Errorf("%+v", s)
		}
	})
}

func TestAnotherImageDoesNotWaitForTheBackoffOfTheOneBefore(t *testing.T) {
	inBubble(t, func(a *agency) {
		a.host.started = func(t node.Target) {
			if t.Container.Image == "app:1" {
				time.AfterFunc(time.Second, func() { a.host.exit("app", 1) })
			}
		}
		p := a.pod("app")
		a.wantPod(p)
		a.pass(40)
		mended := p.DeepCopy()
		mended.Spec.Containers[0].Image = "app:2"
		a.wish(mended, "2")
		a.pass(41)
		a.expect("start", "0 start app 0", "1 start app 1", "12 start app 2", "33 start app 3", "40 start app 4")
		a.host.exit("app", 1)
		a.pass(60)
		if got := a.host.noted("start"); len(got) != 6 || got[5] != "41 start app 5" {
			t.Errorf("back-off has not started over: %q", got)
		}
	})
}

func TestAnInitContainerThatIsStoppedForItsImageIsNotDone(t *testing.T) {
	inBubble(t, func(a *agency) {
		p := a.pod("app")
		p.Spec.RestartPolicy = v1.RestartPolicyNever
		p.Spec.InitContainers = []v1.Container{{Name: "init", Image: "init:1"}}
		a.wantPod(p)
		a.pass(5)
		edited := p.DeepCopy()
		edited.Spec.InitContainers[0].Image = "init:2"
		a.wish(edited, "2")
		a.pass(6)
		a.expect("start", "0 start init 0", "5 start init 1")
		if phase := a.w.published.Load().Status.Phase; phase != v1.PodPending {
			t.Errorf("the Pod is %s", phase)
		}
		a.host.exit("init", 0)
		a.pass(7)
		a.expect("start app", "6 start app 0")
	})
}

func TestDifference(t *testing.T) {
	t.Parallel()
	base := func() *v1.Pod {
		p := &v1.Pod{ObjectMeta: metav1.ObjectMeta{UID: "u", Labels: map[string]string{"a": "1"}}}
		p.Spec.Containers = []v1.Container{{Name: "app", Image: "app:1", ImagePullPolicy: v1.PullIfNotPresent}}
		return p
	}
	for sentence, r := range map[string]struct {
		change func(*v1.Pod)
		want   change
	}{
		"the same":        {func(*v1.Pod) {}, nothing},
		"no uid is given": {func(p *v1.Pod) { p.UID = "" }, nothing},
		"another uid":     {func(p *v1.Pod) { p.UID = "v" }, recreate},
		"a label":         {func(p *v1.Pod) { p.Labels["a"] = "2" }, inPlace},
		"an annotation":   {func(p *v1.Pod) { p.Annotations = map[string]string{"b": "1"} }, inPlace},
		"an image":        {func(p *v1.Pod) { p.Spec.Containers[0].Image = "app:2" }, restarts},
		"an image and its policy": {func(p *v1.Pod) {
			p.Spec.Containers[0].Image = "app"
			p.Spec.Containers[0].ImagePullPolicy = v1.PullAlways
		}, restarts},
		"arguments":                        {func(p *v1.Pod) { p.Spec.Containers[0].Args = []string{"x"} }, recreate},
		"one container more":               {func(p *v1.Pod) { p.Spec.Containers = append(p.Spec.Containers, v1.Container{Name: "b"}) }, recreate},
		"an image and an argument as well": {func(p *v1.Pod) { p.Spec.Containers[0].Image = "b"; p.Spec.Containers[0].Args = []string{"x"} }, recreate},
	} {
		t.Run(sentence, func(t *testing.T) {
			t.Parallel()
			wanted := base()
			r.change(wanted)
			if got := difference(base(), wanted); got != r.want {
				t.Errorf("got %s, want %s", got, r.want)
			}
		})
	}
}

func TestHeldPodWaits(t *testing.T) {
	inBubble(t, func(a *agency) {
		p := a.pod("app")
		held := wishFor(p, "1")
		held.Ruling = hold(v1.PodReasonUnschedulable, "0/1 nodes are available: 1 Insufficient cpu.")
		a.w.want(held)
		a.pass(5)
		if c := scheduled(a.w); a.w.published.Load().Status.Phase != v1.PodPending || c.Message != held.Ruling.Message || c.Reason != v1.PodReasonUnschedulable {
			t.Errorf("%+v", c)
		}
		a.wantPod(p)
		a.pass(10)
		a.expect("start", "5 start app 0")
		a.w.want(held) // preempted
		a.pass(15)
		a.expect("tear down", "10 tear down")
		if c := scheduled(a.w); c.Status != v1.ConditionFalse {
			t.Errorf("%+v", c)
		}
	})
}

func TestEvictedPodKeepsItsStatus(t *testing.T) {
	inBubble(t, func(a *agency) {
		p := a.pod("app")
		a.wantPod(p)
		a.pass(5)
		evicted := wishFor(p, "1")
		evicted.Ruling = Ruling{Verdict: Evicted, Reason: "Evicted", Message: "The node was low on resource: memory. "}
		a.w.want(evicted)
		a.pass(6)
		check := func(when string) {
			t.Helper()
			pod := a.w.published.Load()
			if pod == nil || pod.Status.Phase != v1.PodFailed || pod.Status.Reason != "Evicted" || pod.Status.Message != evicted.Ruling.Message || pod.DeletionTimestamp != nil {
				t.Fatalf("%s: %+v", when, pod)
			}
		}
		check("evicted")
		a.succeed()
		check("after a restart of the agent")
		a.w.want(evicted)
		a.pass(10)
		check("when it is wanted as before")
		a.expect("start", "0 start app 0")
		a.wantPod(p)
		a.pass(20)
		a.expect("start", "0 start app 0", "10 start app 0")
		if left, _ := os.ReadDir(a.dir); len(left) != 1 {
			t.Errorf("%d records", len(left))
		}
		a.w.want(evicted)
		a.pass(21)
		a.w.want(nil)
		a.pass(22)
		if left, _ := os.ReadDir(a.dir); len(left) != 0 {
			t.Errorf("%d records", len(left))
		}
	})
}

func TestRebuiltPodRunsOn(t *testing.T) {
	for sentence, r := range map[string]struct {
		revision   string
		start, end []string
	}{
		"as it was":           {"1", []string{"0 start app 0"}, nil},
		"edited meanwhile":    {"2", []string{"0 start app 0", "10 start app 0"}, []string{"10 tear down"}},
		"not wanted any more": {"", []string{"0 start app 0"}, []string{"10 tear down"}},
	} {
		t.Run(sentence, func(t *testing.T) {
			inBubble(t, func(a *agency) {
				p := a.want("1", "app")
				a.pass(5)
				a.dismiss()
				lost := a.written()
				lost.rebuilt = true
				p.Spec.TerminationGracePeriodSeconds = new(int64(1))
				lost.Pod = &v1.Pod{ObjectMeta: lost.Pod.ObjectMeta, Spec: v1.PodSpec{Containers: []v1.Container{{Name: "app"}}}}
				lost.Containers = map[string]*record{"app": {Launched: true}}
				a.employ(lost)
				a.pass(10)
				a.expect("term") // until its source has spoken
				if got := a.written().Pod.Spec.Containers[0].Image; got != "app:1" {
					t.Errorf("what is not known yet was recorded: image %q", got)
				}
				if r.revision == "" {
					a.w.want(nil)
				} else {
					a.wish(p, r.revision)
				}
				a.pass(12)
				a.expect("start", r.start...)
				a.expect("tear down", r.end...)
				if r.revision == "1" && (!a.ready() || a.written().Pod.Spec.Containers[0].Image != "app:1") {
					t.Errorf("%+v", a.w.published.Load().Status)
				}
			})
		})
	}
}

func TestByKeyPrefersWhatDoesNotEnd(t *testing.T) {
	t.Parallel()
	made := func(uid string, age time.Duration, ends bool) *instance {
		inst := &instance{Pod: &v1.Pod{ObjectMeta: metav1.ObjectMeta{
			Namespace: "default", Name: "web", UID: types.UID(uid), CreationTimestamp: metav1.NewTime(time.Now().Add(-age)),
		}}}
		if ends {
			inst.Ending = &plan.Ending{}
		}
		return inst
	}
	for _, all := range [][]*instance{
		{made("old", time.Hour, true), made("new", time.Minute, false)},
		{made("new", time.Minute, false), made("old", time.Hour, true)},
		{made("old", time.Hour, false), made("new", time.Minute, false)},
		{made("new", time.Hour, false), made("ends", time.Minute, true)},
	} {
		if got := byKey(all)[key(all[0].Pod)]; len(got) != 2 || got[0].Pod.UID != "new" {
			t.Errorf("%s goes on", got[0].Pod.UID)
		}
	}
}

func TestSources(t *testing.T) {
	t.Parallel()
	pod := func(name, file string) manifests.Pod {
		return manifests.Pod{Pod: &v1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}}, Revision: "1", File: file, Line: 3}
	}
	s := newSources("directory", "api")
	other := types.NamespacedName{Namespace: "default", Name: "other"}
	if s.gone("directory", other) {
		t.Error("a source that was not read has nothing to say")
	}
	s.tell("directory", manifests.Set{Pods: []manifests.Pod{pod("web", "a.yaml")}})
	s.tell("api", manifests.Set{Err: errors.New("no disk"), Pods: []manifests.Pod{pod("web", "object"), pod("db", "object")}})
	wishes := s.wishes()
	if len(wishes) != 2 || wishes[types.NamespacedName{Namespace: "default", Name: "web"}].Source != "directory" {
		t.Errorf("wishes %v", wishes)
	}
	refused := s.refused()
	const want = "object:3: metadata.name: default/web is given by the directory (a.yaml) already: choose another name, or remove it there"
	if len(refused) != 1 || refused[0].Error() != want {
		t.Errorf("refused: %v", refused)
	}
	if !s.gone("directory", other) || s.gone("api", other) {
		t.Error("of a source that cannot be read nothing is gone")
	}
	key := types.NamespacedName{Namespace: "default", Name: "db"}
	s.rule(key, "1", Ruling{Verdict: Held})
	if s.wishes()[key].Ruling.Verdict != Held {
		t.Error("the ruling is lost")
	}
	edited := pod("db", "object")
	edited.Revision = "2"
	s.tell("api", manifests.Set{Pods: []manifests.Pod{edited}})
	if s.wishes()[key].Ruling.Verdict != Admitted {
		t.Error("a ruling is about one revision")
	}
}

func TestARefusedManifestTakesNoPodAway(t *testing.T) {
	t.Parallel()
	web := types.NamespacedName{Namespace: "default", Name: "web"}
	a := &Agent{sources: newSources(SourceDirectory), feed: newFeed(), surroundings: &surroundings{roster: newRoster(node.NewObject("node", nil)), events: newEvents("node"), log: discard()}}
	w := newWorker(web, a.surroundings)
	w.wanted, w.origin = &Wish{Pod: &manifests.Pod{Pod: &v1.Pod{}}}, SourceDirectory // as an earlier agent ran it
	a.enlist(w)
	a.offer(SourceDirectory, manifests.Set{Refused: []manifests.Refusal{{File: "web.yaml", Reason: "no", Of: manifests.PodKey(web)}}})
	if w.idle() {
		t.Error("a manifest that this agent refuses, and of which it has no good version, has ended its Pod")
	}
	a.offer(SourceDirectory, manifests.Set{Refused: []manifests.Refusal{{File: "db.yaml", Reason: "no"}}})
	if !w.idle() {
		t.Error("a Pod that no manifest names runs on")
	}
}

func TestWhatContainerdKnowsIsRebuilt(t *testing.T) {
	t.Parallel()
	a := &Agent{surroundings: &surroundings{roster: newRoster(node.NewObject("node", nil)), podsDir: t.TempDir(), log: discard()}}
	known := recorded(a.podsDir)
	item := func(uid, container string, attempt int) node.Item {
		i := node.Item{Namespace: "default", Pod: "db", UID: uid, Container: container, Attempt: attempt, Sandbox: attempt - 2, Revision: "r", Ours: true, Users: node.Users{First: 7 * node.UsersUnit, Count: node.UsersUnit}}
		tmp := newInstance(a.podsDir, &v1.Pod{ObjectMeta: metav1.ObjectMeta{UID: types.UID(uid)}}, "r")
		tmp.remember(i)
		i.ID = tmp.target(container).ID()
		return i
	}
	foreign := item("v", "app", 0)
	foreign.Ours = false
	items := []node.Item{
		item("lost", "app", 3), item("lost", "app", 2), item("lost", "side", 4), item("u", "app", 0), item("u", "app", 7), foreign,
		{UID: "u", ID: known.target("").SandboxID(), Ours: true}, {UID: "pause", ID: "pause", Ours: true},
	}
	items, others := a.ours(items, []*instance{known})
	if len(others) != 1 || others[0] != foreign.SandboxID() {
		t.Errorf("foreign: %v", others)
	}
	rebuilt := a.rebuild(items, []*instance{known})
	if len(rebuilt) != 1 {
		t.Fatalf("%d instances", len(rebuilt))
	}
	got := rebuilt[0]
	if !got.rebuilt || got.Revision != "r" || got.Sandbox.Attempt != 2 || got.Containers["app"].Attempt != 3 ||
		got.Containers["app"].Sandbox != 1 || got.Containers["side"].Sandbox != 2 || len(got.Pod.Spec.Containers) != 2 || got.Users.First != 7*node.UsersUnit {
		t.Errorf("%+v", got)
	}
	left := strays(items, append(rebuilt, known))
	var of []string
	for _, i := range left {
		of = append(of, i.UID+"/"+i.Container)
	}
	slices.Sort(of)
	if !slices.Equal(of, []string{"lost/app", "pause/", "u/", "u/app"}) {
		t.Errorf("strays: %+v", left)
	}
}

func TestAPodOfTheHostsNetworkHasTheNodesPresentAddress(t *testing.T) {
	inBubble(t, func(a *agency) {
		p := a.pod("app")
		p.Spec.HostNetwork = true
		a.wantPod(p)
		a.pass(5)
		if s := a.w.published.Load().Status; s.PodIP != "192.0.2.1" || s.HostIP != "192.0.2.1" {
			t.Errorf("%+v", s)
		}
		a.host.set(func() { a.host.hostIP = "192.0.2.77" })
		a.w.Wake()
		synctest.Wait()
		if s := a.w.published.Load().Status; s.PodIP != "192.0.2.77" || s.PodIPs[0].IP != "192.0.2.77" || a.w.target("app").IPs[0] != "192.0.2.77" {
			t.Errorf("%+v", s)
		}
	})
}
