package main

import (
	"context"
	"errors"
	"time"

	containerdlog "github.com/containerd/log"
	"github.com/spf13/cobra"
	kubeletconfig "k8s.io/kubelet/config/v1beta1"

	"github.com/podkeeper/podkeeper/cgroups"
	"github.com/podkeeper/podkeeper/doctor"
	"github.com/podkeeper/podkeeper/logind"
	"github.com/podkeeper/podkeeper/network"
	"github.com/podkeeper/podkeeper/runtime"
)

func doctorCommand() *cobra.Command {
	f := &flags{}
	cmd := &cobra.Command{
		Use: "doctor", Short: "Check whether Pods can run on this host, and say what to install or change", Args: cobra.NoArgs,
		Long: `Check whether Pods can run on this host: containerd, the OCI runtime, CNI, cgroups,
the kernel, disk, systemd and, for a shutdownGracePeriod, logind. It takes the agent's
flags, and checks what an agent with them would use; the agent need not run. Nothing is
changed. Each line says

  ok     what is there
  warn   Pods run, but something is missing: what, and what to do
  FAIL   Pods cannot run: what to install or change; the exit status is 1`,
		RunE: func(cmd *cobra.Command, _ []string) error { return runDoctor(cmd, f) },
	}
	f.define(cmd)
	return cmd
}

func runDoctor(cmd *cobra.Command, f *flags) error {
	if err := quietLibraries(containerdlog.PanicLevel); err != nil {
		return err
	}
	cfg, err := f.readConfig()
	if cfg == nil {
		cfg = &kubeletconfig.KubeletConfiguration{}
	}
	f.apply(cmd, cfg)
	healthy, err := doctor.Print(terminal{cmd.OutOrStdout()}, examine(cmd.Context(), f, cfg, err))
	if err == nil && !healthy {
		err = errReported
	}
	return err
}

// examine runs every check for an agent with these flags; configErr is why its configuration is refused.
func examine(ctx context.Context, f *flags, cfg *kubeletconfig.KubeletConfiguration, configErr error) []doctor.Finding {
	_, sizeErr := logSize(cfg.ContainerLogMaxSize)
	handlers, handlersErr := doctorHandlers(f, cfg)
	_, levelErr := logLevel(f.logLevel, cfg)
	return doctor.Examine(ctx, doctor.This(), doctor.Agent{
		Config: f.config, ConfigErr: errors.Join(configErr, f.checkPlaces(), sizeErr, handlersErr, levelErr, checkLabels(f.labels), checkAPIAddress(f.apiAddress)),
		Manifests: f.manifests, RootDir: f.rootDir, LogsDir: f.logsDir, Endpoint: f.endpoint, Handlers: handlers, PluginDir: f.cniBin,
		APIProgram: f.apiProgram(), CgroupRoot: cfg.CgroupRoot, LowestScore: cgroups.SandboxOOMScoreAdj, LowestScoreOf: cgroups.LowestOOMScoreAdj,

		Containerd:     doctor.Ask,
		UserNamespaces: runtime.UserNamespaces,
		SELinux:        runtime.SELinux,
		Cgroups:        func() (doctor.Cgroups, error) { return doctorCgroups(cfg) },
		Network:        func(ctx context.Context) (doctor.Network, error) { return doctorNetwork(ctx, f, cfg) },

		Permissions: f.permissions,
		Shutdown:    shutdownPeriod(shutdownGroups(cfg, unchecked)),
		Logind:      doctorLogind,
	})
}

// doctorHandlers are those that the flags name, and those that are known without.
func doctorHandlers(f *flags, cfg *kubeletconfig.KubeletConfiguration) (map[string]doctor.Handler, error) {
	parsed, err := parseHandlers(f.handlers)
	handlers := map[string]doctor.Handler{runtime.Runc: {Type: "io.containerd.runc.v2"}}
	for name, h := range parsed {
		handlers[name] = doctor.Handler{Type: h.Type, BinaryName: h.BinaryName}
	}
	found, treeErr := doctorCgroups(cfg)
	if treeErr != nil {
		return handlers, err // which is told of elsewhere
	}
	standard, chooseErr := chooseHandler(f.handler, parsed, found.Version, found.Driver, programRuns)
	if h, ok := handlers[standard]; ok {
		h.Default = true
		handlers[standard] = h
	}
	return handlers, errors.Join(err, chooseErr)
}

func doctorLogind(ctx context.Context) (delay time.Duration, rivals []string, err error) {
	conn, err := logind.Connect(ctx)
	if err != nil {
		return 0, nil, err
	}
	defer conn.Close()
	if delay, err = conn.MaxDelay(ctx); err != nil {
		return 0, nil, err
	}
	rivals, err = logind.Rivals("/")
	return delay, rivals, err
}

func doctorCgroups(cfg *kubeletconfig.KubeletConfiguration) (doctor.Cgroups, error) {
	tree, err := cgroups.Open(cgroups.Config{Root: cfg.CgroupRoot, Driver: cgroups.Driver(cfg.CgroupDriver)})
	if err != nil {
		return doctor.Cgroups{}, err
	}
	return doctor.Cgroups{
		Version: tree.Version(), Driver: string(tree.Config().Driver), Controllers: tree.Controllers(), Mounts: tree.Hierarchies(),
	}, nil
}

func doctorNetwork(ctx context.Context, f *flags, cfg *kubeletconfig.KubeletConfiguration) (doctor.Network, error) {
	net, err := network.Open(f.network(cfg, nil))
	if err != nil {
		return doctor.Network{}, err
	}
	needs, err := net.Needs(ctx)
	if err != nil {
		return doctor.Network{}, err
	}
	n := doctor.Network{
		Name: net.Describe(), Skipped: needs.Skipped, Plugins: needs.Plugins, Missing: needs.Missing, Optional: needs.Optional,
		Faults: needs.Faults, Links: needs.Links, Forwards: needs.Forwards, Iptables: needs.Iptables, Rehearse: net.Rehearse,
	}
	if needs.Subnet.IsValid() {
		n.Subnet = needs.Subnet.String()
	}
	return n, nil
}
