package activate

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

var errInUse = errors.New("address already in use")

func TestAnAddressThatIsHeldIsTriedAgain(t *testing.T) {
	t.Parallel()
	for sentence, c := range map[string]struct {
		held time.Duration
		says int
		most time.Duration
	}{
		"one that is free is taken at once":                               {0, 0, 0},
		"a program that outlives its agent for a moment is not talked of": {2 * time.Second, 0, 4 * time.Second},
		"what is held for longer is":                                      {20 * time.Second, 3, 40 * time.Second},
		"and is looked for once a minute":                                 {time.Hour, 64, time.Hour + time.Minute},
	} {
		t.Run(sentence, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				log, begun := &record{}, time.Now()
				want := &listener{}
				got := bind(t.Context(), func() (*listener, error) {
					if time.Since(begun) < c.held {
						return nil, errInUse
					}
					return want, nil
				}, slog.New(log))
				if took := time.Since(begun); got != want || took < c.held || took > c.most {
					t.Errorf("%v after %v", got, took)
				}
				if len(log.said) != c.says {
					t.Errorf("it says %q", log.said)
				}
			})
		})
	}
}

func TestWaitingForAnAddressEndsWithTheAgent(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		if l := bind(ctx, func() (*listener, error) { return nil, errInUse }, slog.New(&record{})); l != nil || ctx.Err() == nil {
			t.Errorf("%v, %v", l, ctx.Err())
		}
	})
}

// record keeps what is logged as errors, and lines of the program.
type record struct {
	slog.Handler
	said, lines []string
}

func (r *record) Enabled(context.Context, slog.Level) bool { return true }

func (r *record) Handle(_ context.Context, entry slog.Record) error {
	text := entry.Message
	entry.Attrs(func(a slog.Attr) bool {
		if a.Key == "api" {
			r.lines = append(r.lines, a.Value.String())
		}
		text += " " + a.String()
		return true
	})
	if entry.Level == slog.LevelError {
		r.said = append(r.said, text)
	}
	return nil
}

func TestHowSoonAProgramIsStartedAgain(t *testing.T) {
	t.Parallel()
	type life struct {
		ran time.Duration
		err error
	}
	fault := errors.New("exit status 1")
	for sentence, c := range map[string]struct {
		lives []life
		waits []time.Duration // after each, in seconds
		says  string
	}{
		"at once after a long life":                   {[]life{{ran: time.Hour}, {ran: settled}}, []time.Duration{0, 0}, ""},
		"later each time when it fails at once":       {[]life{{err: fault}, {err: fault}, {err: fault}}, []time.Duration{1, 2, 4}, "exit status 1"},
		"at last once a minute":                       {slices.Repeat([]life{{err: fault}}, 9), []time.Duration{1, 2, 4, 8, 16, 32, 60, 60, 60}, "exit status 1"},
		"later, too, when it is done at once":         {[]life{{}, {}}, []time.Duration{1, 2}, "it ended at once"},
		"after a second when it fails in the middle":  {[]life{{err: fault}, {err: fault}, {ran: time.Hour, err: fault}}, []time.Duration{1, 2, 1}, "exit status 1"},
		"after a second again, once it has been well": {[]life{{err: fault}, {err: fault}, {ran: time.Hour}, {err: fault}}, []time.Duration{1, 2, 0, 1}, "exit status 1"},
	} {
		t.Run(sentence, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				var waits []time.Duration
				var ended time.Time
				lives, log := c.lives, &record{}
				awaitClient := func(context.Context) error {
					if !ended.IsZero() {
						waits = append(waits, time.Since(ended)/time.Second)
					}
					if len(lives) == 0 {
						cancel()
						return ctx.Err()
					}
					time.Sleep(24 * time.Hour) // nobody asks for long
					return nil
				}
				rounds(ctx, awaitClient, func() error {
					now := lives[0]
					lives = lives[1:]
					time.Sleep(now.ran)
					ended = time.Now()
					return now.err
				}, slog.New(log))
				if !slices.Equal(waits, c.waits) {
					t.Errorf("it waits %d, want %d", waits, c.waits)
				}
				for _, text := range log.said {
					if c.says == "" || !strings.Contains(text, c.says) {
						t.Errorf("it says %s", text)
					}
				}
			})
		})
	}
}
