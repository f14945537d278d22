package nodetest

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"
)

// TestServiceEvictsWhoUsesUpTheMemory has a Pod write files into memory until the node has less than the agent keeps free. It goes,
// and nobody else does, nor does the agent.
func TestServiceEvictsWhoUsesUpTheMemory(t *testing.T) {
	h := open(t)
	h.onePodOfEachClass()
	installed := h.read(configFile)
	defer func() { h.reload(installed+"\n", "agent starts anew") }()
	h.reload(installed+"\nevictionHard: {memory.available: 700Mi}\nevictionPressureTransitionPeriod: 5s\n", "agent starts anew")
	h.ready(classes...)
	before, pid := h.instances(), h.property("MainPID")
	const file = "hog.yaml"
	h.apply(file, `apiVersion: v1
kind: Pod
metadata: {name: hog}
spec:
  restartPolicy: Never
  volumes: [{name: memory, emptyDir: {medium: Memory}}]
  containers:
  - name: app
    image: podkeeper.local/demo:v1
    command: [/bin/sh, -c, "for n in $(seq 70); do head -c 20m /dev/zero > /memory/$n; done; sleep 100000"]
    volumeMounts: [{name: memory, mountPath: /memory}]
`)
	h.eventually("the hog is evicted", func() error {
		pods, err := h.pods()
		if err != nil {
			return err
		}
		hog := pods["hog"]
		if hog == nil || hog.Status.Phase != v1.PodFailed {
			return fmt.Errorf("it is %+v", hog)
		}
		if s := hog.Status; s.Reason != "Evicted" || !strings.HasPrefix(s.Message, "The node was low on resource: memory. Threshold quantity: 700Mi, available: ") ||
			!slices.ContainsFunc(s.Conditions, func(c v1.PodCondition) bool {
				return c.Type == v1.DisruptionTarget && c.Reason == "TerminationByKubelet"
			}) {
			t.Errorf("it failed for %s: %q, %+v", s.Reason, s.Message, s.Conditions)
		}
		return nil
	})
	if now := h.property("MainPID"); now != pid {
		t.Errorf("the agent was %s, and is %s", pid, now)
	}
	if err := os.Remove(filepath.Join(manifestDir, file)); err != nil {
		t.Fatal(err)
	}
	h.ready(classes...)
	h.undisturbed(before)
}
