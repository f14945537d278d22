package node

import (
	"os"
	"path/filepath"
	"testing"
)

func TestWriteDurablyReplaces(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "a", "b", "file")
	for _, text := range []string{"a long first text", "short"} {
		if err := WriteDurably(file, []byte(text)); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(file); err != nil || string(got) != text {
			t.Errorf("got %q: %v", got, err)
		}
	}
	if left, _ := os.ReadDir(filepath.Dir(file)); len(left) != 1 {
		t.Errorf("left beside it: %v", left)
	}
	if err := WriteDurably(filepath.Dir(file), nil); err == nil {
		t.Error("over a folder: no error")
	}
	if left, _ := os.ReadDir(filepath.Dir(filepath.Dir(file))); len(left) != 1 {
		t.Errorf("left of what failed: %v", left)
	}
	if err := WriteDurably(filepath.Join(file, "below a file"), nil); err == nil {
		t.Error("below a file: no error")
	}
}
