// Package activate is the room of who waits for clients of the Kubernetes API: it listens, has a program started when the
// first one connects, and waits again when that has ended. While nobody asks it does nothing. It must not know what the
// program does, nor what the agent does: whatever happens here, Pods run.
//
//	activate.go  Run: listen, wait, start, and wait again
//	socket.go    the socket that clients connect to
//	program.go   the program: who it runs as, and what it is given
package activate

import (
	"context"
	"errors"
	"log/slog"
	"time"
)

// Config says who answers clients, and where.
type Config struct {
	Address string   // host:port
	Program string   // the path of what is started
	Args    []string // for it
	Account Account
	Prepare func() error // is called before each start
	Log     *slog.Logger
}

const (
	firstWait = time.Second
	mostWait  = time.Minute
	// settled is how long a program runs that is not to be waited with before it is started again.
	settled = 10 * time.Second
)

// Run listens, and has the program started whenever a client connects and none runs, until ctx ends; with it the program
// ends. What fails is logged, and tried again after a second, then after twice as long each time, up to a minute.
func Run(ctx context.Context, cfg Config) {
	l := bind(ctx, func() (*listener, error) { return listen(cfg.Address) }, cfg.Log)
	if l == nil {
		return
	}
	defer l.close()
	rounds(ctx, l.awaitClient, func() error { return serve(ctx, cfg, l) }, cfg.Log)
}

// bind listens as soon as the address is free: a program that outlives an agent that was killed holds it for a moment. It
// answers nil when ctx ends.
func bind(ctx context.Context, listen func() (*listener, error), log *slog.Logger) *listener {
	// Not worth a word is what is over after three seconds.
	for wait := 100 * time.Millisecond; ctx.Err() == nil; wait = min(2*wait, mostWait) {
		l, err := listen()
		if err == nil {
			return l
		}
		if wait > 2*time.Second {
			log.Error("the Kubernetes API cannot be offered, and is tried again", "error", err, "wait", wait)
		}
		sleep(ctx, wait)
	}
	return nil
}

// rounds waits for a client, and serves until the program has ended, again and again.
func rounds(ctx context.Context, awaitClient func(context.Context) error, serve func() error, log *slog.Logger) {
	for wait := firstWait; ctx.Err() == nil; {
		err := awaitClient(ctx)
		begun := time.Now()
		if err == nil {
			err = serve()
		}
		ran := time.Since(begun)
		if ctx.Err() != nil {
			return
		}
		if ran >= settled {
			wait = firstWait
		}
		if err == nil && ran >= settled {
			continue
		}
		if err == nil {
			err = errors.New("it ended at once")
		}
		log.Error("the Kubernetes API failed, and is started again", "error", err, "wait", wait)
		sleep(ctx, wait)
		wait = min(2*wait, mostWait)
	}
}

func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
