package manifests

import (
	"testing"

	v1 "k8s.io/api/core/v1"
)

func TestPriorities(t *testing.T) {
	t.Parallel()
	const pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: web}\nspec:\n  containers: [{name: app, image: demo}]\n"
	for sentence, c := range map[string]struct {
		spec string
		want int32
	}{
		"a Pod without a class has none":                      {"", 0},
		"a class gives its priority":                          {"  priorityClassName: system-cluster-critical\n", 2000000000},
		"what kubeadm writes for the control plane":           {"  priority: 2000001000\n  priorityClassName: system-node-critical\n", 2000001000},
		"no priority may be written, as kubectl's output has": {"  priority: 0\n  preemptionPolicy: PreemptLowerPriority\n", 0},
	} {
		pods, refused := decodePods("web.yaml", []byte(pod+c.spec))
		if len(refused) > 0 || len(pods) != 1 {
			t.Errorf("%s: refused: %v", sentence, refused)
			continue
		}
		spec := pods[0].Spec
		if spec.Priority == nil || *spec.Priority != c.want || spec.PreemptionPolicy == nil || *spec.PreemptionPolicy != v1.PreemptLowerPriority {
			t.Errorf("%s: priority %v, %v, want %d", sentence, spec.Priority, spec.PreemptionPolicy, c.want)
		}
	}
}
