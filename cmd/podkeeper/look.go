package main

import (
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/podkeeper/podkeeper/manifests"
	"github.com/podkeeper/podkeeper/server"
)

func podsCommand() *cobra.Command {
	var runDir, output, namespace string
	cmd := &cobra.Command{
		Use: "pods", Short: "List the Pods of this host, and what is wrong with manifests", Args: cobra.NoArgs,
		Long: `List the Pods of this host with kubectl's columns, and below them, on the standard
error stream, every fault that keeps a manifest from being used.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client := server.NewClient(runDir)
			list, err := client.Pods(cmd.Context())
			if err != nil {
				return err
			}
			if err := server.PrintPods(printer(cmd, output), list, output, namespace, time.Now()); err != nil {
				return err
			}
			refused, err := client.Manifests(cmd.Context())
			if err != nil {
				return err
			}
			return server.PrintRefused(terminal{cmd.ErrOrStderr()}, refused)
		},
	}
	cmd.Flags().StringVar(&runDir, "run-dir", defaultRunDir, "the agent's run directory, where its socket is")
	cmd.Flags().StringVarP(&output, "output", "o", "", "wide, json, yaml, name or jsonpath=…")
	cmd.Flags().StringVarP(&namespace, "namespace", "n", "", "only Pods of this namespace; all of them by default")
	return cmd
}

// printer is where an output format goes: what programs read they get as it is.
func printer(cmd *cobra.Command, output string) io.Writer {
	if output != "" && output != "wide" {
		return cmd.OutOrStdout()
	}
	return terminal{cmd.OutOrStdout()}
}

func nodeCommand() *cobra.Command {
	var runDir, output string
	cmd := &cobra.Command{
		Use: "node", Short: "Tell of the node: its state, what it has, and what Pods ask of it", Args: cobra.NoArgs,
		Long: `Tell of the node as "kubectl describe node" does: its conditions, what it has and
what of that is for Pods, and what those that have not ended request and are
limited to.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client := server.NewClient(runDir)
			node, err := client.Node(cmd.Context())
			if err != nil {
				return err
			}
			pods, err := client.Pods(cmd.Context())
			if err != nil {
				return err
			}
			return server.PrintNode(printer(cmd, output), node, pods.Items, output, time.Now())
		},
	}
	cmd.Flags().StringVar(&runDir, "run-dir", defaultRunDir, "the agent's run directory, where its socket is")
	cmd.Flags().StringVarP(&output, "output", "o", "", "json or yaml")
	return cmd
}

func validateCommand() *cobra.Command {
	return &cobra.Command{
		Use: "validate FILE...", Short: "Check manifests without running anything", Args: cobra.MinimumNArgs(1),
		Long: `Check manifests without running anything. Every fault is printed as file:line: field: reason,
and the exit status is 1 if there is one.`,
		RunE: func(cmd *cobra.Command, files []string) error {
			faults := 0
			for _, file := range files {
				data, err := os.ReadFile(file)
				if err != nil {
					return fmt.Errorf("read manifest: %w", err)
				}
				refused := manifests.Decode(file, data).Refused
				for _, r := range refused {
					fmt.Fprintln(terminal{cmd.OutOrStdout()}, r.Error())
				}
				faults += len(refused)
			}
			if faults > 0 {
				return errReported
			}
			return nil
		},
	}
}
