package manifests

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestKubeadmsManifestsAreTakenAsTheyAre reads the static Pods that `kubeadm init` of Kubernetes 1.37.2 writes for a control
// plane at 192.0.2.1.
func TestKubeadmsManifestsAreTakenAsTheyAre(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/kubeadm/*.yaml")
	if err != nil || len(files) != 4 {
		t.Fatalf("there are %q: %v", files, err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		pods, refused := decodePods(file, text)
		for _, r := range refused {
			t.Error(r.Error())
		}
		if len(pods) != 1 {
			continue
		}
		pod := pods[0]
		if name := strings.TrimSuffix(filepath.Base(file), ".yaml"); pod.Name != name || pod.Namespace != "kube-system" || !pod.Spec.HostNetwork ||
			pod.Spec.PriorityClassName != "system-node-critical" || *pod.Spec.Priority != 2000001000 {
			t.Errorf("%s is taken as %s/%s with priority %d", file, pod.Namespace, pod.Name, *pod.Spec.Priority)
		}
	}
}
