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

// measureLogs measures how long it takes to read a large log through the socket.
func (b *bench) measureLogs(ctx context.Context) {
	b.once(ctx, "log", func(ctx context.Context) error {
		if b.agent.broken != nil {
			return b.agent.broken
		}
		pod := b.names(1)[0]
		line := strings.Repeat("x", 99)
		write := fmt.Sprintf("yes %s | head -c %d; %s", line, logBytes, command(pod))
		manifest := bytes.Replace(b.lab.manifest(pod), fmt.Appendf(nil, "%q", command(pod)), fmt.Appendf(nil, "%q", write), 1)
		if err := os.WriteFile(b.agent.file(pod), manifest, 0o644); err != nil {
			return fmt.Errorf("write manifest: %w", err)
		}
		if err := b.agent.awaitReady(ctx, 1); err != nil {
			return err
		}
		key := types.NamespacedName{Namespace: "default", Name: pod}
		read := func() (counted, error) {
			var n counted
			err := b.agent.client.Log(ctx, key, "app", nil, &n)
			return n, err
		}
		whole := func() (bool, error) {
			n, err := read()
			return n >= logBytes, err
		}
		if err := poll(ctx, 500*time.Millisecond, whole); err != nil {
			return err
		}
		var took []float64
		for range logRounds {
			begin := time.Now()
			if _, err := read(); err != nil {
				return err
			}
			took = append(took, ms(time.Since(begin))...)
		}
		b.report.add(Figure{Part: "logs", Name: "100 MB of a container's log, read", Unit: "ms", Values: took, Goal: goalLog})
		_, err := b.agent.remove(ctx, []string{pod})
		return err
	})
}
