// Command demo shows podkeeper at work: "demo up" runs the agent on manifests/examples until Ctrl-C, "demo down"
// removes everything that it has made. Both work in the project's folder, as root.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	v1 "k8s.io/api/core/v1"

	"github.com/podkeeper/podkeeper/cgroups"
	"github.com/podkeeper/podkeeper/hack/daemon"
	"github.com/podkeeper/podkeeper/network"
	"github.com/podkeeper/podkeeper/runtime"
	"github.com/podkeeper/podkeeper/server"
)

// Where the demonstration keeps its things, all of its own.
const (
	namespace   = "podkeeper-demo"
	rootDir     = "/var/lib/podkeeper-demo"
	runDir      = "/run/podkeeper-demo"
	hostSocket  = "/run/containerd/containerd.sock"
	patience    = 90 * time.Second
	cniBinaries = "/usr/lib/cni"
)

func main() {
	if len(os.Args) != 2 || os.Args[1] != "up" && os.Args[1] != "down" {
		fail(errors.New("usage: demo up|down"))
	}
	if os.Geteuid() != 0 {
		fail(errors.New("containers need root: run it as root, with sudo for one"))
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	do := up
	if os.Args[1] == "down" {
		do = down
	}
	if err := do(ctx); err != nil {
		fail(err)
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "demo:", err)
	os.Exit(1)
}

// containerd answers the socket of the host's containerd or, where none runs, of a private one.
func containerd() (string, error) {
	if exec.Command("ctr", "--connect-timeout", "2s", "-a", hostSocket, "version").Run() == nil {
		return hostSocket, nil
	}
	d, err := daemon.Start("containerd", filepath.Join(rootDir, "containerd"))
	if err != nil {
		return "", err
	}
	return d.Socket(), nil
}

// agent is the agent on a folder of manifests.
func agent(socket, manifests string) *exec.Cmd {
	cmd := exec.Command("bin/podkeeper", "agent", "--pod-manifest-path", manifests, "--root-dir", rootDir, "--run-dir", runDir,
		"--pod-logs-dir", filepath.Join(rootDir, "logs"), "--container-runtime-endpoint", "unix://"+socket,
		"--containerd-namespace", namespace, "--image-dir", filepath.Join(rootDir, "images"), "--cni-conf-dir", filepath.Join(rootDir, "net.d"))
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	return cmd
}

func up(ctx context.Context) error {
	socket, err := containerd()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Join(rootDir, "images"), 0o755); err != nil {
		return fmt.Errorf("make folder for images: %w", err)
	}
	image := exec.Command("bin/demoimage", "-o", filepath.Join(rootDir, "images", "demo.tar"))
	image.Stderr = os.Stderr
	if err := image.Run(); err != nil {
		return fmt.Errorf("build demo image: %w", err)
	}
	cmd := agent(socket, "manifests/examples")
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start agent: %w", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	ip, err := awaitReady(ctx, ended)
	if err != nil {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		return err
	}
	fmt.Println()
	show := exec.Command("bin/podkeeper", "pods", "-o", "wide", "--run-dir", runDir)
	show.Stdout, show.Stderr = os.Stdout, os.Stderr
	if err := show.Run(); err != nil {
		return fmt.Errorf("list pods: %w", err)
	}
	fmt.Printf("\nThe Pod serves a page:\n\n    curl http://%s:8080/\n\nEdit manifests/examples/web.yaml and see it follow. Ctrl-C stops the agent and leaves the Pod; make down removes all.\n\n", ip)
	select {
	case <-ctx.Done():
		_ = cmd.Process.Signal(syscall.SIGTERM)
		return <-ended
	case err := <-ended:
		if ctx.Err() != nil {
			return nil
		}
		return fmt.Errorf("the agent ended: %w", err)
	}
}

// awaitReady waits until the example Pod is Ready, and answers its address.
func awaitReady(ctx context.Context, ended chan error) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	client := server.NewClient(runDir)
	for {
		select {
		case <-ctx.Done():
			return "", fmt.Errorf("the example Pod was not ready within %v", patience)
		case err := <-ended:
			return "", fmt.Errorf("the agent ended: %w", err)
		case <-time.After(100 * time.Millisecond):
		}
		list, err := client.Pods(ctx)
		if err != nil {
			continue
		}
		for _, pod := range list.Items {
			for _, c := range pod.Status.Conditions {
				if c.Type == v1.PodReady && c.Status == v1.ConditionTrue {
					return pod.Status.PodIP, nil
				}
			}
		}
	}
}

// down ends the Pods by an agent on an empty folder, and then removes what is left: network, images, folders, and the
// private containerd.
func down(ctx context.Context) error {
	if _, err := os.Stat(rootDir); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	socket, err := containerd()
	if err != nil {
		return err
	}
	if err := endPods(ctx, socket); err != nil {
		return err
	}
	net, err := network.Open(network.Config{
		BinDir: cniBinaries, RunDir: runDir, StateDir: filepath.Join(runDir, "network"), Name: namespace,
	})
	if err != nil {
		return err
	}
	if err := net.Destroy(); err != nil {
		return err
	}
	tree, err := cgroups.Open(cgroups.Config{})
	if err == nil {
		err = tree.Prune()
	}
	if err != nil {
		return err
	}
	if socket == hostSocket {
		if err := runtime.RemoveNamespace(ctx, socket, namespace); err != nil {
			return err
		}
	} else if d := daemon.Find(filepath.Join(rootDir, "containerd")); d != nil {
		if err := d.Stop(); err != nil {
			return err
		}
	}
	return errors.Join(os.RemoveAll(rootDir), os.RemoveAll(runDir))
}

// endPods runs an agent that wants nothing until nothing is left.
func endPods(ctx context.Context, socket string) error {
	empty := filepath.Join(rootDir, "empty")
	if err := os.MkdirAll(empty, 0o755); err != nil {
		return fmt.Errorf("make empty folder: %w", err)
	}
	cmd := agent(socket, empty)
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start agent: %w", err)
	}
	defer func() { _ = cmd.Wait() }()
	defer func() { _ = cmd.Process.Signal(syscall.SIGTERM) }()
	client := server.NewClient(runDir)
	deadline := time.Now().Add(patience)
	for time.Now().Before(deadline) && ctx.Err() == nil {
		time.Sleep(200 * time.Millisecond)
		read, err := client.Manifests(ctx)
		if err != nil || read.Directory != empty {
			continue
		}
		left, _ := os.ReadDir(filepath.Join(rootDir, "pods"))
		if list, err := client.Pods(ctx); err == nil && len(list.Items) == 0 && len(left) == 0 {
			return nil
		}
	}
	return errors.New("the Pods do not end")
}
