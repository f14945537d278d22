package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/containerd/containerd/api/services/tasks/v1"
	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/errdefs"
	"github.com/containerd/errdefs/pkg/errgrpc"
	"github.com/moby/sys/mountinfo"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/podkeeper/podkeeper/network"
)

const (
	demoImage   = "podkeeper.local/demo:v1"
	snapshotter = "overlayfs"
	cniBin      = "/usr/lib/cni"
	cgroupMount = "/sys/fs/cgroup"
	patience    = 2 * time.Minute // with anything that should happen
)

// lab is the place of one run: folders, a containerd, and names on the host that nobody else uses.
type lab struct {
	dir    string // temporary, with everything below
	out    string // where containers write that they have started
	root   string // of podkeeper's module
	name   string // on the host: cgroups, the namespaces of containerd
	binary string // podkeeper's
	starts *starts

	containerd *exec.Cmd
	floors     *client.Client // in the floor's namespace
	pods       *client.Client // in podkeeper's
}

// openLab makes the folders and starts containerd; binary is podkeeper's, built where it is empty. What it has begun is
// gone when it fails.
func openLab(ctx context.Context, binary string) (l *lab, err error) {
	dir, err := os.MkdirTemp("", "pkbench")
	if err != nil {
		return nil, fmt.Errorf("make temporary folder: %w", err)
	}
	l = &lab{dir: dir, out: filepath.Join(dir, "out"), name: fmt.Sprintf("pkb%d", os.Getpid())}
	defer func() {
		if err != nil {
			err = errors.Join(err, l.close())
		}
	}()
	for _, sub := range []string{l.out, l.path("images"), l.path("manifests"), l.path("cni")} {
		if err := os.MkdirAll(sub, 0o755); err != nil {
			return nil, fmt.Errorf("make temporary folder: %w", err)
		}
	}
	if l.starts, err = watchStarts(l.out); err != nil {
		return nil, err
	}
	mod, err := exec.CommandContext(ctx, "go", "env", "GOMOD").Output()
	if err != nil {
		return nil, fmt.Errorf("find podkeeper's module: %w", err)
	}
	l.root = filepath.Dir(strings.TrimSpace(string(mod)))
	if err := l.goTool(ctx, "run", "./hack/demoimage", "-o", l.archive(), "-tag", demoImage); err != nil {
		return nil, err
	}
	if l.binary = binary; binary == "" {
		l.binary = l.path("podkeeper")
		if err := l.goTool(ctx, "build", "-o", l.binary, "./cmd/podkeeper"); err != nil {
			return nil, err
		}
	}
	return l, l.startContainerd(ctx)
}

func (l *lab) path(parts ...string) string {
	return filepath.Join(append([]string{l.dir}, parts...)...)
}

// archive is the demo image.
func (l *lab) archive() string { return l.path("images", "demo.tar") }

// goTool runs the go command in podkeeper's module.
func (l *lab) goTool(ctx context.Context, args ...string) error {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir, cmd.Stderr = l.root, os.Stderr
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0") // as it is shipped
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("go %s: %w", strings.Join(args, " "), err)
	}
	return nil
}

// containerdConfig keeps everything below the temporary folder.
const containerdConfig = `version = 2
root = %q
state = %q
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
address = %q
[ttrpc]
address = %q
`

func (l *lab) socket() string { return l.path("c.sock") }

// startContainerd starts it and waits until it answers.
func (l *lab) startContainerd(ctx context.Context) error {
	config := fmt.Sprintf(containerdConfig, l.path("containerd"), l.path("state"), l.socket(), l.socket()+".ttrpc")
	if err := os.WriteFile(l.path("containerd.toml"), []byte(config), 0o600); err != nil {
		return fmt.Errorf("write containerd's configuration: %w", err)
	}
	cmd, err := start(l.path("containerd.log"), nil, "containerd", "--config", l.path("containerd.toml"))
	if err != nil {
		return err
	}
	l.containerd = cmd
	if l.floors, err = l.connect(ctx, l.name+"-floor"); err != nil {
		return err
	}
	l.pods, err = l.connect(ctx, l.name)
	return err
}

// connect answers a client for a namespace once containerd serves.
func (l *lab) connect(ctx context.Context, namespace string) (*client.Client, error) {
	c, err := client.New(l.socket(), client.WithDefaultNamespace(namespace))
	if err != nil {
		return nil, fmt.Errorf("connect to containerd: %w", err)
	}
	serves := func() (bool, error) { return c.IsServing(ctx) }
	if err := poll(ctx, 20*time.Millisecond, serves); err != nil {
		return nil, errors.Join(fmt.Errorf("wait for containerd: %w", err), c.Close())
	}
	return c, nil
}

// start starts a process in a group of its own, so that Ctrl-C leaves it to the bench.
func start(log string, env []string, args ...string) (*exec.Cmd, error) {
	out, err := os.OpenFile(log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	defer out.Close()
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.Env = append(os.Environ(), env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", args[0], err)
	}
	return cmd, nil
}

// errOver ends a poll at once.
var errOver = errors.New("there is nothing more to wait for")

// poll asks until the answer is yes; errors but errOver are a no.
func poll(ctx context.Context, every time.Duration, ask func() (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		yes, err := ask()
		if yes && err == nil {
			return nil
		}
		if errors.Is(err, errOver) {
			return err
		}
		select {
		case <-ctx.Done():
			return errors.Join(ctx.Err(), err)
		case <-time.After(every):
		}
	}
}

// close takes away all that the run has made, as far as it got.
func (l *lab) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	var errs []error
	for _, c := range []*client.Client{l.floors, l.pods} {
		if c != nil {
			errs = append(errs, removeAll(ctx, c), c.Close())
		}
	}
	if l.containerd != nil {
		errs = append(errs, end(l.containerd, syscall.SIGTERM))
	}
	if l.starts != nil {
		errs = append(errs, l.starts.watcher.Close())
	}
	errs = append(errs, l.endProcesses(ctx), l.removeMounts(), l.removeNetwork(), removeBridge(floorBridge()), l.removeCgroups())
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("clean up, %s is left: %w", l.dir, err)
	}
	if err := os.RemoveAll(l.dir); err != nil {
		return fmt.Errorf("clean up: %w", err)
	}
	return nil
}

// end signals a process and waits for its end.
func end(cmd *exec.Cmd, sig syscall.Signal) error {
	if err := cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("end %s: %w", cmd.Path, err)
	}
	var exit *exec.ExitError
	if err := cmd.Wait(); err != nil && !errors.As(err, &exit) {
		return fmt.Errorf("end %s: %w", cmd.Path, err)
	}
	return nil
}

// removeAll removes every container of a namespace.
func removeAll(ctx context.Context, c *client.Client) error {
	records, err := c.ContainerService().List(ctx)
	if err != nil {
		return fmt.Errorf("list containers: %w", err)
	}
	var work errgroup.Group
	work.SetLimit(4)
	for _, r := range records {
		work.Go(func() error { return removeContainer(ctx, c, r.ID) })
	}
	return work.Wait()
}

// removeContainer takes away whatever of a container is there.
func removeContainer(ctx context.Context, c *client.Client, id string) error {
	if err := removeTask(ctx, c, id); err != nil {
		return err
	}
	return removeRecord(ctx, c, id)
}

// unlessGone is an error of containerd, unless it says that there is no such thing.
func unlessGone(err error, what, id string) error {
	if err == nil || errdefs.IsNotFound(err) || errdefs.IsNotFound(errgrpc.ToNative(err)) {
		return nil
	}
	return fmt.Errorf("%s of %s: %w", what, id, err)
}

// removeTask kills and removes a task.
func removeTask(ctx context.Context, c *client.Client, id string) error {
	service := c.TaskService()
	_, err := service.Kill(ctx, &tasks.KillRequest{ContainerID: id, Signal: uint32(unix.SIGKILL), All: true})
	if err == nil {
		_, err = service.Wait(ctx, &tasks.WaitRequest{ContainerID: id})
	}
	if err := unlessGone(err, "kill task", id); err != nil {
		return err
	}
	_, err = service.Delete(ctx, &tasks.DeleteTaskRequest{ContainerID: id})
	return unlessGone(err, "delete task", id)
}

// removeRecord removes the snapshot and the record of a container without a task.
func removeRecord(ctx context.Context, c *client.Client, id string) error {
	if err := unlessGone(c.SnapshotService(snapshotter).Remove(ctx, id), "remove snapshot", id); err != nil {
		return err
	}
	return unlessGone(c.ContainerService().Delete(ctx, id), "delete record", id)
}

// removeMounts unmounts everything below the temporary folder: network namespaces, /dev/shm of Pods, root file systems.
func (l *lab) removeMounts() error {
	mounts, err := mountinfo.GetMounts(mountinfo.PrefixFilter(l.dir))
	if err != nil {
		return fmt.Errorf("list mounts: %w", err)
	}
	var errs []error
	for _, m := range mounts {
		if err := unix.Unmount(m.Mountpoint, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
			errs = append(errs, fmt.Errorf("unmount %s: %w", m.Mountpoint, err))
		}
	}
	return errors.Join(errs...)
}

// removeNetwork takes podkeeper's built-in network off the host.
func (l *lab) removeNetwork() error {
	n, err := network.Open(network.Config{
		BinDir: cniBin, RunDir: l.path("run"), StateDir: l.path("run", "network"), Name: l.name, Subnet: netip.MustParsePrefix(podCIDR),
	})
	if err != nil {
		return err
	}
	return n.Destroy()
}

// cgroups are the folders of the lab's cgroups, each before what is in it.
func (l *lab) cgroups() ([]string, error) {
	roots, err := filepath.Glob(filepath.Join(cgroupMount, "*", l.name))
	if err != nil {
		return nil, fmt.Errorf("list cgroups: %w", err)
	}
	var folders []string
	for _, root := range append(roots, filepath.Join(cgroupMount, l.name)) {
		err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				folders = append(folders, path)
			}
			return nil // what has vanished meanwhile is as wanted
		})
		if err != nil {
			return nil, fmt.Errorf("list cgroups: %w", err)
		}
	}
	return folders, nil
}

// endProcesses ends what still runs in the lab's cgroups: sandboxes of an agent that was interrupted.
func (l *lab) endProcesses(ctx context.Context) error {
	folders, err := l.cgroups()
	if err != nil {
		return err
	}
	return poll(ctx, 10*time.Millisecond, func() (bool, error) {
		none := true
		for _, folder := range folders {
			pids, _ := os.ReadFile(filepath.Join(folder, "cgroup.procs")) // gone is as wanted
			for pid := range strings.FieldsSeq(string(pids)) {
				none = false
				if n, err := strconv.Atoi(pid); err == nil && n > 1 {
					_ = syscall.Kill(n, syscall.SIGKILL)
				}
			}
		}
		return none, nil
	})
}

// removeCgroups removes the run's cgroups from every hierarchy, the innermost first.
func (l *lab) removeCgroups() error {
	folders, err := l.cgroups()
	if err != nil {
		return err
	}
	var errs []error
	for i := len(folders) - 1; i >= 0; i-- {
		if err := os.Remove(folders[i]); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, fmt.Errorf("remove cgroup: %w", err))
		}
	}
	return errors.Join(errs...)
}
