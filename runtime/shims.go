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
	"syscall"
	"time"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// EndLostShims ends shims of this namespace that serve no container: containerd leaves one behind where the client that
// asked for a sandbox was killed at the wrong moment. inUse says whether the sandbox of that id has a task; it is asked for
// every shim there is.
func (r *Runtime) EndLostShims(inUse func(sandbox string) bool) {
	processes, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, file := range processes {
		line, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		sandbox, ok := r.shimOf(strings.Split(string(bytes.TrimSuffix(line, []byte{0})), "\x00"))
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file)))
		if !ok || err != nil || inUse(sandbox) {
			continue
		}
		r.cfg.Log.Info("end shim without containers", "sandbox", sandbox, "pid", pid)
		_ = syscall.Kill(pid, syscall.SIGKILL)
		if err := r.releaseShim(sandbox); err != nil {
			r.cfg.Log.Warn("socket of a shim stays", "sandbox", sandbox, "error", err)
		}
	}
}

// shimSocket is where the shim of a sandbox listens, as containerd-shim-runc-v2 works it out.
func (r *Runtime) shimSocket(sandbox string) string {
	key := sha256.Sum256([]byte(filepath.Join(strings.TrimPrefix(r.cfg.Endpoint, "unix://"), r.cfg.Namespace, sandbox)))
	return fmt.Sprintf("/run/containerd/s/%x", key)
}

// guardShim keeps the socket of a sandbox's shim in its place, once. `containerd-shim start`, which runs for each
// container, takes a shim that it cannot connect to within 0.1 s, as on a busy host, for dead: it removes the socket and
// starts another shim there. That one knows no sandbox, and so the next start of containerd ends the sandbox. A file that
// something is mounted on cannot be removed: the start fails instead, and createTask tries again.
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

// How long createTask waits for a shim that was busy.
const (
	firstShimPause = 50 * time.Millisecond
	lastShimPause  = time.Second
)

// shimWasBusy says whether guardShim was what kept a container from being created. containerd passes on the words of
// `containerd-shim start`, and no code.
func shimWasBusy(err error) bool { return strings.Contains(err.Error(), "remove pre-existing socket") }

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

// shimOf reads from a command line which sandbox a shim of this containerd and namespace was started for.
func (r *Runtime) shimOf(args []string) (string, bool) {
	if !strings.HasPrefix(filepath.Base(args[0]), "containerd-shim-") {
		return "", false
	}
	flags := map[string]string{}
	for i := 1; i+1 < len(args); i += 2 {
		flags[args[i]] = args[i+1]
	}
	ours := flags["-namespace"] == r.cfg.Namespace && flags["-address"] == strings.TrimPrefix(r.cfg.Endpoint, "unix://")
	return flags["-id"], ours && flags["-id"] != ""
}
