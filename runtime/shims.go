package runtime

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// shimSocket is where the shim of a sandbox listens, as containerd-shim-runc-v2 works it out.
func (r *Runtime) shimSocket(sandbox string) string {
	key := sha256.Sum256([]byte(filepath.Join(strings.TrimPrefix(r.cfg.Endpoint, "unix://"), r.cfg.Namespace, sandbox)))
	return fmt.Sprintf("/run/containerd/s/%x", key)
}

// listens says whether a process listens at a socket, be it too busy to take a connection.
func listens(socket string) bool {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return true // which is not known to be wrong
	}
	defer unix.Close(fd)
	err = unix.Connect(fd, &unix.SockaddrUnix{Name: socket})
	return err == nil || errors.Is(err, unix.EAGAIN)
}

// guardShim keeps the socket of a sandbox's shim in its place while containers are created. `containerd-shim start`, which
// runs for each, takes a shim that it cannot connect to within 0.1 s, as on a busy host, for dead: it removes the socket and
// starts another shim there. That one knows no container of the first, and so the next start of containerd ends them. A file
// that something is mounted on cannot be removed: the start fails instead, and createTask tries again. An agent that is
// killed leaves its guard to the next one.
func (r *Runtime) guardShim(sandbox string, t *turn) error {
	r.shims.mu.Lock()
	defer r.shims.mu.Unlock()
	if t.guards++; t.guards > 1 {
		return nil
	}
	socket := r.shimSocket(sandbox)
	if mounted, err := mountinfo.Mounted(socket); mounted || errors.Is(err, fs.ErrNotExist) {
		return nil // where there is none, the shim listens elsewhere
	}
	if err := unix.Mount(socket, socket, "", unix.MS_BIND, ""); err != nil {
		t.guards--
		return fmt.Errorf("guard socket %s of the shim: %w", socket, err)
	}
	return nil
}

// unguardShim takes the guard away with the last container that is being created: a mount is in every process's way.
func (r *Runtime) unguardShim(sandbox string, t *turn) {
	r.shims.mu.Lock()
	defer r.shims.mu.Unlock()
	if t.guards--; t.guards == 0 {
		_ = unix.Unmount(r.shimSocket(sandbox), unix.MNT_DETACH) // or it goes with the shim
	}
}

// How long createTask waits for a shim that was busy, or about to end.
const (
	firstShimPause = 50 * time.Millisecond
	lastShimPause  = time.Second
)

// shimWasBusy says whether guardShim was what kept a container from being created. containerd passes on the words of
// `containerd-shim start`, and no code.
func shimWasBusy(err error) bool { return strings.Contains(err.Error(), "remove pre-existing socket") }

// maxShimEnds is how often a shim may end while it is to create a container. More is no coincidence.
const maxShimEnds = 5

// shimEnded says whether a container was not created because the shim, whose last container was just deleted, was about to
// end. containerd passes on what it has met on the way to the shim, and no code.
func shimEnded(err error) bool {
	if strings.Contains(err.Error(), "transport: ") {
		return false // met on the way to containerd
	}
	for _, met := range []string{"ttrpc: closed", "connection refused", "connection reset", "broken pipe"} {
		if strings.Contains(err.Error(), met) {
			return true
		}
	}
	return false
}

// ErrNoShim says that containerd could start no shim for a sandbox, such as for want of processes: nothing of the container was tried.
var ErrNoShim = errors.New("no shim")

// noShim says whether that was why a container was not created. containerd tells of it in words, and with no code.
func noShim(err error) bool { return strings.Contains(err.Error(), "failed to start shim") }

// releaseShim removes the socket of a shim that has ended, or is about to.
func (r *Runtime) releaseShim(sandbox string) error {
	socket := r.shimSocket(sandbox)
	err := unix.Unmount(socket, unix.MNT_DETACH)
	if err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("unmount socket %s of the shim: %w", socket, err)
	}
	if err := os.Remove(socket); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove socket of the shim: %w", err)
	}
	return nil
}
