package node

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestWhatLogsTake(t *testing.T) {
	t.Parallel()
	n := &Node{LogsDir: t.TempDir()}
	pod := &v1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web", UID: "1"}}
	if _, err := n.LogDisk(pod, "app"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without any: %v", err)
	}
	for file, content := range map[string]string{"0.log": "12345", "0.log.20260101-000000.gz": "123"} {
		path := filepath.Join(n.logDir(pod), "app", file)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(content), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	d, err := n.LogDisk(pod, "app")
	if err != nil || d.Used != 8 || d.InodesUsed != 2 || d.Capacity < d.Available || d.Available == 0 || d.At.IsZero() {
		t.Errorf("%+v, %v", d, err)
	}
}

func TestTheNodeWasStartedBefore(t *testing.T) {
	t.Parallel()
	at, err := new(Node).Booted()
	if err != nil || !at.Before(time.Now()) || time.Since(at) > 20*365*24*time.Hour {
		t.Errorf("at %v: %v", at, err)
	}
}
