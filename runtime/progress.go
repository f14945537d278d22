package runtime

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/remotes"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// progressEvery is how often it is looked how far a pull is, and how often it is told at most.
const progressEvery = 500 * time.Millisecond

// progress is how far a pull is, in bytes of layers. What an earlier pull, which was cut off, has left counts as there.
type progress struct {
	done, total atomic.Int64
	of          atomic.Pointer[progress] // of another pull, which this one waits for
}

// figures are the bytes that are there, and those of all that was missing; 0 of 0 as long as that is not known.
func (p *progress) figures() (done, total int64) {
	if of := p.of.Load(); of != nil {
		return of.figures()
	}
	return p.done.Load(), p.total.Load()
}

// tell tells how far a pull is, whenever it has got on, until it has landed or nobody listens any more.
func (p *progress) tell(ctx context.Context, landed <-chan struct{}, told func(done, total int64)) {
	if told == nil {
		return
	}
	ticker := time.NewTicker(progressEvery)
	defer ticker.Stop()
	var last int64 = -1
	for {
		select {
		case <-ctx.Done():
			return
		case <-landed:
			return
		case <-ticker.C:
			if done, total := p.figures(); total > 0 && done != last {
				last = done
				told(done, total)
			}
		}
	}
}

// layers are the layers that one pull has to fetch.
type layers struct {
	store content.Store

	mu      sync.Mutex
	sizes   map[digest.Digest]int64 // of those that are missing
	fetched map[digest.Digest]bool
	refs    map[digest.Digest]string // what containerd calls their ingests
}

func newLayers(store content.Store) *layers {
	return &layers{
		store: store, sizes: map[digest.Digest]int64{}, fetched: map[digest.Digest]bool{}, refs: map[digest.Digest]string{},
	}
}

// watch notes what a pull comes by.
func (l *layers) watch(inner images.Handler) images.Handler {
	return images.HandlerFunc(func(ctx context.Context, desc ocispec.Descriptor) ([]ocispec.Descriptor, error) {
		children, err := inner.Handle(ctx, desc)
		if err != nil {
			return children, err
		}
		if images.IsLayerType(desc.MediaType) {
			l.mu.Lock()
			l.fetched[desc.Digest] = true
			l.mu.Unlock()
		}
		for _, child := range children {
			if images.IsLayerType(child.MediaType) {
				l.expect(ctx, child)
			}
		}
		return children, nil
	})
}

// expect notes a layer that must be fetched, unless it is there.
func (l *layers) expect(ctx context.Context, layer ocispec.Descriptor) {
	if _, err := l.store.Info(ctx, layer.Digest); err == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sizes[layer.Digest] = layer.Size
	l.refs[layer.Digest] = remotes.MakeRefKey(ctx, layer)
}

// follow keeps the progress up to date until ctx ends.
func (l *layers) follow(ctx context.Context, p *progress) {
	ticker := time.NewTicker(progressEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			if done, total, err := l.measure(ctx); err == nil {
				p.done.Store(max(done, p.done.Load())) // a layer that has just been committed is nowhere for a moment
				p.total.Store(total)
			}
		}
	}
}

// measure asks containerd how far the layers are.
func (l *layers) measure(ctx context.Context) (done, total int64, err error) {
	var filters []string
	l.mu.Lock()
	for layer, size := range l.sizes {
		total += size
		if l.fetched[layer] {
			done += size
		} else {
			filters = append(filters, `ref=="`+l.refs[layer]+`"`)
		}
	}
	l.mu.Unlock()
	if len(filters) == 0 {
		return done, total, nil
	}
	ingests, err := l.store.ListStatuses(ctx, filters...)
	for _, ingest := range ingests {
		done += ingest.Offset
	}
	return done, total, err
}
