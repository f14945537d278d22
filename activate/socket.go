package activate

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// listener is a socket that clients connect to, and that is never read from here: whoever is first stays in its queue for the
// program, which is given the socket.
type listener struct{ file *os.File }

func listen(address string) (*listener, error) {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	file, err := l.(*net.TCPListener).File()
	if err = errors.Join(err, l.Close()); err != nil {
		return nil, fmt.Errorf("keep socket: %w", err)
	}
	return &listener{file}, nil
}

// awaitClient returns when somebody waits to be accepted, or with ctx. It takes no thread.
func (l *listener) awaitClient(ctx context.Context) error {
	if err := l.file.SetReadDeadline(time.Time{}); err != nil {
		return fmt.Errorf("wait for clients: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { _ = l.file.SetReadDeadline(time.Now()) })
	defer stop()
	conn, err := l.file.SyscallConn()
	if err != nil {
		return fmt.Errorf("wait for clients: %w", err)
	}
	var failed error
	err = conn.Read(func(fd uintptr) (ready bool) {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
		if errors.Is(err, unix.EINTR) {
			n, err = 0, nil
		}
		failed = err
		return n > 0 || err != nil
	})
	if err = errors.Join(err, failed); err != nil {
		return fmt.Errorf("wait for clients: %w", err)
	}
	return nil
}

func (l *listener) close() { _ = l.file.Close() }
