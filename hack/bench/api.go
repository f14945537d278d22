package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/pkg/cio"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/remotecommand"
	"k8s.io/client-go/transport/spdy"
	httpspdy "k8s.io/streaming/pkg/httpstream/spdy"
)

const apiProgram = "podkeeper-api"

// api is podkeeper-api in the lab.
type api struct {
	lab     *lab
	binary  string
	address string
}

// newAPI finds the podkeeper-api beside podkeeper, or builds it where that was built, and an address for it.
func newAPI(ctx context.Context, l *lab) (*api, error) {
	a := &api{lab: l, binary: filepath.Join(filepath.Dir(l.binary), apiProgram)}
	if l.binary == l.path("podkeeper") {
		if err := l.goTool(ctx, "build", "-o", a.binary, "./cmd/"+apiProgram); err != nil {
			return nil, err
		}
	}
	if _, err := os.Stat(a.binary); err != nil {
		return nil, fmt.Errorf("find %s: %w", apiProgram, err)
	}
	if err := os.Chmod(l.dir, 0o711); err != nil { // it runs as another user, who has to get to the agent's socket
		return nil, fmt.Errorf("let %s into the lab: %w", apiProgram, err)
	}
	free, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("find a port for %s: %w", apiProgram, err)
	}
	a.address = free.Addr().String()
	return a, free.Close()
}

func (a *api) kubeconfig() string { return a.lab.path("root", "kubeconfig") }

// flags are the agent's, which offers the API then.
func (a *api) flags() []string { return []string{"--api-address", a.address, "--api-binary", a.binary} }

// config is what a client needs. Clients of one configuration share a connection, those of several do not.
func (a *api) config() (*rest.Config, error) {
	var config *rest.Config
	read := func() (_ bool, err error) {
		config, err = clientcmd.BuildConfigFromFlags("", a.kubeconfig())
		return err == nil, err
	}
	if err := poll(context.Background(), 10*time.Millisecond, read); err != nil {
		return nil, fmt.Errorf("read kubeconfig: %w", err)
	}
	config.QPS = -1
	config.Dial = (&net.Dialer{}).DialContext // one that is named here is not shared
	return config, nil
}

// client answers a client with a connection of its own.
func (a *api) client() (*kubernetes.Clientset, error) {
	config, err := a.config()
	if err != nil {
		return nil, err
	}
	return kubernetes.NewForConfig(config)
}

// kubectl runs a command of kubectl, and answers how long it took.
func (a *api) kubectl(ctx context.Context, args ...string) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, a.binary, append([]string{"kubectl"}, args...)...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+a.kubeconfig(), "HOME="+a.lab.dir)
	begin := time.Now()
	out, err := cmd.CombinedOutput()
	if err != nil {
		return 0, fmt.Errorf("kubectl %s: %w: %s", strings.Join(args, " "), err, out)
	}
	return time.Since(begin), nil
}

// pid is that of the process which the agent has started.
func (a *api) pid() (int, error) {
	commands, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		return 0, fmt.Errorf("list processes: %w", err)
	}
	for _, file := range commands {
		command, err := os.ReadFile(file)
		if args := strings.Split(string(command), "\x00"); err == nil && slices.Contains(args, a.agentSocket()) {
			return strconv.Atoi(filepath.Base(filepath.Dir(file)))
		}
	}
	return 0, fmt.Errorf("find %s: %w", apiProgram, os.ErrNotExist)
}

func (a *api) agentSocket() string { return a.lab.path("run", "podkeeper-api.sock") }

// end has the process end as one that nobody has been connected with for long. Before, it lets it run for so long that the
// agent does not take it for broken, and starts the next one without a wait.
func (a *api) end(ctx context.Context) error {
	pid, err := a.pid()
	if err != nil {
		return err
	}
	if err := sleep(ctx, 10*time.Second); err != nil {
		return err
	}
	if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
		return fmt.Errorf("end %s: %w", apiProgram, err)
	}
	gone := func() (bool, error) {
		if _, err := a.pid(); !errors.Is(err, os.ErrNotExist) {
			return false, err
		}
		return true, nil
	}
	return poll(ctx, 10*time.Millisecond, gone)
}

// startAlone starts a process of its own with a socket to answer at, and answers how long it took until it answered.
func (a *api) startAlone(ctx context.Context) (_ time.Duration, err error) {
	config, err := a.config()
	if err != nil {
		return 0, err
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("listen for %s: %w", apiProgram, err)
	}
	socket, err := l.(*net.TCPListener).File() // a copy
	if err = errors.Join(err, l.Close()); err != nil {
		return 0, fmt.Errorf("listen for %s: %w", apiProgram, err)
	}
	defer socket.Close()
	config.Host = "https://" + l.Addr().String()
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return 0, err
	}
	cmd := exec.Command(a.binary, "--agent-socket", a.agentSocket(), "--tls-dir", a.lab.path("run", "api"))
	cmd.Env, cmd.ExtraFiles = append(os.Environ(), "LISTEN_FDS=1"), []*os.File{socket}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	begin := time.Now()
	if err := cmd.Start(); err != nil {
		return 0, fmt.Errorf("start %s: %w", apiProgram, err)
	}
	defer func() { err = errors.Join(err, end(cmd, syscall.SIGTERM)) }()
	_, err = client.CoreV1().RESTClient().Get().AbsPath("/version").DoRaw(ctx)
	return time.Since(begin), err
}

// overStream answers what runs a command in a Pod's app over a connection that executor makes, and answers how long that took.
func overStream(executor func(pod string) (remotecommand.Executor, error), pod string) func(context.Context) (time.Duration, error) {
	return func(ctx context.Context) (time.Duration, error) {
		e, err := executor(pod)
		if err != nil {
			return 0, err
		}
		begin := time.Now()
		err = e.StreamWithContext(ctx, remotecommand.StreamOptions{Stdout: io.Discard, Stderr: io.Discard})
		return time.Since(begin), err
	}
}

// execURL is where the API runs a command.
func (a *api) execURL(pod string) *url.URL {
	return &url.URL{
		Scheme: "https", Host: a.address, Path: "/api/v1/namespaces/default/pods/" + pod + "/exec",
		RawQuery: "container=app&command=/bin/true&stdout=true&stderr=true",
	}
}

// viaWebSocket asks the API as kubectl does.
func (a *api) viaWebSocket(pod string) (remotecommand.Executor, error) {
	config, err := a.config()
	if err != nil {
		return nil, err
	}
	return remotecommand.NewWebSocketExecutor(config, http.MethodGet, a.execURL(pod).String())
}

// viaSPDY asks the API as an old kubectl does.
func (a *api) viaSPDY(pod string) (remotecommand.Executor, error) {
	config, err := a.config()
	if err != nil {
		return nil, err
	}
	return remotecommand.NewSPDYExecutor(config, http.MethodPost, a.execURL(pod))
}

// viaSocket asks the agent.
func (a *agent) viaSocket(pod string) (remotecommand.Executor, error) {
	transport, err := httpspdy.NewRoundTripperWithConfig(httpspdy.RoundTripperConfig{UpgradeTransport: a.client.Transport()})
	if err != nil {
		return nil, err
	}
	to := &url.URL{Scheme: "http", Host: "podkeeper", Path: "/exec/default/" + pod + "/app", RawQuery: "command=/bin/true&output=1&error=1"}
	return remotecommand.NewSPDYExecutorForTransports(transport, spdy.NewUpgraderForStreaming(transport), http.MethodPost, to)
}

// bareExec answers what runs a command in a Pod's app by containerd's client, with its output, and answers how long that took.
func (a *agent) bareExec(ctx context.Context, pod string) (func(context.Context) (time.Duration, error), error) {
	ids, err := a.containers(ctx, []string{pod})
	if err != nil {
		return nil, err
	}
	container, err := a.lab.pods.LoadContainer(ctx, ids[0])
	if err != nil {
		return nil, fmt.Errorf("find container: %w", err)
	}
	spec, err := container.Spec(ctx)
	if err != nil {
		return nil, fmt.Errorf("read OCI spec: %w", err)
	}
	task, err := container.Task(ctx, nil)
	if err != nil {
		return nil, fmt.Errorf("find task: %w", err)
	}
	process := *spec.Process
	process.Args = []string{"/bin/true"}
	serial := 0
	return func(ctx context.Context) (time.Duration, error) {
		serial++
		begin := time.Now()
		command, err := task.Exec(ctx, fmt.Sprintf("bare%d", serial), &process, cio.NewCreator(cio.WithStreams(nil, io.Discard, io.Discard), cio.WithFIFODir(a.lab.path("fifos"))))
		if err != nil {
			return 0, fmt.Errorf("exec: %w", err)
		}
		ended, err := command.Wait(ctx)
		if err == nil {
			err = command.Start(ctx)
		}
		if err == nil {
			<-ended
		}
		_, deleteErr := command.Delete(context.WithoutCancel(ctx), client.WithProcessKill)
		return time.Since(begin), errors.Join(err, deleteErr)
	}, nil
}
