package agent

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	"github.com/podkeeper/podkeeper/agent/objects"
	"github.com/podkeeper/podkeeper/manifests"
	"github.com/podkeeper/podkeeper/server"
)

// quotaOf is a quota of namespace default, of one resource.
func quotaOf(name v1.ResourceName, hard string, scopes ...v1.ScopedResourceSelectorRequirement) counted {
	q := &v1.ResourceQuota{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "q"}, Spec: v1.ResourceQuotaSpec{Hard: v1.ResourceList{name: resource.MustParse(hard)}}}
	if len(scopes) > 0 {
		q.Spec.ScopeSelector = &v1.ScopeSelector{MatchExpressions: scopes}
	}
	key := manifests.Key{Kind: manifests.KindResourceQuota, NamespacedName: types.NamespacedName{Namespace: "default", Name: "q"}}
	return counted{quotas: []*v1.ResourceQuota{q}, objects: map[manifests.Key]metav1.Object{key: q}}
}

// give hands wishes to workers under quotas.
func (a *agency) give(c counted, workers []*worker, wishes ...*Wish) {
	all := map[types.NamespacedName]*Wish{}
	for _, wish := range wishes {
		all[key(wish.Pod.Pod)] = wish
	}
	a.roster.expect(all, c, time.Now())
	for _, w := range workers {
		w.want(all[w.key])
	}
}

func ofAPI(wish *Wish) *Wish {
	wish.Source, wish.Pod.UID = SourceAPI, types.UID("uid-of-"+wish.Pod.Name)
	return wish
}

// TestAPodWaitsForItsQuota has one wait until there is room, and those that run be left alone whatever the quota is.
func TestAPodWaitsForItsQuota(t *testing.T) {
	inBubble(t, func(a *agency) {
		second, third := a.another("second"), a.another("third")
		once := func(p *v1.Pod) { p.Spec.RestartPolicy = v1.RestartPolicyNever }
		first, wants, more := a.asking("web", "1500m", once), a.asking("second", "1"), a.asking("third", "1")
		for _, wish := range []*Wish{wants, more} {
			wish.Pod.Spec.Containers[0].Name = "other"
		}
		two := quotaOf(v1.ResourceRequestsCPU, "2")
		a.give(two, []*worker{a.w}, first)
		a.pass(1)
		a.give(two, []*worker{a.w, second}, first, wants)
		a.pass(2)
		if c := scheduled(second); c.Reason != noQuota || c.Message != "exceeded quota: q, requested: requests.cpu=1, used: requests.cpu=1500m, limited: requests.cpu=2" {
			t.Errorf("beside one that has the most: %+v", c)
		}
		a.give(quotaOf(v1.ResourceRequestsCPU, "3"), []*worker{a.w, second}, first, wants)
		a.pass(3)
		if !begun(a.w) || !begun(second) {
			t.Errorf("under a larger quota: %+v", scheduled(second))
		}
		a.give(quotaOf(v1.ResourceRequestsCPU, "1"), []*worker{a.w, second, third}, first, wants, more)
		a.pass(4)
		if c := scheduled(third); !begun(a.w) || !begun(second) || c.Message != "exceeded quota: q, requested: requests.cpu=1, used: requests.cpu=2500m, limited: requests.cpu=1" {
			t.Errorf("under a smaller one: %+v", c)
		}
		a.give(two, []*worker{a.w, second, third}, first, wants, more)
		a.pass(5)
		if begun(third) {
			t.Error("a third one began")
		}
		a.host.exit("app", 0)
		a.pass(6)
		if !begun(third) {
			t.Errorf("after one has ended: %+v", scheduled(third))
		}
		a.give(counted{}, []*worker{a.w, second, third}, first, wants, more)
		a.pass(7)
		a.give(quotaOf(v1.ResourcePods, "0"), []*worker{a.w, second, third}, first, wants, more)
		a.pass(8)
		if !begun(second) || !begun(third) {
			t.Error("a quota has ended what ran")
		}
	})
}

func TestAPodOfAnAPICountsAsItWaits(t *testing.T) {
	inBubble(t, func(a *agency) {
		a.room("2")
		own := a.another("own")
		kept := ofAPI(a.asking("web", "3"))
		mine := a.asking("own", "1")
		c := quotaOf(v1.ResourceRequestsCPU, "3")
		a.give(c, []*worker{a.w, own}, kept, mine)
		a.pass(1)
		if c := scheduled(a.w); c.Reason != v1.PodReasonUnschedulable {
			t.Errorf("that of the API waits for its quota, too: %+v", c)
		}
		if c := scheduled(own); c.Message != "exceeded quota: q, requested: requests.cpu=1, used: requests.cpu=3, limited: requests.cpu=3" {
			t.Errorf("that of a manifest: %+v", c)
		}
		a.give(c, []*worker{a.w, own}, mine)
		a.pass(2)
		if !begun(own) {
			t.Errorf("after the other one was removed: %+v", scheduled(own))
		}
	})
}

func TestAQuotaOfAClassKnowsTheDefaultOne(t *testing.T) {
	inBubble(t, func(a *agency) {
		c := quotaOf(v1.ResourcePods, "0", v1.ScopedResourceSelectorRequirement{ScopeName: v1.ResourceQuotaScopePriorityClass, Operator: v1.ScopeSelectorOpIn, Values: []string{"usual"}})
		a.give(c, []*worker{a.w}, a.asking("web", "1"))
		a.pass(1)
		if !begun(a.w) {
			t.Errorf("one without a class: %+v", scheduled(a.w))
		}
		c.class = "usual"
		other := a.another("other")
		a.give(c, []*worker{a.w, other}, a.asking("web", "1"), a.asking("other", "1"))
		a.pass(2)
		if c := scheduled(other); c.Message != "exceeded quota: q, requested: pods=1, used: pods=1, limited: pods=0" {
			t.Errorf("one of the default class: %+v", c)
		}
	})
}

// TestTheAPIKeepsToQuotas has many ask at once for what there is little of.
func TestTheAPIKeepsToQuotas(t *testing.T) {
	t.Parallel()
	a := follows(t)
	a.sources.tell(SourceDirectory, manifests.Set{})
	put := func(resource, name, more string, want server.Condition) error {
		body := fmt.Sprintf(`{"apiVersion": "v1", "metadata": {"namespace": "shop", "name": %q}, %s}`, name, more)
		_, err := a.PutObject(id(resource, "shop", name), []byte(body), want)
		return err
	}
	const quota = `"kind": "ResourceQuota", "spec": {"hard": {"configmaps": "3", "count/secrets": "0", "services": "1", "requests.storage": "2Gi", "pods": "1", "requests.cpu": "1", "count/deployments.apps": "1"}}, "status": {"used": {"configmaps": "9"}}`
	if err := put("resourcequotas", "q", quota, server.Condition{}); err != nil {
		t.Fatal(err)
	}
	var made, refused atomic.Int32
	var all sync.WaitGroup
	for i := range 20 {
		all.Go(func() {
			err := put("configmaps", fmt.Sprint("c", i), `"kind": "ConfigMap"`, server.Condition{New: true})
			const want = `is forbidden: exceeded quota: q, requested: configmaps=1, used: configmaps=3, limited: configmaps=3`
			switch {
			case err == nil:
				made.Add(1)
			case errors.Is(err, server.ErrForbidden) && err.Error() == fmt.Sprintf("configmaps \"c%d\" ", i)+want:
				refused.Add(1)
			default:
				t.Error(err)
			}
		})
	}
	all.Wait()
	if made.Load() != 3 || refused.Load() != 17 {
		t.Errorf("%d were made, and %d refused", made.Load(), refused.Load())
	}
	const service = `"kind": "Service", "spec": {"ports": [{"port": 80}], "selector": {"a": "b"}}`
	claim := func(size string) string {
		return `"kind": "PersistentVolumeClaim", "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "` + size + `"}}}`
	}
	pod := func(resources string) string {
		return `"kind": "Pod", "spec": {"containers": [{"name": "app", "image": "demo:1", "resources": ` + resources + `}]}`
	}
	for _, r := range []struct {
		resource, name, more string
		want                 string
	}{
		{"configmaps", "c0", `"kind": "ConfigMap", "data": {"a": "b"}`, ""}, // an edit, or one too many
		{"secrets", "s", `"kind": "Secret"`, `secrets "s" is forbidden: exceeded quota: q, requested: count/secrets=1, used: count/secrets=0, limited: count/secrets=0`},
		{"services", "a", service, ""},
		{"services", "a", service, ""},
		{"services", "b", service, `services "b" is forbidden: exceeded quota: q, requested: services=1, used: services=1, limited: services=1`},
		{"persistentvolumeclaims", "d", claim("3Gi"), `persistentvolumeclaims "d" is forbidden: exceeded quota: q, requested: requests.storage=3Gi, used: requests.storage=0, limited: requests.storage=2Gi`},
		{"persistentvolumeclaims", "d", claim("2Gi"), ""},
		{"persistentvolumeclaims", "d", claim("2Gi"), ""},
		{"serviceaccounts", "free", `"kind": "ServiceAccount"`, ""},
		{"pods", "none", pod(`{}`), `pods "none" is forbidden: failed quota: q: must specify requests.cpu for: app`},
		{"pods", "large", pod(`{"limits": {"cpu": "2"}}`), `pods "large" is forbidden: exceeded quota: q, requested: requests.cpu=2, used: requests.cpu=0, limited: requests.cpu=1`},
		{"pods", "small", pod(`{"limits": {"cpu": "1"}}`), ""},
		{"pods", "again", pod(`{"limits": {"cpu": "1"}}`), ""}, // dry runs count for nothing
	} {
		if r.resource == "configmaps" {
			if _, err := a.objects.Get(objects.ID{Resource: r.resource, NamespacedName: types.NamespacedName{Namespace: "shop", Name: r.name}}); err != nil {
				r.want = `configmaps "c0" is forbidden: exceeded quota: q, requested: configmaps=1, used: configmaps=3, limited: configmaps=3`
			}
		}
		err := put(r.resource, r.name, r.more, server.Condition{DryRun: r.resource == "pods"}) // nothing runs Pods here
		if said := fmt.Sprint(err); said != r.want && (err != nil || r.want != "") {
			t.Errorf("%s %s: %s, want %s", r.resource, r.name, said, r.want)
		}
	}
	sight := a.sightings()[objects.ID{Resource: "resourcequotas", NamespacedName: types.NamespacedName{Namespace: "shop", Name: "q"}}]
	fields, err := sight.write()
	if err != nil {
		t.Fatal(err)
	}
	var told v1.ResourceQuota
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(fields, &told); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[v1.ResourceName]string{"configmaps": "3", "count/secrets": "0", "services": "1", "requests.storage": "2Gi", "pods": "0", "count/deployments.apps": "0"} {
		used, hard := told.Status.Used[name], told.Status.Hard[name]
		if limit := told.Spec.Hard[name]; used.String() != want || hard.Cmp(limit) != 0 {
			t.Errorf("of %s %s of %s are used, want %s of %s", name, &used, &hard, want, &limit)
		}
	}
	if kept, err := a.objects.Get(objects.ID{Resource: "resourcequotas", NamespacedName: types.NamespacedName{Namespace: "shop", Name: "q"}}); err != nil || kept.Content["status"] != nil {
		t.Errorf("kept is %v (%v)", kept.Content, err)
	}
	a.mu.Lock()
	left := len(a.books.promised)
	a.mu.Unlock()
	if left > 0 {
		t.Errorf("%d are still promised", left)
	}
}

// TestAResizeIsHeldToQuotas has a Pod that runs ask for more than a quota has left, and get it when there is more.
func TestAResizeIsHeldToQuotas(t *testing.T) {
	inBubble(t, func(a *agency) {
		asking := func(request, limit string) *Wish {
			return a.asking("web", request, func(p *v1.Pod) {
				p.Spec.Containers[0].Resources.Limits = v1.ResourceList{v1.ResourceCPU: resource.MustParse(limit)}
			})
		}
		has := func(when, request, pending string) {
			t.Helper()
			got := a.w.inst.Pod.Spec.Containers[0].Resources.Requests.Cpu().String()
			if got != request || a.w.pending.Message != pending {
				t.Errorf("%s it has %s, and waits for %q, want %s and %q", when, got, a.w.pending.Message, request, pending)
			}
		}
		two := quotaOf(v1.ResourceRequestsCPU, "2")
		a.give(two, []*worker{a.w}, asking("1", "4"))
		a.pass(1)
		a.give(two, []*worker{a.w}, asking("2", "4"))
		a.pass(2)
		has("within the quota", "2", "")
		a.give(two, []*worker{a.w}, asking("3", "4"))
		a.pass(3)
		has("beyond it", "2", "exceeded quota: q, requested: requests.cpu=1, used: requests.cpu=2, limited: requests.cpu=2")
		a.give(quotaOf(v1.ResourceRequestsCPU, "3"), []*worker{a.w}, asking("3", "4"))
		a.pass(4)
		has("under a larger quota", "3", "")
		a.give(quotaOf(v1.ResourceLimitsCPU, "4"), []*worker{a.w}, asking("3000m", "5"))
		a.pass(5)
		has("a limit counts, too", "3", "exceeded quota: q, requested: limits.cpu=1, used: limits.cpu=4, limited: limits.cpu=4")
		if a.w.inst.Pod.UID == "" || a.w.inst.Ending != nil {
			t.Error("the Pod ends")
		}
	})
}
