package agent

import (
	"fmt"
	"sync/atomic"
	"time"
)

// lap is that of a loop which goes round: it lasts from when the loop begins to do what is due until it waits for more. A
// loop that waits is well, however long, so nothing has to wake it to be told of.
type lap struct{ since atomic.Int64 } // in nanoseconds since 1970; 0 between laps

func (l *lap) begin() { l.since.Store(time.Now().UnixNano()) }

func (l *lap) end() { l.since.Store(0) }

// lasts is for how long the present lap has lasted, 0 between laps.
func (l *lap) lasts() time.Duration {
	if since := l.since.Load(); since != 0 {
		return time.Since(time.Unix(0, since))
	}
	return 0
}

// laps are those of the loops without which Pods are not kept, beside the workers'. Others may hang and no Pod suffers: those
// that remove what belongs to nobody, that tell of the node, and that answer on the socket.
type laps struct {
	manifests lap // what stands in files is given to workers; that reading them hangs is the disk's, and no restart would help
	objects   lap // the same of objects of an API
	handing   lap // whoever hands out what is wanted: rulings and drains do, too
	notices   lap // ends of containers, from the runtime
	evictions lap // looks at what the node has left, and what follows from them
	feed      lap // what who follows is told, and what is made for the API then
}

// stuckAfter is how long one lap may take. Nothing in it waits for the world for more than seconds.
const stuckAfter = 2 * time.Minute

// stuckEvicting is the same of a look at the node that has Pods go: before that images are removed.
const stuckEvicting = 15 * time.Minute

// Alive says whether every loop that keeps Pods goes round. It waits for no lock for long unless the agent hangs.
func (a *Agent) Alive() error {
	for _, l := range []struct {
		what string
		*lap
		limit time.Duration
	}{
		{"what follows from manifests", &a.laps.manifests, stuckAfter}, {"what follows from objects", &a.laps.objects, stuckAfter},
		{"who hands out what is wanted", &a.laps.handing, stuckAfter}, {"what follows from notices of the runtime", &a.laps.notices, stuckAfter},
		{"the look at what the node has left", &a.laps.evictions, stuckEvicting}, {"who tells of changes", &a.laps.feed, stuckAfter},
	} {
		if lasts := l.lasts(); lasts > l.limit {
			return fmt.Errorf("%s has not come round for %v", l.what, lasts.Round(time.Second))
		}
	}
	for _, w := range a.all() {
		if lasts := w.stepping.lasts(); lasts > stuckAfter {
			return fmt.Errorf("the worker of %s has not come round for %v", w.key, lasts.Round(time.Second))
		}
	}
	return nil
}
