package runtime

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"path"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// maxArchived is how many files an image archive may have. Each is remembered while it is imported; an image has one a layer,
// and two or three besides.
const maxArchived = 10_000

// checkArchive reads the headers of an image archive, before it is imported: how much of what follows them is believed must not
// be up to who wrote it. A file must be in the archive as long as it says: a sparse one would be read as zeros without end.
func checkArchive(archive io.ReadSeeker) error {
	size, err := archive.Seek(0, io.SeekEnd)
	if err == nil {
		_, err = archive.Seek(0, io.SeekStart)
	}
	if err != nil {
		return err
	}
	files := tar.NewReader(archive)
	var sum int64
	for n := 0; ; n++ {
		h, err := files.Next()
		if errors.Is(err, io.EOF) {
			_, err = archive.Seek(0, io.SeekStart)
			return err
		}
		if err != nil {
			return fmt.Errorf("it is no image archive: %w", err)
		}
		if n == maxArchived {
			return fmt.Errorf("it has more than %d files", maxArchived)
		}
		if h.Size < 0 || h.Size > size-sum {
			return fmt.Errorf("%q has %d bytes, and the whole archive %d: it must be whole, and not sparse", h.Name, h.Size, size)
		}
		sum += h.Size
		switch path.Clean(h.Name) {
		case ocispec.ImageIndexFile, ocispec.ImageLayoutFile, "manifest.json":
			if h.Size > maxDocument {
				return fmt.Errorf("%s has %d bytes: at most %d MiB are read", h.Name, h.Size, maxDocument>>20)
			}
		}
	}
}
