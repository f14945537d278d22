package runtime

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/remotes/docker"
	remoteerrors "github.com/containerd/containerd/v2/core/remotes/errors"
	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/podkeeper/podkeeper/runtime/credentials"
	"github.com/podkeeper/podkeeper/runtime/pullrecords"
)

// sharedPull joins the pull of an image with these credentials of a Pod. Others' pulls are none of its business: what comes
// of those may not be for it.
func (r *Runtime) sharedPull(
	ctx context.Context, named reference.Named, has []credentials.Credential, told func(done, total int64),
) (Pull, error) {
	begin, full := time.Now(), named.String()
	key := full
	for _, c := range has {
		key += " " + c.Hash()
	}
	pull := r.pulls.join(key, func(p *progress) (Pull, error) {
		ctx := context.WithoutCancel(ctx)
		pull, err := r.pull(ctx, named, has, p)
		return pull, r.blame(ctx, err)
	})
	pull.progress.tell(ctx, pull.landed, told)
	select {
	case <-ctx.Done():
		return Pull{}, fmt.Errorf("%w: %w", ErrImagePull, ctx.Err())
	case <-pull.landed:
	}
	if pull.err != nil {
		return Pull{}, fmt.Errorf("%w: failed to pull and unpack image %q: %w", ErrImagePull, full, pull.err)
	}
	result := pull.result
	result.Waiting = time.Since(begin)
	return result, nil
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

// pull shows the registry one ticket after another until it gives the image for one of them. Only a refusal makes it try the
// next: a registry that is away is so whatever it is shown.
func (r *Runtime) pull(
	ctx context.Context, named reference.Named, has []credentials.Credential, p *progress,
) (Pull, error) {
	if err := r.rate.Wait(ctx); err != nil {
		return Pull{}, err
	}
	var refusals []error
	for _, tickets := range r.tickets(named, has) {
		some, err := tickets(ctx)
		if err != nil {
			refusals = append(refusals, err)
		}
		for _, t := range some {
			pull, err := r.pullWith(ctx, named, t, p)
			if err == nil || !isRefusal(err) {
				return pull, err
			}
			refusals = append(refusals, err)
		}
	}
	return Pull{}, distinct(refusals)
}

// isRefusal says whether a registry may give with other credentials what it has not given. Some say that there is no such
// image to whoever may not see it.
func isRefusal(err error) bool {
	var status remoteerrors.ErrUnexpectedStatus
	if errors.As(err, &status) {
		return status.StatusCode >= http.StatusBadRequest && status.StatusCode < http.StatusInternalServerError
	}
	return errors.Is(err, docker.ErrInvalidAuthorization) || errdefs.IsNotFound(err)
}

// distinct joins errors in one line, without those that say the same as an earlier one.
func distinct(errs []error) (all error) {
	for _, err := range errs {
		switch {
		case all == nil:
			all = err
		case !strings.Contains(all.Error(), err.Error()):
			all = fmt.Errorf("%w; %w", all, err)
		}
	}
	return all
}

// pullWith asks the registry what a name means now, and fetches and unpacks what is missing of that.
func (r *Runtime) pullWith(ctx context.Context, named reference.Named, t *ticket, p *progress) (Pull, error) {
	begin, full := time.Now(), named.String()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	resolver := r.resolver(ctx, t, &watchdog{cancel: cancel})
	_, desc, err := resolver.Resolve(ctx, full)
	if err != nil {
		return Pull{}, fmt.Errorf("failed to resolve reference %q: %w", full, pullCause(ctx, err))
	}
	took := time.Since(begin)
	if present, err := r.client.ImageService().Get(ctx, full); err == nil && present.Target.Digest == desc.Digest {
		if image, err := r.image(ctx, full); err == nil {
			r.noted(r.records.Confirm(recordOf(image), t.credential))
			return Pull{Image: image, Pulled: true, Took: took}, nil
		}
	}
	if err := r.records.Begin(full); err != nil {
		return Pull{}, err
	}
	have := func(ctx context.Context, opts ...client.RemoteOpt) error {
		_, err := r.client.Pull(ctx, full, append(opts, client.WithResolver(resolver))...)
		if err != nil {
			return pullCause(ctx, err)
		}
		return nil
	}
	fetching, err := r.fetch(ctx, fetchKey{full, t}, desc, p, have)
	var image Image
	if err == nil {
		image, err = r.image(ctx, full)
	}
	if err != nil {
		r.noted(r.giveUp(full, desc))
		return Pull{}, err
	}
	r.noted(r.records.Complete(recordOf(image), t.credential))
	return Pull{Image: image, Pulled: true, Took: took + fetching}, nil
}

func recordOf(image Image) pullrecords.Image {
	return pullrecords.Image{Asked: image.Name, Name: image.Name, ID: image.ID}
}

// noted tells of records that could not be written: the image is there, and who may use it is asked anew each time.
func (r *Runtime) noted(err error) {
	if err != nil {
		r.cfg.Log.Warn("who may use an image is not noted", "error", err)
	}
}

// giveUp ends the record of a pull that failed. It may have brought the image all the same.
func (r *Runtime) giveUp(full string, desc ocispec.Descriptor) error {
	ctx, cancel := context.WithTimeout(context.Background(), blameTimeout)
	defer cancel()
	present, err := r.client.ImageService().Get(ctx, full)
	if errdefs.IsNotFound(err) || err == nil && present.Target.Digest != desc.Digest {
		return r.records.Fail(full)
	}
	return r.records.Doubt(full)
}

// fetchKey tells one who fetches from another.
type fetchKey struct {
	full   string // the name under which it is fetched
	ticket *ticket
}

// fetched is what came of fetching an image.
type fetched struct {
	by   fetchKey
	took time.Duration
}

// pullFunc has containerd pull by a name.
type pullFunc func(context.Context, ...client.RemoteOpt) error

// fetch has what a name means fetched, and answers how long that took. What is being fetched by another name, or for another
// Pod, is awaited and gets this name, too: that it may be had the registry has said. Where that fails, the fault may be the
// other's.
func (r *Runtime) fetch(
	ctx context.Context, by fetchKey, desc ocispec.Descriptor, p *progress, pull pullFunc,
) (time.Duration, error) {
	for {
		going := r.fetches.join(desc.Digest.String(), func(p *progress) (fetched, error) {
			took, err := r.fetchInTurn(ctx, by, desc, p, pull)
			return fetched{by, took}, err
		})
		p.of.Store(&going.progress)
		<-going.landed
		switch {
		case going.result.by == by:
			return going.result.took, going.err
		case going.err == nil:
			return going.result.took, r.tag(ctx, by.full, desc)
		}
	}
}

// fetchInTurn fetches when it is the registry's turn. What was fetched when that fails stays for the next try.
func (r *Runtime) fetchInTurn(
	ctx context.Context, by fetchKey, desc ocispec.Descriptor, p *progress, pull pullFunc,
) (time.Duration, error) {
	done := r.turns.take(domain(by.full))
	defer done()
	begin := time.Now()
	layers := newLayers(r.client.ContentStore())
	following, cancel := context.WithCancel(ctx)
	defer cancel()
	go layers.follow(following, p)
	err := r.withKeptIngests(ctx, desc.Digest, func(ctx context.Context) error {
		return pull(ctx, client.WithPullUnpack, client.WithPullSnapshotter(r.snapshotter),
			client.WithImageHandlerWrapper(layers.watch))
	})
	return time.Since(begin), err
}

func domain(full string) string {
	named, err := reference.ParseNormalizedNamed(full)
	if err != nil {
		return full
	}
	return reference.Domain(named)
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
