package agent

import (
	"testing"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/podkeeper/podkeeper/agent/node"
)

// neighbour is a Pod with labels, and what it requires.
func neighbour(namespace, name string, labels map[string]string, requires ...func(*v1.PodSpec)) *v1.Pod {
	p := &v1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: labels}}
	for _, r := range requires {
		r(&p.Spec)
	}
	return p
}

func near(terms ...v1.PodAffinityTerm) func(*v1.PodSpec) {
	return func(s *v1.PodSpec) {
		s.Affinity = &v1.Affinity{PodAffinity: &v1.PodAffinity{RequiredDuringSchedulingIgnoredDuringExecution: terms}}
	}
}

func apart(terms ...v1.PodAffinityTerm) func(*v1.PodSpec) {
	return func(s *v1.PodSpec) {
		s.Affinity = &v1.Affinity{PodAntiAffinity: &v1.PodAntiAffinity{RequiredDuringSchedulingIgnoredDuringExecution: terms}}
	}
}

func evenly(c v1.TopologySpreadConstraint) func(*v1.PodSpec) {
	return func(s *v1.PodSpec) { s.TopologySpreadConstraints = append(s.TopologySpreadConstraints, c) }
}

func term(labels map[string]string, change ...func(*v1.PodAffinityTerm)) v1.PodAffinityTerm {
	t := v1.PodAffinityTerm{TopologyKey: v1.LabelHostname, LabelSelector: &metav1.LabelSelector{MatchLabels: labels}}
	for _, c := range change {
		c(&t)
	}
	return t
}

func TestBeside(t *testing.T) {
	t.Parallel()
	here := node.NewObject("here", map[string]string{"zone": "a"})
	db, web := map[string]string{"app": "db"}, map[string]string{"app": "web"}
	aDB := neighbour("default", "db", db)
	otherDB := neighbour("other", "db", db)
	ending := neighbour("default", "old", web)
	ending.DeletionTimestamp = &metav1.Time{}
	inAll := func(t *v1.PodAffinityTerm) { t.NamespaceSelector = &metav1.LabelSelector{} }
	in := func(names ...string) func(*v1.PodAffinityTerm) {
		return func(t *v1.PodAffinityTerm) { t.Namespaces = names }
	}
	byName := func(t *v1.PodAffinityTerm) {
		t.NamespaceSelector = &metav1.LabelSelector{MatchLabels: map[string]string{v1.LabelMetadataName: "other"}}
	}
	by := func(key string) func(*v1.PodAffinityTerm) { return func(t *v1.PodAffinityTerm) { t.TopologyKey = key } }
	matching := func(t *v1.PodAffinityTerm) { t.MatchLabelKeys = []string{"version"} }
	mismatching := func(t *v1.PodAffinityTerm) { t.MismatchLabelKeys = []string{"version"} }
	versioned := func(app, version string) map[string]string { return map[string]string{"app": app, "version": version} }
	skew := func(when v1.UnsatisfiableConstraintAction, domains *int32, key string) v1.TopologySpreadConstraint {
		return v1.TopologySpreadConstraint{
			MaxSkew: 1, WhenUnsatisfiable: when, MinDomains: domains, TopologyKey: key, LabelSelector: &metav1.LabelSelector{MatchLabels: web},
		}
	}
	versionedSkew := skew(v1.DoNotSchedule, ptr.To(int32(2)), "zone")
	versionedSkew.MatchLabelKeys = []string{"version"}
	for sentence, r := range map[string]struct {
		pod    *v1.Pod
		others []*v1.Pod
		want   string
	}{
		"nobody requires anything":                        {neighbour("default", "web", web), []*v1.Pod{aDB}, ""},
		"the neighbour that it wants is there":            {neighbour("default", "web", web, near(term(db))), []*v1.Pod{aDB}, ""},
		"it is not":                                       {neighbour("default", "web", web, near(term(db))), nil, lacksNeighbours},
		"it is in another namespace":                      {neighbour("default", "web", web, near(term(db))), []*v1.Pod{otherDB}, lacksNeighbours},
		"which is named":                                  {neighbour("default", "web", web, near(term(db, in("other")))), []*v1.Pod{otherDB}, ""},
		"which is selected by its name":                   {neighbour("default", "web", web, near(term(db, byName))), []*v1.Pod{otherDB}, ""},
		"which is not the one that is selected":           {neighbour("default", "web", web, near(term(db, byName))), []*v1.Pod{aDB}, lacksNeighbours},
		"which is any":                                    {neighbour("default", "web", web, near(term(db, inAll))), []*v1.Pod{otherDB}, ""},
		"named and selected namespaces are both meant":    {neighbour("default", "web", web, near(term(db, byName, in("default")))), []*v1.Pod{aDB}, ""},
		"one Pod has to be all that is wanted":            {neighbour("default", "x", nil, near(term(db), term(web))), []*v1.Pod{aDB, neighbour("default", "web", web)}, lacksNeighbours},
		"the first of Pods that want each other":          {neighbour("default", "web", web, near(term(web))), []*v1.Pod{aDB}, ""},
		"the node has no such topology":                   {neighbour("default", "web", web, near(term(db, by("rack")))), []*v1.Pod{aDB}, lacksNeighbours},
		"a zone is a topology, too":                       {neighbour("default", "web", web, near(term(db, by("zone")))), []*v1.Pod{aDB}, ""},
		"it shuns one that is there":                      {neighbour("default", "web", web, apart(term(db))), []*v1.Pod{aDB}, wrongNeighbours + ": default/db"},
		"it shuns two, of which one is told":              {neighbour("default", "web", web, apart(term(db))), []*v1.Pod{neighbour("default", "z", db), aDB}, wrongNeighbours + ": default/db"},
		"it shuns one that ends":                          {neighbour("default", "web", web, apart(term(web))), []*v1.Pod{ending}, wrongNeighbours + ": default/old"},
		"it shuns one that is elsewhere":                  {neighbour("default", "web", web, apart(term(db))), []*v1.Pod{otherDB}, ""},
		"it shuns one in a topology that there is not":    {neighbour("default", "web", web, apart(term(db, by("rack")))), []*v1.Pod{aDB}, ""},
		"it is shunned":                                   {neighbour("default", "web", web), []*v1.Pod{neighbour("default", "db", db, apart(term(web)))}, wrongNeighbour + ": default/db"},
		"Pods that shun each other":                       {neighbour("default", "w2", web, apart(term(web))), []*v1.Pod{neighbour("default", "w1", web, apart(term(web)))}, wrongNeighbours + ": default/w1"},
		"another one's own namespace is meant":            {neighbour("default", "web", web), []*v1.Pod{neighbour("other", "db", db, apart(term(web)))}, ""},
		"versions that shun each other: the same":         {neighbour("default", "w2", versioned("web", "1"), apart(term(web, mismatching))), []*v1.Pod{neighbour("default", "w1", versioned("web", "1"))}, ""},
		"versions that shun each other: another":          {neighbour("default", "w2", versioned("web", "2"), apart(term(web, mismatching))), []*v1.Pod{neighbour("default", "w1", versioned("web", "1"))}, wrongNeighbours + ": default/w1"},
		"it wants its own version, which is there":        {neighbour("default", "x", versioned("x", "1"), near(term(web, matching))), []*v1.Pod{neighbour("default", "w1", versioned("web", "1"))}, ""},
		"it wants its own version, which is not":          {neighbour("default", "x", versioned("x", "2"), near(term(web, matching))), []*v1.Pod{neighbour("default", "w1", versioned("web", "1"))}, lacksNeighbours},
		"a term without a selector is about nobody":       {neighbour("default", "web", web, apart(v1.PodAffinityTerm{TopologyKey: v1.LabelHostname})), []*v1.Pod{aDB}, ""},
		"one domain is always even":                       {neighbour("default", "w2", web, evenly(skew(v1.DoNotSchedule, nil, "zone"))), []*v1.Pod{neighbour("default", "w1", web)}, ""},
		"two domains are wanted, and there is room":       {neighbour("default", "w1", web, evenly(skew(v1.DoNotSchedule, ptr.To(int32(2)), "zone"))), nil, ""},
		"two domains are wanted, and one is all too full": {neighbour("default", "w2", web, evenly(skew(v1.DoNotSchedule, ptr.To(int32(2)), "zone"))), []*v1.Pod{neighbour("default", "w1", web)}, tooUneven},
		"what ends does not count":                        {neighbour("default", "w2", web, evenly(skew(v1.DoNotSchedule, ptr.To(int32(2)), "zone"))), []*v1.Pod{ending}, ""},
		"what is in another namespace neither":            {neighbour("default", "w2", web, evenly(skew(v1.DoNotSchedule, ptr.To(int32(2)), "zone"))), []*v1.Pod{neighbour("other", "w1", web)}, ""},
		"nor what is of another version":                  {neighbour("default", "w2", versioned("web", "2"), evenly(versionedSkew)), []*v1.Pod{neighbour("default", "w1", versioned("web", "1"))}, ""},
		"what is of this version does":                    {neighbour("default", "w2", versioned("web", "1"), evenly(versionedSkew)), []*v1.Pod{neighbour("default", "w1", versioned("web", "1"))}, tooUneven},
		"a topology that the node has not":                {neighbour("default", "web", web, evenly(skew(v1.DoNotSchedule, nil, "rack"))), nil, lacksTopology},
		"one that would only be nice":                     {neighbour("default", "web", web, evenly(skew(v1.ScheduleAnyway, nil, "rack"))), nil, ""},
	} {
		t.Run(sentence, func(t *testing.T) {
			t.Parallel()
			if got := beside(r.pod, r.others, here); got != r.want {
				t.Errorf("got %q, want %q", got, r.want)
			}
		})
	}
}

// TestAPodWaitsForItsNeighbours has one Pod that wants another, and one that shuns it: they begin when it comes, and when it
// is done; and a label that is edited counts as well.
func TestAPodWaitsForItsNeighbours(t *testing.T) {
	inBubble(t, func(a *agency) {
		db := map[string]string{"app": "db"}
		with := func(name string, labels map[string]string, requires ...func(*v1.PodSpec)) *Wish {
			p := a.pod("app")
			p.Name, p.Labels = name, labels
			for _, r := range requires {
				r(&p.Spec)
			}
			return wishFor(p, "1")
		}
		wants, shuns := a.another("wants"), a.another("shuns")
		wants.want(with("wants", nil, near(term(db))))
		a.pass(1)
		if c := scheduled(wants); c.Reason != v1.PodReasonUnschedulable || c.Message != "0/1 nodes are available: 1 "+lacksNeighbours {
			t.Errorf("alone: %+v", c)
		}
		p := a.pod("db")
		p.Spec.RestartPolicy = v1.RestartPolicyNever
		a.wish(p, "1")
		a.pass(2)
		if c := scheduled(wants); c.Status != v1.ConditionFalse {
			t.Errorf("beside one without the label: %+v", c)
		}
		p = p.DeepCopy()
		p.Labels = db
		a.wish(p, "2")
		a.pass(3)
		if c := scheduled(wants); c.Status != v1.ConditionTrue {
			t.Errorf("beside the one that it wants: %+v", c)
		}
		shuns.want(with("shuns", nil, apart(term(db))))
		a.pass(4)
		if c := scheduled(shuns); c.Message != "0/1 nodes are available: 1 "+wrongNeighbours+": default/web" {
			t.Errorf("beside the one that it shuns: %+v", c)
		}
		a.host.exit("db", 0)
		a.pass(5)
		if c := scheduled(shuns); c.Status != v1.ConditionTrue {
			t.Errorf("after that was done: %+v", c)
		}
	})
}

// TestAPodThatBeginsAfterItWasHeldIsANeighbour has one whose UID is given, so that it has the same before and after.
func TestAPodThatBeginsAfterItWasHeldIsANeighbour(t *testing.T) {
	inBubble(t, func(a *agency) {
		p := a.pod("db")
		p.UID, p.Labels = "given", map[string]string{"app": "db"}
		gated := p.DeepCopy()
		gated.Spec.SchedulingGates = []v1.PodSchedulingGate{{Name: "example.com/later"}}
		a.wish(gated, "1")
		a.pass(1)
		w := a.another("wants")
		wants := a.pod("app")
		wants.Name = "wants"
		near(term(p.Labels))(&wants.Spec)
		w.want(wishFor(wants, "1"))
		a.pass(2)
		if c := scheduled(w); c.Status != v1.ConditionFalse {
			t.Errorf("beside one that is held: %+v", c)
		}
		a.wish(p, "2")
		a.pass(3)
		if c := scheduled(w); c.Status != v1.ConditionTrue {
			t.Errorf("beside one that has begun: %+v", c)
		}
	})
}
