// Command podkeeper keeps Kubernetes Pods running on one Linux host. This package holds its flags, its configuration
// and the wiring of the rooms it is made of.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/spf13/cobra"
)

// version is set by the linker; a build without it says what the module system knows.
var version = ""

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := command().ExecuteContext(ctx); err != nil {
		if !errors.Is(err, errReported) {
			fmt.Fprintln(terminal{os.Stderr}, "podkeeper:", err)
		}
		stop()
		os.Exit(1) //nolint:gocritic // stop was called
	}
}

// errReported ends the command with status 1 when everything was said already.
var errReported = errors.New("reported")

const long = `podkeeper keeps Kubernetes Pods running on this host, without a control plane.

Put Pod manifests (*.yaml, *.yml, *.json) into /etc/podkeeper/manifests and start
the agent: it runs them through containerd as Kubernetes would, restarts what
fails, follows every edit, and ends a Pod when its manifest is removed.
Containers run on while the agent is stopped or restarted.

  podkeeper agent                  keep the Pods (usually started by systemd)
  podkeeper pods                   what runs, and what is wrong with manifests
  podkeeper node                   what the node has, and what Pods ask of it
  podkeeper logs POD               what its container has written
  podkeeper validate FILE...       check manifests without running anything
  podkeeper retry POD              try at once what waits: a restart, an image
  podkeeper drain                  end all Pods for maintenance; resume brings them back
  podkeeper doctor                 check whether Pods can run on this host
  podkeeper support                collect what a report of a defect needs, without secrets
  podkeeper kubectl ARGS...        kubectl, on this node
  podkeeper kubeconfig             what another kubectl needs for it
  podkeeper purge                  end all Pods, and remove what podkeeper has made`

func command() *cobra.Command {
	root := &cobra.Command{
		Use: "podkeeper", Short: "Keep Kubernetes Pods running on this host", Long: long,
		SilenceUsage: true, SilenceErrors: true,
	}
	root.CompletionOptions.HiddenDefaultCmd = true
	root.AddCommand(agentCommand(), podsCommand(), nodeCommand(), logsCommand(), validateCommand(), retryCommand(), drainCommand(), resumeCommand(), doctorCommand(),
		kubectlCommand(), kubeconfigCommand(), purgeCommand(), supportCommand(), versionCommand())
	root.AddCommand(forBuilders()...)
	return root
}

func versionCommand() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print the version", Args: cobra.NoArgs,
		Run: func(cmd *cobra.Command, _ []string) { fmt.Fprintln(cmd.OutOrStdout(), "podkeeper", versionString()) },
	}
}

// versionString is the version of this build.
func versionString() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "(devel)"
}
