package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	goruntime "runtime"
	"strings"
	"time"

	containerdlog "github.com/containerd/log"
	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/api/resource"
	cliflag "k8s.io/component-base/cli/flag"
	kubeletconfig "k8s.io/kubelet/config/v1beta1"
	"k8s.io/utils/ptr"

	"github.com/podkeeper/podkeeper/agent"
	podnode "github.com/podkeeper/podkeeper/agent/node"
	"github.com/podkeeper/podkeeper/cgroups"
	"github.com/podkeeper/podkeeper/doctor"
	"github.com/podkeeper/podkeeper/manifests"
	"github.com/podkeeper/podkeeper/network"
	"github.com/podkeeper/podkeeper/runtime"
	"github.com/podkeeper/podkeeper/runtime/providers"
	"github.com/podkeeper/podkeeper/sandbox"
	"github.com/podkeeper/podkeeper/server"
	"github.com/podkeeper/podkeeper/traces"
	"github.com/podkeeper/podkeeper/volumes"
)

const (
	defaultRunDir    = "/run/podkeeper"
	defaultNamespace = "podkeeper"
	// defaultMaxEnded is kube-controller-manager's threshold for a node in place of a cluster: each Pod keeps its layers and logs.
	defaultMaxEnded = 100
)

// flags are the agent's flags.
type flags struct {
	config, manifests, rootDir, runDir, logsDir, endpoint, namespace, imageDir string
	cniConf, cniBin, nodeName, apiAddress, apiBinary                           string
	handlers                                                                   []string
	handler                                                                    string
	providers, providersBin                                                    string
	allowUnsafe                                                                bool
	labels                                                                     cliflag.ConfigurationMap
	resources                                                                  cliflag.ConfigurationMap
	maxEnded                                                                   int
	logLevel                                                                   string
}

func agentCommand() *cobra.Command {
	f := &flags{}
	cmd := &cobra.Command{
		Use: "agent", Short: "Keep the Pods of the manifest directory running", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runAgent(cmd.Context(), cmd, f) },
	}
	f.define(cmd)
	return cmd
}

// define gives a command the agent's flags.
func (f *flags) define(cmd *cobra.Command) {
	fs := cmd.Flags()
	fs.StringVar(&f.config, "config", "", "a KubeletConfiguration (kubelet.config.k8s.io/v1beta1) file; a flag wins over the file")
	fs.StringVar(&f.manifests, "pod-manifest-path", "/etc/podkeeper/manifests", "directory of Pod manifests (staticPodPath)")
	fs.StringVar(&f.rootDir, "root-dir", defaultRootDir, "what must survive a reboot: records and volumes of Pods")
	fs.StringVar(&f.runDir, "run-dir", defaultRunDir, "what a reboot may lose, and the socket podkeeper.sock")
	fs.StringVar(&f.logsDir, "pod-logs-dir", "/var/log/pods", "container logs (podLogsDir)")
	fs.StringVar(&f.endpoint, "container-runtime-endpoint", "unix:///run/containerd/containerd.sock", "containerd's socket (containerRuntimeEndpoint)")
	fs.StringVar(&f.namespace, "containerd-namespace", defaultNamespace, "containerd's namespace")
	fs.StringVar(&f.imageDir, "image-dir", "/var/lib/podkeeper/images", "OCI and docker archives found here are imported, at start and when they change")
	fs.StringVar(&f.cniConf, "cni-conf-dir", "/etc/cni/net.d", "CNI configuration; while there is none here, a built-in bridge is used")
	fs.StringVar(&f.cniBin, "cni-bin-dir", "", "CNI plugins (default: /opt/cni/bin or /usr/lib/cni, whichever exists first)")
	fs.StringArrayVar(&f.handlers, "runtime-handler", nil, "NAME=TYPE[,BinaryName=PATH]: a further runtime handler; runc and, where installed, crun are known")
	fs.StringVar(&f.handler, "default-runtime-handler", "", "the runtime handler of Pods without a runtimeClassName (default: crun where it is installed and runs, on cgroup v2 without the systemd driver; else runc)")
	fs.StringVar(&f.providers, "image-credential-provider-config", "", "a CredentialProviderConfig (kubelet.config.k8s.io/v1) file, or a directory of them")
	fs.StringVar(&f.providersBin, "image-credential-provider-bin-dir", "", "the programs of the credential providers")
	fs.StringVar(&f.nodeName, "node-name", "", "this node's name (default: the host name)")
	fs.StringVar(&f.apiAddress, "api-address", "", "HOST:PORT that kubectl is answered at, such as 127.0.0.1:7443 (default: nowhere)")
	fs.StringVar(&f.apiBinary, "api-binary", apiProgramName, "what answers kubectl, and is started when somebody asks: a path, or a name beside this program; empty where systemd starts it")
	fs.StringVar(&f.logLevel, "log-level", "", "what is logged: debug (every decision, with what was seen), info, warn or error (default: info, or debug where logging.verbosity of the file is 4 or more)")
	fs.IntVar(&f.maxEnded, "terminated-pod-gc-threshold", defaultMaxEnded, "how many Pods that were made through the API and have ended are kept, the oldest go first; 0 for all")
	fs.BoolVar(&f.allowUnsafe, "allow-unsafe-permissions", false, "use manifests, configuration, images and profiles that others than root may write: each of them is root by that")
	f.resources = cliflag.ConfigurationMap{}
	fs.Var(&f.resources, "extended-resources", "NAME=COUNT,…: what else the node has that Pods may request, such as example.com/dongle=4; it is counted, nothing more")
	f.labels = cliflag.ConfigurationMap{}
	fs.Var(&f.labels, "node-labels", "KEY=VALUE,…: labels of this node, which Pods may ask for, besides kubernetes.io/hostname, kubernetes.io/os and kubernetes.io/arch")
}

// apply fills in from the file what no flag was given for.
func (f *flags) apply(cmd *cobra.Command, cfg *kubeletconfig.KubeletConfiguration) {
	for name, value := range map[string]struct {
		to   *string
		from string
	}{
		"pod-manifest-path":          {&f.manifests, cfg.StaticPodPath},
		"pod-logs-dir":               {&f.logsDir, cfg.PodLogsDir},
		"container-runtime-endpoint": {&f.endpoint, cfg.ContainerRuntimeEndpoint},
	} {
		if value.from != "" && !cmd.Flags().Changed(name) {
			*value.to = value.from
		}
	}
	if f.cniBin == "" {
		f.cniBin = "/opt/cni/bin"
		if _, err := os.Stat(f.cniBin); err != nil {
			f.cniBin = "/usr/lib/cni"
		}
	}
	if hostname, err := os.Hostname(); err == nil && f.nodeName == "" {
		f.nodeName = strings.ToLower(hostname)
	}
}

// agentConfig is what the agent is told by flags and configuration.
func agentConfig(f *flags, cfg *kubeletconfig.KubeletConfiguration, log *slog.Logger) agent.Config {
	return agent.Config{
		Manifests: manifests.Config{
			Dir: f.manifests, KeepDir: filepath.Join(f.rootDir, "manifests"), SecretDir: filepath.Join(f.runDir, "manifests"),
			Trust: f.trust, Rescan: cfg.FileCheckFrequency.Duration, Log: log,
		},
		ObjectsDir: filepath.Join(f.rootDir, "objects"), CA: f.readCA(), ImageDir: f.imageDir,
		Timeout: timeout(cfg), MaxBackoff: maxBackoff(cfg), Images: imagePolicy(cfg), Evictions: evictions(cfg, unchecked), Shutdown: shutdownGroups(cfg, unchecked), MaxEnded: f.maxEnded, Version: versionString(), Log: log, AtRest: giveMemoryBack,
	}
}

// configured reads and checks what the agent is told by its flags and its configuration, and sets what is logged.
func (f *flags) configured(cmd *cobra.Command, level *slog.LevelVar) (*kubeletconfig.KubeletConfiguration, error) {
	cfg, err := f.readConfig()
	if err != nil {
		return nil, err
	}
	f.apply(cmd, cfg)
	_, resourcesErr := extendedResources(f.resources)
	return cfg, errors.Join(f.checkPlaces(), setLogLevel(level, f.logLevel, cfg), checkLabels(f.labels), resourcesErr, checkAPIAddress(f.apiAddress))
}

func runAgent(ctx context.Context, cmd *cobra.Command, f *flags) error {
	level := &slog.LevelVar{} // until it is known, that of information
	log := newLog(level)
	if err := quietLibraries(containerdlog.ErrorLevel); err != nil {
		return err
	}
	cfg, err := f.configured(cmd, level)
	if err != nil {
		return err
	}
	listener, lock, err := claim(f)
	if err != nil {
		return err
	}
	defer lock.Close()
	n, err := newNode(f, cfg, log)
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	defer n.Runtime.Close()
	spans := openTraces(ctx, f, log)
	told := agentConfig(f, cfg, log)
	told.Tracer = spans.Tracer(podnode.Tracer)
	a := agent.New(told, n)
	log.Info("agent starts", "version", versionString(), "manifests", f.manifests, "network", n.Network.Describe(), "cgroups", n.Cgroups.Config().Driver, "go", goruntime.Version())
	outer := ctx
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	shutdowns := watchesShutdowns(ctx, a, shutdownGroups(cfg, unchecked), log)
	go onReload(ctx, func() {
		if err := mayReload(f, a); err != nil {
			log.Error("the new configuration is refused, the old one stays", "error", err)
			return
		}
		stop()
	})
	work, ctx := errgroup.WithContext(ctx)
	work.Go(func() error {
		return a.Run(ctx, func() {
			log.Info("what ran before is adopted")
			notify(daemon.SdNotifyReady)
			go (&service{pods: a.Pods, alive: a.Alive, log: log}).run(ctx)
			// Whoever asks earlier waits: no answer is better than one without the Pods that run.
			answers := server.Handler(a, a.Metrics())
			work.Go(func() error { return server.Serve(ctx, listener, answers) })
			work.Go(func() error { shutdowns.run(ctx); return nil })
			work.Go(func() error { (&kubeAPI{flags: f, node: n, log: log}).run(ctx, answers); return nil })
		})
	})
	err = work.Wait()
	spans.Close()
	if err == nil && outer.Err() == nil {
		log.Info("agent starts anew with a new configuration")
		notify(daemon.SdNotifyReloading)
		return becomeAnew()
	}
	notify(daemon.SdNotifyStopping)
	log.Info("agent stops; Pods run on")
	return err
}

// mayReload says why the agent does not start anew with the configuration as it is now.
func mayReload(f *flags, a *agent.Agent) error {
	if a.ShuttingDown() { // which waits for this agent
		return errors.New("the host shuts down")
	}
	_, err := f.readConfig()
	return err
}

// openTraces has spans be sent where somebody wants them. That it cannot be is no reason to keep no Pods.
func openTraces(ctx context.Context, f *flags, log *slog.Logger) *traces.Traces {
	spans, err := traces.Open(ctx, traces.Config{Version: versionString(), Node: f.nodeName, Log: log})
	if err != nil {
		log.Error("no traces are sent", "error", err)
	}
	return spans
}

// claim takes what only one agent at a time may have: the run directory and the namespace in containerd.
func claim(f *flags) (net.Listener, io.Closer, error) {
	listener, err := server.Listen(f.runDir)
	if err != nil {
		return nil, nil, err
	}
	lock, err := server.LockNamespace(f.endpoint, f.namespace, f.rootDir)
	if err != nil {
		return nil, nil, errors.Join(err, listener.Close())
	}
	return listener, lock, nil
}

// newNode wires the rooms that the agent works with.
func newNode(f *flags, cfg *kubeletconfig.KubeletConfiguration, log *slog.Logger) (*podnode.Node, error) {
	sandboxes, err := sandbox.Open(sandbox.Settings{RunDir: f.runDir, Log: log})
	if err != nil {
		return nil, err
	}
	net, err := network.Open(f.network(cfg, log))
	if err != nil {
		return nil, err
	}
	for _, rival := range doctor.RivalKubelets(cfg.CgroupRoot) {
		log.Error("a kubelet on this host kills Pods", "fault", rival.Text)
	}
	memory, err := cgroups.MemoryCapacity()
	if err != nil {
		return nil, err
	}
	tree, err := openCgroups(cfg, memory)
	if err != nil {
		return nil, err
	}
	rt, err := openRuntime(f, cfg, tree, log)
	if err != nil {
		return nil, err
	}
	cpus, err := cgroups.CPUs()
	if err != nil {
		return nil, err
	}
	addresses, err := network.ReadHostAddresses(log)
	if err != nil {
		return nil, err
	}
	identity, err := podnode.ReadIdentity(f.rootDir)
	if err != nil {
		return nil, err
	}
	extended, err := extendedResources(f.resources)
	if err != nil {
		return nil, err
	}
	return &podnode.Node{
		Runtime: rt, Sandboxes: sandboxes, Network: net, Cgroups: tree, Volumes: volumes.Open(podnode.PodsDir(f.rootDir), memory),
		DNS:        network.ClusterDNS{Servers: cfg.ClusterDNS, Domain: cfg.ClusterDomain},
		ResolvConf: ptr.Deref(cfg.ResolverConfig, "/etc/resolv.conf"), Name: f.nodeName, Labels: f.labels, Taints: cfg.RegisterWithTaints, Extended: extended, Identity: identity,
		RootDir: f.rootDir, RunDir: f.runDir, LogsDir: f.logsDir, TokenKey: filepath.Join(f.rootDir, "pki", "sa.key"), Host: addresses, CPUs: cpus, Memory: memory,
		MaxPods: maxPods(cfg), Reserve: reserve(cfg, unchecked),
		MinOOM: lowestOOMScoreAdj(log), Log: log,
		UnsafeSysctls: cfg.AllowedUnsafeSysctls, SeccompDefault: ptr.Deref(cfg.SeccompDefault, false),
		IDsPerPod: uint32(idsPerPod(cfg)),
	}, nil
}

// openRuntime wires containerd. Which runtime handler is the default depends on the cgroups.
func openRuntime(f *flags, cfg *kubeletconfig.KubeletConfiguration, tree *cgroups.Tree, log *slog.Logger) (*runtime.Runtime, error) {
	handlers, err := parseHandlers(f.handlers)
	if err != nil {
		return nil, err
	}
	handler, err := chooseHandler(f.handler, handlers, tree.Version(), string(tree.Config().Driver), programRuns)
	if err != nil {
		return nil, err
	}
	logMaxSize, err := logSize(cfg.ContainerLogMaxSize)
	if err != nil {
		return nil, err
	}
	credentialProviders, err := f.openProviders()
	if err != nil {
		return nil, err
	}
	return runtime.Open(runtime.Config{
		Endpoint: f.endpoint, Namespace: f.namespace, Handlers: handlers, DefaultHandler: handler, MaxPulls: maxPulls(cfg),
		PullRate: float64(ptr.Deref(cfg.RegistryPullQPS, 0)), PullBurst: cmp.Or(int(cfg.RegistryBurst), defaultBurst),
		RecordsDir: filepath.Join(f.rootDir, "image_manager"), Verification: pullPolicy(cfg), Providers: credentialProviders,
		Trust: f.trust, ImportsImages: f.imageDir != "", LogMaxSize: logMaxSize, LogFiles: int(ptr.Deref(cfg.ContainerLogMaxFiles, 0)), Log: log,
	})
}

// defaultBurst is Kubernetes' default of registryBurst.
const defaultBurst = 10

// openProviders finds the credential providers, if there are any.
func (f *flags) openProviders() (*providers.Providers, error) {
	if f.providers == "" && f.providersBin == "" {
		return nil, nil
	}
	if f.providers == "" || f.providersBin == "" {
		return nil, errors.New("--image-credential-provider-config and --image-credential-provider-bin-dir: must be given together")
	}
	return providers.Open(f.providers, f.providersBin)
}

// network is the configuration of the Pods' network.
func (f *flags) network(cfg *kubeletconfig.KubeletConfiguration, log *slog.Logger) network.Config {
	subnet, _ := podCIDR(cfg) // checked when it was read
	return network.Config{
		ConfDir: f.cniConf, BinDir: f.cniBin, RunDir: f.runDir, StateDir: filepath.Join(f.runDir, "network"), Name: f.namespace, Subnet: subnet, Log: log,
	}
}

func timeout(cfg *kubeletconfig.KubeletConfiguration) time.Duration {
	if d := cfg.RuntimeRequestTimeout.Duration; d > 0 {
		return d
	}
	return 2 * time.Minute
}

// maxBackoff is the longest wait between restarts of a container, 0 for the default.
func maxBackoff(cfg *kubeletconfig.KubeletConfiguration) time.Duration {
	if p := cfg.CrashLoopBackOff.MaxContainerRestartPeriod; p != nil {
		return p.Duration
	}
	return 0
}

func logSize(s string) (int64, error) {
	if s == "" {
		return 0, nil
	}
	q, err := resource.ParseQuantity(s)
	if err != nil || q.Value() <= 0 {
		return 0, fmt.Errorf("containerLogMaxSize: %q: must be a quantity above 0, such as 10Mi", s)
	}
	return q.Value(), nil
}

// maxPulls is how many images may be pulled at once: as many as are wanted unless the file says otherwise.
func maxPulls(cfg *kubeletconfig.KubeletConfiguration) int {
	if ptr.Deref(cfg.SerializeImagePulls, false) {
		return 1
	}
	return int(ptr.Deref(cfg.MaxParallelImagePulls, 0))
}

// lowestOOMScoreAdj is the lowest oom_score_adj that may be written. Where that cannot be told, writing will say so.
func lowestOOMScoreAdj(log *slog.Logger) int {
	const lowest = -1000
	value, err := cgroups.LowestOOMScoreAdj("/proc/self")
	if err != nil || value == lowest {
		return lowest
	}
	log.Warn("oom_score_adj cannot be lowered without CAP_SYS_RESOURCE: Pods get the lowest value allowed instead", "lowest", value)
	return value
}
