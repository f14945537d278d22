// Package idle is the room of how the process that serves the Kubernetes API begins and ends: it takes over the socket that
// clients connect to from who started it, and is over when no connection has been open for a while. It must not know what is
// served.
//
// Who starts the process (the agent, or systemd) goes on to hold the socket. A client that connects while the process ends
// stays in the socket's queue, and has the next one started.
package idle

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"sync"
	"time"
)

// ErrIdle is why Accept ends when no connection has been open for the time. None is open then, and none was accepted that
// is not served.
var ErrIdle = errors.New("no connection is open for long")

// socketFD is the first descriptor that is handed over, as sd_listen_fds has it.
const socketFD = 3

// Listen takes over the socket that is descriptor 3 where LISTEN_FDS=1 says so, which it removes from the environment, and
// else listens on an address. LISTEN_PID must be this process's where it is set, as systemd does; the agent, which cannot
// tell it before there is a process, leaves it out. Accept ends with [ErrIdle] when no connection has been open for that
// time; 0 is never.
func Listen(address string, after time.Duration) (*Listener, error) {
	l, err := takeOver()
	if err != nil {
		return nil, fmt.Errorf("take over socket: %w", err)
	}
	if l == nil {
		if l, err = net.Listen("tcp", address); err != nil {
			return nil, fmt.Errorf("listen: %w", err)
		}
	}
	return watch(l.(*net.TCPListener), after)
}

// takeOver answers the socket that was handed over, nil where there is none.
func takeOver() (net.Listener, error) {
	count, pid := os.Getenv("LISTEN_FDS"), os.Getenv("LISTEN_PID")
	if count == "" || pid != "" && pid != strconv.Itoa(os.Getpid()) {
		return nil, nil
	}
	if count != "1" {
		return nil, fmt.Errorf("LISTEN_FDS=%s: one is wanted", count)
	}
	for _, name := range []string{"LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"} {
		if err := os.Unsetenv(name); err != nil {
			return nil, err
		}
	}
	file := os.NewFile(socketFD, "socket")
	l, err := net.FileListener(file) // of a copy
	if err = errors.Join(err, file.Close()); err != nil {
		return nil, err
	}
	if _, ok := l.(*net.TCPListener); !ok {
		return nil, errors.Join(fmt.Errorf("it is %s: TCP is wanted", l.Addr().Network()), l.Close())
	}
	return l, nil
}

// interruptible is what Accept can be woken of.
type interruptible interface {
	net.Listener
	SetDeadline(time.Time) error
}

// Listener counts the connections that it has accepted until they are closed, those that were taken over from their server
// (hijacked), too.
type Listener struct {
	inner interruptible
	after time.Duration

	mu   sync.Mutex
	open int
	end  time.Time // when it is over, while none is open; else, and without such a time, zero
}

func watch(l interruptible, after time.Duration) (*Listener, error) {
	w := &Listener{inner: l, after: after}
	if err := w.count(0); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return w, nil
}

// count takes note of connections that come and go. What ends is the wait in Accept, where nothing that was accepted can
// be on its way.
func (l *Listener) count(more int) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open += more
	l.end = time.Time{}
	if l.open == 0 && l.after > 0 {
		l.end = time.Now().Add(l.after)
	}
	return l.inner.SetDeadline(l.end)
}

// over says whether none was open for the time.
func (l *Listener) over() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return !l.end.IsZero() && !time.Now().Before(l.end)
}

// Accept implements net.Listener. It is for one goroutine.
func (l *Listener) Accept() (net.Conn, error) {
	for {
		conn, err := l.inner.Accept()
		switch {
		case err == nil:
			if err := l.count(1); err != nil {
				return nil, errors.Join(err, conn.Close())
			}
			return &connection{Conn: conn, close: sync.OnceValue(func() error {
				_ = l.count(-1) // the listener may be closed by now
				return conn.Close()
			})}, nil
		case !errors.Is(err, os.ErrDeadlineExceeded):
			return nil, err
		case l.over():
			return nil, ErrIdle
		}
	}
}

// Addr implements net.Listener.
func (l *Listener) Addr() net.Addr { return l.inner.Addr() }

// Close implements net.Listener.
func (l *Listener) Close() error { return l.inner.Close() }

// connection is one that is counted.
type connection struct {
	net.Conn
	close func() error
}

// Close implements net.Conn. It may be called again.
func (c *connection) Close() error { return c.close() }
