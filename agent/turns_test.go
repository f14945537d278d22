package agent

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

func TestTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		turns := newTurns(1)
		give, err := turns.take(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		impatient, cancel := context.WithTimeout(t.Context(), handOn/2)
		defer cancel()
		if _, err := turns.take(impatient); err == nil {
			t.Error("two have the only turn")
		}
		give()
		give() // a second time does nothing
		if _, err := turns.take(t.Context()); err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		if _, err := turns.take(t.Context()); err != nil || time.Since(begin) != handOn {
			t.Errorf("one that hangs keeps its turn: %v after %v", err, time.Since(begin))
		}
		time.Sleep(2 * handOn)
	})
}
