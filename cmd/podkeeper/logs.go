package main

import (
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/podkeeper/podkeeper/server"
)

// defaultContainer is the annotation that says which container of a Pod is meant where none is named
// (k8s.io/kubectl pkg/cmd/util/podcmd).
const defaultContainer = "kubectl.kubernetes.io/default-container"

func logsCommand() *cobra.Command {
	var runDir, container string
	asked := logFlags{tail: -1}
	cmd := &cobra.Command{
		Use: "logs [NAMESPACE/]POD [CONTAINER]", Short: "Print what a container has written", Args: cobra.RangeArgs(1, 2),
		Long: `Print what a container has written, what was rotated included, to the standard output. The
namespace is default where none is given. Of several containers the first is meant, or the one
that the annotation ` + defaultContainer + ` names.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			client, pod := server.NewClient(runDir), podNamed(args[0])
			if len(args) == 2 {
				container = args[1]
			}
			if container == "" {
				list, err := client.Pods(cmd.Context())
				if err != nil {
					return err
				}
				var others string
				if container, others = meant(list, pod); others != "" {
					fmt.Fprintf(cmd.ErrOrStderr(), "Defaulted container %q out of: %s\n", container, others)
				}
			}
			query, err := asked.query()
			if err != nil {
				return err
			}
			return client.Log(cmd.Context(), pod, container, query, cmd.OutOrStdout())
		},
	}
	cmd.Flags().StringVar(&runDir, "run-dir", defaultRunDir, "the agent's run directory, where its socket is")
	cmd.Flags().StringVarP(&container, "container", "c", "", "the container's name")
	asked.add(cmd)
	return cmd
}

// meant is the container that is meant where none is named, and all of them where there are several. Where there is no such
// Pod, the agent has the words for that.
func meant(list *v1.PodList, key types.NamespacedName) (container, others string) {
	for _, pod := range list.Items {
		if pod.Namespace != key.Namespace || pod.Name != key.Name || len(pod.Spec.Containers) == 0 {
			continue
		}
		if name := pod.Annotations[defaultContainer]; name != "" {
			return name, ""
		}
		var all []string
		for _, c := range pod.Spec.Containers {
			all = append(all, c.Name)
		}
		for _, c := range pod.Spec.EphemeralContainers {
			all = append(all, c.Name+" (ephem)")
		}
		for _, c := range pod.Spec.InitContainers {
			all = append(all, c.Name+" (init)")
		}
		if len(all) > 1 {
			others = strings.Join(all, ", ")
		}
		return pod.Spec.Containers[0].Name, others
	}
	return "-", ""
}

// logFlags say what of a log is wanted, as kubectl's do.
type logFlags struct {
	follow, previous, timestamps bool
	tail, limit                  int64
	since                        time.Duration
	sinceTime                    string
}

func (f *logFlags) add(cmd *cobra.Command) {
	cmd.Flags().BoolVarP(&f.follow, "follow", "f", false, "go on until the container has ended")
	cmd.Flags().BoolVarP(&f.previous, "previous", "p", false, "of the instance before the present one")
	cmd.Flags().BoolVar(&f.timestamps, "timestamps", false, "each line begins with its time")
	cmd.Flags().Int64Var(&f.tail, "tail", f.tail, "only so many of the last lines; -1 is all of them")
	cmd.Flags().Int64Var(&f.limit, "limit-bytes", 0, "only so many bytes; 0 is no limit")
	cmd.Flags().DurationVar(&f.since, "since", 0, "only what was written in the last 5s, 2m or 3h")
	cmd.Flags().StringVar(&f.sinceTime, "since-time", "", "only what was written after this time (RFC 3339)")
	cmd.MarkFlagsMutuallyExclusive("since", "since-time")
}

// query writes the flags as those of a v1.PodLogOptions.
func (f *logFlags) query() (url.Values, error) {
	query := url.Values{}
	for name, on := range map[string]bool{"follow": f.follow, "previous": f.previous, "timestamps": f.timestamps} {
		if on {
			query.Set(name, "true")
		}
	}
	if f.tail >= 0 {
		query.Set("tailLines", strconv.FormatInt(f.tail, 10))
	}
	if f.limit != 0 {
		query.Set("limitBytes", strconv.FormatInt(f.limit, 10))
	}
	if f.since != 0 {
		query.Set("sinceSeconds", strconv.FormatInt(int64((f.since+time.Second-1)/time.Second), 10))
	}
	if f.sinceTime != "" {
		at, err := time.Parse(time.RFC3339, f.sinceTime)
		if err != nil {
			return nil, fmt.Errorf("--since-time: %q: want a time such as 2026-01-31T08:00:00Z", f.sinceTime)
		}
		query.Set("sinceTime", at.Format(time.RFC3339))
	}
	return query, nil
}
