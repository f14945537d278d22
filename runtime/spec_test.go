package runtime

import (
	"slices"
	"strings"
	"testing"

	"github.com/containerd/containerd/v2/core/containers"
	"github.com/containerd/containerd/v2/pkg/cap"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/containerd/v2/pkg/oci"
	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/runtime-spec/specs-go"
	v1 "k8s.io/api/core/v1"
)

// written is containerd's default spec after the first section and one more.
func written(t *testing.T, cfg *ContainerConfig, write section) *specs.Spec {
	t.Helper()
	ctx := namespaces.WithNamespace(t.Context(), "test")
	s, err := oci.GenerateSpec(ctx, nil, &containers.Container{ID: "c"})
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range []section{withProcess, write} {
		if err := w(s, cfg); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

func configured(change func(*ContainerConfig)) *ContainerConfig {
	cfg := &ContainerConfig{ID: "c", Sandbox: "box", Pod: &v1.Pod{}, Container: &v1.Container{Name: "app"}, Command: []string{"run"}, OOMScoreAdj: 7}
	if change != nil {
		change(cfg)
	}
	return cfg
}

func secure(sc v1.SecurityContext) *ContainerConfig {
	return configured(func(c *ContainerConfig) { c.Container.SecurityContext = &sc })
}

func same(t *testing.T, want, got any) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestProcess(t *testing.T) {
	t.Parallel()
	for sentence, r := range map[string]struct{ command, args, entrypoint, cmd, want string }{
		"the image's own":                              {"", "", "e1 e2", "c1", "e1 e2 c1"},
		"a command drops the image's arguments":        {"x y", "", "e1", "c1", "x y"},
		"arguments replace the image's arguments only": {"", "a b", "e1", "c1", "e1 a b"},
		"both replace both":                            {"x", "a", "e1", "c1", "x a"},
		"an image without an entrypoint":               {"", "", "", "c1 c2", "c1 c2"},
	} {
		t.Run(sentence, func(t *testing.T) {
			t.Parallel()
			s := written(t, configured(func(c *ContainerConfig) {
				c.Command, c.Args = strings.Fields(r.command), strings.Fields(r.args)
				c.Image.Config.Entrypoint, c.Image.Config.Cmd = strings.Fields(r.entrypoint), strings.Fields(r.cmd)
				c.Image.Config.WorkingDir = "srv"
			}), withEnv)
			same(t, strings.Fields(r.want), s.Process.Args)
			if s.Process.Cwd != "/srv" || *s.Process.OOMScoreAdj != 7 || s.Annotations[groupAnnotation] != "box" || s.Process.Rlimits != nil {
				t.Errorf("%+v", s.Process)
			}
		})
	}
	if err := withProcess(&specs.Spec{Process: &specs.Process{}}, configured(func(c *ContainerConfig) { c.Command = nil })); err == nil {
		t.Error("no command: no error")
	}
}

func TestATerminalIsToldOf(t *testing.T) {
	t.Parallel()
	for tty, term := range map[bool]bool{true: true, false: false} {
		s := written(t, configured(func(c *ContainerConfig) { c.Container.TTY = tty }), withEnv)
		if s.Process.Terminal != tty || slices.Contains(s.Process.Env, "TERM=xterm") != term {
			t.Errorf("tty %v: terminal %v, environment %q", tty, s.Process.Terminal, s.Process.Env)
		}
	}
}

func TestMergeEnv(t *testing.T) {
	t.Parallel()
	same(t, []string{"PATH=/own", "HOSTNAME=web", "A=2", "B=", "C=x=y"},
		mergeEnv([]string{"PATH=/bin"}, []string{"HOSTNAME=web", "A=1"}, []string{"B=", "PATH=/own"}, []string{"A=2", "C=x=y"}))
}

func TestNamespaces(t *testing.T) {
	t.Parallel()
	shared := true
	for sentence, r := range map[string]struct {
		pod  v1.PodSpec
		of   Namespaces
		want []specs.LinuxNamespace
	}{
		"the sandbox's, with a PID namespace of its own": {v1.PodSpec{}, Namespaces{Network: "/run/netns/x", IPC: "/proc/5/fd/1", UTS: "/proc/5/fd/2"}, []specs.LinuxNamespace{
			{Type: "mount"}, {Type: "network", Path: "/run/netns/x"}, {Type: "ipc", Path: "/proc/5/fd/1"}, {Type: "uts", Path: "/proc/5/fd/2"}, {Type: "pid"}}},
		"shareProcessNamespace": {v1.PodSpec{ShareProcessNamespace: &shared}, Namespaces{Network: "/run/netns/x", IPC: "/proc/5/fd/1", UTS: "/proc/5/fd/2", PID: "/proc/5/fd/3"}, []specs.LinuxNamespace{
			{Type: "mount"}, {Type: "network", Path: "/run/netns/x"}, {Type: "ipc", Path: "/proc/5/fd/1"}, {Type: "uts", Path: "/proc/5/fd/2"}, {Type: "pid", Path: "/proc/5/fd/3"}}},
		"hostUsers false": {v1.PodSpec{}, Namespaces{Network: "/run/netns/x", IPC: "/proc/5/fd/1", UTS: "/proc/5/fd/2", User: "/proc/5/fd/4"}, []specs.LinuxNamespace{
			{Type: "mount"}, {Type: "user", Path: "/proc/5/fd/4"}, {Type: "network", Path: "/run/netns/x"}, {Type: "ipc", Path: "/proc/5/fd/1"}, {Type: "uts", Path: "/proc/5/fd/2"}, {Type: "pid"}}},
		"all of the host's": {v1.PodSpec{HostPID: true, HostIPC: true, HostNetwork: true}, Namespaces{}, []specs.LinuxNamespace{{Type: "mount"}}},
	} {
		t.Run(sentence, func(t *testing.T) {
			t.Parallel()
			same(t, r.want, written(t, configured(func(c *ContainerConfig) { c.Pod.Spec, c.Namespaces = r.pod, r.of }), withNamespaces).Linux.Namespaces)
		})
	}
}

// Where there is none to share, the container would be in the host's.
func TestAPIDNamespaceThatIsNotThereIsNotShared(t *testing.T) {
	t.Parallel()
	shared := true
	cfg := configured(func(c *ContainerConfig) { c.Pod.Spec.ShareProcessNamespace = &shared })
	if err := withNamespaces(&specs.Spec{Linux: &specs.Linux{}}, cfg); err == nil {
		t.Error("no error")
	}
}

func TestCgroupNamespace(t *testing.T) {
	t.Parallel()
	yes, no := true, false
	for sentence, r := range map[string]struct {
		unified    bool
		privileged *bool
		want       bool
	}{
		"its own on cgroup v2":        {true, nil, true},
		"also where it says so":       {true, &no, true},
		"the host's where privileged": {true, &yes, false},
		"the host's on cgroup v1":     {false, nil, false},
		"and privileged there":        {false, &yes, false},
	} {
		t.Run(sentence, func(t *testing.T) {
			t.Parallel()
			cfg := secure(v1.SecurityContext{Privileged: r.privileged})
			cfg.unified = r.unified
			got := slices.Contains(written(t, cfg, withNamespaces).Linux.Namespaces, specs.LinuxNamespace{Type: specs.CgroupNamespace})
			if got != r.want {
				t.Errorf("a cgroup namespace: %v", got)
			}
		})
	}
}

func TestCapabilities(t *testing.T) {
	t.Parallel()
	current, err := cap.Current()
	if err != nil {
		t.Fatal(err)
	}
	yes, no := true, false
	usual := written(t, configured(nil), withEnv).Process.Capabilities.Bounding
	of := func(add, drop []v1.Capability) v1.SecurityContext {
		return v1.SecurityContext{Capabilities: &v1.Capabilities{Add: add, Drop: drop}}
	}
	for sentence, r := range map[string]struct {
		sc   v1.SecurityContext
		want []string
	}{
		"the usual":         {v1.SecurityContext{}, usual},
		"privileged":        {v1.SecurityContext{Privileged: &yes}, current},
		"none but one":      {of([]v1.Capability{"net_admin"}, []v1.Capability{"ALL"}), []string{"CAP_NET_ADMIN"}},
		"one more":          {of([]v1.Capability{"CAP_SYS_TIME"}, nil), append(append([]string{}, usual...), "CAP_SYS_TIME")},
		"all of them":       {of([]v1.Capability{"ALL"}, nil), current},
		"no new privileges": {v1.SecurityContext{AllowPrivilegeEscalation: &no}, usual},
	} {
		t.Run(sentence, func(t *testing.T) {
			t.Parallel()
			p := written(t, secure(r.sc), withCapabilities).Process
			same(t, r.want, p.Capabilities.Effective)
			same(t, r.want, p.Capabilities.Bounding)
			same(t, r.want, p.Capabilities.Permitted)
			if p.Capabilities.Ambient != nil || p.Capabilities.Inheritable != nil || p.NoNewPrivileges != (r.sc.AllowPrivilegeEscalation != nil) {
				t.Errorf("%+v", p)
			}
		})
	}
}

func TestSeccomp(t *testing.T) {
	t.Parallel()
	yes := true
	standard := &v1.SeccompProfile{Type: v1.SeccompProfileTypeRuntimeDefault}
	none := &v1.SeccompProfile{Type: v1.SeccompProfileTypeUnconfined}
	for sentence, r := range map[string]struct {
		pod  *v1.SeccompProfile
		own  v1.SecurityContext
		want bool
	}{
		"none by default":        {nil, v1.SecurityContext{}, false},
		"the container's":        {none, v1.SecurityContext{SeccompProfile: standard}, true},
		"the Pod's":              {standard, v1.SecurityContext{}, true},
		"the container wins":     {standard, v1.SecurityContext{SeccompProfile: none}, false},
		"never where privileged": {standard, v1.SecurityContext{Privileged: &yes}, false},
	} {
		t.Run(sentence, func(t *testing.T) {
			t.Parallel()
			cfg := secure(r.own)
			cfg.Pod.Spec.SecurityContext = &v1.PodSecurityContext{SeccompProfile: r.pod}
			if got := written(t, cfg, withSeccomp).Linux.Seccomp; (got != nil) != r.want {
				t.Errorf("filter: %v", got != nil)
			}
		})
	}
}

func TestPaths(t *testing.T) {
	t.Parallel()
	yes := true
	if s := written(t, secure(v1.SecurityContext{ReadOnlyRootFilesystem: &yes}), withPaths); !s.Root.Readonly || len(s.Linux.MaskedPaths) == 0 || len(s.Linux.ReadonlyPaths) == 0 {
		t.Errorf("read-only: %+v", s.Root)
	}
	if s := written(t, secure(v1.SecurityContext{Privileged: &yes}), withPaths); s.Root.Readonly || len(s.Linux.MaskedPaths)+len(s.Linux.ReadonlyPaths) > 0 {
		t.Errorf("privileged: %+v", s.Linux.MaskedPaths)
	}
}

func TestMounts(t *testing.T) {
	t.Parallel()
	s := written(t, configured(func(c *ContainerConfig) {
		c.Mounts = []specs.Mount{{Destination: "/data/in/it", Options: []string{"rslave"}}, {Destination: "/data"}, {Destination: "/dev/shm/"}}
	}), withMounts)
	var got []string
	for _, m := range s.Mounts {
		got = append(got, m.Destination)
	}
	same(t, []string{"/proc", "/dev", "/dev/pts", "/dev/mqueue", "/sys", "/sys/fs/cgroup", "/data", "/dev/shm/", "/data/in/it"}, got)
	same(t, "rslave", s.Linux.RootfsPropagation)
}

func TestCgroup(t *testing.T) {
	t.Parallel()
	memory := &specs.LinuxMemory{Limit: new(int64(1 << 20)), Swap: new(int64(1 << 20))}
	pages := []specs.LinuxHugepageLimit{{Pagesize: "2MB", Limit: 4 << 20}, {Pagesize: "1GB"}}
	cfg := configured(func(c *ContainerConfig) {
		c.CgroupsPath, c.Resources = "/pods/x", &specs.LinuxResources{Memory: memory, HugepageLimits: pages}
	})
	s := written(t, cfg, withCgroup)
	if s.Linux.CgroupsPath != "/pods/x" || len(s.Linux.Resources.Devices) == 0 || cfg.Resources.Devices != nil {
		t.Errorf("%+v", s.Linux.Resources)
	}
	same(t, memory, s.Linux.Resources.Memory)
	same(t, pages, s.Linux.Resources.HugepageLimits)
	same(t, map[string]string{groupAnnotation: "box"}, s.Annotations)
}

func TestSystemdWaitsForTheGracePeriod(t *testing.T) {
	t.Parallel()
	for want, grace := range map[string]*int64{
		"uint64 30000000": nil, "uint64 300000000": new(int64(300)), "uint64 2000000": new(int64(0)),
	} {
		cfg := configured(func(c *ContainerConfig) {
			c.CgroupsPath, c.Pod.Spec.TerminationGracePeriodSeconds = "kubepods.slice:podkeeper:x", grace
		})
		same(t, want, written(t, cfg, withCgroup).Annotations["org.systemd.property.TimeoutStopUSec"])
	}
}

func TestUserName(t *testing.T) {
	t.Parallel()
	yes, no := true, false
	for sentence, r := range map[string]struct {
		image    string
		uid      int64 // -1 is none
		own, pod *bool
		want     string
		refused  string
	}{
		"root where nobody is named":        {"", -1, nil, nil, "0", ""},
		"the image's":                       {"www:www", -1, nil, nil, "www:www", ""},
		"runAsUser wins":                    {"www", 1000, nil, nil, "1000", ""},
		"root is refused":                   {"", -1, &yes, nil, "", "container has runAsNonRoot and image will run as root"},
		"also by the Pod":                   {"0:5", -1, nil, &yes, "", "container has runAsNonRoot and image will run as root"},
		"runAsUser 0 is refused":            {"5", 0, &yes, nil, "", "container's runAsUser breaks non-root policy"},
		"a name tells nothing":              {"www", -1, &yes, nil, "", "container has runAsNonRoot and image has non-numeric user (www), cannot verify user is non-root"},
		"the container's word wins":         {"", -1, &no, &yes, "0", ""},
		"a number that is not root is good": {"7:8", -1, &yes, nil, "7:8", ""},
	} {
		t.Run(sentence, func(t *testing.T) {
			t.Parallel()
			cfg := secure(v1.SecurityContext{RunAsNonRoot: r.own})
			cfg.Pod.Name, cfg.Pod.Namespace, cfg.Pod.UID = "web", "default", "1"
			cfg.Pod.Spec.SecurityContext, cfg.Image.Config.User = &v1.PodSecurityContext{RunAsNonRoot: r.pod}, r.image
			if r.uid >= 0 {
				cfg.Container.SecurityContext.RunAsUser = &r.uid
			}
			got, err := userName(cfg)
			refused := ""
			if err != nil {
				refused, _ = strings.CutSuffix(err.Error(), ` (pod: "web_default(1)", container: app)`)
			}
			if got != r.want || refused != r.refused {
				t.Errorf("got %q, %q", got, refused)
			}
		})
	}
}

func TestWithGroups(t *testing.T) {
	t.Parallel()
	gid := int64(30)
	known := specs.User{UID: 5, GID: 10, AdditionalGids: []uint32{10, 20}}
	cfg := secure(v1.SecurityContext{RunAsGroup: &gid})
	cfg.Pod.Spec.SecurityContext = &v1.PodSecurityContext{SupplementalGroups: []int64{20, 40}}
	same(t, specs.User{UID: 5, GID: 30, AdditionalGids: []uint32{20, 30, 40}}, withGroups(known, cfg))
	same(t, specs.User{UID: 5, GID: 10, AdditionalGids: []uint32{10, 20}}, withGroups(known, configured(nil)))
	known.AdditionalGids = []uint32{10, 20, 60} // and 60 is the image's alone
	strict, fsGroup := v1.SupplementalGroupsPolicyStrict, int64(50)
	cfg.Pod.Spec.SecurityContext.SupplementalGroupsPolicy, cfg.Pod.Spec.SecurityContext.FSGroup = &strict, &fsGroup
	same(t, specs.User{UID: 5, GID: 30, AdditionalGids: []uint32{30, 20, 40, 50}}, withGroups(known, cfg))
	cfg.Container.SecurityContext = nil
	same(t, specs.User{UID: 5, GID: 10, AdditionalGids: []uint32{10, 20, 40, 50}}, withGroups(known, cfg))
}

func TestImageNames(t *testing.T) {
	t.Parallel()
	for ref, want := range map[string]string{
		"v1": "podkeeper.local/demo:v1", "busybox:1.36": "docker.io/library/busybox:1.36", "quay.io/a/b": "quay.io/a/b:latest", "Not/Valid:x": "Not/Valid:x",
	} {
		same(t, want, importName("podkeeper.local/demo")(ref))
	}
	same(t, "docker.io/library/busybox@sha256:1", digestRef("docker.io/library/busybox:1.36", "sha256:1"))
}
