// Package probes asks one container instance how it is: a goroutine for each probe, the thresholds that turn single
// checks into a verdict, and the four kinds of check (exec, HTTP, TCP, gRPC). Hooks, which are one-shot, are made here too.
//
//	            NewCheck                      Start
//	v1.Probe ──────────────▶ Check ─▶ every period: up to 3 attempts ─▶ counter ─▶ Verdict
//	                                               │                                 │
//	                                               └────────────▶ Report ◀───────────┘
//
// It knows nothing of Pods, of the runtime or of what a verdict leads to: one [Start] is one container instance, and
// whoever started it decides which probes run when (the startup probe first, then the others), what a verdict means,
// and when to [Probe.Stop].
//
// The rules are those of Kubernetes' prober (pkg/kubelet/prober/worker.go).
package probes

import (
	"cmp"
	"context"
	"sync/atomic"
	"time"

	v1 "k8s.io/api/core/v1"
)

// Kind is which of a container's three probes this is, in the words of Kubernetes' events ("Readiness probe failed:
// …").
type Kind string

// The three probes a container can have.
const (
	Liveness  Kind = "Liveness"
	Readiness Kind = "Readiness"
	Startup   Kind = "Startup"
)

// Result is what one check found, or what the checks so far add up to.
type Result string

// Warning is a success that deserves an event (ProbeWarning): the answer was a redirect to another host, which is not
// followed. It counts as Success and is never a verdict.
const (
	Success Result = "Success"
	Failure Result = "Failure"
	Unknown Result = "Unknown"
	Warning Result = "Warning"
)

// What Kubernetes' defaulting fills in (pkg/apis/core/v1/defaults.go, SetDefaults_Probe), for a spec that did not pass
// through it.
const (
	defaultPeriod           = 10
	defaultTimeout          = 1
	defaultSuccessThreshold = 1
	defaultFailureThreshold = 3
)

// attempts is how often a check that could not be made is tried at once before its round is given up (maxProbeRetries).
const attempts = 3

// Report tells of one round of a probe: a check that failed, warned or could not be made, or a check that changed the
// verdict.
type Report struct {
	Kind    Kind
	Result  Result // of this check; Unknown when Err is set
	Output  string // of this check, at most 10 KiB
	Changed bool   // the verdict is another one now: Result, with Warning read as Success
	Err     error  // the check could not be made; it has no bearing on the verdict
}

// Config says what to probe and how.
type Config struct {
	Kind  Kind
	Probe *v1.Probe // periods and thresholds; its handler has become Check
	Check Check
	// StartedAt is when the container instance started; initialDelaySeconds counts from it, cut to the second.
	StartedAt time.Time
	// Initial is the verdict until a threshold is reached. Empty means what a new instance has: Failure for readiness,
	// Success for liveness, Unknown for startup. An agent that takes over a running instance gives what it knew.
	Initial Result
	// Jitter puts the first check off, for an agent that has just started and would otherwise check everything at once.
	Jitter time.Duration
	// Report is called from the probe's goroutine for every check that did not succeed and for each change of the
	// verdict, after Verdict shows it. It must not call Stop, which waits for that goroutine. May be nil.
	Report func(Report)
}

// Probe is one probe of one container instance, running until it is stopped or has said all it can say.
type Probe struct {
	verdict atomic.Value // Result
	cancel  context.CancelFunc
	done    chan struct{}
}

// Start runs a probe in a goroutine of its own. The first check is made as soon as the initial delay (and cfg.Jitter)
// have passed, the following ones each period after it, but for the 50 ms at most that bring them in time with those of
// other probes; a slow check does not shift those after it, and none overlap. A liveness probe that reached Failure and a
// startup probe that reached any verdict end by themselves: what comes next is a new instance, or nothing.
func Start(ctx context.Context, cfg Config) *Probe {
	ctx, cancel := context.WithCancel(ctx)
	p := &Probe{cancel: cancel, done: make(chan struct{})}
	cfg.Initial = cmp.Or(cfg.Initial, initial(cfg.Kind))
	p.verdict.Store(cfg.Initial)
	go func() {
		defer close(p.done)
		defer cancel()
		p.run(ctx, cfg)
	}()
	return p
}

// Stop ends the probe, cutting short a check that is being made, and returns when its goroutine has ended. Its last
// verdict stays. Stop may be called again.
func (p *Probe) Stop() {
	p.cancel()
	<-p.done
}

// Verdict is what the checks so far add up to.
func (p *Probe) Verdict() Result {
	return p.verdict.Load().(Result)
}

// initial is the verdict on an instance that has not been checked yet.
func initial(k Kind) Result {
	switch k {
	case Liveness:
		return Success
	case Readiness:
		return Failure
	default:
		return Unknown
	}
}

// run makes the checks until the context ends or the probe has no more to say.
func (p *Probe) run(ctx context.Context, cfg Config) {
	if !sleep(ctx, untilFirst(cfg, time.Now())) {
		return
	}
	period := seconds(cfg.Probe.PeriodSeconds, defaultPeriod)
	due := onBeat(time.Now()).Add(period)
	c := counter{
		verdict: cfg.Initial,
		success: int(cmp.Or(cfg.Probe.SuccessThreshold, defaultSuccessThreshold)),
		failure: int(cmp.Or(cfg.Probe.FailureThreshold, defaultFailureThreshold)),
	}
	for ctx.Err() == nil {
		var over bool
		if c, over = p.round(ctx, cfg, c); over || !sleep(ctx, time.Until(due)) {
			return
		}
		// After a check that took longer than the period, one that was due follows at once, and the rhythm stays.
		due = due.Add(period * (1 + time.Since(due)/period))
	}
}

// beat is what the checks after the first come in time with, those of all probes.
const beat = 100 * time.Millisecond

// onBeat is the beat nearest to a time. Checks that come together are cheap: to wake up for each of many by itself costs
// more than to make them.
func onBeat(t time.Time) time.Time {
	return t.Add(t.Round(beat).Sub(t)) // Round's own answer has lost the monotonic clock
}

// round makes one check, counts it and tells of it. It says whether the probe is over.
func (p *Probe) round(ctx context.Context, cfg Config, c counter) (counter, bool) {
	result, output, err := attempt(ctx, cfg)
	if ctx.Err() != nil {
		return c, true // stopped meanwhile: what came of it says nothing about the container
	}
	r := Report{Kind: cfg.Kind, Result: result, Output: output, Err: err}
	reached := Unknown
	if err == nil {
		c, reached, r.Changed = c.next(result)
		p.verdict.Store(c.verdict)
	}
	if cfg.Report != nil && (r.Changed || result != Success) {
		cfg.Report(r)
	}
	return c, onHold(cfg.Kind, reached)
}

// onHold says whether a probe of kind k, having reached a verdict just now (Unknown: none), has nothing more to ask of
// this container instance.
func onHold(k Kind, reached Result) bool {
	switch k {
	case Liveness:
		return reached == Failure
	case Startup:
		return reached != Unknown
	default:
		return false
	}
}

// attempt makes a check, again at once when it could not be made. Its result is Success, Warning or Failure, or Unknown
// with an error.
func attempt(ctx context.Context, cfg Config) (result Result, output string, err error) {
	timeout := seconds(cfg.Probe.TimeoutSeconds, defaultTimeout)
	for range attempts {
		result, output, err = once(ctx, cfg.Check, timeout)
		if err == nil || ctx.Err() != nil {
			break
		}
	}
	switch {
	case err != nil:
		return Unknown, output, err
	case result == Success || result == Warning:
		return result, output, nil
	default: // also a check that could be made and still does not know
		return Failure, output, nil
	}
}

// once makes a check in the time it is given.
func once(ctx context.Context, check Check, timeout time.Duration) (Result, string, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	return check(ctx)
}

// untilFirst is how long the first check has to wait.
func untilFirst(cfg Config, now time.Time) time.Duration {
	due := cfg.StartedAt.Truncate(time.Second).Add(time.Duration(cfg.Probe.InitialDelaySeconds) * time.Second)
	return max(due.Sub(now), cfg.Jitter)
}

// sleep waits for d, or says false when the context ended before.
func sleep(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// seconds is a field of a v1.Probe as a duration, or its default where unset.
func seconds(n, unset int32) time.Duration {
	return time.Duration(cmp.Or(n, unset)) * time.Second
}
