package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"time"

	kubeletconfig "k8s.io/kubelet/config/v1beta1"

	"github.com/podkeeper/podkeeper/agent"
	"github.com/podkeeper/podkeeper/agent/evict"
	"github.com/podkeeper/podkeeper/logind"
)

// shutdownGroups are how long Pods have when the host shuts down, the lowest priority first, none where that is not configured
// (kubernetes/kubernetes pkg/kubelet/nodeshutdown, migrateConfig). What cannot be is told by wrong.
func shutdownGroups(cfg *kubeletconfig.KubeletConfiguration, wrong func(field, format string, args ...any)) (groups []agent.ShutdownGroup) {
	all, critical := cfg.ShutdownGracePeriod.Duration, cfg.ShutdownGracePeriodCriticalPods.Duration
	for field, period := range map[string]time.Duration{"shutdownGracePeriod": all, "shutdownGracePeriodCriticalPods": critical} {
		if period < 0 || period > 0 && period < time.Second {
			wrong(field, "is %s: must be at least 1s, or 0s for none", period)
		}
	}
	if critical > all {
		wrong("shutdownGracePeriodCriticalPods", "is %s: must be at most shutdownGracePeriod, which is %s and includes it", critical, all)
	}
	if all > 0 {
		groups = []agent.ShutdownGroup{{Period: all - critical}, {Priority: evict.SystemCritical, Period: critical}}
	}
	const field = "shutdownGracePeriodByPodPriority"
	if len(cfg.ShutdownGracePeriodByPodPriority) > 0 && (all != 0 || critical != 0) {
		wrong(field, "is set beside shutdownGracePeriod or shutdownGracePeriodCriticalPods: remove one or the other")
	}
	known := map[int32]bool{}
	for i, p := range cfg.ShutdownGracePeriodByPodPriority {
		if p.ShutdownGracePeriodSeconds < 0 {
			wrong(fmt.Sprintf("%s[%d].shutdownGracePeriodSeconds", field, i), "is %d: must not be negative", p.ShutdownGracePeriodSeconds)
		}
		if known[p.Priority] {
			wrong(fmt.Sprintf("%s[%d].priority", field, i), "is %d, as that of one before: remove one", p.Priority)
		}
		known[p.Priority] = true
		groups = append(groups, agent.ShutdownGroup{Priority: p.Priority, Period: time.Duration(p.ShutdownGracePeriodSeconds) * time.Second})
	}
	slices.SortFunc(groups, func(x, y agent.ShutdownGroup) int { return cmp.Compare(x.Priority, y.Priority) })
	return groups
}

// shutdownPeriod is how long all groups have together.
func shutdownPeriod(groups []agent.ShutdownGroup) (sum time.Duration) {
	for _, g := range groups {
		sum += g.Period
	}
	return sum
}

// How soon logind is tried again that was not to be had, and the longest time between tries.
const (
	logindRetry    = time.Second
	logindMaxRetry = time.Minute
)

// shutdowns has Pods end before the host shuts down: logind tells of that, and waits with it.
type shutdowns struct {
	agent  *agent.Agent
	off    bool // it is not configured
	period time.Duration
	log    *slog.Logger

	lock   io.Closer // has logind wait; nil is none
	ending func()    // gives up the end of Pods, and waits until it is given up; nil: none is under way
	short  string    // why logind waits for less than the period, as was told last
}

// watchesShutdowns is what watches for shutdowns. A host that shuts down by now has the agent begin nothing.
func watchesShutdowns(ctx context.Context, a *agent.Agent, groups []agent.ShutdownGroup, log *slog.Logger) *shutdowns {
	s := &shutdowns{agent: a, off: len(groups) == 0, period: shutdownPeriod(groups), log: log}
	if s.off {
		return s
	}
	if conn, err := logind.Connect(ctx); err == nil { // else run tells of it
		defer conn.Close()
		if preparing, err := conn.Preparing(ctx); err == nil {
			a.ShutsDown(ctx, preparing)
		}
	}
	return s
}

// run watches until ctx ends. It begins once the agent knows of all that runs.
func (s *shutdowns) run(ctx context.Context) {
	if s.off {
		return
	}
	defer func() {
		s.giveUp()
		s.release()
	}()
	told := ""
	for wait := logindRetry; ctx.Err() == nil; wait = min(2*wait, logindMaxRetry) {
		begin := time.Now()
		err := s.watch(ctx)
		if ctx.Err() != nil {
			return
		}
		if time.Since(begin) > logindMaxRetry { // it was there for a while
			wait, told = logindRetry, ""
		}
		if err.Error() != told && !s.agent.ShuttingDown() { // else the bus goes as everything does
			told = err.Error()
			s.log.Error("pods may have no time of their own when the host shuts down (shutdownGracePeriod): logind is not to be had, and is tried again", "error", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
	}
}

// errLost ends a connection that was there.
var errLost = errors.New("the connection to the system bus is lost")

// watch does what logind tells until the connection is lost. A signal says only that there may be something new: anybody may send one.
func (s *shutdowns) watch(ctx context.Context) error {
	conn, err := logind.Connect(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	for waits := false; ; {
		preparing, err := conn.Preparing(ctx)
		if err != nil {
			return err
		}
		switch {
		case preparing:
			s.begin(ctx)
		case !waits || s.ending != nil:
			if err := s.resume(ctx, conn); err != nil {
				return err
			}
			waits = true
			s.allow(ctx, conn)
			s.log.Info("shutdowns of the host wait for pods", "period", s.period)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case _, more := <-conn.Changed():
			if !more {
				return errLost
			}
		}
	}
}

// allow has logind wait for as long as Pods may take, where it may not do so by now.
func (s *shutdowns) allow(ctx context.Context, conn *logind.Conn) {
	err := conn.Allow(ctx, "/", s.period)
	if err == nil || ctx.Err() != nil {
		s.short = ""
		return
	}
	if s.short != err.Error() {
		s.short = err.Error()
		s.log.Warn("pods have less time when the host shuts down than is configured (shutdownGracePeriod)", "period", s.period, "error", err)
	}
}

// begin has the agent end Pods, and lets the host shut down then.
func (s *shutdowns) begin(ctx context.Context) {
	if s.ending != nil {
		return
	}
	s.agent.ShutsDown(ctx, true)
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	lock := s.lock
	go func() {
		defer close(done)
		s.agent.EndPods(ctx)
		if lock != nil && ctx.Err() == nil {
			s.log.Info("the host may shut down now")
			_ = lock.Close()
		}
	}()
	s.ending = func() {
		cancel()
		<-done
	}
}

// resume has the next shutdown wait, after one that was given up as well.
func (s *shutdowns) resume(ctx context.Context, conn *logind.Conn) error {
	s.giveUp()
	s.agent.ShutsDown(ctx, false)
	lock, err := conn.Inhibit(ctx, "podkeeper", "Pods end by their priority, each in its own time")
	if err != nil {
		return err
	}
	s.release()
	s.lock = lock
	return nil
}

// giveUp stops the end of Pods.
func (s *shutdowns) giveUp() {
	if s.ending != nil {
		s.ending()
		s.ending = nil
	}
}

// release has a shutdown wait no longer.
func (s *shutdowns) release() {
	if s.lock != nil {
		_ = s.lock.Close()
		s.lock = nil
	}
}
