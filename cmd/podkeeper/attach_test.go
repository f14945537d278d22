package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/remotecommand"
)

// TestAttachToATerminal talks with a process that prompts, twice: the end of the input detaches, and no more.
func TestAttachToATerminal(t *testing.T) {
	t.Parallel()
	n := launch(t)
	n.apply("tty.yaml", simple("tty", `while printf '> '; read line; do echo got $line at $(stty size); done; echo ended; `+forever)+"    stdin: true\n    stdinOnce: true\n    tty: true\n")
	pod := n.awaitReady("tty")
	at, main := n.relay(), n.pid(pod, "app")
	for _, protocol := range []string{"SPDY", "WebSocket v5"} {
		input, write := io.Pipe()
		resize := make(sizes, 1)
		resize <- remotecommand.TerminalSize{Width: 123, Height: 45}
		// Until the size is there, which is set beside what is written.
		screen := &heard{waits: map[string]func(){}}
		again := func() { go func() { _, _ = io.WriteString(write, "hello\n") }() }
		screen.each = func(text string) {
			switch {
			case strings.Contains(text, "got hello at 45 123\r\n> "):
				write.Close()
			case strings.HasSuffix(text, "\r\n> "):
				again()
			}
		}
		again()
		err := stream(t.Context(), protocol, at, "/attach/default/tty/app", remotecommand.StreamOptions{Stdin: input, Stdout: screen, Tty: true, TerminalSizeQueue: resize})
		close(resize)
		if err != nil || strings.Contains(screen.text.String(), "ended") {
			t.Errorf("%s: %v, %q", protocol, err, screen.text.String())
		}
	}
	if now := n.pid(pod, "app"); now != main {
		t.Errorf("the container is process %d, was %d", now, main)
	}
}

// keptOverKill are the logs that lines may come to when the agent is killed after the second one: what it wrote last, and had not taken
// out of the pipe yet, the next one writes again (runtime/logs.go).
func keptOverKill(lines []string) []string {
	var all []string
	for _, again := range [][]string{nil, lines[1:2], lines[:2]} {
		all = append(all, strings.Join(slices.Concat(lines[:2], again, lines[2:]), "\n")+"\n")
	}
	return all
}

// TestAttachToWhatIsReadOnce has a container read 5 MB, half of them from a client whose agent is killed, until their end, and
// then write while its log is whole, too.
func TestAttachToWhatIsReadOnce(t *testing.T) {
	t.Parallel()
	n := launch(t)
	const lines = 20_000
	script := fmt.Sprintf(`head -c %d | sha256sum; echo half; sha256sum; i=0; while [ $i -lt %d ]; do i=$((i+1)); echo line $i; echo complaint $i >&2; done; exit 3`, 5<<19, lines)
	n.apply("once.yaml", simple("once", script, "  restartPolicy: Never")+"    stdin: true\n    stdinOnce: true\n")
	pod := n.awaitReady("once")
	at, main := n.relay(), n.pid(pod, "app")
	first, second := make([]byte, 5<<19), make([]byte, 5<<19)
	_, _ = rand.Read(first)
	_, _ = rand.Read(second)
	sum := func(b []byte) string { return fmt.Sprintf("%x  -", sha256.Sum256(b)) }
	input, write := io.Pipe()
	defer write.Close()
	half, ended := make(chan struct{}), make(chan error, 1)
	go func() { _, _ = write.Write(first) }()
	go func() {
		ended <- stream(t.Context(), "WebSocket v5", at, "/attach/default/once/app", remotecommand.StreamOptions{
			Stdin: input, Stdout: on("half\n", func() { close(half) }), Stderr: io.Discard,
		})
	}()
	select {
	case <-half:
	case err := <-ended:
		t.Fatal(err)
	}
	n.kill()
	if err := <-ended; err == nil {
		t.Error("who was attached to a container that runs on was told that it has ended")
	}
	n.restart()
	n.awaitReady("once")
	if now := n.pid(pod, "app"); now != main {
		t.Fatalf("the container is process %d, was %d", now, main)
	}
	var out, errs bytes.Buffer
	err := stream(t.Context(), "SPDY", at, "/attach/default/once/app", remotecommand.StreamOptions{Stdin: bytes.NewReader(second), Stdout: &out, Stderr: &errs})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string][]string{"Stdout": {sum(first), "half", sum(second)}}
	for i := range lines {
		want["Stdout"] = append(want["Stdout"], fmt.Sprintf("line %d", i+1))
		want["Stderr"] = append(want["Stderr"], fmt.Sprintf("complaint %d", i+1))
	}
	if got := strings.Join(want["Stdout"][2:], "\n") + "\n"; out.String() != got {
		t.Errorf("attached to stdout: %d bytes, want %d", out.Len(), len(got))
	}
	if got := strings.Join(want["Stderr"], "\n") + "\n"; errs.String() != got {
		t.Errorf("attached to stderr: %d bytes, want %d", errs.Len(), len(got))
	}
	if p := n.awaitPhase("once", v1.PodFailed); containerStatus(p, "app").State.Terminated.ExitCode != 3 {
		t.Errorf("it ended with %+v", containerStatus(p, "app").State.Terminated)
	}
	for name, lines := range want {
		var log bytes.Buffer
		query := url.Values{"stream": {name}}
		err := n.client().Log(t.Context(), types.NamespacedName{Namespace: "default", Name: "once"}, "app", query, &log)
		if err != nil || !slices.ContainsFunc(keptOverKill(lines), func(text string) bool { return log.String() == text }) {
			t.Errorf("the log of %s has %d bytes: %v", name, log.Len(), err)
		}
	}
	err = stream(t.Context(), "WebSocket v5", at, "/attach/default/once/app", remotecommand.StreamOptions{Stdout: &out})
	if err == nil || !strings.Contains(err.Error(), "container app not found in pod once_default") {
		t.Errorf("to a container that is done: %v", err)
	}
}

// TestWhoLeavesEndsWhatIsReadOnce has a client go away amid its input, over each protocol.
func TestWhoLeavesEndsWhatIsReadOnce(t *testing.T) {
	t.Parallel()
	n := launch(t)
	for i, protocol := range []string{"SPDY", "WebSocket v5", "WebSocket v4"} {
		name := fmt.Sprintf("once-%d", i)
		n.apply(name+".yaml", simple(name, "echo begins; cat; echo; echo ended", "  restartPolicy: Never")+"    stdin: true\n    stdinOnce: true\n")
		n.awaitReady(name)
		at := n.relay()
		ctx, cancel := context.WithCancel(t.Context())
		input, write := io.Pipe()
		go func() { _, _ = io.WriteString(write, "hello") }()
		err := stream(ctx, protocol, at, "/attach/default/"+name+"/app", remotecommand.StreamOptions{Stdin: input, Stdout: on("hello", cancel)})
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", protocol, err)
		}
		write.Close()
		pod := n.awaitPhase(name, v1.PodSucceeded)
		n.says(pod, "app", "begins", "hello", "ended")
		cancel()
	}
}
