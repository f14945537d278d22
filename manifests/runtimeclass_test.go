package manifests

import (
	"testing"

	v1 "k8s.io/api/core/v1"
	nodev1 "k8s.io/api/node/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
)

func TestRuntimeClasses(t *testing.T) {
	t.Parallel()
	amounts := func(cpu string) v1.ResourceList {
		return v1.ResourceList{v1.ResourceCPU: resource.MustParse(cpu), v1.ResourceMemory: resource.MustParse("1Mi")}
	}
	every := v1.Toleration{Key: "gpu", Operator: v1.TolerationOpExists}
	one := v1.Toleration{Key: "gpu", Operator: v1.TolerationOpEqual, Value: "a", Effect: v1.TaintEffectNoSchedule}
	plain := &nodev1.RuntimeClass{ObjectMeta: metav1.ObjectMeta{Name: "plain"}, Handler: "runc"}
	heavy := &nodev1.RuntimeClass{ObjectMeta: metav1.ObjectMeta{Name: "heavy"}, Handler: "kata", Overhead: &nodev1.Overhead{PodFixed: amounts("10m")}}
	placed := &nodev1.RuntimeClass{ObjectMeta: metav1.ObjectMeta{Name: "placed"}, Handler: "kata", Scheduling: &nodev1.Scheduling{
		NodeSelector: map[string]string{"disk": "ssd"}, Tolerations: []v1.Toleration{every},
	}}
	for sentence, c := range map[string]struct {
		class string
		spec  v1.PodSpec
		want  v1.PodSpec
		wrong string
	}{
		"a Pod without a class is as it was":                {},
		"a class may ask for nothing":                       {class: "plain"},
		"a Pod gets the overhead":                           {class: "heavy", want: v1.PodSpec{Overhead: amounts("10m")}},
		"it may say the same":                               {class: "heavy", spec: v1.PodSpec{Overhead: amounts("0.01")}, want: v1.PodSpec{Overhead: amounts("10m")}},
		"but no other":                                      {class: "heavy", spec: v1.PodSpec{Overhead: amounts("11m")}, wrong: "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead"},
		"none that the class does not have":                 {class: "plain", spec: v1.PodSpec{Overhead: amounts("10m")}, wrong: "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead"},
		"and none without a class":                          {spec: v1.PodSpec{Overhead: amounts("10m")}, wrong: "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead"},
		"a class that there is not":                         {class: "palin", wrong: `pod rejected: RuntimeClass "palin" not found`},
		"a class says where Pods may run":                   {class: "placed", want: v1.PodSpec{NodeSelector: map[string]string{"disk": "ssd"}, Tolerations: []v1.Toleration{every}}},
		"beside what the Pod says, without what is implied": {class: "placed", spec: v1.PodSpec{NodeSelector: map[string]string{"rack": "7", "disk": "ssd"}, Tolerations: []v1.Toleration{one}}, want: v1.PodSpec{NodeSelector: map[string]string{"rack": "7", "disk": "ssd"}, Tolerations: []v1.Toleration{every}}},
		"a Pod that says otherwise is refused":              {class: "placed", spec: v1.PodSpec{NodeSelector: map[string]string{"disk": "hdd"}}, wrong: "conflict: runtimeClass.scheduling.nodeSelector[disk] = ssd; pod.spec.nodeSelector[disk] = hdd"},
	} {
		t.Run(sentence, func(t *testing.T) {
			t.Parallel()
			if c.class != "" {
				c.spec.RuntimeClassName, c.want.RuntimeClassName = &c.class, ptr.To(c.class)
			}
			pod := &v1.Pod{Spec: c.spec}
			was := pod.DeepCopy()
			shared := *pod
			class, err := RuntimeClassOf(&shared, []*nodev1.RuntimeClass{plain, heavy, placed})
			if err == nil {
				err = Classify(&shared, class)
			}
			if !equality.Semantic.DeepEqual(pod, was) {
				t.Errorf("the Pod that it was made of is %+v", pod.Spec)
			}
			if err != nil || c.wrong != "" {
				if err == nil || err.Error() != c.wrong {
					t.Errorf("got %v, want %s", err, c.wrong)
				}
				c.want = c.spec
			}
			if !equality.Semantic.DeepEqual(shared.Spec, c.want) {
				t.Errorf("got %+v, want %+v", shared.Spec, c.want)
			}
		})
	}
}
