package agent

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"github.com/podkeeper/podkeeper/agent/evict"
	"github.com/podkeeper/podkeeper/agent/node"
	"github.com/podkeeper/podkeeper/manifests"
)

// closing is what is tested: an agent of a host that shuts down, with all of its workers.
type closing struct {
	*testing.T
	a      *Agent
	host   *pretended
	dir    string
	groups []ShutdownGroup
	files  manifests.Set
	made   manifests.Set // through the API
	turns  *turns        // of the next agent; nil is no limit
	stop   context.CancelFunc
}

// shuttingDown runs a test with an agent that has nothing to do yet.
func shuttingDown(t *testing.T, test func(c *closing), groups ...ShutdownGroup) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := &closing{T: t, dir: t.TempDir(), groups: groups}
		c.host = &pretended{begin: time.Now(), sandboxes: map[string]bool{}, tasks: map[string]*task{}, wake: c.wake}
		c.begin(false)
		defer func() { c.end() }()
		test(c)
	})
}

func (c *closing) wake(id string) {
	if w := c.a.of(id); w != nil {
		w.Wake()
	}
}

// begin starts an agent on what an earlier one has left, on a host that shuts down or not. No source has spoken.
func (c *closing) begin(shutsDown bool) {
	around := &surroundings{
		roster: newRoster(node.NewObject("here", nil)), host: c.host, podsDir: c.dir, hostIPs: func() []string { return nil }, timeout: time.Minute,
		turns: c.turns, events: newEvents("here"), metrics: newMetrics(prometheus.NewRegistry(), &Agent{}), log: discard(), started: time.Now(),
	}
	ctx, stop := context.WithCancel(context.Background())
	c.stop = stop
	a := &Agent{
		surroundings: around, sources: newSources(SourceDirectory, SourceAPI), feed: newFeed(), heart: &heartbeat{}, ctx: ctx,
		drain: openDrain(filepath.Join(c.dir, "..", "drained")), shutdown: &shutdown{groups: c.groups}, evictor: newEvictor(nil, evict.Policy{}, around.events, discard()),
	}
	a.sources.drained, around.pressed = a.mayStay, a.mayBegin
	around.rule = func(pod types.NamespacedName, revision string, ruling Ruling) {
		a.sources.rule(pod, revision, ruling)
		a.handOut()
	}
	c.a = a
	a.ShutsDown(ctx, shutsDown)
	whole, broken, err := loadInstances(c.dir)
	if err != nil || len(broken) > 0 {
		c.Fatalf("%d records are broken: %v", len(broken), err)
	}
	for _, all := range inOrder(byKey(whole)) {
		w := a.takeOver(all)
		a.running.Go(func() { w.run(ctx) })
	}
}

// speak has both sources say what is wanted.
func (c *closing) speak() {
	c.a.sources.tell(SourceDirectory, c.files)
	c.a.sources.tell(SourceAPI, c.made)
	c.a.handOut()
	synctest.Wait()
}

// end ends the agent, but not the Pods.
func (c *closing) end() {
	c.stop()
	c.a.running.Wait()
	synctest.Wait()
}

// kill ends the agent as kill -9 does: what it has not written by now is lost.
func (c *closing) kill() {
	records, err := loadRecords(c.dir)
	if err != nil {
		c.Fatal(err)
	}
	c.end()
	for file, content := range records {
		if err := node.WriteDurably(file, content); err != nil {
			c.Fatal(err)
		}
	}
}

func loadRecords(dir string) (map[string][]byte, error) {
	whole, _, err := loadInstances(dir)
	records := map[string][]byte{}
	for _, inst := range whole {
		records[inst.file] = inst.written
	}
	return records, err
}

// reboot is the end of all that runs, and the next agent, with what was wanted before.
func (c *closing) reboot() {
	c.end()
	c.host.set(func() {
		clear(c.host.sandboxes)
		clear(c.host.tasks)
	})
	c.begin(false)
}

// want wants a Pod of one container, that has the Pod's name, of a source.
func (c *closing) want(source, name, class string, changes ...func(*v1.Pod)) {
	p := &v1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, Annotations: map[string]string{"dir": c.dir}}}
	p.Spec = v1.PodSpec{PriorityClassName: class, RestartPolicy: v1.RestartPolicyAlways, Containers: []v1.Container{{Name: name, Image: "app:1"}}}
	set := &c.files
	if source == SourceAPI {
		p.UID, set = types.UID("uid-of-"+name), &c.made
	}
	for _, change := range changes {
		change(p)
	}
	set.Pods = append(set.Pods, manifests.Pod{Pod: manifests.Normalise(p), Revision: "1"})
}

// is what is reported of a Pod.
func (c *closing) is(name string) string {
	w := c.a.named(types.NamespacedName{Namespace: "default", Name: name})
	if w == nil || w.published.Load() == nil {
		return "not there"
	}
	s := w.published.Load().Status
	text := string(s.Phase)
	if s.Reason != "" {
		text += " " + s.Reason + ": " + s.Message
	}
	return text
}

func (c *closing) expect(what string, got, want any) {
	c.Helper()
	if fmt.Sprint(got) != fmt.Sprint(want) {
		c.Errorf("%s:\n got %v\nwant %v", what, got, want)
	}
}

// pass lets seconds pass.
func (c *closing) pass(seconds float64) {
	time.Sleep(time.Duration(seconds * float64(time.Second)))
	synctest.Wait()
}

const ordinary = "" // the class of Pods that name none

const endedForIt = "Failed Terminated: Pod was terminated in response to imminent node shutdown."

func grace(seconds int64) func(*v1.Pod) {
	return func(p *v1.Pod) { p.Spec.TerminationGracePeriodSeconds = &seconds }
}

func restarting(of v1.RestartPolicy) func(*v1.Pod) {
	return func(p *v1.Pod) { p.Spec.RestartPolicy = of }
}

func preStop(p *v1.Pod) {
	p.Spec.Containers[0].Lifecycle = &v1.Lifecycle{PreStop: &v1.LifecycleHandler{Exec: &v1.ExecAction{Command: []string{"bye"}}}}
}

var ordinaryAndCritical = []ShutdownGroup{{0, 20 * time.Second}, {2000000000, 10 * time.Second}}

// TestGroupsOfAShutdown is the kubelet's rule of whom a group is made of.
func TestGroupsOfAShutdown(t *testing.T) {
	t.Parallel()
	s := &shutdown{groups: []ShutdownGroup{{Priority: 10}, {Priority: 100}, {Priority: 1000}}}
	for priority, want := range map[int32]int{-5: 0, 0: 0, 9: 0, 10: 0, 11: 0, 99: 0, 100: 1, 999: 1, 1000: 2, 2000000000: 2} {
		if got := s.groupOf(&v1.Pod{Spec: v1.PodSpec{Priority: ptr.To(priority)}}); got != want {
			t.Errorf("priority %d is of group %d, want %d", priority, got, want)
		}
	}
	if got := s.groupOf(&v1.Pod{}); got != 0 {
		t.Errorf("no priority is of group %d", got)
	}
}

func TestPodsEndInOrderWhenTheHostShutsDown(t *testing.T) {
	shuttingDown(t, func(c *closing) {
		c.host.set(func() {
			c.host.command = func(context.Context, node.Target, []string) (int, error) {
				time.Sleep(3 * time.Second)
				return 0, nil
			}
		})
		c.want(SourceDirectory, "low", ordinary, preStop)
		c.want(SourceDirectory, "other", ordinary)
		c.want(SourceDirectory, "critical", "system-node-critical", preStop)
		c.want(SourceDirectory, "done", ordinary, restarting(v1.RestartPolicyNever))
		c.speak()
		c.pass(5)
		c.host.exit("done", 0)
		c.pass(5)
		c.a.ShutsDown(c.a.ctx, true)
		c.want(SourceDirectory, "late", ordinary)
		c.speak()
		c.a.EndPods(c.a.ctx)
		c.expect("what is done", strings.Join(append(c.host.noted("exec"), c.host.noted("term")...), ", "),
			"10 exec low bye, 13.1 exec critical bye, 10 term other 0, 13 term low 0, 16.1 term critical 0")
		c.expect("time that it took", time.Since(c.host.begin).Seconds() < 17, true)
		for _, name := range []string{"low", "other", "critical"} {
			c.expect(name, c.is(name), endedForIt)
			w := c.a.named(types.NamespacedName{Namespace: "default", Name: name})
			if d := disruption(w); d == nil || d.Status != v1.ConditionTrue || d.Reason != "TerminationByKubelet" || d.Message != terminated.Message {
				c.Errorf("%s has the condition %+v", name, d)
			}
			if pod := w.published.Load(); pod.DeletionTimestamp != nil {
				c.Errorf("%s is deleted", name)
			}
		}
		c.expect("who had ended", c.is("done"), "Succeeded")
		c.expect("who comes late", c.is("late"), "Pending NodeShutdown: Pod was rejected as the node is shutting down.")
		c.expect("the node", c.a.heartFaults(), "node is shutting down")
		c.pass(100)
		c.expect("starts", len(c.host.noted("start")), 4)
	}, ordinaryAndCritical...)
}

func TestWhyANodeIsNotReady(t *testing.T) {
	t.Parallel()
	away := errors.New("connection refused")
	for _, row := range []struct {
		away error
		ends bool
		want string
	}{
		{nil, false, "True KubeletReady: kubelet is posting ready status"},
		{away, false, "False KubeletNotReady: container runtime is down"},
		{nil, true, "False KubeletNotReady: node is shutting down"},
		{away, true, "False KubeletNotReady: [container runtime is down, node is shutting down]"},
	} {
		h := &heartbeat{ends: func() bool { return row.ends }}
		all := conditions(nil, nil, h.faults(row.away), time.Now())
		ready := all[len(all)-1]
		if got := string(ready.Status) + " " + ready.Reason + ": " + ready.Message; ready.Type != v1.NodeReady || got != row.want {
			t.Errorf("%+v: %s is %s", row, ready.Type, got)
		}
	}
}

// heartFaults is why the node is not ready.
func (a *Agent) heartFaults() error { return (&heartbeat{ends: a.ShuttingDown}).faults(nil) }

func TestNobodyHasLongerThanTheirGroup(t *testing.T) {
	for sentence, row := range map[string]struct {
		change func(*v1.Pod)
		before func(c *closing)
		killed string
		took   float64
	}{
		"a Pod with more time than its group":         {change: grace(600), killed: "30 kill app 0", took: 20},
		"a Pod with less":                             {change: grace(4), killed: "14 kill app 0", took: 4.1},
		"a Pod with none":                             {change: grace(0), killed: "12 kill app 0", took: 2.1},
		"a hook is counted":                           {change: func(p *v1.Pod) { grace(600)(p); preStop(p) }, killed: "32 kill app 0", took: 20},
		"a Pod that is being deleted, in its time":    {change: grace(600), before: func(c *closing) { c.files.Pods = nil; c.speak() }, killed: "30 kill app 0", took: 20},
		"a Pod that ends for a drain, in its time":    {change: grace(600), before: func(c *closing) { c.a.drain.set(true); c.a.drain.raise(0); c.speak() }, killed: "30 kill app 0", took: 20},
		"a Pod that is edited amid it is ended again": {change: grace(600), before: func(c *closing) { go c.editAmid() }, killed: "30 kill app 0", took: 20},
	} {
		t.Run(sentence, func(t *testing.T) {
			shuttingDown(t, func(c *closing) {
				c.host.set(func() {
					c.host.deaf = true
					c.host.command = func(ctx context.Context, _ node.Target, _ []string) (int, error) {
						<-ctx.Done()
						return 0, ctx.Err()
					}
				})
				c.want(SourceDirectory, "app", ordinary, row.change)
				c.speak()
				c.pass(10)
				if row.before != nil {
					row.before(c)
				}
				c.a.ShutsDown(c.a.ctx, true)
				c.a.EndPods(c.a.ctx)
				took := time.Since(c.host.begin).Seconds() - 10
				c.pass(60)
				c.expect("killed", strings.Join(c.host.noted("kill"), ", "), row.killed)
				c.expect("seconds", fmt.Sprintf("%.1f", took), fmt.Sprintf("%.1f", row.took))
				c.expect("starts", c.host.noted("start"), []string{"0 start app 0"})
			}, ordinaryAndCritical...)
		})
	}
}

// editAmid has the Pod be another one, as soon as it ends.
func (c *closing) editAmid() {
	time.Sleep(5 * time.Second)
	edited := c.files.Pods[0].DeepCopy()
	edited.Spec.Containers[0].Args = []string{"2"}
	c.files.Pods = []manifests.Pod{{Pod: edited, Revision: "2"}}
	c.a.sources.tell(SourceDirectory, c.files)
	c.a.handOut()
}

func TestAGroupWithoutTimeIsNotWaitedFor(t *testing.T) {
	shuttingDown(t, func(c *closing) {
		c.host.set(func() { c.host.deaf = true })
		c.want(SourceDirectory, "low", ordinary)
		c.want(SourceDirectory, "critical", "system-cluster-critical")
		c.speak()
		c.pass(10)
		c.host.set(func() { c.host.hangs = "critical" }) // what follows from a record takes its time
		c.a.ShutsDown(c.a.ctx, true)
		c.a.EndPods(c.a.ctx)
		c.expect("seconds", time.Since(c.host.begin).Seconds() < 23, true)
		c.kill() // what is written by then is what the next agent finds
		c.host.set(func() { c.host.deaf, c.host.hangs = false, "" })
		c.reboot()
		for name, want := range map[string]Verdict{"low": Evicted, "critical": Evicted} {
			w := c.a.named(types.NamespacedName{Namespace: "default", Name: name})
			c.expect("what is on record of "+name, w.inst.Ruling.Verdict, want)
		}
	}, ShutdownGroup{0, 10 * time.Second}, ShutdownGroup{2000000000, 0})
}

// TestWhoIsBackAfterAShutdown covers the ways in which a shutdown is over, for Pods of files and those that were made through the API.
func TestWhoIsBackAfterAShutdown(t *testing.T) {
	ways := map[string]func(c *closing){
		"it was cancelled":         func(c *closing) { c.a.ShutsDown(c.a.ctx, false); synctest.Wait() },
		"the host was booted anew": func(c *closing) { c.reboot(); c.speak() },
		"the next agent finds none under way": func(c *closing) {
			c.kill()
			c.begin(false)
			c.speak()
		},
		"two agents later": func(c *closing) {
			c.kill()
			c.begin(true)
			c.speak()
			c.expect("meanwhile", c.is("directory-always"), endedForIt)
			c.kill()
			c.begin(false)
			c.speak()
		},
		"the next agent hears that it was cancelled": func(c *closing) {
			c.kill()
			c.begin(true)
			c.speak()
			c.a.ShutsDown(c.a.ctx, false)
			synctest.Wait()
		},
	}
	for sentence, way := range ways {
		t.Run(sentence, func(t *testing.T) {
			shuttingDown(t, func(c *closing) {
				for _, source := range []string{SourceDirectory, SourceAPI} {
					for _, p := range []v1.RestartPolicy{v1.RestartPolicyAlways, v1.RestartPolicyOnFailure, v1.RestartPolicyNever} {
						c.want(source, strings.ToLower(source+"-"+string(p)), ordinary, restarting(p))
					}
				}
				c.speak()
				c.pass(10)
				c.a.ShutsDown(c.a.ctx, true)
				c.a.EndPods(c.a.ctx)
				c.pass(1)
				for _, w := range c.a.all() {
					c.expect(w.key.Name, c.is(w.key.Name), endedForIt)
				}
				if forGood := c.a.madeForGood(); len(forGood) != 1 || forGood[0].Name != "api-never" {
					c.Errorf("%d pods may be removed where too many have ended", len(forGood))
				}
				way(c)
				c.pass(5)
				for _, source := range []string{"directory", "api"} {
					c.expect(source, c.is(source+"-always"), "Running")
					c.expect(source, c.is(source+"-onfailure"), "Running")
					c.expect(source, c.is(source+"-never"), endedForIt)
				}
				c.reboot() // by a power failure
				c.speak()
				c.pass(5)
				c.expect("once more", c.is("api-always"), "Running")
				c.expect("once more", c.is("api-never"), endedForIt)
			}, ordinaryAndCritical...)
		})
	}
}

// TestWhoIsBackFirst has a crowd begin at once after a boot, when somebody else still has the only turn.
func TestWhoIsBackFirst(t *testing.T) {
	shuttingDown(t, func(c *closing) {
		c.want(SourceAPI, "low", ordinary)
		c.want(SourceDirectory, "high", "system-cluster-critical")
		c.want(SourceDirectory, "equal", ordinary)
		c.want(SourceDirectory, "highest", "system-node-critical")
		c.speak()
		c.pass(5)
		c.a.ShutsDown(c.a.ctx, true)
		c.a.EndPods(c.a.ctx)
		c.turns = newTurns(1)
		give, err := c.turns.take(t.Context(), 0)
		if err != nil {
			t.Fatal(err)
		}
		before := len(c.host.noted("start"))
		c.reboot()
		c.speak()
		c.pass(handOn.Seconds() / 2)
		give()
		c.pass(5)
		var order []string
		for _, line := range c.host.noted("start")[before:] {
			order = append(order, strings.Fields(line)[2])
		}
		if len(order) != 4 || order[0] != "highest" || order[1] != "high" {
			t.Errorf("they begin as %q", order)
		}
	}, ordinaryAndCritical...)
}

// TestAnAgentIsKilledBetweenGroups has the next agent go on with the shutdown, or find the host booted anew.
func TestAnAgentIsKilledBetweenGroups(t *testing.T) {
	for sentence, boots := range map[string]bool{"the next agent goes on": false, "the host goes down with it": true} {
		t.Run(sentence, func(t *testing.T) {
			shuttingDown(t, func(c *closing) {
				c.want(SourceDirectory, "low", ordinary)
				c.want(SourceDirectory, "critical", "system-cluster-critical")
				c.speak()
				c.pass(10)
				c.host.set(func() { c.host.deaf = true })
				c.a.ShutsDown(c.a.ctx, true)
				ended := make(chan struct{})
				go func() { defer close(ended); c.a.EndPods(c.a.ctx) }()
				c.pass(5)
				c.kill()
				<-ended
				c.expect("signals", c.host.noted("term"), []string{"10 term low 0"})
				c.host.set(func() { c.host.deaf = false })
				if boots {
					c.reboot()
					c.speak()
					c.pass(5)
					c.expect("low", c.is("low"), "Running")
					c.expect("critical", c.is("critical"), "Running")
					c.expect("who was not ended is restarted in place", c.host.noted("start critical"), []string{"0 start critical 0", "15 start critical 1"})
					return
				}
				c.begin(true)
				c.speak()
				c.a.EndPods(c.a.ctx)
				c.expect("low", c.is("low"), endedForIt)
				c.expect("critical", c.is("critical"), endedForIt)
				c.expect("starts", len(c.host.noted("start")), 2)
			}, ordinaryAndCritical...)
		})
	}
}

// TestACancelledShutdownEndsNobodyElse gives up amid the first group.
func TestACancelledShutdownEndsNobodyElse(t *testing.T) {
	shuttingDown(t, func(c *closing) {
		c.want(SourceDirectory, "low", ordinary, grace(4))
		c.want(SourceDirectory, "critical", "system-cluster-critical")
		c.speak()
		c.pass(10)
		c.host.set(func() { c.host.deaf = true })
		c.a.ShutsDown(c.a.ctx, true)
		ctx, cancel := context.WithTimeout(c.a.ctx, 2*time.Second)
		defer cancel()
		c.a.EndPods(ctx)
		c.a.ShutsDown(c.a.ctx, false)
		c.pass(10)
		c.expect("low", c.is("low"), "Running")
		c.expect("starts", c.host.noted("start low"), []string{"0 start low 0", "14 start low 0"})
		c.expect("critical", c.host.noted("term critical"), []string(nil))
		c.expect("the node", c.a.heartFaults(), nil)
	}, ordinaryAndCritical...)
}

// TestADrainIsForgottenWithItsEnd has an agent be killed while a drain ends a Pod: the next one knows of the drain by itself.
func TestADrainIsForgottenWithItsEnd(t *testing.T) {
	shuttingDown(t, func(c *closing) {
		c.host.set(func() { c.host.deaf = true })
		c.want(SourceDirectory, "app", ordinary)
		c.speak()
		c.pass(10)
		c.a.drain.set(true)
		c.a.drain.raise(0)
		c.speak()
		c.pass(1)
		c.kill()
		c.begin(false) // it was resumed meanwhile
		c.speak()
		c.pass(60)
		c.expect("it is", c.is("app"), "Running")
	})
}

func TestWhatElseAPodDoesNotComeBackFrom(t *testing.T) {
	t.Parallel()
	ended := &v1.Pod{Spec: v1.PodSpec{RestartPolicy: v1.RestartPolicyOnFailure}}
	for _, other := range []Ruling{{}, exceeded, {Verdict: Evicted, Reason: evict.Reason}, hold(terminated.Reason, "")} {
		if returns(ended, other) {
			t.Errorf("it comes back from %+v", other)
		}
	}
}
