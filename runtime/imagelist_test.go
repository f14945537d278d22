package runtime

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
)

func TestImagesAreListedByAllTheirNames(t *testing.T) {
	t.Parallel()
	got := listImages(map[digest.Digest]Listed{
		"sha256:1": {Names: []string{"registry/a:2", "registry/a@sha256:1", "registry/a:1", "registry/a@sha256:1"}, Size: 1},
		"sha256:2": {Names: []string{"registry/b@sha256:2"}, Size: 2},
	})
	want := []Listed{
		{Names: []string{"registry/b@sha256:2"}, Size: 2},
		{Names: []string{"registry/a@sha256:1", "registry/a:1", "registry/a:2"}, Size: 1},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
