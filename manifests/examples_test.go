package manifests

import (
	"os"
	"path/filepath"
	"testing"
)

func TestExamplesAreAccepted(t *testing.T) {
	t.Parallel()
	count := 0
	for _, pattern := range []string{"examples/*.yaml", "examples/more/*.yaml"} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			pods, refused := decodePods(file, data)
			for _, r := range refused {
				t.Error(r)
			}
			count += len(pods)
		}
	}
	if count != 6 {
		t.Errorf("%d Pods in the examples, want 6", count)
	}
}
