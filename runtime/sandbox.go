package runtime

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"github.com/containerd/containerd/api/services/tasks/v1"
	"github.com/containerd/containerd/v2/contrib/seccomp"
	"github.com/containerd/errdefs"
	"github.com/moby/sys/mountinfo"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// pauseIO is where the pause process sees the pipes of the Pod's containers.
const pauseIO = "io"

// shmSize is the size of a Pod's /dev/shm, as CRI runtimes have it.
const shmSize = "65536k"

// SandboxConfig is all that the sandbox of a Pod is made of.
type SandboxConfig struct {
	ID          string
	Labels      map[string]string
	Handler     string
	Dir         string // the sandbox's folder below the run dir: pipes and /dev/shm
	Hostname    string
	NetNS       string // path of the network namespace; empty is the host's
	HostIPC     bool
	HostPID     bool
	CgroupsPath string
	OOMScoreAdj int
	Containers  []string // whose output the pause process holds for the agent
}

// Shm is the Pod's /dev/shm on the host.
func Shm(sandboxDir string) string { return filepath.Join(sandboxDir, "shm") }

// StartSandbox makes the pipes and /dev/shm of a Pod and starts its pause process, which holds the namespaces and the
// pipes open: what a container writes while no agent runs waits in its pipe, even when the container ends meanwhile. What
// is there already is kept.
func (r *Runtime) StartSandbox(ctx context.Context, cfg SandboxConfig) error {
	if err := makePipes(cfg); err != nil {
		return err
	}
	if !cfg.HostIPC {
		if err := mountShm(Shm(cfg.Dir)); err != nil {
			return err
		}
	}
	rec := record{id: cfg.ID, handler: cfg.Handler, labels: cfg.Labels}
	if err := r.createRecord(ctx, rec, r.sandboxSpec(cfg)); err != nil {
		return fmt.Errorf("create sandbox: %w", err)
	}
	if err := r.createTask(ctx, &tasks.CreateTaskRequest{ContainerID: cfg.ID}); err != nil {
		return fmt.Errorf("create sandbox: %w", err)
	}
	if err := r.guardShim(cfg.ID); err != nil {
		return fmt.Errorf("create sandbox: %w", err)
	}
	if err := r.Start(ctx, cfg.ID); err != nil {
		return fmt.Errorf("start sandbox: %w", err)
	}
	return nil
}

// mountShm mounts the Pod's /dev/shm once.
func mountShm(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("create shm: %w", err)
	}
	if mounted, err := mountinfo.Mounted(dir); err != nil || mounted {
		return err
	}
	if err := unix.Mount("shm", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "mode=1777,size="+shmSize); err != nil {
		return fmt.Errorf("mount shm at %s: %w", dir, err)
	}
	return nil
}

// DeleteSandbox removes the pause process and the sandbox's folder with its pipes and /dev/shm. An empty dir is no folder:
// that of a sandbox whose successor has it already.
func (r *Runtime) DeleteSandbox(ctx context.Context, id, dir string) error {
	if err := r.endTask(ctx, id); err != nil {
		return err
	}
	if err := r.releaseShim(id); err != nil {
		return fmt.Errorf("delete sandbox: %w", err)
	}
	if err := DeleteSandboxDir(dir); err != nil {
		return err
	}
	if err := r.client.ContainerService().Delete(ctx, id); err != nil && !errdefs.IsNotFound(err) {
		return fmt.Errorf("delete sandbox: %w", err)
	}
	return nil
}

// DeleteSandboxDir removes a sandbox's pipes and /dev/shm from its folder. What is gone is no error, and so is no folder.
func DeleteSandboxDir(dir string) error {
	if dir == "" {
		return nil
	}
	if err := unix.Unmount(Shm(dir), unix.MNT_DETACH); err != nil && err != unix.EINVAL && err != unix.ENOENT {
		return fmt.Errorf("unmount %s: %w", Shm(dir), err)
	}
	if err := os.Remove(Shm(dir)); err != nil && !os.IsNotExist(err) {
		return fmt.Errorf("remove sandbox: %w", err)
	}
	if err := os.RemoveAll(filepath.Join(dir, pauseIO)); err != nil {
		return fmt.Errorf("remove sandbox: %w", err)
	}
	return nil
}

// SandboxNamespaces are the namespaces that the containers of a Pod share with its pause process.
func SandboxNamespaces(pausePID int, netNS string, hostIPC bool) Namespaces {
	of := func(kind string) string { return "/proc/" + strconv.Itoa(pausePID) + "/ns/" + kind }
	ns := Namespaces{Network: netNS, UTS: of("uts"), PID: of("pid")}
	if netNS == "" {
		ns.UTS = "" // a Pod on the host's network has the host's name
	}
	if !hostIPC {
		ns.IPC = of("ipc")
	}
	return ns
}

// sandboxSpec is the OCI spec of the pause process: no mounts but its pipes, no capabilities, nothing to write to.
func (r *Runtime) sandboxSpec(cfg SandboxConfig) *specs.Spec {
	args := []string{"/pause"}
	for _, name := range cfg.Containers {
		stdout, stderr := Pipes("/", name)
		args = append(args, stdout, stderr)
	}
	namespaces := []specs.LinuxNamespace{{Type: specs.MountNamespace}}
	if !cfg.HostPID {
		namespaces = append(namespaces, specs.LinuxNamespace{Type: specs.PIDNamespace})
	}
	if !cfg.HostIPC {
		namespaces = append(namespaces, specs.LinuxNamespace{Type: specs.IPCNamespace})
	}
	s := &specs.Spec{
		Version: specVersion,
		Process: &specs.Process{
			Args: args, Cwd: "/", Env: []string{}, NoNewPrivileges: true,
			Capabilities: &specs.LinuxCapabilities{}, OOMScoreAdj: &cfg.OOMScoreAdj,
		},
		Root: &specs.Root{Path: r.pauseRoot, Readonly: true},
		Mounts: []specs.Mount{
			{Destination: "/proc", Type: "proc", Source: "proc", Options: []string{"nosuid", "noexec", "nodev"}},
			// Without a mount there the runtime would make its device nodes in the folder that all sandboxes share.
			{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "noexec", "mode=755", "size=64k"}},
			// Read-only, which keeps nobody from opening the pipes for writing: where its PID namespace is shared, a container
			// reaches this folder through /proc/<pid>/root.
			{Destination: "/" + pauseIO, Type: "bind", Source: filepath.Join(cfg.Dir, pauseIO), Options: []string{"rbind", "ro", "nosuid", "nodev", "noexec"}},
		},
		Annotations: map[string]string{groupAnnotation: cfg.ID},
		Linux: &specs.Linux{
			ReadonlyPaths: []string{"/proc"}, // the runtime writes its sysctls before
			CgroupsPath:   cfg.CgroupsPath,
			Resources: &specs.LinuxResources{
				CPU:     &specs.LinuxCPU{Shares: new(uint64(2))},
				Devices: []specs.LinuxDeviceCgroup{{Allow: false, Access: "rwm"}},
			},
		},
	}
	if cfg.NetNS != "" {
		namespaces = append(namespaces, specs.LinuxNamespace{Type: specs.NetworkNamespace, Path: cfg.NetNS},
			specs.LinuxNamespace{Type: specs.UTSNamespace})
		s.Hostname = cfg.Hostname
		// Every process may bind low ports and ping, as under containerd's CRI (enable_unprivileged_ports, …_icmp).
		s.Linux.Sysctl = map[string]string{"net.ipv4.ip_unprivileged_port_start": "0", "net.ipv4.ping_group_range": "0 2147483647"}
	}
	s.Linux.Namespaces = namespaces
	// Whatever the Pod says of its own containers (kubernetes/kubernetes pkg/kubelet/kuberuntime, security context of sandboxes).
	s.Linux.Seccomp = seccomp.DefaultProfile(s)
	return s
}
