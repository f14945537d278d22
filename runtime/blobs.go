package runtime

import (
	"context"
	"fmt"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// maxDocument is how large a manifest, an index or a configuration of an image may be, in bytes. Those are read into memory, whoever
// has made the image; containerd takes no larger manifest from a registry (core/remotes/docker, MaxManifestSize).
const maxDocument = 4 << 20

// blobs is containerd's content, of which nothing large is read into the agent's memory. Layers are containerd's to unpack.
type blobs struct{ content.Store }

// ReaderAt opens a blob. A document that is too large is an error; of anything else no more than the beginning can be read, by
// which containerd's libraries tell how a layer is compressed. An image may call its configuration a layer, and gains nothing.
func (b *blobs) ReaderAt(ctx context.Context, desc ocispec.Descriptor) (content.ReaderAt, error) {
	reader, err := b.Store.ReaderAt(ctx, desc)
	if err != nil || reader.Size() <= maxDocument {
		return reader, err
	}
	if desc.MediaType == "" || images.IsLayerType(desc.MediaType) {
		return beginning{reader}, nil
	}
	size := reader.Size()
	_ = reader.Close()
	return nil, fmt.Errorf("%s %s has %d bytes: at most %d MiB are read", desc.MediaType, desc.Digest, size, maxDocument>>20)
}

// beginning is that of a large blob.
type beginning struct{ content.ReaderAt }

// Size is how much of it can be read, in bytes.
func (beginning) Size() int64 { return maxDocument }
