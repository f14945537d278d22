package manifests

import (
	"slices"
	"testing"

	v1 "k8s.io/api/core/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
)

func TestPriorities(t *testing.T) {
	t.Parallel()
	const pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: web}\nspec:\n  containers: [{name: app, image: demo}]\n"
	class := func(name string, value int32, change ...func(*schedulingv1.PriorityClass)) *schedulingv1.PriorityClass {
		c := &schedulingv1.PriorityClass{ObjectMeta: metav1.ObjectMeta{Name: name}, Value: value}
		for _, do := range change {
			do(c)
		}
		return c
	}
	isDefault := func(c *schedulingv1.PriorityClass) { c.GlobalDefault = true }
	patient := func(c *schedulingv1.PriorityClass) { c.PreemptionPolicy = ptr.To(v1.PreemptNever) }
	own := []*schedulingv1.PriorityClass{class("high", 1000), class("low", -5, patient)}
	defaults := slices.Concat(own, []*schedulingv1.PriorityClass{class("usual", 7, isDefault), class("least", 3, isDefault), class("more", 9, isDefault)})
	for sentence, c := range map[string]struct {
		spec    string
		classes []*schedulingv1.PriorityClass
		name    string
		want    int32
		policy  v1.PreemptionPolicy // PreemptLowerPriority for ""
		wrong   string
	}{
		"a Pod without a class has none":                      {},
		"a class gives its priority":                          {spec: "  priorityClassName: system-cluster-critical\n", name: "system-cluster-critical", want: 2000000000},
		"what kubeadm writes for the control plane":           {spec: "  priority: 2000001000\n  priorityClassName: system-node-critical\n", name: "system-node-critical", want: 2000001000},
		"no priority may be written, as kubectl's output has": {spec: "  priority: 0\n  preemptionPolicy: PreemptLowerPriority\n"},
		"a class of one's own":                                {spec: "  priorityClassName: high\n", classes: own, name: "high", want: 1000},
		"and its priority is written":                         {spec: "  priorityClassName: high\n  priority: 1000\n", classes: own, name: "high", want: 1000},
		"a class says whether others go for it":               {spec: "  priorityClassName: low\n", classes: own, name: "low", want: -5, policy: v1.PreemptNever},
		"of several default classes it is the lowest":         {classes: defaults, name: "least", want: 3},
		"who names a class does not have the default one":     {spec: "  priorityClassName: high\n", classes: defaults, name: "high", want: 1000},
		"a class that there is not":                           {spec: "  priorityClassName: hihg\n", classes: own, wrong: "no PriorityClass with name hihg was found"},
		"another priority than the class has": {spec: "  priorityClassName: high\n  priority: 5\n", classes: own,
			wrong: "the integer value of priority (5) must not be provided in pod spec; priority admission controller computed 1000 from the given PriorityClass name"},
		"another priority than the default has": {spec: "  priority: 0\n", classes: defaults,
			wrong: "the integer value of priority (0) must not be provided in pod spec; priority admission controller computed 3 from the given PriorityClass name"},
		"another policy than the class has": {spec: "  priorityClassName: high\n  preemptionPolicy: Never\n", classes: own,
			wrong: "the string value of PreemptionPolicy (Never) must not be provided in pod spec; priority admission controller computed PreemptLowerPriority from the given PriorityClass name"},
	} {
		t.Run(sentence, func(t *testing.T) {
			t.Parallel()
			pods, refused := decodePods("web.yaml", []byte(pod+c.spec))
			if len(refused) > 0 || len(pods) != 1 {
				t.Fatalf("refused: %v", refused)
			}
			err := Prioritise(pods[0].Pod, c.classes)
			if err != nil || c.wrong != "" {
				if err == nil || err.Error() != c.wrong {
					t.Errorf("got %v, want %s", err, c.wrong)
				}
				return
			}
			if c.policy == "" {
				c.policy = v1.PreemptLowerPriority
			}
			spec := pods[0].Spec
			if *spec.Priority != c.want || *spec.PreemptionPolicy != c.policy || spec.PriorityClassName != c.name {
				t.Errorf("priority %d, %s, of %q, want %d, %s of %q", *spec.Priority, *spec.PreemptionPolicy, spec.PriorityClassName, c.want, c.policy, c.name)
			}
		})
	}
}
