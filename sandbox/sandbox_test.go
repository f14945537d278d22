package sandbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

// asAgent names the variable by which this program is started as an agent of its own: it does what the value says to the
// sandbox of the folder that is its argument, says so, and stays.
const asAgent = "PODKEEPER_SANDBOX_AGENT"

func TestMain(m *testing.M) {
	if what := os.Getenv(asAgent); what != "" {
		if err := beAgent(what, os.Args[1]); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		select {}
	}
	goleak.VerifyTestMain(m)
}

// beAgent starts a sandbox, or leaves one that it has just forked where the agent may be killed.
func beAgent(what, dir string) error {
	s, err := Open(Settings{RunDir: dir})
	if err != nil {
		return err
	}
	cfg := Config{ID: "box", Dir: dir, HostIPC: true}
	pid := 0
	switch what {
	case "start":
		if err := s.Start(context.Background(), cfg); err != nil {
			return err
		}
		pid = s.held["box"].pid
	case "hold":
		root, err := makeRoot(dir)
		if err != nil {
			return err
		}
		l, err := openLaunch(cfg, root)
		if err != nil {
			return err
		}
		if err := l.fork(); err != nil {
			return err
		}
		pid = l.pid
	}
	fmt.Println("pid", pid)
	return nil
}

// agent starts this program as an agent, and answers the pid of the pause process that it has started.
func agent(t *testing.T, what, dir string) (*exec.Cmd, int) {
	t.Helper()
	cmd := exec.Command("/proc/self/exe", dir)
	cmd.Env = append(os.Environ(), asAgent+"="+what)
	cmd.ExtraFiles = []*os.File{os.Stderr} // not for its pause process
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	var pid int
	if _, err := fmt.Fscanf(out, "pid %d\n", &pid); err != nil {
		rest, _ := io.ReadAll(out)
		t.Fatalf("the agent says %v: %s", err, rest)
	}
	return cmd, pid
}

func open(t testing.TB) *Sandboxes {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("namespaces need root")
	}
	s, err := Open(Settings{RunDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// start starts a sandbox, which is gone after the test, and answers its pid.
func start(t testing.TB, s *Sandboxes, cfg Config) int {
	t.Helper()
	if err := s.Start(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Delete(context.Background(), cfg.ID, cfg.Dir); err != nil {
			t.Error(err)
		}
	})
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.held[cfg.ID].pid
}

// newNetNS is a path of a network namespace that goes with the test.
func newNetNS(t testing.TB) string {
	t.Helper()
	var fd int
	err := onThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return err
		}
		var err error
		fd, err = unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), fd)
}

func newPipe(t testing.TB, dir, name string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func link(t testing.TB, path string) string {
	t.Helper()
	to, err := os.Readlink(path)
	if err != nil {
		t.Fatal(err)
	}
	return to
}

func read(t testing.TB, path string) string {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	for begin := time.Now(); !holds(); time.Sleep(time.Millisecond) {
		if time.Since(begin) > 10*time.Second {
			t.Fatalf("not in time: %s", what)
		}
	}
}

// runs says whether a process runs; one that nobody has buried does not.
func runs(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && !strings.Contains(string(stat), ") Z ")
}

func TestASandboxHasItsNamespaces(t *testing.T) {
	t.Parallel()
	s := open(t)
	for sentence, c := range map[string]struct {
		cfg Config
		own []string
	}{
		"of a usual Pod":                               {Config{NetNS: newNetNS(t), Hostname: "a"}, []string{"ipc", "mnt", "net", "uts"}},
		"of one that shares processes":                 {Config{NetNS: newNetNS(t), Hostname: "b", SharedPID: true}, []string{"ipc", "mnt", "net", "pid", "uts"}},
		"of one on the host's network":                 {Config{}, []string{"ipc", "mnt"}},
		"of one on the host's network with its own":    {Config{SharedPID: true}, []string{"ipc", "mnt", "pid"}},
		"of one with the host's IPC":                   {Config{NetNS: newNetNS(t), Hostname: "c", HostIPC: true}, []string{"mnt", "net", "uts"}},
		"of one that has all of the host's":            {Config{HostIPC: true}, []string{"mnt"}},
		"of one with the host's, but shares processes": {Config{HostIPC: true, SharedPID: true}, []string{"mnt", "pid"}},
	} {
		t.Run(sentence, func(t *testing.T) {
			t.Parallel()
			cfg := c.cfg
			cfg.ID, cfg.Dir = sentence, t.TempDir()
			box := start(t, s, cfg)
			var own []string
			for _, kind := range []string{"cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"} {
				if link(t, fmt.Sprintf("/proc/%d/ns/%s", box, kind)) != link(t, "/proc/self/ns/"+kind) {
					own = append(own, kind)
				}
			}
			if !slices.Equal(own, c.own) {
				t.Errorf("its own are %v, want %v", own, c.own)
			}
			if cfg.NetNS != "" && link(t, cfg.NetNS) != link(t, fmt.Sprintf("/proc/%d/ns/net", box)) {
				t.Error("its network namespace is another one")
			}
			ns, err := s.Namespaces(cfg.ID, cfg.Dir)
			if err != nil {
				t.Fatal(err)
			}
			for kind, path := range map[string]string{"uts": ns.UTS, "ipc": ns.IPC, "pid": ns.PID} {
				if got := path != ""; got != slices.Contains(c.own, kind) {
					t.Errorf("containers join %s at %q", kind, path)
				} else if got && link(t, path) != link(t, fmt.Sprintf("/proc/%d/ns/%s", box, kind)) {
					t.Errorf("containers join another %s", kind)
				}
			}
			if ns.UTS != "" {
				if got := hostname(t, ns.UTS); got != cfg.Hostname {
					t.Errorf("its name is %q", got)
				}
			}
		})
	}
}

// hostname is the name of a host, by its UTS namespace.
func hostname(t *testing.T, at string) (name string) {
	t.Helper()
	err := onThread(func() error {
		fd, err := unix.Open(at, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		if err := unix.Setns(fd, unix.CLONE_NEWUTS); err != nil {
			return err
		}
		name, err = os.Hostname()
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return name
}

func TestNothingOfAStartReachesTheHost(t *testing.T) {
	t.Parallel()
	s := open(t)
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	const ports = "/proc/sys/net/ipv4/ip_unprivileged_port_start"
	before := read(t, ports)
	cfg := Config{
		ID: "box", Dir: t.TempDir(), NetNS: newNetNS(t), Hostname: "elsewhere",
		Sysctls: map[string]string{"net.ipv4.ip_unprivileged_port_start": "7", "net.ipv4.ping_group_range": "0 2147483647"},
	}
	box := start(t, s, cfg)
	if now, err := os.Hostname(); now != host {
		t.Errorf("the host is called %q, was %q: %v", now, host, err)
	}
	if now := read(t, ports); now != before {
		t.Errorf("the host's first port is %s, was %s", now, before)
	}
	var set, group string
	err = onThread(func() error {
		fd, err := unix.Open(fmt.Sprintf("/proc/%d/ns/net", box), unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		if err := unix.Setns(fd, unix.CLONE_NEWNET); err != nil {
			return err
		}
		set, group = read(t, ports), read(t, "/proc/sys/net/ipv4/ping_group_range")
		return nil
	})
	if err != nil || set != "7\n" || strings.Join(strings.Fields(group), " ") != "0 2147483647" {
		t.Errorf("the Pod's are %q and %q: %v", set, group, err)
	}
	// Nobody of this process is left there.
	eventually(t, "its thread ends", func() bool {
		threads, _ := filepath.Glob("/proc/self/task/*/ns/mnt")
		for _, thread := range threads {
			if ns, err := os.Readlink(thread); err == nil && ns != link(t, "/proc/self/ns/mnt") {
				return false
			}
		}
		return true
	})
}

// status are the fields of /proc/<pid>/status.
func status(t *testing.T, pid int) map[string]string {
	t.Helper()
	fields := map[string]string{}
	for line := range strings.Lines(read(t, fmt.Sprintf("/proc/%d/status", pid))) {
		key, value, _ := strings.Cut(line, ":")
		fields[key] = strings.Join(strings.Fields(value), " ")
	}
	return fields
}

func TestThePauseProcessIsConfined(t *testing.T) {
	t.Parallel()
	s := open(t)
	dir := t.TempDir()
	pipes := []string{newPipe(t, dir, "a.out"), newPipe(t, dir, "a.err")}
	outer, inner, err := os.Pipe() // close-on-exec, as all of an agent's
	if err != nil {
		t.Fatal(err)
	}
	defer outer.Close()
	defer inner.Close()
	box := start(t, s, Config{ID: "box", Dir: dir, NetNS: newNetNS(t), Hostname: "a", SharedPID: true, Pipes: pipes, OOMScoreAdj: 321})
	none := "0000000000000000"
	for field, want := range map[string]string{
		"CapInh": none, "CapPrm": none, "CapEff": none, "CapBnd": none, "CapAmb": none,
		"NoNewPrivs": "1", "Seccomp": "2", "Threads": "1", "Groups": "",
		"Uid": "65535 65535 65535 65535", "Gid": "65535 65535 65535 65535",
	} {
		if got := status(t, box)[field]; got != want {
			t.Errorf("%s: got %q, want %q", field, got, want)
		}
	}
	if got := read(t, fmt.Sprintf("/proc/%d/oom_score_adj", box)); got != "321\n" {
		t.Errorf("oom_score_adj: got %s", got)
	}
	mounts := read(t, fmt.Sprintf("/proc/%d/mountinfo", box))
	fields := strings.Fields(mounts)
	if strings.Count(mounts, "\n") != 1 || fields[4] != "/" || !strings.HasPrefix(fields[5], "ro,nosuid,nodev") || !strings.Contains(mounts, " - tmpfs pause ro") {
		t.Errorf("its mounts are %s", mounts)
	}
	root := fmt.Sprintf("/proc/%d/root", box)
	if entries, err := os.ReadDir(root); err != nil || len(entries) != 1 || entries[0].Name() != "pause" {
		t.Errorf("its root has %v: %v", entries, err)
	}
	if err := os.WriteFile(root+"/new", nil, 0o600); !errors.Is(err, unix.EROFS) {
		t.Errorf("a file is made in its root: %v", err)
	}
	var open []string
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", box))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		open = append(open, link(t, fmt.Sprintf("/proc/%d/fd/%s", box, e.Name())))
	}
	if !slices.Equal(open, pipes) { // and no longer what it was held at
		t.Errorf("it has open %q", open)
	}
	if env := read(t, fmt.Sprintf("/proc/%d/environ", box)); env != "" {
		t.Errorf("its environment is %q", env)
	}
	stat := strings.Fields(read(t, fmt.Sprintf("/proc/%d/stat", box)))
	if session := stat[5]; session != strconv.Itoa(box) {
		t.Errorf("it is of session %s", session)
	}
}

// cgroups makes a cgroup of every hierarchy of the host, and says how to get in.
func cgroups(t *testing.T) (Placement, string) {
	t.Helper()
	const top = "/sys/fs/cgroup"
	name := fmt.Sprintf("podkeeper-test-sandbox-%d", os.Getpid())
	var dirs []string
	var place Placement
	if _, err := os.Stat(top + "/cgroup.controllers"); err == nil {
		place.Dir = filepath.Join(top, name)
		dirs = []string{place.Dir}
	} else {
		for _, hierarchy := range []string{"cpu", "memory", "pids", "freezer", "devices", "unified"} {
			if _, err := os.Stat(filepath.Join(top, hierarchy)); err != nil {
				continue
			}
			dir := filepath.Join(top, hierarchy, name)
			if hierarchy == "unified" {
				place.Dir = dir
			} else {
				place.Tasks = append(place.Tasks, filepath.Join(dir, "tasks"))
			}
			dirs = append(dirs, dir)
		}
	}
	for _, dir := range dirs {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Skipf("needs cgroups: %v", err)
		}
		t.Cleanup(func() {
			eventually(t, "cgroup is removed", func() bool {
				err := os.Remove(dir)
				return err == nil || errors.Is(err, os.ErrNotExist)
			})
		})
	}
	return place, "/" + name
}

func TestTheProcessIsInItsCgroupsFromTheFirst(t *testing.T) {
	s := open(t)
	place, group := cgroups(t)
	dir := t.TempDir()
	adopted := 0
	// While it is held, it is there.
	place.Adopt = func(pid int) error {
		adopted = pid
		in := 0
		for line := range strings.Lines(read(t, fmt.Sprintf("/proc/%d/cgroup", pid))) {
			if strings.HasSuffix(strings.TrimSpace(line), ":"+group) {
				in++
			}
		}
		want := len(place.Tasks)
		if place.Dir != "" {
			want++
		}
		if in != want {
			t.Errorf("it is in %d of %d: %s", in, want, read(t, fmt.Sprintf("/proc/%d/cgroup", pid)))
		}
		if _, err := os.Stat(filepath.Join(dir, recordFile)); err != nil {
			t.Errorf("it is not recorded: %v", err)
		}
		return nil
	}
	box := start(t, s, Config{ID: "box", Dir: dir, Cgroup: place})
	if adopted != box {
		t.Errorf("adopted was %d, it is %d", adopted, box)
	}
	if got := read(t, "/proc/self/cgroup"); strings.Contains(got, group) {
		t.Errorf("so is the test: %s", got)
	}
}

func TestAStartThatFailsLeavesNothing(t *testing.T) {
	t.Parallel()
	s := open(t)
	for sentence, spoil := range map[string]func(*Config){
		"no network namespace":       func(c *Config) { c.NetNS = c.Dir + "/none" },
		"a file for a namespace":     func(c *Config) { c.NetNS = "/proc/self/status" },
		"no pipe":                    func(c *Config) { c.Pipes = []string{c.Dir + "/none"} },
		"a file for a pipe":          func(c *Config) { c.Pipes = []string{"/proc/self/status"} },
		"a symlink to a pipe":        func(c *Config) { _ = os.Symlink(newPipe(t, c.Dir, "p"), c.Dir+"/l"); c.Pipes = []string{c.Dir + "/l"} },
		"a name that is too long":    func(c *Config) { c.NetNS, c.Hostname = newNetNS(t), strings.Repeat("x", 65) },
		"a setting that is none":     func(c *Config) { c.NetNS, c.Sysctls = newNetNS(t), map[string]string{"net.none": "1"} },
		"no cgroup":                  func(c *Config) { c.Cgroup.Tasks = []string{c.Dir + "/none"} },
		"a file for a cgroup":        func(c *Config) { c.Cgroup.Dir = "/proc/self/status" },
		"a cgroup that is not given": func(c *Config) { c.Cgroup.Adopt = func(int) error { return errors.New("no cgroup") } },
		"a score that is none":       func(c *Config) { c.OOMScoreAdj = 5000 },
	} {
		t.Run(sentence, func(t *testing.T) {
			t.Parallel()
			cfg := Config{ID: sentence, Dir: t.TempDir()}
			spoil(&cfg)
			if err := s.Start(t.Context(), cfg); err == nil {
				t.Error("it is started")
			}
			if running, err := s.Look(cfg.ID, cfg.Dir); running || err != nil {
				t.Errorf("it runs: %v", err)
			}
			if _, err := os.Stat(filepath.Join(cfg.Dir, recordFile)); err == nil {
				t.Error("it has a record")
			}
			if pids := named(sentence); len(pids) > 0 {
				t.Errorf("%v are left", pids)
			}
		})
	}
}

// named are the pids of the pause processes of a sandbox, those that nobody has buried too.
func named(id string) (pids []int) {
	files, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, file := range files {
		if line, err := os.ReadFile(file); err == nil && string(line) == program+"\x00"+id+"\x00" {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(file)))
			pids = append(pids, pid)
		}
	}
	return pids
}

func TestASandboxThatRunsIsKept(t *testing.T) {
	t.Parallel()
	s := open(t)
	cfg := Config{ID: "box", Dir: t.TempDir()}
	box := start(t, s, cfg)
	if err := s.Start(t.Context(), cfg); err != nil || !runs(box) || s.held["box"].pid != box {
		t.Errorf("it is started anew: %v", err)
	}
	// The next one of its Pod, of another id, takes its place.
	cfg.ID = "next"
	next := start(t, s, cfg)
	if runs(box) || !runs(next) {
		t.Errorf("the one before runs: %v, this one: %v", runs(box), runs(next))
	}
	// To delete the one before then does not touch it.
	if err := s.Delete(t.Context(), "box", cfg.Dir); err != nil || !runs(next) {
		t.Errorf("it has ended: %v", err)
	}
	if got := s.Recorded(cfg.Dir); got != "next" {
		t.Errorf("recorded is %q", got)
	}
	if running, err := s.Look("next", cfg.Dir); !running || err != nil {
		t.Errorf("it does not run: %v", err)
	}
}

func TestItHoldsPipesAndWhatIsInThem(t *testing.T) {
	t.Parallel()
	s := open(t)
	dir := t.TempDir()
	pipe := newPipe(t, dir, "a.out")
	start(t, s, Config{ID: "box", Dir: dir, Pipes: []string{pipe}})
	w, err := os.OpenFile(pipe, os.O_WRONLY|syscall.O_NONBLOCK, 0) // fails unless someone reads
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.WriteString("kept"); err != nil {
		t.Fatal(err)
	}
	w.Close()
	r, err := os.OpenFile(pipe, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	got := make([]byte, 4)
	if _, err := io.ReadFull(r, got); err != nil || string(got) != "kept" {
		t.Errorf("got %q: %v", got, err)
	}
}

func TestASandboxOutlivesItsAgent(t *testing.T) {
	t.Parallel()
	s := open(t)
	dir := t.TempDir()
	first, box := agent(t, "start", dir)
	if err := first.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = first.Wait()
	if !runs(box) {
		t.Fatal("it has ended with the agent")
	}
	if open, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", box)); err != nil || len(open) > 0 {
		t.Errorf("it has inherited %v: %v", open, err)
	}
	if running, err := s.Look("box", dir); !running || err != nil {
		t.Errorf("the next agent does not know it: %v", err)
	}
	for _, id := range []string{"other", ""} {
		if running, err := s.Look(id, dir); running || err != nil {
			t.Errorf("it is taken for %q: %v", id, err)
		}
	}
	if ns, err := s.Namespaces("box", dir); err != nil || ns != (Namespaces{}) {
		t.Errorf("its namespaces are %+v: %v", ns, err)
	}
	// The next one is told of its death as of one of its own.
	told := watch(t, s)
	if err := syscall.Kill(box, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if id := <-told; id != "box" {
		t.Errorf("told was the death of %q", id)
	}
	if running, err := s.Look("box", dir); running || err != nil {
		t.Errorf("it runs still: %v", err)
	}
	for range 2 {
		if err := s.Delete(t.Context(), "box", dir); err != nil {
			t.Fatal(err)
		}
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("%v are left: %v", left, err)
	}
}

// watch passes on the deaths that are told.
func watch(t *testing.T, s *Sandboxes) <-chan string {
	t.Helper()
	told := make(chan string, 1000)
	ctx, cancel := context.WithCancel(t.Context())
	var work sync.WaitGroup
	work.Go(func() { s.Watch(ctx, func(id string) { told <- id }) })
	t.Cleanup(func() { cancel(); work.Wait() })
	return told
}

func TestAProcessThatIsHeldEndsWithItsAgent(t *testing.T) {
	t.Parallel()
	s := open(t)
	dir := t.TempDir()
	first, box := agent(t, "hold", dir)
	if !runs(box) {
		t.Fatal("it does not wait")
	}
	if err := first.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = first.Wait()
	eventually(t, "it ends", func() bool { return !runs(box) })
	if running, err := s.Look("box", dir); running || err != nil {
		t.Errorf("it is found: %v", err)
	}
}

func TestNoOtherProcessIsTakenForASandbox(t *testing.T) {
	t.Parallel()
	s := open(t)
	dir := t.TempDir()
	other := exec.Command("sleep", "1000")
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = other.Process.Kill(); _ = other.Wait() })
	began, err := startTime(other.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	true1 := record{ID: "box", PID: other.Process.Pid, StartTime: began, BootID: s.host.bootID, PIDNamespace: s.host.pidNamespace}
	for sentence, spoil := range map[string]func(*record){
		"of another time":      func(r *record) { r.StartTime-- },
		"of another boot":      func(r *record) { r.BootID = "another" },
		"of another namespace": func(r *record) { r.PIDNamespace = "pid:[1]" },
		"of another sandbox":   func(r *record) { r.ID = "other" },
		"of nobody":            func(r *record) { r.PID = 1 << 22 },
	} {
		rec := true1
		spoil(&rec)
		if err := rec.write(dir); err != nil {
			t.Fatal(err)
		}
		if running, err := s.Look("box", dir); running || err != nil {
			t.Errorf("%s: it is found: %v", sentence, err)
		}
		if _, err := s.Namespaces("box", dir); !errors.Is(err, errGone) {
			t.Errorf("%s: it is joined: %v", sentence, err)
		}
		if err := s.Delete(t.Context(), "box", dir); err != nil || !runs(other.Process.Pid) {
			t.Errorf("%s: it is killed: %v", sentence, err)
		}
	}
	for _, content := range []string{"", "{", "{}", `{"id":"box","pid":-1}`} {
		if err := os.WriteFile(filepath.Join(dir, recordFile), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if running, err := s.Look("box", dir); running || err != nil {
			t.Errorf("by %q it is found: %v", content, err)
		}
	}
	if err := true1.write(dir); err != nil {
		t.Fatal(err)
	}
	if running, err := s.Look("box", dir); !running || err != nil {
		t.Errorf("what tells them apart is not that: %v", err)
	}
}

func TestADeathIsTold(t *testing.T) {
	t.Parallel()
	s := open(t)
	cfg := Config{ID: "box", Dir: t.TempDir(), SharedPID: true}
	box := start(t, s, cfg)
	ns, err := s.Namespaces("box", cfg.Dir)
	if err != nil {
		t.Fatal(err)
	}
	told := watch(t, s)
	if err := syscall.Kill(box, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if id := <-told; id != "box" {
		t.Errorf("told was the death of %q", id)
	}
	eventually(t, "it is buried", func() bool { _, err := os.Stat(fmt.Sprintf("/proc/%d", box)); return err != nil })
	if running, err := s.Look("box", cfg.Dir); running || err != nil {
		t.Errorf("it runs: %v", err)
	}
	if _, err := s.Namespaces("box", cfg.Dir); !errors.Is(err, errGone) {
		t.Errorf("it is joined: %v", err)
	}
	eventually(t, "its namespaces are let go", func() bool { to, err := os.Readlink(ns.PID); return err != nil || !strings.HasPrefix(to, "pid:") })
	again := start(t, s, cfg)
	if again == box || !runs(again) {
		t.Error("it is not made anew")
	}
}

// What another record of the folder says, and what it does not, is nobody's who has no folder.
func TestWithoutAFolderOnlyWhatIsKnownIsDeleted(t *testing.T) {
	// Not parallel: without a folder a name is the working directory's.
	s := open(t)
	dir := t.TempDir()
	box := start(t, s, Config{ID: "box", Dir: dir})
	t.Chdir(dir)
	other, err := Open(Settings{RunDir: dir})
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	for _, id := range []string{"box", ""} {
		if err := other.Delete(t.Context(), id, ""); err != nil || !runs(box) {
			t.Fatalf("%q: it is ended: %v", id, err)
		}
	}
	if err := s.Delete(t.Context(), "box", ""); err != nil || runs(box) {
		t.Errorf("it runs: %v", err)
	}
}

func TestManyComeAndGo(t *testing.T) {
	s := open(t)
	told := watch(t, s)
	count := func(pattern string) int { found, _ := filepath.Glob(pattern); return len(found) }
	start(t, s, Config{ID: "first", Dir: t.TempDir()})
	files, threads := count("/proc/self/fd/*"), count("/proc/self/task/*")
	dirs := t.TempDir()
	var most atomic.Int64
	var work sync.WaitGroup
	for i := range 4 {
		netNS := newNetNS(t)
		work.Go(func() {
			for j := range 25 {
				cfg := Config{ID: fmt.Sprintf("many-%d-%d", i, j), Dir: filepath.Join(dirs, strconv.Itoa(i)), NetNS: netNS, Hostname: "many", SharedPID: j%2 == 0}
				if err := s.Start(t.Context(), cfg); err != nil {
					t.Error(err)
				}
				if _, err := s.Namespaces(cfg.ID, cfg.Dir); err != nil {
					t.Error(err)
				}
				most.Store(max(most.Load(), int64(count("/proc/self/task/*"))))
				if err := s.Delete(t.Context(), cfg.ID, cfg.Dir); err != nil {
					t.Error(err)
				}
			}
		})
	}
	work.Wait()
	for range 100 {
		<-told
	}
	for line := range strings.Lines(read(t, "/proc/self/mountinfo")) {
		if strings.Contains(line, s.settings.RunDir) || strings.Contains(line, dirs) || strings.Contains(line, " - tmpfs pause ") {
			t.Errorf("the host has a mount: %s", line)
		}
	}
	eventually(t, "nothing is left open", func() bool { return count("/proc/self/fd/*") <= files+4 }) // of the namespaces
	t.Logf("threads: %d before, %d at most, %d now", threads, most.Load(), count("/proc/self/task/*"))
	left, _ := filepath.Glob(dirs + "/*/*")
	if len(left) > 0 {
		t.Errorf("%q are left", left)
	}
	if left := named("many-0-0"); len(left) > 0 {
		t.Errorf("%v are left", left)
	}
}

// Sandboxes that run cost no threads.
func TestManyAtOnceTakeNoThreads(t *testing.T) {
	s := open(t)
	dirs := t.TempDir()
	count := func() int { found, _ := filepath.Glob("/proc/self/task/*"); return len(found) }
	before := count()
	for i := range 100 {
		start(t, s, Config{ID: fmt.Sprintf("at-once-%d", i), Dir: filepath.Join(dirs, strconv.Itoa(i))})
	}
	eventually(t, "no threads for them", func() bool { return count() < before+20 })
}

func TestARecordIsReadAsItIsWritten(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	rec := record{ID: "box", PID: 7, StartTime: 8, BootID: "boot", PIDNamespace: "pid:[9]", Own: []kind{uts, ipc}}
	if err := rec.write(dir); err != nil {
		t.Fatal(err)
	}
	got, ok, err := readRecord(dir)
	a, _ := json.Marshal(rec)
	b, _ := json.Marshal(got)
	if !ok || err != nil || string(a) != string(b) {
		t.Errorf("got %s, %v, %v; want %s", b, ok, err, a)
	}
}

// BenchmarkStart is the whole of what a Pod waits for.
func BenchmarkStart(b *testing.B) {
	s := open(b)
	netNS, dir := newNetNS(b), b.TempDir()
	pipes := []string{newPipe(b, dir, "a.out"), newPipe(b, dir, "a.err")}
	cfg := Config{
		ID: "bench", Dir: dir, NetNS: netNS, Hostname: "bench", Pipes: pipes,
		Sysctls: map[string]string{"net.ipv4.ip_unprivileged_port_start": "0", "net.ipv4.ping_group_range": "0 2147483647"},
	}
	var times []time.Duration
	for b.Loop() {
		begin := time.Now()
		if err := s.Start(b.Context(), cfg); err != nil {
			b.Fatal(err)
		}
		times = append(times, time.Since(begin))
		b.StopTimer()
		if err := s.Delete(b.Context(), cfg.ID, cfg.Dir); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
	slices.Sort(times)
	b.ReportMetric(float64(times[len(times)/2].Microseconds()), "median-µs")
}

// TestTheRootIsMadeWhileOthersFork has nobody else hold the program open for writing, as a child does between its fork and its exec.
func TestTheRootIsMadeWhileOthersFork(t *testing.T) {
	stop := make(chan struct{})
	var forks sync.WaitGroup
	for range 4 {
		forks.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					_ = exec.Command("/bin/true").Run()
				}
			}
		})
	}
	defer forks.Wait()
	defer close(stop)
	dir := t.TempDir()
	for range 300 {
		root, err := makeRoot(dir)
		if err != nil {
			t.Fatal(err)
		}
		_ = unix.Close(root)
	}
}
