package runtime

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// EndShim ends the shim of a sandbox that has no containers any more, or only such as are to be given up: it waits for nobody
// who may wait for the shim.
func (r *Runtime) EndShim(sandbox string) error {
	if !r.shimEnds(sandbox, shimKillLooks) {
		socket := r.shimSocket(sandbox)
		r.endShims(func(at string) bool { return at == socket })
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
