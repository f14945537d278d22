package admit

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
)

// quota is one of a namespace without a name.
func quota(name, hard string, scopes ...v1.ScopedResourceSelectorRequirement) *v1.ResourceQuota {
	q := &v1.ResourceQuota{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: v1.ResourceQuotaSpec{Hard: list(hard)}}
	if len(scopes) > 0 {
		q.Spec.ScopeSelector = &v1.ScopeSelector{MatchExpressions: scopes}
	}
	return q
}

func scoped(name v1.ResourceQuotaScope, op v1.ScopeSelectorOperator, values ...string) v1.ScopedResourceSelectorRequirement {
	return v1.ScopedResourceSelectorRequirement{ScopeName: name, Operator: op, Values: values}
}

// said is a list as a message has it.
func said(l v1.ResourceList) string {
	var all []string
	for _, name := range slices.Sorted(maps.Keys(l)) {
		all = append(all, equals(name, l[name]))
	}
	return strings.Join(all, " ")
}

func TestUses(t *testing.T) {
	t.Parallel()
	pod := func(change func(*v1.Pod)) *v1.Pod {
		p := &v1.Pod{Spec: v1.PodSpec{Containers: []v1.Container{limited("app", "cpu=500m memory=1Gi", "cpu=1")}}}
		p.Namespace = "shop"
		change(p)
		return p
	}
	claim := func(change func(*v1.PersistentVolumeClaim)) *v1.PersistentVolumeClaim {
		c := &v1.PersistentVolumeClaim{Spec: v1.PersistentVolumeClaimSpec{Resources: v1.VolumeResourceRequirements{Requests: list("storage=1500m")}}}
		c.Namespace = "shop"
		change(c)
		return c
	}
	service := func(of v1.ServiceType, change func(*v1.Service)) *v1.Service {
		s := &v1.Service{Spec: v1.ServiceSpec{Type: of, Ports: []v1.ServicePort{{Port: 80}, {Port: 443, NodePort: 30443}}}}
		s.Namespace = "shop"
		change(s)
		return s
	}
	in := metav1.ObjectMeta{Namespace: "shop"}
	const compute = "count/pods=1 cpu=500m limits.cpu=1 memory=1Gi pods=1 requests.cpu=500m requests.memory=1Gi"
	for sentence, r := range map[string]struct {
		resource string
		of       metav1.Object
		want     string
	}{
		"a Pod is counted by all its names":  {"pods", pod(func(*v1.Pod) {}), compute},
		"one that has ended is only counted": {"pods", pod(func(p *v1.Pod) { p.Status.Phase = v1.PodSucceeded }), "count/pods=1"},
		"or has failed":                      {"pods", pod(func(p *v1.Pod) { p.Status.Phase = v1.PodFailed }), "count/pods=1"},
		"init containers as for the node":    {"pods", pod(func(p *v1.Pod) { p.Spec.InitContainers = []v1.Container{limited("init", "cpu=2", "")} }), strings.ReplaceAll(compute, "cpu=500m", "cpu=2")},
		"overhead counts":                    {"pods", pod(func(p *v1.Pod) { p.Spec.Overhead = list("cpu=100m") }), strings.Replace(strings.ReplaceAll(compute, "cpu=500m", "cpu=600m"), "limits.cpu=1", "limits.cpu=1100m", 1)},
		"huge pages, disk and devices": {"pods", pod(func(p *v1.Pod) {
			p.Spec.Containers = []v1.Container{limited("app", "hugepages-2Mi=4Mi ephemeral-storage=1Gi example.com/gpu=2", "hugepages-2Mi=4Mi ephemeral-storage=2Gi example.com/gpu=2")}
		}), "count/pods=1 ephemeral-storage=1Gi hugepages-2Mi=4Mi limits.ephemeral-storage=2Gi pods=1 requests.ephemeral-storage=1Gi requests.example.com/gpu=2 requests.hugepages-2Mi=4Mi"},
		"a ConfigMap has two names":             {"configmaps", &v1.ConfigMap{ObjectMeta: in}, "configmaps=1 count/configmaps=1"},
		"a quota, too":                          {"resourcequotas", &v1.ResourceQuota{ObjectMeta: in}, "count/resourcequotas=1 resourcequotas=1"},
		"others have one":                       {"leases.coordination.k8s.io", &v1.ServiceAccount{ObjectMeta: in}, "count/leases.coordination.k8s.io=1"},
		"events are not counted":                {"events", &v1.Event{ObjectMeta: in}, ""},
		"nor is what is in no namespace":        {"nodes", &v1.Node{}, ""},
		"a Service":                             {"services", service(v1.ServiceTypeClusterIP, func(*v1.Service) {}), "count/services=1 services=1 services.nodeports=0"},
		"a Service on ports of nodes":           {"services", service(v1.ServiceTypeNodePort, func(*v1.Service) {}), "count/services=1 services=1 services.nodeports=2"},
		"a load balancer":                       {"services", service(v1.ServiceTypeLoadBalancer, func(*v1.Service) {}), "count/services=1 services=1 services.loadbalancers=1 services.nodeports=2"},
		"a load balancer that wants no ports":   {"services", service(v1.ServiceTypeLoadBalancer, func(s *v1.Service) { s.Spec.AllocateLoadBalancerNodePorts = ptr.To(false) }), "count/services=1 services=1 services.loadbalancers=1 services.nodeports=1"},
		"a claim, whose size is in whole bytes": {"persistentvolumeclaims", claim(func(*v1.PersistentVolumeClaim) {}), "count/persistentvolumeclaims=1 persistentvolumeclaims=1 requests.storage=2"},
		"a claim of a class":                    {"persistentvolumeclaims", claim(func(c *v1.PersistentVolumeClaim) { c.Spec.StorageClassName = ptr.To("gold") }), "count/persistentvolumeclaims=1 gold.storageclass.storage.k8s.io/persistentvolumeclaims=1 gold.storageclass.storage.k8s.io/requests.storage=2 persistentvolumeclaims=1 requests.storage=2"},
		"a claim of a class by its older annotation": {"persistentvolumeclaims", claim(func(c *v1.PersistentVolumeClaim) {
			c.Annotations = map[string]string{v1.BetaStorageClassAnnotation: "b"}
			c.Spec.Resources.Requests = nil
		}), "b.storageclass.storage.k8s.io/persistentvolumeclaims=1 count/persistentvolumeclaims=1 persistentvolumeclaims=1"},
	} {
		t.Run(sentence, func(t *testing.T) {
			t.Parallel()
			got := ""
			if use := UseOf(r.resource, r.of); use != nil {
				got = said(use.amounts)
			}
			if got != r.want {
				t.Errorf("got  %s\nwant %s", got, r.want)
			}
		})
	}
}

func TestQuotas(t *testing.T) {
	t.Parallel()
	pod := func(requests, limits string, change ...func(*v1.Pod)) *v1.Pod {
		p := &v1.Pod{Spec: v1.PodSpec{Containers: []v1.Container{limited("app", requests, limits)}}}
		for _, do := range change {
			do(p)
		}
		return p
	}
	classed := func(name string) func(*v1.Pod) { return func(p *v1.Pod) { p.Spec.PriorityClassName = name } }
	ended := func(p *v1.Pod) { p.Status.Phase = v1.PodFailed }
	short := func(p *v1.Pod) { p.Spec.ActiveDeadlineSeconds = ptr.To(int64(1)) }
	second := func(p *v1.Pod) {
		p.Spec.Containers = append(p.Spec.Containers, limited("log", "", ""))
		p.Spec.InitContainers = []v1.Container{limited("init", "cpu=1", "")}
	}
	near := func(p *v1.Pod) {
		p.Spec.Affinity = &v1.Affinity{PodAntiAffinity: &v1.PodAntiAffinity{PreferredDuringSchedulingIgnoredDuringExecution: []v1.WeightedPodAffinityTerm{
			{PodAffinityTerm: v1.PodAffinityTerm{Namespaces: []string{"other"}}},
		}}}
	}
	elsewhere := func(p *v1.Pod) { p.Namespace = "elsewhere" }
	both := func(q *v1.ResourceQuota, scopes ...v1.ResourceQuotaScope) *v1.ResourceQuota {
		q.Spec.Scopes = scopes
		return q
	}
	const class = v1.ResourceQuotaScopePriorityClass
	for sentence, r := range map[string]struct {
		quotas []*v1.ResourceQuota
		there  []*v1.Pod
		pod    *v1.Pod
		want   string
	}{
		"no quota, no limit":              {nil, nil, pod("cpu=100", ""), ""},
		"what is left":                    {[]*v1.ResourceQuota{quota("q", "cpu=2")}, []*v1.Pod{pod("cpu=1", "")}, pod("cpu=1", ""), ""},
		"more than that":                  {[]*v1.ResourceQuota{quota("q", "cpu=2")}, []*v1.Pod{pod("cpu=1", "")}, pod("cpu=2", ""), "exceeded quota: q, requested: cpu=2, used: cpu=1, limited: cpu=2"},
		"each in the form it was written": {[]*v1.ResourceQuota{quota("q", "requests.memory=2Gi limits.memory=2000M")}, []*v1.Pod{pod("memory=1536Mi", "memory=1G"), pod("memory=256Mi", "memory=256Mi")}, pod("memory=512Mi", "memory=1G"), "exceeded quota: q, requested: limits.memory=1G,requests.memory=512Mi, used: limits.memory=1268435456,requests.memory=1792Mi, limited: limits.memory=2G,requests.memory=2Gi"},
		"only what is too much is told":   {[]*v1.ResourceQuota{quota("q", "pods=1 cpu=9")}, []*v1.Pod{pod("cpu=1", "")}, pod("cpu=1", ""), "exceeded quota: q, requested: pods=1, used: pods=1, limited: pods=1"},
		"none of it":                      {[]*v1.ResourceQuota{quota("q", "pods=0")}, nil, pod("", ""), "exceeded quota: q, requested: pods=1, used: pods=0, limited: pods=0"},
		"who has ended leaves room":       {[]*v1.ResourceQuota{quota("q", "pods=1")}, []*v1.Pod{pod("", "", ended)}, pod("", ""), ""},
		"but is there":                    {[]*v1.ResourceQuota{quota("q", "count/pods=1")}, []*v1.Pod{pod("", "", ended)}, pod("", ""), "exceeded quota: q, requested: count/pods=1, used: count/pods=1, limited: count/pods=1"},
		"who asks for nothing is not concerned by a quota that is exceeded": {[]*v1.ResourceQuota{quota("q", "requests.ephemeral-storage=1Gi")}, []*v1.Pod{pod("ephemeral-storage=2Gi", "")}, pod("", ""), ""},
		"the first by name":              {[]*v1.ResourceQuota{quota("z", "pods=0"), quota("a", "cpu=1")}, nil, pod("cpu=2", ""), "exceeded quota: a, requested: cpu=2, used: cpu=0, limited: cpu=1"},
		"all quotas have to hold":        {[]*v1.ResourceQuota{quota("a", "cpu=9"), quota("z", "pods=0")}, nil, pod("cpu=2", ""), "exceeded quota: z, requested: pods=1, used: pods=0, limited: pods=0"},
		"another namespace has its own":  {[]*v1.ResourceQuota{quota("q", "pods=0")}, nil, pod("", "", elsewhere), ""},
		"and does not count":             {[]*v1.ResourceQuota{quota("q", "pods=1")}, []*v1.Pod{pod("", "", elsewhere)}, pod("", ""), ""},
		"every container has to say so":  {[]*v1.ResourceQuota{quota("q", "requests.cpu=9 limits.memory=1Gi")}, nil, pod("cpu=1", "memory=1Mi", second), "failed quota: q: must specify limits.memory for: init,log; requests.cpu for: log"},
		"what is not limited need not":   {[]*v1.ResourceQuota{quota("q", "pods=9 requests.ephemeral-storage=1Gi")}, nil, pod("", "", second), ""},
		"or the Pod as a whole says it":  {[]*v1.ResourceQuota{quota("q", "cpu=9")}, nil, pod("", "", func(p *v1.Pod) { p.Spec.Resources = &v1.ResourceRequirements{Requests: list("cpu=1")} }), ""},
		"and that counts":                {[]*v1.ResourceQuota{quota("q", "cpu=1")}, nil, pod("", "", func(p *v1.Pod) { p.Spec.Resources = &v1.ResourceRequirements{Requests: list("cpu=2")} }), "exceeded quota: q, requested: cpu=2, used: cpu=0, limited: cpu=1"},
		"huge pages and devices":         {[]*v1.ResourceQuota{quota("q", "hugepages-2Mi=2Mi requests.example.com/gpu=1")}, nil, pod("hugepages-2Mi=4Mi example.com/gpu=2", ""), "exceeded quota: q, requested: hugepages-2Mi=4Mi,requests.example.com/gpu=2, used: hugepages-2Mi=0,requests.example.com/gpu=0, limited: hugepages-2Mi=2Mi,requests.example.com/gpu=1"},
		"what is no Pod's does not care": {[]*v1.ResourceQuota{quota("q", "services=0 count/deployments.apps=0 requests.storage=0")}, nil, pod("", ""), ""},

		"best effort":                      {[]*v1.ResourceQuota{both(quota("q", "pods=0"), v1.ResourceQuotaScopeBestEffort)}, nil, pod("", ""), "exceeded quota: q, requested: pods=1, used: pods=0, limited: pods=0"},
		"who asks for something is not":    {[]*v1.ResourceQuota{both(quota("q", "pods=0"), v1.ResourceQuotaScopeBestEffort)}, nil, pod("cpu=1", ""), ""},
		"and does not count there":         {[]*v1.ResourceQuota{both(quota("q", "pods=1"), v1.ResourceQuotaScopeBestEffort)}, []*v1.Pod{pod("cpu=1", "")}, pod("", ""), ""},
		"not best effort":                  {[]*v1.ResourceQuota{both(quota("q", "pods=0"), v1.ResourceQuotaScopeNotBestEffort)}, nil, pod("cpu=1", ""), "exceeded quota: q, requested: pods=1, used: pods=0, limited: pods=0"},
		"terminating":                      {[]*v1.ResourceQuota{both(quota("q", "pods=0"), v1.ResourceQuotaScopeTerminating)}, nil, pod("", "", short), "exceeded quota: q, requested: pods=1, used: pods=0, limited: pods=0"},
		"not terminating":                  {[]*v1.ResourceQuota{both(quota("q", "pods=0"), v1.ResourceQuotaScopeNotTerminating)}, nil, pod("", "", short), ""},
		"all scopes have to hold":          {[]*v1.ResourceQuota{both(quota("q", "pods=0"), v1.ResourceQuotaScopeTerminating, v1.ResourceQuotaScopeBestEffort)}, nil, pod("cpu=1", "", short), ""},
		"affinity to other namespaces":     {[]*v1.ResourceQuota{both(quota("q", "pods=0"), v1.ResourceQuotaScopeCrossNamespacePodAffinity)}, nil, pod("", "", near), "exceeded quota: q, requested: pods=1, used: pods=0, limited: pods=0"},
		"or none":                          {[]*v1.ResourceQuota{both(quota("q", "pods=0"), v1.ResourceQuotaScopeCrossNamespacePodAffinity)}, nil, pod("", ""), ""},
		"a class that is named":            {[]*v1.ResourceQuota{quota("q", "pods=0", scoped(class, v1.ScopeSelectorOpIn, "high", "low"))}, nil, pod("", "", classed("low")), "exceeded quota: q, requested: pods=1, used: pods=0, limited: pods=0"},
		"a class that is not":              {[]*v1.ResourceQuota{quota("q", "pods=0", scoped(class, v1.ScopeSelectorOpIn, "high"))}, nil, pod("", "", classed("low")), ""},
		"a class that must not be":         {[]*v1.ResourceQuota{quota("q", "pods=0", scoped(class, v1.ScopeSelectorOpNotIn, "high"))}, nil, pod("", "", classed("high")), ""},
		"no class is not among them":       {[]*v1.ResourceQuota{quota("q", "pods=0", scoped(class, v1.ScopeSelectorOpNotIn, "high"))}, nil, pod("", ""), "exceeded quota: q, requested: pods=1, used: pods=0, limited: pods=0"},
		"any class":                        {[]*v1.ResourceQuota{quota("q", "pods=0", scoped(class, v1.ScopeSelectorOpExists))}, nil, pod("", "", classed("low")), "exceeded quota: q, requested: pods=1, used: pods=0, limited: pods=0"},
		"any class, and none is there":     {[]*v1.ResourceQuota{both(quota("q", "pods=0"), class)}, nil, pod("", ""), ""},
		"no class":                         {[]*v1.ResourceQuota{quota("q", "pods=0", scoped(class, v1.ScopeSelectorOpDoesNotExist))}, nil, pod("", ""), "exceeded quota: q, requested: pods=1, used: pods=0, limited: pods=0"},
		"no class, and one is there":       {[]*v1.ResourceQuota{quota("q", "pods=0", scoped(class, v1.ScopeSelectorOpDoesNotExist))}, nil, pod("", "", classed("low")), ""},
		"a scope of claims is of no Pod":   {[]*v1.ResourceQuota{both(quota("q", "pods=0"), v1.ResourceQuotaScopeVolumeAttributesClass)}, nil, pod("", ""), ""},
		"what a quota of a scope wants of": {[]*v1.ResourceQuota{both(quota("q", "cpu=1"), v1.ResourceQuotaScopeTerminating)}, nil, pod("", ""), ""},
	} {
		t.Run(sentence, func(t *testing.T) {
			t.Parallel()
			l := NewLedger(r.quotas)
			for _, p := range r.there {
				l.Charge(UseOfPod(p, p.Spec.PriorityClassName))
			}
			if got := l.Refuse(UseOfPod(r.pod, r.pod.Spec.PriorityClassName), nil); got != r.want {
				t.Errorf("got  %s\nwant %s", got, r.want)
			}
		})
	}
}

func TestAnEditCountsForItsDifference(t *testing.T) {
	t.Parallel()
	claim := func(size string) *Use {
		return UseOf("persistentvolumeclaims", &v1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "shop"}, Spec: v1.PersistentVolumeClaimSpec{Resources: v1.VolumeResourceRequirements{Requests: list("storage=" + size)}}})
	}
	q := quota("q", "requests.storage=3Gi persistentvolumeclaims=1")
	q.Namespace = "shop"
	l := NewLedger([]*v1.ResourceQuota{q})
	l.Charge(claim("2Gi"))
	for to, want := range map[string]string{
		"3Gi": "", "1Gi": "", "2Gi": "",
		"4Gi": "exceeded quota: q, requested: requests.storage=2Gi, used: requests.storage=2Gi, limited: requests.storage=3Gi",
	} {
		if got := l.Refuse(claim(to), claim("2Gi")); got != want {
			t.Errorf("2Gi to %s: %q, want %q", to, got, want)
		}
	}
	if got := l.Refuse(claim("1Gi"), nil); got != "exceeded quota: q, requested: persistentvolumeclaims=1, used: persistentvolumeclaims=1, limited: persistentvolumeclaims=1" {
		t.Errorf("another claim: %q", got)
	}
	pods := quota("q", "pods=0", scoped(v1.ResourceQuotaScopeTerminating, v1.ScopeSelectorOpExists))
	of := func(seconds *int64) *Use {
		return UseOfPod(&v1.Pod{Spec: v1.PodSpec{ActiveDeadlineSeconds: seconds}}, "")
	}
	if got := NewLedger([]*v1.ResourceQuota{pods}).Refuse(of(ptr.To(int64(1))), of(nil)); got != "exceeded quota: q, requested: pods=1, used: pods=0, limited: pods=0" {
		t.Errorf("who gets into a scope: %q", got)
	}
}

func TestUsed(t *testing.T) {
	t.Parallel()
	q := quota("q", "pods=5 limits.cpu=3 count/deployments.apps=1 secrets=9 requests.nvidia.com/gpu=1")
	l := NewLedger([]*v1.ResourceQuota{q, quota("other", "pods=1")})
	for range 2 {
		l.Charge(UseOfPod(&v1.Pod{Spec: v1.PodSpec{Containers: []v1.Container{limited("app", "", "cpu=500m")}}}, ""))
	}
	secret := &v1.Secret{}
	secret.Namespace = "elsewhere"
	l.Charge(UseOf("secrets", secret))
	if got, want := said(l.Used(types.NamespacedName{Name: "q"})), "count/deployments.apps=0 limits.cpu=1 pods=2 requests.nvidia.com/gpu=0 secrets=0"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got := said((*Ledger)(nil).Used(types.NamespacedName{Name: "q"})); got != "" {
		t.Errorf("of none there is %s", got)
	}
}

func TestRoundHeedsQuotas(t *testing.T) {
	t.Parallel()
	pod := func(name string, priority int32, cpu string) Candidate {
		p := &v1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: v1.PodSpec{Priority: &priority, Containers: []v1.Container{container("cpu=" + cpu)}}}
		c := NewCandidate(p, time.Time{})
		c.Uses = UseOfPod(p, "")
		return c
	}
	charged := pod("a", 9, "2")
	charged.Uses = nil
	for sentence, r := range map[string]struct {
		pods []Candidate
		want string
	}{
		"the higher priority goes first":                {[]Candidate{pod("a", 0, "2"), pod("b", 1, "2")}, "a exceeded quota: q, requested: cpu=2, used: cpu=2, limited: cpu=3; b"},
		"who exceeds a quota keeps no room on the node": {[]Candidate{pod("a", 9, "4"), pod("b", 0, "3")}, "a exceeded quota: q, requested: cpu=4, used: cpu=0, limited: cpu=3; b"},
		"who has no room on the node keeps no quota":    {[]Candidate{charged, pod("b", 5, "3"), pod("c", 0, "2")}, "a; b node 1 Insufficient cpu. Of cpu it asks for 3, and 2 of 4 are taken; c"},
		"who was charged before is not charged again":   {[]Candidate{charged, pod("b", 0, "2")}, "a; b"},
	} {
		t.Run(sentence, func(t *testing.T) {
			t.Parallel()
			refused := Round(amounts("cpu=4 pods=9"), amounts(""), NewLedger([]*v1.ResourceQuota{quota("q", "cpu=3")}), r.pods)
			var got []string
			for _, name := range []string{"a", "b", "c"} {
				r, asked := refused[types.NamespacedName{Name: name}]
				if !asked {
					continue
				}
				if r.Why != "" && !r.Quota {
					name += " node"
				}
				got = append(got, strings.TrimSpace(name+" "+r.Why))
			}
			if text := strings.Join(got, "; "); text != r.want {
				t.Errorf("got  %s\nwant %s", text, r.want)
			}
		})
	}
}

// BenchmarkRoundWithQuotas is BenchmarkRound where 20 LimitRanges and 20 quotas are about every Pod. What a Pod is given, and uses, is
// worked out once for as long as it and the objects are the same: a round is the second one.
func BenchmarkRoundWithQuotas(b *testing.B) {
	var pods []*v1.Pod
	for i := range 500 {
		pods = append(pods, &v1.Pod{
			ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("pod-%d", i)},
			Spec:       v1.PodSpec{Priority: ptr.To(int32(i % 7)), Containers: []v1.Container{limited("app", "cpu=100m memory=64Mi", "cpu=1"), limited("log", "cpu=10m memory=8Mi", "cpu=1")}},
		})
	}
	var ranges []*v1.LimitRange
	var quotas []*v1.ResourceQuota
	for i := range 20 {
		ranges = append(ranges, rangeOf(fmt.Sprint(i), v1.LimitRangeItem{Type: v1.LimitTypeContainer, Max: list("cpu=2 memory=2Gi"), DefaultRequest: list("cpu=1m"), Default: list("memory=1Gi")}))
		quotas = append(quotas, quota(fmt.Sprint(i), "pods=400 requests.cpu=100 limits.memory=2Ti"))
	}
	has := amounts("cpu=27500m memory=1Ti pods=1000")
	limits := NewLimits(ranges)
	b.Run("what Pods are given", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			for _, pod := range pods {
				if err := limits.Check(limits.Fill(pod)); err != nil {
					b.Fatal(err)
				}
			}
		}
	})
	var candidates []Candidate
	for _, pod := range pods {
		c := NewCandidate(pod, time.Time{})
		c.Uses = UseOfPod(limits.Fill(pod), "")
		candidates = append(candidates, c)
	}
	b.Run("a round", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if refused := Round(has, Amounts{}, NewLedger(quotas), slices.Clone(candidates)); len(refused) != 500 {
				b.Fatal(len(refused))
			}
		}
	})
	b.Run("all of it anew", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			limits, candidates := NewLimits(ranges), make([]Candidate, 0, len(pods))
			for _, pod := range pods {
				filled := limits.Fill(pod)
				if err := limits.Check(filled); err != nil {
					b.Fatal(err)
				}
				c := NewCandidate(filled, time.Time{})
				c.Uses = UseOfPod(filled, "")
				candidates = append(candidates, c)
			}
			if refused := Round(has, Amounts{}, NewLedger(quotas), candidates); len(refused) != 500 {
				b.Fatal(len(refused))
			}
		}
	})
}
