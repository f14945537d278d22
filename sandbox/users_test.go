package sandbox

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// some are ids that nobody else on a host has.
var some = Users{First: 1_900_019_712, Count: 65536} // 28992 * 65536

// ownerOf is the user namespace that owns the namespace at a path, as a link of /proc says it (ioctl_ns(2), NS_GET_USERNS).
func ownerOf(t *testing.T, path string) string {
	t.Helper()
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	owner, err := unix.IoctlRetInt(fd, unix.NS_GET_USERNS)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(owner)
	return link(t, fmt.Sprintf("/proc/self/fd/%d", owner))
}

func TestAUserNamespaceOwnsAllOthers(t *testing.T) {
	t.Parallel()
	s := open(t)
	for sentence, shared := range map[string]bool{"of a usual Pod": false, "of one that shares processes": true} {
		t.Run(sentence, func(t *testing.T) {
			t.Parallel()
			var net string
			cfg := Config{
				ID: sentence, Dir: t.TempDir(), Hostname: "mapped", SharedPID: shared, Users: some, OOMScoreAdj: 321,
				Sysctls: map[string]string{"net.ipv4.ip_unprivileged_port_start": "7", "kernel.shm_rmid_forced": "1"},
				KeepNet: func(path string) error { net = link(t, path); return nil },
			}
			box := start(t, s, cfg)
			proc := fmt.Sprintf("/proc/%d", box)
			users := link(t, proc+"/ns/user")
			if users == link(t, "/proc/self/ns/user") {
				t.Error("its user namespace is the host's")
			}
			for _, kind := range []string{"ipc", "mnt", "net", "pid", "uts"} {
				path := proc + "/ns/" + kind
				own := kind != "pid" || shared
				if (link(t, path) != link(t, "/proc/self/ns/"+kind)) != own || (ownerOf(t, path) == users) != own {
					t.Errorf("its %s is owned by %s, its user namespace is %s", kind, ownerOf(t, path), users)
				}
			}
			if net != link(t, proc+"/ns/net") {
				t.Errorf("the network namespace to keep was %s", net)
			}
			ns, err := s.Namespaces(cfg.ID, cfg.Dir)
			if err != nil {
				t.Fatal(err)
			}
			var pid int
			if n, _ := fmt.Sscanf(ns.User, "/proc/%d/ns/user", &pid); n > 0 { // so runc reads it
				t.Errorf("%s is taken for that of process %d", ns.User, pid)
			}
			if link(t, ns.User) != users || hostname(t, ns.UTS) != "mapped" || (ns.PID != "") != shared {
				t.Errorf("containers join %+v", ns)
			}
			want := strings.Fields(fmt.Sprintf("0 %d %d", some.First, some.Count))
			for _, file := range []string{"/uid_map", "/gid_map"} {
				if got := strings.Fields(read(t, proc+file)); strings.Join(got, " ") != strings.Join(want, " ") {
					t.Errorf("%s is %v", file, got)
				}
			}
			checkSettings(t, box)
		})
	}
}

// checkSettings looks whether the settings are there, and only there.
func checkSettings(t *testing.T, box int) {
	t.Helper()
	var port, forced string
	err := onThread(func() error {
		pidfd, err := unix.PidfdOpen(box, 0)
		if err != nil {
			return err
		}
		defer unix.Close(pidfd)
		if err := unix.Setns(pidfd, unix.CLONE_NEWNET|unix.CLONE_NEWIPC); err != nil {
			return err
		}
		port, forced = read(t, "/proc/sys/net/ipv4/ip_unprivileged_port_start"), read(t, "/proc/sys/kernel/shm_rmid_forced")
		return nil
	})
	if err != nil || port != "7\n" || forced != "1\n" {
		t.Errorf("its settings are %q and %q: %v", port, forced, err)
	}
	if got := read(t, "/proc/sys/kernel/shm_rmid_forced"); got != "0\n" {
		t.Errorf("the host's is %q", got)
	}
}

func TestAMappedPauseProcessIsConfined(t *testing.T) {
	t.Parallel()
	s := open(t)
	cfg := Config{ID: "box", Dir: t.TempDir(), Hostname: "a", SharedPID: true, Users: some, OOMScoreAdj: 321, KeepNet: func(string) error { return nil }}
	pipes := []string{newPipe(t, cfg.Dir, "a.out")}
	cfg.Pipes = pipes
	box := start(t, s, cfg)
	none, who := "0000000000000000", strings.TrimSpace(strings.Repeat(fmt.Sprintf("%d ", some.First+user), 4))
	for field, want := range map[string]string{
		"CapInh": none, "CapPrm": none, "CapEff": none, "CapAmb": none, "NoNewPrivs": "1", "Seccomp": "2", "Threads": "1", "Groups": "",
		"Uid": who, "Gid": who,
	} {
		if got := status(t, box)[field]; got != want {
			t.Errorf("%s: got %q, want %q", field, got, want)
		}
	}
	if mounts := read(t, fmt.Sprintf("/proc/%d/mountinfo", box)); strings.Count(mounts, "\n") != 1 {
		t.Errorf("its mounts are %s", mounts)
	}
	if got := read(t, fmt.Sprintf("/proc/%d/oom_score_adj", box)); got != "321\n" {
		t.Errorf("oom_score_adj: got %s", got)
	}
	if entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", box)); err != nil || len(entries) != 1 || link(t, fmt.Sprintf("/proc/%d/fd/%s", box, entries[0].Name())) != pipes[0] {
		t.Errorf("it has open %v: %v", entries, err)
	}
}

func TestAMappedStartThatFailsLeavesNothing(t *testing.T) {
	t.Parallel()
	s := open(t)
	for sentence, spoil := range map[string]func(*Config){
		"ids beyond the last":              func(c *Config) { c.Users.First = 1<<32 - 65536 },
		"a network that is not to be kept": func(c *Config) { c.KeepNet = func(string) error { return errors.New("no room") } },
		"another's setting":                func(c *Config) { c.Sysctls = map[string]string{"net.none": "1"} },
		"too long a name, mapped":          func(c *Config) { c.Hostname = strings.Repeat("x", 65) },
	} {
		t.Run(sentence, func(t *testing.T) {
			t.Parallel()
			cfg := Config{ID: sentence, Dir: t.TempDir(), Users: some, KeepNet: func(string) error { return nil }}
			spoil(&cfg)
			if err := s.Start(t.Context(), cfg); err == nil {
				t.Error("it is started")
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
