package agent

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sys/unix"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"github.com/podkeeper/podkeeper/agent/admit"
	"github.com/podkeeper/podkeeper/agent/evict"
	"github.com/podkeeper/podkeeper/agent/node"
	"github.com/podkeeper/podkeeper/agent/reclaim"
	"github.com/podkeeper/podkeeper/manifests"
)

const mib = 1 << 20

// dials pretend to be what there is of a node of 100 MiB of memory and of disk.
type dials struct {
	mu         sync.Mutex
	memory     uint64               // MiB of memory that are used
	disk       uint64               // and of disk
	tasks      int64                // of a thousand
	uses       map[string]uint64    // MiB that Pods use, of whatever is asked for, by name
	slow       time.Duration        // of a CPU, that it takes to measure a Pod
	measured   map[string][]float64 // when Pods were, in seconds
	begin      time.Time
	short      func()
	unreadable error
}

func (d *dials) set(change func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	change()
}

func (d *dials) NodeUsage() (node.Usage, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return node.Usage{WorkingSet: d.memory * mib, Limit: 100 * mib}, d.unreadable
}

func (d *dials) Usage(pod *v1.Pod, _ string) (node.Usage, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return node.Usage{WorkingSet: d.uses[pod.Name] * mib}, nil
}

func (d *dials) Processes(pod *v1.Pod) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return int(d.uses[pod.Name]), nil
}

func (d *dials) Storage(_ context.Context, pod *v1.Pod, ids map[string]string) (node.Storage, error) {
	d.mu.Lock()
	slow, used := d.slow, d.uses[pod.Name]*mib
	d.measured[pod.Name] = append(d.measured[pod.Name], time.Since(d.begin).Seconds())
	d.mu.Unlock()
	s := node.Storage{Cost: slow, Layers: map[string]node.Taken{}, Logs: map[string]node.Taken{}}
	for name := range ids {
		s.Layers[name], s.Logs[name] = node.Taken{Bytes: used / 2, Inodes: used}, node.Taken{Bytes: used - used/2}
	}
	return s, nil
}

func (d *dials) Disks(context.Context) (node.Disks, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	one := node.Disk{Capacity: 100 * mib, Available: (100 - d.disk) * mib, Inodes: 1000, InodesFree: 500, ID: unix.Fsid{Val: [2]int32{1, 1}}}
	return node.Disks{Root: one, Images: one, Layers: one}, nil
}

func (d *dials) Tasks() (int64, int64, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.tasks, 1000, nil
}

func (d *dials) WatchMemory(ctx context.Context, short func()) error {
	d.set(func() { d.short = short })
	<-ctx.Done()
	return nil
}

// stressed is what is tested: workers, and who evicts their Pods.
type stressed struct {
	*agency
	e      *evictor
	d      *dials
	policy evict.Policy
	made   int    // how often room was
	room   func() // how; may be nil
	end    func()
}

// under runs a test with an evictor. Its time begins half a second after that of the workers.
func under(t *testing.T, policy evict.Policy, test func(s *stressed)) {
	inBubble(t, func(a *agency) {
		policy.Transition = 5 * time.Minute
		s := &stressed{agency: a, policy: policy, d: &dials{uses: map[string]uint64{}, measured: map[string][]float64{}, begin: a.host.begin}}
		time.Sleep(500 * time.Millisecond)
		s.begin()
		defer func() { s.end() }()
		test(s)
	})
}

// begin has an evictor look after the workers that there are.
func (s *stressed) begin() {
	roster := s.roster
	s.e = newEvictor(s.d, s.policy, s.w.events, discard())
	s.e.workers = roster.all
	s.e.changed = func(context.Context) {
		for _, w := range roster.all() {
			w.Wake()
		}
	}
	s.e.reclaim = func(context.Context) {
		s.change(func() {
			s.made++
			if s.room != nil {
				s.room()
			}
		})
	}
	s.e.rule = func(pod types.NamespacedName, ruling Ruling) {
		w := roster.named(pod)
		w.mu.Lock()
		wanted := w.wanted
		w.mu.Unlock()
		if wanted != nil {
			w.want(&Wish{Pod: wanted.Pod, Source: wanted.Source, Ruling: ruling})
		}
	}
	s.w.pressed = s.e.hold
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); s.e.run(ctx) }()
	s.end = func() { cancel(); <-done }
}

// restart ends all of it and begins anew, as another agent does.
func (s *stressed) restart() {
	s.end()
	s.dismiss()
	s.employ(s.written())
	s.begin()
	synctest.Wait()
}

// change changes what is pretended.
func (s *stressed) change(change func()) { s.d.set(change) }

func limited(p *v1.Pod, limit string) *v1.Pod {
	p.Spec.Containers[0].Resources.Limits = v1.ResourceList{v1.ResourceEphemeralStorage: resource.MustParse(limit)}
	return p
}

func hardly(signal evict.Signal, below string) evict.Threshold {
	share, err := admit.ParseShare(below)
	if err != nil {
		panic(err)
	}
	return evict.Threshold{Signal: signal, Below: share}
}

// evicted fails the test unless a Pod has failed for that.
func (s *stressed) evicted(w *worker, message string) {
	s.Helper()
	pod := w.published.Load()
	if pod == nil || pod.Status.Phase != v1.PodFailed || pod.Status.Reason != "Evicted" || pod.Status.Message != message {
		s.Fatalf("it is %s, %s: %q", pod.Status.Phase, pod.Status.Reason, pod.Status.Message)
	}
}

// count is how many Pods are counted for a signal.
func (s *stressed) count(signal string) float64 {
	registry := prometheus.NewRegistry()
	registry.MustRegister(s.e.counted)
	families, err := registry.Gather()
	if err != nil {
		s.Fatal(err)
	}
	for _, family := range families {
		for _, m := range family.GetMetric() {
			if m.GetLabel()[0].GetValue() == signal {
				return m.GetCounter().GetValue()
			}
		}
	}
	return 0
}

func disruption(w *worker) *v1.PodCondition {
	for _, c := range w.published.Load().Status.Conditions {
		if c.Type == v1.DisruptionTarget {
			return &c
		}
	}
	return nil
}

const tooMuch = `Container app exceeded its local ephemeral storage limit "10Mi". `

func TestAPodThatIsOverItsLimitGoes(t *testing.T) {
	under(t, evict.Policy{}, func(s *stressed) {
		s.host.set(func() { s.host.deaf = true })
		p := limited(s.pod("app", "other"), "10Mi")
		p.Spec.Containers[1].Resources.Limits = v1.ResourceList{v1.ResourceEphemeralStorage: resource.MustParse("90Mi")}
		p.Spec.TerminationGracePeriodSeconds = ptr.To[int64](600)
		s.wantPod(p)
		s.change(func() { s.d.uses["web"] = 10 })
		s.pass(15)
		s.expect("term")
		s.change(func() { s.d.uses["web"] = 11 })
		s.pass(21)
		s.expect("term", "20.5 term app 0", "20.5 term other 0")
		s.pass(25) // a container has two seconds at least, as under Kubernetes
		s.expect("kill", "22.5 kill app 0", "22.5 kill other 0")
		s.evicted(s.w, tooMuch)
		if c := disruption(s.w); c != nil {
			t.Errorf("it goes for nobody else's sake, and yet %+v", c)
		}
		if got := s.reasons("Evicted"); !slices.Equal(got, []string{tooMuch}) {
			t.Errorf("people are told %q", got)
		}
		if n := s.count("ephemeralcontainerfs.limit"); n != 1 {
			t.Errorf("%v are counted", n)
		}
		s.change(func() { s.d.uses["web"] = 1 })
		s.pass(320)
		s.evicted(s.w, tooMuch) // there to be read
		s.pass(340)
		s.expect("start", "0.5 start app 0", "0.5 start other 0", "330.5 start app 0", "330.5 start other 0")
		if pod := s.w.published.Load(); pod.Status.Phase != v1.PodRunning || pod.Status.Reason != "" {
			t.Errorf("back it is %s, %s", pod.Status.Phase, pod.Status.Reason)
		}
	})
}

func TestWhoDoesNotComeBack(t *testing.T) {
	for sentence, otherwise := range map[string]func(*Wish){
		"a Pod of an API":                      func(w *Wish) { w.Source = SourceAPI },
		"one that runs only once":              func(w *Wish) { w.Pod.Spec.RestartPolicy = v1.RestartPolicyNever },
		"one that runs until it has succeeded": func(w *Wish) { w.Pod.Spec.RestartPolicy = v1.RestartPolicyOnFailure },
	} {
		t.Run(sentence, func(t *testing.T) {
			under(t, evict.Policy{}, func(s *stressed) {
				wish := wishFor(limited(s.pod("app"), "10Mi"), "1")
				otherwise(wish)
				s.change(func() { s.d.uses["web"] = 11 })
				s.w.want(wish)
				s.pass(20)
				s.evicted(s.w, "Pod ephemeral local storage usage exceeds the total limit of containers 10Mi. ")
				s.pass(3600)
				s.expect("start", "0.5 start app 0")
			})
		})
	}
}

// TestAnAgentIsKilledWhileAPodIsEvicted has the next agent find the Pod at its end, and evicted, and the node still short.
func TestAnAgentIsKilledWhileAPodIsEvicted(t *testing.T) {
	under(t, evict.Policy{Thresholds: []evict.Threshold{hardly(evict.MemoryAvailable, "10%")}}, func(s *stressed) {
		s.host.set(func() { s.host.deaf = true })
		s.wantPod(s.pod("app"))
		s.pass(5)
		s.change(func() { s.d.memory, s.d.uses["web"] = 95, 50 })
		s.pass(11)
		s.expect("term", "10.5 term app 0")
		s.restart()
		s.pass(15)
		const message = "The node was low on resource: memory. Threshold quantity: 10Mi, available: 5Mi. " +
			"Container app was using 50Mi, request is 0, has larger consumption of memory. "
		s.evicted(s.w, message)
		if c := disruption(s.w); c == nil || c.Reason != "TerminationByKubelet" || c.Message != message {
			t.Errorf("its condition is %+v", c)
		}
		s.restart()
		s.pass(3600)
		s.evicted(s.w, message)
		s.expect("start", "0.5 start app 0")
		s.change(func() { s.d.memory = 50 })
		s.pass(3600 + 290)
		s.evicted(s.w, message)
		s.pass(3600 + 310)
		if got := s.host.noted("start"); len(got) != 2 {
			t.Errorf("when the pressure is over: %q", got)
		}
	})
}

func TestOnePodGoesForTheNode(t *testing.T) {
	under(t, evict.Policy{Thresholds: []evict.Threshold{hardly(evict.NodeFSAvailable, "10%")}}, func(s *stressed) {
		high := s.another("high")
		s.wantPod(s.pod("app"))
		other := s.pod("high")
		other.Name, other.Spec.Priority = "high", ptr.To[int32](5)
		high.want(wishFor(other, "1"))
		s.pass(5)
		s.change(func() { s.d.disk, s.d.uses["web"], s.d.uses["high"] = 95, 10, 60 })
		s.pass(11)
		s.change(func() { s.d.disk = 50 }) // as it had written
		s.pass(14)
		s.evicted(s.w, "The node was low on resource: ephemeral-storage. Threshold quantity: 10Mi, available: 5Mi. "+
			"Container app was using 10Mi, request is 0, has larger consumption of ephemeral-storage. ")
		if got := high.published.Load().Status.Phase; got != v1.PodRunning || s.made != 1 || s.count("nodefs.available") != 1 {
			t.Errorf("the other one is %s, room was made %d times, and %v are counted", got, s.made, s.count("nodefs.available"))
		}
		s.change(func() { s.d.disk = 95 })
		s.pass(24)
		if got := high.published.Load().Status.Phase; got != v1.PodFailed || s.count("nodefs.available") != 2 {
			t.Errorf("when that was not enough the other one is %s, and %v are counted", got, s.count("nodefs.available"))
		}
	})
}

func TestRoomIsMadeBeforePodsGo(t *testing.T) {
	under(t, evict.Policy{Thresholds: []evict.Threshold{hardly(evict.ImageFSAvailable, "10%")}}, func(s *stressed) {
		s.wantPod(s.pod("app"))
		s.change(func() { s.room = func() { s.d.disk = 50 } })
		s.pass(5)
		s.change(func() { s.d.disk = 95 })
		s.pass(15)
		s.expect("term")
		late := s.another("late")
		p := s.pod("late")
		p.Name = "late"
		late.want(wishFor(p, "1"))
		s.pass(100)
		if begun(late) {
			t.Error("a Pod begins under pressure")
		}
		if pod := late.published.Load(); pod.Status.Phase != v1.PodPending || pod.Status.Reason != "Evicted" || pod.Status.Message != "The node had condition: [DiskPressure]. " {
			t.Errorf("it is %s, %s: %q", pod.Status.Phase, pod.Status.Reason, pod.Status.Message)
		}
		s.pass(320)
		if !begun(late) {
			t.Error("when it is over, it does not begin")
		}
		for reason, want := range map[string]string{
			"EvictionThresholdMet": "Attempting to reclaim ephemeral-storage", "NodeHasDiskPressure": "Node node status is now: NodeHasDiskPressure",
			"NodeHasNoDiskPressure": "Node node status is now: NodeHasNoDiskPressure",
		} {
			if got := s.reasons(reason); !slices.Equal(got, []string{want}) {
				t.Errorf("%s: people are told %q", reason, got)
			}
		}
	})
}

func TestASoftThresholdLeavesAPodItsTime(t *testing.T) {
	soft := hardly(evict.PIDAvailable, "20%")
	soft.Grace = 25 * time.Second
	under(t, evict.Policy{Thresholds: []evict.Threshold{soft}, MaxPodGrace: 20 * time.Second}, func(s *stressed) {
		s.host.set(func() { s.host.deaf = true })
		p := s.pod("app")
		p.Spec.TerminationGracePeriodSeconds = ptr.To[int64](60)
		s.wantPod(p)
		s.pass(5)
		s.change(func() { s.d.tasks = 900 })
		s.pass(100)
		s.expect("term", "40.5 term app 0")
		s.expect("kill", "60.5 kill app 0")
		s.evicted(s.w, "The node was low on resource: pids. Threshold quantity: 200, available: 100. ")
	})
}

// TestNobodyWaitsForHimWhoHasTime has one Pod end slowly, for a soft threshold. Another one only goes when memory is short at once.
func TestNobodyWaitsForHimWhoHasTime(t *testing.T) {
	soft := hardly(evict.PIDAvailable, "20%")
	soft.Grace = time.Millisecond
	under(t, evict.Policy{Thresholds: []evict.Threshold{soft, hardly(evict.MemoryAvailable, "10%")}, MaxPodGrace: time.Hour}, func(s *stressed) {
		s.host.set(func() { s.host.deaf = true })
		slow, other := s.pod("slow"), s.pod("other")
		slow.Spec.TerminationGracePeriodSeconds, other.Spec.TerminationGracePeriodSeconds, other.Name = ptr.To[int64](600), ptr.To[int64](600), "other"
		second := s.another("other")
		s.change(func() { s.d.uses["web"], s.d.uses["other"] = 9, 3 })
		s.wantPod(slow)
		second.want(wishFor(other, "1"))
		s.pass(5)
		s.change(func() { s.d.tasks = 900 })
		s.pass(300)
		s.expect("term", "20.5 term slow 0")
		s.d.short()
		s.pass(301)
		s.expect("term", "20.5 term slow 0")
		s.change(func() { s.d.memory = 95 })
		s.d.short()
		s.pass(302)
		s.expect("term", "20.5 term slow 0", "301 term other 0")
		s.pass(304)
		s.expect("kill", "303 kill other 0")
	})
}

func TestTheKernelTellsWhenMemoryIsShort(t *testing.T) {
	under(t, evict.Policy{Thresholds: []evict.Threshold{hardly(evict.MemoryAvailable, "10Mi")}}, func(s *stressed) {
		s.wantPod(s.pod("app"))
		s.pass(2)
		s.change(func() { s.d.memory = 80 })
		s.d.short()
		s.pass(3) // tasks wait, but there is enough
		s.expect("term")
		s.change(func() { s.d.memory = 99 })
		s.d.short()
		s.pass(4)
		s.expect("term", "3 term app 0")
	})
}

func TestWhatIsMeasured(t *testing.T) {
	under(t, evict.Policy{Thresholds: []evict.Threshold{hardly(evict.NodeFSAvailable, "10%")}}, func(s *stressed) {
		limitedToo := s.another("other")
		p := limited(s.pod("other"), "50Mi")
		p.Name = "other"
		s.wantPod(s.pod("app"))
		s.pass(100)
		if len(s.d.measured) != 0 {
			t.Errorf("nobody has limits, and %v are measured", s.d.measured)
		}
		limitedToo.want(wishFor(p, "1"))
		s.pass(131)
		if got := s.d.measured["other"]; !slices.Equal(got, []float64{100.5, 110.5, 120.5, 130.5}) || len(s.d.measured) != 1 {
			t.Errorf("measured at %v", s.d.measured)
		}
		s.change(func() { s.d.slow, s.d.measured = 200*time.Millisecond, map[string][]float64{} })
		s.pass(400)
		got := s.d.measured["other"]
		for i := range got[1:] {
			if pause := got[i+1] - got[i]; pause < 100 || pause > 111 {
				t.Errorf("it takes 200 ms, and is measured at %v", got)
			}
		}
		s.change(func() { s.d.slow, s.d.measured = 20*time.Second, map[string][]float64{} })
		s.pass(2000)
		got = s.d.measured["other"]
		for i := range got[1:] {
			if pause := got[i+1] - got[i]; pause < 300 || pause > 311 {
				t.Errorf("it takes 20 s, and is measured at %v", got)
			}
		}
		if len(got) < 4 {
			t.Errorf("it is measured at %v", got)
		}
	})
}

func TestANodeThatCannotBeLookedAt(t *testing.T) {
	under(t, evict.Policy{Thresholds: []evict.Threshold{hardly(evict.MemoryAvailable, "10%")}}, func(s *stressed) {
		s.wantPod(s.pod("app"))
		s.change(func() { s.d.unreadable, s.d.memory = errors.New("broken"), 100 })
		s.pass(100)
		s.expect("term")
		if c := s.e.conditions(); len(c) != 0 {
			t.Errorf("it has %v", c)
		}
	})
}

func TestNobodyCanGo(t *testing.T) {
	under(t, evict.Policy{Thresholds: []evict.Threshold{hardly(evict.MemoryAvailable, "10%")}}, func(s *stressed) {
		p := s.pod("app")
		p.Spec.Priority = ptr.To[int32](2000001000)
		s.change(func() { s.d.memory = 95 })
		s.wantPod(p) // which begins under pressure
		s.pass(100)
		s.expect("term")
		s.expect("start", "0.5 start app 0")
		var told []string
		for _, c := range pressureConditions(s.e.conditions()) {
			told = append(told, string(c.Type)+"="+string(c.Status)+" "+c.Reason+": "+c.Message)
		}
		if got, want := strings.Join(told, "\n"), `MemoryPressure=True KubeletHasInsufficientMemory: kubelet has insufficient memory available
DiskPressure=False KubeletHasNoDiskPressure: kubelet has no disk pressure
PIDPressure=False KubeletHasSufficientPID: kubelet has sufficient PID available`; got != want {
			t.Errorf("the node says\n%s", got)
		}
		synctest.Wait()
	})
}

func TestRetryHasWhoWasEvictedBackAtOnce(t *testing.T) {
	t.Parallel()
	a := follows(t)
	a.rule = a.sources.rule
	var set manifests.Set
	for _, name := range []string{"back", "once"} {
		p := somePod(name)
		p.Spec.RestartPolicy = v1.RestartPolicyAlways
		if name == "once" {
			p.Spec.RestartPolicy = v1.RestartPolicyNever
		}
		p.Status = v1.PodStatus{Phase: v1.PodFailed, Reason: "Evicted"}
		w := newWorker(key(p), a.surroundings)
		w.origin = SourceDirectory
		w.published.Store(p)
		a.enlist(w)
		a.sources.rule(key(p), "1", Ruling{Verdict: Evicted})
		set.Pods = append(set.Pods, manifests.Pod{Pod: p, Revision: "1"})
	}
	a.sources.tell(SourceDirectory, set)
	a.sources.tell(SourceAPI, manifests.Set{})
	for i, want := range []Verdict{Admitted, Evicted} {
		name := key(set.Pods[i].Pod)
		if err := a.Retry(name); err != nil {
			t.Fatal(err)
		}
		if got := a.sources.wishes()[name].Ruling.Verdict; got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
}

// TestWhatHasEndedIsShed takes from a Pod what it has in the runtime, when it has ended and not before, once.
func TestWhatHasEndedIsShed(t *testing.T) {
	inBubble(t, func(a *agency) {
		p := a.pod("app")
		p.Spec.RestartPolicy = v1.RestartPolicyNever
		a.wantPod(p)
		a.pass(5)
		shed := func() {
			if err := a.w.request(a.w.shed); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		shed()
		a.expect("tear down")
		a.host.exit("app", 0)
		a.pass(10)
		shed()
		shed()
		a.expect("tear down", "10 tear down")
		a.pass(3600)
		if pod := a.w.published.Load(); pod.Status.Phase != v1.PodSucceeded || a.status("app").State.Terminated == nil {
			t.Errorf("it is %s, its container %+v", pod.Status.Phase, a.status("app").State)
		}
		a.succeed()
		a.wantPod(p)
		a.pass(7200)
		a.expect("start", "0 start app 0")
		if pod := a.w.published.Load(); pod.Status.Phase != v1.PodSucceeded {
			t.Errorf("to the next agent it is %s", pod.Status.Phase)
		}
	})
}

func TestAllImagesThatMayGoUnderPressure(t *testing.T) {
	inAttic(t, reclaim.Policy{High: 100, MinAge: time.Minute}, func(a *attic) {
		a.set(func() { a.known = false })
		if err := a.empty(context.Background()); err != nil || len(a.removed) != 0 {
			t.Errorf("what is wanted is not known, and %q are removed: %v", a.removed, err)
		}
		a.set(func() {
			a.known, a.used = true, "b"
			a.stored = append(a.stored, node.StoredImage{ID: "new", Size: 10, Pulled: true, LastUsed: time.Now()}, node.StoredImage{ID: "held", Size: 10, Pulled: true, InUse: true})
		})
		if err := a.empty(context.Background()); err != nil || !slices.Equal(a.removed, []string{"a", "c"}) || len(a.told) != 0 {
			t.Errorf("%q are removed, and %q is told: %v", a.removed, a.told, err)
		}
	})
}
