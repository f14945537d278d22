package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	containerdlog "github.com/containerd/log"
	"github.com/moby/sys/mountinfo"
	"github.com/spf13/cobra"

	"github.com/podkeeper/podkeeper/agent"
	podnode "github.com/podkeeper/podkeeper/agent/node"
	"github.com/podkeeper/podkeeper/logind"
	"github.com/podkeeper/podkeeper/runtime"
)

const purgeLong = `End all Pods of this host, and remove what podkeeper has made on it: volumes, those of
claims too, images, logs, records, certificates, cgroups and the built-in network.
Nothing else in its folders is removed, and manifests and the configuration stay. Pods
have their grace period to end.

No agent may run: systemctl disable --now podkeeper podkeeper-api.socket. The flags
are those of that agent. Where purge is cut off, run it again.`

func purgeCommand() *cobra.Command {
	f := &flags{}
	var yes bool
	cmd := &cobra.Command{
		Use: "purge --yes", Short: "End all Pods, and remove all that podkeeper has made", Long: purgeLong, Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !yes {
				return errors.New("purge ends all Pods and removes their volumes, images and logs: give --yes to have it done")
			}
			return purge(cmd.Context(), cmd, f)
		},
	}
	f.define(cmd)
	cmd.Flags().BoolVar(&yes, "yes", false, "do it")
	return cmd
}

// purge has an agent that wants nothing end what runs, and removes what is left then.
func purge(ctx context.Context, cmd *cobra.Command, f *flags) error {
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	if err := quietLibraries(containerdlog.ErrorLevel); err != nil {
		return err
	}
	cfg, err := f.readConfig()
	if err != nil {
		return err
	}
	f.apply(cmd, cfg)
	f.imageDir = "" // nothing is imported any more
	listener, lock, err := claim(f)
	if err != nil {
		return err
	}
	defer lock.Close()
	defer func() { _ = listener.Close() }()
	n, err := newNode(f, cfg, log)
	if err != nil {
		return err
	}
	defer n.Runtime.Close()
	switch err := ping(ctx, n); {
	case err == nil:
		l := &last{agent: agent.New(withoutWishes(agentConfig(f, cfg, log), f.runDir), n), node: n, out: cmd.OutOrStdout()}
		err = errors.Join(os.MkdirAll(filepath.Join(f.runDir, emptyDir), 0o755), l.end(ctx))
		if err == nil {
			err = runtime.RemoveNamespace(ctx, f.endpoint, f.namespace)
		}
		if err != nil {
			return err
		}
	case len(n.Folders()) > 0:
		return fmt.Errorf("containerd does not answer, and Pods run in it: start it, and purge then: %w", err)
	}
	if err := errors.Join(n.Network.Destroy(), n.Cgroups.Prune(), removeFrom(f.rootDir, inRootDir), removeFrom(f.runDir, inRunDir), logind.Forget("/")); err != nil {
		return err
	}
	return removeEmpty(f.logsDir, filepath.Join(filepath.Dir(f.logsDir), "containers"))
}

// ping says whether containerd answers.
func ping(ctx context.Context, n *podnode.Node) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	return n.Ping(ctx)
}

// emptyDir is where, in the run directory, an agent that wants nothing finds that.
const emptyDir = "purge/manifests"

// withoutWishes is the configuration of an agent to which nothing is wanted. What is wanted stays as it is written.
func withoutWishes(cfg agent.Config, runDir string) agent.Config {
	cfg.Manifests.Dir = filepath.Join(runDir, emptyDir)
	nothing := filepath.Dir(cfg.Manifests.Dir)
	cfg.Manifests.KeepDir, cfg.Manifests.SecretDir, cfg.ObjectsDir = filepath.Join(nothing, "kept"), filepath.Join(nothing, "secrets"), filepath.Join(nothing, "objects")
	return cfg
}

// last is the last agent of a host.
type last struct {
	agent *agent.Agent
	node  *podnode.Node
	out   io.Writer
}

// end runs the agent until no Pod is left, nor anything of one.
func (l *last) end(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	ended, adopted := make(chan error, 1), make(chan struct{})
	go func() { ended <- l.agent.Run(ctx, func() { close(adopted) }) }()
	select {
	case err := <-ended:
		return errors.Join(err, ctx.Err())
	case <-adopted:
	}
	err := l.await(ctx)
	stop()
	if err = errors.Join(err, <-ended); err != nil {
		return err
	}
	for _, uid := range l.node.Folders() { // of records that nobody could read
		if err := l.node.RemoveFolders(context.WithoutCancel(ctx), uid); err != nil {
			return err
		}
	}
	l.node.SweepLinks()
	return nil
}

// await waits until nothing is left, and tells what is waited for.
func (l *last) await(ctx context.Context) error {
	ticker := time.NewTicker(200 * time.Millisecond)
	defer ticker.Stop()
	for told := ""; ; {
		select {
		case <-ctx.Done():
			return fmt.Errorf("cut off: %w", ctx.Err())
		case <-ticker.C:
		}
		pods, more, err := l.left(ctx)
		if err != nil || len(pods) == 0 && !more {
			return err
		}
		if now := strings.Join(pods, ", "); now != told && now != "" {
			told = now
			fmt.Fprintln(l.out, "waits for the end of", now)
		}
	}
}

// left are the Pods that have not ended, and whether there is more to be removed. What another root directory is for is an
// error, once it is all that is left.
func (l *last) left(ctx context.Context) (pods []string, more bool, err error) {
	for _, p := range l.agent.Pods() {
		pods = append(pods, p.Namespace+"/"+p.Name)
	}
	for _, uid := range l.node.Folders() {
		if _, err := os.Lstat(filepath.Join(podnode.PodsDir(l.node.RootDir), uid, podnode.RecordFile)); err == nil {
			more = true
		}
	}
	items, err := l.node.Find(ctx)
	layers, layersErr := l.node.FindLayers(ctx)
	if err = errors.Join(err, layersErr); err != nil {
		return nil, false, err
	}
	var foreign []string
	for _, i := range append(items, layers...) {
		if i.Ours {
			more = true
		} else {
			foreign = append(foreign, i.Namespace+"/"+i.Pod)
		}
	}
	if len(pods) == 0 && !more && len(foreign) > 0 {
		slices.Sort(foreign)
		return nil, false, fmt.Errorf("containers of another --root-dir are there, purge that one first: %s", strings.Join(slices.Compact(foreign), ", "))
	}
	slices.Sort(pods)
	return pods, more, nil
}

// What an agent makes in its root directory and in its run directory. All else in them is somebody else's, as where a
// flag is mistyped: seccomp profiles of the root directory, too.
var (
	inRootDir = []string{"pods", "claims", "manifests", "objects", "pki", "kubeconfig", "image_manager", "drained", "purge", "identity"}
	inRunDir  = []string{"pods", "netns", "network", "manifests", "api", "purge", "podkeeper.sock", "podkeeper-api.sock"}
)

// removeFrom removes what has these names in a folder, and the folder where nothing is left in it then. What is mounted
// below it is not podkeeper's and makes it fail, with nothing removed.
func removeFrom(dir string, names []string) error {
	real, err := filepath.EvalSymlinks(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("remove %s: %w", dir, err)
	}
	mounts, err := mountinfo.GetMounts(mountinfo.PrefixFilter(real))
	if err != nil {
		return fmt.Errorf("remove %s: %w", dir, err)
	}
	for _, m := range mounts {
		if m.Mountpoint != real {
			return fmt.Errorf("remove %s: %s is mounted in it: unmount that, and purge again", dir, m.Mountpoint)
		}
	}
	for _, name := range names {
		err = errors.Join(err, os.RemoveAll(filepath.Join(real, name)))
	}
	if err != nil {
		return fmt.Errorf("remove %s: %w", dir, err)
	}
	return removeEmpty(dir)
}

// removeEmpty removes folders that nobody else has anything in.
func removeEmpty(dirs ...string) error {
	var errs []error
	for _, dir := range dirs {
		err := os.Remove(dir)
		for _, kept := range []error{fs.ErrNotExist, syscall.ENOTEMPTY, syscall.EBUSY} {
			if errors.Is(err, kept) {
				err = nil
			}
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
