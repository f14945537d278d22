package network

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/containernetworking/plugins/plugins/ipam/host-local/backend/allocator"
	"github.com/containernetworking/plugins/plugins/ipam/host-local/backend/disk"
)

func newLeases(t testing.TB, folder string) *leases {
	t.Helper()
	l, err := openLeases("net", folder, netip.MustParsePrefix("10.193.84.0/29"))
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// plugin does what a process of the plugin host-local would do with the same files.
func plugin(t *testing.T, l *leases, do func(*disk.Store, *allocator.IPAllocator)) {
	t.Helper()
	store, err := disk.New(l.network, l.dataDir)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	do(store, allocator.NewIPAllocator(&l.ranges, store, 0))
}

func TestLeasesAndThePluginTakeTurns(t *testing.T) {
	t.Parallel()
	l := newLeases(t, t.TempDir())
	var got []string
	take := func(id string) {
		addr, err := l.take(id)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, addr.String())
	}
	take("a")
	take("a")
	plugin(t, l, func(_ *disk.Store, a *allocator.IPAllocator) {
		if _, err := a.Get("a", interfaceName, nil); err == nil {
			t.Error("the plugin gives a sandbox another address")
		}
		ip, err := a.Get("b", interfaceName, nil)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, ip.Address.IP.String())
	})
	take("c")
	if want := []string{"10.193.84.2", "10.193.84.2", "10.193.84.3", "10.193.84.4"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	plugin(t, l, func(s *disk.Store, a *allocator.IPAllocator) {
		if ips := s.GetByID("c", interfaceName); len(ips) != 1 || !ips[0].Equal(net.ParseIP("10.193.84.4")) {
			t.Errorf("the plugin finds %v", ips)
		}
		if err := a.Release("a", interfaceName); err != nil {
			t.Error(err)
		}
	})
	if addr, err := l.of("a"); err != nil || addr.IsValid() {
		t.Errorf("what the plugin freed is still taken: %v, %v", addr, err)
	}
	plugin(t, l, func(s *disk.Store, a *allocator.IPAllocator) {
		if err := a.Release("c", interfaceName); err != nil {
			t.Error(err)
		}
		if _, err := a.Get("d", interfaceName, net.ParseIP("10.193.84.4")); err != nil {
			t.Error(err)
		}
	})
	if addr, err := l.of("c"); err != nil || addr.IsValid() {
		t.Errorf("what the plugin gave to another is still taken: %v, %v", addr, err)
	}
	if err := l.freeUnknown("b"); err != nil {
		t.Error(err)
	}
	if err := l.free(lease{netip.MustParseAddr("10.193.84.4"), "someone else"}); err != nil {
		t.Error(err)
	}
	all, err := newLeases(t, l.dataDir).all()
	if err != nil || len(all) != 1 || all[0].sandbox != "d" {
		t.Errorf("got %v, %v, want d's alone", all, err)
	}
}

func TestAnAddressIsAsHostLocalWritesIt(t *testing.T) {
	t.Parallel()
	ours, theirs := newLeases(t, t.TempDir()), newLeases(t, t.TempDir())
	if _, err := ours.take("a"); err != nil {
		t.Fatal(err)
	}
	plugin(t, theirs, func(_ *disk.Store, a *allocator.IPAllocator) {
		if _, err := a.Get("a", interfaceName, nil); err != nil {
			t.Fatal(err)
		}
	})
	files := func(l *leases) (out []string) {
		entries, err := os.ReadDir(l.folder())
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			info, err := e.Info()
			if err != nil {
				t.Fatal(err)
			}
			b, err := os.ReadFile(filepath.Join(l.folder(), e.Name()))
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, fmt.Sprintf("%s %v %q", e.Name(), info.Mode(), b))
		}
		return out
	}
	if got, want := files(ours), files(theirs); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestAllAddressesInUse(t *testing.T) {
	t.Parallel()
	l := newLeases(t, t.TempDir())
	for i := range 5 {
		if _, err := l.take(fmt.Sprint(i)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := l.take("one too many"); err == nil || !strings.Contains(err.Error(), "10.193.84.0/29") && !strings.Contains(err.Error(), "10.193.84.1-10.193.84.6") {
		t.Errorf("got %v", err)
	}
	if err := l.free(lease{netip.MustParseAddr("10.193.84.3"), "1"}); err != nil {
		t.Fatal(err)
	}
	if addr, err := l.take("the next"); err != nil || addr.String() != "10.193.84.3" {
		t.Errorf("got %v, %v", addr, err)
	}
}

// TestAnAddressThatNobodyHasIsFreed has an agent, or a plugin, die between making the file and writing into it.
func TestAnAddressThatNobodyHasIsFreed(t *testing.T) {
	n := open(t, nil)
	if _, err := n.leases.take("someone"); err != nil {
		t.Fatal(err)
	}
	empty := n.leases.file(n.cfg.Subnet.Addr().Next().Next().Next())
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := n.GC(t.Context(), only("someone")); err != nil {
		t.Fatal(err)
	}
	if all, err := n.leases.all(); err != nil || len(all) != 1 || all[0].sandbox != "someone" {
		t.Errorf("got %v, %v", all, err)
	}
}

func TestLeasesOfNobody(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	l := newLeases(t, folder)
	used, err := l.any()
	if err != nil || used {
		t.Errorf("got %v, %v", used, err)
	}
	if err := l.freeUnknown("a"); err != nil {
		t.Error(err)
	}
	if addr, err := l.of("a"); err != nil || addr.IsValid() {
		t.Errorf("got %v, %v", addr, err)
	}
	if left, err := os.ReadDir(folder); err != nil || len(left) > 0 {
		t.Errorf("it made %v, %v", left, err)
	}
}
