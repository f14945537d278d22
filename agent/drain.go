package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"sync"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/component-helpers/scheduling/corev1"

	"github.com/podkeeper/podkeeper/agent/node"
)

// drainPoll is how often is looked whether the Pods of one priority have ended, so that those of the next one may. A shutdown is a drain
// in that.
const drainPoll = 100 * time.Millisecond

// noLevel is below every priority.
const noLevel = math.MinInt64

// drain has all Pods of the node end, those of the lowest priority first, and none begin until it is over: for maintenance. It is
// remembered by a file, and goes on under the next agent.
type drain struct {
	file  string
	begun chan struct{} // of size 1

	mu    sync.Mutex
	on    bool
	level int64 // Pods of up to this priority are ended
}

// openDrain goes on with what an earlier agent was told.
func openDrain(file string) *drain {
	d := &drain{file: file, begun: make(chan struct{}, 1), level: noLevel}
	if _, err := os.Stat(file); err == nil {
		d.set(true)
	}
	return d
}

// set begins, or ends, the drain.
func (d *drain) set(on bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.on = on; !on {
		d.level = noLevel
		return
	}
	select {
	case d.begun <- struct{}{}:
	default:
	}
}

func (d *drain) state() (on bool, level int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.on, d.level
}

// raise has Pods of up to a priority end, and says whether others than before do.
func (d *drain) raise(level int64) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.on || level <= d.level {
		return false
	}
	d.level = level
	return true
}

// drained is why a Pod may not begin, or has to end.
var drained = hold("Drained", "the node is drained: podkeeper resume brings its Pods back")

// hold says whether a Pod may begin.
func (d *drain) hold() Ruling {
	if on, _ := d.state(); on {
		return drained
	}
	return Ruling{}
}

// rule says whether a Pod that is there may stay.
func (d *drain) rule(pod *v1.Pod) Ruling {
	if on, level := d.state(); on && int64(corev1.PodPriority(pod)) <= level {
		return drained
	}
	return Ruling{}
}

// Drain has the Pods of the node end in the order of their priorities, or be back. What has ended by itself stays as it is. The error
// is why that cannot be remembered; then nothing has changed.
func (a *Agent) Drain(on bool) error {
	if on {
		if err := node.WriteDurably(a.drain.file, nil); err != nil {
			return fmt.Errorf("drain: %w", err)
		}
	} else if err := os.Remove(a.drain.file); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("resume: %w", err)
	}
	a.log.Info("node is drained", "is", on)
	a.drain.set(on)
	if !on {
		a.handOut()
		a.wakeAll()
	}
	return nil
}

// Drained says whether the node is drained, and how many Pods still run.
func (a *Agent) Drained() (on bool, left int) {
	on, _ = a.drain.state()
	standing := a.stillStanding()
	return on, len(standing)
}

// keepDrained ends Pods while the node is drained, those of one priority after the other, until ctx ends.
func (a *Agent) keepDrained(ctx context.Context) {
	ticker := time.NewTicker(drainPoll)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-a.drain.begun:
		}
		for on := true; on && ctx.Err() == nil; {
			level := int64(math.MaxInt64)
			standing := a.stillStanding()
			for _, pod := range standing {
				level = min(level, int64(corev1.PodPriority(pod)))
			}
			if a.drain.raise(level) {
				a.handOut()
			}
			if len(standing) == 0 {
				break
			}
			select {
			case <-ctx.Done():
			case <-ticker.C:
			}
			on, _ = a.drain.state()
		}
	}
}

// mayBegin says whether a Pod may begin on the node as it is now.
func (a *Agent) mayBegin(pod *v1.Pod) Ruling {
	if r := cmp.Or(a.shutdown.hold(), a.drain.hold()); r.Verdict != Admitted {
		return r
	}
	return a.evictor.hold(pod)
}

// mayStay says whether a Pod that is wanted may stay.
func (a *Agent) mayStay(pod *v1.Pod) Ruling {
	if w := a.named(key(pod)); w != nil {
		if now := w.published.Load(); now != nil && isTerminal(now.Status.Phase) {
			return Ruling{} // it would begin anew afterwards
		}
	}
	return a.drain.rule(pod)
}
