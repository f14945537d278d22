package main

import (
	"context"
	"fmt"
	"syscall"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Goals of what runs.
const (
	goalRestart   = 50  // ms from exit to restarted process
	goalFirstPod  = 90  // ms from the agent's start to the first Pod's process
	goalAdopted   = 60  // ms from the agent's start until it tells of all Pods
	goalIdleCPU   = 0.1 // seconds a minute
	goalRSS       = 30  // MiB
	goalAnonymous = 16  // MiB
	goalMounts    = 3   // mounts of a Pod of one container: two of podkeeper's, one of containerd's
	goalCrowdCPU  = 0.5 // seconds a minute, of a crowd
)

const (
	startRounds  = 5 // starts of the agent
	adoptRounds  = 5
	growthRounds = 5
	crowdIdle    = 30 * time.Second // how long the agent is watched at rest beside the largest crowd
	idleSamples  = 12               // of the agent's memory
)

// measureRestart measures restarts: of a container, of the agent without Pods, of the agent with many.
func (b *bench) measureRestart(ctx context.Context) {
	var floors, own []float64
	b.takeTurns(ctx, b.rounds,
		contender{"floor: task created and started", false, func(ctx context.Context) error { return b.floorRestart(ctx, &floors) }},
		contender{"podkeeper: exit → restarted", true, func(ctx context.Context) error { return b.crash(ctx, &own) }})
	b.report.add(Figure{Part: "restart", Name: "floor: task created and started in its shim", Unit: "ms", Values: floors})
	b.report.add(Figure{Part: "restart", Name: "podkeeper: process killed → new process runs", Unit: "ms", Values: own,
		Base: "floor", BaseValue: median(floors), Goal: goalRestart})
	b.measureAgentStart(ctx)
	b.once(ctx, "agent starts → Pods adopted", b.measureAdoption)
}

// floorRestart is a bare task beside a shim that runs.
func (b *bench) floorRestart(ctx context.Context, took *[]float64) (err error) {
	pods := b.names(1)
	begin := time.Now()
	defer func() {
		if _, removeErr := b.floor.remove(context.WithoutCancel(ctx), pods, 1); err == nil {
			err = removeErr
		}
	}()
	if _, err := b.floor.runPod(ctx, pods[0], inTurn); err != nil {
		return err
	}
	if _, err := b.lab.starts.wait(ctx, pods, begin); err != nil {
		return err
	}
	begin, err = b.floor.restart(ctx, pods[0])
	if err != nil {
		return err
	}
	again, err := b.lab.starts.wait(ctx, pods, begin)
	*took = append(*took, ms(again...)...)
	return err
}

// crash kills a main process. Each Pod's first restart is immediate, so each time it is a fresh one.
func (b *bench) crash(ctx context.Context, took *[]float64) error {
	pods := b.names(1)
	if _, err := b.agent.run(ctx, pods); err != nil {
		return err
	}
	if err := sleep(ctx, settle); err != nil {
		return err
	}
	pid, err := b.agent.mainPID(ctx, pods[0])
	if err != nil {
		return err
	}
	begin := time.Now()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		return fmt.Errorf("kill main process: %w", err)
	}
	again, err := b.lab.starts.wait(ctx, pods, begin)
	if err != nil {
		return err
	}
	*took = append(*took, ms(again...)...)
	_, err = b.agent.remove(ctx, pods)
	return err
}

// measureAgentStart starts the agent with one manifest there.
func (b *bench) measureAgentStart(ctx context.Context) {
	var took []float64
	b.takeTurns(ctx, startRounds, contender{"agent starts → first Pod's process runs", true, func(ctx context.Context) error {
		if b.agent.broken != nil {
			return b.agent.broken
		}
		if err := b.agent.stop(syscall.SIGTERM); err != nil {
			return err
		}
		pods := b.names(1)
		if _, err := b.agent.drop(pods); err != nil {
			return err
		}
		begin := time.Now()
		if err := b.agent.start(b.lab.binary); err != nil {
			return err
		}
		up, err := b.lab.starts.wait(ctx, pods, begin)
		if err != nil {
			return err
		}
		took = append(took, ms(up...)...)
		if err := b.agent.awaitReady(ctx, 1); err != nil {
			return err
		}
		_, err = b.agent.remove(ctx, pods)
		return err
	}})
	b.report.add(Figure{Part: "restart", Name: "agent starts → first Pod's process runs", Unit: "ms", Values: took, Goal: goalFirstPod})
}

// measureAdoption kills the agent and starts it again beside many Pods.
func (b *bench) measureAdoption(ctx context.Context) error {
	pods := b.names(b.pods)
	if _, err := b.agent.run(ctx, pods); err != nil {
		return err
	}
	if err := b.agent.awaitReady(ctx, len(pods)); err != nil {
		return err
	}
	before, err := b.agent.client.Pods(ctx)
	if err != nil {
		return fmt.Errorf("list pods: %w", err)
	}
	var took []float64
	for range adoptRounds {
		if err := sleep(ctx, 2*time.Second); err != nil {
			return err
		}
		if err := b.agent.stop(syscall.SIGKILL); err != nil {
			return err
		}
		begin := time.Now()
		if err := b.agent.start(b.lab.binary); err != nil {
			return err
		}
		if err := b.agent.awaitReady(ctx, len(pods)); err != nil {
			return err
		}
		took = append(took, ms(time.Since(begin))...)
	}
	b.report.add(Figure{Part: "restart", Name: fmt.Sprintf("agent starts → %d Pods adopted", b.pods), Unit: "ms", Values: took, Goal: goalAdopted})
	after, err := b.agent.client.Pods(ctx)
	if err != nil {
		return fmt.Errorf("list pods: %w", err)
	}
	restarts, flips := disturbed(before.Items, after.Items)
	b.report.add(Figure{Part: "restart", Name: "containers restarted by it", Values: []float64{restarts}})
	b.report.add(Figure{Part: "restart", Name: "Pods that were not Ready in between", Values: []float64{flips}})
	_, err = b.agent.remove(ctx, pods)
	return err
}

// disturbed counts the restarts of containers between two looks at Pods, and the Pods that became Ready once more.
func disturbed(before, after []v1.Pod) (restarts, flips float64) {
	was := map[types.UID]*v1.Pod{}
	for i := range before {
		was[before[i].UID] = &before[i]
		restarts -= restartsOf(&before[i])
	}
	for i := range after {
		restarts += restartsOf(&after[i])
		if p := was[after[i].UID]; p == nil || !readySince(p).Equal(readySince(&after[i])) {
			flips++
		}
	}
	return restarts, flips
}

func restartsOf(p *v1.Pod) (sum float64) {
	for _, s := range p.Status.ContainerStatuses {
		sum += float64(s.RestartCount)
	}
	return sum
}

func readySince(p *v1.Pod) (since time.Time) {
	for _, c := range p.Status.Conditions {
		if c.Type == v1.PodReady && c.Status == v1.ConditionTrue {
			since = c.LastTransitionTime.Time
		}
	}
	return since
}

// measureIdle watches a fresh agent at rest with no Pods, and with many.
func (b *bench) measureIdle(ctx context.Context) {
	b.once(ctx, "agent at rest", func(ctx context.Context) error {
		if b.agent.broken != nil {
			return b.agent.broken
		}
		if err := b.agent.restart(syscall.SIGTERM, b.lab.binary); err != nil {
			return err
		}
		if err := b.watchIdle(ctx, 0); err != nil {
			return err
		}
		pods := b.names(b.pods)
		if _, err := b.agent.run(ctx, pods); err != nil {
			return err
		}
		if err := b.watchIdle(ctx, b.pods); err != nil {
			return err
		}
		_, err := b.agent.remove(ctx, pods)
		return err
	})
}

// watchIdle watches the agent at rest with so many Pods.
func (b *bench) watchIdle(ctx context.Context, n int) error {
	if err := b.agent.awaitReady(ctx, n); err != nil {
		return err
	}
	at, err := b.agent.rests(ctx, b.idle)
	if err != nil {
		return err
	}
	count, pss, err := b.lab.shims()
	if err != nil {
		return err
	}
	goals := use{}
	if n == b.pods {
		goals = use{rss: goalRSS, anonymous: goalAnonymous, cpu: goalIdleCPU}
	}
	name := fmt.Sprintf("agent with %d Pods: ", n)
	b.report.add(Figure{Part: "idle", Name: name + "CPU a minute", Unit: "s", Values: []float64{at.cpu}, Goal: goals.cpu})
	b.report.add(Figure{Part: "idle", Name: name + "resident memory", Unit: "MiB", Values: at.rss, Goal: goals.rss})
	b.report.add(Figure{Part: "idle", Name: name + "anonymous memory", Unit: "MiB", Values: at.anonymous, Goal: goals.anonymous})
	if count > 0 {
		b.report.add(Figure{Part: "idle", Name: fmt.Sprintf("%d shims of %d Pods: PSS together", count, n), Unit: "MiB", Values: []float64{pss}})
	}
	return nil
}

// measureGrowth measures one Pod beside none, many, more; the floor takes turns, to show what is containerd's and the
// kernel's own growth.
func (b *bench) measureGrowth(ctx context.Context) {
	var besides []string
	var floorAlone, ownAlone float64
	crowds := []int{0, 2 * b.pods, 4 * b.pods, 10 * b.pods}
	mounts, err := countMounts()
	if err != nil {
		b.fail(ctx, contender{"mounts", false, nil}, err)
	}
	for _, n := range crowds {
		more := b.names(n - len(besides))
		besides = append(besides, more...)
		crowded := false
		b.once(ctx, fmt.Sprintf("podkeeper: %d Pods to stand beside", n), func(ctx context.Context) error {
			if _, err := b.agent.run(ctx, more); err != nil {
				return err
			}
			crowded = true
			return b.agent.awaitReady(ctx, n)
		})
		if !crowded || ctx.Err() != nil {
			return
		}
		floors, own := b.measureBeside(ctx, n)
		if n == 0 {
			floorAlone, ownAlone = median(floors), median(own)
		}
		f := Figure{Part: "growth", Name: fmt.Sprintf("floor (pause task): one Pod beside %d", n), Unit: "ms", Values: floors, Base: "alone", BaseValue: floorAlone}
		p := Figure{Part: "growth", Name: fmt.Sprintf("podkeeper: one Pod beside %d", n), Unit: "ms", Values: own, Base: "alone", BaseValue: ownAlone}
		b.report.add(f)
		if n > 0 && floorAlone > 0 {
			p.GoalRatio = median(floors) / floorAlone
		}
		b.report.add(p)
		if len(own) == 0 {
			return
		}
		if n == 4*b.pods {
			b.once(ctx, fmt.Sprintf("usage of %d Pods", n), func(ctx context.Context) error { return b.measureUsage(ctx, n) })
		}
	}
	b.once(ctx, fmt.Sprintf("podkeeper: at rest with %d Pods", len(besides)), func(ctx context.Context) error {
		return b.watchCrowd(ctx, len(besides), mounts)
	})
	b.once(ctx, fmt.Sprintf("podkeeper: %d Pods removed", len(besides)), func(ctx context.Context) error {
		_, err := b.agent.remove(ctx, besides)
		return err
	})
}

// asksForUsage is how often usage is asked for, each time when the agent reads it anew; goalUsage is the goal, in ms of its CPU.
const (
	asksForUsage = 5
	goalUsage    = 50
)

// measureUsage reports what it costs the agent to tell what so many Pods use.
func (b *bench) measureUsage(ctx context.Context, n int) error {
	for _, of := range []struct {
		path string
		goal float64
	}{
		{"/stats/summary?only_cpu_and_memory=true", goalUsage}, {"/metrics/resource", goalUsage}, {"/metrics/cadvisor", 0},
	} {
		var took []float64
		for i := range asksForUsage + 1 {
			before, err := b.agent.use()
			if err != nil {
				return err
			}
			if err := b.agent.get(ctx, of.path); err != nil {
				return err
			}
			after, err := b.agent.use()
			if err != nil {
				return err
			}
			if i > 0 { // the first reads twice
				took = append(took, 1000*(after.cpu-before.cpu))
			}
			if err := sleep(ctx, 1100*time.Millisecond); err != nil {
				return err
			}
		}
		b.report.add(Figure{Part: "growth", Name: fmt.Sprintf("usage of %d Pods: %s, CPU", n, of.path), Unit: "ms", Values: took, Goal: of.goal})
	}
	return nil
}

// watchCrowd reports what a crowd at rest costs; mounts is how many there were without it.
func (b *bench) watchCrowd(ctx context.Context, n, mounts int) error {
	now, err := countMounts()
	if err != nil {
		return err
	}
	if err := sleep(ctx, 10*time.Second); err != nil { // until it is at rest
		return err
	}
	before, err := b.agent.use()
	if err != nil {
		return err
	}
	begin := time.Now()
	if err := sleep(ctx, crowdIdle); err != nil {
		return err
	}
	after, err := b.agent.use()
	if err != nil {
		return err
	}
	cpu := (after.cpu - before.cpu) * float64(time.Minute) / float64(time.Since(begin))
	name := fmt.Sprintf("agent with %d Pods: ", n)
	b.report.add(Figure{Part: "growth", Name: name + "CPU a minute", Unit: "s", Values: []float64{cpu}, Goal: goalCrowdCPU})
	b.report.add(Figure{Part: "growth", Name: name + "anonymous memory", Unit: "MiB", Values: []float64{after.anonymous}})
	b.report.add(Figure{Part: "growth", Name: "mounts a Pod", Values: []float64{float64(now-mounts) / float64(n)}, Goal: goalMounts})
	return nil
}

// measureBeside measures one Pod on the floor and one with podkeeper, in turn, beside those that run.
func (b *bench) measureBeside(ctx context.Context, n int) (floors, own []float64) {
	b.takeTurns(ctx, growthRounds,
		contender{fmt.Sprintf("floor (pause task): one Pod beside %d", n), false, func(ctx context.Context) error {
			up, _, _, err := b.floorOne(ctx, inTurn)
			if err == nil {
				floors = append(floors, ms(up)...)
			}
			return err
		}},
		contender{fmt.Sprintf("podkeeper: one Pod beside %d", n), true, func(ctx context.Context) error {
			up, _, err := b.podkeeperOne(ctx)
			if err == nil {
				own = append(own, ms(up)...)
			}
			return err
		}})
	return floors, own
}
