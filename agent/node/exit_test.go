package node

import (
	"os"
	"path/filepath"
	"testing"

	v1 "k8s.io/api/core/v1"
)

func TestTerminationMessages(t *testing.T) {
	t.Parallel()
	for n, want := range map[int]int{1: 4096, 3: 4096, 4: 3072, 12: 1024} {
		pod := &v1.Pod{Spec: v1.PodSpec{Containers: make([]v1.Container, n)}}
		if got := messageLimit(pod); got != want {
			t.Errorf("of %d containers: %d bytes each, want %d", n, got, want)
		}
	}
	file := filepath.Join(t.TempDir(), "message")
	if got := head(file, 10); got != "" {
		t.Errorf("of no file: %q", got)
	}
	if err := os.WriteFile(file, []byte("0123456789abc"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := head(file, 10); got != "0123456789" {
		t.Errorf("got %q", got)
	}
}
