package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"
)

const (
	// socketName is the file in the run directory that the agent listens on.
	socketName = "podkeeper.sock"
	// groupSocketName is the one for those who are not root.
	groupSocketName = "podkeeper-api.sock"
	// maxSocketPath is the longest path in bytes that an address of a Unix socket has room for (struct sockaddr_un,
	// less the final zero).
	maxSocketPath = 107
	// shutdownTime is how long requests that are being answered have to end.
	shutdownTime = 5 * time.Second
	// headerTime is how long a client may take to say what it wants.
	headerTime = 10 * time.Second
)

// Listen listens on runDir/podkeeper.sock, for its owner only, and makes runDir where it is missing. The agent that
// listens holds a lock on runDir, which the kernel drops however that agent ends: so the socket of a dead agent is
// replaced, and where one lives Listen is an error that says so, after two seconds in which one that was just killed
// lets go. The socket appears under its name only when it is ready.
func Listen(runDir string) (_ net.Listener, err error) {
	path, err := socketPath(runDir, socketName)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(runDir, 0o755); err != nil {
		return nil, fmt.Errorf("make run directory: %w", err)
	}
	lock, err := lockDir(runDir)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, lock.Close())
		}
	}()
	l, err := listen(path, 0o600, -1)
	if err != nil {
		return nil, err
	}
	return newSocket(l, path, lock), nil
}

// ListenForGroup listens on runDir/podkeeper-api.sock for root and for a group, which may reach into runDir, where it may
// not already, but not list it. Only the agent that listens on podkeeper.sock, and so holds the lock on runDir, may call it.
func ListenForGroup(runDir string, group int) (net.Listener, error) {
	path, err := socketPath(runDir, groupSocketName)
	if err != nil {
		return nil, err
	}
	if err := letThrough(runDir, group); err != nil {
		return nil, fmt.Errorf("let group %d through %s: %w", group, runDir, err)
	}
	l, err := listen(path, 0o660, group)
	if err != nil {
		return nil, err
	}
	return newSocket(l, path, io.NopCloser(nil)), nil
}

// letThrough lets a group use what it knows by name in a folder.
func letThrough(dir string, group int) error {
	info, err := os.Stat(dir)
	if err != nil || info.Mode()&0o001 != 0 {
		return err
	}
	return errors.Join(os.Chown(dir, -1, group), os.Chmod(dir, 0o710))
}

// fresh ends the name of a socket that is not ready yet.
const fresh = ".new"

// socketPath is where a socket is, if an address has room for it.
func socketPath(runDir, name string) (string, error) {
	path := filepath.Join(runDir, name)
	if len(path+fresh) > maxSocketPath {
		return "", fmt.Errorf("listen on %s: the path is too long for a socket, choose a run directory of at most %d bytes",
			path, maxSocketPath-len("/"+name+fresh))
	}
	return path, nil
}

// listen makes a socket, and gives it its name when it is its owner's and its group's alone.
func listen(path string, mode os.FileMode, group int) (*net.UnixListener, error) {
	if err := remove(path + fresh); err != nil {
		return nil, err
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path + fresh, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	l.SetUnlinkOnClose(false)
	if err = errors.Join(os.Chown(path+fresh, -1, group), os.Chmod(path+fresh, mode)); err != nil {
		err = fmt.Errorf("restrict socket: %w", err)
	} else if err = os.Rename(path+fresh, path); err != nil {
		err = fmt.Errorf("name socket: %w", err)
	}
	if err != nil {
		return nil, errors.Join(err, l.Close(), remove(path+fresh))
	}
	return l, nil
}

// remove removes a file that may not be there.
func remove(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove socket: %w", err)
	}
	return nil
}

// socket is a listener that takes its file and its lock with it.
type socket struct {
	*net.UnixListener
	path  string
	close func() error
}

func newSocket(l *net.UnixListener, path string, lock io.Closer) *socket {
	return &socket{UnixListener: l, path: path, close: sync.OnceValue(func() error {
		return errors.Join(l.Close(), remove(path), lock.Close())
	})}
}

// Addr is the path that clients use.
func (s *socket) Addr() net.Addr { return &net.UnixAddr{Name: s.path, Net: "unix"} }

// Close stops listening, removes the socket and lets go of the lock. It may be called again.
func (s *socket) Close() error { return s.close() }

// errStops is why requests end with the agent.
var errStops = errors.New("the agent stops")

// Serve answers requests until the context ends, then lets those that are being answered end (for 5 seconds) and
// returns nil. It closes l.
func Serve(ctx context.Context, l net.Listener, h http.Handler) error {
	base, end := context.WithCancelCause(context.WithoutCancel(ctx))
	defer end(nil)
	var answering sync.WaitGroup // those, too, that are streams by now: of these the server knows nothing any more
	srv := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			answering.Add(1)
			defer answering.Done()
			h.ServeHTTP(w, r)
		}),
		ReadHeaderTimeout: headerTime,
		BaseContext:       func(net.Listener) context.Context { return base }, // who follows a log is let go of
	}
	down := make(chan error, 1)
	stop := context.AfterFunc(ctx, func() {
		end(errStops)
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTime)
		defer cancel()
		err := srv.Shutdown(ctx)
		if err == nil { // so that none begins any more
			err = await(ctx, answering.Wait)
		}
		down <- err
	})
	if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		stop()
		return fmt.Errorf("serve %s: %w", l.Addr(), err)
	}
	if err := <-down; err != nil {
		return errors.Join(fmt.Errorf("end requests: %w", err), srv.Close())
	}
	return nil
}

// await returns when wait does, or with an error when ctx ends.
func await(ctx context.Context, wait func()) error {
	ended := make(chan struct{})
	go func() { wait(); close(ended) }()
	select {
	case <-ended:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
