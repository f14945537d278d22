package network

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// collectPatience is how long GC waits for the plugins of one sandbox, so that one that hangs does not hold up the rest.
const collectPatience = 30 * time.Second

// GC frees every attachment and namespace of a sandbox that is not to be kept. Sandboxes that are being added
// meanwhile must be among those to keep: keep is asked when all that there is was listed. Only what this network has
// recorded is freed, never what plugins know of beyond that: a configuration in ConfDir may be another container runtime's,
// too, to whose plugins our list of what is valid (CNI 1.1's GC) would be an order to take that one's containers off the
// network.
func (n *Network) GC(ctx context.Context, keep func(id string) bool) error {
	attached := map[string]bool{} // still, because a plugin failed
	err := n.collectAttachments(ctx, keep, attached)
	stays := func(id string) bool { return attached[id] || keep(id) }
	if err := errors.Join(err, n.collectLeases(ctx, stays), n.collectPins(stays), n.Restore(ctx)); err != nil {
		return fmt.Errorf("collect network garbage: %w", err)
	}
	return nil
}

// collectAttachments removes the recorded ones. One that cannot be removed is kept whole, for the next time.
func (n *Network) collectAttachments(ctx context.Context, keep func(id string) bool, attached map[string]bool) error {
	attachments, err := n.cni.GetCachedAttachments("")
	if err != nil {
		return fmt.Errorf("list attachments: %w", err)
	}
	var errs []error
	for _, a := range attachments {
		if keep(a.ContainerID) {
			continue
		}
		limited, cancel := context.WithTimeout(ctx, collectPatience)
		err := n.detach(limited, a)
		cancel()
		if err != nil {
			errs = append(errs, fmt.Errorf("remove sandbox %s from network %s: %w", a.ContainerID, a.Network, err))
			attached[a.ContainerID] = true
		}
	}
	return errors.Join(errs...)
}

// collectLeases removes sandboxes from the built-in network, of most of which there is no record but their address, and frees
// the addresses that nobody has. Where an addition was cut short there may be host ports without a record, too.
func (n *Network) collectLeases(ctx context.Context, keep func(id string) bool) error {
	all, err := n.leases.all()
	if err != nil {
		return err
	}
	all = slices.DeleteFunc(all, func(one lease) bool { return one.sandbox != "" && keep(one.sandbox) })
	if len(all) == 0 {
		return nil
	}
	ports, err := portRules(ctx)
	if err != nil {
		return err
	}
	var errs []error
	for _, one := range all {
		if one.sandbox == "" {
			err = n.leases.free(one)
		} else {
			err = n.collectLease(ctx, one, strings.Contains(ports, one.sandbox))
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("free address %s of sandbox %s: %w", one.addr, one.sandbox, err))
		}
	}
	return errors.Join(errs...)
}

func (n *Network) collectLease(ctx context.Context, one lease, ports bool) error {
	limited, cancel := context.WithTimeout(ctx, collectPatience)
	defer cancel()
	if ports {
		if err := n.removePorts(limited, one.sandbox); err != nil {
			return err
		}
	}
	return n.removeBuiltIn(one.sandbox, one.addr)
}

// collectPins lets go of the namespaces of sandboxes that are not to be kept.
func (n *Network) collectPins(keep func(id string) bool) error {
	entries, err := os.ReadDir(filepath.Join(n.cfg.RunDir, "netns"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("list network namespaces: %w", err)
	}
	var errs []error
	for _, e := range entries {
		if !keep(e.Name()) {
			errs = append(errs, n.unpin(e.Name()))
		}
	}
	return errors.Join(errs...)
}
