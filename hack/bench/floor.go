package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/containerd/containerd/api/services/tasks/v1"
	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/errdefs/pkg/errgrpc"
	"github.com/containernetworking/cni/libcni"
	"github.com/opencontainers/image-spec/identity"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// way is how the floor runs a Pod.
type way string

const (
	// inTurn is a network namespace, CNI's ADD, a pause task, the app's task, one after another: what node agents do,
	// and the yardstick of all ratios.
	inTurn way = "pause task"
	// beside has no task to hold the namespaces, and makes the app's task while CNI runs.
	beside way = "pause process"
	// withoutCNI is beside for a network that costs nothing.
	withoutCNI way = "pause process, no CNI"
)

// floor does what a Pod of one container cannot do without, and nothing else. No Pod's cgroup, no logs, no files: what a
// node agent adds to this is its own cost.
type floor struct {
	lab       *lab
	client    *client.Client
	cni       *libcni.CNIConfig
	list      *libcni.NetworkConfigList
	chainID   string // the snapshot of the image
	env       []string
	pauseRoot string
	broken    error // why there is no floor

	mu   sync.Mutex
	pods map[string]*floorPod
}

// floorPod is one Pod that was begun.
type floorPod struct {
	way     way
	again   bool      // has a second app container: the first one's restart
	pause   *exec.Cmd // where it is no task
	pauseID string    // where it is one
}

// stages is how long each step of one Pod took.
type stages struct{ netNS, cni, pauseTask, pauseProcess, create, start time.Duration }

// pauseTime is how long a pause process of the floor sleeps, in seconds, where nobody ends it.
const pauseTime = "86400"

// floorBridge is the bridge of the floor's network.
func floorBridge() string { return "pkf" + strconv.Itoa(os.Getpid()) }

// newFloor imports the image and lays out the pause process. A floor that could not be made says so whenever it is asked.
func newFloor(ctx context.Context, l *lab) *floor {
	f := &floor{
		lab: l, client: l.floors, pauseRoot: l.path("floor", "pause"), pods: map[string]*floorPod{},
		cni: libcni.NewCNIConfigWithCacheDir([]string{cniBin}, l.path("floor", "cni"), nil),
	}
	f.broken = errors.Join(f.layOut(), f.importImage(ctx))
	return f
}

func (f *floor) layOut() (err error) {
	for _, dir := range []string{f.lab.path("floor", "netns"), filepath.Join(f.pauseRoot, "proc"), filepath.Join(f.pauseRoot, "dev")} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("make folder of floor: %w", err)
		}
	}
	busybox, err := os.ReadFile("/bin/busybox") // any program that sleeps, and needs nothing
	if err != nil {
		return fmt.Errorf("read pause process: %w", err)
	}
	if err := os.WriteFile(filepath.Join(f.pauseRoot, "sleep"), busybox, 0o755); err != nil {
		return fmt.Errorf("write pause process: %w", err)
	}
	f.list, err = floorNetwork(f.lab)
	return err
}

// floorNetwork is a bridge with host-local addresses, as podkeeper's built-in network.
func floorNetwork(l *lab) (*libcni.NetworkConfigList, error) {
	conf, err := json.Marshal(map[string]any{
		"cniVersion": "1.0.0", "name": l.name + "-floor",
		"plugins": []map[string]any{{
			"type": "bridge", "bridge": floorBridge(), "isGateway": true, "hairpinMode": true,
			"ipam": map[string]any{
				"type": "host-local", "dataDir": l.path("floor", "ipam"),
				"ranges": [][]map[string]string{{{"subnet": fmt.Sprintf("10.191.%d.0/24", os.Getpid()%256)}}},
				"routes": []map[string]string{{"dst": "0.0.0.0/0"}},
			},
		}},
	})
	if err != nil {
		return nil, fmt.Errorf("build network configuration: %w", err)
	}
	list, err := libcni.NetworkConfFromBytes(conf)
	if err != nil {
		return nil, fmt.Errorf("build network configuration: %w", err)
	}
	return list, nil
}

func (f *floor) importImage(ctx context.Context) error {
	archive, err := os.Open(f.lab.archive())
	if err != nil {
		return fmt.Errorf("import image: %w", err)
	}
	defer archive.Close()
	found, err := f.client.Import(ctx, archive)
	if err != nil {
		return fmt.Errorf("import image: %w", err)
	}
	image := client.NewImage(f.client, found[0])
	if err := image.Unpack(ctx, snapshotter); err != nil {
		return fmt.Errorf("unpack image: %w", err)
	}
	layers, err := image.RootFS(ctx)
	if err != nil {
		return fmt.Errorf("read image: %w", err)
	}
	spec, err := image.Spec(ctx)
	if err != nil {
		return fmt.Errorf("read image: %w", err)
	}
	f.chainID, f.env = identity.ChainID(layers).String(), spec.Config.Env
	return nil
}

// runPod runs one Pod.
func (f *floor) runPod(ctx context.Context, pod string, how way) (s stages, err error) {
	if f.broken != nil {
		return s, f.broken
	}
	if how == inTurn {
		err = f.runInTurn(ctx, pod, &s)
	} else {
		err = f.runBeside(ctx, pod, how, &s)
	}
	if err != nil {
		return s, fmt.Errorf("run floor's Pod %s: %w", pod, err)
	}
	return s, nil
}

// timed notes how long something takes.
func timed(took *time.Duration, do func() error) error {
	begin := time.Now()
	err := do()
	*took = time.Since(begin)
	return err
}

func (f *floor) runInTurn(ctx context.Context, pod string, s *stages) error {
	f.remember(pod, &floorPod{way: inTurn, pauseID: pauseID(pod)})
	if err := timed(&s.netNS, func() error { return pinNetNS(f.netNS(pod), nil) }); err != nil {
		return err
	}
	if err := timed(&s.cni, func() error { return f.connect(ctx, pod) }); err != nil {
		return err
	}
	var pid int
	if err := timed(&s.pauseTask, func() (err error) { pid, err = f.runPause(ctx, pod); return err }); err != nil {
		return err
	}
	if err := timed(&s.create, func() error { return f.createApp(ctx, pod, pod, pid) }); err != nil {
		return err
	}
	return timed(&s.start, func() error { return f.startTask(ctx, pod) })
}

func (f *floor) runBeside(ctx context.Context, pod string, how way, s *stages) error {
	p := &floorPod{way: how, pause: exec.Command(filepath.Join(f.pauseRoot, "sleep"), pauseTime)}
	p.pause.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	err := timed(&s.netNS, func() error {
		return pinNetNS(f.netNS(pod), func() error {
			return timed(&s.pauseProcess, func() error { return startPause(p.pause, pod) })
		})
	})
	f.remember(pod, p)
	if err != nil {
		return err
	}
	s.netNS -= s.pauseProcess
	work, workCtx := errgroup.WithContext(ctx)
	if how == beside {
		work.Go(func() error { return timed(&s.cni, func() error { return f.connect(workCtx, pod) }) })
	}
	work.Go(func() error {
		return timed(&s.create, func() error { return f.createApp(workCtx, pod, pod, p.pause.Process.Pid) })
	})
	if err := work.Wait(); err != nil {
		return err
	}
	return timed(&s.start, func() error { return f.startTask(ctx, pod) })
}

// startPause starts the pause process as a child, on a thread of its own that then ends. A mount namespace of its own
// would hold the mounts of all other Pods; podkeeper's has left them behind.
func startPause(pause *exec.Cmd, hostname string) error {
	if err := unix.Unshare(unix.CLONE_NEWUTS | unix.CLONE_NEWIPC); err != nil {
		return fmt.Errorf("make namespaces: %w", err)
	}
	if err := unix.Sethostname([]byte(hostname)); err != nil {
		return fmt.Errorf("set hostname: %w", err)
	}
	if err := pause.Start(); err != nil {
		return fmt.Errorf("start pause process: %w", err)
	}
	return nil
}

func (f *floor) remember(pod string, p *floorPod) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.pods[pod] = p
}

// forget answers what was remembered of a Pod, for the last time.
func (f *floor) forget(pod string) *floorPod {
	f.mu.Lock()
	defer f.mu.Unlock()
	p := f.pods[pod]
	delete(f.pods, pod)
	return p
}

// runMany runs Pods, so many at a time.
func (f *floor) runMany(ctx context.Context, pods []string, how way, parallel int) error {
	work, ctx := errgroup.WithContext(ctx)
	work.SetLimit(parallel)
	for _, pod := range pods {
		work.Go(func() error { _, err := f.runPod(ctx, pod, how); return err })
	}
	return work.Wait()
}

// restart ends the app of a Pod that has a pause task and makes all that the next one needs but its task, which it then
// creates and starts in the shim that runs; it answers when it began to.
func (f *floor) restart(ctx context.Context, pod string) (time.Time, error) {
	if err := removeTask(ctx, f.client, pod); err != nil {
		return time.Time{}, err
	}
	f.mu.Lock()
	p := f.pods[pod]
	p.again = true
	f.mu.Unlock()
	pause, err := f.client.TaskService().Get(ctx, &tasks.GetRequest{ContainerID: p.pauseID})
	if err != nil {
		return time.Time{}, fmt.Errorf("restart floor's Pod %s: %w", pod, errgrpc.ToNative(err))
	}
	rootfs, err := f.prepareApp(ctx, pod, againID(pod), int(pause.Process.Pid))
	if err != nil {
		return time.Time{}, fmt.Errorf("restart floor's Pod %s: %w", pod, err)
	}
	begin := time.Now()
	if _, err := f.createTask(ctx, againID(pod), rootfs); err != nil {
		return begin, fmt.Errorf("restart floor's Pod %s: %w", pod, err)
	}
	return begin, f.startTask(ctx, againID(pod))
}

// remove ends Pods, so many at a time, and answers how long it took until none had a task or an address; then it takes
// away what else there is of them.
func (f *floor) remove(ctx context.Context, pods []string, parallel int) (time.Duration, error) {
	var ending, clearing errgroup.Group
	ending.SetLimit(parallel)
	clearing.SetLimit(parallel)
	begin := time.Now()
	for _, pod := range pods {
		ending.Go(func() error { return f.end(ctx, pod) })
	}
	err := ending.Wait()
	took := time.Since(begin)
	for _, pod := range pods {
		clearing.Go(func() error { return f.clear(ctx, pod) })
	}
	if err := errors.Join(err, clearing.Wait()); err != nil {
		return 0, fmt.Errorf("remove floor's Pods: %w", err)
	}
	return took, nil
}

// end ends the processes of a Pod and takes its address away.
func (f *floor) end(ctx context.Context, pod string) error {
	p := f.forget(pod)
	if p == nil {
		return nil
	}
	errs := []error{removeTask(ctx, f.client, pod)}
	if p.again {
		errs = append(errs, removeTask(ctx, f.client, againID(pod)))
	}
	if p.pauseID != "" {
		errs = append(errs, removeTask(ctx, f.client, p.pauseID))
	}
	if p.way != withoutCNI {
		errs = append(errs, f.cni.DelNetworkList(ctx, f.list, f.attachment(pod)))
	}
	return errors.Join(append(errs, p.endPause())...)
}

func (p *floorPod) endPause() error {
	if p.pause == nil || p.pause.Process == nil {
		return nil
	}
	return end(p.pause, syscall.SIGKILL)
}

// clear takes away the rest of a Pod.
func (f *floor) clear(ctx context.Context, pod string) error {
	err := errors.Join(removeRecord(ctx, f.client, pod), removeRecord(ctx, f.client, againID(pod)), removeRecord(ctx, f.client, pauseID(pod)))
	if err != nil {
		return err
	}
	if err := unix.Unmount(f.netNS(pod), unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("unpin network namespace of %s: %w", pod, err)
	}
	if err := os.Remove(f.netNS(pod)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("unpin network namespace: %w", err)
	}
	return nil
}

// close ends the pause processes that are left; the lab takes away what containerd knows of.
func (f *floor) close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	var errs []error
	for _, p := range f.pods {
		errs = append(errs, p.endPause())
	}
	clear(f.pods)
	return errors.Join(errs...)
}

func pauseID(pod string) string            { return pod + "-pause" }
func againID(pod string) string            { return pod + "-again" }
func (f *floor) netNS(pod string) string   { return f.lab.path("floor", "netns", pod) }
func (f *floor) cgroup(name string) string { return "/" + f.lab.name + "/floor/" + name }

// connect gives a Pod an address.
func (f *floor) connect(ctx context.Context, pod string) error {
	if _, err := f.cni.AddNetworkList(ctx, f.list, f.attachment(pod)); err != nil {
		return fmt.Errorf("add network: %w", err)
	}
	return nil
}

func (f *floor) attachment(pod string) *libcni.RuntimeConf {
	return &libcni.RuntimeConf{ContainerID: pod, NetNS: f.netNS(pod), IfName: "eth0"}
}

// pinNetNS makes a network namespace, held by a mount, on a thread that ends with it; in it, and on that thread, it does
// what else there is to do.
func pinNetNS(path string, more func() error) error {
	file, err := os.OpenFile(path, os.O_RDONLY|os.O_CREATE, 0o444)
	if err != nil {
		return fmt.Errorf("pin network namespace: %w", err)
	}
	if err := file.Close(); err != nil {
		return fmt.Errorf("pin network namespace: %w", err)
	}
	var work sync.WaitGroup
	work.Go(func() {
		runtime.LockOSThread() // never unlocked
		ns, makeErr := netns.New()
		if err = makeErr; err != nil {
			return
		}
		defer ns.Close()
		if err = netlink.LinkSetUp(&netlink.Device{LinkAttrs: netlink.LinkAttrs{Name: "lo"}}); err == nil {
			err = unix.Mount("/proc/thread-self/ns/net", path, "", unix.MS_BIND, "")
		}
		if err == nil && more != nil {
			err = more()
		}
	})
	work.Wait()
	if err != nil {
		return fmt.Errorf("pin network namespace %s: %w", path, err)
	}
	return nil
}

// removeBridge removes a bridge; one that is not there is no error.
func removeBridge(name string) error {
	link, err := netlink.LinkByName(name)
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		return nil
	}
	if err == nil {
		err = netlink.LinkDel(link)
	}
	if err != nil {
		return fmt.Errorf("remove bridge %s: %w", name, err)
	}
	return nil
}
