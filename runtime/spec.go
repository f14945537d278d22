package runtime

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/cgroups/v3"
	"github.com/containerd/containerd/v2/contrib/seccomp"
	"github.com/containerd/containerd/v2/core/containers"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/containerd/v2/pkg/oci"
	"github.com/opencontainers/runtime-spec/specs-go"
	v1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"
)

// groupAnnotation makes the containers of a Pod share one shim.
const groupAnnotation = "io.containerd.runc.v2.group"

// ContainerConfig is all that one instance of a container is made of, finished: names are expanded, mounts resolved.
type ContainerConfig struct {
	ID        string
	Labels    map[string]string
	Handler   string // runtime handler, empty for the default
	Sandbox   string // id of the Pod's sandbox: containers of one sandbox share a shim
	Image     Image
	Pod       *v1.Pod       // for the namespaces it shares and its security context
	Container *v1.Container // for its security context

	Command, Args []string // $(VAR) replaced
	Env           []string // NAME=value, in order; the image's own come before
	Hostname      string
	Mounts        []specs.Mount
	CgroupsPath   string
	Resources     *specs.LinuxResources
	OOMScoreAdj   int
	Namespaces    Namespaces
	Users         Users  // the ids of its user namespace; mounts with mappings are to be mapped into that, in full
	MappedDir     string // see MappedDir; not used without Users
	SELinux       SELinuxLabels
	Stdout        string // named pipes in the sandbox's folder, see Pipes
	Stderr        string // not used with a terminal, whose output is all Stdout's
	Stdin         string // such a pipe, see InputPipe; empty is none

	SeccompDir     string // where profiles of type Localhost are
	SeccompDefault bool   // without a profile the container has RuntimeDefault

	unified  bool  // the host has cgroup v2 only
	appArmor error // why no AppArmor profile can be set here
	trust    func(path string) error
}

// Namespaces are what a container has of its sandbox's namespaces, or of another container's, as paths. Empty is the host's, or
// for PID one of its own.
type Namespaces struct{ Network, IPC, UTS, PID, User string }

// specVersion is the OCI runtime specification's that all of a spec is part of. Later ones are refused by crun before 1.9,
// which Debian 12 has.
const specVersion = "1.0.2"

// section writes one part of the OCI spec.
type section func(*specs.Spec, *ContainerConfig) error

// sections are the parts of the OCI spec that need nothing but the configuration, in the order they are written.
var sections = []section{withProcess, withEnv, withNamespaces, withCapabilities, withSeccomp, withAppArmor, withSELinux, withPaths, withMounts, withCgroup}

// containerSpec makes the OCI spec of a container: containerd's default, then one section after another.
func (r *Runtime) containerSpec(ctx context.Context, cfg *ContainerConfig) (*specs.Spec, error) {
	ctx = namespaces.WithNamespace(ctx, r.cfg.Namespace)
	c := &containers.Container{ID: cfg.ID, Snapshotter: r.snapshotter, SnapshotKey: cfg.ID}
	spec, err := oci.GenerateSpec(ctx, r.client, c)
	if err != nil {
		return nil, fmt.Errorf("make default OCI spec: %w", err)
	}
	spec.Version = specVersion
	cfg.unified, cfg.appArmor, cfg.trust = cgroups.Mode() == cgroups.Unified, AppArmor(), r.trust
	for _, write := range sections {
		if err := write(spec, cfg); err != nil {
			return nil, err
		}
	}
	if err := loadAppArmor(spec.Process.ApparmorProfile); err != nil {
		return nil, err
	}
	user, err := r.user(ctx, c, cfg)
	if err != nil {
		return nil, err
	}
	spec.Process.User = user
	return spec, nil
}

// withProcess writes the command: the Pod's command replaces the image's entrypoint and its arguments the image's, and a
// command without arguments drops the image's too (kubernetes.io/docs "define a command and arguments").
func withProcess(s *specs.Spec, cfg *ContainerConfig) error {
	command, args := cfg.Command, cfg.Args
	if len(command) == 0 {
		command = cfg.Image.Config.Entrypoint
		if len(args) == 0 {
			args = cfg.Image.Config.Cmd
		}
	}
	s.Process.Args = slices.Concat(command, args)
	if len(s.Process.Args) == 0 {
		return fmt.Errorf("no command: neither container %q nor its image %s names one", cfg.Container.Name, cfg.Image.Name)
	}
	s.Process.Cwd = "/"
	if dir := cfg.Image.Config.WorkingDir; dir != "" {
		s.Process.Cwd = path.Join("/", dir)
	}
	if dir := cfg.Container.WorkingDir; dir != "" {
		s.Process.Cwd = dir
	}
	s.Process.Terminal = cfg.Container.TTY
	s.Process.Rlimits = nil // containerd's own limits hold, as under CRI
	s.Process.OOMScoreAdj = &cfg.OOMScoreAdj
	s.Root = &specs.Root{Path: "rootfs"}
	s.Annotations = map[string]string{groupAnnotation: cfg.Sandbox}
	return nil
}

// withEnv writes the environment: a later value of a name takes the place of the earlier one, order is kept.
func withEnv(s *specs.Spec, cfg *ContainerConfig) error {
	own := []string{"HOSTNAME=" + cfg.Hostname}
	if cfg.Container.TTY {
		own = append(own, "TERM=xterm") // as under containerd's CRI
	}
	s.Process.Env = mergeEnv(s.Process.Env, own, cfg.Image.Config.Env, cfg.Env)
	return nil
}

func mergeEnv(lists ...[]string) []string {
	var out []string
	at := map[string]int{}
	for _, entry := range slices.Concat(lists...) {
		key, _, _ := strings.Cut(entry, "=")
		if i, ok := at[key]; ok {
			out[i] = entry
			continue
		}
		at[key] = len(out)
		out = append(out, entry)
	}
	return out
}

// withNamespaces writes which namespaces are the sandbox's, the host's, or the container's own. runc before 1.2 wants to be told the ids of
// a user namespace that it joins, and later ones do not mind. On cgroup v2, as under
// containerd's CRI, a container sees its own cgroup as the root unless it is privileged.
func withNamespaces(s *specs.Spec, cfg *ContainerConfig) error {
	s.Linux.Namespaces = []specs.LinuxNamespace{{Type: specs.MountNamespace}}
	share := func(kind specs.LinuxNamespaceType, at string) {
		if at != "" {
			s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: kind, Path: at})
		}
	}
	share(specs.UserNamespace, cfg.Namespaces.User)
	s.Linux.UIDMappings, s.Linux.GIDMappings = cfg.Users.Mappings(), cfg.Users.Mappings()
	share(specs.NetworkNamespace, cfg.Namespaces.Network)
	share(specs.IPCNamespace, cfg.Namespaces.IPC)
	share(specs.UTSNamespace, cfg.Namespaces.UTS)
	switch {
	case cfg.Pod.Spec.HostPID:
	case cfg.Namespaces.PID != "": // the Pod's, or another container's
		share(specs.PIDNamespace, cfg.Namespaces.PID)
	case isTrue(cfg.Pod.Spec.ShareProcessNamespace): // it would be the host's
		return errors.New("the sandbox has no PID namespace to share")
	default:
		s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: specs.PIDNamespace})
	}
	if cfg.unified && !isTrue(securityContext(cfg).Privileged) {
		s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: specs.CgroupNamespace})
	}
	return nil
}

// withCapabilities writes the capabilities: the usual set, plus and minus what the container says (ALL first), or all of
// them when it is privileged.
func withCapabilities(s *specs.Spec, cfg *ContainerConfig) error {
	sc := securityContext(cfg)
	s.Process.NoNewPrivileges = sc.AllowPrivilegeEscalation != nil && !*sc.AllowPrivilegeEscalation
	var opts []oci.SpecOpts
	if isTrue(sc.Privileged) {
		opts = append(opts, oci.WithAllCurrentCapabilities)
	}
	if caps := sc.Capabilities; caps != nil {
		if slices.Contains(caps.Add, "ALL") {
			opts = append(opts, oci.WithAllCurrentCapabilities)
		}
		if slices.Contains(caps.Drop, "ALL") {
			opts = append(opts, oci.WithCapabilities(nil))
		}
		opts = append(opts, oci.WithAddedCapabilities(capNames(caps.Add)), oci.WithDroppedCapabilities(capNames(caps.Drop)))
	}
	if err := apply(s, opts...); err != nil {
		return err
	}
	s.Process.Capabilities.Inheritable, s.Process.Capabilities.Ambient = nil, nil
	return nil
}

// capNames are the kernel's names of capabilities, without ALL.
func capNames(caps []v1.Capability) []string {
	var names []string
	for _, c := range caps {
		if c != "ALL" {
			names = append(names, "CAP_"+strings.TrimPrefix(strings.ToUpper(string(c)), "CAP_"))
		}
	}
	return names
}

// withSeccomp writes the filter: the container's profile, else the Pod's, else none or, with SeccompDefault, RuntimeDefault. A
// privileged container has none.
func withSeccomp(s *specs.Spec, cfg *ContainerConfig) error {
	s.Linux.Seccomp = nil
	sc := securityContext(cfg)
	profile := sc.SeccompProfile
	if profile == nil && cfg.Pod.Spec.SecurityContext != nil {
		profile = cfg.Pod.Spec.SecurityContext.SeccompProfile
	}
	if profile == nil && cfg.SeccompDefault {
		profile = &v1.SeccompProfile{Type: v1.SeccompProfileTypeRuntimeDefault}
	}
	if profile == nil || isTrue(sc.Privileged) {
		return nil
	}
	switch profile.Type {
	case v1.SeccompProfileTypeRuntimeDefault:
		s.Linux.Seccomp = seccomp.DefaultProfile(s)
	case v1.SeccompProfileTypeLocalhost:
		return localhostSeccomp(s, cfg, ptr.Deref(profile.LocalhostProfile, ""))
	case v1.SeccompProfileTypeUnconfined:
	}
	return nil
}

// localhostSeccomp reads a filter from a file below SeccompDir: seccomp in the terms of the OCI spec, in JSON. A path that leads
// out of it is none.
func localhostSeccomp(s *specs.Spec, cfg *ContainerConfig, profile string) error {
	file, err := os.OpenInRoot(cfg.SeccompDir, profile)
	if err != nil {
		return fmt.Errorf("read seccomp profile %s: %w", profile, err)
	}
	defer file.Close()
	if cfg.trust != nil {
		if err := cfg.trust(filepath.Join(cfg.SeccompDir, profile)); err != nil {
			return fmt.Errorf("seccomp profile %s is not trusted: %w", profile, err)
		}
	}
	filter := new(specs.LinuxSeccomp)
	if err := json.NewDecoder(file).Decode(filter); err != nil {
		return fmt.Errorf("read seccomp profile %s: %w", profile, err)
	}
	if filter.DefaultAction == "" {
		return fmt.Errorf("read seccomp profile %s: it has no defaultAction", profile)
	}
	s.Linux.Seccomp = filter
	return nil
}

// withPaths writes what of the file system is read-only or hidden, and which devices there are. With procMount Unmasked nothing of
// /proc is.
func withPaths(s *specs.Spec, cfg *ContainerConfig) error {
	sc := securityContext(cfg)
	s.Root.Readonly = isTrue(sc.ReadOnlyRootFilesystem)
	if !isTrue(sc.Privileged) {
		if ptr.Deref(sc.ProcMount, v1.DefaultProcMount) == v1.UnmaskedProcMount {
			return apply(s, oci.WithMaskedPaths(nil), oci.WithReadonlyPaths(nil))
		}
		return nil
	}
	return apply(s, oci.WithMaskedPaths(nil), oci.WithReadonlyPaths(nil), oci.WithWriteableSysfs, oci.WithHostDevices,
		oci.WithAllDevicesAllowed)
}

// withMounts writes the mounts: /dev/shm is the sandbox's, /sys/fs/cgroup shows the container's cgroup, and what the Pod
// mounts comes last, parents before what is mounted inside them.
func withMounts(s *specs.Spec, cfg *ContainerConfig) error {
	s.Mounts = slices.DeleteFunc(s.Mounts, func(m specs.Mount) bool {
		return m.Destination == "/run" || slices.ContainsFunc(cfg.Mounts, func(own specs.Mount) bool {
			return path.Clean(own.Destination) == m.Destination
		})
	})
	mode := "ro"
	if isTrue(securityContext(cfg).Privileged) {
		mode = "rw"
	}
	s.Mounts = append(s.Mounts, specs.Mount{
		Destination: "/sys/fs/cgroup", Type: "cgroup", Source: "cgroup",
		Options: []string{"nosuid", "noexec", "nodev", "relatime", mode},
	})
	own := cfg.ownMounts()
	slices.SortStableFunc(own, func(a, b specs.Mount) int {
		return strings.Count(path.Clean(a.Destination), "/") - strings.Count(path.Clean(b.Destination), "/")
	})
	s.Mounts = append(s.Mounts, own...)
	for _, m := range own {
		if slices.Contains(m.Options, "rshared") {
			s.Linux.RootfsPropagation = "rshared"
		} else if slices.Contains(m.Options, "rslave") && s.Linux.RootfsPropagation == "" {
			s.Linux.RootfsPropagation = "rslave"
		}
	}
	return nil
}

// withCgroup writes the limits; the device rules are containerd's. Where systemd makes the cgroup it gives the container the
// Pod's grace period when the host shuts down, not its own 90 s.
func withCgroup(s *specs.Spec, cfg *ContainerConfig) error {
	s.Linux.CgroupsPath = cfg.CgroupsPath
	if bySystemd(cfg.CgroupsPath) {
		s.Annotations["org.systemd.property.TimeoutStopUSec"] = fmt.Sprintf("uint64 %d", stopTimeout(cfg.Pod).Microseconds())
	}
	if cfg.Resources == nil {
		return nil
	}
	devices := s.Linux.Resources.Devices
	limits := *cfg.Resources
	limits.Devices = append(slices.Clone(devices), limits.Devices...)
	s.Linux.Resources = &limits
	return nil
}

// bySystemd says who makes a cgroup, which the form of its path tells: slice:prefix:name is systemd's.
func bySystemd(cgroupsPath string) bool { return strings.Contains(cgroupsPath, ":") }

// stopTimeout is how long a container may take to end: the Pod's grace period, and at least what the kubelet gives every
// container (kubernetes/kubernetes pkg/kubelet/kuberuntime, minimumGracePeriodInSeconds). To systemd, 0 would be for ever.
func stopTimeout(pod *v1.Pod) time.Duration {
	grace := int64(v1.DefaultTerminationGracePeriodSeconds)
	if pod.Spec.TerminationGracePeriodSeconds != nil {
		grace = *pod.Spec.TerminationGracePeriodSeconds
	}
	return time.Duration(max(grace, 2)) * time.Second
}

// user finds who the process runs as: runAsUser, else the image's user, with the groups that the image's /etc/group gives
// it (kubernetes.io/docs "configure a security context"). The answer for one image and user never changes, and is kept.
func (r *Runtime) user(ctx context.Context, c *containers.Container, cfg *ContainerConfig) (specs.User, error) {
	name, err := userName(cfg)
	if err != nil {
		return specs.User{}, err
	}
	key := cfg.Image.ID + " " + name
	known, ok := r.users.Load(key)
	if !ok {
		spec := &specs.Spec{Process: &specs.Process{}, Root: &specs.Root{Path: "rootfs"}, Linux: &specs.Linux{}}
		if err := oci.WithUser(name)(ctx, r.client, c, spec); err != nil {
			return specs.User{}, fmt.Errorf("find user %q in image: %w", name, err)
		}
		login, _, _ := strings.Cut(name, ":")
		if err := oci.WithAdditionalGIDs(login)(ctx, r.client, c, spec); err != nil {
			return specs.User{}, fmt.Errorf("find groups of user %q in image: %w", name, err)
		}
		known, _ = r.users.LoadOrStore(key, spec.Process.User)
	}
	user, _ := known.(specs.User)
	return withGroups(user, cfg), nil
}

// userName is who runs the process, as uid, uid:gid or a name that the image knows; it refuses root where runAsNonRoot is
// set, with the kubelet's words (kubernetes/kubernetes pkg/kubelet/kuberuntime/security_context.go).
func userName(cfg *ContainerConfig) (string, error) {
	name := cfg.Image.Config.User
	sc, pod := securityContext(cfg), podSecurityContext(cfg)
	uid := firstSet(sc.RunAsUser, pod.RunAsUser)
	if uid != nil {
		name = strconv.FormatInt(*uid, 10)
	}
	if name == "" {
		name = "0"
	}
	if nonRoot := firstSet(sc.RunAsNonRoot, pod.RunAsNonRoot); nonRoot == nil || !*nonRoot {
		return name, nil
	}
	login, _, _ := strings.Cut(name, ":")
	number, err := strconv.Atoi(login)
	of := fmt.Sprintf("(pod: %q, container: %s)", fmt.Sprintf("%s_%s(%s)", cfg.Pod.Name, cfg.Pod.Namespace, cfg.Pod.UID), cfg.Container.Name)
	switch {
	case err != nil:
		return "", fmt.Errorf("container has runAsNonRoot and image has non-numeric user (%s), cannot verify user is non-root %s", login, of)
	case number == 0 && uid != nil:
		return "", fmt.Errorf("container's runAsUser breaks non-root policy %s", of)
	case number == 0:
		return "", fmt.Errorf("container has runAsNonRoot and image will run as root %s", of)
	}
	return name, nil
}

// withGroups adds the groups that the Pod gives to the image's, or under supplementalGroupsPolicy Strict puts them in the place
// of those (kubernetes.io/docs "configure a security context"). runAsUser without runAsGroup leaves the primary group to the
// image either way, root where it knows none.
func withGroups(user specs.User, cfg *ContainerConfig) specs.User {
	sc, pod := securityContext(cfg), podSecurityContext(cfg)
	user.AdditionalGids = slices.Clone(user.AdditionalGids)
	if p := pod.SupplementalGroupsPolicy; p != nil && *p == v1.SupplementalGroupsPolicyStrict {
		user.AdditionalGids = nil
	}
	if gid := firstSet(sc.RunAsGroup, pod.RunAsGroup); gid != nil {
		user.AdditionalGids = slices.DeleteFunc(user.AdditionalGids, func(g uint32) bool { return g == user.GID })
		user.GID = uint32(*gid)
	}
	extra := []uint32{user.GID}
	for _, g := range pod.SupplementalGroups {
		extra = append(extra, uint32(g))
	}
	if pod.FSGroup != nil {
		extra = append(extra, uint32(*pod.FSGroup))
	}
	for _, g := range extra {
		if !slices.Contains(user.AdditionalGids, g) {
			user.AdditionalGids = append(user.AdditionalGids, g)
		}
	}
	return user
}

func securityContext(cfg *ContainerConfig) v1.SecurityContext {
	if sc := cfg.Container.SecurityContext; sc != nil {
		return *sc
	}
	return v1.SecurityContext{}
}

func podSecurityContext(cfg *ContainerConfig) v1.PodSecurityContext {
	if sc := cfg.Pod.Spec.SecurityContext; sc != nil {
		return *sc
	}
	return v1.PodSecurityContext{}
}

func isTrue(b *bool) bool { return b != nil && *b }

// firstSet is the first of two settings that is set: the container's own wins over the Pod's.
func firstSet[T any](own, pod *T) *T {
	if own != nil {
		return own
	}
	return pod
}

// apply runs containerd's own spec options that need neither a client nor a container.
func apply(s *specs.Spec, opts ...oci.SpecOpts) error {
	for _, opt := range opts {
		if err := opt(context.Background(), nil, &containers.Container{}, s); err != nil {
			return fmt.Errorf("write OCI spec: %w", err)
		}
	}
	return nil
}
