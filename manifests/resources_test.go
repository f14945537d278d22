package manifests

import (
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// sized is a Pod of one container and a sidecar, which ask for and are limited to these amounts of cpu.
func sized(app, sidecar string) *v1.Pod {
	of := func(text string) v1.ResourceRequirements {
		list := v1.ResourceList{v1.ResourceCPU: resource.MustParse(text), v1.ResourceMemory: resource.MustParse("64Mi")}
		return v1.ResourceRequirements{Requests: list, Limits: list.DeepCopy()}
	}
	always := v1.ContainerRestartPolicyAlways
	pod := &v1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: "default", UID: "u"}, Spec: v1.PodSpec{
		InitContainers: []v1.Container{{Name: "proxy", Image: "proxy", RestartPolicy: &always, Resources: of(sidecar)}},
		Containers:     []v1.Container{{Name: "app", Image: "app", Resources: of(app)}},
	}}
	return Normalise(pod)
}

func TestResources(t *testing.T) {
	t.Parallel()
	small, large := sized("100m", "50m"), sized("200m", "60m")
	now := ResourcesOf(large).In(small)
	if !ResourcesOf(now).Equal(ResourcesOf(large)) || ResourcesOf(small).Equal(ResourcesOf(large)) {
		t.Errorf("%+v", ResourcesOf(now))
	}
	other := small.DeepCopy()
	other.Spec.Containers[0].Name = "b"
	if got := ResourcesOf(large).In(other).Spec.Containers[0].Resources.Limits.Cpu(); got.MilliValue() != 100 {
		t.Errorf("a container of which nothing is known has %s", got)
	}
}

func TestCheckResize(t *testing.T) {
	t.Parallel()
	cpu := func(r *v1.ResourceRequirements, request, limit string) {
		r.Requests[v1.ResourceCPU], r.Limits[v1.ResourceCPU] = resource.MustParse(request), resource.MustParse(limit)
	}
	for sentence, r := range map[string]struct {
		edit func(*v1.Pod)
		want string // "" is none
	}{
		"more cpu":              {func(p *v1.Pod) { cpu(&p.Spec.Containers[0].Resources, "2", "2") }, ""},
		"less cpu of a sidecar": {func(p *v1.Pod) { cpu(&p.Spec.InitContainers[0].Resources, "10m", "10m") }, ""},
		"another class": {func(p *v1.Pod) { cpu(&p.Spec.Containers[0].Resources, "50m", "100m") },
			"spec: Invalid value: \"\": Pod QOS Class may not change as a result of resizing"},
		"no limit any more": {func(p *v1.Pod) { delete(p.Spec.Containers[0].Resources.Limits, v1.ResourceCPU) },
			"spec.containers[0].resources.limits: Forbidden: resource limits cannot be removed"},
		"another image": {func(p *v1.Pod) { p.Spec.Containers[0].Image = "b" }, "spec: Forbidden: only cpu and memory resources are mutable"},
		"another resource": {func(p *v1.Pod) {
			p.Spec.Containers[0].Resources.Requests[v1.ResourceEphemeralStorage] = resource.MustParse("1Gi")
		}, "spec: Forbidden: only cpu and memory resources are mutable"},
		"more than its limit": {func(p *v1.Pod) { p.Spec.Containers[0].Resources.Requests[v1.ResourceCPU] = resource.MustParse("1") },
			"spec.containers[0].resources.requests: Invalid value: \"1\": must be less than or equal to cpu limit of 100m"},
	} {
		t.Run(sentence, func(t *testing.T) {
			t.Parallel()
			now := sized("100m", "50m")
			r.edit(now)
			var got []string
			for _, err := range CheckResize(now, sized("100m", "50m")) {
				got = append(got, err.Error())
			}
			if text := strings.Join(got, "\n"); (r.want == "") != (text == "") || !strings.Contains(text, r.want) {
				t.Errorf("got %q, want %q", text, r.want)
			}
		})
	}
}
