package main

import (
	"context"
	"fmt"
	"slices"
	"syscall"
	"time"
)

// Goals, from the issue "Foundation".
const (
	goalRestart   = 150 // ms from crash to restarted process
	goalCPU       = 0.1 // seconds of CPU a minute, at rest
	goalRSS       = 40  // MiB
	goalAnonymous = 16  // MiB
	goalGrowth    = 1.3 // one Pod beside many, by one alone
)

const (
	startRounds  = 5 // starts of the agent
	adoptRounds  = 3
	growthRounds = 5
)

// measureRestart measures restarts: of a container, of the agent without Pods, of the agent with many.
func (b *bench) measureRestart(ctx context.Context) error {
	if err := b.measureCrash(ctx); err != nil {
		return err
	}
	if err := b.measureAgentStart(ctx); err != nil {
		return err
	}
	return b.measureAdoption(ctx)
}

// measureCrash kills main processes. Each Pod's first restart is immediate, so each time it is a fresh one.
func (b *bench) measureCrash(ctx context.Context) error {
	var took []float64
	for range b.rounds {
		pods := b.names(1)
		if _, err := b.agent.run(ctx, pods); err != nil {
			return err
		}
		if err := sleep(ctx, 300*time.Millisecond); err != nil { // until it has settled
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
		took = append(took, ms(again...)...)
		if _, err := b.agent.remove(ctx, pods); err != nil {
			return err
		}
	}
	b.report.add("restart", "process killed → new process runs", "ms", goalRestart, took...)
	return nil
}

// measureAgentStart starts the agent with one manifest there.
func (b *bench) measureAgentStart(ctx context.Context) error {
	var took []float64
	for range startRounds {
		if err := b.agent.stop(syscall.SIGTERM); err != nil {
			return err
		}
		pods := b.names(1)
		if _, err := b.agent.drop(pods); err != nil {
			return err
		}
		begin := time.Now()
		if err := b.agent.start(); err != nil {
			return err
		}
		up, err := b.lab.starts.wait(ctx, pods, begin)
		if err != nil {
			return err
		}
		took = append(took, ms(up...)...)
		if _, err := b.agent.remove(ctx, pods); err != nil {
			return err
		}
	}
	b.report.add("restart", "agent starts → first Pod's process runs", "ms", 0, took...)
	return nil
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
	var took []float64
	for range adoptRounds {
		if err := b.agent.stop(syscall.SIGKILL); err != nil {
			return err
		}
		begin := time.Now()
		if err := b.agent.start(); err != nil {
			return err
		}
		if err := b.agent.awaitReady(ctx, len(pods)); err != nil {
			return err
		}
		took = append(took, ms(time.Since(begin))...)
		if err := sleep(ctx, 2*time.Second); err != nil {
			return err
		}
	}
	b.report.add("restart", fmt.Sprintf("agent starts → %d Pods adopted", b.pods), "ms", 0, took...)
	_, err := b.agent.remove(ctx, pods)
	return err
}

// measureIdle watches a fresh agent at rest with no Pods, with some, with many.
func (b *bench) measureIdle(ctx context.Context) error {
	if err := b.agent.stop(syscall.SIGTERM); err != nil {
		return err
	}
	if err := b.agent.start(); err != nil {
		return err
	}
	var pods []string
	for _, n := range slices.Compact([]int{0, min(20, b.pods), b.pods}) {
		more := b.names(n - len(pods))
		pods = append(pods, more...)
		if _, err := b.agent.run(ctx, more); err != nil {
			return err
		}
		if err := b.agent.awaitReady(ctx, n); err != nil {
			return err
		}
		if err := sleep(ctx, 3*time.Second); err != nil { // until it is at rest
			return err
		}
		before, err := b.agent.use()
		if err != nil {
			return err
		}
		if err := sleep(ctx, b.idle); err != nil {
			return err
		}
		after, err := b.agent.use()
		if err != nil {
			return err
		}
		b.addUse(n, (after.cpu-before.cpu)*float64(time.Minute)/float64(b.idle), after)
	}
	_, err := b.agent.remove(ctx, pods)
	return err
}

func (b *bench) addUse(n int, cpu float64, u use) {
	name := fmt.Sprintf("%d Pods, ", n)
	var goals [3]float64
	if n == b.pods {
		goals = [3]float64{goalCPU, goalRSS, goalAnonymous}
	}
	b.report.add("idle", name+"CPU a minute", "s", goals[0], cpu)
	b.report.add("idle", name+"VmRSS", "MiB", goals[1], u.rss)
	b.report.add("idle", name+"RssAnon", "MiB", goals[2], u.anonymous)
}

// measureGrowth measures one Pod beside none, many, more; the floor takes turns, to show what is containerd's and the
// kernel's own growth.
func (b *bench) measureGrowth(ctx context.Context) error {
	var beside []string
	alone := 0.0
	for _, n := range []int{0, 2 * b.pods, 4 * b.pods} {
		more := b.names(n - len(beside))
		beside = append(beside, more...)
		if _, err := b.agent.run(ctx, more); err != nil {
			return err
		}
		if err := b.agent.awaitReady(ctx, n); err != nil {
			return err
		}
		var floors, started []float64
		for range growthRounds {
			floor, _, err := b.floorOne(ctx)
			if err != nil {
				return err
			}
			up, _, err := b.podkeeperOne(ctx)
			if err != nil {
				return err
			}
			floors, started = append(floors, ms(floor)...), append(started, ms(up)...)
		}
		if n == 0 {
			alone = median(started)
		}
		b.report.add("growth", fmt.Sprintf("floor: one beside %d", n), "ms", 0, floors...)
		b.report.add("growth", fmt.Sprintf("podkeeper: one beside %d", n), "ms", goalGrowth*alone, started...)
	}
	_, err := b.agent.remove(ctx, beside)
	return err
}
