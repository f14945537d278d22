package runtime

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
)

// Listed is one image that is there, by all its names.
type Listed struct {
	Names []string // those with a digest first, then those with a tag
	Size  int64    // bytes of its content
}

// Images lists the images that are there, the largest first. One that is not whole is not among them.
func (r *Runtime) Images(ctx context.Context) ([]Listed, error) {
	records, err := r.client.ImageService().List(ctx)
	if err != nil {
		return nil, fmt.Errorf("list images: %w", err)
	}
	found := map[digest.Digest]Listed{}
	for _, record := range records {
		image, err := r.content(ctx, record)
		if errdefs.IsNotFound(err) {
			continue
		}
		if err != nil {
			return nil, err
		}
		at := record.Target.Digest
		found[at] = Listed{Names: append(found[at].Names, record.Name, digestRef(record.Name, at)), Size: image.Size}
	}
	return listImages(found), nil
}

// listImages sorts images and their names.
func listImages(found map[digest.Digest]Listed) []Listed {
	all := slices.Collect(maps.Values(found))
	for i := range all {
		slices.SortFunc(all[i].Names, func(a, b string) int {
			if byDigest := strings.Contains(a, "@"); byDigest != strings.Contains(b, "@") {
				return map[bool]int{true: -1, false: 1}[byDigest]
			}
			return cmp.Compare(a, b)
		})
		all[i].Names = slices.Compact(all[i].Names)
	}
	slices.SortFunc(all, func(a, b Listed) int { return cmp.Or(cmp.Compare(b.Size, a.Size), slices.Compare(a.Names, b.Names)) })
	return all
}
