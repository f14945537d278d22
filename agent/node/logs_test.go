package node

import (
	"os"
	"path/filepath"
	"testing"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// TestForgetLeavesNoLink has every attempt's link still there, as after tidying was cut short, and those of the Pod's next
// instance and of a Pod whose name begins alike.
func TestForgetLeavesNoLink(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	n := &Node{RootDir: filepath.Join(dir, "root"), LogsDir: filepath.Join(dir, "pods")}
	linked := func(name, uid string, attempt int) string {
		pod := &v1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, UID: types.UID(uid)}}
		of := Target{Pod: pod, Container: &v1.Container{Name: "app"}, Attempt: attempt}
		if err := os.MkdirAll(filepath.Dir(n.logFile(of)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := n.link(of); err != nil {
			t.Fatal(err)
		}
		return n.logLink(of)
	}
	var gone []string
	for attempt := range 4 {
		gone = append(gone, linked("web", "1", attempt))
	}
	kept := []string{linked("web", "2", 0), linked("web-2", "3", 0)}
	if err := n.Forget(&v1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web", UID: "1"}}); err != nil {
		t.Fatal(err)
	}
	for _, link := range gone {
		if _, err := os.Lstat(link); err == nil {
			t.Errorf("%s is left", filepath.Base(link))
		}
	}
	for _, link := range kept {
		if _, err := os.Lstat(link); err != nil {
			t.Error(err)
		}
	}
}
