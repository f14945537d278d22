package agent

import (
	"context"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"
)

// handOn is after what time an action gives its turn to the next, done or not: one that hangs delays nobody for longer.
const handOn = time.Second

// turns paces actions: so many at once that every CPU has work, and not so many that all Pods are slow because all of
// them have begun.
type turns struct{ free *semaphore.Weighted }

func newTurns(atOnce int) turns { return turns{semaphore.NewWeighted(int64(atOnce))} }

// take waits for a turn. give, which may be called more than once, ends it.
func (t turns) take(ctx context.Context) (give func(), err error) {
	if err := t.free.Acquire(ctx, 1); err != nil {
		return nil, err
	}
	once := sync.OnceFunc(func() { t.free.Release(1) })
	timer := time.AfterFunc(handOn, once)
	return func() {
		timer.Stop()
		once()
	}, nil
}
