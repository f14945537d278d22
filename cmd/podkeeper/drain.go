package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/podkeeper/podkeeper/server"
)

// drainPause is how often is asked how many Pods are left.
const drainPause = 200 * time.Millisecond

func drainCommand() *cobra.Command {
	var runDir string
	var wait bool
	cmd := &cobra.Command{
		Use: "drain", Short: "End all Pods of this host, for maintenance", Args: cobra.NoArgs,
		Long: `End all Pods of this host, for maintenance: each in its own time, those of the lowest
priority first. None begins any more, over restarts of the agent and of the host too,
until podkeeper resume. What has ended by itself stays as it is.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client := server.NewClient(runDir)
			d, err := client.Drain(cmd.Context(), true)
			if err == nil && wait {
				err = awaitDrained(cmd.Context(), client)
			} else if err == nil {
				fmt.Fprintf(cmd.OutOrStdout(), "%d Pods end\n", d.Running)
			}
			return err
		},
	}
	cmd.Flags().StringVar(&runDir, "run-dir", defaultRunDir, "the agent's run directory, where its socket is")
	cmd.Flags().BoolVar(&wait, "wait", false, "return when all of them have ended")
	return cmd
}

// awaitDrained waits until no Pod runs.
func awaitDrained(ctx context.Context, client *server.Client) error {
	for {
		d, err := client.Drained(ctx)
		switch {
		case err != nil:
			return err
		case !d.Drained:
			return fmt.Errorf("the node was resumed while %d Pods were still ending", d.Running)
		case d.Running == 0:
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(drainPause):
		}
	}
}

func resumeCommand() *cobra.Command {
	var runDir string
	cmd := &cobra.Command{
		Use: "resume", Short: "Bring the Pods of this host back after podkeeper drain", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := server.NewClient(runDir).Drain(cmd.Context(), false)
			return err
		},
	}
	cmd.Flags().StringVar(&runDir, "run-dir", defaultRunDir, "the agent's run directory, where its socket is")
	return cmd
}
