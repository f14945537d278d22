package agent

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/podkeeper/podkeeper/manifests"
	"github.com/podkeeper/podkeeper/server"
)

// Pods answers all Pods as they are now, sorted by name: those that run, and those whose manifest was refused, Pending
// with the reason.
func (a *Agent) Pods() []v1.Pod {
	var pods []v1.Pod
	known := map[types.NamespacedName]bool{}
	for _, w := range a.all() {
		if pod := w.published.Load(); pod != nil {
			pods = append(pods, a.reported(pod))
			known[w.key] = true
		}
	}
	for _, r := range a.refused() {
		if mayBePod(r) && !known[r.Of.NamespacedName] {
			known[r.Of.NamespacedName] = true
			pods = append(pods, refusedPod(r))
		}
	}
	slices.SortFunc(pods, func(x, y v1.Pod) int {
		return strings.Compare(x.Namespace+"/"+x.Name, y.Namespace+"/"+y.Name)
	})
	return pods
}

// reported adds what is the node's to a Pod. One that is held is on no node.
func (a *Agent) reported(pod *v1.Pod) v1.Pod {
	out := *pod
	out.TypeMeta = metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"}
	if !slices.ContainsFunc(pod.Status.Conditions, func(c v1.PodCondition) bool {
		return c.Type == v1.PodScheduled && c.Status == v1.ConditionFalse
	}) {
		out.Spec.NodeName = a.node.Name
	}
	return out
}

// mayBePod says whether what was refused has a name, and is a Pod as far as can be told.
func mayBePod(r manifests.Refusal) bool {
	return r.Of.Name != "" && r.Of.Covers(manifests.PodKey(r.Of.NamespacedName))
}

// refusedPod stands for a manifest that was refused and has no Pod that runs.
func refusedPod(r manifests.Refusal) v1.Pod {
	return v1.Pod{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"},
		ObjectMeta: metav1.ObjectMeta{Namespace: r.Of.Namespace, Name: r.Of.Name},
		Status:     v1.PodStatus{Phase: v1.PodPending, Reason: "InvalidManifest", Message: r.Error()},
	}
}

// refused are the faults of all sources, and the manifests of Pods that may not begin for what objects say.
func (a *Agent) refused() []manifests.Refusal {
	all := a.sources.refused()
	for _, w := range a.all() {
		if r := w.complaint.Load(); r != nil {
			all = append(all, *r)
		}
	}
	slices.SortStableFunc(all, func(x, y manifests.Refusal) int {
		return cmp.Or(cmp.Compare(x.File, y.File), cmp.Compare(x.Line, y.Line))
	})
	return all
}

// Manifests answers what was read from the manifest directory, and what of it was refused.
func (a *Agent) Manifests() server.Manifests {
	set := a.sources.directory()
	m := server.Manifests{Directory: a.cfg.Manifests.Dir, Pods: []server.ManifestPod{}, Objects: []server.ManifestObject{}, Refused: []server.Refused{}}
	if set.Err != nil {
		m.Error = set.Err.Error()
	}
	for _, p := range set.Pods {
		m.Pods = append(m.Pods, server.ManifestPod{Namespace: p.Namespace, Name: p.Name, File: p.File, Revision: p.Revision})
	}
	for _, o := range set.Objects {
		m.Objects = append(m.Objects, server.ManifestObject{Kind: o.Kind, Namespace: o.GetNamespace(), Name: o.GetName(), File: o.File})
	}
	for _, r := range a.refused() {
		m.Refused = append(m.Refused, server.Refused{
			File: r.File, Line: r.Line, Column: r.Column, Field: r.Field, Reason: r.Reason,
			Kind: r.Of.Kind, Namespace: r.Of.Namespace, Name: r.Of.Name, Kept: r.Kept,
		})
	}
	return m
}

// Events answers the latest events, the oldest first.
func (a *Agent) Events() []v1.Event { return a.events.List() }

// Stats tells what Pods and the node use.
func (a *Agent) Stats(ctx context.Context, onlyCPUAndMemory bool) (*server.Summary, error) {
	summary, window, err := a.meter.Summary(ctx, onlyCPUAndMemory)
	if err != nil {
		return nil, err
	}
	return &server.Summary{Summary: summary, Window: metav1.Duration{Duration: window}}, nil
}

// Resources tells what Pods and the node use, as series.
func (a *Agent) Resources(ctx context.Context) prometheus.Gatherer { return a.meter.Resources(ctx) }

// Containers tells what containers, Pods and the node use in more detail, as series.
func (a *Agent) Containers(ctx context.Context) prometheus.Gatherer { return a.meter.Containers(ctx) }

// Node is the node, as it is now. It has an object, with a UID, where there is an API.
func (a *Agent) Node(ctx context.Context) *v1.Node {
	self := a.roster.node().DeepCopy()
	if o, err := a.objects.Get(nodeID(a.node.Name)); err == nil {
		self.UID = uidOf(o)
	}
	self.Status = *a.heart.beat(ctx, self.UID).status
	self.TypeMeta = metav1.TypeMeta{APIVersion: "v1", Kind: manifests.KindNode}
	return self
}

// Healthy says whether the agent can do its work: containerd answers.
func (a *Agent) Healthy() error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if err := a.node.Ping(ctx); err != nil {
		return fmt.Errorf("containerd does not answer: %w", err)
	}
	return nil
}
