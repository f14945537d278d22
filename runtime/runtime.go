package runtime

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/containerd/containerd/v2/client"
	contentproxy "github.com/containerd/containerd/v2/core/content/proxy"
	"github.com/containerd/containerd/v2/core/leases"
	"github.com/containerd/containerd/v2/defaults"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/errdefs"
	"golang.org/x/time/rate"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"k8s.io/utils/lru"

	"github.com/podkeeper/podkeeper/runtime/providers"
	"github.com/podkeeper/podkeeper/runtime/pullrecords"
)

// Runc is the runtime handler that is always known, and runcType containerd's runtime type of it and its like.
const (
	Runc     = "runc"
	runcType = "io.containerd.runc.v2"
)

// Handler says how containers of one runtime handler are run.
type Handler struct {
	Type       string // containerd's runtime type, io.containerd.runc.v2 for one
	BinaryName string // the OCI runtime, a path or a name in containerd's PATH; empty is the type's own default
}

// Config says where containerd is and where files go.
type Config struct {
	Endpoint       string             // unix:///run/containerd/containerd.sock or a plain path
	Namespace      string             // containerd's namespace
	HostsDir       string             // folder of <registry>/hosts.toml; /etc/containerd/certs.d when empty
	Handlers       map[string]Handler // by name; Runc is always known
	DefaultHandler string             // of containers that ask for none; empty is Runc
	ImportsImages  bool               // ImportDir will be called: images may come from there
	MaxPulls       int                // how many images may be fetched at once; 0 is no limit
	PullRate       float64            // how many pulls may begin a second; 0 is no limit
	PullBurst      int                // how many may do so at once beyond that; at least 1 where there is a PullRate
	RecordsDir     string             // records of who has pulled what; empty keeps them in memory
	Verification   pullrecords.Policy // of which images the right to use them must be shown
	Providers      *providers.Providers
	LogMaxSize     int64 // bytes after which a container's log file is rotated; 0 is 10 MiB
	LogFiles       int   // log files kept a container, the present one included; 0 is 5
	Log            *slog.Logger

	// Trust says who, other than root, could change what is read at a path: image archives and seccomp profiles that it has an
	// error for are not used. nil trusts every file.
	Trust func(path string) error
}

// knownContents is of how many images the content is known without reading it again.
const knownContents = 256

// Runtime talks to one containerd in one namespace. It is safe for use by several goroutines.
type Runtime struct {
	cfg         Config
	client      *client.Client
	snapshotter string
	pulls       flights[Pull]    // by name and credentials
	fetches     flights[fetched] // by digest
	rate        *rate.Limiter
	records     *pullrecords.Records
	uses        imageUses
	turns       *pullTurns
	scratch     chan *scratch
	archives    archives
	importing   chan struct{} // closed once the image directory was read; closed from the start where there is none
	contents    *lru.Cache    // digest → Image without its names, immutable facts
	users       sync.Map      // (image config digest, user) → specs.User, immutable facts
	shims       shims
	closed      chan struct{} // by Close
}

// reconnect is how soon a connection that broke (containerd restarted) is tried again.
var reconnect = grpc.ConnectParams{
	Backoff:           backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: time.Second},
	MinConnectTimeout: 5 * time.Second,
}

// Open connects to containerd, which need not run yet: calls fail until it does, and succeed when it is back.
func Open(cfg Config) (*Runtime, error) {
	if cfg.HostsDir == "" {
		cfg.HostsDir = "/etc/containerd/certs.d"
	}
	handlers := map[string]Handler{Runc: {Type: runcType}}
	for name, h := range cfg.Handlers {
		handlers[name] = h
	}
	cfg.Handlers = handlers
	if cfg.LogMaxSize == 0 {
		cfg.LogMaxSize = 10 << 20
	}
	if cfg.LogFiles == 0 {
		cfg.LogFiles = 5
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	records, err := pullrecords.Open(cfg.RecordsDir, cfg.Verification)
	if err != nil {
		return nil, err
	}
	if err := records.Unreadable(); err != nil {
		cfg.Log.Warn("who may use some images is not known", "error", err)
	}
	scratch, err := newScratch(4)
	if err != nil {
		return nil, err
	}
	address := strings.TrimPrefix(cfg.Endpoint, "unix://")
	small := &blobs{}
	c, err := client.New(address, client.WithDefaultNamespace(cfg.Namespace), client.WithServices(client.WithContentStore(small)),
		client.WithExtraDialOpts([]grpc.DialOption{grpc.WithConnectParams(reconnect)}))
	if err != nil {
		return nil, fmt.Errorf("connect to containerd at %s: %w", address, err)
	}
	small.Store = contentproxy.NewContentStore(c.Conn())
	r := &Runtime{
		cfg: cfg, client: c, snapshotter: defaults.DefaultSnapshotter, scratch: scratch, turns: newPullTurns(cfg.MaxPulls),
		rate: rate.NewLimiter(rate.Inf, 0), records: records, contents: lru.New(knownContents),
		importing: make(chan struct{}), closed: make(chan struct{}),
	}
	if cfg.PullRate > 0 {
		r.rate = rate.NewLimiter(rate.Limit(cfg.PullRate), max(cfg.PullBurst, 1))
	}
	if !cfg.ImportsImages {
		close(r.importing)
	}
	return r, nil
}

// Close ends the connection. Containers run on.
func (r *Runtime) Close() error {
	close(r.closed)
	r.shims.settling.Wait()
	return r.client.Close()
}

// Version asks containerd for its version. It is the cheapest way to see whether containerd answers.
func (r *Runtime) Version(ctx context.Context) (string, error) {
	v, err := r.client.Version(ctx)
	if err != nil {
		return "", fmt.Errorf("ask containerd for its version: %w", err)
	}
	return v.Version, nil
}

// IsUnavailable says whether an error is that containerd does not answer: it does not run, or ended meanwhile. A registry
// that does not answer is none.
func IsUnavailable(err error) bool {
	if errdefs.IsUnavailable(err) {
		return true
	}
	var told interface{ GRPCStatus() *status.Status }
	return errors.As(err, &told) && told.GRPCStatus().Code() == codes.Unavailable
}

// RemoveNamespace removes a namespace of containerd with its images. Containers in it must be gone.
func RemoveNamespace(ctx context.Context, endpoint, namespace string) error {
	c, err := client.New(strings.TrimPrefix(endpoint, "unix://"), client.WithDefaultNamespace(namespace))
	if err != nil {
		return fmt.Errorf("connect to containerd: %w", err)
	}
	defer c.Close()
	ctx = namespaces.WithNamespace(ctx, namespace)
	// What imports and pulls that were cut off have left is held by leases.
	held, err := c.LeasesService().List(ctx)
	for _, lease := range held {
		err = errors.Join(err, c.LeasesService().Delete(ctx, lease))
	}
	all, listErr := c.ImageService().List(ctx)
	for _, image := range all {
		listErr = errors.Join(listErr, c.ImageService().Delete(ctx, image.Name))
	}
	if err = errors.Join(err, listErr); err != nil {
		return fmt.Errorf("empty namespace: %w", err)
	}
	// Content goes when the collector has come by, which an image and a lease that nobody needs make it do.
	for range 50 {
		lease, leaseErr := c.LeasesService().Create(ctx, leases.WithRandomID())
		if leaseErr == nil {
			leaseErr = c.LeasesService().Delete(ctx, lease, leases.SynchronousDelete)
		}
		err = errors.Join(leaseErr, c.NamespaceService().Delete(ctx, namespace))
		if leaseErr == nil && (err == nil || errdefs.IsNotFound(err)) {
			return nil
		}
		time.Sleep(100 * time.Millisecond)
	}
	return fmt.Errorf("delete namespace: %w", err)
}
