package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/defaults"
	"github.com/containerd/containerd/v2/plugins"
	"github.com/containerd/errdefs"
	"github.com/containerd/errdefs/pkg/errgrpc"
	"golang.org/x/sys/unix"
)

// Containerd is what a containerd tells of itself.
type Containerd struct {
	Version     string
	PID         int    // 0 where the kernel does not tell
	Root        string // where images and containers are; "" where it does not tell
	Snapshotter error  // why it cannot unpack images
}

// rootDir is containerd's folder, its default where it did not tell.
func (d Containerd) rootDir() string {
	if d.Root == "" {
		return defaults.DefaultRootDir
	}
	return d.Root
}

// Ask asks the containerd behind an endpoint, unix:///run/containerd/containerd.sock or a plain path.
func Ask(ctx context.Context, endpoint string) (Containerd, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	address := strings.TrimPrefix(endpoint, "unix://")
	pid, err := listener(address)
	if err != nil {
		return Containerd{}, err
	}
	c, err := client.New(address)
	if err != nil {
		return Containerd{}, fmt.Errorf("connect to containerd: %w", err)
	}
	defer c.Close()
	v, err := c.Version(ctx)
	if err != nil {
		return Containerd{}, fmt.Errorf("ask containerd for its version: %w", errgrpc.ToNative(err))
	}
	d := Containerd{Version: v.Version, PID: pid}
	// What podkeeper unpacks images with is containerd's default.
	const snapshotter = defaults.DefaultSnapshotter
	found, err := c.IntrospectionService().Plugins(ctx, fmt.Sprintf("type==%s,id==%s", plugins.SnapshotPlugin, snapshotter))
	switch {
	case err != nil:
		return Containerd{}, fmt.Errorf("ask containerd for its plugins: %w", errgrpc.ToNative(err))
	case len(found.Plugins) == 0:
		d.Snapshotter = fmt.Errorf("containerd has no snapshotter %s: enable it in its configuration", snapshotter)
		return d, nil
	}
	if fault := found.Plugins[0].InitErr; fault != nil {
		d.Snapshotter = errors.New(fault.Message)
	}
	if root := found.Plugins[0].Exports["root"]; root != "" {
		d.Root = filepath.Dir(root) // each plugin has a folder in it
	}
	return d, nil
}

// listener answers which process listens on a Unix socket, 0 where that cannot be seen from here.
func listener(address string) (pid int, err error) {
	conn, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: address, Net: "unix"})
	if err != nil {
		return 0, fmt.Errorf("connect to containerd: %w", err)
	}
	raw, err := conn.SyscallConn()
	if err == nil {
		err = raw.Control(func(fd uintptr) {
			if peer, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); err == nil {
				pid = int(peer.Pid)
			}
		})
	}
	return pid, errors.Join(err, conn.Close())
}

// containerd judges what Ask found.
func (h Host) containerd(endpoint string, d Containerd, err error) []Finding {
	const name = "containerd"
	if err != nil {
		return []Finding{fail(name, "%s", h.mendContainerd(endpoint, err))}
	}
	found := ok(name, "%s, %s", d.Version, endpoint)
	v, err := parseVersion(d.Version)
	switch {
	case err != nil:
		found = warn(name, "%s, %s: the version is not understood, 1.6 or newer is needed", d.Version, endpoint)
	case v.before(1, 6):
		found = fail(name, "%s, %s: install 1.6 or newer", d.Version, endpoint)
	case v.major > 2:
		found = warn(name, "%s, %s: newer than what podkeeper was tried with, which is 1.6 to 2", d.Version, endpoint)
	}
	if d.Snapshotter != nil {
		return []Finding{found, fail("snapshotter", "overlayfs does not work: %v", d.Snapshotter)}
	}
	return []Finding{found, ok("snapshotter", "overlayfs below %s", d.rootDir())}
}

// mendContainerd says what to do about a containerd that does not answer.
func (h Host) mendContainerd(endpoint string, err error) string {
	switch {
	case !filepath.IsAbs(strings.TrimPrefix(endpoint, "unix://")):
		return fmt.Sprintf("%s is no socket: --container-runtime-endpoint must be unix:// and an absolute path", endpoint)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Sprintf("%s may not be used: run as root", endpoint)
	case errdefs.IsDeadlineExceeded(err):
		return fmt.Sprintf("%s takes connections, but does not answer within %s: restart containerd", endpoint, patience)
	case !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.ECONNREFUSED):
		return fmt.Sprintf("%s: %v: see containerd's log", endpoint, err)
	case h.program(h.Path+":"+servicePath, "containerd") == "":
		return fmt.Sprintf("nothing listens at %s: %s", endpoint, h.install("containerd"))
	}
	start := "start containerd"
	if h.bootedBySystemd() {
		start = "systemctl start containerd"
	}
	return fmt.Sprintf("nothing listens at %s: %s, or say with --container-runtime-endpoint where it listens", endpoint, start)
}

// Handler says how containers of one runtime handler are run.
type Handler struct {
	Type       string
	BinaryName string
	Default    bool // Pods without a runtimeClassName get it
}

// handlers looks for what containerd starts to run containers, where containerd looks for it.
func (h Host) handlers(ctx context.Context, handlers map[string]Handler, d Containerd) []Finding {
	folders, own := h.daemonPath(d.PID)
	var findings []Finding
	kinds := map[string]bool{}
	for _, name := range slices.Sorted(maps.Keys(handlers)) {
		handler := handlers[name]
		kinds[handler.Type] = true
		binary := handler.BinaryName
		if binary == "" && handler.Type == plugins.RuntimeRuncV2 {
			binary = "runc"
		}
		if binary != "" { // else the shim does it all, as far as is known
			name = "handler " + name
			if handler.Default {
				name += " (default)"
			}
			findings = append(findings, h.handler(ctx, folders, name, binary))
		}
	}
	for _, kind := range slices.Sorted(maps.Keys(kinds)) {
		findings = append(findings, h.shim(folders+":"+own, kind))
	}
	return findings
}

// daemonPath is where containerd finds programs, and its own folder, where it finds shims too. A containerd that does not
// run will have the folders of a service.
func (h Host) daemonPath(pid int) (folders, own string) {
	proc := fmt.Sprintf("/proc/%d/", pid)
	environ, err := h.read(proc + "environ")
	if pid == 0 || err != nil {
		return h.Path + ":" + servicePath, ""
	}
	for variable := range strings.SplitSeq(environ, "\x00") {
		if path, found := strings.CutPrefix(variable, "PATH="); found {
			folders = path
		}
	}
	if program, err := os.Readlink(h.at(proc + "exe")); err == nil {
		own = filepath.Dir(program)
	}
	return folders, own
}

// shim looks for the shim of a runtime type: io.containerd.runc.v2 is containerd-shim-runc-v2, a path is itself.
func (h Host) shim(folders, kind string) Finding {
	const name = "shim"
	file := kind
	if !strings.HasPrefix(kind, "/") {
		parts := strings.Split(kind, ".")
		if len(parts) < 2 {
			return fail(name, "%s is no runtime type: --runtime-handler must name one such as io.containerd.runc.v2", kind)
		}
		file = "containerd-shim-" + strings.Join(parts[len(parts)-2:], "-")
	}
	path := h.program(folders, file)
	switch {
	case path != "":
		return ok(name, "%s", path)
	case file == "containerd-shim-runc-v2":
		return fail(name, "%s is not to be found by containerd, which it belongs to: %s", file, h.install("--reinstall containerd"))
	default:
		return fail(name, "%s is not to be found by containerd: install it, or leave out the handler", file)
	}
}

// handler looks for an OCI runtime and has it say its version.
func (h Host) handler(ctx context.Context, folders, name, binary string) Finding {
	path := h.program(folders, binary)
	if path == "" {
		mend := "install it, or leave out the handler"
		if binary == "runc" {
			mend = h.install("runc")
		}
		return fail(name, "%s is not to be found by containerd: %s", binary, mend)
	}
	said, err := h.run(ctx, path, "--version")
	if err != nil {
		return fail(name, "%s does not run: %v: install it anew", path, err)
	}
	first, _, _ := strings.Cut(said, "\n")
	return ok(name, "%s, %s", first, path)
}
