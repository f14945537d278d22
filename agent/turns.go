package agent

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"
)

// handOn is after what time a Pod gives its turn to the next, done or not: one that hangs delays nobody for longer.
const handOn = time.Second

// gathering is how long the Pods that begin with the agent, as after a boot, are waited for.
const gathering = 100 * time.Millisecond

// turns paces the Pods that start something: so many at once that every CPU has work, and not so many that all are slow
// because all of them have begun. What was begun is finished first. Of those that wait the one of the highest priority is next, as
// when all of them are back after a reboot; of equals, the one that has waited longest.
type turns struct {
	atOnce  int
	mu      sync.Mutex
	free    int
	waiting []*awaiting // in the order of their turns
}

// awaiting is who waits for a turn.
type awaiting struct {
	priority int32
	called   chan struct{} // closed when it is its turn
}

func newTurns(atOnce int) *turns { return &turns{atOnce: atOnce, free: atOnce} }

// take waits for a turn. give, which may be called more than once, ends it.
func (t *turns) take(ctx context.Context, priority int32) (give func(), err error) {
	if w := t.enter(priority); w != nil {
		select {
		case <-w.called:
		case <-ctx.Done():
			t.leave(w)
			return nil, fmt.Errorf("wait for other Pods: %w", ctx.Err())
		}
	}
	once := sync.OnceFunc(t.pass)
	timer := time.AfterFunc(handOn, once)
	return func() {
		timer.Stop()
		once()
	}, nil
}

// gather has nobody begin for a moment, so that of a crowd that comes meanwhile the most important ones do first.
func (t *turns) gather(moment time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	held := t.free
	t.free = 0
	time.AfterFunc(moment, func() {
		for range held {
			t.pass()
		}
	})
}

// enter takes a turn that is free, or answers what to wait for.
func (t *turns) enter(priority int32) *awaiting {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.free > 0 {
		t.free--
		return nil
	}
	at := slices.IndexFunc(t.waiting, func(other *awaiting) bool { return other.priority < priority })
	if at < 0 {
		at = len(t.waiting)
	}
	w := &awaiting{priority: priority, called: make(chan struct{})}
	t.waiting = slices.Insert(t.waiting, at, w)
	return w
}

// leave gives up waiting. Who was called meanwhile passes its turn on.
func (t *turns) leave(w *awaiting) {
	t.mu.Lock()
	at := slices.Index(t.waiting, w)
	if at >= 0 {
		t.waiting = slices.Delete(t.waiting, at, at+1)
	}
	t.mu.Unlock()
	if at < 0 {
		t.pass()
	}
}

// pass gives a turn to who is next.
func (t *turns) pass() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.waiting) == 0 {
		t.free++
		return
	}
	close(t.waiting[0].called)
	t.waiting = slices.Delete(t.waiting, 0, 1)
}

// podTurn is the turn of a Pod, from the first deed that needs it until none does. Its deeds share it.
type podTurn struct {
	turns *turns        // nil is no limit
	lock  chan struct{} // held while one of the deeds waits for all of them
	give  func()        // nil: it is not the Pod's turn
}

func newPodTurn(t *turns) *podTurn { return &podTurn{turns: t, lock: make(chan struct{}, 1)} }

// take waits until it is the turn of the Pod, which has this priority.
func (p *podTurn) take(ctx context.Context, priority int32) (err error) {
	if p.turns == nil {
		return nil
	}
	select {
	case p.lock <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	if p.give == nil {
		p.give, err = p.turns.take(ctx, priority)
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
