// Package image writes images of one layer as docker archives, without any registry: for the programs of hack that make some.
package image

import (
	"fmt"
	"os"
	"runtime"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// Write writes the image of a tar of files to a file, in one step. The image is for this machine's architecture.
func Write(to, tag string, files tarball.Opener, config v1.Config) error {
	ref, err := name.NewTag(tag)
	if err != nil {
		return fmt.Errorf("read tag: %w", err)
	}
	layer, err := tarball.LayerFromOpener(files)
	if err != nil {
		return fmt.Errorf("make layer: %w", err)
	}
	image, err := mutate.AppendLayers(empty.Image, layer)
	if err != nil {
		return fmt.Errorf("make image: %w", err)
	}
	whole, err := image.ConfigFile()
	if err != nil {
		return fmt.Errorf("make image: %w", err)
	}
	whole.OS, whole.Architecture, whole.Config = "linux", runtime.GOARCH, config
	if image, err = mutate.ConfigFile(image, whole); err != nil {
		return fmt.Errorf("make image: %w", err)
	}
	if err := tarball.WriteToFile(to+".tmp", ref, image); err != nil {
		return fmt.Errorf("write archive: %w", err)
	}
	if err := os.Rename(to+".tmp", to); err != nil {
		return fmt.Errorf("write archive: %w", err)
	}
	return nil
}
