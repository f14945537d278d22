package runtime

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func TestTheFolderOfASandboxGoes(t *testing.T) {
	// Not parallel: names without a folder are the working directory's.
	own, here := t.TempDir(), t.TempDir()
	t.Chdir(here)
	fill := func(dir string) {
		t.Helper()
		for _, name := range []string{"io", "shm", "other"} {
			if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.WriteFile(filepath.Join(dir, "io", "app.out"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	fill(own)
	fill(here)
	for range 2 { // what is gone is gone
		for _, dir := range []string{own, ""} {
			if err := DeleteSandboxDir(dir); err != nil {
				t.Fatal(err)
			}
		}
	}
	if left := logFiles(t, own); !slices.Equal(left, []string{"other"}) {
		t.Errorf("%q are left of the sandbox", left)
	}
	if left := logFiles(t, here); !slices.Equal(left, []string{"io", "other", "shm"}) {
		t.Errorf("without a folder, of the working directory %q are left", left)
	}
}
