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

	"github.com/podkeeper/podkeeper/hack/daemon"
	"github.com/podkeeper/podkeeper/server"
)

// Where the demonstration keeps its things, all of its own.
const (
	namespace  = "podkeeper-demo"
	rootDir    = "/var/lib/podkeeper-demo"
	runDir     = "/run/podkeeper-demo"
	hostSocket = "/run/containerd/containerd.sock"
	patience   = 90 * time.Second
	apiAddress = "127.0.0.1:7443"
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

// podkeeper is one of its commands with the flags of the demonstration's agent.
func podkeeper(command, socket string, more ...string) *exec.Cmd {
	args := []string{command, "--config", "hack/demo/config.yaml", "--pod-manifest-path", "manifests/examples", "--root-dir", rootDir, "--run-dir", runDir,
		"--pod-logs-dir", filepath.Join(rootDir, "logs"), "--container-runtime-endpoint", "unix://" + socket,
		"--containerd-namespace", namespace, "--image-dir", filepath.Join(rootDir, "images"), "--cni-conf-dir", filepath.Join(rootDir, "net.d"),
		"--allow-unsafe-permissions"} // the examples are those of whoever has fetched the repository
	cmd := exec.Command("bin/podkeeper", append(args, more...)...)
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
	cmd := podkeeper("agent", socket, "--api-address", apiAddress)
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
	if err := show(ctx); err != nil {
		return err
	}
	fmt.Printf("\nThe Pod serves a page:\n\n    curl http://%s:8080/\n\nkubectl works on it, yours or podkeeper's own:\n\n    export KUBECONFIG=%s\n    kubectl get pods          # or: bin/podkeeper kubectl get pods\n\n"+
		"Edit manifests/examples/web.yaml and see it follow. Ctrl-C stops the agent and leaves the Pod; make down removes all.\n\n", ip, kubeconfig)
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

// kubeconfig is what kubectl needs to reach the demonstration.
var kubeconfig = filepath.Join(rootDir, "kubeconfig")

// show has kubectl list the Pods or, where somebody else is at its address, podkeeper.
func show(ctx context.Context) error {
	for begun := time.Now(); time.Since(begun) < patience && ctx.Err() == nil; time.Sleep(100 * time.Millisecond) {
		if _, err := os.Stat(kubeconfig); err == nil {
			break
		}
	}
	fmt.Print("\n# kubectl get pods -A -o wide\n")
	kubectl := exec.Command("bin/podkeeper", "kubectl", "get", "pods", "-A", "-o", "wide")
	kubectl.Env = append(os.Environ(), "KUBECONFIG="+kubeconfig)
	kubectl.Stdout, kubectl.Stderr = os.Stdout, os.Stderr
	if kubectl.Run() == nil {
		return nil
	}
	fmt.Printf("kubectl is not answered at %s; podkeeper itself says\n", apiAddress)
	pods := exec.Command("bin/podkeeper", "pods", "-o", "wide", "--run-dir", runDir)
	pods.Stdout, pods.Stderr = os.Stdout, os.Stderr
	if err := pods.Run(); err != nil {
		return fmt.Errorf("list pods: %w", err)
	}
	return nil
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

// down has purge end the Pods and remove what belongs to them, and removes the rest: images, and the private containerd.
func down(_ context.Context) error {
	if _, err := os.Stat(rootDir); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	socket, err := containerd()
	if err != nil {
		return err
	}
	if err := podkeeper("purge", socket, "--yes").Run(); err != nil {
		return fmt.Errorf("purge: %w", err)
	}
	if socket == hostSocket {
		return os.RemoveAll(rootDir)
	}
	if d := daemon.Find(filepath.Join(rootDir, "containerd")); d != nil {
		err = d.Stop()
	}
	return errors.Join(err, os.RemoveAll(rootDir))
}
