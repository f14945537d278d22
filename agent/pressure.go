package agent

import (
	"context"
	"errors"
	"slices"

	v1 "k8s.io/api/core/v1"

	"github.com/podkeeper/podkeeper/agent/node"
	"github.com/podkeeper/podkeeper/agent/plan"
)

// pressure is a condition that a node may have.
type pressure struct {
	of                            v1.NodeConditionType
	taint                         string // that says the same
	short, relieved               string // as in reasons
	shortMessage, relievedMessage string
}

// pressures are all of them, in the kubelet's order and words (kubernetes/kubernetes pkg/kubelet/nodestatus/setters.go).
var pressures = []pressure{
	{v1.NodeMemoryPressure, v1.TaintNodeMemoryPressure, "InsufficientMemory", "SufficientMemory", "kubelet has insufficient memory available", "kubelet has sufficient memory available"},
	{v1.NodeDiskPressure, v1.TaintNodeDiskPressure, "DiskPressure", "NoDiskPressure", "kubelet has disk pressure", "kubelet has no disk pressure"},
	{v1.NodePIDPressure, v1.TaintNodePIDPressure, "InsufficientPID", "SufficientPID", "kubelet has insufficient PID available", "kubelet has sufficient PID available"},
}

// addPressureTaints has the node as it is told of have a taint for each pressure, as kube-controller-manager gives it one. Who is
// held for it was decided before.
func addPressureTaints(spec map[string]any, status *v1.NodeStatus) {
	taints, _ := spec["taints"].([]any)
	for _, c := range status.Conditions {
		for _, p := range pressures {
			if c.Type == p.of && c.Status == v1.ConditionTrue {
				taints = append(slices.Clone(taints), map[string]any{"key": p.taint, "effect": string(v1.TaintEffectNoSchedule)})
			}
		}
	}
	if len(taints) > 0 {
		spec["taints"] = taints
	}
}

// dropPressureTaints leaves them out where a client writes what he has read.
func dropPressureTaints(spec map[string]any) {
	taints, _ := spec["taints"].([]any)
	kept := slices.DeleteFunc(slices.Clone(taints), func(taint any) bool {
		fields, _ := taint.(map[string]any)
		return slices.ContainsFunc(pressures, func(p pressure) bool { return fields["key"] == p.taint })
	})
	switch {
	case len(kept) == len(taints):
	case len(kept) == 0:
		delete(spec, "taints")
	default:
		spec["taints"] = kept
	}
}

// pressureConditions are those conditions, as a node tells of them, under the pressure that there is.
func pressureConditions(under []v1.NodeConditionType) (all []v1.NodeCondition) {
	for _, p := range pressures {
		c := v1.NodeCondition{Type: p.of, Status: v1.ConditionFalse, Reason: "KubeletHas" + p.relieved, Message: p.relievedMessage}
		if slices.Contains(under, p.of) {
			c.Status, c.Reason, c.Message = v1.ConditionTrue, "KubeletHas"+p.short, p.shortMessage
		}
		all = append(all, c)
	}
	return all
}

// notePressure has everyone know that the node is under another pressure, or shuts down.
func (a *Agent) notePressure(ctx context.Context) {
	a.wakeAll()
	if a.feed.followed() {
		a.heart.hasten()
		a.showNode(ctx)
		a.feed.Wake()
	}
}

// makeRoom removes from the node's disks what no Pod that is wanted has need of: what containers of Pods that have ended have
// written but for their logs, what belongs to no Pod, and images.
func (a *Agent) makeRoom(ctx context.Context) {
	for _, w := range a.all() {
		if pod := w.published.Load(); pod != nil && isTerminal(pod.Status.Phase) {
			_ = w.request(w.shed) // one that is gone has nothing
		}
	}
	a.sweepNode(ctx)
	if err := a.images.empty(ctx); err != nil && ctx.Err() == nil {
		a.log.Warn("not all images are removed that nobody needs", "error", err)
	}
}

// shedLane is apart from those of containers, whose names have no slash.
const shedLane = "/shed"

// shed removes what the containers of a Pod that has ended still have in the runtime, once: there is pressure on the disk. Its
// status, its record and its logs stay.
func (w *worker) shed() error {
	if w.inst == nil || w.inst.Ending != nil || w.inst.shed || w.inst.Sandbox.Made || w.anyFlight(func(deed) bool { return true }) {
		return nil
	}
	for _, rec := range w.inst.Containers {
		if rec.Launched && !rec.Cleaned {
			return nil
		}
	}
	inst := w.inst
	inst.shed = true
	t, attempts := w.target(""), w.inst.attempts()
	d := deed{lane: shedLane, action: plan.Action{Verb: plan.Tidy}}
	d.do = func(ctx context.Context) error {
		var left *node.Leftover
		if err := w.host.Teardown(ctx, t, attempts); err != nil && !errors.As(err, &left) {
			return err
		}
		return nil
	}
	d.failed = func(error) { inst.shed = false }
	w.next[d.lane] = d
	return nil
}
