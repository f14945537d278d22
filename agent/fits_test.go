package agent

import (
	"errors"
	goruntime "runtime"
	"testing"

	v1 "k8s.io/api/core/v1"

	"github.com/podkeeper/podkeeper/agent/node"
)

func TestFits(t *testing.T) {
	t.Parallel()
	here := node.NewObject("here", map[string]string{"disk": "ssd", "cores": "8"})
	const isNot = "Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector; its labels are "
	has := "cores=8,disk=ssd,kubernetes.io/arch=" + goruntime.GOARCH + ",kubernetes.io/hostname=here,kubernetes.io/os=" + goruntime.GOOS
	required := func(expressions ...v1.NodeSelectorRequirement) func(*v1.Pod) {
		return func(p *v1.Pod) {
			p.Spec.Affinity = &v1.Affinity{NodeAffinity: &v1.NodeAffinity{RequiredDuringSchedulingIgnoredDuringExecution: &v1.NodeSelector{
				NodeSelectorTerms: []v1.NodeSelectorTerm{{MatchExpressions: expressions}},
			}}}
		}
	}
	named := &v1.AppArmorProfile{Type: v1.AppArmorProfileTypeRuntimeDefault}
	selector := func(key, value string) func(*v1.Pod) {
		return func(p *v1.Pod) { p.Spec.NodeSelector = map[string]string{key: value} }
	}
	wants := func(key string, op v1.NodeSelectorOperator, values ...string) v1.NodeSelectorRequirement {
		return v1.NodeSelectorRequirement{Key: key, Operator: op, Values: values}
	}
	for sentence, r := range map[string]struct {
		pod  func(*v1.Pod)
		want Ruling
	}{
		"a Pod that asks for nothing fits":         {func(*v1.Pod) {}, Ruling{}},
		"labels that the node was given":           {selector("disk", "ssd"), Ruling{}},
		"labels that every node has":               {selector(v1.LabelHostname, "here"), Ruling{}},
		"another value of a label":                 {selector("disk", "hdd"), hold("NodeAffinity", isNot+has)},
		"the selector of another operating system": {selector(v1.LabelOSStable, "windows"), hold("NodeAffinity", isNot+has)},
		"an expression that is true":               {required(wants("disk", v1.NodeSelectorOpIn, "hdd", "ssd"), wants("cores", v1.NodeSelectorOpGt, "4")), Ruling{}},
		"one of two expressions that is not":       {required(wants("disk", v1.NodeSelectorOpExists), wants("gpu", v1.NodeSelectorOpExists)), hold("NodeAffinity", isNot+has)},
		"of two terms one is enough": {func(p *v1.Pod) {
			required(wants("gpu", v1.NodeSelectorOpExists))(p)
			terms := &p.Spec.Affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms
			*terms = append(*terms, v1.NodeSelectorTerm{MatchFields: []v1.NodeSelectorRequirement{wants("metadata.name", v1.NodeSelectorOpIn, "here")}})
		}, Ruling{}},
		"what is only preferred": {func(p *v1.Pod) {
			p.Spec.Affinity = &v1.Affinity{NodeAffinity: &v1.NodeAffinity{PreferredDuringSchedulingIgnoredDuringExecution: []v1.PreferredSchedulingTerm{
				{Weight: 1, Preference: v1.NodeSelectorTerm{MatchExpressions: []v1.NodeSelectorRequirement{wants("gpu", v1.NodeSelectorOpExists)}}},
			}}}
		}, Ruling{}},
		"the node by its name": {func(p *v1.Pod) { p.Spec.NodeName = "here" }, Ruling{}},
		"another node by its name": {
			func(p *v1.Pod) { p.Spec.NodeName = "there" },
			hold("NodeName", "Predicate NodeName failed: node(s) didn't match the requested node name; its name is here"),
		},
		"this operating system": {func(p *v1.Pod) { p.Spec.OS = &v1.PodOS{Name: v1.Linux} }, Ruling{}},
		"another operating system": {
			func(p *v1.Pod) { p.Spec.OS = &v1.PodOS{Name: v1.Windows} },
			hold("PodOSNotSupported", "Failed to admit pod as the OS field doesn't match node OS"),
		},
		"a label of another operating system": {
			func(p *v1.Pod) { p.Labels = map[string]string{v1.LabelOSStable: "windows"} },
			hold("PodOSSelectorNodeLabelDoesNotMatch", "Failed to admit pod as the `kubernetes.io/os` label doesn't match node label"),
		},
		"gates come before all else": {func(p *v1.Pod) {
			p.Spec.SchedulingGates = []v1.PodSchedulingGate{{Name: "example.com/later"}}
			p.Spec.NodeSelector = map[string]string{"disk": "hdd"}
		}, hold("SchedulingGated", "Scheduling is blocked due to non-empty scheduling gates")},
		"a profile for all containers": {
			func(p *v1.Pod) { p.Spec.SecurityContext = &v1.PodSecurityContext{AppArmorProfile: named} },
			hold("AppArmor", "Cannot enforce AppArmor: AppArmor is not enabled on the host"),
		},
		"a profile for one": {
			func(p *v1.Pod) {
				p.Spec.InitContainers = []v1.Container{{SecurityContext: &v1.SecurityContext{AppArmorProfile: named}}}
			},
			hold("AppArmor", "Cannot enforce AppArmor: AppArmor is not enabled on the host"),
		},
		"no profile, and that said": {func(p *v1.Pod) {
			none := &v1.AppArmorProfile{Type: v1.AppArmorProfileTypeUnconfined}
			p.Spec.SecurityContext = &v1.PodSecurityContext{AppArmorProfile: none}
			p.Spec.Containers = []v1.Container{{SecurityContext: &v1.SecurityContext{AppArmorProfile: none}}}
		}, Ruling{}},
		"labels for all containers": {
			func(p *v1.Pod) { p.Spec.SecurityContext = &v1.PodSecurityContext{SELinuxOptions: &v1.SELinuxOptions{}} },
			hold("SELinux", "Cannot apply seLinuxOptions: SELinux is not enabled on the host"),
		},
		"labels for one": {
			func(p *v1.Pod) {
				p.Spec.Containers = []v1.Container{{SecurityContext: &v1.SecurityContext{SELinuxOptions: &v1.SELinuxOptions{Level: "s0:c1,c2"}}}}
			},
			hold("SELinux", "Cannot apply seLinuxOptions: SELinux is not enabled on the host"),
		},
		"tolerations of what is not there": {func(p *v1.Pod) {
			p.Spec.Tolerations = []v1.Toleration{{Key: "gpu", Operator: v1.TolerationOpExists}}
		}, Ruling{}},
	} {
		t.Run(sentence, func(t *testing.T) {
			t.Parallel()
			pod := &v1.Pod{}
			r.pod(pod)
			if got := fits(pod, here, errors.New("AppArmor is not enabled on the host"), errors.New("SELinux is not enabled on the host")); got != r.want {
				t.Errorf("got %+v, want %+v", got, r.want)
			}
		})
	}
}

func TestWhatIsWantedOfTheKernelIsThere(t *testing.T) {
	t.Parallel()
	pod := &v1.Pod{}
	pod.Spec.SecurityContext = &v1.PodSecurityContext{
		AppArmorProfile: &v1.AppArmorProfile{Type: v1.AppArmorProfileTypeRuntimeDefault}, SELinuxOptions: &v1.SELinuxOptions{Type: "spc_t"},
	}
	if got := fits(pod, node.NewObject("here", nil), nil, nil); got != (Ruling{}) {
		t.Errorf("got %+v", got)
	}
}

func TestAGivenLabelWins(t *testing.T) {
	t.Parallel()
	here := node.NewObject("here", map[string]string{v1.LabelHostname: "there"})
	if here.Name != "here" || here.Labels[v1.LabelHostname] != "there" || here.Labels[v1.LabelArchStable] != goruntime.GOARCH {
		t.Errorf("%s with %v", here.Name, here.Labels)
	}
}

// TestAPodThatDoesNotFitIsHeld has one be edited until it fits, and one that runs be edited so that it does not.
func TestAPodThatDoesNotFitIsHeld(t *testing.T) {
	inBubble(t, func(a *agency) {
		a.host.deaf = true
		p := a.pod("app")
		p.Spec.NodeSelector = map[string]string{"disk": "hdd"}
		a.wish(p, "1")
		a.pass(1)
		if pod := a.w.published.Load(); pod.Status.Phase != v1.PodPending || pod.Status.Reason != "NodeAffinity" || scheduled(a.w).Reason != "NodeAffinity" {
			t.Errorf("it is %s: %s", pod.Status.Phase, pod.Status.Reason)
		}
		a.expect("create sandbox")
		p = a.pod("app")
		p.Spec.NodeSelector = map[string]string{v1.LabelHostname: "node"}
		a.wish(p, "2")
		a.pass(5)
		if c := scheduled(a.w); c.Status != v1.ConditionTrue {
			t.Errorf("after the edit: %+v", c)
		}
		p = a.pod("app")
		p.Spec.SchedulingGates = []v1.PodSchedulingGate{{Name: "example.com/later"}}
		a.wish(p, "3")
		a.pass(60)
		a.expect("start", "1 start app 0")
		a.expect("tear down", "35 tear down")
		if c := scheduled(a.w); c.Reason != v1.PodReasonSchedulingGated {
			t.Errorf("gated: %+v", c)
		}
	})
}

func TestWhatAClosedNodeTakes(t *testing.T) {
	t.Parallel()
	closed := func(n *v1.Node) { n.Spec.Unschedulable = true }
	tainted := func(effect v1.TaintEffect) func(*v1.Node) {
		return func(n *v1.Node) { n.Spec.Taints = []v1.Taint{{Key: "for", Value: "us", Effect: effect}} }
	}
	tolerates := func(t v1.Toleration) func(*v1.Pod) {
		return func(p *v1.Pod) { p.Spec.Tolerations = []v1.Toleration{t} }
	}
	any := func(*v1.Pod) {}
	isClosed := hold("Unschedulable", "0/1 nodes are available: 1 node(s) were unschedulable")
	isTainted := hold("Unschedulable", "0/1 nodes are available: 1 node(s) had untolerated taint(s)")
	for sentence, c := range map[string]struct {
		node func(*v1.Node)
		pod  func(*v1.Pod)
		want Ruling
	}{
		"an open node takes any Pod":             {func(*v1.Node) {}, any, Ruling{}},
		"a closed one takes none":                {closed, any, isClosed},
		"but for one that tolerates that":        {closed, tolerates(v1.Toleration{Operator: v1.TolerationOpExists}), Ruling{}},
		"or that names it":                       {closed, func(p *v1.Pod) { p.Spec.NodeName = "here" }, Ruling{}},
		"a taint keeps Pods off":                 {tainted(v1.TaintEffectNoSchedule), any, isTainted},
		"unless they tolerate it":                {tainted(v1.TaintEffectNoSchedule), tolerates(v1.Toleration{Key: "for", Value: "us"}), Ruling{}},
		"another value is another taint":         {tainted(v1.TaintEffectNoSchedule), tolerates(v1.Toleration{Key: "for", Value: "them"}), isTainted},
		"a taint that only prefers others":       {tainted(v1.TaintEffectPreferNoSchedule), any, Ruling{}},
		"one that tolerates the taint is let in": {tainted(v1.TaintEffectNoSchedule), tolerates(v1.Toleration{Key: "for", Operator: v1.TolerationOpExists}), Ruling{}},
	} {
		self, pod := node.NewObject("here", nil), &v1.Pod{}
		c.node(self)
		c.pod(pod)
		if got := schedulable(pod, self); got != c.want {
			t.Errorf("%s: %+v, want %+v", sentence, got, c.want)
		}
	}
}
