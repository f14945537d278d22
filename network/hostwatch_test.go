package network

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// watched collects what Watch tells.
type watched struct {
	mu   sync.Mutex
	told [][]netip.Addr
}

func (w *watched) changed(ips []netip.Addr) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.told = append(w.told, ips)
}

func (w *watched) all() [][]netip.Addr {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.told)
}

// TestTheNodesAddressesAreFollowed has a host whose address comes, changes and goes, with links of Pods made meanwhile.
func TestTheNodesAddressesAreFollowed(t *testing.T) {
	open(t, nil) // skips without root
	asHost(t, func() {
		for _, args := range [][]string{{"link", "set", "lo", "up"}, {"link", "add", "outer", "type", "veth", "peer", "name", "far"}, {"link", "set", "far", "up"}} {
			run(t, "ip", args...)
		}
		h, err := ReadHostAddresses(nil)
		if err != nil {
			t.Fatal(err)
		}
		if got := h.List(); !slices.Equal(got, []netip.Addr{netip.MustParseAddr("127.0.0.1")}) {
			t.Fatalf("without an address: got %v", got)
		}
		// Watch stays on this thread, which is the host's; so a goroutine of another thread changes the host by its name.
		w := &watched{}
		ctx, cancel := context.WithCancel(context.Background())
		here := fmt.Sprintf("/proc/%d/task/%d/ns/net", os.Getpid(), unix.Gettid())
		change := make(chan error, 1)
		go func() {
			defer cancel()
			change <- within(here, func() {
				for i, step := range []struct {
					does [][]string
					want string
				}{
					{[][]string{{"address", "add", "192.0.2.1/24", "dev", "outer"}, {"link", "set", "outer", "up"}, {"route", "add", "default", "dev", "outer"}}, "192.0.2.1"},
					{[][]string{{"address", "add", "198.51.100.7/24", "dev", "outer"}, {"address", "del", "192.0.2.1/24", "dev", "outer"}}, "198.51.100.7"},
					{[][]string{{"link", "del", "outer"}}, "127.0.0.1"},
				} {
					for pod := range 20 {
						run(t, "ip", "link", "add", fmt.Sprintf("p%d-%d", i, pod), "type", "veth", "peer", "name", fmt.Sprintf("q%d-%d", i, pod))
					}
					for _, args := range step.does {
						run(t, "ip", args...)
					}
					want := netip.MustParseAddr(step.want)
					deadline := time.Now().Add(10 * time.Second)
					for h.List()[0] != want && time.Now().Before(deadline) {
						time.Sleep(5 * time.Millisecond)
					}
					if got := h.List(); got[0] != want {
						t.Errorf("step %d: got %v, want %v", i, got, want)
					}
				}
			})
		}()
		h.Watch(ctx, w.changed)
		if err := <-change; err != nil {
			t.Fatal(err)
		}
		told := w.all()
		for i := 1; i < len(told); i++ {
			if slices.Equal(told[i-1], told[i]) {
				t.Errorf("told twice of %v", told[i])
			}
		}
		if len(told) < 3 || told[len(told)-1][0].String() != "127.0.0.1" {
			t.Errorf("told %v", told)
		}
	})
}
