package runtime

import (
	"slices"
	"sync"
)

// pullTurns bounds how many images are fetched at once, and shares that among registries, so that a slow one does not keep
// the images of another waiting: it never has all turns where there are several, and turns go round.
type pullTurns struct {
	limit int // 0 is none

	mu      sync.Mutex
	shares  map[string]*pullShare // of every registry that was ever asked
	running int
	given   int
	waiting []pullTurn // the first to come first
}

// pullShare is what one registry has of the turns.
type pullShare struct {
	running int
	last    int // which turn of all was its latest
}

type pullTurn struct {
	registry string
	begin    chan struct{}
}

func newPullTurns(limit int) *pullTurns {
	return &pullTurns{limit: limit, shares: map[string]*pullShare{}}
}

// meet makes a registry known: turns may be kept for it.
func (t *pullTurns) meet(registry string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.share(registry)
}

func (t *pullTurns) share(registry string) *pullShare {
	if t.shares[registry] == nil {
		t.shares[registry] = &pullShare{}
	}
	return t.shares[registry]
}

// take waits for a turn. done gives it back.
func (t *pullTurns) take(registry string) (done func()) {
	turn := pullTurn{registry, make(chan struct{})}
	t.mu.Lock()
	t.share(registry)
	t.waiting = append(t.waiting, turn)
	t.give()
	t.mu.Unlock()
	<-turn.begin
	return func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.running--
		t.share(registry).running--
		t.give()
	}
}

// give gives what turns there are to those that wait.
func (t *pullTurns) give() {
	for t.limit == 0 || t.running < t.limit {
		next := -1
		for i, turn := range t.waiting {
			if t.mayHave(turn.registry) && (next < 0 || t.before(turn.registry, t.waiting[next].registry)) {
				next = i
			}
		}
		if next < 0 {
			return
		}
		share := t.share(t.waiting[next].registry)
		t.given++
		t.running++
		share.running++
		share.last = t.given
		close(t.waiting[next].begin)
		t.waiting = slices.Delete(t.waiting, next, next+1)
	}
}

// mayHave says whether a registry may have one turn more: the last of them is for another, where there is another.
func (t *pullTurns) mayHave(registry string) bool {
	return t.limit < 2 || len(t.shares) < 2 || t.share(registry).running < t.limit-1
}

// before says whose turn it is of two registries: of the one with fewer, or whose latest is longer ago.
func (t *pullTurns) before(a, b string) bool {
	one, other := t.share(a), t.share(b)
	if one.running != other.running {
		return one.running < other.running
	}
	return one.last < other.last
}
