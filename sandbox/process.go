package sandbox

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// kind is a kind of namespace, as /proc/<pid>/ns names it.
type kind string

// The kinds of namespaces that containers take from the process. The network namespace has a path of its own.
const (
	uts kind = "uts"
	ipc kind = "ipc"
	pid kind = "pid"

	users kind = "user"
)

// process is a pause process that is held: its pid may come to mean another, the handle does not.
type process struct {
	id     string
	pid    int
	own    []kind
	handle *os.File        // a pidfd in Go's poller, so that waiting for the end takes no thread
	conn   syscall.RawConn // handle's
	gone   chan struct{}   // closed once it has ended and is buried, or is let go

	mu   sync.Mutex
	open map[kind]int // namespaces that were handed out
}

// newProcess takes over a pidfd.
func newProcess(rec record, pidfd int) (*process, error) {
	if err := unix.SetNonblock(pidfd, true); err != nil {
		return nil, errors.Join(fmt.Errorf("hold process %d: %w", rec.PID, err), unix.Close(pidfd))
	}
	p := &process{id: rec.ID, pid: rec.PID, own: rec.Own, gone: make(chan struct{}), open: map[kind]int{}}
	p.handle = os.NewFile(uintptr(pidfd), "pidfd")
	conn, err := p.handle.SyscallConn()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("hold process %d: %w", rec.PID, err), p.handle.Close())
	}
	p.conn = conn
	return p, nil
}

// hold finds the process of a record again, nil where it is not there any more. That a pid is given to another in the
// instant between two looks does not matter: the handle is opened first.
func (h host) hold(rec record) (*process, error) {
	if rec.BootID != h.bootID || rec.PIDNamespace != h.pidNamespace {
		return nil, nil
	}
	pidfd, err := unix.PidfdOpen(rec.PID, 0)
	if errors.Is(err, unix.ESRCH) || errors.Is(err, unix.EINVAL) { // EINVAL: a thread has that number now
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("hold process %d: %w", rec.PID, err)
	}
	began, err := startTime(rec.PID)
	if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.ESRCH) {
		return nil, errors.Join(err, unix.Close(pidfd))
	}
	if err == nil && began == rec.StartTime {
		return newProcess(rec, pidfd)
	}
	return nil, unix.Close(pidfd)
}

// exited says whether the process of a pidfd has ended, whether it is buried or not.
func exited(pidfd uintptr) bool {
	for {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}, 0)
		if !errors.Is(err, unix.EINTR) {
			return n > 0
		}
	}
}

// ended says whether it has ended.
func (p *process) ended() bool {
	ended := true
	_ = p.conn.Control(func(fd uintptr) { ended = exited(fd) }) // fails once it is let go, and that is after its end
	return ended
}

// wait waits until it has ended, and says whether it has: else it was let go.
func (p *process) wait() bool { return p.conn.Read(exited) == nil }

// kill ends it.
func (p *process) kill() error {
	var err error
	if closed := p.conn.Control(func(fd uintptr) { err = unix.PidfdSendSignal(int(fd), unix.SIGKILL, nil, 0) }); closed != nil {
		return nil
	}
	if err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("kill process %d: %w", p.pid, err)
	}
	return nil
}

// bury takes note of the end of a child of this process; it is none where an earlier agent has started it.
func (p *process) bury() {
	_ = p.conn.Control(func(fd uintptr) {
		_ = unix.Waitid(unix.P_PIDFD, int(fd), nil, unix.WEXITED|unix.WNOHANG, nil)
	})
}

// release lets go of it.
func (p *process) release() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, fd := range p.open {
		_ = unix.Close(fd)
	}
	p.open = nil
	_ = p.handle.Close()
}

// namespace answers a path of a namespace that means this one for as long as the process is held, empty where it has none
// of its own.
func (p *process) namespace(k kind) (string, error) {
	if !slices.Contains(p.own, k) {
		return "", nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.open == nil {
		return "", errGone
	}
	fd, known := p.open[k]
	if !known {
		var err error
		if fd, err = unix.Open("/proc/"+strconv.Itoa(p.pid)+"/ns/"+string(k), unix.O_RDONLY|unix.O_CLOEXEC, 0); err != nil {
			return "", fmt.Errorf("open %s namespace: %w", k, err)
		}
		p.open[k] = fd
	}
	if p.ended() { // and so what was opened may have been another's
		return "", errGone
	}
	proc := "/proc/"
	if k == users {
		proc = "/proc/./" // runc from 1.2 on takes the number in /proc/<number>/ for that of a process in the namespace, whatever comes after it
	}
	return proc + strconv.Itoa(os.Getpid()) + "/fd/" + strconv.Itoa(fd), nil
}
