package nodetest

import (
	"fmt"
	"strings"

	v1 "k8s.io/api/core/v1"
)

// marks is where init containers write a line each time they run.
const marks = "/var/lib/podkeeper-nodetest/marks"

// forever sleeps, and ends at once when it is told to.
const forever = `trap 'exit 0' TERM; while true; do sleep 100000 & wait $!; done`

// classes are the Pods of onePodOfEachClass.
var classes = []string{"guaranteed", "burstable", "besteffort"}

const classesFile = "classes.yaml"

// container is one in a manifest; resources and more are in YAML's flow style.
func container(name, script, resources, more string) string {
	return fmt.Sprintf("  - {name: %s, image: 'podkeeper.local/demo:v1', command: [/bin/sh, -c, %q], resources: {%s}%s}\n", name, script, resources, more)
}

// pod has an init container that leaves a mark, a sidecar and an app, with the resources of each.
func pod(name, initResources, sideResources, appResources string) string {
	return fmt.Sprintf(`apiVersion: v1
kind: Pod
metadata: {name: %s}
spec:
  terminationGracePeriodSeconds: 2
  volumes:
  - {name: marks, hostPath: {path: %s, type: DirectoryOrCreate}}
  initContainers:
`, name, marks) +
		container("init", "echo ran >>/marks/"+name, initResources, ", volumeMounts: [{name: marks, mountPath: /marks}]") +
		container("side", forever, sideResources, ", restartPolicy: Always") +
		"  containers:\n" + container("app", forever, appResources, "")
}

// onePodOfEachClass sees to it that these run, and nothing else.
func (h *host) onePodOfEachClass() map[string]*v1.Pod {
	h.t.Helper()
	h.apply(classesFile, pod("guaranteed", "limits: {cpu: 100m, memory: 16Mi}", "limits: {cpu: 250m, memory: 32Mi}", "limits: {cpu: 250m, memory: 64Mi}")+
		"---\n"+pod("burstable", "", "requests: {memory: 32Mi}", "requests: {cpu: 100m, memory: 128Mi}, limits: {memory: 256Mi}")+
		"---\n"+pod("besteffort", "", "", ""))
	return h.ready(classes...)
}

// manyNames are the names of so many Pods.
func manyNames(count int) []string {
	var names []string
	for i := range count {
		names = append(names, fmt.Sprintf("pod%d", i))
	}
	return names
}

// manyPods sees to it that so many Pods run, of which of answers each by its name, and nothing else.
func (h *host) manyPods(count int, of func(name string) string) []string {
	h.t.Helper()
	names := manyNames(count)
	var all strings.Builder
	for _, name := range names {
		all.WriteString("---\n" + of(name))
	}
	h.apply("many.yaml", all.String())
	h.ready(names...)
	return names
}

// plainPod is a pod without resources.
func plainPod(name string) string { return pod(name, "", "", "") }

// smallPod has one container.
func smallPod(name string) string {
	return "apiVersion: v1\nkind: Pod\nmetadata: {name: " + name + "}\nspec:\n  terminationGracePeriodSeconds: 2\n  containers:\n" + container("app", forever, "", "")
}
