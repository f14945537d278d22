package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/types"
)

// What is written, how often it is read, and the goal: 200 MB a second.
const (
	logBytes  = 100_000_000
	logRounds = 5
	goalLog   = logBytes / 200_000 // ms
)

// counted counts bytes.
type counted int64

// Write counts.
func (c *counted) Write(p []byte) (int, error) {
	*c += counted(len(p))
	return len(p), nil
}

// runWriter runs a Pod that writes much into its log, and waits until that is whole.
func (b *bench) runWriter(ctx context.Context) (types.NamespacedName, error) {
	pod := types.NamespacedName{Namespace: "default", Name: b.names(1)[0]}
	if b.agent.broken != nil {
		return pod, b.agent.broken
	}
	write := fmt.Sprintf("yes %s | head -c %d; %s", strings.Repeat("x", 99), logBytes, command(pod.Name))
	manifest := bytes.Replace(b.lab.manifest(pod.Name), fmt.Appendf(nil, "%q", command(pod.Name)), fmt.Appendf(nil, "%q", write), 1)
	if err := os.WriteFile(b.agent.file(pod.Name), manifest, 0o644); err != nil {
		return pod, fmt.Errorf("write manifest: %w", err)
	}
	if err := b.agent.awaitReady(ctx, 1); err != nil {
		return pod, err
	}
	whole := func() (bool, error) {
		n, err := b.readLog(ctx, pod)
		return n >= logBytes, err
	}
	return pod, poll(ctx, 500*time.Millisecond, whole)
}

// readLog reads a log through the agent's socket.
func (b *bench) readLog(ctx context.Context, pod types.NamespacedName) (n counted, err error) {
	err = b.agent.client.Log(ctx, pod, "app", nil, &n)
	return n, err
}

// measureLogs measures how long it takes to read a large log through the socket.
func (b *bench) measureLogs(ctx context.Context) {
	b.once(ctx, "log", func(ctx context.Context) error {
		pod, err := b.runWriter(ctx)
		if err != nil {
			return err
		}
		var took []float64
		for range logRounds {
			begin := time.Now()
			if _, err := b.readLog(ctx, pod); err != nil {
				return err
			}
			took = append(took, ms(time.Since(begin))...)
		}
		b.report.add(Figure{Part: "logs", Name: "100 MB of a container's log, read", Unit: "ms", Values: took, Goal: goalLog})
		_, err = b.agent.remove(ctx, []string{pod.Name})
		return err
	})
}
