package agent

import (
	"context"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"
)

// handOn is after what time a Pod gives its turn to the next, done or not: one that hangs delays nobody for longer.
const handOn = time.Second

// turns paces the Pods that start something: so many at once that every CPU has work, and not so many that all are slow
// because all of them have begun. What was begun is finished first.
type turns struct{ free *semaphore.Weighted }

func newTurns(atOnce int) *turns { return &turns{semaphore.NewWeighted(int64(atOnce))} }

// take waits for a turn. give, which may be called more than once, ends it.
func (t *turns) take(ctx context.Context) (give func(), err error) {
	if err := t.free.Acquire(ctx, 1); err != nil {
		return nil, fmt.Errorf("wait for other Pods: %w", err)
	}
	once := sync.OnceFunc(func() { t.free.Release(1) })
	timer := time.AfterFunc(handOn, once)
	return func() {
		timer.Stop()
		once()
	}, nil
}

// podTurn is the turn of a Pod, from the first deed that needs it until none does. Its deeds share it.
type podTurn struct {
	turns *turns        // nil is no limit
	lock  chan struct{} // held while one of the deeds waits for all of them
	give  func()        // nil: it is not the Pod's turn
}

func newPodTurn(t *turns) *podTurn { return &podTurn{turns: t, lock: make(chan struct{}, 1)} }

// take waits until it is the Pod's turn.
func (p *podTurn) take(ctx context.Context) (err error) {
	if p.turns == nil {
		return nil
	}
	select {
	case p.lock <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	if p.give == nil {
		p.give, err = p.turns.take(ctx)
	}
	<-p.lock
	return err
}

// yield lets another Pod begin, though this one goes on.
func (p *podTurn) yield() {
	p.lock <- struct{}{}
	if p.give != nil {
		p.give()
	}
	<-p.lock
}

// end is called when no deed of the Pod needs its turn any more.
func (p *podTurn) end() {
	p.yield()
	p.give = nil
}
