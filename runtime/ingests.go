package runtime

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/containerd/containerd/v2/core/leases"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
)

// How long containerd keeps what a pull that was cut off has fetched, and how much of that must be left for one that goes on
// there: it is gone at the end even if a pull goes on.
const (
	keepIngests    = 48 * time.Hour
	keepIngestsMin = 24 * time.Hour
)

// leaseExpires is the label by which containerd's garbage collector knows when a lease ends.
const leaseExpires = "containerd.io/gc.expire"

// withKeptIngests fetches what a digest stands for, under a lease that holds what was fetched when that fails: the next try,
// also one of the next agent, asks the registry only for the rest. What has become something else than it should be is
// thrown away.
func (r *Runtime) withKeptIngests(ctx context.Context, target digest.Digest, fetch func(context.Context) error) error {
	service := r.client.LeasesService()
	lease, err := fetchLease(ctx, service, "podkeeper-fetch-"+target.String())
	if err != nil {
		return err
	}
	err = fetch(leases.WithLease(ctx, lease.ID))
	ctx = context.WithoutCancel(ctx)
	if errdefs.IsFailedPrecondition(err) {
		return errors.Join(err, r.abortIngests(ctx, lease), service.Delete(ctx, lease))
	}
	if err == nil {
		if err := service.Delete(ctx, lease); err != nil && !errdefs.IsNotFound(err) {
			r.cfg.Log.Warn("what was fetched is held until its lease ends", "lease", lease.ID, "error", err)
		}
	}
	return err
}

// fetchLease finds or makes a lease that lasts long enough.
func fetchLease(ctx context.Context, service leases.Manager, id string) (leases.Lease, error) {
	found, err := service.List(ctx, `id=="`+id+`"`)
	if err != nil {
		return leases.Lease{}, fmt.Errorf("find lease of pull: %w", err)
	}
	for _, lease := range found {
		expires, err := time.Parse(time.RFC3339, lease.Labels[leaseExpires])
		if err == nil && time.Until(expires) > keepIngestsMin {
			return lease, nil
		}
		if err := service.Delete(ctx, lease); err != nil && !errdefs.IsNotFound(err) {
			return leases.Lease{}, fmt.Errorf("delete lease of pull: %w", err)
		}
	}
	lease, err := service.Create(ctx, leases.WithID(id), leases.WithExpiration(keepIngests))
	if err != nil {
		return leases.Lease{}, fmt.Errorf("make lease of pull: %w", err)
	}
	return lease, nil
}

// abortIngests throws away what was fetched only in part.
func (r *Runtime) abortIngests(ctx context.Context, lease leases.Lease) error {
	held, err := r.client.LeasesService().ListResources(ctx, lease)
	for _, resource := range held {
		if resource.Type == "ingests" {
			abortErr := r.client.ContentStore().Abort(ctx, resource.ID)
			if abortErr != nil && !errdefs.IsNotFound(abortErr) {
				err = errors.Join(err, abortErr)
			}
		}
	}
	return err
}
