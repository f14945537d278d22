package admit

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"
	"k8s.io/apimachinery/pkg/types"
)

// Ledger is what is used of ResourceQuotas. The arithmetic and its words are those of the API server's admission plugin ResourceQuota
// (kubernetes/kubernetes pkg/quota/v1/evaluator/core, kubernetes/apiserver pkg/admission/plugin/resourcequota), but that what there is
// is counted at once. A nil Ledger has no quota.
type Ledger struct{ accounts map[string][]*account } // by namespace

// account is one quota.
type account struct {
	name   string
	scopes []scope
	needs  []v1.ResourceName // that each container of a Pod has to say
	names  []v1.ResourceName // of what is limited, sorted
	hard   []resource.Quantity
	used   []resource.Quantity
}

// scope is which Pods a quota is about.
type scope struct {
	v1.ScopedResourceSelectorRequirement
	classes labels.Selector // of names of PriorityClasses; nil for other scopes
}

// must are the resources that each container of a Pod has to say where a quota limits them.
var must = []v1.ResourceName{
	v1.ResourceCPU, v1.ResourceLimitsCPU, v1.ResourceLimitsMemory, v1.ResourceMemory, v1.ResourceRequestsCPU, v1.ResourceRequestsMemory,
}

// NewLedger is one of which nothing is used. Where several quotas have no room, the first by name says so.
func NewLedger(quotas []*v1.ResourceQuota) *Ledger {
	l := &Ledger{accounts: map[string][]*account{}}
	for _, q := range quotas {
		a := &account{name: q.Name, names: slices.Sorted(maps.Keys(q.Spec.Hard))}
		for _, name := range a.names {
			a.hard = append(a.hard, q.Spec.Hard[name])
			if slices.Contains(must, name) {
				a.needs = append(a.needs, name)
			}
		}
		a.used = make([]resource.Quantity, len(a.names))
		for i := range a.used {
			a.used[i].Format = resource.DecimalSI
		}
		a.scopes = scopesOf(q)
		l.accounts[q.Namespace] = append(l.accounts[q.Namespace], a)
	}
	for _, all := range l.accounts {
		slices.SortFunc(all, func(a, b *account) int { return cmp.Compare(a.name, b.name) })
	}
	return l
}

func scopesOf(q *v1.ResourceQuota) (all []scope) {
	for _, name := range q.Spec.Scopes {
		all = append(all, scope{ScopedResourceSelectorRequirement: v1.ScopedResourceSelectorRequirement{ScopeName: name, Operator: v1.ScopeSelectorOpExists}})
	}
	if q.Spec.ScopeSelector != nil {
		for _, r := range q.Spec.ScopeSelector.MatchExpressions {
			all = append(all, scope{ScopedResourceSelectorRequirement: r})
		}
	}
	ops := map[v1.ScopeSelectorOperator]selection.Operator{
		v1.ScopeSelectorOpIn: selection.In, v1.ScopeSelectorOpNotIn: selection.NotIn, v1.ScopeSelectorOpExists: selection.Exists, v1.ScopeSelectorOpDoesNotExist: selection.DoesNotExist,
	}
	for i, s := range all {
		if s.ScopeName != v1.ResourceQuotaScopePriorityClass {
			continue
		}
		all[i].classes = labels.Nothing() // where it could not be read, which validation refuses
		if r, err := labels.NewRequirement(string(s.ScopeName), ops[s.Operator], s.Values); err == nil {
			all[i].classes = labels.NewSelector().Add(*r)
		}
	}
	return all
}

// Limits says whether a namespace has a quota.
func (l *Ledger) Limits(namespace string) bool { return l != nil && len(l.accounts[namespace]) > 0 }

// Charge counts what something uses.
func (l *Ledger) Charge(u *Use) {
	if l == nil || u == nil {
		return
	}
	for _, a := range l.accounts[u.namespace] {
		if !a.concerns(u) {
			continue
		}
		for i, name := range a.names {
			if q, has := u.amounts[name]; has {
				a.used[i].Add(q)
			}
		}
	}
}

// Refuse says why something may not be, beside what is charged: "" where it may. was is the same before an edit, nil where it is new
// or edits do not count.
func (l *Ledger) Refuse(now, was *Use) string {
	if l == nil || now == nil {
		return ""
	}
	all := l.accounts[now.namespace]
	for _, a := range all {
		if lacks := now.lacks(a.needs); lacks != "" && a.concerns(now) {
			return fmt.Sprintf("failed quota: %s: must specify %s", a.name, lacks)
		}
	}
	for _, a := range all {
		if a.concerns(now) {
			if why := a.exceeded(now, was); why != "" {
				return why
			}
		}
	}
	return ""
}

// exceeded says what of a quota is too little, "" where it is enough.
func (a *account) exceeded(now, was *Use) string {
	var requested, used, hard []string
	counts := was != nil && a.concerns(was)
	for i, name := range a.names {
		more, has := now.amounts[name]
		if counts && has {
			more = more.DeepCopy()
			more.Sub(was.amounts[name])
		}
		if !has || more.Sign() <= 0 {
			continue
		}
		sum := a.used[i].DeepCopy()
		if sum.Add(more); sum.Cmp(a.hard[i]) > 0 {
			requested, used, hard = append(requested, equals(name, more)), append(used, equals(name, a.used[i])), append(hard, equals(name, a.hard[i]))
		}
	}
	if len(requested) == 0 {
		return ""
	}
	return fmt.Sprintf("exceeded quota: %s, requested: %s, used: %s, limited: %s",
		a.name, strings.Join(requested, ","), strings.Join(used, ","), strings.Join(hard, ","))
}

func equals(name v1.ResourceName, q resource.Quantity) string { return string(name) + "=" + q.String() }

// Used is what is used of a quota, for each of its limits, and 0 of what there is not.
func (l *Ledger) Used(quota types.NamespacedName) v1.ResourceList {
	used := v1.ResourceList{}
	if l == nil {
		return used
	}
	for _, a := range l.accounts[quota.Namespace] {
		for i, name := range a.names {
			if a.name == quota.Name {
				used[name] = a.used[i].DeepCopy()
			}
		}
	}
	return used
}

// concerns says whether a quota is about something. Scopes are of Pods only.
func (a *account) concerns(u *Use) bool {
	for i := range a.scopes {
		if u.pod == nil || !u.pod.in(&a.scopes[i]) {
			return false
		}
	}
	return true
}

// in says whether a Pod is in a scope.
func (p *podTraits) in(s *scope) bool {
	switch s.ScopeName {
	case v1.ResourceQuotaScopeTerminating:
		return p.terminating
	case v1.ResourceQuotaScopeNotTerminating:
		return !p.terminating
	case v1.ResourceQuotaScopeBestEffort:
		return p.bestEffort
	case v1.ResourceQuotaScopeNotBestEffort:
		return !p.bestEffort
	case v1.ResourceQuotaScopePriorityClass:
		set := labels.Set{}
		if p.class != "" {
			set[string(s.ScopeName)] = p.class
		}
		return s.classes.Matches(set)
	case v1.ResourceQuotaScopeCrossNamespacePodAffinity:
		return p.acrossNamespaces
	}
	return false
}
