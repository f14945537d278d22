// Command podkeeper-api answers Kubernetes' API for one node: for kubectl and its kind. It is started when somebody connects,
// has no rights but a certificate and the agent's second socket, and ends by itself: when nobody has been connected for a while, and
// with the agent.
package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/klog/v2"
)

// version is set by the linker.
var version = "unknown"

func main() {
	if len(os.Args) > 1 && os.Args[1] == "kubectl" {
		kubectl()
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := command().ExecuteContext(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "podkeeper-api:", err)
		os.Exit(1)
	}
}

// flags are what the agent, or systemd, starts it with.
type flags struct {
	socket, tlsDir, address string
	idle                    time.Duration
}

func command() *cobra.Command {
	f := &flags{}
	cmd := &cobra.Command{
		Use: "podkeeper-api", Short: "Answer Kubernetes' API for this node, as long as somebody asks", Version: version, Args: cobra.NoArgs,
		Long: "Answers Kubernetes' API for this node, as long as somebody asks. The agent, or systemd, starts it when a client connects.\n\n" +
			"`podkeeper-api kubectl …` is kubectl, for hosts that have none; `podkeeper kubectl …` gives it the node's kubeconfig.",
		SilenceUsage: true, SilenceErrors: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
			klog.SetSlogLogger(log) // what Kubernetes' libraries say
			return run(cmd.Context(), f, log)
		},
	}
	fs := cmd.Flags()
	fs.StringVar(&f.socket, "agent-socket", "/run/podkeeper/podkeeper-api.sock", "the agent's socket for it")
	fs.StringVar(&f.tlsDir, "tls-dir", "/run/podkeeper/api", "folder of tls.crt, tls.key, client-ca.crt and sa.pub, which the agent writes")
	fs.StringVar(&f.address, "address", "127.0.0.1:7443", "where to listen, unless a socket is handed over, as the agent and systemd do (LISTEN_FDS)")
	fs.DurationVar(&f.idle, "idle", 5*time.Minute, "ends when nobody has been connected for so long")
	return cmd
}
