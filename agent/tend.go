package agent

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	v1 "k8s.io/api/core/v1"

	"github.com/podkeeper/podkeeper/agent/inputs"
	"github.com/podkeeper/podkeeper/agent/node"
	"github.com/podkeeper/podkeeper/agent/plan"
	"github.com/podkeeper/podkeeper/probes"
)

// tend keeps what a container has beside it while it runs: the carrier of its output, and its probes. What cannot be had
// of it now is tried again, and holds up nothing.
func (w *worker) tend(found sight) {
	var fault error
	for _, c := range plan.Containers(w.inst.Pod) {
		g, asked := found[c.Name]
		if !asked || g.err != nil || g.State != node.Running && g.State != node.Stopped {
			continue
		}
		t := w.target(c.Name)
		if err := w.host.Carry(t); err != nil {
			fault = err
			w.event(c.Name, v1.EventTypeWarning, "FailedLog", "Output waits in its pipe: the log cannot be written: "+err.Error())
		}
		if g.State == node.Running && w.inst.Sandbox.Attached && isHooked(c, w.inst.Containers[c.Name]) {
			w.probe(c, t)
		}
	}
	switch {
	case fault == nil:
		delete(w.faults, logLane)
	case !w.retryAt(logLane).After(time.Now()):
		w.delay(logLane, firstRetry, maxRetry)
	}
}

// probing are the probes of the present instance of a container. A kind that the container does not have, or that does not
// run yet, is nil.
type probing struct {
	attempt                      int
	startup, liveness, readiness *probes.Probe
}

// probe keeps the probes of a container that runs: first the startup probe alone, then the others. Their verdicts go into
// the record, from which an agent that takes over goes on.
func (w *worker) probe(c *v1.Container, t node.Target) {
	rec := w.inst.Containers[c.Name]
	p := w.probing[c.Name]
	if p == nil || p.attempt != rec.Attempt {
		p = &probing{attempt: rec.Attempt}
		w.probing[c.Name] = p
	}
	if !rec.Started && c.StartupProbe == nil {
		rec.Started = true
	}
	ending := rec.Stop != nil || rec.PreStop != nil || w.inst.Ending != nil
	if !rec.Started && p.startup == nil && !ending {
		p.startup = w.startProbe(c, t, probes.Startup, c.StartupProbe, probes.Unknown)
	}
	if p.startup != nil && p.startup.Verdict() == probes.Success {
		rec.Started = true
	}
	if rec.Started {
		w.probeStarted(c, t, p, ending)
	}
	if ending {
		// Liveness and startup end with the life of the container, readiness goes on until it is gone.
		stopProbe(&p.startup)
		stopProbe(&p.liveness)
	}
}

// probeStarted keeps the probes of a container that has started.
func (w *worker) probeStarted(c *v1.Container, t node.Target, p *probing, ending bool) {
	rec := w.inst.Containers[c.Name]
	if p.liveness == nil && c.LivenessProbe != nil && !ending {
		p.liveness = w.startProbe(c, t, probes.Liveness, c.LivenessProbe, probes.Success)
	}
	if c.ReadinessProbe == nil {
		rec.Ready = true
		return
	}
	if p.readiness == nil {
		initial := probes.Failure
		if rec.Ready {
			initial = probes.Success
		}
		p.readiness = w.startProbe(c, t, probes.Readiness, c.ReadinessProbe, initial)
	}
	if p.readiness != nil {
		rec.Ready = p.readiness.Verdict() == probes.Success
	}
}

// startProbe starts one probe.
func (w *worker) startProbe(c *v1.Container, t node.Target, kind probes.Kind, probe *v1.Probe, initial probes.Result) *probes.Probe {
	check, err := probes.NewCheck(probe, probes.Target{PodIP: w.address(t), Container: c}, func(ctx context.Context, command []string) (int, []byte, error) {
		return w.host.Exec(ctx, t, inputs.Static(c, command))
	})
	if err != nil {
		w.events.add(t.Pod, c.Name, v1.EventTypeWarning, "Unhealthy", fmt.Sprintf("%s probe cannot be made: %v", kind, err))
		return nil
	}
	took := w.metrics.probe.WithLabelValues(handler(probe))
	timed := func(ctx context.Context) (probes.Result, string, error) {
		begin := time.Now()
		defer func() { took.Observe(time.Since(begin).Seconds()) }()
		return check(ctx)
	}
	rec := w.inst.Containers[c.Name]
	var jitter time.Duration
	if period := time.Duration(probe.PeriodSeconds) * time.Second; rec.StartedAt.Before(w.started) && time.Since(w.started) < period {
		jitter = rand.N(period)
	}
	pod := t.Pod
	return probes.Start(context.Background(), probes.Config{
		Kind: kind, Probe: probe, Check: timed, StartedAt: rec.StartedAt, Initial: initial, Jitter: jitter,
		Report: func(r probes.Report) { w.report(pod, c.Name, r) },
	})
}

// handler is the name of what a probe does, as in its manifest.
func handler(probe *v1.Probe) string {
	switch {
	case probe.Exec != nil:
		return "exec"
	case probe.HTTPGet != nil:
		return "httpGet"
	case probe.TCPSocket != nil:
		return "tcpSocket"
	default:
		return "grpc"
	}
}

// report tells people of a check that failed, and wakes the worker when the verdict is another one.
func (w *worker) report(pod *v1.Pod, container string, r probes.Report) {
	switch {
	case r.Err != nil:
		w.events.add(pod, container, v1.EventTypeWarning, "Unhealthy", fmt.Sprintf("%s probe errored and resulted in unknown state: %v", r.Kind, r.Err))
	case r.Result == probes.Warning:
		w.events.add(pod, container, v1.EventTypeWarning, "ProbeWarning", fmt.Sprintf("%s probe warning: %s", r.Kind, r.Output))
	case r.Result == probes.Failure:
		w.events.add(pod, container, v1.EventTypeWarning, "Unhealthy", fmt.Sprintf("%s probe failed: %s", r.Kind, r.Output))
	}
	if r.Changed {
		w.Wake()
	}
}

// failed is why a container wants to be restarted, if it does: its postStart hook, or the verdict of a probe.
func (w *worker) failed(name string) plan.Why {
	p := w.probing[name]
	switch {
	case w.inst.Containers[name].HookFailed != "":
		return plan.HookFailed
	case p == nil:
	case p.startup != nil && p.startup.Verdict() == probes.Failure:
		return plan.StartupFailed
	case p.liveness != nil && p.liveness.Verdict() == probes.Failure:
		return plan.LivenessFailed
	}
	return ""
}

// endProbes ends all probes of a container.
func (w *worker) endProbes(name string) {
	if p := w.probing[name]; p != nil {
		stopProbe(&p.startup)
		stopProbe(&p.liveness)
		stopProbe(&p.readiness)
		delete(w.probing, name)
	}
}

// stopProbe ends a probe without waiting for a check that is under way.
func stopProbe(p **probes.Probe) {
	if *p != nil {
		go (*p).Stop()
		*p = nil
	}
}

func first(s []string) string {
	if len(s) == 0 {
		return ""
	}
	return s[0]
}
