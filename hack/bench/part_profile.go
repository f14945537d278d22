package main

import (
	"context"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
)

// measureProfile takes a CPU profile of the agent while it starts many Pods at once, and its goroutines before, amid and
// after. The agent of that is one with the tag profile.
func (b *bench) measureProfile(ctx context.Context) {
	if b.profile == "" {
		return
	}
	b.takeTurns(ctx, 1, contender{"profile", false, func(ctx context.Context) error {
		err := b.takeProfile(ctx)
		if b.agent.broken == nil && ctx.Err() == nil {
			b.agent.broken = b.agent.reset(ctx)
		}
		return err
	}})
}

func (b *bench) takeProfile(ctx context.Context) error {
	if b.agent.broken != nil {
		return b.agent.broken
	}
	binary := b.binary
	if binary == "" {
		binary = b.lab.path("podkeeper-profile")
		if err := b.lab.goTool(ctx, "build", "-tags", "profile", "-o", binary, "./cmd/podkeeper"); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(b.profile, 0o755); err != nil {
		return fmt.Errorf("make folder of profiles: %w", err)
	}
	p := &profiler{dir: b.profile, socket: b.lab.path("profile.sock")}
	if err := b.agent.restart(syscall.SIGTERM, binary, "PODKEEPER_PROFILE="+p.socket); err != nil {
		return err
	}
	if err := b.agent.awaitReady(ctx, 0); err != nil {
		return err
	}
	if _, err := os.Stat(p.socket); err != nil {
		return fmt.Errorf("%s serves no profiles: go build -tags profile ./cmd/podkeeper makes one that does", binary)
	}
	took, err := b.profileMany(ctx, nil, 0) // as a profile lasts for a time that has to be said before
	if err != nil {
		return err
	}
	took, err = b.profileMany(ctx, p, took)
	if err != nil {
		return err
	}
	b.report.add(Figure{Part: "profile", Name: fmt.Sprintf("podkeeper: %d at once, the last; written to %s", b.pods, b.profile), Unit: "ms", Values: ms(took)})
	return nil
}

// profileMany starts many Pods, watched by a profiler, if there is one, for about as long as that will take; it answers
// how long it took.
func (b *bench) profileMany(ctx context.Context, p *profiler, about time.Duration) (time.Duration, error) {
	pods := b.names(b.pods)
	work, workCtx := errgroup.WithContext(ctx)
	if p != nil {
		if err := p.fetch(ctx, "goroutine?debug=2", "goroutines-before.txt"); err != nil {
			return 0, err
		}
		seconds := math.Ceil(about.Seconds()) + 1
		work.Go(func() error { return p.fetch(workCtx, fmt.Sprintf("profile?seconds=%.0f", seconds), "cpu.pprof") })
		work.Go(func() error {
			if err := sleep(workCtx, about/2); err != nil {
				return err
			}
			return p.fetch(workCtx, "goroutine?debug=2", "goroutines-amid.txt")
		})
	}
	took, err := b.agent.run(ctx, pods)
	if err != nil {
		return 0, err
	}
	if err := b.agent.awaitReady(ctx, len(pods)); err != nil {
		return 0, err
	}
	if err := work.Wait(); err != nil {
		return 0, err
	}
	if p != nil {
		if err := p.fetch(ctx, "goroutine?debug=2", "goroutines-after.txt"); err != nil {
			return 0, err
		}
	}
	_, err = b.agent.remove(ctx, pods)
	return slices.Max(took), err
}

// profiler fetches what net/http/pprof of an agent has.
type profiler struct{ dir, socket string }

// fetch writes a profile to a file.
func (p *profiler) fetch(ctx context.Context, what, file string) error {
	profile, err := get(ctx, p.socket, "/debug/pprof/"+what)
	if err != nil {
		return fmt.Errorf("take profile: %w", err)
	}
	if err := os.WriteFile(filepath.Join(p.dir, file), profile, 0o644); err != nil {
		return fmt.Errorf("keep profile: %w", err)
	}
	return nil
}
