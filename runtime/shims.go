package runtime

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
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
	}
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
