package agent

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/podkeeper/podkeeper/agent/node"
	"github.com/podkeeper/podkeeper/manifests"
)

// fate drives a worker by chance: exits, verdicts of probes, edits, removals, deaths of the sandbox, failures of the runtime,
// hooks that hang, agents that end; and holds what it does against what must never happen.
type fate struct {
	*agency
	*rand.Rand
	pod    *v1.Pod // wanted; nil is none
	serial int

	mu     sync.Mutex
	luck   *rand.Rand        // of those beside the test
	calm   bool              // nothing goes wrong by itself any more
	calmed chan struct{}     // closed then
	sick   map[string]bool   // containers whose probes fail
	done   map[string]bool   // "sandbox/init" that has succeeded
	begun  map[string]bool   // "sandbox/container" that was started
	at     map[string]string // the sandbox of the latest instance of a container
	broken []string          // what must not have happened
}

func newFate(a *agency, seed uint64) *fate {
	return &fate{
		agency: a, Rand: rand.New(rand.NewPCG(seed, 1)), luck: rand.New(rand.NewPCG(seed, 2)), sick: map[string]bool{}, done: map[string]bool{},
		begun: map[string]bool{}, at: map[string]string{}, calmed: make(chan struct{}),
	}
}

func (f *fate) breach(format string, args ...any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.broken = append(f.broken, fmt.Sprintf("%v: ", time.Since(f.host.begin).Seconds())+fmt.Sprintf(format, args...))
}

// chance is true once in n times, until all is calm.
func (f *fate) chance(n int) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return !f.calm && f.luck.IntN(n) == 0
}

// some is a Pod by chance: a version of its own, with the same names.
func (f *fate) some() *v1.Pod {
	f.serial++
	p := f.agency.pod("app", "more")
	p.Spec.Containers[0].Args = []string{fmt.Sprint(f.IntN(2))}
	p.Labels = map[string]string{"version": fmt.Sprint(f.serial)}
	grace := int64(f.IntN(20))
	p.Spec.TerminationGracePeriodSeconds = &grace
	p.Spec.Containers[0].Image = fmt.Sprintf("app:%d", f.IntN(2))
	always := v1.ContainerRestartPolicyAlways
	p.Spec.InitContainers = []v1.Container{{Name: "init1", Image: "i:1"}, {Name: "side", Image: "s:1", RestartPolicy: &always}, {Name: "init2", Image: "i:1"}}
	f.size(p)
	if f.IntN(2) == 0 {
		p.Spec.Containers[0].ResizePolicy = []v1.ContainerResizePolicy{{ResourceName: v1.ResourceCPU, RestartPolicy: v1.RestartContainer}}
	}
	if f.IntN(2) == 0 {
		p.Spec.Containers[0].Lifecycle = &v1.Lifecycle{PostStart: execHandler("hook"), PreStop: execHandler("hook")}
	}
	if f.IntN(3) == 0 {
		p.Spec.Containers[0].RestartPolicy = &always
		p.Spec.Containers[0].RestartPolicyRules = []v1.ContainerRestartRule{{
			Action:    v1.ContainerRestartRuleActionRestartAllContainers,
			ExitCodes: &v1.ContainerRestartRuleOnExitCodes{Operator: v1.ContainerRestartRuleOnExitCodesOpIn, Values: []int32{1}},
		}}
	}
	if f.IntN(2) == 0 {
		p.Spec.Containers[1].LivenessProbe = execProbe(5, 2)
		p.Spec.Containers[1].StartupProbe = execProbe(2, 20)
		p.Spec.InitContainers[1].ReadinessProbe = execProbe(3, 1)
	}
	return manifests.Normalise(p)
}

// size limits main containers by chance.
func (f *fate) size(p *v1.Pod) {
	for i := range p.Spec.Containers {
		limit := v1.ResourceList{v1.ResourceCPU: *resource.NewMilliQuantity(int64(100+100*f.IntN(4)), resource.DecimalSI), v1.ResourceMemory: resource.MustParse("1Mi")}
		p.Spec.Containers[i].Resources = v1.ResourceRequirements{Limits: limit, Requests: limit.DeepCopy()}
	}
}

// resizeSome wants the same version with other limits.
func (f *fate) resizeSome() {
	if f.pod == nil {
		return
	}
	f.serial++
	f.pod = f.pod.DeepCopy()
	f.pod.Labels["version"] = fmt.Sprint(f.serial)
	f.size(f.pod)
	f.wish(f.pod, f.pod.Labels["version"])
}

// wantSome wants another version.
func (f *fate) wantSome() {
	f.pod = f.some()
	f.tell()
}

// tell has the worker know what is wanted. One that has left, for nothing was, has a successor.
func (f *fate) tell() {
	synctest.Wait()
	select {
	case <-f.w.gone:
		f.dismiss()
		f.employ(nil)
	default:
	}
	f.wish(f.pod, f.pod.Labels["version"])
}

// attend makes the host one that watches what is done to it.
func (f *fate) attend() {
	f.host.start = func(_ context.Context, t node.Target) error {
		f.judge(t)
		if f.chance(12) {
			return errors.New("the runtime fails")
		}
		return nil
	}
	f.host.started = func(t node.Target) {
		name, box := t.Container.Name, t.SandboxID()
		f.mu.Lock()
		f.begun[box+"/"+name], f.at[name] = true, box
		f.mu.Unlock()
		if strings.HasPrefix(name, "init") {
			go func() {
				time.Sleep(time.Second)
				code := 0
				if f.chance(6) {
					code = 1
				}
				f.mu.Lock()
				f.done[box+"/"+name] = f.done[box+"/"+name] || code == 0 && f.host.runs(t.ID())
				f.mu.Unlock()
				f.host.end(t.ID(), code)
			}()
		}
	}
	linger := func() {
		if f.chance(3) {
			time.Sleep(3 * time.Second)
		}
	}
	f.host.tear, f.host.clean = linger, linger
	f.host.attach = func(context.Context) error {
		if f.chance(10) {
			return errors.New("no address is free")
		}
		return nil
	}
	f.host.prepare = func(context.Context, node.Target) error {
		if f.chance(10) {
			return &node.Fault{Reason: node.ErrImagePull, Err: errors.New("no such host")}
		}
		return nil
	}
	f.host.resize = func(context.Context) error {
		if f.chance(6) {
			return errors.New("cannot decrease memory limits")
		}
		return nil
	}
	f.host.command = func(ctx context.Context, t node.Target, command []string) (int, error) {
		if command[0] == "hook" {
			if f.chance(4) {
				select {
				case <-ctx.Done():
					return 0, ctx.Err()
				case <-f.calmed:
				}
			}
			if f.chance(8) {
				return 1, nil
			}
			return 0, nil
		}
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.sick[t.Container.Name] && !f.calm {
			return 1, nil
		}
		return 0, nil
	}
}

// judge holds a start against the order of starts, and against what runs.
func (f *fate) judge(t node.Target) {
	name, box := t.Container.Name, t.SandboxID()
	f.host.mu.Lock()
	alive := f.host.sandboxes[box]
	var twins []string
	for id, k := range f.host.tasks {
		if k.running && k.name == name && id != t.ID() {
			twins = append(twins, id)
		}
	}
	f.host.mu.Unlock()
	if len(twins) > 0 {
		f.breach("%s runs twice", name)
	}
	if !alive && !f.host.died(box) {
		f.breach("%s starts in no sandbox", name)
	}
	f.mu.Lock()
	started, done := func(n string) bool { return f.begun[box+"/"+n] }, func(n string) bool { return f.done[box+"/"+n] }
	var missing []string
	switch name {
	case "init1":
	case "side":
		if !done("init1") {
			missing = append(missing, "init1")
		}
	case "init2":
		if !done("init1") || !started("side") {
			missing = append(missing, "init1 and side")
		}
	default:
		if !done("init1") || !started("side") || !done("init2") {
			missing = append(missing, "init1, side and init2")
		}
	}
	f.mu.Unlock()
	if len(missing) > 0 {
		f.breach("%s starts before %v", name, missing)
	}
}

// event lets one thing happen.
func (f *fate) event() {
	switch f.IntN(12) {
	case 0, 1:
		if running := f.host.running(); len(running) > 0 {
			name, code := running[f.IntN(len(running))], f.IntN(2)
			f.mu.Lock()
			f.done[f.at[name]+"/"+name] = f.done[f.at[name]+"/"+name] || code == 0
			f.mu.Unlock()
			f.host.exit(name, code)
		}
	case 2:
		f.mu.Lock()
		name := []string{"app", "more", "side"}[f.IntN(3)]
		f.sick[name] = !f.sick[name]
		f.mu.Unlock()
	case 3, 4:
		f.wantSome()
	case 5:
		f.pod = nil
		f.w.want(nil)
	case 6:
		f.host.loseSandbox()
	case 7:
		f.restartAgent()
	case 8:
		f.host.set(func() { f.host.deaf = !f.host.deaf })
	case 9:
		f.w.Forgive(forgiveAll)
	case 10, 11:
		f.resizeSome()
	}
	time.Sleep(time.Duration(f.IntN(8000)) * time.Millisecond)
}

// restartAgent ends the agent and starts another.
func (f *fate) restartAgent() {
	f.dismiss()
	f.takeOver()
}

// takeOver starts an agent that finds what another has left, and is told what is wanted.
func (f *fate) takeOver() {
	whole, broken, err := loadInstances(f.dir)
	if err != nil || len(broken) > 0 {
		f.Fatalf("%d broken records: %v", len(broken), err)
	}
	var first *instance
	if len(whole) > 0 {
		sorted := byKey(whole)[key(whole[0].Pod)]
		first = sorted[0]
		f.employ(first)
		for _, old := range sorted[1:] {
			_ = f.w.request(func() error {
				f.w.take(f.w.key, old.Pod)
				f.w.remains = append(f.w.remains, &remains{target: old.target(""), attempts: old.attempts()})
				return nil
			})
		}
	} else {
		f.employ(nil)
	}
	if f.pod == nil {
		f.w.want(nil)
		return
	}
	f.tell()
}

func TestWhateverHappensAPodEndsUpAsItIsWanted(t *testing.T) {
	t.Parallel()
	rounds := 25
	if testing.Short() {
		rounds = 10
	}
	for range rounds {
		seed := rand.Uint64()
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) { follow(t, seed) })
	}
}

func follow(t *testing.T, seed uint64) {
	inBubble(t, func(a *agency) {
		f := newFate(a, seed)
		f.attend()
		f.wantSome()
		for range 25 {
			f.event()
		}
		f.mu.Lock()
		f.calm = true
		close(f.calmed)
		f.mu.Unlock()
		f.host.set(func() { f.host.deaf = false })
		if f.pod == nil {
			f.wantSome()
		}
		time.Sleep(30 * time.Minute)
		if got := f.host.running(); !slices.Equal(got, []string{"app", "more", "side"}) || f.w.published.Load() == nil || !f.ready() {
			t.Errorf("in the end there run %v\n%s", got, f.told())
		}
		if got := f.w.published.Load(); got == nil || got.Labels["version"] != f.pod.Labels["version"] || got.Spec.Containers[0].Image != f.pod.Spec.Containers[0].Image {
			t.Errorf("another version runs")
		}
		if got := f.limits(); got != f.sizes() || resizeOf(f.w) != "" {
			t.Errorf("limits are %s, want %s; told of is %q", got, f.sizes(), resizeOf(f.w))
		}
		f.w.want(nil)
		time.Sleep(30 * time.Minute)
		f.nothingIsLeft()
	})
}

// nothingIsLeft fails the test where something is of a Pod that is wanted no more, or something has happened that must not.
func (f *fate) nothingIsLeft() {
	records, _ := os.ReadDir(f.dir)
	if got := f.host.running(); len(got)+len(records)+len(f.host.sandboxes) > 0 {
		f.Errorf("when it is not wanted there are %v, %d records, %d sandboxes", got, len(records), len(f.host.sandboxes))
	}
	for _, breach := range append(f.broken, f.host.cramped...) {
		f.Error(breach)
	}
	if f.Failed() {
		f.Log(strings.Join(f.host.log, "\n"))
	}
}

// limits are those of main containers that run, and of their Pod; sizes what they should be.
func (f *fate) limits() string {
	f.host.mu.Lock()
	defer f.host.mu.Unlock()
	limits := map[string]int64{"Pod": f.host.quotas[f.w.published.Load().UID]}
	for _, k := range f.host.tasks {
		if k.running && k.name != "side" {
			limits[k.name] = k.cpu
		}
	}
	return fmt.Sprint(limits)
}

func (f *fate) sizes() string {
	limits := map[string]int64{}
	for _, c := range f.pod.Spec.Containers {
		limits[c.Name] = c.Resources.Limits.Cpu().MilliValue()
		limits["Pod"] += limits[c.Name]
	}
	return fmt.Sprint(limits)
}

func (f *fate) told() string {
	pod := f.w.published.Load()
	if pod == nil {
		return "no Pod is told of"
	}
	var out []string
	for _, s := range append(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses...) {
		out = append(out, fmt.Sprintf("%s: %+v ready %v", s.Name, s.State, s.Ready))
	}
	return fmt.Sprintf("%s %s %s\n%s", pod.Status.Phase, pod.Status.Reason, pod.Status.Message, strings.Join(out, "\n"))
}
