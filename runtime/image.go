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
	"github.com/containerd/containerd/v2/core/remotes"
	"github.com/containerd/containerd/v2/core/remotes/docker"
	"github.com/containerd/containerd/v2/core/remotes/docker/config"
	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/identity"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	v1 "k8s.io/api/core/v1"
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

// Pull says what EnsureImage did.
type Pull struct {
	Image   Image
	Pulled  bool          // the registry was asked and content fetched or confirmed
	Took    time.Duration // the pull alone
	Waiting time.Duration // the pull and the wait for its turn
}

// EnsureImage makes an image present and unpacked by its pull policy. With Always a present image is checked against the
// registry by digest and fetched only where that differs. Callers that want the same image at once, by whatever name, share
// one pull, which goes on when one of them gives up. pulling, which may be nil, is called before the registry is asked.
func (r *Runtime) EnsureImage(ctx context.Context, ref string, policy v1.PullPolicy, pulling func()) (Pull, error) {
	named, err := reference.ParseDockerRef(ref)
	if err != nil {
		return Pull{}, fmt.Errorf("%w: %q: %w", ErrInvalidImageName, ref, err)
	}
	full := named.String()
	r.turns.meet(reference.Domain(named))
	if policy != v1.PullAlways {
		image, err := r.image(ctx, full)
		if errdefs.IsNotFound(err) {
			r.awaitImports(ctx)
			image, err = r.image(ctx, full)
		}
		if err == nil {
			return Pull{Image: image}, nil
		}
		if !errdefs.IsNotFound(err) {
			return Pull{}, fmt.Errorf("%w: image %q: %w", ErrImageInspect, ref, err)
		}
		if policy == v1.PullNever {
			return Pull{}, fmt.Errorf("%w: Container image %q is not present with pull policy of Never", ErrImageNeverPull, ref)
		}
	}
	if pulling != nil {
		pulling()
	}
	return r.sharedPull(ctx, named)
}

func (r *Runtime) sharedPull(ctx context.Context, named reference.Named) (Pull, error) {
	begin, full := time.Now(), named.String()
	shared := r.pulls.DoChan(full, func() (any, error) {
		ctx := context.WithoutCancel(ctx)
		pull, err := r.pull(ctx, named)
		return pull, r.blame(ctx, err)
	})
	select {
	case <-ctx.Done():
		return Pull{}, fmt.Errorf("%w: %w", ErrImagePull, ctx.Err())
	case done := <-shared:
		if done.Err != nil {
			return Pull{}, fmt.Errorf("%w: failed to pull and unpack image %q: %w", ErrImagePull, full, done.Err)
		}
		pull, ok := done.Val.(Pull)
		if !ok {
			return Pull{}, fmt.Errorf("%w: failed to pull and unpack image %q: no answer", ErrImagePull, full)
		}
		pull.Waiting = time.Since(begin)
		return pull, nil
	}
}

// blameTimeout is how long containerd may think about whether it is there.
const blameTimeout = 2 * time.Second

// blame tells a pull that failed because containerd went away from one that the registry failed: a stream that breaks says
// only EOF, as a registry's does.
func (r *Runtime) blame(ctx context.Context, err error) error {
	if err == nil || IsUnavailable(err) {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, blameTimeout)
	defer cancel()
	if _, away := r.Version(ctx); IsUnavailable(away) {
		return fmt.Errorf("%w: %w", away, err)
	}
	return err
}

// pull asks the registry what a name means now, and fetches and unpacks what is missing of that.
func (r *Runtime) pull(ctx context.Context, named reference.Named) (Pull, error) {
	begin, full := time.Now(), named.String()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	resolver := r.resolver(ctx, full, &watchdog{cancel: cancel})
	_, desc, err := resolver.Resolve(ctx, full)
	if err != nil {
		return Pull{}, fmt.Errorf("failed to resolve reference %q: %w", full, pullCause(ctx, err))
	}
	took := time.Since(begin)
	if present, err := r.client.ImageService().Get(ctx, full); err == nil && present.Target.Digest == desc.Digest {
		if image, err := r.image(ctx, full); err == nil {
			return Pull{Image: image, Pulled: true, Took: took}, nil
		}
	}
	fetching, err := r.fetch(ctx, full, desc, func() (time.Duration, error) {
		done := r.turns.take(reference.Domain(named))
		defer done()
		turn := time.Now()
		_, err := r.client.Pull(ctx, full, client.WithResolver(resolver), client.WithPullUnpack, client.WithPullSnapshotter(r.snapshotter))
		if err != nil {
			return 0, pullCause(ctx, err)
		}
		return time.Since(turn), nil
	})
	if err != nil {
		return Pull{}, err
	}
	image, err := r.image(ctx, full)
	return Pull{Image: image, Pulled: true, Took: took + fetching}, err
}

// fetched is what came of fetching an image.
type fetched struct {
	name string // under which it was fetched
	took time.Duration
}

// fetch has what a name means fetched, and answers how long that took. What is being fetched by another name is awaited and
// gets this name, too; where that fails, the fault may be the other registry's.
func (r *Runtime) fetch(ctx context.Context, full string, desc ocispec.Descriptor, pull func() (time.Duration, error)) (time.Duration, error) {
	for {
		done, err, _ := r.fetches.Do(desc.Digest.String(), func() (any, error) {
			took, err := pull()
			return fetched{full, took}, err
		})
		by, _ := done.(fetched)
		switch {
		case by.name == full:
			return by.took, err
		case err == nil:
			return by.took, r.tag(ctx, full, desc)
		}
	}
}

// tag gives an image whose content is there a name.
func (r *Runtime) tag(ctx context.Context, full string, desc ocispec.Descriptor) error {
	record := images.Image{Name: full, Target: desc}
	_, err := r.client.ImageService().Create(ctx, record)
	if errdefs.IsAlreadyExists(err) {
		_, err = r.client.ImageService().Update(ctx, record, "target")
	}
	if err != nil {
		return fmt.Errorf("name image: %w", err)
	}
	return nil
}

// pullCause prefers the reason a pull was cancelled for over the cancellation.
func pullCause(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}

// resolver asks registries, by hosts.toml where there is one and by the docker configuration's credentials.
func (r *Runtime) resolver(ctx context.Context, full string, stalled *watchdog) remotes.Resolver {
	return docker.NewResolver(docker.ResolverOptions{Hosts: config.ConfigureHosts(ctx, config.HostOptions{
		HostDir: config.HostDirFromRoot(r.cfg.HostsDir),
		Credentials: func(host string) (string, string, error) {
			registry, err := name.NewRegistry(host)
			if err != nil {
				return "", "", fmt.Errorf("read registry name of %s: %w", full, err)
			}
			authenticator, err := authn.DefaultKeychain.Resolve(registry)
			if err != nil {
				return "", "", fmt.Errorf("find credentials for %s: %w", host, err)
			}
			auth, err := authenticator.Authorization()
			if err != nil {
				return "", "", fmt.Errorf("find credentials for %s: %w", host, err)
			}
			if auth.IdentityToken != "" {
				return "", auth.IdentityToken, nil
			}
			return auth.Username, auth.Password, nil
		},
		UpdateClient: stalled.watch,
	})})
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
	// An OCI layout without a full name gets one from the file's: demo.tar holds podkeeper.local/demo:TAG.
	base, _, _ := strings.Cut(filepath.Base(file), ".")
	found, err := r.client.Import(ctx, f, client.WithImageRefTranslator(importName("podkeeper.local/"+base)))
	if err != nil {
		return nil, fmt.Errorf("import images from %s: %w", file, err)
	}
	names := make([]string, 0, len(found))
	for _, record := range found {
		if _, err := r.image(ctx, record.Name); err != nil {
			return nil, fmt.Errorf("import image %s from %s: %w", record.Name, file, err)
		}
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
