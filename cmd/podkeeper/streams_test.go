package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sync/errgroup"
	v1 "k8s.io/api/core/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/remotecommand"
	"k8s.io/client-go/util/exec"
)

// relay lets clients that know only TCP talk to the agent's socket, until the test ends. It answers its address.
func (n *node) relay() string {
	n.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		n.t.Fatal(err)
	}
	var open sync.WaitGroup
	var mu sync.Mutex
	var conns []net.Conn
	open.Go(func() {
		for {
			near, err := l.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("unix", n.path("run", "podkeeper.sock"))
			if err != nil {
				near.Close()
				continue
			}
			mu.Lock()
			conns = append(conns, near, far)
			mu.Unlock()
			for from, to := range map[net.Conn]net.Conn{near: far, far: near} {
				open.Go(func() {
					_, _ = io.Copy(to, from)
					near.Close()
					far.Close()
				})
			}
		}
	})
	n.t.Cleanup(func() {
		l.Close()
		mu.Lock()
		for _, c := range conns {
			c.Close()
		}
		mu.Unlock()
		open.Wait()
	})
	return "http://" + l.Addr().String()
}

// executors are what clients make streams with.
var executors = map[string]func(*rest.Config, *url.URL) (remotecommand.Executor, error){
	"SPDY": func(c *rest.Config, u *url.URL) (remotecommand.Executor, error) {
		return remotecommand.NewSPDYExecutor(c, http.MethodPost, u)
	},
	"WebSocket v5": func(c *rest.Config, u *url.URL) (remotecommand.Executor, error) {
		return remotecommand.NewWebSocketExecutor(c, http.MethodGet, u.String())
	},
	"WebSocket v4": func(c *rest.Config, u *url.URL) (remotecommand.Executor, error) {
		return remotecommand.NewWebSocketExecutorForProtocols(c, http.MethodGet, u.String(), "v4.channel.k8s.io")
	},
}

// stream asks for what options say at a path of the agent.
func stream(ctx context.Context, protocol, at, path string, options remotecommand.StreamOptions, command ...string) error {
	query := url.Values{"command": command}
	for name, asked := range map[string]bool{
		"input": options.Stdin != nil, "output": options.Stdout != nil, "error": options.Stderr != nil, "tty": options.Tty,
	} {
		if asked {
			query.Set(name, "1")
		}
	}
	u, err := url.Parse(at + path + "?" + query.Encode())
	if err != nil {
		return err
	}
	e, err := executors[protocol](&rest.Config{Host: at}, u)
	if err != nil {
		return err
	}
	return e.StreamWithContext(ctx, options)
}

// heard is what is written to it, and wakes who waits for some of it.
type heard struct {
	mu    sync.Mutex
	text  bytes.Buffer
	waits map[string]func()
	each  func(text string) // called with all of it when there is more; may be nil
}

func (h *heard) Write(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.text.Write(p)
	for text, then := range h.waits {
		if strings.Contains(h.text.String(), text) {
			then()
			delete(h.waits, text)
		}
	}
	if h.each != nil {
		h.each(h.text.String())
	}
	return len(p), nil
}

// on calls then once the text was written.
func on(text string, then func()) *heard { return &heard{waits: map[string]func(){text: then}} }

// sizes are those of a terminal.
type sizes chan remotecommand.TerminalSize

func (s sizes) Next() *remotecommand.TerminalSize {
	size, more := <-s
	if !more {
		return nil
	}
	return &size
}

func TestExec(t *testing.T) {
	t.Parallel()
	n := launch(t)
	n.apply("app.yaml", simple("app", forever))
	n.apply("done.yaml", simple("done", "true", "  restartPolicy: Never"))
	n.awaitReady("app")
	n.awaitPhase("done", v1.PodSucceeded)
	at := n.relay()
	much := make([]byte, 5<<20)
	_, _ = rand.Read(much)
	const path = "/exec/default/app/app"
	for protocol := range executors {
		t.Run(protocol, func(t *testing.T) {
			run := func(options remotecommand.StreamOptions, script string) error {
				return stream(t.Context(), protocol, at, path, options, "/bin/sh", "-c", script)
			}
			var out, errs bytes.Buffer
			err := run(remotecommand.StreamOptions{Stdout: &out, Stderr: &errs}, "echo said; echo complained >&2; exit 3")
			var exited exec.CodeExitError
			if !errors.As(err, &exited) || exited.Code != 3 || out.String() != "said\n" || errs.String() != "complained\n" {
				t.Errorf("a command that fails: %v, %q, %q", err, out.String(), errs.String())
			}
			script := "cat"
			if protocol == "WebSocket v4" { // which cannot tell of the end
				script = fmt.Sprintf("head -c %d", len(much))
			}
			out.Reset()
			if err := run(remotecommand.StreamOptions{Stdin: bytes.NewReader(much), Stdout: &out}, script); err != nil || !bytes.Equal(out.Bytes(), much) {
				t.Errorf("5 MB there and back: %d bytes, %v", out.Len(), err)
			}
			resize := make(sizes, 2)
			resize <- remotecommand.TerminalSize{Width: 123, Height: 45}
			terminal := on("45 123\r\n", func() { resize <- remotecommand.TerminalSize{Width: 67, Height: 8}; close(resize) })
			input, hold := io.Pipe()
			defer hold.Close()
			until := "until [ \"$(stty size 2>/dev/null)\" = '%[1]s' ]; do sleep 0.05; done; stty size; "
			err = run(remotecommand.StreamOptions{Stdin: input, Stdout: terminal, Tty: true, TerminalSizeQueue: resize},
				"echo $TERM; "+fmt.Sprintf(until, "45 123")+fmt.Sprintf(until, "8 67"))
			if got := terminal.text.String(); err != nil || got != "xterm\r\n45 123\r\n8 67\r\n" {
				t.Errorf("a terminal: %q, %v", got, err)
			}
			err = stream(t.Context(), protocol, at, path, remotecommand.StreamOptions{Stdout: &out}, "/bin/none")
			if err == nil || !strings.Contains(err.Error(), "Internal error occurred: error executing command in container: ") || !strings.Contains(err.Error(), "no such file or directory") {
				t.Errorf("a command that is not there: %v", err)
			}
			err = stream(t.Context(), protocol, at, "/exec/default/done/app", remotecommand.StreamOptions{Stdout: &out}, "/bin/true")
			if err == nil || protocol != "SPDY" && !strings.Contains(err.Error(), `container not found ("app")`) {
				t.Errorf("a command in a container that is done: %v", err)
			}
		})
	}
}

// TestExecsLeaveNothing has clients go away, and then the agent be killed, in the middle of commands that have sent children
// out of their reach.
func TestExecsLeaveNothing(t *testing.T) {
	t.Parallel()
	n := launch(t)
	n.apply("app.yaml", simple("app", forever))
	pod := n.awaitReady("app")
	at, main := n.relay(), n.pid(pod, "app")
	shim, pipes := parentOf(t, main), n.path("run", "pods", string(pod.UID), "exec")
	n.eventually("the container sleeps", func() error {
		if count := len(processesIn(t, main)); count != 2 { // the shell, and what it waits for
			return fmt.Errorf("it has %d processes", count)
		}
		return nil
	})
	before := []int{len(processesIn(t, main)), open(t, shim), files(t, shim, "task")}
	asBefore := func() error {
		after := []int{len(processesIn(t, main)), open(t, shim), files(t, shim, "task")}
		left, err := os.ReadDir(pipes)
		if err != nil {
			return stop(err)
		}
		if after[0] != before[0] || after[1] > before[1] || after[2] > before[2]+20 || len(left) > 0 {
			return fmt.Errorf("processes, and files and threads of the shim: %v, were %v; %d pipes", after, before, len(left))
		}
		return nil
	}
	script := []string{"/bin/sh", "-c", "echo began; (setsid sh -c 'sleep 1000 & setsid sleep 1000' &); sleep 1000"}
	var work errgroup.Group
	work.SetLimit(5)
	for i := range 100 {
		work.Go(func() error {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			options := remotecommand.StreamOptions{Stdout: on("began", cancel), Tty: i%4 == 3}
			if i%2 == 1 {
				input, hold := io.Pipe()
				defer hold.Close()
				options.Stdin = input
			}
			protocol := []string{"SPDY", "WebSocket v5", "WebSocket v4"}[i%3]
			if err := stream(ctx, protocol, at, "/exec/default/app/app", options, script...); !errors.Is(err, context.Canceled) {
				return fmt.Errorf("a client that goes away, over %s: %w", protocol, err)
			}
			return nil
		})
	}
	if err := work.Wait(); err != nil {
		t.Fatal(err)
	}
	n.eventually("all is as before", asBefore)

	began := make(chan struct{})
	ended := make(chan error, 1)
	go func() {
		ended <- stream(t.Context(), "WebSocket v5", at, "/exec/default/app/app", remotecommand.StreamOptions{Stdout: on("began", func() { close(began) })}, script...)
	}()
	<-began
	n.kill()
	if err := <-ended; err == nil {
		t.Error("a command has ended well with its agent")
	}
	if left, err := os.ReadDir(pipes); err != nil || len(left) == 0 {
		t.Errorf("pipes of the agent that was killed: %v, %v", left, err)
	}
	n.restart()
	n.awaitReady("app")
	n.eventually("all is as before the agent was killed", asBefore)
	if now := n.pid(pod, "app"); now != main {
		t.Errorf("the container is process %d, was %d", now, main)
	}
}

// TestAContainerThatEndsEndsItsExecs has a command outlast its container.
func TestAContainerThatEndsEndsItsExecs(t *testing.T) {
	t.Parallel()
	n := launch(t)
	n.apply("app.yaml", simple("app", forever, "  restartPolicy: Never"))
	main := n.pid(n.awaitReady("app"), "app")
	at := n.relay()
	out := on("began", func() { _ = syscall.Kill(main, syscall.SIGKILL) })
	err := stream(t.Context(), "SPDY", at, "/exec/default/app/app", remotecommand.StreamOptions{Stdout: out}, "/bin/sh", "-c", "echo began; sleep 1000")
	var exited exec.CodeExitError
	if !errors.As(err, &exited) || exited.Code != 137 {
		t.Errorf("a command in a container that was killed: %v", err)
	}
}

// open are the files that a process has open, but for the input of terminals that are gone: a shim of containerd leaves closing
// those to its garbage collector.
func open(t *testing.T, pid int) (count int) {
	t.Helper()
	links, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, link := range links {
		if file, err := os.Readlink(link); err == nil && !strings.HasSuffix(file, ".in (deleted)") {
			count++
		}
	}
	return count
}
