package runtime

import (
	"context"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"
)

// shims are the shims of sandboxes: the containers of one share it. It is started with the first task and ends when the last
// one is deleted, and with the next one there is another. A task that is created by a shim that ends just then is lost, so
// that both take turns.
type shims struct {
	mu    sync.Mutex
	turns map[string]*turn // by sandbox, while somebody has it or waits for it

	settling sync.WaitGroup // of shims that are slow to end
}

// turn is what those share who create tasks by the shim of a sandbox, and what one alone has who may end it.
type turn struct {
	tasks    *semaphore.Weighted
	starting *semaphore.Weighted // the shim
	users    int
	guards   int // who needs the shim's socket in its place
}

// What is taken of a turn by those who share it, and by one alone.
const (
	shared = 1
	alone  = 1 << 20
)

// take waits for a turn. give gives it back.
func (s *shims) take(ctx context.Context, sandbox string, share int64) (t *turn, give func(), err error) {
	t = s.join(sandbox)
	if err := t.tasks.Acquire(ctx, share); err != nil {
		s.leave(sandbox, t)
		return nil, nil, fmt.Errorf("wait for other tasks of the shim: %w", err)
	}
	return t, func() {
		t.tasks.Release(share)
		s.leave(sandbox, t)
	}, nil
}

func (s *shims) join(sandbox string) *turn {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.turns == nil {
		s.turns = map[string]*turn{}
	}
	t := s.turns[sandbox]
	if t == nil {
		t = &turn{tasks: semaphore.NewWeighted(alone), starting: semaphore.NewWeighted(1)}
		s.turns[sandbox] = t
	}
	t.users++
	return t
}

func (s *shims) leave(sandbox string, t *turn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if t.users--; t.users == 0 {
		delete(s.turns, sandbox)
	}
}

// throughShim creates a task by the shim of its sandbox. The first one starts it, and those that come meanwhile wait for
// that, for two at once would start two; then they go side by side.
func (r *Runtime) throughShim(ctx context.Context, sandbox string, create func() error) error {
	t, give, err := r.shims.take(ctx, sandbox, shared)
	if err != nil {
		return err
	}
	defer give()
	if listens(r.shimSocket(sandbox)) {
		return r.createGuarded(sandbox, t, create)
	}
	if err := t.starting.Acquire(ctx, 1); err != nil {
		return fmt.Errorf("wait for the start of the shim: %w", err)
	}
	if listens(r.shimSocket(sandbox)) { // by now
		t.starting.Release(1)
		return r.createGuarded(sandbox, t, create)
	}
	defer t.starting.Release(1)
	if err := r.releaseShim(sandbox); err != nil { // of one that has ended
		return err
	}
	return create()
}

// createGuarded creates a task by a shim that is there.
func (r *Runtime) createGuarded(sandbox string, t *turn, create func() error) error {
	if err := r.guardShim(sandbox, t); err != nil {
		return err
	}
	defer r.unguardShim(sandbox, t)
	return create()
}

// A shim that has nothing more to do ends in a few milliseconds; one that has does not, and is not asked for long.
const (
	shimEndPause  = 2 * time.Millisecond
	shimEndLooks  = 10
	shimKillLooks = 100

	firstLatePause = 20 * time.Millisecond
	lastLatePause  = 5 * time.Second
)

// DeleteTask removes the task of a container that has ended, after the shim has passed on all its output. The record and
// the writable layer stay.
func (r *Runtime) DeleteTask(ctx context.Context, sandbox, id string) error {
	_, give, err := r.shims.take(ctx, sandbox, alone)
	if err != nil {
		return fmt.Errorf("delete task: %w", err)
	}
	defer give()
	if err := r.deleteTask(ctx, id); err != nil {
		return err
	}
	if err := r.settle(sandbox); err != nil {
		r.cfg.Log.Warn("socket of a shim stays", "sandbox", sandbox, "error", err)
	}
	return nil
}

// SettleShim removes what keeps the place of a sandbox's shim where Delete has removed its last task.
func (r *Runtime) SettleShim(ctx context.Context, sandbox string) error {
	_, give, err := r.shims.take(ctx, sandbox, alone)
	if err != nil {
		return err
	}
	defer give()
	return r.settle(sandbox)
}

// settle is called with the turn taken alone.
func (r *Runtime) settle(sandbox string) error {
	if r.shimEnds(sandbox, shimEndLooks) {
		return r.releaseShim(sandbox)
	}
	r.shims.settling.Go(func() { r.settleLate(sandbox) })
	return nil
}

// settleLate waits longer for a shim that has other tasks, or is slow to end on a busy host.
func (r *Runtime) settleLate(sandbox string) {
	for pause := firstLatePause; pause <= lastLatePause; pause *= 2 {
		select {
		case <-r.closed:
			return
		case <-time.After(pause):
		}
		t := r.shims.join(sandbox)
		taken := t.tasks.TryAcquire(alone)
		ended := taken && !listens(r.shimSocket(sandbox))
		if ended {
			if err := r.releaseShim(sandbox); err != nil {
				r.cfg.Log.Warn("socket of a shim stays", "sandbox", sandbox, "error", err)
			}
		}
		if taken {
			t.tasks.Release(alone)
		}
		r.shims.leave(sandbox, t)
		if ended || !taken { // what comes next sees to it
			return
		}
	}
}

// shimEnds waits for the end of a shim that may be about to, and says whether it has come.
func (r *Runtime) shimEnds(sandbox string, looks int) bool {
	for range looks {
		if !listens(r.shimSocket(sandbox)) {
			return true
		}
		time.Sleep(shimEndPause)
	}
	return false
}
