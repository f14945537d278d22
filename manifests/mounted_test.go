package manifests

import (
	"os"
	"path/filepath"
	"testing"
)

func TestTheMountPointIsRememberedOnceThatCanBe(t *testing.T) {
	t.Parallel()
	dir, keep := t.TempDir(), filepath.Join(t.TempDir(), "keep")
	if err := os.WriteFile(keep, nil, 0o600); err != nil { // no folder can be made there
		t.Fatal(err)
	}
	m := openMounted(keep)
	look := func() {
		t.Helper()
		if err := m.check(dir, true); err != nil {
			t.Error(err)
		}
	}
	look()
	if err := os.Remove(keep); err != nil {
		t.Fatal(err)
	}
	look()
	if point := openMounted(keep).point; point == "" {
		t.Error("another agent does not know it")
	}
}
