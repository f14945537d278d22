package main

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// Goals of starts and removals. Ratios are by the floor with a pause task.
const (
	goalOne     = 0.55 // one Pod
	goalLast    = 0.60 // the last of many, by the floor's best
	goalFirst   = 2    // the first of many, by one alone
	goalCPU     = 6    // ms of the agent's CPU for each of many
	goalRemoved = 0.9
)

// manyRounds is how often many Pods are started at once.
const manyRounds = 3

// settle is how long podkeeper is left alone after a start, so that its work for it is neither disturbed nor missed.
const settle = 500 * time.Millisecond

func floorName(how way) string { return fmt.Sprintf("floor (%s)", how) }

// floorOne runs one Pod on the floor and removes it.
func (b *bench) floorOne(ctx context.Context, how way) (started, removed time.Duration, s stages, err error) {
	pods := b.names(1)
	begin := time.Now()
	took := []time.Duration{0}
	if s, err = b.floor.runPod(ctx, pods[0], how); err == nil {
		took, err = b.lab.starts.wait(ctx, pods, begin)
	}
	removed, removeErr := b.floor.remove(context.WithoutCancel(ctx), pods, 1)
	if err == nil {
		err = removeErr
	}
	if err != nil {
		return 0, 0, s, err
	}
	return took[0], removed, s, nil
}

// podkeeperOne runs one Pod with podkeeper, and removes it.
func (b *bench) podkeeperOne(ctx context.Context) (started, removed time.Duration, err error) {
	pods := b.names(1)
	took, err := b.agent.run(ctx, pods)
	if err != nil {
		return 0, 0, err
	}
	if err := sleep(ctx, settle); err != nil {
		return 0, 0, err
	}
	removed, err = b.agent.remove(ctx, pods)
	return took[0], removed, err
}

// measureOne measures one Pod beside no other.
func (b *bench) measureOne(ctx context.Context) {
	var started, removed []float64
	floors, floorsGone, steps := map[way][]float64{}, map[way][]float64{}, map[way][]stages{}
	contenders := []contender{{"podkeeper", true, func(ctx context.Context) error {
		up, down, err := b.podkeeperOne(ctx)
		if err == nil {
			started, removed = append(started, ms(up)...), append(removed, ms(down)...)
		}
		return err
	}}}
	for _, how := range []way{inTurn, beside, withoutCNI} {
		contenders = append(contenders, contender{floorName(how), false, func(ctx context.Context) error {
			up, down, s, err := b.floorOne(ctx, how)
			if err == nil {
				floors[how], floorsGone[how] = append(floors[how], ms(up)...), append(floorsGone[how], ms(down)...)
				steps[how] = append(steps[how], s)
			}
			return err
		}})
	}
	b.takeTurns(ctx, b.rounds, contenders...)
	b.alone = median(started)
	b.addSteps(steps)
	base := median(floors[inTurn])
	for _, how := range []way{inTurn, beside, withoutCNI} {
		b.report.add(Figure{Part: "one", Name: floorName(how), Unit: "ms", Values: floors[how], Base: "floor", BaseValue: base})
	}
	b.report.add(Figure{Part: "one", Name: "podkeeper: file there → process runs", Unit: "ms", Values: started,
		Base: "floor", BaseValue: base, GoalRatio: goalOne})
	base = median(floorsGone[inTurn])
	b.report.add(Figure{Part: "one", Name: floorName(inTurn) + ": removed", Unit: "ms", Values: floorsGone[inTurn]})
	b.report.add(Figure{Part: "one", Name: floorName(beside) + ": removed", Unit: "ms", Values: floorsGone[beside], Base: "floor", BaseValue: base})
	b.report.add(Figure{Part: "one", Name: "podkeeper: file removed → no task, no address", Unit: "ms", Values: removed,
		Base: "floor", BaseValue: base, GoalRatio: goalRemoved})
}

// addSteps tells what the floor is made of.
func (b *bench) addSteps(steps map[way][]stages) {
	for _, step := range []struct {
		name string
		how  way
		took func(stages) time.Duration
	}{
		{"network namespace", inTurn, func(s stages) time.Duration { return s.netNS }},
		{"CNI add", inTurn, func(s stages) time.Duration { return s.cni }},
		{"pause task", inTurn, func(s stages) time.Duration { return s.pauseTask }},
		{"pause process without a task", beside, func(s stages) time.Duration { return s.pauseProcess }},
		{"make app task, in the shim of pause", inTurn, func(s stages) time.Duration { return s.create }},
		{"make app task, and its shim", withoutCNI, func(s stages) time.Duration { return s.create }},
		{"start app task", inTurn, func(s stages) time.Duration { return s.start }},
	} {
		var took []float64
		for _, s := range steps[step.how] {
			took = append(took, ms(step.took(s))...)
		}
		b.report.add(Figure{Part: "one", Name: "floor's step: " + step.name, Unit: "ms", Values: took})
	}
}

// crowd is what was measured of many Pods at once, in ms.
type crowd struct{ first, middle, last, removed, cpu []float64 }

func (c *crowd) add(took []time.Duration, removed time.Duration) {
	slices.Sort(took)
	c.first, c.last = append(c.first, ms(took[0])...), append(c.last, ms(took[len(took)-1])...)
	c.middle, c.removed = append(c.middle, median(ms(took...))), append(c.removed, ms(removed)...)
}

// floorMany runs many Pods on the floor and removes them.
func (b *bench) floorMany(ctx context.Context, c *crowd, n int, how way, parallel int) error {
	pods := b.names(n)
	begin := time.Now()
	err := b.floor.runMany(ctx, pods, how, parallel)
	var took []time.Duration
	if err == nil {
		took, err = b.lab.starts.wait(ctx, pods, begin)
	}
	removed, removeErr := b.floor.remove(context.WithoutCancel(ctx), pods, parallel)
	if err == nil {
		err = removeErr
	}
	if err == nil {
		c.add(took, removed)
	}
	return err
}

// podkeeperMany runs many Pods with podkeeper and removes them.
func (b *bench) podkeeperMany(ctx context.Context, c *crowd, n int) error {
	pods := b.names(n)
	before, err := b.agent.use()
	if err != nil {
		return err
	}
	took, err := b.agent.run(ctx, pods)
	if err != nil {
		return err
	}
	if err := sleep(ctx, settle); err != nil {
		return err
	}
	after, err := b.agent.use()
	if err != nil {
		return err
	}
	removed, err := b.agent.remove(ctx, pods)
	if err != nil {
		return err
	}
	c.add(took, removed)
	c.cpu = append(c.cpu, (after.cpu-before.cpu)*1000/float64(n))
	return nil
}

// measureMany measures many Pods at once.
func (b *bench) measureMany(ctx context.Context) {
	if b.alone == 0 {
		var took []float64
		b.takeTurns(ctx, manyRounds, contender{"podkeeper: one alone", true, func(ctx context.Context) error {
			up, _, err := b.podkeeperOne(ctx)
			if err == nil {
				took = append(took, ms(up)...)
			}
			return err
		}})
		b.alone = median(took)
	}
	for _, n := range slices.Compact([]int{min(20, b.pods), b.pods}) {
		b.measureAtOnce(ctx, n)
	}
}

func (b *bench) measureAtOnce(ctx context.Context, n int) {
	type setting struct {
		how      way
		parallel int
	}
	own, floors := &crowd{}, map[setting]*crowd{}
	contenders := []contender{{fmt.Sprintf("podkeeper: %d at once", n), true, func(ctx context.Context) error {
		return b.podkeeperMany(ctx, own, n)
	}}}
	for _, how := range []way{inTurn, beside} {
		for _, parallel := range []int{4, 8, 16} {
			c := &crowd{}
			floors[setting{how, parallel}] = c
			contenders = append(contenders, contender{
				fmt.Sprintf("%s: %d at once, %d at a time", floorName(how), n, parallel), false,
				func(ctx context.Context) error { return b.floorMany(ctx, c, n, how, parallel) },
			})
		}
	}
	b.takeTurns(ctx, manyRounds, contenders...)
	yardstick := &crowd{}
	for _, how := range []way{inTurn, beside} {
		best := setting{how, 4}
		for s, c := range floors {
			if s.how == how && len(c.last) > 0 && (len(floors[best].last) == 0 || median(c.last) < median(floors[best].last)) {
				best = s
			}
		}
		if how == inTurn {
			yardstick = floors[best]
		}
		b.addCrowd(fmt.Sprintf("%s: %d at once, %d at a time", floorName(how), n, best.parallel), floors[best], yardstick, false)
	}
	b.addCrowd(fmt.Sprintf("podkeeper: %d at once", n), own, yardstick, true)
}

// addCrowd reports many Pods at once beside what the floor needed; only podkeeper has goals.
func (b *bench) addCrowd(name string, c, floor *crowd, own bool) {
	first := Figure{Part: "many", Name: name + ", the first", Unit: "ms", Values: c.first}
	middle := Figure{Part: "many", Name: name + ", the median", Unit: "ms", Values: c.middle, Base: "floor", BaseValue: median(floor.middle)}
	last := Figure{Part: "many", Name: name + ", the last", Unit: "ms", Values: c.last, Base: "floor", BaseValue: median(floor.last)}
	removed := Figure{Part: "many", Name: name + ", removed", Unit: "ms", Values: c.removed,
		Base: "floor", BaseValue: median(floor.removed)}
	cpu := Figure{Part: "many", Name: name + ", the agent's CPU a Pod", Unit: "ms", Values: c.cpu}
	if own {
		first.Base, first.BaseValue = "one alone", b.alone
		first.GoalRatio, last.GoalRatio, removed.GoalRatio, cpu.Goal = goalFirst, goalLast, goalRemoved, goalCPU
	}
	for _, f := range []Figure{first, middle, last, removed, cpu} {
		b.report.add(f)
	}
}
