package network

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const (
	hostSettle = 100 * time.Millisecond // changes come in groups: the last of them counts
	hostRescan = 5 * time.Minute        // the kernel drops messages where nobody reads fast enough
	hostRetry  = time.Second            // after the kernel's messages could not be had
)

// HostAddresses are the node's own addresses as HostIPs has them, without asking the kernel each time. Watch keeps them up
// to date. They are safe for concurrent use.
type HostAddresses struct {
	log *slog.Logger

	mu  sync.Mutex
	ips []netip.Addr
}

// ReadHostAddresses reads the node's addresses. A nil log discards what Watch has to say.
func ReadHostAddresses(log *slog.Logger) (*HostAddresses, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	ips, err := HostIPs()
	if err != nil {
		return nil, err
	}
	return &HostAddresses{log: log, ips: ips}, nil
}

// List is what was read last, at least one address.
func (h *HostAddresses) List() []netip.Addr {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.ips)
}

// Watch follows the node's addresses until ctx ends, and calls changed whenever they are others than before, never at the
// same time twice. Links, addresses and routes of Pods, which come and go all the time, do not make it read.
func (h *HostAddresses) Watch(ctx context.Context, changed func([]netip.Addr)) {
	for told := false; ctx.Err() == nil; {
		err := h.follow(ctx, changed)
		if ctx.Err() != nil {
			return
		}
		if errors.Is(err, unix.ENOBUFS) {
			continue // more came than could be read: all is read anew
		}
		if !told {
			h.log.Warn("changes of the node's addresses are not told by the kernel, and asked for again and again", "error", err)
			told = true
		}
		select {
		case <-ctx.Done():
		case <-time.After(hostRetry):
		}
	}
}

// follow reads the addresses whenever the kernel tells of something that may change them. It ends with an error when the
// kernel's messages end.
func (h *HostAddresses) follow(ctx context.Context, changed func([]netip.Addr)) error {
	events, err := subscribe()
	if err != nil {
		return err
	}
	defer events.end()
	rescan := time.NewTicker(hostRescan)
	defer rescan.Stop()
	h.refresh(changed) // what was missed before
	var settled <-chan time.Time
	for {
		matters, open := false, true
		select {
		case <-ctx.Done():
			return ctx.Err()
		case u, ok := <-events.addresses:
			addr, valid := netip.AddrFromSlice(u.LinkAddress.IP)
			matters, open = valid && addr.Unmap().IsGlobalUnicast(), ok
		case u, ok := <-events.routes:
			matters, open = isDefault(u.Route), ok
		case <-rescan.C:
			matters = true
		case <-settled:
			settled = nil
			h.refresh(changed)
		}
		if !open {
			return events.why()
		}
		if matters && settled == nil {
			settled = time.After(hostSettle)
		}
	}
}

// refresh reads the addresses and tells whoever wants to know. What cannot be read now is read at the next rescan, if not
// before.
func (h *HostAddresses) refresh(changed func([]netip.Addr)) {
	ips, err := HostIPs()
	if err != nil {
		h.log.Warn("the node's addresses cannot be told", "error", err)
		return
	}
	h.mu.Lock()
	same := slices.Equal(ips, h.ips)
	h.ips = ips
	h.mu.Unlock()
	if !same {
		changed(slices.Clone(ips))
	}
}

// subscription are the kernel's messages about addresses and routes, of the network namespace it was made in. Those about
// links say nothing more, and come by the dozen for each Pod.
type subscription struct {
	addresses chan netlink.AddrUpdate
	routes    chan netlink.RouteUpdate
	done      chan struct{}

	mu  sync.Mutex
	err error // the first
}

func subscribe() (*subscription, error) {
	s := &subscription{done: make(chan struct{})}
	for _, begin := range []func() error{
		func() error {
			c := make(chan netlink.AddrUpdate)
			err := netlink.AddrSubscribeWithOptions(c, s.done, netlink.AddrSubscribeOptions{ErrorCallback: s.fail})
			if err == nil {
				s.addresses = c
			}
			return err
		},
		func() error {
			c := make(chan netlink.RouteUpdate)
			err := netlink.RouteSubscribeWithOptions(c, s.done, netlink.RouteSubscribeOptions{ErrorCallback: s.fail})
			if err == nil {
				s.routes = c
			}
			return err
		},
	} {
		if err := begin(); err != nil {
			s.end()
			return nil, fmt.Errorf("subscribe to the kernel's network messages: %w", err)
		}
	}
	return s, nil
}

func (s *subscription) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		s.err = err
	}
}

func (s *subscription) why() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return fmt.Errorf("read the kernel's network messages: %w", s.err)
}

// end ends the messages, and takes those that someone still waits to hand over.
func (s *subscription) end() {
	close(s.done)
	drain(s.addresses)
	drain(s.routes)
}

func drain[T any](c <-chan T) {
	if c == nil {
		return
	}
	for range c { // until it is closed
	}
}
