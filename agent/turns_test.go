package agent

import (
	"context"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		turns := newTurns(1)
		give, err := turns.take(t.Context(), 0)
		if err != nil {
			t.Fatal(err)
		}
		impatient, cancel := context.WithTimeout(t.Context(), handOn/2)
		defer cancel()
		if _, err := turns.take(impatient, 0); err == nil {
			t.Error("two have the only turn")
		}
		give()
		give() // a second time does nothing
		if _, err := turns.take(t.Context(), 0); err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		if _, err := turns.take(t.Context(), 0); err != nil || time.Since(begin) != handOn {
			t.Errorf("one that hangs keeps its turn: %v after %v", err, time.Since(begin))
		}
		time.Sleep(2 * handOn)
	})
}

// TestTurnsGoByPriority has a crowd gather for one turn, of whom one goes away.
func TestTurnsGoByPriority(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		turns := newTurns(1)
		turns.gather(gathering)
		var mu sync.Mutex
		var order []string
		begun := func() string {
			mu.Lock()
			defer mu.Unlock()
			return strings.Join(order, " ")
		}
		crowd := func(ctx context.Context, name string, priority int32) {
			go func() {
				if give, err := turns.take(ctx, priority); err == nil {
					mu.Lock()
					order = append(order, name)
					mu.Unlock()
					give()
				}
			}()
			synctest.Wait()
		}
		impatient, leave := context.WithCancel(t.Context())
		crowd(t.Context(), "low", 0)
		crowd(t.Context(), "high", 1000)
		crowd(impatient, "gone", 2000)
		crowd(t.Context(), "later", 0)
		crowd(t.Context(), "higher", 1001)
		crowd(t.Context(), "below", -1)
		leave()
		synctest.Wait()
		if got := begun(); got != "" {
			t.Errorf("%s did not wait for the others", got)
		}
		time.Sleep(gathering)
		synctest.Wait()
		if got := begun(); got != "higher high low later below" {
			t.Errorf("they begin as %s", got)
		}
		give, err := turns.take(t.Context(), 0)
		if err != nil {
			t.Fatal(err)
		}
		give() // the turn was not lost
	})
}
