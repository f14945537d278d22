package runtime

import "sync"

// flights are deeds of which each goes on once, however many want it.
type flights[T any] struct {
	mu    sync.Mutex
	going map[string]*flight[T]
}

// flight is one deed. What came of it may be read once it has landed.
type flight[T any] struct {
	landed   chan struct{}
	result   T
	err      error
	progress progress
}

// join finds the deed of a key that goes on, or starts it.
func (f *flights[T]) join(key string, do func(*progress) (T, error)) *flight[T] {
	f.mu.Lock()
	defer f.mu.Unlock()
	if going := f.going[key]; going != nil {
		return going
	}
	begun := &flight[T]{landed: make(chan struct{})}
	if f.going == nil {
		f.going = map[string]*flight[T]{}
	}
	f.going[key] = begun
	go func() {
		begun.result, begun.err = do(&begun.progress)
		f.mu.Lock()
		delete(f.going, key) // before anyone hears of it: who comes then wants another one
		f.mu.Unlock()
		close(begun.landed)
	}()
	return begun
}
