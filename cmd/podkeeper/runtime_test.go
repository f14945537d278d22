package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/registry"
	ggcr "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"golang.org/x/sync/errgroup"
	v1 "k8s.io/api/core/v1"

	"github.com/podkeeper/podkeeper/hack/daemon"
	"github.com/podkeeper/podkeeper/runtime"
)

// runtime is a client of the node's containerd beside the agent's, in the node's namespace.
func (n *node) runtime() *runtime.Runtime {
	n.t.Helper()
	r, err := runtime.Open(runtime.Config{Endpoint: n.containerd().Socket(), Namespace: n.namespace})
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { r.Close() })
	return r
}

// demo is the image that all Pods of the tests have, once the agent has imported it.
func (n *node) demo(r *runtime.Runtime) runtime.Image {
	n.t.Helper()
	var pull runtime.Pull
	n.eventually("the image is there", func() (err error) {
		pull, err = r.EnsureImage(n.t.Context(), runtime.Request{Image: image, Policy: v1.PullNever})
		return err
	})
	return pull.Image
}

// other is the image with one layer more.
func (n *node) other(r *runtime.Runtime) runtime.Image {
	n.t.Helper()
	repository := lab.registry + "/" + n.namespace + "/other:v1"
	pushUnlike(n.t, repository)
	pull, err := r.EnsureImage(n.t.Context(), runtime.Request{Image: repository, Policy: v1.PullAlways})
	if err != nil {
		n.t.Fatal(err)
	}
	return pull.Image
}

// unlike is the demo image with a layer of a size, in bytes, that no other image has.
func unlike(t *testing.T, size int64) ggcr.Image {
	t.Helper()
	layer, err := random.Layer(size, types.DockerLayer)
	if err != nil {
		t.Fatal(err)
	}
	base, err := tarball.ImageFromPath(filepath.Join(lab.images, "demo.tar"), nil)
	if err != nil {
		t.Fatal(err)
	}
	image, err := mutate.AppendLayers(base, layer)
	if err != nil {
		t.Fatal(err)
	}
	return image
}

// pushUnlike pushes, by several names, the image with a layer that no other image has.
func pushUnlike(t *testing.T, repositories ...string) {
	t.Helper()
	more := unlike(t, 100)
	for _, repository := range repositories {
		pushTo(t, repository, more)
	}
}

// slowRegistry is a registry that keeps who wants a blob waiting.
type slowRegistry struct {
	address string
	release func() // ends all waits
	mu      sync.Mutex
	got     []string // method and path of each request
}

func newSlowRegistry(t *testing.T) *slowRegistry {
	t.Helper()
	s := &slowRegistry{}
	released := make(chan struct{})
	s.release = sync.OnceFunc(func() { close(released) })
	inner := registry.New()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		s.mu.Lock()
		s.got = append(s.got, req.Method+" "+req.URL.Path)
		s.mu.Unlock()
		if req.Method == http.MethodGet && strings.Contains(req.URL.Path, "/blobs/") {
			select {
			case <-released:
			case <-req.Context().Done():
			}
		}
		inner.ServeHTTP(w, req)
	}))
	t.Cleanup(func() { s.release(); server.Close() })
	s.address = strings.TrimPrefix(server.URL, "http://")
	return s
}

// asked are the requests that contain a text.
func (s *slowRegistry) asked(text string) (requests []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, request := range s.got {
		if strings.Contains(request, text) {
			requests = append(requests, request)
		}
	}
	return requests
}

// TestPullsAreShared has one image wanted by several names at once, and two pulls from a registry that does not answer.
func TestPullsAreShared(t *testing.T) {
	t.Parallel()
	n := launch(t)
	r, err := runtime.Open(runtime.Config{
		Endpoint: lab.containerd.Socket(), Namespace: n.namespace, MaxPulls: 2,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	s := newSlowRegistry(t)
	one, two := s.address+"/one:v1", s.address+"/two:v1"
	pushUnlike(t, one, two)
	quick := lab.registry + "/" + n.namespace + "/quick:v1"
	if _, err := r.EnsureImage(t.Context(), runtime.Request{Image: quick, Policy: v1.PullNever}); !errors.Is(err, runtime.ErrImageNeverPull) {
		t.Errorf("an image that is not there: %v", err)
	}

	impatient, giveUp := context.WithCancel(t.Context())
	var work, first errgroup.Group
	pull := func(ctx context.Context, ref string) func() error {
		return func() error {
			done, err := r.EnsureImage(ctx, runtime.Request{Image: ref, Policy: v1.PullIfNotPresent})
			if err == nil && (!done.Pulled || done.Image.Name != ref) {
				err = fmt.Errorf("it answers %+v", done)
			}
			return err
		}
	}
	first.Go(pull(impatient, one))
	n.eventually("it is being fetched", func() error {
		if len(s.asked("GET /v2/one/blobs/")) == 0 {
			return errors.New("nothing is asked for")
		}
		return nil
	})
	pushed := len(s.asked("/v2/two/"))
	work.Go(pull(t.Context(), one))
	work.Go(pull(t.Context(), two))
	giveUp()
	if err := first.Wait(); !errors.Is(err, context.Canceled) || !errors.Is(err, runtime.ErrImagePull) {
		t.Errorf("who gives up hears %v", err)
	}

	// A slow registry never has all turns where there is another.
	three := s.address + "/three:v1"
	pushUnlike(t, three)
	work.Go(pull(t.Context(), three))
	pushUnlike(t, quick)
	if err := pull(t.Context(), quick)(); err != nil {
		t.Error(err)
	}
	n.eventually("the other name is looked up", func() error {
		if len(s.asked("/v2/two/")) == pushed {
			return errors.New("it is not")
		}
		return nil
	})
	time.Sleep(50 * pause) // and it joins
	s.release()
	if err := work.Wait(); err != nil {
		t.Fatal(err)
	}
	// By another name, all that is asked is what it means.
	if got := s.asked("/v2/two/")[pushed:]; !slices.Equal(got, []string{"HEAD /v2/two/manifests/v1"}) {
		t.Errorf("asked for were %q", got)
	}
	for _, ref := range []string{one, two} {
		if done, err := r.EnsureImage(t.Context(), runtime.Request{Image: ref, Policy: v1.PullNever}); err != nil || done.Image.Digest == "" {
			t.Errorf("%s is not there: %v", ref, err)
		}
	}
}

// TestNothingIsLeftOfAStartThatFailed makes of a container what comes before its task, and no more.
func TestNothingIsLeftOfAStartThatFailed(t *testing.T) {
	t.Parallel()
	n := launch(t)
	r := n.runtime()
	ctx, demo := t.Context(), n.demo(r)
	id := runtime.ID("uid", "app", 3)
	labels := map[string]string{"io.kubernetes.pod.uid": "uid"}
	create := func(of runtime.Image) {
		t.Helper()
		cfg := runtime.ContainerConfig{
			ID: id, Labels: labels, Sandbox: "none", Image: of, Pod: &v1.Pod{}, Container: &v1.Container{Name: "app"},
			Command: []string{"/no/such"}, CgroupsPath: n.cgroup() + "/none",
		}
		if err := r.PrepareLayer(ctx, id, of, labels); err != nil {
			t.Fatal(err)
		}
		if _, err := r.CreateContainer(ctx, cfg); err != nil {
			t.Fatal(err)
		}
	}
	there := func(records, layers int) {
		t.Helper()
		all, err := r.List(ctx)
		if err != nil {
			t.Fatal(err)
		}
		snapshots, err := r.ListSnapshots(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if len(all) != records || len(snapshots) != layers {
			t.Errorf("there are records %v and layers %v, want %d and %d", all, snapshots, records, layers)
		}
		if layers > 0 && snapshots[id]["io.kubernetes.pod.uid"] != "uid" {
			t.Errorf("the layer's labels are %v", snapshots[id])
		}
	}

	if err := r.PrepareLayer(ctx, id, demo, labels); err != nil {
		t.Fatal(err)
	}
	there(0, 1)
	create(demo)
	there(1, 1)
	for range 2 { // what is gone is gone
		if err := r.Delete(ctx, id); err != nil {
			t.Fatal(err)
		}
		there(0, 0)
	}

	// A container never gets the files of another image, which an earlier try has left.
	create(demo)
	parent := func() string {
		t.Helper()
		c, ctx, err := n.ctr()
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		info, err := c.SnapshotService("").Stat(ctx, id)
		if err != nil {
			t.Fatal(err)
		}
		return info.Parent
	}
	first := parent()
	if err := r.PrepareLayer(ctx, id, demo, labels); err != nil || parent() != first {
		t.Errorf("a layer of the same image is made anew: %v", err)
	}
	there(1, 1)
	if err := r.PrepareLayer(ctx, id, n.other(r), labels); err != nil || parent() == first {
		t.Errorf("a layer of another image is kept: %v", err)
	}
	there(0, 1)
	if err := r.Delete(ctx, id); err != nil {
		t.Error(err)
	}
}

// TestAContainerSeesItsOwnCgroup reads the limits where programs look for them. On cgroup v2 that takes a namespace.
func TestAContainerSeesItsOwnCgroup(t *testing.T) {
	t.Parallel()
	n := launch(t)
	n.apply("limited.yaml", simple("limited", "cd /sys/fs/cgroup; cat memory.max 2>/dev/null || cat memory/memory.limit_in_bytes; "+
		"grep -c '^0::/$' /proc/self/cgroup; "+forever)+"    resources: {limits: {memory: 32Mi}}\n")
	pod := n.awaitReady("limited")
	want := []string{"33554432", "0"}
	if _, err := os.Stat("/sys/fs/cgroup/cgroup.controllers"); err == nil {
		want[1] = "1"
	}
	n.eventually("it says its limit", func() error {
		if lines := n.logLines(pod, "app", 0); !slices.Equal(lines, want) {
			return fmt.Errorf("it says %q", lines)
		}
		return nil
	})
}

// TestSystemdGivesContainersTheirGracePeriod asks systemd how long it waits for a container when the host shuts down.
func TestSystemdGivesContainersTheirGracePeriod(t *testing.T) {
	t.Parallel()
	n := launch(t)
	if !n.systemd() {
		t.Skip("systemd does not make the cgroups here")
	}
	manifest := strings.Replace(simple("patient", forever), "terminationGracePeriodSeconds: 2", "terminationGracePeriodSeconds: 123", 1)
	handlers := []string{""}
	if _, err := exec.LookPath("crun"); err == nil {
		handlers = append(handlers, "  runtimeClassName: crun\n")
	}
	for _, handler := range handlers {
		n.apply("patient.yaml", strings.Replace(manifest, "  containers:", handler+"  containers:", 1))
		pod := n.await("patient", "is ready with "+handler, func(p *v1.Pod) bool {
			return isReady(p) && (handler == "") == (p.Spec.RuntimeClassName == nil)
		})
		group, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", n.pid(pod, "app")))
		if err != nil {
			t.Fatal(err)
		}
		scope := string(regexp.MustCompile(`[^/]+\.scope`).Find(group)) // crun makes a cgroup more in it
		out, err := exec.Command("systemctl", "show", "--property", "TimeoutStopUSec", "--value", scope).CombinedOutput()
		if strings.TrimSpace(string(out)) != "2min 3s" {
			t.Errorf("systemd gives %s %s: %v", scope, out, err)
		}
	}
}

// TestCommandsThatTimeOutLeaveNothing has many commands time out, each after it has sent a child out of its reach. The
// environment's PODKEEPER_TEST_EXECS says how many.
func TestCommandsThatTimeOutLeaveNothing(t *testing.T) {
	t.Parallel()
	n := launch(t)
	commands := 50
	if more, err := strconv.Atoi(os.Getenv("PODKEEPER_TEST_EXECS")); err == nil {
		commands = more
	}
	n.apply("probed.yaml", simple("probed", forever))
	pod := n.awaitReady("probed")
	id := strings.TrimPrefix(containerStatus(pod, "app").ContainerID, "containerd://")
	main := n.pid(pod, "app")
	r, dir := n.runtime(), n.path("out", "exec")
	shim := parentOf(t, main)
	n.eventually("the container sleeps", func() error {
		if count := len(processesIn(t, main)); count != 2 { // the shell, and what it waits for
			return fmt.Errorf("it has %d processes", count)
		}
		return nil
	})
	before := []int{len(processesIn(t, main)), files(t, shim, "fd"), files(t, shim, "task")}

	command := []string{"/bin/sh", "-c", "echo said; (setsid sh -c 'sleep 1000 & setsid sleep 1000' &); sleep 1000"}
	var work errgroup.Group
	work.SetLimit(5)
	var worst, inTime atomic.Int64
	for range commands {
		work.Go(func() error {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			_, _, err := r.Exec(ctx, id, dir, command, 100)
			deadline, _ := ctx.Deadline()
			worst.Store(max(worst.Load(), int64(time.Since(deadline))))
			late := errors.Is(err, runtime.ErrExecUnanswered) // it was not even started in time, and ends as well
			if !errors.Is(err, runtime.ErrExecTimeout) && !late || errors.Is(err, context.Canceled) {
				return fmt.Errorf("a command that does not end: %w", err)
			}
			if !late {
				inTime.Add(1)
			}
			return nil
		})
	}
	if err := work.Wait(); err != nil {
		t.Fatal(err)
	}
	t.Logf("killed %v after the timeout at worst", time.Duration(worst.Load()))
	if inTime.Load() == 0 {
		t.Error("of none it was known that it had been started")
	}
	n.eventually("all is as before", func() error {
		after := []int{len(processesIn(t, main)), files(t, shim, "fd"), files(t, shim, "task")}
		left, err := os.ReadDir(dir)
		if err != nil {
			return stop(err)
		}
		// Threads come and go with the shim's load, but not by the hundred.
		if after[0] != before[0] || after[1] > before[1] || after[2] > before[2]+20 || len(left) > 0 {
			return fmt.Errorf("processes, and files and threads of the shim: %v, were %v; %d pipes", after, before, len(left))
		}
		return nil
	})
	code, out, err := r.Exec(t.Context(), id, dir, []string{"/bin/sh", "-c", "echo well; exit 3"}, 100)
	if code != 3 || string(out) != "well\n" || err != nil {
		t.Errorf("a command after them: %d, %q, %v", code, out, err)
	}
}

// parentOf is the pid of a process's parent.
func parentOf(t *testing.T, pid int) int {
	t.Helper()
	_, parent, there := statOf(pid)
	if !there {
		t.Fatalf("there is no process %d", pid)
	}
	return parent
}

// files are how many entries there are in a folder of a process.
func files(t *testing.T, pid int, folder string) int {
	t.Helper()
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/%s", pid, folder))
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// processesIn are the processes that share a PID namespace with this one, also those that nobody has buried.
func processesIn(t *testing.T, pid int) (pids []string) {
	t.Helper()
	want, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", pid))
	if err != nil {
		t.Fatal(err)
	}
	all, _ := filepath.Glob("/proc/[0-9]*/ns/pid")
	for _, link := range all {
		if got, _ := os.Readlink(link); got == want {
			pids = append(pids, link)
		}
	}
	return pids
}

// TestAPullThatLosesContainerd has a containerd of its own die in the middle of a pull: that is not the image's fault.
func TestAPullThatLosesContainerd(t *testing.T) {
	t.Parallel()
	n := launch(t)
	own, err := daemon.Start("containerd", n.path("out", "containerd"))
	if err != nil {
		t.Fatal(err)
	}
	r, err := runtime.Open(runtime.Config{Endpoint: own.Socket(), Namespace: n.namespace})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	s := newSlowRegistry(t)
	ref := s.address + "/one:v1"
	pushUnlike(t, ref)
	pulled := make(chan error, 1)
	go func() {
		_, err := r.EnsureImage(t.Context(), runtime.Request{Image: ref, Policy: v1.PullIfNotPresent})
		pulled <- err
	}()
	n.eventually("it is being fetched", func() error {
		if len(s.asked("GET /v2/one/blobs/")) == 0 {
			return errors.New("nothing is asked for")
		}
		return nil
	})
	if err := own.Kill(); err != nil {
		t.Fatal(err)
	}
	s.release()
	if err := <-pulled; !runtime.IsUnavailable(err) {
		t.Errorf("it fails by %v", err)
	}
}

// TestTheDeathOfAChildIsTold has a process run out of memory that is not the container's main one.
func TestTheDeathOfAChildIsTold(t *testing.T) {
	t.Parallel()
	n := launch(t)
	r := n.runtime()
	ctx, cancel := context.WithCancel(t.Context())
	told := make(chan runtime.Event, 1000)
	listening := make(chan struct{})
	go func() {
		defer close(listening)
		r.Events(ctx, func(e runtime.Event) {
			if e.OOM || e.ID == "" {
				told <- e
			}
		})
	}()
	defer func() { cancel(); <-listening }()
	<-told // it listens
	// On cgroup v1, a shim that is busy hears of deaths only some time after the start.
	n.apply("child.yaml", simple("child", "sleep 1; tail /dev/zero; echo the child ended; "+forever)+"    resources: {limits: {memory: 16Mi}}\n")
	pod := n.await("child", "has started", func(p *v1.Pod) bool { return containerStatus(p, "app").ContainerID != "" })
	for limit := time.After(patience); ; {
		select {
		case e := <-told:
			if e.OOM && slices.ContainsFunc([]int{0, 1, 2}, func(attempt int) bool { return e.ID == runtime.ID(string(pod.UID), "app", attempt) }) {
				return
			}
		case <-limit:
			t.Fatal("nobody tells of it")
		}
	}
}
