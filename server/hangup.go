package server

import (
	"fmt"
	"net"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// hangup watches for the other end of a connection to hang up, without reading from it: what was sent before may still wait to
// be read, behind a command that does not read its input.
type hangup struct {
	epoll *os.File // of the connection alone; the poller of Go watches this one
	done  chan struct{}
}

// watchHangup calls gone once when the other end hangs up before the watch is stopped.
func watchHangup(conn net.Conn, gone func()) (*hangup, error) {
	var raw syscall.RawConn
	socket, ok := conn.(syscall.Conn)
	err := fmt.Errorf("%T is no socket", conn)
	if ok {
		raw, err = socket.SyscallConn()
	}
	if err != nil {
		return nil, fmt.Errorf("watch connection: %w", err)
	}
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("watch connection: %w", err)
	}
	failed := raw.Control(func(fd uintptr) {
		err = unix.EpollCtl(epoll, unix.EPOLL_CTL_ADD, int(fd), &unix.EpollEvent{Events: unix.EPOLLRDHUP})
	})
	if err == nil {
		err = failed
	}
	if err == nil {
		err = unix.SetNonblock(epoll, true)
	}
	if err != nil {
		_ = unix.Close(epoll)
		return nil, fmt.Errorf("watch connection: %w", err)
	}
	h := &hangup{epoll: os.NewFile(uintptr(epoll), "hangup"), done: make(chan struct{})}
	events, err := h.epoll.SyscallConn()
	if err != nil {
		h.epoll.Close()
		return nil, fmt.Errorf("watch connection: %w", err)
	}
	go func() {
		defer close(h.done)
		var one [1]unix.EpollEvent
		if events.Read(func(fd uintptr) bool { n, err := unix.EpollWait(int(fd), one[:], 0); return err == nil && n > 0 }) == nil {
			gone()
		}
	}()
	return h, nil
}

// stop ends the watch.
func (h *hangup) stop() {
	_ = h.epoll.SetReadDeadline(time.Unix(1, 0))
	<-h.done
	h.epoll.Close()
}
