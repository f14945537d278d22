package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/podkeeper/podkeeper/server"
)

// TestOneDeadContainerIsKept has an init container, a container and an ephemeral one end, the first two again and again and amid
// that an agent, and looks at what is left of each for people to read while the Pod runs and when it has ended.
func TestOneDeadContainerIsKept(t *testing.T) {
	t.Parallel()
	n := launch(t)
	const script = `n=$(cat /w/%[1]s 2>/dev/null || echo 0); echo $((n+1)) > /w/%[1]s; echo this is $n; echo said $n > /dev/termination-log; %[2]s`
	n.apply("ends.yaml", fmt.Sprintf(`apiVersion: v1
kind: Pod
metadata: {name: ends, annotations: {podkeeper/max-restart-period: 1s}}
spec:
  restartPolicy: OnFailure
  volumes: [{name: w, emptyDir: {}}, {name: out, hostPath: {path: %[4]s}}]
  initContainers:
  - {name: first, image: %[1]s, command: [/bin/sh, -c, %[2]q], volumeMounts: [{name: w, mountPath: /w}]}
  containers:
  - {name: app, image: %[1]s, command: [/bin/sh, -c, %[3]q], volumeMounts: [{name: w, mountPath: /w}, {name: out, mountPath: /out}]}
`, image, fmt.Sprintf(script, "first", "[ $n -ge 3 ]"), fmt.Sprintf(script, "app", "[ $n -lt 3 ] && exit 1; until [ -e /out/end ]; do sleep 0.1; done"), n.path("out")))
	n.await("ends", "has failed once", func(p *v1.Pod) bool { return containerStatus(p, "first").RestartCount >= 1 })
	n.kill()
	n.restart()
	key := types.NamespacedName{Namespace: "default", Name: "ends"}
	n.await("ends", "runs in the end", func(p *v1.Pod) bool {
		s := containerStatus(p, "app")
		return s.RestartCount == 3 && s.State.Running != nil
	})
	if _, err := n.client().AddEphemeral(context.Background(), key, &v1.EphemeralContainer{EphemeralContainerCommon: v1.EphemeralContainerCommon{
		Name: "look", Image: image, Command: []string{"/bin/sh", "-c", "echo this is 0"},
	}}); err != nil {
		t.Fatal(err)
	}
	pod := n.await("ends", "has an ephemeral container that has ended", func(p *v1.Pod) bool {
		s := p.Status.EphemeralContainerStatuses
		return len(s) == 1 && s[0].State.Terminated != nil
	})
	n.readable(pod, map[string][]string{"first": {"2.log", "3.log"}, "app": {"2.log", "3.log"}, "look": {"0.log"}})
	if err := os.WriteFile(n.path("out", "end"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	pod = n.awaitPhase("ends", v1.PodSucceeded)
	n.readable(pod, map[string][]string{"first": {"2.log", "3.log"}, "app": {"2.log", "3.log"}, "look": {"0.log"}})
	n.stopAgent()
	n.restart()
	n.readable(n.awaitPhase("ends", v1.PodSucceeded), map[string][]string{"first": {"2.log", "3.log"}, "app": {"2.log", "3.log"}, "look": {"0.log"}})
}

// readable waits until there are the logs of these files of a Pod's containers, and no others, and each says what it should.
func (n *node) readable(pod *v1.Pod, files map[string][]string) {
	n.t.Helper()
	n.eventually("of each container one dead instance can be read", func() error {
		for container, want := range files {
			entries, err := os.ReadDir(n.path("logs", fmt.Sprintf("%s_%s_%s", pod.Namespace, pod.Name, pod.UID), container))
			var got []string
			for _, e := range entries {
				got = append(got, e.Name())
			}
			if err != nil || !slices.Equal(got, want) {
				return fmt.Errorf("container %s has %q, %w", container, got, err)
			}
			for i, file := range slices.Backward(want) {
				number := strings.TrimSuffix(file, ".log")
				said, err := n.said(pod, container, i == len(want)-2)
				if err != nil || said != "this is "+number+"\n" {
					return fmt.Errorf("container %s has said %q in %s: %w", container, said, file, err)
				}
			}
		}
		return nil
	})
	if _, err := n.said(pod, "look", true); err == nil {
		n.t.Error("an ephemeral container has been there before")
	}
}

// said is the log of a container, or of the one before it.
func (n *node) said(pod *v1.Pod, container string, previous bool) (string, error) {
	var out bytes.Buffer
	query := url.Values{}
	if previous {
		query.Set("previous", "true")
	}
	err := n.client().Log(context.Background(), types.NamespacedName{Namespace: pod.Namespace, Name: pod.Name}, container, query, &out)
	return out.String(), err
}

// TestPodsOfTheAPIThatHaveEndedGo makes more Pods that end than are kept, beside one of a file that has ended and one that runs.
func TestPodsOfTheAPIThatHaveEndedGo(t *testing.T) {
	t.Parallel()
	n := launch(t)
	n.stopAgent()
	n.flags = []string{"--terminated-pod-gc-threshold", "2"}
	n.restart()
	const ends = "  restartPolicy: Never"
	n.apply("file.yaml", simple("file", "exit 0", ends))
	n.awaitPhase("file", v1.PodSucceeded)
	made := func(name, text string) *v1.Pod {
		t.Helper()
		text = strings.Replace(text, "metadata: {name: "+name+"}", "metadata: {name: "+name+", namespace: default}", 1)
		if _, err := n.make(server.ObjectID{Resource: "pods", Namespace: "default", Name: name}, text, server.Condition{New: true}); err != nil {
			t.Fatal(err)
		}
		return n.await(name, "runs or is done", func(p *v1.Pod) bool { return p.Status.Phase == v1.PodRunning || p.Status.Phase == v1.PodFailed })
	}
	made("runs", simple("runs", forever))
	made("a-first", simple("a-first", "exit 1", ends))
	n.awaitPhase("a-first", v1.PodFailed)
	made("second", simple("second", "exit 1", ends))
	made("third", simple("third", "exit 1", ends))
	n.awaitGone("a-first")
	for _, name := range []string{"second", "third"} {
		n.awaitPhase(name, v1.PodFailed)
	}
	n.awaitPhase("file", v1.PodSucceeded)
	n.awaitPhase("runs", v1.PodRunning)
	n.eventually("nothing is left of it", func() error {
		logs, err := filepath.Glob(n.path("logs", "default_a-first_*"))
		kept, globErr := filepath.Glob(n.path("root", "objects", "*a-first*"))
		if err := errors.Join(err, globErr); err != nil || len(logs)+len(kept) > 0 {
			return fmt.Errorf("there are %q and %q: %w", logs, kept, err)
		}
		return nil
	})
}
