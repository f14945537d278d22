package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// kubectl is where kubectl is, Kubernetes' own of the version that go.mod names. It is built when the first test asks.
func kubectl(t *testing.T) string {
	t.Helper()
	if errors.Is(lab.err, errSkip) {
		t.Skip(lab.err)
	} else if lab.err != nil {
		t.Fatal(lab.err)
	}
	path, err := buildKubectl()
	if errors.Is(err, exec.ErrNotFound) {
		t.Skip("there is no Go to build kubectl with, and PODKEEPER_TEST_KUBECTL names none")
	} else if err != nil {
		t.Fatal(err)
	}
	return path
}

var buildKubectl = sync.OnceValues(func() (string, error) {
	if built := os.Getenv("PODKEEPER_TEST_KUBECTL"); built != "" {
		return built, nil
	}
	path := filepath.Join(labDir, "kubectl")
	build := exec.Command("go", "build", "-ldflags", "-s -w", "-o", path, "k8s.io/kubernetes/cmd/kubectl")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build kubectl: %w: %s", err, out)
	}
	return path, nil
})

func TestKubectlIsThere(t *testing.T) {
	t.Parallel()
	made, err := exec.Command(kubectl(t), "create", "configmap", "x", "--dry-run=client", "-o", "name").Output()
	if err != nil || strings.TrimSpace(string(made)) != "configmap/x" {
		t.Errorf("it says %q: %v", made, err)
	}
}
