package manifests

import (
	"fmt"
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// defaulted is a Pod as an API server has it before it checks it, otherwise than a plain one.
func defaulted(otherwise func(*v1.Pod)) *v1.Pod {
	pod := &v1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web", UID: "1"}, Spec: v1.PodSpec{Containers: []v1.Container{{Name: "app", Image: "app:1"}}}}
	if otherwise != nil {
		otherwise(pod)
	}
	Default(pod)
	return pod
}

func debugged(p *v1.Pod) {
	p.Spec.EphemeralContainers = []v1.EphemeralContainer{{EphemeralContainerCommon: v1.EphemeralContainerCommon{Name: "look", Image: "busybox:1"}}}
}

func TestChecksOfAnAPI(t *testing.T) {
	t.Parallel()
	both := func(changes ...func(*v1.Pod)) func(*v1.Pod) {
		return func(p *v1.Pod) {
			for _, change := range changes {
				change(p)
			}
		}
	}
	edit := func(now, was *v1.Pod) field.ErrorList { return CheckEdit(now, was) }
	made := func(now, _ *v1.Pod) field.ErrorList { return Check(now) }
	unsupported := func(p *v1.Pod) { p.Spec.SchedulerName = "another" }
	probed := func(p *v1.Pod) {
		debugged(p)
		p.Spec.EphemeralContainers[0].LivenessProbe = &v1.Probe{}
	}
	device := func(p *v1.Pod) {
		debugged(p)
		p.Spec.EphemeralContainers[0].VolumeDevices = []v1.VolumeDevice{{Name: "x", DevicePath: "/x"}}
	}
	gate := func(p *v1.Pod) { p.Status.Conditions = []v1.PodCondition{{Type: "shop.example/open", Status: "True"}} }
	for sentence, c := range map[string]struct {
		check    func(now, was *v1.Pod) field.ErrorList
		now, was func(*v1.Pod)
		want     string
	}{
		"a plain Pod":                            {made, nil, nil, ""},
		"a field that podkeeper does not do":     {made, unsupported, nil, `spec.schedulerName: Forbidden: "another": not supported: supported values: "default-scheduler"`},
		"a fault of Kubernetes' rules":           {made, func(p *v1.Pod) { p.Spec.RestartPolicy = "x" }, nil, `spec.restartPolicy: Unsupported value: "x"`},
		"a new one with an ephemeral container":  {made, debugged, nil, "spec.ephemeralContainers: Forbidden: cannot be set on create"},
		"an edit of nothing":                     {edit, nil, nil, ""},
		"an edit of what may not be edited":      {edit, func(p *v1.Pod) { p.Spec.HostNetwork = true }, nil, "spec: Forbidden: pod updates may not change fields other than"},
		"an edit of a Pod that is debugged":      {edit, both(debugged, func(p *v1.Pod) { p.Labels = map[string]string{"a": "b"} }), debugged, ""},
		"an edit to what podkeeper does not do":  {edit, func(p *v1.Pod) { p.Annotations = map[string]string{"podkeeper/x": "y"} }, nil, "metadata.annotations[podkeeper/x]: Forbidden: unknown annotation"},
		"an ephemeral container":                 {CheckEphemeralEdit, debugged, nil, ""},
		"an ephemeral container with a probe":    {CheckEphemeralEdit, probed, nil, "spec.ephemeralContainers[0].livenessProbe: Forbidden: cannot be set for an Ephemeral Container"},
		"an ephemeral container with a device":   {CheckEphemeralEdit, device, nil, "spec.ephemeralContainers[0].volumeDevices: Forbidden: not supported"},
		"a condition":                            {CheckStatusEdit, gate, nil, ""},
		"a condition whose name is none":         {CheckStatusEdit, func(p *v1.Pod) { p.Status.Conditions = []v1.PodCondition{{Type: "a b", Status: "True"}} }, nil, "status.conditions[0]"},
		"a status with another class of service": {CheckStatusEdit, func(p *v1.Pod) { p.Status.QOSClass = "Burstable" }, nil, "status.qosClass: Invalid value"},
	} {
		got := fmt.Sprint(c.check(defaulted(c.now), defaulted(c.was)))
		if c.want == "" && got != "[]" || !strings.Contains(got, c.want) {
			t.Errorf("%s: %s, want %q", sentence, got, c.want)
		}
	}
}

func TestWarningsAreThoseOfKubernetes(t *testing.T) {
	t.Parallel()
	pod := defaulted(func(p *v1.Pod) {
		p.Name = "web.1"
		p.Spec.Containers[0].Env = []v1.EnvVar{{Name: "A", Value: "1"}, {Name: "A", Value: "2"}}
	})
	if got := fmt.Sprint(Warnings(pod, nil)); !strings.Contains(got, "this is used in the Pod's hostname") || !strings.Contains(got, "hides previous definition") {
		t.Errorf("of a new Pod: %s", got)
	}
	if got := Warnings(pod, pod); got != nil {
		t.Errorf("of an edit: %s", got)
	}
	external := &v1.Service{Spec: v1.ServiceSpec{ExternalIPs: []string{"010.0.0.1"}}}
	if got := Warnings(external, external); len(got) == 0 {
		t.Error("no warning of an address that is written in an odd way")
	}
	if got := Warnings(&v1.ConfigMap{}, nil); got != nil {
		t.Errorf("of a ConfigMap: %s", got)
	}
}

func TestKindsAreThoseOfTheAPI(t *testing.T) {
	t.Parallel()
	for _, k := range Kinds() {
		o := k.New().(metav1.Object)
		if of(o).typ == nil || ResourceOf(k.Kind) != k.GroupVersion().WithResource(k.Resource).GroupResource().String() {
			t.Errorf("%v is of %s", k, ResourceOf(k.Kind))
		}
		Default(o)
		if faults := Check(o); len(faults) == 0 && k.Kind != KindEvent { // of those of v1 Kubernetes asks nothing
			t.Errorf("an empty %s is right", k.Kind)
		}
	}
}

func TestEventsOfEventsK8sIO(t *testing.T) {
	t.Parallel()
	event := &v1.Event{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web.1", ResourceVersion: "1"}, EventTime: metav1.NowMicro(), ReportingController: "example.com/eye",
		ReportingInstance: "one", Action: "Look", Reason: "Seen", Type: v1.EventTypeNormal, InvolvedObject: v1.ObjectReference{Kind: "Pod", Namespace: "shop", Name: "web"},
	}
	if faults := CheckNewerEvent(event); len(faults) > 0 {
		t.Errorf("a right one: %v", faults)
	}
	without := event.DeepCopy()
	without.EventTime, without.Count = metav1.MicroTime{}, 1
	if faults := CheckNewerEvent(without); len(faults) != 2 {
		t.Errorf("one that counts, and has no time: %v", faults)
	}
	series := event.DeepCopy()
	series.Series = &v1.EventSeries{Count: 2, LastObservedTime: metav1.NowMicro()}
	if faults := CheckNewerEventEdit(series, event); len(faults) > 0 {
		t.Errorf("a series may begin: %v", faults)
	}
	other := event.DeepCopy()
	other.Reason = "Gone"
	if faults := CheckNewerEventEdit(other, event); len(faults) == 0 {
		t.Error("what it tells may be another thing")
	}
}
