package main

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// Goals, from the issue "Foundation".
const (
	goalOne  = 1.1 // one Pod, by the floor
	goalMany = 1.2 // many at once, by the floor's best total
)

// floorRounds is how often a total of many Pods is measured.
const floorRounds = 3

// floorOne runs one Pod on the floor and removes it.
func (b *bench) floorOne(ctx context.Context) (time.Duration, stages, error) {
	pods := b.names(1)
	begin := time.Now()
	s, err := b.floor.runPod(ctx, pods[0])
	if err != nil {
		return 0, s, err
	}
	took, err := b.lab.starts.wait(ctx, pods, begin)
	if err != nil {
		return 0, s, err
	}
	return took[0], s, b.floor.remove(ctx, pods)
}

// podkeeperOne runs one Pod with podkeeper, and removes it.
func (b *bench) podkeeperOne(ctx context.Context) (started, removed time.Duration, err error) {
	pods := b.names(1)
	took, err := b.agent.run(ctx, pods)
	if err != nil {
		return 0, 0, err
	}
	if err := sleep(ctx, 200*time.Millisecond); err != nil { // until it has settled
		return 0, 0, err
	}
	removed, err = b.agent.remove(ctx, pods)
	return took[0], removed, err
}

// floorMany is the time until the last of many Pods has started on the floor.
func (b *bench) floorMany(ctx context.Context, n, parallel int) (time.Duration, error) {
	pods := b.names(n)
	begin := time.Now()
	if err := b.floor.runMany(ctx, pods, parallel); err != nil {
		return 0, err
	}
	took, err := b.lab.starts.wait(ctx, pods, begin)
	if err != nil {
		return 0, err
	}
	return slices.Max(took), b.floor.remove(ctx, pods)
}

// measureFloor measures the floor alone: its steps, and how many Pods at a time give it its best total.
func (b *bench) measureFloor(ctx context.Context) error {
	var all [4][]float64
	for range b.rounds {
		_, s, err := b.floorOne(ctx)
		if err != nil {
			return err
		}
		for i, d := range []time.Duration{s.netNS, s.cni, s.pause, s.app} {
			all[i] = append(all[i], ms(d)...)
		}
	}
	for i, name := range []string{"network namespace", "CNI add", "pause process", "app task"} {
		b.report.add("floor", name, "ms", 0, all[i]...)
	}
	return b.findBest(ctx)
}

// findBest finds the floor's best parallelism.
func (b *bench) findBest(ctx context.Context) error {
	best := time.Duration(0)
	for _, parallel := range []int{1, 2, 4, 8, 16} {
		took, err := b.floorMany(ctx, b.pods, parallel)
		if err != nil {
			return err
		}
		b.report.add("floor", fmt.Sprintf("%d Pods, %d at a time", b.pods, parallel), "ms", 0, ms(took)...)
		if best == 0 || took < best {
			best, b.best = took, parallel
		}
	}
	return nil
}

// measureOne measures one Pod beside no other, floor and podkeeper in turn.
func (b *bench) measureOne(ctx context.Context) error {
	var floors, started, removed []float64
	for range b.rounds {
		floor, _, err := b.floorOne(ctx)
		if err != nil {
			return err
		}
		up, down, err := b.podkeeperOne(ctx)
		if err != nil {
			return err
		}
		floors, started, removed = append(floors, ms(floor)...), append(started, ms(up)...), append(removed, ms(down)...)
	}
	b.report.add("one", "floor", "ms", 0, floors...)
	b.report.add("one", "podkeeper: file there → process runs", "ms", goalOne*median(floors), started...)
	b.report.add("one", "podkeeper by floor", "ratio", goalOne, median(started)/median(floors))
	b.report.add("one", "podkeeper: file removed → no task", "ms", 0, removed...)
	return nil
}

// measureMany measures many Pods at once, floor and podkeeper in turn.
func (b *bench) measureMany(ctx context.Context) error {
	if b.best == 0 {
		if err := b.findBest(ctx); err != nil {
			return err
		}
	}
	for _, n := range slices.Compact([]int{min(20, b.pods), b.pods}) {
		if err := b.measureAtOnce(ctx, n); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) measureAtOnce(ctx context.Context, n int) error {
	var floors, first, middle, last, removed, cpu []float64
	for range floorRounds {
		floor, err := b.floorMany(ctx, n, b.best)
		if err != nil {
			return err
		}
		floors = append(floors, ms(floor)...)
		pods := b.names(n)
		before, err := b.agent.use()
		if err != nil {
			return err
		}
		took, err := b.agent.run(ctx, pods)
		if err != nil {
			return err
		}
		after, err := b.agent.use()
		if err != nil {
			return err
		}
		cpu = append(cpu, (after.cpu-before.cpu)*1000/float64(n))
		slices.Sort(took)
		first, middle, last = append(first, ms(took[0])...), append(middle, median(ms(took...))), append(last, ms(took[n-1])...)
		gone, err := b.agent.remove(ctx, pods)
		if err != nil {
			return err
		}
		removed = append(removed, ms(gone)...)
	}
	name := fmt.Sprintf("%d at once", n)
	b.report.add("many", fmt.Sprintf("floor: %s, %d at a time", name, b.best), "ms", 0, floors...)
	b.report.add("many", "podkeeper: "+name+", the first", "ms", 0, first...)
	b.report.add("many", "podkeeper: "+name+", the median", "ms", 0, middle...)
	b.report.add("many", "podkeeper: "+name+", the last", "ms", goalMany*median(floors), last...)
	b.report.add("many", name+", podkeeper by floor", "ratio", goalMany, median(last)/median(floors))
	b.report.add("many", "podkeeper: "+name+", its own CPU a Pod", "ms", 0, cpu...)
	b.report.add("many", fmt.Sprintf("podkeeper: %d files removed → no task", n), "ms", 0, removed...)
	return nil
}

// sleep waits, or fails when the run is to end.
func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return fmt.Errorf("wait: %w", ctx.Err())
	case <-time.After(d):
		return nil
	}
}
