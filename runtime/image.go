package runtime

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/identity"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	v1 "k8s.io/api/core/v1"

	"github.com/podkeeper/podkeeper/runtime/credentials"
	"github.com/podkeeper/podkeeper/runtime/pullrecords"
)

// Image is one image that is present and unpacked.
type Image struct {
	Name   string // as containerd knows it, docker.io/library/busybox:1.36
	ID     string // digest of its configuration
	Digest string // name@digest of what the registry serves, what Kubernetes reports as imageID
	Size   int64  // bytes of its content
	Config ocispec.ImageConfig

	chainID string // the snapshot that a container's writable layer stands on
}

// Why an image is not to be had. Errors of EnsureImage wrap one of these; the texts are Kubernetes' waiting reasons
// (kubernetes/kubernetes pkg/kubelet/images/types.go).
var (
	ErrInvalidImageName = errors.New("InvalidImageName")
	ErrImageNeverPull   = errors.New("ErrImageNeverPull")
	ErrImagePull        = errors.New("ErrImagePull")
	ErrImageInspect     = errors.New("ImageInspectError")
)

// Request is what is wanted of EnsureImage.
type Request struct {
	Image  string // as the Pod has it
	Policy v1.PullPolicy
	// Credentials are what the Pod's imagePullSecrets hold, in their order, for whatever images.
	Credentials []credentials.Credential
	Pulling     func()                  // called before the registry is asked; may be nil
	Progress    func(done, total int64) // told the bytes that are there and those of all that was missing; may be nil
}

// Pull says what EnsureImage did.
type Pull struct {
	Image   Image
	Pulled  bool          // the registry was asked and content fetched or confirmed
	Took    time.Duration // the pull alone
	Waiting time.Duration // the pull and the wait for its turn
}

// EnsureImage makes an image present and unpacked by its pull policy. With Always a present image is checked against the
// registry by digest and fetched only where that differs; so is one that is present, but that the Pod has yet no right to
// (see pullrecords): with Never it is then as if it were not there. Callers that want the same image with the same
// credentials at once share one pull, which goes on when one of them gives up. While that goes on, Progress is called at most
// every half second.
func (r *Runtime) EnsureImage(ctx context.Context, req Request) (Pull, error) {
	named, err := reference.ParseDockerRef(req.Image)
	if err != nil {
		return Pull{}, fmt.Errorf("%w: %q: %w", ErrInvalidImageName, req.Image, err)
	}
	r.uses.note(time.Now(), named.String())
	r.turns.meet(reference.Domain(named))
	has := credentials.ForImage(req.Credentials, named.Name())
	if req.Policy != v1.PullAlways {
		image, usable, err := r.usableImage(ctx, req.Image, named.String(), has)
		if err != nil {
			return Pull{}, fmt.Errorf("%w: image %q: %w", ErrImageInspect, req.Image, err)
		}
		if usable {
			return Pull{Image: image}, nil
		}
		if req.Policy == v1.PullNever {
			const text = "%w: Container image %q is not present with pull policy of Never"
			return Pull{}, r.archives.explain(fmt.Errorf(text, ErrImageNeverPull, req.Image))
		}
	}
	if req.Pulling != nil {
		req.Pulling()
	}
	pull, err := r.sharedPull(ctx, named, has, req.Progress)
	return pull, r.archives.explain(err)
}

// usableImage finds a present image that a Pod with these credentials may use without asking the registry.
func (r *Runtime) usableImage(
	ctx context.Context, asked, full string, has []credentials.Credential,
) (image Image, usable bool, err error) {
	look := func() {
		image, err = r.image(ctx, full)
		if errdefs.IsNotFound(err) {
			image, err = Image{}, nil
			return
		}
		record := pullrecords.Image{Asked: asked, Name: full, ID: image.ID}
		usable = err == nil && r.records.Allows(record, has)
	}
	if look(); !usable && err == nil {
		r.awaitImports(ctx)
		look()
	}
	return image, usable, err
}

// image reads what is known of a present image, and unpacks it if it is not. NotFound where it is not whole.
func (r *Runtime) image(ctx context.Context, full string) (Image, error) {
	record, err := r.client.ImageService().Get(ctx, full)
	if err != nil {
		return Image{}, fmt.Errorf("get image: %w", err)
	}
	image, err := r.content(ctx, record)
	if err != nil {
		return Image{}, err
	}
	image.Name, image.Digest = full, digestRef(full, record.Target.Digest)
	if _, err := r.client.SnapshotService(r.snapshotter).Stat(ctx, image.chainID); errdefs.IsNotFound(err) {
		err = client.NewImage(r.client, record).Unpack(ctx, r.snapshotter)
		if err != nil {
			return Image{}, fmt.Errorf("unpack image: %w", err)
		}
	} else if err != nil {
		return Image{}, fmt.Errorf("find unpacked image: %w", err)
	}
	return image, nil
}

// content is what an image's content says, whatever its name. It follows from the digest, so that it is read once.
func (r *Runtime) content(ctx context.Context, record images.Image) (Image, error) {
	if known, ok := r.contents.Get(record.Target.Digest); ok {
		return known.(Image), nil
	}
	store, platform := r.client.ContentStore(), platforms.Default()
	configDesc, err := images.Config(ctx, store, record.Target, platform)
	if err != nil {
		return Image{}, fmt.Errorf("read image manifest: %w", err)
	}
	blob, err := content.ReadBlob(ctx, store, configDesc)
	if err != nil {
		return Image{}, fmt.Errorf("read image configuration: %w", err)
	}
	var spec ocispec.Image
	if err := json.Unmarshal(blob, &spec); err != nil {
		return Image{}, fmt.Errorf("read image configuration: %w", err)
	}
	image := Image{ID: configDesc.Digest.String(), Config: spec.Config, chainID: identity.ChainID(spec.RootFS.DiffIDs).String()}
	if image.Size, err = record.Size(ctx, store, platform); err != nil {
		return Image{}, fmt.Errorf("measure image: %w", err)
	}
	r.contents.Add(record.Target.Digest, image)
	return image, nil
}

// digestRef is name@digest without the tag.
func digestRef(full string, d digest.Digest) string {
	named, err := reference.ParseNormalizedNamed(full)
	if err != nil {
		return d.String()
	}
	return reference.TrimNamed(named).Name() + "@" + d.String()
}

// Import loads one OCI or docker archive, unpacks what it holds and answers the names of the images.
func (r *Runtime) Import(ctx context.Context, file string) ([]string, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("import images: %w", err)
	}
	defer f.Close()
	if err := checkArchive(f); err != nil {
		return nil, fmt.Errorf("import images from %s: %w", file, err)
	}
	// An OCI layout without a full name gets one from the file's: demo.tar holds podkeeper.local/demo:TAG.
	base, _, _ := strings.Cut(filepath.Base(file), ".")
	found, err := r.client.Import(ctx, f, client.WithImageRefTranslator(importName("podkeeper.local/"+base)))
	if err != nil {
		return nil, fmt.Errorf("import images from %s: %w", file, err)
	}
	names := make([]string, 0, len(found))
	for _, record := range found {
		image, err := r.image(ctx, record.Name)
		if err != nil {
			return nil, fmt.Errorf("import image %s from %s: %w", record.Name, file, err)
		}
		r.records.Preload(image.ID)
		names = append(names, record.Name)
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("import images from %s: the archive names no image: give it a tag", file)
	}
	return names, nil
}

// importName makes full names of what an archive calls its images: a name is normalised, a bare tag is put behind prefix.
func importName(prefix string) func(string) string {
	return func(ref string) string {
		if !strings.ContainsAny(ref, "/:@") {
			return prefix + ":" + ref
		}
		named, err := reference.ParseDockerRef(ref)
		if err != nil {
			return ref
		}
		return named.String()
	}
}
