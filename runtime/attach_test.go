package runtime

import (
	"bytes"
	"context"
	"errors"
	"io"
	"testing"
)

// told is what is written to it, and wakes who waits for it.
type told struct {
	text bytes.Buffer
	want string
	then func()
}

func (t *told) Write(p []byte) (int, error) {
	t.text.Write(p)
	if t.then != nil && t.text.String() == t.want {
		t.then()
		t.then = nil
	}
	return len(p), nil
}

func TestWhoFollowsSeesWhatComes(t *testing.T) {
	t.Parallel()
	p := newPiped(t)
	stdout, stderr := p.writer(p.stdout), p.writer(p.stderr)
	l := p.open()
	first := l.follow()
	prompted := make(chan struct{})
	seen := &told{want: "begun\nprompt", then: func() { close(prompted) }}
	var complaints bytes.Buffer
	passed := make(chan error, 1)
	go func() { passed <- first.pass(t.Context(), seen, &complaints) }()
	p.put(stdout, "begun\npro")
	p.put(stdout, "mpt")
	<-prompted // without the end of the line
	late := l.follow()
	p.put(stdout, " answered\n")
	p.put(stderr, "complaint")
	if err := l.Finish(); err != nil {
		t.Fatal(err)
	}
	var rest bytes.Buffer
	if err := errors.Join(<-passed, late.pass(t.Context(), &rest, nil)); err != nil {
		t.Error(err)
	}
	if got := seen.text.String(); got != "begun\nprompt answered\n" || complaints.String() != "complaint" || rest.String() != " answered\n" {
		t.Errorf("they have seen %q and %q, and later %q", got, complaints.String(), rest.String())
	}
	l.unfollow(first)
	after := l.follow()
	if err := after.pass(t.Context(), io.Discard, nil); err != nil {
		t.Errorf("of a container that has ended: %v", err)
	}
	l.unfollow(after)
}

func TestWhoFollowsTooSlowlyIsCutOff(t *testing.T) {
	t.Parallel()
	p := newPiped(t)
	stdout := p.writer(p.stdout)
	l := p.open()
	f := l.follow()
	line := long(1023) + "\n"
	const lines = maxBehind/1024 + 1
	for range lines {
		p.put(stdout, line)
	}
	if err := l.Finish(); err != nil {
		t.Fatal(err)
	}
	if got := len(p.lines()); got != lines {
		t.Errorf("the log has %d lines, want %d", got, lines)
	}
	if err := f.pass(t.Context(), io.Discard, nil); !errors.Is(err, ErrBehind) {
		t.Errorf("who has taken nothing: %v", err)
	}
	if f.size != 0 || f.pieces != nil {
		t.Errorf("%d bytes wait for it", f.size)
	}
}

func TestWhoFollowsMayLeave(t *testing.T) {
	t.Parallel()
	p := newPiped(t)
	l := p.open()
	defer func() {
		if err := l.Finish(); err != nil {
			t.Error(err)
		}
	}()
	f := l.follow()
	left := errors.New("left")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(left)
	if err := f.pass(ctx, nil, nil); !errors.Is(err, left) {
		t.Errorf("it ended with %v", err)
	}
	l.unfollow(f)
	if l.followed.Load() {
		t.Error("nobody follows, and yet output is copied")
	}
}
