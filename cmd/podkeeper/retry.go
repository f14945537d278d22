package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/podkeeper/podkeeper/server"
)

func retryCommand() *cobra.Command {
	var runDir string
	var all bool
	cmd := &cobra.Command{
		Use: "retry [NAMESPACE/]POD...", Short: "Try at once what waits to be tried again",
		Long: `Try at once what waits to be tried again, after what was wrong has been mended: a container in
CrashLoopBackOff is restarted now, and its back-off starts over; an image is pulled, or a
container made, that could not be before; a Pod of a file that was evicted is back. What runs
is left alone, and what has ended for good stays so. The namespace is default where none is given.`,
		Args: func(_ *cobra.Command, pods []string) error {
			if all != (len(pods) == 0) {
				return errors.New("name Pods, or give --all")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			client := server.NewClient(runDir)
			if all {
				return retryAll(cmd.Context(), client, cmd.OutOrStdout())
			}
			var errs []error
			for _, arg := range args {
				errs = append(errs, retry(cmd.Context(), client, cmd.OutOrStdout(), podNamed(arg)))
			}
			return errors.Join(errs...)
		},
	}
	cmd.Flags().StringVar(&runDir, "run-dir", defaultRunDir, "the agent's run directory, where its socket is")
	cmd.Flags().BoolVar(&all, "all", false, "all Pods of this host")
	return cmd
}

// podNamed reads [NAMESPACE/]POD.
func podNamed(arg string) types.NamespacedName {
	if namespace, name, ok := strings.Cut(arg, "/"); ok {
		return types.NamespacedName{Namespace: namespace, Name: name}
	}
	return types.NamespacedName{Namespace: v1.NamespaceDefault, Name: arg}
}

func retry(ctx context.Context, client *server.Client, out io.Writer, pod types.NamespacedName) error {
	if err := client.Retry(ctx, pod); err != nil {
		return err
	}
	fmt.Fprintf(out, "%s: what waits is tried now\n", pod)
	return nil
}

// retryAll leaves out what has no Pod: it went meanwhile, or is listed for its refused manifest alone.
func retryAll(ctx context.Context, client *server.Client, out io.Writer) error {
	list, err := client.Pods(ctx)
	if err != nil {
		return err
	}
	for _, p := range list.Items {
		err := retry(ctx, client, out, types.NamespacedName{Namespace: p.Namespace, Name: p.Name})
		if err != nil && !errors.Is(err, server.ErrNoPod) {
			return err
		}
	}
	return nil
}
