package main

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"

	v1 "k8s.io/api/core/v1"

	"github.com/podkeeper/podkeeper/hack/daemon"
)

// TestContainerdIsUpgraded puts containerd 2 in the place of the host's below Pods that run: none notices, and what the one has
// made is the other's to restart and to end.
func TestContainerdIsUpgraded(t *testing.T) {
	t.Parallel()
	newer := os.Getenv("PODKEEPER_TEST_CONTAINERD")
	if newer == "" {
		t.Skip("PODKEEPER_TEST_CONTAINERD names no containerd to upgrade to: make test-containerd2 does")
	}
	n := prepare(t)
	own := func(program string, extra ...string) {
		t.Helper()
		var err error
		if n.own, err = daemon.Start(program, n.path("containerd"), extra...); err != nil {
			t.Fatal(err)
		}
	}
	own("containerd")
	n.restart()
	n.apply("probed.yaml", simple("probed", forever)+`    readinessProbe: {exec: {command: ["true"]}, periodSeconds: 1, timeoutSeconds: 30}
    livenessProbe: {exec: {command: ["true"]}, periodSeconds: 1, timeoutSeconds: 30}
`)
	n.apply("other.yaml", simple("other", forever))
	before := []*v1.Pod{n.awaitReady("probed"), n.awaitReady("other")}

	if err := n.own.Stop(); err != nil {
		t.Fatal(err)
	}
	own(filepath.Join(newer, "containerd"), newer)
	n.apply("after.yaml", simple("after", forever))
	n.awaitReady("after")
	for _, was := range before {
		now := n.awaitReady(was.Name)
		if containerStatus(now, "app").ContainerID != containerStatus(was, "app").ContainerID || !readySince(now).Equal(readySince(was)) {
			t.Errorf("%s was %+v, it is %+v", was.Name, was.Status, now.Status)
		}
	}

	if err := syscall.Kill(n.pid(before[0], "app"), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	n.await("probed", "is restarted", func(p *v1.Pod) bool { return isReady(p) && containerStatus(p, "app").RestartCount == 1 })
	n.remove("other.yaml")
	n.awaitGone("other")
}
