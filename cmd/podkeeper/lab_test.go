package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	goruntime "runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/google/go-containerregistry/pkg/registry"
	"golang.org/x/sys/unix"
	v1 "k8s.io/api/core/v1"

	"github.com/podkeeper/podkeeper/cgroups"
	"github.com/podkeeper/podkeeper/hack/daemon"
	"github.com/podkeeper/podkeeper/network"
	"github.com/podkeeper/podkeeper/runtime"
	"github.com/podkeeper/podkeeper/server"
)

// labDir holds everything that the integration tests make. It is always the same, so that a run cleans up after one that
// was killed; with another in PODKEEPER_TEST_DIR a run is beside others.
var labDir = cmp.Or(os.Getenv("PODKEEPER_TEST_DIR"), labHome)

const labHome = "/var/tmp/podkeeper-test"

// patience is how long anything may take, and pause how soon it is looked for again; a loaded machine, or an emulated one,
// is slow, and looking takes its time, too.
var (
	patience = 40 * time.Second
	pause    = 10 * time.Millisecond
)

// lab is what all integration tests share: one private containerd, the binary, the image and a registry.
var lab struct {
	err        error // why there is none
	containerd *daemon.Daemon
	podkeeper  string
	images     string
	registry   string // host:port
	mounts     string // of the host, before
}

// init keeps the main thread for TestMain. A test that takes its thread to another network (ownHost) would take the one with it
// that /proc/self is about, and that never ends.
func init() { goruntime.LockOSThread() }

func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) == apiProgramName { // a link of this name stands in for what answers kubectl
		fmt.Fprintln(os.Stderr, beAPI())
		os.Exit(1)
	}
	flag.Parse()
	os.Exit(runTests(m))
}

func runTests(m *testing.M) int {
	if lab.err = openLab(); lab.err != nil {
		if lab.containerd != nil {
			lab.err = errors.Join(lab.err, lab.containerd.Stop())
		}
		return m.Run()
	}
	server := httptest.NewServer(registry.New())
	defer server.Close()
	lab.registry = strings.TrimPrefix(server.URL, "http://")
	code := m.Run()
	if err := closeLab(); err != nil {
		fmt.Fprintln(os.Stderr, "the lab is not left clean:", err)
		return 1
	}
	return code
}

// errSkip is why integration tests are skipped.
var errSkip = errors.New("skipped")

// openLab makes what all tests share. The environment may name what is built already, for a machine without Go:
// PODKEEPER_TEST_BINARY (podkeeper), PODKEEPER_TEST_IMAGES (a folder with demo.tar), PODKEEPER_TEST_KUBECTL,
// PODKEEPER_TEST_PROMETHEUS (one that can discover Pods, as Debian's cannot), PODKEEPER_TEST_K9S,
// PODKEEPER_TEST_CONTAINERD (a folder with another containerd and its shim), PODKEEPER_TEST_STANDIN (hack/standin),
// PODKEEPER_TEST_CONTROLPLANE (a folder with kubeadm and a control plane). PODKEEPER_TEST_SLOW multiplies how long things may
// take; PODKEEPER_TEST_CGROUP_DRIVER is the nodes' cgroupDriver; PODKEEPER_NODE=disposable allows to give the host swap.
func openLab() error {
	if testing.Short() {
		return fmt.Errorf("%w: -short is set", errSkip)
	}
	if os.Geteuid() != 0 {
		return fmt.Errorf("%w: containers need root", errSkip)
	}
	if slow, err := strconv.Atoi(os.Getenv("PODKEEPER_TEST_SLOW")); err == nil {
		patience *= time.Duration(slow)
		pause *= time.Duration(slow * slow)
	}
	if err := lockLab(); err != nil {
		return err
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	lab.mounts = string(mounts)
	if err := buildLab(); err != nil {
		return err
	}
	if lab.containerd, err = startDaemon(filepath.Join(labDir, "containerd")); err != nil {
		return err
	}
	return sweepNodes()
}

// lockLab makes the lab's folder, and holds it as long as this process lives.
func lockLab() error {
	if err := os.MkdirAll(labDir, 0o711); err != nil {
		return err
	}
	fd, err := syscall.Open(labDir, syscall.O_RDONLY|syscall.O_DIRECTORY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open %s: %w", labDir, err)
	}
	if err := syscall.Flock(fd, syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return fmt.Errorf("another run of the tests is in %s: %w", labDir, err)
	}
	return nil
}

// buildLab builds podkeeper and the image that are tested.
func buildLab() error {
	lab.podkeeper, lab.images = filepath.Join(labDir, "podkeeper"), filepath.Join(labDir, "images")
	if built := os.Getenv("PODKEEPER_TEST_BINARY"); built != "" {
		lab.podkeeper = built
	} else if out, err := exec.Command("go", "build", "-o", lab.podkeeper, ".").CombinedOutput(); err != nil {
		return fmt.Errorf("build podkeeper: %w: %s", err, out)
	}
	if built := os.Getenv("PODKEEPER_TEST_IMAGES"); built != "" {
		lab.images = built
		return nil
	}
	if err := os.MkdirAll(lab.images, 0o755); err != nil {
		return err
	}
	if out, err := exec.Command("go", "run", "../../hack/demoimage", "-o", filepath.Join(lab.images, "demo.tar")).CombinedOutput(); err != nil {
		return fmt.Errorf("build image: %w: %s", err, out)
	}
	return nil
}

// sweepNodes ends what a run that was killed has left.
func sweepNodes() error {
	left, _ := filepath.Glob(filepath.Join(labDir, "n", "*"))
	for _, dir := range left {
		n := &node{dir: dir, namespace: filepath.Base(dir), log: &syncBuffer{}}
		n.killOld()
		if _, err := os.Stat(n.path("containerd")); err == nil {
			if n.own, err = startDaemon(n.path("containerd")); err != nil {
				return fmt.Errorf("clean up after an earlier run: %w", err)
			}
		}
		if err := n.down(); err != nil {
			return fmt.Errorf("clean up after an earlier run: %w: %s", err, n.log.String())
		}
	}
	return nil
}

func closeLab() error {
	if err := lab.containerd.Stop(); err != nil {
		return err
	}
	if left, _ := filepath.Glob(filepath.Join(labDir, "n", "*")); len(left) > 0 {
		return fmt.Errorf("%q are left for the next run, which ends what is in them", left)
	}
	if err := deadShims(); err != nil {
		return err
	}
	return os.RemoveAll(labDir)
}

// deadShims says which sockets of shims are kept in their place though nobody listens, when nothing runs any more.
func deadShims() error {
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	var errs []error
	for line := range strings.Lines(string(mounts)) {
		_, rest, ok := strings.Cut(line, " /run/containerd/s/")
		if !ok || strings.Contains(lab.mounts, strings.Fields(rest)[0]) {
			continue // it was here before
		}
		conn, err := net.Dial("unix", "/run/containerd/s/"+strings.Fields(rest)[0])
		if err != nil {
			errs = append(errs, fmt.Errorf("mount %s: %w", line, err))
			continue
		}
		_ = conn.Close()
	}
	return errors.Join(errs...)
}

// syncBuffer collects output from several goroutines.
type syncBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// node is one agent with directories, a containerd namespace, a network and a cgroup of its own.
type node struct {
	t         *testing.T
	dir       string
	namespace string
	config    string // lines of KubeletConfiguration
	flags     []string
	own       *daemon.Daemon // its containerd, where that is not the lab's
	env       []string       // of the agent, besides ours
	agent     *exec.Cmd
	ended     chan error
	log       *syncBuffer
}

var notName = regexp.MustCompile(`[^a-z0-9]+`)

// launch makes a node and starts its agent; at the end of the test it checks that nothing is left of it.
func launch(t *testing.T, config ...string) *node {
	t.Helper()
	n := prepare(t, config...)
	n.restart()
	return n
}

// prepare makes a node; at the end of the test it checks that nothing is left of it.
func prepare(t *testing.T, config ...string) *node {
	t.Helper()
	if lab.err != nil {
		if errors.Is(lab.err, errSkip) {
			t.Skip(lab.err)
		}
		t.Fatal(lab.err)
	}
	name := notName.ReplaceAllString(strings.ToLower(strings.TrimPrefix(t.Name(), "Test")), "")
	prefix := "pkt"
	if labDir != labHome {
		prefix = "pku" // cgroups and bridges are the host's
	}
	n := &node{t: t, namespace: prefix + name[:min(len(name), 20)], config: strings.Join(config, "\n"), log: &syncBuffer{}}
	n.dir = filepath.Join(labDir, "n", n.namespace)
	for _, dir := range []string{"manifests", "net.d", "out"} {
		if err := os.MkdirAll(filepath.Join(n.dir, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		if err := n.down(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Logf("log of the agent:\n%s", n.log.String())
		}
	})
	return n
}

func (n *node) path(parts ...string) string {
	return filepath.Join(append([]string{n.dir}, parts...)...)
}
func (n *node) cgroup() string { return "/" + n.namespace }

// containerd is what runs the node's containers.
func (n *node) containerd() *daemon.Daemon { return cmp.Or(n.own, lab.containerd) }

// systemd says whether systemd makes the node's cgroups.
func (n *node) systemd() bool {
	tree, err := cgroups.Open(cgroups.Config{Driver: cgroups.Driver(os.Getenv("PODKEEPER_TEST_CGROUP_DRIVER"))})
	return err == nil && tree.Config().Driver == cgroups.Systemd
}

// start starts the agent and waits until its socket answers.
func (n *node) start() error {
	if err := n.begin(); err != nil {
		return err
	}
	return n.answers()
}

// begin starts the agent.
func (n *node) begin() error {
	if n.agent != nil && n.agent.ProcessState == nil {
		return errors.New("an agent runs already, which would answer in place of this one")
	}
	config := "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\ncgroupRoot: " + n.cgroup() + "\n" + n.config
	if !strings.Contains(n.config, "evictionHard") {
		config += "\nevictionHard: {memory.available: 0%}\n" // however little the host has left, no Pod of a test goes for it
	}
	if driver := os.Getenv("PODKEEPER_TEST_CGROUP_DRIVER"); driver != "" {
		config += "\ncgroupDriver: " + driver + "\n"
	}
	if err := os.WriteFile(n.path("config.yaml"), []byte(config), 0o600); err != nil {
		return err
	}
	args := append([]string{
		"agent", "--config", n.path("config.yaml"), "--pod-manifest-path", n.path("manifests"), "--root-dir", n.path("root"),
		"--run-dir", n.path("run"), "--pod-logs-dir", n.path("logs"), "--image-dir", lab.images,
		"--container-runtime-endpoint", "unix://" + n.containerd().Socket(), "--containerd-namespace", n.namespace,
		"--cni-conf-dir", n.path("net.d"), "--node-name", "testnode",
	}, n.flags...)
	n.agent = exec.Command(lab.podkeeper, args...)
	n.agent.Stdout, n.agent.Stderr, n.agent.Env = n.log, n.log, append(os.Environ(), n.env...)
	n.agent.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := n.agent.Start(); err != nil {
		return err
	}
	n.ended = make(chan error, 1)
	go func(cmd *exec.Cmd, ended chan error) { ended <- cmd.Wait() }(n.agent, n.ended)
	return os.WriteFile(n.path("pid"), []byte(strconv.Itoa(n.agent.Process.Pid)), 0o600)
}

// answers waits until the agent's socket answers.
func (n *node) answers() error {
	return wait(func() error {
		select {
		case err := <-n.ended:
			n.ended <- err
			return stop(fmt.Errorf("the agent ended: %w", err))
		default:
		}
		ctx, cancel := context.WithTimeout(context.Background(), patience/4)
		defer cancel()
		return n.client().Healthy(ctx)
	})
}

func (n *node) client() *server.Client { return server.NewClient(n.path("run")) }

// kill ends the agent as a crash would.
func (n *node) kill() {
	_ = n.agent.Process.Kill()
	<-n.ended
}

// stopAgent ends the agent as systemd would.
func (n *node) stopAgent() {
	_ = n.agent.Process.Signal(syscall.SIGTERM)
	<-n.ended
}

func (n *node) restart() {
	n.t.Helper()
	if err := n.start(); err != nil {
		n.t.Fatal(err)
	}
}

// killOld ends the agent of an earlier run.
func (n *node) killOld() {
	text, err := os.ReadFile(n.path("pid"))
	if err != nil {
		return
	}
	pid, _ := strconv.Atoi(string(text))
	args, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if pid > 0 && bytes.Contains(args, []byte(n.dir)) {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
}

// stopError ends a wait at once.
type stopError struct{ error }

func stop(err error) error { return stopError{err} }

// wait tries until there is no error.
func wait(try func() error) error {
	deadline := time.Now().Add(patience)
	for {
		err := try()
		if err == nil {
			return nil
		}
		var end stopError
		if errors.As(err, &end) || time.Now().After(deadline) {
			return err
		}
		time.Sleep(pause)
	}
}

// eventually fails the test unless what is tried succeeds in time.
func (n *node) eventually(what string, try func() error) {
	n.t.Helper()
	if err := wait(try); err != nil {
		n.t.Fatalf("%s: %v", what, err)
	}
}

// apply writes a manifest as kubectl's users are told to: beside, then renamed.
func (n *node) apply(file, text string) {
	n.t.Helper()
	tmp := n.path("manifests", "."+file+".tmp")
	if err := os.WriteFile(tmp, []byte(text), 0o644); err != nil {
		n.t.Fatal(err)
	}
	if err := os.Rename(tmp, n.path("manifests", file)); err != nil {
		n.t.Fatal(err)
	}
}

func (n *node) remove(file string) {
	n.t.Helper()
	if err := os.Remove(n.path("manifests", file)); err != nil {
		n.t.Fatal(err)
	}
}

var errNoPod = errors.New("no such pod")

// get answers a Pod of the namespace default as the socket reports it.
func (n *node) get(name string) (*v1.Pod, error) {
	list, err := n.client().Pods(context.Background())
	if err != nil {
		return nil, err
	}
	for i := range list.Items {
		if list.Items[i].Name == name {
			return &list.Items[i], nil
		}
	}
	return nil, errNoPod
}

// await waits until a Pod is as wanted, and answers it.
func (n *node) await(name, what string, is func(*v1.Pod) bool) *v1.Pod {
	n.t.Helper()
	var last *v1.Pod
	n.eventually(name+" "+what, func() error {
		pod, err := n.get(name)
		if err != nil {
			return err
		}
		if last = pod; is(pod) {
			return nil
		}
		return fmt.Errorf("it is %s: %+v", pod.Status.Phase, pod.Status)
	})
	return last
}

func (n *node) awaitReady(name string) *v1.Pod {
	n.t.Helper()
	return n.await(name, "is ready", isReady)
}

func (n *node) awaitPhase(name string, phase v1.PodPhase) *v1.Pod {
	n.t.Helper()
	return n.await(name, "is "+string(phase), func(p *v1.Pod) bool { return p.Status.Phase == phase })
}

func (n *node) awaitGone(name string) {
	n.t.Helper()
	n.eventually(name+" is gone", func() error {
		_, err := n.get(name)
		if errors.Is(err, errNoPod) {
			return nil
		}
		return fmt.Errorf("it is still there (%w)", err)
	})
}

func isReady(p *v1.Pod) bool {
	for _, c := range p.Status.Conditions {
		if c.Type == v1.PodReady {
			return c.Status == v1.ConditionTrue && p.DeletionTimestamp == nil
		}
	}
	return false
}

// containerStatus is the status of a container by name.
func containerStatus(p *v1.Pod, name string) v1.ContainerStatus {
	for _, s := range append(p.Status.InitContainerStatuses, p.Status.ContainerStatuses...) {
		if s.Name == name {
			return s
		}
	}
	return v1.ContainerStatus{}
}

// ctr is a client of the private containerd, in the node's namespace.
func (n *node) ctr() (*client.Client, context.Context, error) {
	c, err := client.New(n.containerd().Socket(), client.WithDefaultNamespace(n.namespace))
	return c, namespaces.WithNamespace(context.Background(), n.namespace), err
}

// pid is the host's pid of a container's main process.
func (n *node) pid(p *v1.Pod, container string) int {
	n.t.Helper()
	c, ctx, err := n.ctr()
	if err != nil {
		n.t.Fatal(err)
	}
	defer c.Close()
	id := strings.TrimPrefix(containerStatus(p, container).ContainerID, "containerd://")
	found, err := c.LoadContainer(ctx, id)
	if err != nil {
		n.t.Fatal(err)
	}
	var pid int
	n.eventually("containerd tells the pid of "+container, func() error {
		task, err := found.Task(ctx, nil)
		if err != nil {
			return stop(err)
		}
		// A shim that did not answer in time is a task of pid 0 to containerd 1.6, and kill(0) would be our own end.
		if pid = int(task.Pid()); pid <= 0 {
			return fmt.Errorf("it tells %d", pid)
		}
		return nil
	})
	return pid
}

// log answers the lines of a container's log, without time, stream and tag.
func (n *node) logLines(p *v1.Pod, container string, attempt int) []string {
	file := n.path("logs", fmt.Sprintf("%s_%s_%s", p.Namespace, p.Name, p.UID), container, fmt.Sprintf("%d.log", attempt))
	content, _ := os.ReadFile(file)
	var lines []string
	for line := range strings.Lines(string(content)) {
		if fields := strings.SplitN(strings.TrimSuffix(line, "\n"), " ", 4); len(fields) == 4 {
			lines = append(lines, fields[3])
		}
	}
	return lines
}

// down ends all Pods, stops the agent, removes the network, and says what is left.
func (n *node) down() error {
	if n.agent != nil {
		_ = n.agent.Process.Kill()
		<-n.ended
	}
	_ = unix.Unmount(n.path("manifests"), unix.MNT_DETACH) // of a run that was killed
	_ = os.Remove(n.path("root", "manifests", "mountpoint"))
	if err := errors.Join(os.RemoveAll(n.path("manifests")), os.MkdirAll(n.path("manifests"), 0o755), os.RemoveAll(n.path("root", "objects"))); err != nil {
		return err
	}
	n.flags, n.config = nil, ""
	if err := n.start(); err != nil {
		return err
	}
	err := wait(func() error {
		pods, _ := os.ReadDir(n.path("root", "pods"))
		list, err := n.client().Pods(context.Background())
		if err == nil && len(pods)+len(list.Items) > 0 {
			err = fmt.Errorf("%d records and %d Pods are left", len(pods), len(list.Items))
		}
		return err
	})
	var left error
	if err == nil {
		left = wait(n.leftovers) // what an earlier run was cut off from takes the agent and containerd a moment
	}
	_ = n.agent.Process.Signal(syscall.SIGTERM)
	<-n.ended
	if err != nil {
		return err
	}
	net, err := network.Open(network.Config{
		BinDir: "/usr/lib/cni", RunDir: n.path("run"), StateDir: n.path("run", "network"), Name: n.namespace,
	})
	if err == nil {
		err = net.Destroy()
	}
	tree, treeErr := cgroups.Open(cgroups.Config{Root: n.cgroup()})
	if treeErr == nil {
		treeErr = tree.Prune()
		roots, _ := filepath.Glob("/sys/fs/cgroup/*" + n.cgroup())
		for _, root := range append(roots, "/sys/fs/cgroup"+n.cgroup()) {
			_ = os.Remove(root)
		}
		if _, err := os.Stat("/sys/fs/cgroup" + n.cgroup() + ".slice"); err == nil {
			treeErr = errors.Join(treeErr, exec.Command("systemctl", "stop", n.namespace+".slice").Run())
		}
	}
	err = errors.Join(left, err, treeErr, runtime.RemoveNamespace(context.Background(), n.containerd().Socket(), n.namespace))
	if err != nil {
		return err
	}
	if n.own != nil {
		err = n.own.Stop()
	}
	_ = unix.Unmount(n.dir, unix.MNT_DETACH) // where it is on a disk of its own
	return errors.Join(err, os.RemoveAll(n.dir))
}

// leftovers says what of the node's Pods is still on the host.
func (n *node) leftovers() error {
	c, ctx, err := n.ctr()
	if err != nil {
		return err
	}
	defer c.Close()
	var errs []error
	say := func(format string, args ...any) { errs = append(errs, fmt.Errorf("left behind: "+format, args...)) }
	containers, err := c.Containers(ctx)
	if err != nil {
		return err
	}
	for _, c := range containers {
		say("container %s", c.ID())
	}
	err = c.SnapshotService("").Walk(ctx, func(_ context.Context, info snapshots.Info) error {
		// An import that was cut off holds its own until containerd's lease on it ends.
		if info.Kind != snapshots.KindCommitted && !strings.HasPrefix(info.Name, "extract-") {
			say("snapshot %s", info.Name)
		}
		return nil
	})
	errs = append(errs, err)
	mounts, _ := os.ReadFile("/proc/self/mountinfo")
	for line := range strings.Lines(string(mounts)) {
		if strings.Contains(line, n.dir+"/") || strings.Contains(line, "/"+n.namespace+"/") {
			say("mount %s", line)
		}
	}
	for _, pattern := range []string{"run/netns/*", "run/pods/*", "run/network/results/*", "run/network/ipam/*/[0-9]*", "root/pods/*", "logs/*", "containers/*"} {
		found, _ := filepath.Glob(n.path(pattern))
		for _, f := range found {
			say("file %s", f)
		}
	}
	_ = filepath.WalkDir("/sys/fs/cgroup", func(path string, d os.DirEntry, err error) error {
		ours := strings.Contains(path, n.cgroup()+"/") || strings.Contains(path, n.cgroup()+".slice/")
		if err == nil && d.IsDir() && ours && (strings.HasPrefix(d.Name(), "pod") || strings.Contains(d.Name(), "-pod")) {
			say("cgroup %s", path)
		}
		return nil
	})
	groups, _ := filepath.Glob("/proc/[0-9]*/cgroup")
	for _, p := range groups {
		in, _ := os.ReadFile(p)
		if pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(p))); !runs(pid) {
			continue // it only waits to be buried
		}
		if bytes.Contains(in, []byte(":"+n.cgroup()+"/")) || bytes.Contains(in, []byte(n.cgroup()+".slice/")) {
			args, _ := os.ReadFile(filepath.Join(filepath.Dir(p), "cmdline"))
			say("process %s %q in %s", filepath.Dir(p), args, in)
		}
	}
	processes, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, p := range processes {
		args, _ := os.ReadFile(p)
		if bytes.Contains(args, []byte("containerd-shim")) && bytes.Contains(args, []byte("-namespace\x00"+n.namespace+"\x00")) {
			say("process %s", bytes.ReplaceAll(args, []byte{0}, []byte{' '}))
		}
	}
	return errors.Join(errs...)
}
