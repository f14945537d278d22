package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/podkeeper/podkeeper/hack/daemon"
)

var (
	chaosFaults = flag.Int("chaos.faults", 15, "how many faults TestChaos has")
	chaosSeed   = flag.Uint64("chaos.seed", 0, "what is by chance in TestChaos; 0 is another each time")
	chaosOnly   = flag.String("chaos.only", "", "faults that TestChaos has, by parts of their names, with | between; all where it is empty")
)

// chaosPods is about how many Pods TestChaos has.
const chaosPods = 20

// repairTime is how long after a fault everything has to be as wanted.
const repairTime = 90 * time.Second

// TestChaos has faults of all kinds befall a node by chance, between edits of its Pods, and checks after each few that just what is
// wanted runs, once, that nothing was restarted without a cause among the faults, and that no line of a log is lost or there
// twice; at the end nothing is left. `make chaos` runs it for longer.
func TestChaos(t *testing.T) {
	c := newChaos(t)
	for begun := 0; begun < *chaosFaults; {
		begun += c.round(min(1+c.random.IntN(3), *chaosFaults-begun))
		if t.Failed() {
			break
		}
	}
	c.report()
	if !t.Failed() {
		c.clear()
	}
}

// chaos is a node, what is wanted of it, and what has befallen it.
type chaos struct {
	*node
	random  *rand.Rand
	plugins bool // the network is one of plugins, not the built-in one
	doomed  bool // the agent may end at any time
	pods    map[string]*subject
	made    int // Pods so far
	before  map[string]state
	causes  causes
	count   int // of faults
	repairs map[string][]time.Duration
	logs    map[string]*numbered
	kinds   []fault
	size    size                         // of the agent, without Pods
	full    struct{ from, to time.Time } // when the disk was, the last time
}

// state is what a Pod was like when it was as wanted.
type state struct {
	uid        types.UID
	ready      time.Time // since when
	containers map[string]v1.ContainerStatus
}

// causes are what the faults since the last check may do to Pods, and what they must.
type causes struct {
	restarts map[string]int  // of containers, by POD/CONTAINER
	renewed  map[string]bool // Pods that may be other instances
	flips    map[string]bool // Pods that may have been not Ready; "" is all
	must     map[string]bool // containers that come anew
	starved  bool            // what is started may fail many times
	repaired []string        // kinds of faults
}

func noCauses() causes {
	return causes{restarts: map[string]int{}, renewed: map[string]bool{}, flips: map[string]bool{}, must: map[string]bool{}}
}

func newChaos(t *testing.T) *chaos {
	n := prepare(t, "crashLoopBackOff: {maxContainerRestartPeriod: 1s}", "runtimeRequestTimeout: 15s", "evictionHard: {memory.available: 0%}")
	seed := cmp.Or(*chaosSeed, uint64(time.Now().UnixNano()))
	t.Logf("seed %d, which make chaos SEED=%d has once more", seed, seed)
	c := &chaos{
		node: n, random: rand.New(rand.NewPCG(seed, 0)), plugins: seed%2 == 1, pods: map[string]*subject{}, before: map[string]state{}, causes: noCauses(),
		repairs: map[string][]time.Duration{}, logs: map[string]*numbered{},
	}
	for _, f := range faults {
		wanted := *chaosOnly == "" || slices.ContainsFunc(strings.Split(*chaosOnly, "|"), func(part string) bool { return strings.Contains(f.name, part) })
		if wanted && (f.can == nil || f.can(c)) {
			c.kinds = append(c.kinds, f)
		}
	}
	c.settleIn()
	return c
}

// settleIn makes the node's own disk, host, containerd and manifest directory, and the first Pods.
func (c *chaos) settleIn() {
	t := c.t
	ownHost(t, "192.0.2.1")
	if err := unix.Mount("tmpfs", c.dir, "tmpfs", 0, "size=256m,mode=711"); err != nil {
		t.Fatal(err)
	}
	c.startOwn()
	if err := os.RemoveAll(c.out()); err != nil { // of a run that was killed
		t.Fatal(err)
	}
	for _, dir := range []string{c.path("manifests"), c.path("manifests.there"), c.path("net.d"), c.out()} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	c.mountManifests()
	if err := os.WriteFile(c.path("resolv.conf"), []byte("nameserver 192.0.2.53\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	c.config += "\nresolvConf: " + c.path("resolv.conf")
	if c.plugins {
		c.havePlugins()
	}
	c.restart()
	first := c.addOf(kindOf("web")) // with whose ports come rules that stay
	c.settle(time.Now())
	c.drop(first.name)
	c.settle(time.Now())
	c.size = c.measure()
	for range chaosPods {
		c.add()
	}
	c.settle(time.Now())
}

// mountManifests mounts the manifest directory, unless it is.
func (c *chaos) mountManifests() {
	c.t.Helper()
	if c.mounted() {
		return
	}
	if err := unix.Mount(c.path("manifests.there"), c.path("manifests"), "", unix.MS_BIND, ""); err != nil {
		c.t.Fatal(err)
	}
}

// round has a few faults happen, undoes what is to be undone, and checks. It answers how many there were.
func (c *chaos) round(n int) int {
	var undo []func()
	var last time.Time // when something befell the node
	done := 0
	for range n {
		f := c.choose()
		what, after := f.do(c)
		if what == "" {
			continue // there was nothing that it could befall
		}
		c.count++
		done++
		last = time.Now()
		c.t.Logf("%s fault %d: %s: %s", time.Now().UTC().Format("15:04:05.000"), c.count, f.name, what)
		c.causes.repaired = append(c.causes.repaired, f.name)
		if after != nil {
			undo = append(undo, after)
		}
		time.Sleep(time.Duration(c.random.IntN(300)) * time.Millisecond)
	}
	if len(undo) > 0 {
		longest := 1500
		if c.random.IntN(10) == 0 {
			longest = 10000
		}
		time.Sleep(time.Duration(c.random.IntN(longest)) * time.Millisecond)
	}
	for _, u := range slices.Backward(undo) { // the same may have befallen the agent twice
		u()
		last = time.Now()
	}
	c.standUp()
	c.settle(last)
	return done
}

// choose is a fault by chance, each in proportion to its weight.
func (c *chaos) choose() fault {
	sum := 0
	for _, f := range c.kinds {
		sum += f.weight
	}
	at := c.random.IntN(sum)
	for _, f := range c.kinds {
		if at -= f.weight; at < 0 {
			return f
		}
	}
	panic("a weight is below zero")
}

// standUp starts whichever of containerd and the agent does not run, as systemd does.
func (c *chaos) standUp() {
	c.t.Helper()
	if daemon.Find(c.own.Dir) == nil {
		c.startOwn()
	}
	if !c.agentRuns() {
		if err := c.begin(); err != nil {
			c.t.Fatal(err)
		}
	}
	if err := c.answers(); err != nil {
		c.t.Fatalf("the agent does not answer: %v", err)
	}
}

// agentRuns says whether there is an agent.
func (c *chaos) agentRuns() bool {
	select {
	case err := <-c.ended:
		c.ended <- err
		return false
	default:
		return true
	}
}

// settle waits until all is as wanted, and checks how that has come to be.
func (c *chaos) settle(since time.Time) {
	c.t.Helper()
	deadline := time.Now().Add(repairTime)
	for {
		found, err := c.asWanted()
		if err == nil {
			took := time.Since(since)
			for _, kind := range c.causes.repaired {
				c.repairs[kind] = append(c.repairs[kind], took)
			}
			c.judge(found)
			return
		}
		if time.Now().After(deadline) {
			c.t.Fatalf("%v after the fault: %v", repairTime, err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// asWanted answers the Pods, and what is not as wanted.
func (c *chaos) asWanted() (map[string]*v1.Pod, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	list, err := c.client().Pods(ctx)
	if err != nil {
		return nil, err
	}
	found := map[string]*v1.Pod{}
	var errs []error
	for i := range list.Items {
		p := &list.Items[i]
		if found[p.Name] = p; c.pods[p.Name] == nil {
			errs = append(errs, fmt.Errorf("%s is there, which nobody wants", p.Name))
		}
	}
	processes := c.processes()
	for name, s := range c.pods {
		p := found[name]
		if p == nil {
			errs = append(errs, fmt.Errorf("%s is missing", name))
			continue
		}
		if ended := containerStatus(p, "app").State.Terminated; s.kind.ends && c.causes.starved && ended != nil && ended.Reason == "StartError" {
			s.spoiled = p.UID // as under Kubernetes: the OCI runtime could not start it, and nobody tries it again
		}
		if err := s.isWanted(p); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w: %s", name, err, brief(p)))
			continue
		}
		for _, container := range s.kind.runs {
			of := s.mark(container)
			if pids := processes[of]; len(pids) != 1 {
				errs = append(errs, fmt.Errorf("processes of %s: %v", of, pids))
			}
			delete(processes, of)
			if key := name + "/" + container; c.causes.must[key] && c.before[name].containers[container].ContainerID == containerStatus(p, container).ContainerID {
				errs = append(errs, fmt.Errorf("%s is not another container yet", key))
			}
		}
	}
	for of, pids := range processes {
		errs = append(errs, fmt.Errorf("processes of %s: %v, which nobody wants", of, pids))
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	for name, p := range found {
		if err := c.pods[name].kind.serves(c, c.pods[name], p); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
	}
	return found, nil
}

// brief is the status of a Pod in a line.
func brief(p *v1.Pod) string {
	line := fmt.Sprintf("%s %s %s", p.Status.Phase, p.Status.Reason, p.Status.Message)
	for _, s := range append(p.Status.InitContainerStatuses, p.Status.ContainerStatuses...) {
		state := "running"
		if w := s.State.Waiting; w != nil {
			state = w.Reason + " " + w.Message
		} else if e := s.State.Terminated; e != nil {
			state = fmt.Sprintf("%s %d %s", e.Reason, e.ExitCode, e.Message)
		}
		line += fmt.Sprintf("; %s: %s, ready %v, restarts %d", s.Name, state, s.Ready, s.RestartCount)
	}
	if p.DeletionTimestamp != nil {
		line += "; it ends"
	}
	return line
}

// processes are the pids of containers' main processes, by what they say they are.
func (c *chaos) processes() map[string][]int {
	found, parents := map[string][]int{}, map[int]int{}
	marks := map[int]string{}
	files, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	prefix := []byte(": chaos " + c.namespace + " ")
	for _, file := range files {
		line, _ := os.ReadFile(file)
		_, of, marked := bytes.Cut(line, prefix)
		if !marked {
			continue
		}
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(file)))
		state, parent, there := statOf(pid)
		if !there || state == "Z" || state == "X" {
			continue
		}
		parents[pid] = parent
		mark, _, _ := strings.Cut(string(of), ";")
		marks[pid] = mark
	}
	for pid, mark := range marks {
		if _, child := marks[parents[pid]]; !child { // a shell forks before it becomes something else
			found[mark] = append(found[mark], pid)
		}
	}
	return found
}

// judge fails the test where a Pod is not as it was, and no fault is the cause; the next check is about what comes after.
func (c *chaos) judge(found map[string]*v1.Pod) {
	c.t.Helper()
	for name, was := range c.before {
		p := found[name]
		if p == nil || c.causes.renewed[name] {
			continue
		}
		if p.UID != was.uid {
			c.t.Errorf("%s is another instance", name)
			continue
		}
		restarted := false
		for container, before := range was.containers {
			now := containerStatus(p, container)
			times, allowed := int(now.RestartCount-before.RestartCount), c.causes.restarts[name+"/"+container]
			switch {
			case allowed > 0 && c.causes.starved:
				allowed = many
			case allowed > 0:
				allowed += 2 // a start may meet a fault, too
			}
			restarted = restarted || allowed > 0
			if times < 0 || times > allowed || times == 0 && allowed == 0 && now.ContainerID != before.ContainerID {
				c.t.Errorf("%s of %s was restarted %d times, not up to %d; it is %s in place of %s, whose end was %+v", container, name, times, allowed, now.ContainerID, before.ContainerID, now.LastTerminationState.Terminated)
			}
		}
		unrecorded := !was.ready.Before(c.full.from.Truncate(time.Second)) && !was.ready.After(c.full.to) // what the next agent does not know
		if since := readySince(p); !since.Equal(was.ready) && !restarted && !unrecorded && !c.causes.flips[name] && !c.causes.flips[""] {
			c.t.Errorf("%s is Ready since %v, it was since %v", name, since, was.ready)
		}
	}
	c.causes = noCauses()
	c.before = map[string]state{}
	for name, p := range found {
		s := state{uid: p.UID, ready: readySince(p), containers: map[string]v1.ContainerStatus{}}
		for _, status := range append(p.Status.InitContainerStatuses, p.Status.ContainerStatuses...) {
			s.containers[status.Name] = status
		}
		c.before[name] = s
		c.checkLogs(p)
	}
}

func readySince(p *v1.Pod) time.Time {
	for _, condition := range p.Status.Conditions {
		if condition.Type == v1.PodReady {
			return condition.LastTransitionTime.Time
		}
	}
	return time.Time{}
}

// numbered is how far the lines of a log have been checked.
type numbered struct {
	offset int64
	last   int
}

// checkLogs fails the test where a log of a Pod lacks a line, or has one twice.
func (c *chaos) checkLogs(p *v1.Pod) {
	c.t.Helper()
	files, _ := filepath.Glob(c.path("logs", fmt.Sprintf("%s_%s_%s", p.Namespace, p.Name, p.UID), "*", "*.log"))
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			continue // it was of a container that is gone
		}
		n := c.logs[file]
		if n == nil {
			n = &numbered{}
			c.logs[file] = n
		}
		if int64(len(content)) < n.offset {
			c.t.Errorf("%s was cut from %d to %d bytes", file, n.offset, len(content))
		}
		rest := content[min(n.offset, int64(len(content))):]
		rest = rest[:bytes.LastIndexByte(rest, '\n')+1]
		for line := range strings.Lines(string(rest)) {
			_, text, _ := strings.Cut(line, " F ")
			number, is := strings.CutPrefix(strings.TrimSuffix(text, "\n"), "n ")
			if !is {
				continue
			}
			i, err := strconv.Atoi(number)
			if err != nil || i != n.last+1 {
				c.t.Errorf("%s: %q follows line %d", file, line, n.last)
			}
			n.last = i
		}
		n.offset += int64(len(rest))
	}
}

// report tells of each kind of fault how soon everything was as wanted.
func (c *chaos) report() {
	var table strings.Builder
	fmt.Fprintf(&table, "%d faults\n%-34s %5s %9s %9s %9s\n", c.count, "kind", "times", "p50", "p99", "longest")
	for _, kind := range slices.Sorted(maps.Keys(c.repairs)) {
		took := slices.Sorted(slices.Values(c.repairs[kind]))
		at := func(share float64) string {
			return took[min(int(share*float64(len(took))), len(took)-1)].Round(10 * time.Millisecond).String()
		}
		fmt.Fprintf(&table, "%-34s %5d %9s %9s %9s\n", kind, len(took), at(0.5), at(0.99), at(1))
	}
	c.t.Log(table.String())
}

// size is what an agent has that might grow.
type size struct{ descriptors, goroutines, rules int }

// measure answers what the agent has at rest.
func (c *chaos) measure() (s size) {
	descriptors, _ := os.ReadDir(fmt.Sprintf("/proc/%d/fd", c.agent.Process.Pid))
	metrics, _ := c.answer("/metrics")
	for line := range strings.Lines(metrics) {
		if number, is := strings.CutPrefix(line, "go_goroutines "); is {
			s.goroutines, _ = strconv.Atoi(strings.TrimSpace(number))
		}
	}
	s.descriptors, s.rules = len(descriptors), strings.Count(firewall(c.t), "\n")
	if c.plugins { // one that is killed, or asked about a namespace that is gone, leaves rules about an address that nobody has
		s.rules = strings.Count(firewall(c.t), " DNAT ")
	}
	return s
}

// clear removes all Pods, and fails the test where anything is left of them.
func (c *chaos) clear() {
	for _, name := range slices.Sorted(maps.Keys(c.pods)) {
		c.drop(name)
	}
	c.settle(time.Now())
	_ = unix.Unmount(c.path("manifests"), unix.MNT_DETACH)
	if err := wait(c.leftovers); err != nil {
		c.t.Error(err)
	}
	const more = 8 // connections with containerd, and what watches what has been there
	err := wait(func() error {
		now := c.measure()
		if now.descriptors > c.size.descriptors+more || now.goroutines > c.size.goroutines+more || now.rules > c.size.rules+more {
			return fmt.Errorf("without Pods the agent has %+v, at first it had %+v; rules:\n%s", now, c.size, firewall(c.t))
		}
		return nil
	})
	if err != nil {
		c.t.Error(err)
	}
}
