package agent

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"

	v1 "k8s.io/api/core/v1"

	"github.com/podkeeper/podkeeper/agent/admit"
	"github.com/podkeeper/podkeeper/agent/evict"
	"github.com/podkeeper/podkeeper/agent/plan"
)

// Decisions are logged at the level of debugging, each with what was seen. Elsewhere nothing is formatted for that.

func debugs(log *slog.Logger) bool { return log.Enabled(context.Background(), slog.LevelDebug) }

// logPlan tells of a plan, and what it follows from.
func (w *worker) logPlan(p plan.Plan, seen plan.Seen) {
	if debugs(w.log) {
		w.log.Debug("plan", "pod", w.key.String(), "do", p.String(), "seen", seen.String())
	}
}

// logAdmission tells whether a Pod may begin, and what it asks for of what the node has.
func (w *worker) logAdmission(pod *v1.Pod, r Ruling) {
	if !debugs(w.log) {
		return
	}
	says := "admitted"
	if r.Verdict != Admitted {
		says = fmt.Sprintf("%s %s: %s", r.Verdict, r.Reason, r.Message)
	}
	w.log.Debug("admission", "pod", w.key.String(), "is", says, "asks", amounts(admit.Asks(pod)), "node", amounts(w.room()))
}

// logEdit tells what the difference between two versions of a Pod comes to.
func (w *worker) logEdit(c change, wanted *Wish) {
	if debugs(w.log) {
		w.log.Debug("edit", "pod", w.key.String(), "means", string(c), "running", w.inst.Revision, "wanted", wanted.Pod.Revision)
	}
}

// amounts prints what is asked for, or there, sorted by name.
func amounts(a admit.Amounts) string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(a)) {
		parts = append(parts, fmt.Sprintf("%s=%d", name, a[name]))
	}
	return strings.Join(parts, " ")
}

// logPass tells of a look at the node: every threshold with what there is, and what is too little.
func (e *evictor) logPass(readings evict.Readings) {
	if !debugs(e.log) {
		return
	}
	var seen, starved []string
	for _, t := range e.policy.Thresholds {
		if r, read := readings[t.Signal]; read {
			seen = append(seen, fmt.Sprintf("%s %d of %d, at least %d", t.Signal, r.Available, r.Capacity, t.Below.Of(r.Capacity)))
		}
	}
	for _, t := range e.state.Starved {
		starved = append(starved, string(t.Signal))
	}
	e.log.Debug("look at the node", "seen", strings.Join(seen, "; "), "starved", strings.Join(starved, " "), "pressure", fmt.Sprint(e.state.Pressure))
}

// logRank tells in which order Pods would have to go.
func (e *evictor) logRank(t evict.Threshold, ranked []evict.Candidate) {
	if !debugs(e.log) {
		return
	}
	var order []string
	for _, c := range ranked {
		text := key(c.Pod).String()
		if c.Usage != nil {
			text += fmt.Sprintf(" (%d bytes of memory, %d processes)", c.Usage.Memory, c.Usage.Processes)
		}
		order = append(order, text)
	}
	e.log.Debug("who would have to go", "signal", string(t.Signal), "order", strings.Join(order, ", "))
}
