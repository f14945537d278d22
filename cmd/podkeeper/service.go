package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	containerdlog "github.com/containerd/log"
	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/coreos/go-systemd/v22/journal"
	v1 "k8s.io/api/core/v1"
	"k8s.io/klog/v2"
)

// newLog logs to the journal where systemd reads our standard error stream, with priorities and the fields POD and
// CONTAINER; elsewhere as text. The level may change at any time.
func newLog(level slog.Leveler) *slog.Logger {
	if ours, err := journal.StderrIsJournalStream(); err == nil && ours {
		return slog.New(&journalHandler{level: level})
	}
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level}))
}

// quietLibraries has containerd's libraries log what is at least this bad, and Kubernetes' nothing: what they log they also answer as
// errors.
func quietLibraries(least containerdlog.Level) error {
	if err := containerdlog.SetLevel(least.String()); err != nil {
		return fmt.Errorf("set log level: %w", err)
	}
	klog.SetSlogLogger(slog.New(slog.DiscardHandler))
	return nil
}

// journalHandler writes records to systemd's journal.
type journalHandler struct {
	level slog.Leveler
	attrs []slog.Attr
}

// Enabled implements slog.Handler.
func (h *journalHandler) Enabled(_ context.Context, level slog.Level) bool {
	return level >= h.level.Level()
}

// Handle implements slog.Handler: every attribute is a field of the entry, and part of its text.
func (h *journalHandler) Handle(_ context.Context, r slog.Record) error {
	fields := map[string]string{}
	text := r.Message
	add := func(a slog.Attr) bool {
		name := strings.Map(func(c rune) rune {
			if c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' {
				return c
			}
			return '_'
		}, strings.ToUpper(a.Key))
		fields[strings.TrimLeft(name, "_0123456789")] = a.Value.String()
		text += fmt.Sprintf(" %s=%q", a.Key, a.Value.String())
		return true
	}
	for _, a := range h.attrs {
		add(a)
	}
	r.Attrs(add)
	delete(fields, "")
	return journal.Send(text, priority(r.Level), fields)
}

func priority(level slog.Level) journal.Priority {
	switch {
	case level >= slog.LevelError:
		return journal.PriErr
	case level >= slog.LevelWarn:
		return journal.PriWarning
	case level < slog.LevelInfo:
		return journal.PriDebug
	default:
		return journal.PriInfo
	}
}

// WithAttrs implements slog.Handler.
func (h *journalHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &journalHandler{level: h.level, attrs: append(h.attrs[:len(h.attrs):len(h.attrs)], attrs...)}
}

// WithGroup implements slog.Handler; the agent has no groups.
func (h *journalHandler) WithGroup(string) slog.Handler { return h }

// service tells systemd how the agent is. Without systemd it does nothing.
type service struct {
	pods  func() []v1.Pod
	alive func() error // nil while the loops that do the work go round
	log   *slog.Logger
}

func notify(state string) { _, _ = daemon.SdNotify(false, state) }

// run keeps systemd told until ctx ends: the status line, and the watchdog, which is fed only while the work goes on.
func (s *service) run(ctx context.Context) {
	interval, err := daemon.SdWatchdogEnabled(false)
	if err != nil || interval == 0 {
		interval = time.Minute
	}
	if os.Getenv("NOTIFY_SOCKET") == "" {
		return
	}
	ticker := time.NewTicker(interval / 3)
	defer ticker.Stop()
	for {
		if err := s.alive(); err != nil {
			s.log.Error("the agent is stuck, and lets the watchdog end it", "error", err)
		} else {
			notify(daemon.SdNotifyWatchdog + "\nSTATUS=" + s.status())
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// status counts Pods by phase.
func (s *service) status() string {
	counts := map[v1.PodPhase]int{}
	for _, p := range s.pods() {
		counts[p.Status.Phase]++
	}
	text := fmt.Sprintf("%d Pods running", counts[v1.PodRunning])
	for _, phase := range []v1.PodPhase{v1.PodPending, v1.PodSucceeded, v1.PodFailed} {
		if counts[phase] > 0 {
			text += fmt.Sprintf(", %d %s", counts[phase], strings.ToLower(string(phase)))
		}
	}
	return text
}

// onReload calls reload at each SIGHUP until ctx ends.
func onReload(ctx context.Context, reload func()) {
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	for {
		select {
		case <-ctx.Done():
			return
		case <-hup:
			reload()
		}
	}
}

// becomeAnew replaces this process by a fresh one of the same program and arguments. Pods run on and are taken over, so
// that a new configuration needs no code that changes anything in place.
func becomeAnew() error {
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find own program: %w", err)
	}
	if err := syscall.Exec(self, os.Args, os.Environ()); err != nil {
		return fmt.Errorf("start anew: %w", err)
	}
	return nil
}
