package probes

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func TestCounter(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		counter counter
		checks  string // S success, F failure, W warning
		want    string // the verdict after each check, upper case where it was reached by that check and changed, ! where reached again
	}{
		"one success makes it ready": {
			counter{verdict: Failure, success: 1, failure: 3}, "S", "S",
		},
		"failures below the threshold leave it ready": {
			counter{verdict: Success, success: 1, failure: 3}, "FFSFFS", "ss!ss!",
		},
		"as many failures in a row as the threshold asks for turn it": {
			counter{verdict: Success, success: 1, failure: 3}, "FFF", "ssF",
		},
		"more failures after the threshold change nothing": {
			counter{verdict: Success, success: 1, failure: 2}, "FFFF", "sF!!",
		},
		"a success between failures starts the count again": {
			counter{verdict: Success, success: 1, failure: 2}, "FSFSFF", "s!s!sF",
		},
		"successes below the success threshold leave it unready": {
			counter{verdict: Failure, success: 3, failure: 1}, "SSFSSS", "ff!ffS",
		},
		"a warning is a success": {
			counter{verdict: Failure, success: 2, failure: 1}, "SWW", "fS!",
		},
		"a failure that is what was thought anyway is reached without a change": {
			counter{verdict: Failure, success: 1, failure: 1}, "F", "!",
		},
		"the first verdict of a startup probe is a change": {
			counter{verdict: Unknown, success: 1, failure: 2}, "FF", "uF",
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := tt.counter
			var got strings.Builder
			for _, check := range tt.checks {
				var reached Result
				var changed bool
				c, reached, changed = c.next(map[rune]Result{'S': Success, 'F': Failure, 'W': Warning}[check])
				switch {
				case reached == Unknown:
					got.WriteString(strings.ToLower(string(c.verdict[0])))
				case changed:
					got.WriteString(string(reached[0]))
				default:
					got.WriteString("!")
				}
			}
			if diff := cmp.Diff(tt.want, got.String()); diff != "" {
				t.Errorf("verdicts after %s (-want +got):\n%s", tt.checks, diff)
			}
		})
	}
}

func TestCounterProperties(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		c := counter{
			verdict: rapid.SampledFrom([]Result{Success, Failure, Unknown}).Draw(t, "initial"),
			success: rapid.IntRange(1, 4).Draw(t, "success threshold"),
			failure: rapid.IntRange(1, 4).Draw(t, "failure threshold"),
		}
		for _, r := range rapid.SliceOf(rapid.SampledFrom([]Result{Success, Failure, Warning})).Draw(t, "checks") {
			before := c.verdict
			after, reached, changed := c.next(r)
			switch {
			case changed != (before != after.verdict):
				t.Fatalf("changed is %v, the verdict went from %s to %s", changed, before, after.verdict)
			case reached != Unknown && reached != after.verdict:
				t.Fatalf("reached %s, the verdict is %s", reached, after.verdict)
			case changed && (r == Failure) != (after.verdict == Failure):
				t.Fatalf("a %s turned the verdict to %s", r, after.verdict)
			}
			c = after
		}
	})
}
