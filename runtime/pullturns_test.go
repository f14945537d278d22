package runtime

import (
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestPullTurns(t *testing.T) {
	for sentence, r := range map[string]struct {
		limit int
		known string   // registries met before
		asked string   // one letter a pull, by registry, in order; each takes a second, those of S for ever
		want  []string // which begin in each second
	}{
		"no limit":                              {0, "", "abSSa", []string{"SSaab"}},
		"one after another":                     {1, "", "aaa", []string{"a", "a", "a"}},
		"one registry has all turns":            {3, "", "aaaa", []string{"aaa", "a"}},
		"but the last where there are others":   {3, "b", "aaaa", []string{"aa", "aa"}},
		"which another then has":                {3, "b", "aaab", []string{"aab", "a"}},
		"a slow one keeps nobody waiting":       {2, "a", "SSSaaa", []string{"Sa", "a", "a"}},
		"turns go round":                        {1, "", "aaabbc", []string{"a", "b", "c", "a", "b", "a"}},
		"and to whom has fewer":                 {4, "ab", "aaaabb", []string{"aaab", "ab"}},
		"a limit of one cannot be shared so":    {1, "ab", "aab", []string{"a", "b", "a"}},
		"who is slow has its share for itself":  {3, "a", "SSSS", []string{"SS"}},
		"with all turns taken nobody is served": {1, "a", "Sa", []string{"S"}},
	} {
		t.Run(sentence, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				turns := newPullTurns(r.limit)
				for _, registry := range strings.Split(r.known, "") {
					turns.meet(registry)
				}
				var mu sync.Mutex
				var began []string
				seen := func() string { // of those that begin at once, none is the first
					mu.Lock()
					defer mu.Unlock()
					slices.Sort(began)
					all := strings.Join(began, "")
					began = nil
					return all
				}
				end := make(chan struct{})
				for _, registry := range strings.Split(r.asked, "") {
					go func() {
						done := turns.take(registry)
						mu.Lock()
						began = append(began, registry)
						mu.Unlock()
						if registry == "S" {
							<-end
						} else {
							time.Sleep(time.Second)
						}
						done()
					}()
					synctest.Wait() // in this order
				}
				var got []string
				for range 10 {
					synctest.Wait()
					if all := seen(); all != "" {
						got = append(got, all)
					}
					time.Sleep(time.Second)
				}
				close(end)
				time.Sleep(time.Minute)
				if !slices.Equal(got, r.want) {
					t.Errorf("got %q, want %q", got, r.want)
				}
				turns.mu.Lock()
				defer turns.mu.Unlock()
				if turns.running != 0 || len(turns.waiting) != 0 {
					t.Errorf("%d run, %d wait", turns.running, len(turns.waiting))
				}
			})
		})
	}
}
