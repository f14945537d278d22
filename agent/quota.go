package agent

import (
	"cmp"
	"errors"
	"maps"
	"slices"
	"strings"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	"github.com/podkeeper/podkeeper/agent/admit"
	"github.com/podkeeper/podkeeper/agent/objects"
	"github.com/podkeeper/podkeeper/manifests"
)

// noQuota is the reason of Pods that a quota has too little for: the name of the API server's admission plugin.
const noQuota = "ResourceQuota"

// counted is what there is of quotas, and of objects that they count.
type counted struct {
	quotas  []*v1.ResourceQuota
	objects map[manifests.Key]metav1.Object // in their namespaces; Pods are not among them
	class   string                          // that Pods have which name none
}

// counted is that of all sources.
func (s *sources) counted() counted {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := s.objects()
	var c counted
	limited := map[string]bool{}
	for _, o := range all {
		if q, is := o.Object.(*v1.ResourceQuota); is {
			c.quotas = append(c.quotas, q)
			limited[q.Namespace] = true
		}
	}
	if len(c.quotas) == 0 {
		return c
	}
	c.objects, c.class = map[manifests.Key]metav1.Object{}, s.policyNow().class()
	for key, o := range all {
		if limited[key.Namespace] {
			c.objects[key] = o.Object
		}
	}
	return c
}

// class is the name of the PriorityClass that Pods have which name none.
func (p *policy) class() string {
	var pod v1.Pod
	if err := manifests.Prioritise(&pod, p.priorities); err != nil {
		return ""
	}
	return pod.Spec.PriorityClassName
}

// books are what a roster knows of quotas. A Pod of a manifest uses what it asks for from its beginning on, one of an API from when
// it is made, and each until it has ended; what else there is uses them always.
type books struct {
	counted
	fixed    []*admit.Use                     // of objects
	pods     map[types.NamespacedName]*v1.Pod // of an API
	promised map[objects.ID]*admit.Use        // what is being made through an API
	uses     map[*v1.Pod]*admit.Use           // of Pods as they were looked at last
}

// count takes over what there is, and says whether quotas have more or less room than before.
func (r *roster) count(c counted, wishes map[types.NamespacedName]*Wish) (changed bool) {
	before := r.books.pods
	r.books.pods = map[types.NamespacedName]*v1.Pod{}
	for key, wish := range wishes {
		if wish.Source == SourceAPI {
			r.books.pods[key] = wish.Pod.Pod
		}
	}
	if len(c.quotas) == len(r.books.quotas) && maps.Equal(c.objects, r.books.objects) && c.class == r.books.class { // quotas are among the objects
		return len(c.quotas) > 0 && !maps.Equal(before, r.books.pods)
	}
	r.books.counted, r.books.fixed, r.books.uses = c, nil, nil
	for key, o := range c.objects {
		r.books.fixed = append(r.books.fixed, admit.UseOf(manifests.ResourceOf(key.Kind), o))
	}
	return true
}

// useOf is what a Pod uses of quotas, nil where there are none.
func (r *roster) useOf(pod *v1.Pod) *admit.Use {
	if len(r.books.quotas) == 0 {
		return nil
	}
	use := r.books.uses[pod]
	if use == nil {
		use = admit.UseOfPod(pod, cmp.Or(pod.Spec.PriorityClassName, r.books.class))
		if r.books.uses == nil {
			r.books.uses = map[*v1.Pod]*admit.Use{}
		}
		r.books.uses[pod] = use
	}
	return use
}

// ledger is what is used of quotas now, nil where there are none.
func (r *roster) ledger() *admit.Ledger {
	if len(r.books.quotas) == 0 {
		return nil
	}
	l := admit.NewLedger(r.books.quotas)
	for _, use := range r.books.fixed {
		l.Charge(use)
	}
	before := r.books.uses
	r.books.uses = map[*v1.Pod]*admit.Use{}
	charge := func(key types.NamespacedName, pod *v1.Pod) {
		if use := before[pod]; use != nil {
			r.books.uses[pod] = use
		}
		use := r.useOf(pod)
		if w := r.workers[key]; w != nil {
			if now := w.published.Load(); now != nil && now.UID == pod.UID && isTerminal(now.Status.Phase) {
				use = use.Ended()
			}
		}
		l.Charge(use)
	}
	for key, place := range r.placed {
		pod := place.pod
		if own := r.books.pods[key]; own != nil && own.UID == pod.UID {
			pod = own // it counts as it is wanted
		}
		charge(key, pod)
	}
	for key, pod := range r.books.pods {
		if _, placed := r.placed[key]; !placed {
			charge(key, pod)
		}
	}
	for key, w := range r.workers { // those of manifests that were evicted
		now := w.published.Load()
		_, placed := r.placed[key]
		if now != nil && isTerminal(now.Status.Phase) && !placed && r.books.pods[key] == nil && r.queue.waiting[key] == nil {
			l.Charge(r.useOf(now).Ended())
		}
	}
	for id, use := range r.books.promised {
		kind, _ := manifests.KindOf(id.Resource)
		if r.books.pods[id.NamespacedName] == nil && r.books.objects[manifests.Key{Kind: kind, NamespacedName: id.NamespacedName}] == nil {
			l.Charge(use)
		}
	}
	return l
}

// countsAnew says whether an edit may use more of quotas than what was before.
func countsAnew(now, was metav1.Object) bool {
	switch o := now.(type) {
	case *v1.PersistentVolumeClaim, *v1.Service:
		return true
	case *v1.Pod: // it may be in another scope, or resized
		before := was.(*v1.Pod)
		return (o.Spec.ActiveDeadlineSeconds == nil) != (before.Spec.ActiveDeadlineSeconds == nil) || isResized(o, before)
	}
	return false
}

// isResized says whether two versions of a Pod ask for different resources.
func isResized(now, was *v1.Pod) bool {
	return !manifests.ResourcesOf(now).Equal(manifests.ResourcesOf(was))
}

// overQuota says which quotas have no room for a Pod that is there to be another version of itself, "" where all have. That of an API
// was judged when it was written.
func (r *roster) overQuota(key types.NamespacedName, pod, was *v1.Pod) string {
	if len(r.books.quotas) == 0 || !isResized(pod, was) || r.books.pods[key] != nil {
		return ""
	}
	return r.ledger().Refuse(r.useOf(pod), r.useOf(was))
}

// promise says why quotas have no room for an object that is made or edited through an API. Where they have, it counts at once, if it
// is to be kept. was is the object before, nil for a new one.
func (r *roster) promise(id objects.ID, now, was metav1.Object, keep bool) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.books.quotas) == 0 {
		return nil
	}
	use := func(o metav1.Object) *admit.Use {
		if o == nil {
			return nil
		}
		return admit.UseOf(id.Resource, o)
	}
	after := use(now)
	if why := r.ledger().Refuse(after, use(was)); why != "" {
		return errors.New(why)
	}
	if keep && was == nil {
		if r.books.promised == nil {
			r.books.promised = map[objects.ID]*admit.Use{}
		}
		r.books.promised[id] = after
	}
	return nil
}

// hasQuota says whether there is a quota for objects of a namespace.
func (r *roster) hasQuota(namespace string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.ContainsFunc(r.books.quotas, func(q *v1.ResourceQuota) bool { return q.Namespace == namespace })
}

// fulfil says that an object that was promised room is there, or is not to be.
func (r *roster) fulfil(id objects.ID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.books.promised, id)
}

// quotaResource is what quotas are called in paths.
const quotaResource = "resourcequotas"

// seeQuotas adds to the quotas that there are their status: what they allow, and what is used of it.
func (a *Agent) seeQuotas(seen map[objects.ID]sighting) {
	var ledger *admit.Ledger
	for id, s := range seen {
		if id.Resource != quotaResource {
			continue
		}
		if ledger == nil {
			ledger = a.ledgerNow()
		}
		used := ledger.Used(id.NamespacedName)
		var mark []string
		for _, name := range slices.Sorted(maps.Keys(used)) {
			q := used[name]
			mark = append(mark, string(name)+"="+q.String())
		}
		seen[id] = sighting{[2]any{s.mark, strings.Join(mark, ",")}, func() (map[string]any, error) { return usedQuota(s, used) }, s.kept}
	}
}

// ledgerNow is what is used of quotas now.
func (r *roster) ledgerNow() *admit.Ledger {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.ledger()
}

// usedQuota is a quota with its status.
func usedQuota(quota sighting, used v1.ResourceList) (map[string]any, error) {
	var of v1.ResourceQuota
	fields, err := readSighting(quota, &of)
	if err != nil {
		return nil, err
	}
	fields["status"], err = runtime.DefaultUnstructuredConverter.ToUnstructured(&v1.ResourceQuotaStatus{Hard: of.Spec.Hard, Used: used})
	return fields, err
}
