package node

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
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

// TestOneDeadInstanceCanBeRead has the files of all instances still there, rotated ones too, as after an agent that was killed
// again and again.
func TestOneDeadInstanceCanBeRead(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"app", "3"} {
		dir := t.TempDir()
		n := &Node{RootDir: filepath.Join(dir, "root"), LogsDir: filepath.Join(dir, "pods")}
		of := Target{
			Pod:       &v1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web", UID: "1"}},
			Container: &v1.Container{Name: name}, Attempt: 4,
		}
		other := of
		other.Container = &v1.Container{Name: name + "-2"}
		write := func(files ...string) {
			for _, file := range files {
				if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, nil, 0o600)); err != nil {
					t.Fatal(err)
				}
			}
		}
		for attempt := range 5 {
			for _, target := range []Target{of.Of(attempt), other.Of(attempt)} {
				write(n.logFile(target), n.logFile(target)+".20260101-000000.gz", n.terminationLog(target))
				if err := n.link(target); err != nil {
					t.Fatal(err)
				}
			}
		}
		for range 2 {
			n.removeOldLogs(of)
		}
		for attempt := range 5 {
			for target, kept := range map[*Target]bool{new(of.Of(attempt)): attempt >= 3, new(other.Of(attempt)): true} {
				for _, file := range []string{n.logFile(*target), n.logFile(*target) + ".20260101-000000.gz", n.terminationLog(*target), n.logLink(*target)} {
					if _, err := os.Lstat(file); (err == nil) != kept {
						t.Errorf("of attempt %d of %s %s is there: %v", attempt, target.Container.Name, file, !kept)
					}
				}
			}
		}
	}
}

// TestLinksToNoLogAreSwept has a link of a Pod whose logs somebody has removed, one whose log is being rotated, and those of
// somebody else.
func TestLinksToNoLogAreSwept(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	n := &Node{LogsDir: filepath.Join(dir, "pods")}
	links := filepath.Join(dir, "containers")
	for _, d := range []string{links, filepath.Join(n.LogsDir, "default_rotated_2", "app")} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, to := range map[string]string{
		"gone.log":     filepath.Join(n.LogsDir, "default_gone_1", "app", "0.log"),
		"rotated.log":  filepath.Join(n.LogsDir, "default_rotated_2", "app", "0.log"),
		"stranger.log": filepath.Join(dir, "elsewhere", "default_gone_1", "app", "0.log"),
	} {
		if err := os.Symlink(to, filepath.Join(links, name)); err != nil {
			t.Fatal(err)
		}
	}
	n.SweepLinks()
	left, err := filepath.Glob(filepath.Join(links, "*"))
	if want := []string{filepath.Join(links, "rotated.log"), filepath.Join(links, "stranger.log")}; err != nil || !slices.Equal(left, want) {
		t.Errorf("left are %v, %v; want %v", left, err, want)
	}
}
