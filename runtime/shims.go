package runtime

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// shims are the shims of sandboxes: the containers of one share it. It is started with the first container and ends with the
// last, and with the next one there is another.
type shims struct {
	mu       sync.Mutex
	turns    map[string]*turn // by sandbox, while somebody has it or waits for it
	settling sync.WaitGroup
}

// turn is what one at a time has who starts the shim of a sandbox, or sees to what is left of it.
type turn struct {
	sync.Mutex
	users int
}

// turn joins those who take turns. leave leaves them.
func (s *shims) turn(sandbox string) (t *turn, leave func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.turns == nil {
		s.turns = map[string]*turn{}
	}
	if t = s.turns[sandbox]; t == nil {
		t = &turn{}
		s.turns[sandbox] = t
	}
	t.users++
	return t, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if t.users--; t.users == 0 {
			delete(s.turns, sandbox)
		}
	}
}

// throughShim creates a container by the shim of its sandbox. The first one starts it, and those that come meanwhile wait
// for that, for two at once would start two; then they go side by side.
func (r *Runtime) throughShim(sandbox string, create func() error) error {
	turn, leave := r.shims.turn(sandbox)
	defer leave()
	turn.Lock()
	if listens(r.shimSocket(sandbox)) {
		err := r.guardShim(sandbox)
		turn.Unlock()
		if err != nil {
			return err
		}
		return create()
	}
	defer turn.Unlock()
	if err := r.releaseShim(sandbox); err != nil { // of one that has ended
		return err
	}
	if err := create(); err != nil {
		return err
	}
	return r.guardShim(sandbox)
}

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

// guardShim keeps the socket of a sandbox's shim in its place, once. `containerd-shim start`, which runs for each
// container, takes a shim that it cannot connect to within 0.1 s, as on a busy host, for dead: it removes the socket and
// starts another shim there. That one knows no container of the first, and so the next start of containerd ends them. A file
// that something is mounted on cannot be removed: the start fails instead, and createTask tries again.
func (r *Runtime) guardShim(sandbox string) error {
	socket := r.shimSocket(sandbox)
	if mounted, err := mountinfo.Mounted(socket); mounted || errors.Is(err, fs.ErrNotExist) {
		return nil // where there is none, the shim listens elsewhere
	}
	if err := unix.Mount(socket, socket, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("guard socket %s of the shim: %w", socket, err)
	}
	return nil
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

// A shim that has nothing more to do ends in a few milliseconds; one that has does not, and is not asked for long.
const (
	shimEndPause = 5 * time.Millisecond
	shimEndLooks = 40
)

// SettleShim removes, beside, what keeps the place of a sandbox's shim, if that ends: a task of the sandbox was deleted, and
// with the last one it does.
func (r *Runtime) SettleShim(sandbox string) {
	r.shims.settling.Go(func() {
		for range shimEndLooks {
			time.Sleep(shimEndPause)
			if r.buryShim(sandbox) {
				return
			}
		}
	})
}

// buryShim removes the socket of a sandbox's shim where that has ended, and says whether it has.
func (r *Runtime) buryShim(sandbox string) bool {
	turn, leave := r.shims.turn(sandbox)
	defer leave()
	if !turn.TryLock() {
		return true // the next one is being started
	}
	defer turn.Unlock()
	if listens(r.shimSocket(sandbox)) {
		return false
	}
	if err := r.releaseShim(sandbox); err != nil {
		r.cfg.Log.Warn("socket of a shim stays", "sandbox", sandbox, "error", err)
	}
	return true
}

// EndShim ends the shim of a sandbox that has no containers any more, or only such as are to be given up: it waits for nobody
// who may wait for the shim.
func (r *Runtime) EndShim(sandbox string) error {
	socket := r.shimSocket(sandbox)
	for looks := 0; listens(socket); looks++ {
		if looks < shimEndLooks {
			time.Sleep(shimEndPause)
			continue
		}
		r.endShims(func(at string) bool { return at == socket })
		break
	}
	return r.releaseShim(sandbox)
}

// EndLostShims ends shims of this containerd and namespace but those of the sandboxes that inUse answers: containerd leaves
// one behind where the client that asked for a container was killed at the wrong moment. inUse is asked when it is known
// which shims there are, so that one that is started meanwhile is not among them.
func (r *Runtime) EndLostShims(inUse func() []string) {
	var keep map[string]bool
	r.endShims(func(at string) bool {
		if keep == nil {
			keep = map[string]bool{}
			for _, sandbox := range inUse() {
				keep[r.shimSocket(sandbox)] = true
			}
		}
		return !keep[at]
	})
}

// endShims ends the shims of this containerd and namespace that listen at a socket that is lost.
func (r *Runtime) endShims(lost func(socket string) bool) {
	shims := r.findShims()
	for socket, shim := range shims {
		if lost(socket) {
			r.cfg.Log.Info("end shim without containers", "pid", shim.pid)
			_ = shim.signal(unix.SIGKILL)
			_ = unix.Unmount(socket, unix.MNT_DETACH)
			_ = os.Remove(socket)
		}
		shim.release()
	}
}

// findShims holds all shims of this containerd and namespace, by the socket that each listens at. What they were started
// with names their first container, which may be long gone.
func (r *Runtime) findShims() map[string]process {
	found := map[string]process{}
	var sockets map[string]string
	lines, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, file := range lines {
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file)))
		if err != nil || !r.isShim(file) {
			continue
		}
		shim, err := hold(pid)
		if err != nil {
			continue
		}
		if sockets == nil {
			sockets = unixSockets()
		}
		socket := ""
		if r.isShim(file) { // while it is held, it is the one that was read
			socket = listensAt(pid, sockets)
		}
		if _, twice := found[socket]; socket == "" || twice {
			shim.release()
			continue
		}
		found[socket] = shim
	}
	return found
}

// listensAt is the socket of a shim, empty where it has none that is known.
func listensAt(pid int, sockets map[string]string) string {
	dir := fmt.Sprintf("/proc/%d/fd", pid)
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		to, _ := os.Readlink(filepath.Join(dir, e.Name()))
		if path := sockets[to]; strings.HasPrefix(path, "/run/containerd/s/") {
			return path
		}
	}
	return ""
}

// unixSockets are the paths of sockets, by what /proc/<pid>/fd shows of them.
func unixSockets() map[string]string {
	table, _ := os.ReadFile("/proc/net/unix")
	paths := map[string]string{}
	for line := range strings.Lines(string(table)) {
		if fields := strings.Fields(line); len(fields) == 8 { // Num RefCount Protocol Flags Type St Inode Path
			paths["socket:["+fields[6]+"]"] = fields[7]
		}
	}
	return paths
}

// isShim reads from a command line whether it is that of a shim of this containerd and namespace.
func (r *Runtime) isShim(file string) bool {
	line, err := os.ReadFile(file)
	if err != nil {
		return false
	}
	args := strings.Split(string(bytes.TrimSuffix(line, []byte{0})), "\x00")
	if !strings.HasPrefix(filepath.Base(args[0]), "containerd-shim-") {
		return false
	}
	flags := map[string]string{}
	for i := 1; i+1 < len(args); i += 2 {
		flags[args[i]] = args[i+1]
	}
	return flags["-namespace"] == r.cfg.Namespace && flags["-address"] == strings.TrimPrefix(r.cfg.Endpoint, "unix://")
}
