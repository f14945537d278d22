package probes

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"go.uber.org/goleak"
	v1 "k8s.io/api/core/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var errRuntime = errors.New("the runtime is away")

// script is a Check that answers what it is told, the last answer for ever, and keeps when it was asked.
type script struct {
	answers []string      // "ok", "fail", "warn", "unknown", "error"
	takes   time.Duration // each check
	start   time.Time

	mu     sync.Mutex
	asked  []time.Duration
	active int
	most   int // checks at the same time
}

func (s *script) check(ctx context.Context) (Result, string, error) {
	s.mu.Lock()
	answer := s.answers[min(len(s.asked), len(s.answers)-1)]
	s.asked = append(s.asked, time.Since(s.start))
	s.active++
	s.most = max(s.most, s.active)
	s.mu.Unlock()
	defer func() { s.mu.Lock(); s.active--; s.mu.Unlock() }()
	if !sleep(ctx, s.takes) {
		return Failure, "timed out", nil
	}
	switch answer {
	case "ok":
		return Success, "fine", nil
	case "warn":
		return Warning, "elsewhere", nil
	case "unknown":
		return Unknown, "who knows", nil
	case "error":
		return Unknown, "", errRuntime
	default:
		return Failure, "not well", nil
	}
}

// every is n moments, a period apart, from the first on.
func every(first, period time.Duration, n int) []time.Duration {
	moments := make([]time.Duration, n)
	for i := range moments {
		moments[i] = first + time.Duration(i)*period
	}
	return moments
}

func TestChecks(t *testing.T) {
	s := time.Second
	tests := map[string]struct {
		kind    Kind
		spec    v1.Probe
		initial Result
		jitter  time.Duration
		started time.Duration // before now
		answers []string
		takes   time.Duration
		runs    time.Duration // how long the test looks on; half a second more than a whole period
		asked   []time.Duration
		verdict Result
		ended   bool // by itself
	}{
		"the first check is made at once, then one each period": {
			kind: Readiness, spec: v1.Probe{PeriodSeconds: 10}, answers: []string{"ok"}, runs: 30*s + s/2,
			asked: every(0, 10*s, 4), verdict: Success,
		},
		"a spec without defaults is checked every 10 seconds": {
			kind: Readiness, answers: []string{"ok"}, runs: 10*s + s/2,
			asked: every(0, 10*s, 2), verdict: Success,
		},
		"the initial delay counts from the start of the container": {
			kind: Readiness, spec: v1.Probe{PeriodSeconds: 1, InitialDelaySeconds: 10}, started: 4 * s, answers: []string{"ok"}, runs: 8*s + s/2,
			asked: every(6*s, s, 3), verdict: Success,
		},
		"the start is cut to the second": {
			kind: Readiness, spec: v1.Probe{PeriodSeconds: 10, InitialDelaySeconds: 2}, started: s / 4, answers: []string{"ok"}, runs: 5 * s,
			asked: every(s, s, 1), verdict: Success,
		},
		"before the initial delay nothing is checked": {
			kind: Liveness, spec: v1.Probe{PeriodSeconds: 1, InitialDelaySeconds: 10}, answers: []string{"fail"}, runs: 9 * s,
			verdict: Success,
		},
		"an initial delay that is over long since delays nothing": {
			kind: Liveness, spec: v1.Probe{PeriodSeconds: 5, InitialDelaySeconds: 10}, started: time.Hour, answers: []string{"ok"}, runs: 7 * s,
			asked: every(0, 5*s, 2), verdict: Success,
		},
		"an agent that has just started puts the first check off": {
			kind: Readiness, spec: v1.Probe{PeriodSeconds: 10}, initial: Success, jitter: 7 * s, started: time.Hour, answers: []string{"ok"}, runs: 20 * s,
			asked: every(7*s, 10*s, 2), verdict: Success,
		},
		"jitter and initial delay do not add up": {
			kind: Readiness, spec: v1.Probe{PeriodSeconds: 10, InitialDelaySeconds: 8}, jitter: 3 * s, answers: []string{"ok"}, runs: 9 * s,
			asked: every(8*s, s, 1), verdict: Success,
		},
		"liveness failing as often as the threshold ends the probe": {
			kind: Liveness, spec: v1.Probe{PeriodSeconds: 10, FailureThreshold: 3}, answers: []string{"fail"}, runs: time.Hour,
			asked: every(0, 10*s, 3), verdict: Failure, ended: true,
		},
		"liveness that recovers below the threshold goes on": {
			kind: Liveness, spec: v1.Probe{PeriodSeconds: 1, FailureThreshold: 2}, answers: []string{"fail", "ok"}, runs: 4*s + s/2,
			asked: every(0, s, 5), verdict: Success,
		},
		"readiness goes on after failing": {
			kind: Readiness, spec: v1.Probe{PeriodSeconds: 1, FailureThreshold: 2}, answers: []string{"ok", "fail"}, runs: 9*s + s/2,
			asked: every(0, s, 10), verdict: Failure,
		},
		"readiness asks for as many successes as its threshold": {
			kind: Readiness, spec: v1.Probe{PeriodSeconds: 1, SuccessThreshold: 3}, answers: []string{"ok"}, runs: s + s/2,
			asked: every(0, s, 2), verdict: Failure,
		},
		"a startup probe ends with its first success": {
			kind: Startup, spec: v1.Probe{PeriodSeconds: 2, FailureThreshold: 30}, answers: []string{"fail", "fail", "ok"}, runs: time.Hour,
			asked: every(0, 2*s, 3), verdict: Success, ended: true,
		},
		"a startup probe ends when its failures are used up": {
			kind: Startup, spec: v1.Probe{PeriodSeconds: 2, FailureThreshold: 30}, answers: []string{"fail"}, runs: time.Hour,
			asked: every(0, 2*s, 30), verdict: Failure, ended: true,
		},
		"a startup probe has no verdict before": {
			kind: Startup, spec: v1.Probe{PeriodSeconds: 2, FailureThreshold: 3}, answers: []string{"fail"}, runs: s,
			asked: every(0, s, 1), verdict: Unknown,
		},
		"a check that cannot be made is tried three times at once and changes nothing": {
			kind: Liveness, spec: v1.Probe{PeriodSeconds: 10, FailureThreshold: 1}, answers: []string{"error"}, runs: 10*s + s/2,
			asked: []time.Duration{0, 0, 0, 10 * s, 10 * s, 10 * s}, verdict: Success,
		},
		"a check that can be made the second time counts": {
			kind: Readiness, spec: v1.Probe{PeriodSeconds: 10}, answers: []string{"error", "ok"}, runs: s,
			asked: []time.Duration{0, 0}, verdict: Success,
		},
		"a round that could not be made does not break a run of failures": {
			kind: Liveness, spec: v1.Probe{PeriodSeconds: 10, FailureThreshold: 2}, answers: []string{"fail", "error", "error", "error", "fail"}, runs: time.Hour,
			asked: []time.Duration{0, 10 * s, 10 * s, 10 * s, 20 * s}, verdict: Failure, ended: true,
		},
		"a check that was made and does not know is a failure": {
			kind: Liveness, spec: v1.Probe{PeriodSeconds: 10, FailureThreshold: 1}, answers: []string{"unknown"}, runs: time.Hour,
			asked: every(0, s, 1), verdict: Failure, ended: true,
		},
		"a warning is a success": {
			kind: Startup, spec: v1.Probe{PeriodSeconds: 10}, answers: []string{"warn"}, runs: time.Hour,
			asked: every(0, s, 1), verdict: Success, ended: true,
		},
		"a slow check does not shift the following ones": {
			kind: Readiness, spec: v1.Probe{PeriodSeconds: 10, TimeoutSeconds: 9}, answers: []string{"ok"}, takes: 8 * s, runs: 39 * s,
			asked: every(0, 10*s, 4), verdict: Success,
		},
		"checks longer than the period follow each other and never overlap": {
			kind: Readiness, spec: v1.Probe{PeriodSeconds: 1, TimeoutSeconds: 9}, answers: []string{"ok"}, takes: 3*s - s/10, runs: 9 * s,
			asked: every(0, 3*s-s/10, 4), verdict: Success,
		},
		"checks after the first come in time with those of other probes, up to 50 ms sooner": {
			kind: Readiness, spec: v1.Probe{PeriodSeconds: 10}, jitter: 49 * s / 1000, answers: []string{"ok"}, runs: 25 * s,
			asked: []time.Duration{49 * s / 1000, 10 * s, 20 * s}, verdict: Success,
		},
		"or later": {
			kind: Readiness, spec: v1.Probe{PeriodSeconds: 10}, jitter: 51 * s / 1000, answers: []string{"ok"}, runs: 25 * s,
			asked: []time.Duration{51 * s / 1000, 10*s + s/10, 20*s + s/10}, verdict: Success,
		},
		"a check that takes longer than its timeout is cut short": {
			kind: Liveness, spec: v1.Probe{PeriodSeconds: 10, TimeoutSeconds: 2, FailureThreshold: 2}, answers: []string{"ok"}, takes: time.Hour, runs: time.Hour / 2,
			asked: every(0, 10*s, 2), verdict: Failure, ended: true,
		},
		"what an earlier agent knew stays until a threshold says otherwise": {
			kind: Readiness, spec: v1.Probe{PeriodSeconds: 1, FailureThreshold: 3}, initial: Success, answers: []string{"fail"}, runs: s + s/2,
			asked: every(0, s, 2), verdict: Success,
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				sc := &script{answers: tt.answers, takes: tt.takes, start: time.Now()}
				p := Start(t.Context(), Config{
					Kind: tt.kind, Probe: &tt.spec, Check: sc.check, Initial: tt.initial,
					Jitter: tt.jitter, StartedAt: time.Now().Add(-tt.started),
				})
				time.Sleep(tt.runs)
				synctest.Wait()
				select {
				case <-p.done:
					if !tt.ended {
						t.Error("the probe ended by itself")
					}
				default:
					if tt.ended {
						t.Error("the probe goes on")
					}
				}
				p.Stop()
				p.Stop()
				if diff := cmp.Diff(tt.asked, sc.asked, cmpopts.EquateEmpty()); diff != "" {
					t.Errorf("checks (-want +got):\n%s", diff)
				}
				if got := p.Verdict(); got != tt.verdict {
					t.Errorf("verdict is %s, want %s", got, tt.verdict)
				}
				if sc.most > 1 {
					t.Errorf("%d checks at the same time", sc.most)
				}
			})
		})
	}
}

func TestInitialVerdict(t *testing.T) {
	t.Parallel()
	for kind, want := range map[Kind]Result{Readiness: Failure, Liveness: Success, Startup: Unknown} {
		p := Start(t.Context(), Config{Kind: kind, Probe: &v1.Probe{}, StartedAt: time.Now(), Jitter: time.Hour})
		p.Stop()
		if got := p.Verdict(); got != want {
			t.Errorf("a new container's %s is %s, want %s", kind, got, want)
		}
	}
}

func TestReports(t *testing.T) {
	tests := map[string]struct {
		kind    Kind
		spec    v1.Probe
		answers []string
		want    []Report
	}{
		"failures are told one by one": {
			Liveness, v1.Probe{PeriodSeconds: 1, FailureThreshold: 2},
			[]string{"fail"},
			[]Report{
				{Kind: Liveness, Result: Failure, Output: "not well"},
				{Kind: Liveness, Result: Failure, Output: "not well", Changed: true},
			},
		},
		"of successes only the one that changes the verdict is told": {
			Readiness, v1.Probe{PeriodSeconds: 1},
			[]string{"ok", "ok", "ok"},
			[]Report{{Kind: Readiness, Result: Success, Output: "fine", Changed: true}},
		},
		"a check that could not be made is told once a round": {
			Readiness, v1.Probe{PeriodSeconds: 1},
			[]string{"fail", "error", "error", "error", "ok"},
			[]Report{
				{Kind: Readiness, Result: Failure, Output: "not well"},
				{Kind: Readiness, Result: Unknown, Err: errRuntime},
				{Kind: Readiness, Result: Success, Output: "fine", Changed: true},
			},
		},
		"warnings are told every time": {
			Readiness, v1.Probe{PeriodSeconds: 1},
			[]string{"warn", "warn", "ok"},
			[]Report{
				{Kind: Readiness, Result: Warning, Output: "elsewhere", Changed: true},
				{Kind: Readiness, Result: Warning, Output: "elsewhere"},
			},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var got []Report
				sc := &script{answers: tt.answers, start: time.Now()}
				p := Start(t.Context(), Config{
					Kind: tt.kind, Probe: &tt.spec, Check: sc.check, StartedAt: time.Now(),
					Report: func(r Report) { got = append(got, r) },
				})
				time.Sleep(5*time.Second + time.Second/2)
				p.Stop()
				if diff := cmp.Diff(tt.want, got, cmpopts.EquateErrors()); diff != "" {
					t.Errorf("reports (-want +got):\n%s", diff)
				}
			})
		})
	}
}

func TestStopDuringACheckDiscardsIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sc := &script{answers: []string{"ok"}, takes: time.Minute, start: time.Now()}
		p := Start(t.Context(), Config{
			Kind: Liveness, Probe: &v1.Probe{FailureThreshold: 1, TimeoutSeconds: 300}, Check: sc.check, StartedAt: time.Now(),
			Report: func(r Report) { t.Errorf("reported %+v", r) },
		})
		time.Sleep(time.Second)
		p.Stop()
		if d := time.Since(sc.start); d != time.Second {
			t.Errorf("stopped after %s, want at once", d)
		}
		if got := p.Verdict(); got != Success || len(sc.asked) != 1 {
			t.Errorf("verdict %s after %d checks, want Success after 1", got, len(sc.asked))
		}
	})
}

func TestAnEndedContextEndsTheProbe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		sc := &script{answers: []string{"ok"}, start: time.Now()}
		p := Start(ctx, Config{Kind: Readiness, Probe: &v1.Probe{PeriodSeconds: 1}, Check: sc.check, StartedAt: time.Now()})
		time.Sleep(time.Second / 2)
		cancel()
		<-p.done
		if len(sc.asked) != 1 {
			t.Errorf("%d checks, want 1", len(sc.asked))
		}
	})
}
