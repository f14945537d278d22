package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	containerdlog "github.com/containerd/log"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	kubeletconfig "k8s.io/kubelet/config/v1beta1"

	podnode "github.com/podkeeper/podkeeper/agent/node"
	"github.com/podkeeper/podkeeper/server"
	"github.com/podkeeper/podkeeper/support"
)

const supportLong = `Collect what a report of a defect needs in one archive (mode 0600): versions, the
configuration and flags of the agent, what doctor says, the journal of podkeeper and
containerd, Pods, events, metrics, records, network, firewall, mounts and cgroups.

FILE is podkeeper-support-NODE-TIME.tar.gz in the working directory where none is given;
- is the standard output. The agent need not run. Where it does, its flags are taken
from it, but for those that are given here. A step that fails, or hangs, leaves a line
in errors.txt.

Left out are Secrets and ConfigMaps, values of environment variables, keys, tokens,
kubeconfigs, credentials for registries, what stands in volumes, and what containers
have written. Commands, labels, annotations, and what a probe or a hook has answered
are in it, and names of hosts and addresses: look into it before you give it to others.`

func supportCommand() *cobra.Command {
	c := &collection{}
	cmd := &cobra.Command{
		Use: "support [FILE]", Short: "Collect what a report of a defect needs, without secrets", Long: supportLong, Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			target := ""
			if len(args) > 0 {
				target = args[0]
			}
			return c.write(cmd, target)
		},
	}
	c.flags.define(cmd)
	cmd.Flags().BoolVar(&c.logs, "logs", false, "also what containers have written, the end of each log: it may tell anything")
	cmd.Flags().DurationVar(&c.journal, "journal", 24*time.Hour, "how far back the journal is read; 0 leaves it out")
	return cmd
}

// collection is what one archive is made of.
type collection struct {
	flags   flags
	logs    bool
	journal time.Duration

	config    *kubeletconfig.KubeletConfiguration
	configErr error
	pid       int // of the agent, 0 where none listens
	client    *server.Client
}

// write makes the archive.
func (c *collection) write(cmd *cobra.Command, target string) error {
	ctx := cmd.Context()
	if err := quietLibraries(containerdlog.PanicLevel); err != nil {
		return err
	}
	agentErr := c.adoptFlags(ctx, cmd)
	c.config, c.configErr = c.flags.readConfig()
	if c.config == nil {
		c.config = &kubeletconfig.KubeletConfiguration{}
	}
	c.flags.apply(cmd, c.config)
	c.client = server.NewClient(c.flags.runDir)
	redact, learnErr := c.learn()
	steps := append([]support.Step{{Name: "agent", Do: func(_ context.Context, b *support.Bag) error {
		c.tellAgent(b)
		return errors.Join(agentErr, learnErr)
	}}}, c.steps()...)
	folder := fmt.Sprintf("podkeeper-support-%s-%s", c.flags.nodeName, time.Now().UTC().Format("20060102T150405Z"))
	if target == "-" {
		missing, err := support.Write(ctx, cmd.OutOrStdout(), folder, steps, redact)
		tellMissing(cmd.ErrOrStderr(), missing)
		return err
	}
	if target == "" {
		target = folder + ".tar.gz"
	}
	file, err := os.OpenFile(target, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("make archive: %w", err)
	}
	missing, err := support.Write(ctx, file, folder, steps, redact)
	if err = errors.Join(err, file.Close()); err != nil {
		return errors.Join(err, os.Remove(target))
	}
	tellMissing(cmd.ErrOrStderr(), missing)
	fmt.Fprintln(cmd.OutOrStdout(), target)
	return nil
}

func tellMissing(w io.Writer, missing []string) {
	if len(missing) > 0 {
		fmt.Fprintf(w, "%d things could not be read; %s in the archive says which\n", len(missing), support.ErrorsFile)
	}
}

// adoptFlags takes the flags of the agent that listens, but for those that were given.
func (c *collection) adoptFlags(ctx context.Context, cmd *cobra.Command) error {
	pid, err := server.NewClient(c.flags.runDir).PID(ctx)
	if err != nil {
		return err
	}
	c.pid = pid
	text, err := os.ReadFile(procOf(pid, "cmdline"))
	if err != nil {
		return fmt.Errorf("read flags of the agent: %w", err)
	}
	args := strings.Split(strings.TrimSuffix(string(text), "\x00"), "\x00")
	if len(args) < 2 || args[1] != "agent" {
		return nil // another program of ours, such as a test
	}
	given, known := map[string]bool{}, pflag.NewFlagSet("", pflag.ContinueOnError)
	cmd.Flags().Visit(func(f *pflag.Flag) { given[f.Name] = true })
	known.ParseErrorsAllowlist.UnknownFlags = true
	other := &cobra.Command{}
	(&flags{}).define(other)
	known.AddFlagSet(other.Flags())
	err = known.ParseAll(args[2:], func(f *pflag.Flag, value string) error {
		if given[f.Name] {
			return nil
		}
		return cmd.Flags().Set(f.Name, value)
	})
	if err != nil {
		return fmt.Errorf("read flags of the agent: %w", err)
	}
	return nil
}

func procOf(pid int, parts ...string) string {
	return filepath.Join(append([]string{"/proc", strconv.Itoa(pid)}, parts...)...)
}

// maxLearned is how large a file with secrets may be, in bytes; an object of Kubernetes is smaller.
const maxLearned = 4 << 20

// learnTime is how long files with secrets may take to be read.
const learnTime = 10 * time.Second

// learn answers a Redactor that knows the values that are left out wherever they stand, and what it may not know. Where the
// files that have them hang, it knows none, and what may quote them, the journal and logs, is left out.
func (c *collection) learn() (*support.Redactor, error) {
	redact := &support.Redactor{Output: c.logs}
	done := make(chan error, 1)
	go func() { done <- c.readSecrets(redact) }()
	select {
	case err := <-done:
		return redact, err
	case <-time.After(learnTime):
		c.logs, c.journal = false, 0
		return &support.Redactor{}, fmt.Errorf("the secrets that are to be left out could not be read in %s: journal and logs are left out", learnTime)
	}
}

// readSecrets reads those of all manifests and objects that there are, and what the agent has for registries.
func (c *collection) readSecrets(r *support.Redactor) error {
	f := &c.flags
	patterns := []string{
		filepath.Join(f.manifests, "*"), filepath.Join(f.rootDir, "objects", "*"), filepath.Join(f.rootDir, "manifests", "*"), filepath.Join(f.runDir, "manifests", "*"),
		filepath.Join(podnode.PodsDir(f.rootDir), "*", podnode.RecordFile+"*"), filepath.Join(f.rootDir, "kubeconfig"), "/root/.kube/config",
	}
	var errs []error
	each := func(learn func([]byte), patterns ...string) {
		for _, pattern := range patterns {
			found, err := filepath.Glob(pattern)
			errs = append(errs, err)
			for _, name := range found {
				if info, err := os.Stat(name); err != nil || !info.Mode().IsRegular() {
					continue
				}
				content, err := support.Read(name, maxLearned)
				if err != nil && !errors.Is(err, fs.ErrNotExist) {
					errs = append(errs, err)
				}
				learn(content)
			}
		}
	}
	each(r.Learn, patterns...)
	home, _ := os.UserHomeDir()
	each(r.LearnAll, "/root/.docker/config.json", filepath.Join(home, ".docker/config.json"))
	return errors.Join(errs...)
}
