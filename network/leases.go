package network

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"

	cnitypes "github.com/containernetworking/cni/pkg/types"
	"github.com/containernetworking/plugins/plugins/ipam/host-local/backend/allocator"
	"github.com/containernetworking/plugins/plugins/ipam/host-local/backend/disk"
)

// rangeID is what host-local calls the first of a network's ranges, of which the built-in one has no other.
const rangeID = "0"

// leases are the addresses of the built-in network that are in use. They are kept by the packages of the plugin host-local,
// so that its processes and this one can be mixed: a file an address, named after it, which tells the sandbox and its
// interface. To find a sandbox's address host-local reads them all; here they are read once.
type leases struct {
	network, dataDir string
	ranges           allocator.RangeSet

	mu        sync.Mutex            // guards what follows, and is taken before host-local's lock
	bySandbox map[string]netip.Addr // nil before the files were read; what is in it may have been freed by a plugin since
}

// lease is an address in use, by nobody ("") if whoever took it was cut short.
type lease struct {
	addr    netip.Addr
	sandbox string
}

// openLeases touches nothing on the host.
func openLeases(network, dataDir string, subnet netip.Prefix) (*leases, error) {
	one := allocator.Range{Subnet: cnitypes.IPNet(*prefix(subnet.Addr(), subnet.Bits()))}
	if err := one.Canonicalize(); err != nil {
		return nil, fmt.Errorf("divide subnet: %w", err)
	}
	return &leases{network: network, dataDir: dataDir, ranges: allocator.RangeSet{one}}, nil
}

func (l *leases) folder() string { return filepath.Join(l.dataDir, l.network) }

// of answers a sandbox's address, the zero value if it has none.
func (l *leases) of(id string) (netip.Addr, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.known(id)
}

// known is of for those who hold mu.
func (l *leases) known(id string) (netip.Addr, error) {
	if l.bySandbox == nil {
		all, err := l.all()
		if err != nil {
			return netip.Addr{}, err
		}
		l.bySandbox = map[string]netip.Addr{}
		for _, one := range all {
			if one.sandbox != "" {
				l.bySandbox[one.sandbox] = one.addr
			}
		}
	}
	addr, ok := l.bySandbox[id]
	if !ok {
		return netip.Addr{}, nil
	}
	if holder, err := l.holder(addr); err != nil || holder != id {
		delete(l.bySandbox, id) // it was freed by a plugin
		return netip.Addr{}, ignoreAbsent(err)
	}
	return addr, nil
}

// take answers a sandbox's address, and gives it the next one that is free if it has none, or one of another subnet, which
// the network had before.
func (l *leases) take(id string) (netip.Addr, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	addr, err := l.known(id)
	if err != nil || addr.IsValid() && l.ranges.Contains(addr.AsSlice()) {
		return addr, err
	}
	if addr.IsValid() {
		if err := l.release(lease{addr, id}); err != nil {
			return netip.Addr{}, err
		}
	}
	addr, err = l.reserve(id)
	if err != nil {
		return netip.Addr{}, fmt.Errorf("take address of %s: %w", l.ranges.String(), err)
	}
	l.bySandbox[id] = addr
	return addr, nil
}

// reserve takes the first address that is free after the one that was taken last. The allocator itself would look first, in
// all files, whether the sandbox has one.
func (l *leases) reserve(id string) (taken netip.Addr, err error) {
	err = l.locked(func(store *disk.Store) error {
		next, err := allocator.NewIPAllocator(&l.ranges, store, 0).GetIter()
		if err != nil {
			return err
		}
		for {
			candidate, _ := next.Next()
			if candidate == nil {
				return errors.New("all are in use")
			}
			free, err := store.Reserve(id, interfaceName, candidate.IP, rangeID)
			if err != nil {
				return err
			}
			if addr, ok := netip.AddrFromSlice(candidate.IP); ok && free {
				taken = addr.Unmap()
				return nil
			}
		}
	})
	return taken, err
}

// free gives back an address, if the sandbox has it.
func (l *leases) free(one lease) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.release(one)
}

// release is free for those who hold mu.
func (l *leases) release(one lease) error {
	err := l.locked(func(*disk.Store) error {
		holder, err := l.holder(one.addr)
		if err == nil && holder == one.sandbox {
			err = os.Remove(l.file(one.addr))
		}
		return ignoreAbsent(err)
	})
	if err != nil {
		return fmt.Errorf("free address %s: %w", one.addr, err)
	}
	if l.bySandbox[one.sandbox] == one.addr {
		delete(l.bySandbox, one.sandbox)
	}
	return nil
}

// freeUnknown gives back what a sandbox has that is not known to have an address: a plugin may have taken one behind an
// earlier agent's back. It reads all files.
func (l *leases) freeUnknown(id string) error {
	if _, err := os.Stat(l.folder()); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err := l.locked(func(store *disk.Store) error { return store.ReleaseByID(id, interfaceName) }); err != nil {
		return fmt.Errorf("free addresses: %w", err)
	}
	return nil
}

// all reads the files of all leases.
func (l *leases) all() ([]lease, error) {
	entries, err := os.ReadDir(l.folder())
	if ignoreAbsent(err) != nil {
		return nil, fmt.Errorf("list addresses in use: %w", err)
	}
	var out []lease
	for _, e := range entries {
		addr, err := netip.ParseAddr(e.Name())
		if err != nil {
			continue // what else host-local keeps there
		}
		holder, err := l.holder(addr)
		if errors.Is(err, fs.ErrNotExist) {
			continue // freed meanwhile
		}
		if err != nil {
			return nil, err
		}
		out = append(out, lease{addr, holder})
	}
	return out, nil
}

// any says whether an address is in use. It reads a few names, however many there are.
func (l *leases) any() (bool, error) {
	folder, err := os.Open(l.folder())
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("list addresses in use: %w", err)
	}
	defer folder.Close()
	names, err := folder.Readdirnames(8) // the lock and host-local's last address are among them
	if err != nil && !errors.Is(err, io.EOF) {
		return false, fmt.Errorf("list addresses in use: %w", err)
	}
	for _, name := range names {
		if _, err := netip.ParseAddr(name); err == nil {
			return true, nil
		}
	}
	return false, nil
}

// holder is the sandbox that has an address, "" where the file says none.
func (l *leases) holder(addr netip.Addr) (string, error) {
	b, err := os.ReadFile(l.file(addr))
	if err != nil {
		return "", fmt.Errorf("read address in use: %w", err)
	}
	id, _, _ := strings.Cut(string(b), "\n") // the sandbox, then its interface
	return strings.TrimSpace(id), nil
}

func (l *leases) file(addr netip.Addr) string { return disk.GetEscapedPath(l.folder(), addr.String()) }

// locked does something while no plugin and no other agent changes the files.
func (l *leases) locked(do func(*disk.Store) error) error {
	store, err := disk.New(l.network, l.dataDir)
	if err != nil {
		return err
	}
	if err = store.Lock(); err == nil {
		err = do(store)
	}
	return errors.Join(err, store.Close()) // which unlocks
}

// ignoreAbsent leaves out the error that a file is not there.
func ignoreAbsent(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
