package runtime

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Sizes of the log path.
const (
	pipeCapacity = 1 << 20 // what a container may write while no agent runs before it has to wait
	scratchSize  = 64 << 10
)

// logRetry is how long a pipe waits for the disk to have room.
const logRetry = time.Second

// Log carries the output of one container instance from its two pipes to its log file, in CRI's format
// (`RFC3339Nano stdout|stderr F|P text`).
//
// The pipe is the buffer: what is read is first looked at with tee(2), written to the file, and only then taken out of the
// pipe. So an agent that is killed at any instant loses nothing, and the move that it was killed in is ended by the next one.
type Log struct {
	file    *logFile
	streams []*logStream
	done    sync.WaitGroup

	followed  atomic.Bool // by anybody
	mu        sync.Mutex
	followers map[*follower]bool // nil once no more will come
}

// OpenLog starts to carry what is in the pipes, and what comes, to the file. The pipes must exist.
func (r *Runtime) OpenLog(stdout, stderr, file string) (*Log, error) {
	out, err := openLogFile(file, r.cfg.LogMaxSize, r.cfg.LogFiles)
	if err != nil {
		return nil, err
	}
	l := &Log{file: out, followers: map[*follower]bool{}}
	for name, pipe := range map[string]string{"stdout": stdout, "stderr": stderr} {
		s, err := openLogStream(name, pipe, out, r.scratch)
		if err != nil {
			return nil, errors.Join(err, l.Close())
		}
		s.show = func(text []byte) { l.show(s.name, text) }
		l.streams = append(l.streams, s)
	}
	for _, s := range l.streams {
		l.done.Go(s.run)
	}
	return l, nil
}

// Finish reads what is left in the pipes and closes the file. Call it when the container's task is deleted: then the shim
// has passed on everything.
func (l *Log) Finish() error {
	for _, s := range l.streams {
		s.final.Store(true)
	}
	return l.Close()
}

// Close stops; what is in the pipes stays there for the next OpenLog.
func (l *Log) Close() error {
	var errs []error
	for _, s := range l.streams {
		if s.closing.CompareAndSwap(false, true) {
			close(s.stop)
		}
		errs = append(errs, s.pipe.SetReadDeadline(time.Unix(1, 0)))
	}
	l.done.Wait()
	l.mu.Lock()
	for f := range l.followers {
		f.end()
	}
	l.followers = nil
	l.mu.Unlock()
	for _, s := range l.streams {
		errs = append(errs, s.pipe.Close())
	}
	return errors.Join(append(errs, l.file.Close())...)
}

// Grown answers a channel that is closed when there is more in the file than at the call, or nil where no more will be written.
func (l *Log) Grown() <-chan struct{} { return l.file.grown() }

// follow begins to copy what comes for somebody who attaches.
func (l *Log) follow() *follower {
	f := &follower{ready: make(chan struct{}, 1)}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.followers == nil {
		f.end()
		return f
	}
	l.followers[f] = true
	l.followed.Store(true)
	return f
}

func (l *Log) unfollow(f *follower) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.followers, f)
	l.followed.Store(len(l.followers) > 0)
}

// show copies some output for all who follow.
func (l *Log) show(stream string, text []byte) {
	if !l.followed.Load() {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for f := range l.followers {
		f.push(stream, text)
	}
}

// logStream is one pipe on its way to the file.
type logStream struct {
	name    string
	pipe    *os.File
	out     *logFile
	scratch chan *scratch
	show    func([]byte) // to who follows
	shown   int          // bytes at the head of the pipe that were: a line that is not whole yet is shown, and stays there
	closing atomic.Bool
	stop    chan struct{} // closed then
	final   atomic.Bool   // the writer is gone: a last line without newline is whole
}

func openLogStream(name, pipe string, out *logFile, scratch chan *scratch) (*logStream, error) {
	f, err := openPipe(pipe)
	if err != nil {
		return nil, err
	}
	raw, err := f.SyscallConn()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open log pipe: %w", err), f.Close())
	}
	s := &logStream{name: name, pipe: f, out: out, scratch: scratch, show: func([]byte) {}, stop: make(chan struct{})}
	_ = raw.Control(func(fd uintptr) {
		// A smaller pipe is no fault: the system may limit its size.
		_, _ = unix.FcntlInt(fd, unix.F_SETPIPE_SZ, pipeCapacity)
		s.endMove(int(fd))
	})
	return s, nil
}

// run carries until it is stopped; an idle stream holds no buffer.
func (s *logStream) run() {
	raw, err := s.pipe.SyscallConn()
	if err != nil {
		return
	}
	for full := true; full; {
		// The wait ends by the deadline that Close sets, and where the disk is full, so that it is tried again.
		err = raw.Read(func(fd uintptr) bool { full = !s.carry(int(fd)); return full })
		full = full && err == nil
		if full {
			select {
			case <-s.stop:
			case <-time.After(logRetry):
			}
		}
	}
	if s.final.Load() {
		// First whole lines only: what is seen of a full pipe at once may end inside of one.
		_ = raw.Control(func(fd uintptr) { s.empty(int(fd), false); s.empty(int(fd), true) })
	}
}

// carry moves whole lines until the pipe has no more of them, or the log is closed: some writers never pause. It says whether
// there was room for them.
func (s *logStream) carry(pipe int) bool {
	for !s.closing.Load() {
		if taken, err := s.step(pipe, false); err != nil || taken == 0 {
			return err == nil
		}
	}
	return true
}

// empty moves what is in the pipe now: whole lines, and with final what is left too.
func (s *logStream) empty(pipe int, final bool) {
	for left := pipeCapacity; left > 0; {
		taken, _ := s.step(pipe, final)
		if taken == 0 {
			return
		}
		left -= taken
	}
}

// step moves what can be moved at once, and answers how many bytes that were. What the disk takes no more stays in the pipe, and
// the error says so; but for what has to go so that the container is not held up. The file is held for as long, so that a move that
// is not done is the last thing in it.
func (s *logStream) step(pipe int, final bool) (taken int, err error) {
	s.out.mu.Lock()
	defer s.out.mu.Unlock()
	now := time.Now()
	taken, sum := s.look(pipe, final, now)
	if taken == 0 {
		s.out.rest()
		return 0, nil
	}
	move{Inode: s.out.inode, Offset: s.out.size, Length: int64(len(s.out.line)), Taken: int64(taken), Sum: sum}.keep(pipe)
	if err := s.out.write(); err != nil && !final && !isNearlyFull(pipe) {
		return 0, err
	}
	if s.take(pipe, taken) != nil {
		return 0, nil
	}
	forgetMove(pipe)
	s.out.rotateFull(now)
	return taken, nil
}

// look has the file's line be what of the head of a pipe can be moved, and answers how many bytes of the pipe that is, and their
// sum. The buffers are everybody's: one is held for a copy, never while something is waited for, and then others have their turn.
func (s *logStream) look(pipe int, final bool, now time.Time) (taken int, sum uint32) {
	buffer := <-s.scratch
	defer func() { s.scratch <- buffer }()
	seen, err := buffer.peek(pipe)
	if err != nil {
		return 0, 0
	}
	if s.shown < len(seen) {
		s.show(seen[s.shown:])
		s.shown = len(seen)
	}
	entries, taken := splitLines(seen, final)
	s.out.line = appendEntries(s.out.line[:0], now, s.name, entries)
	return taken, sumOf(seen[:taken])
}

// take takes bytes out of a pipe.
func (s *logStream) take(pipe, n int) error {
	buffer := <-s.scratch
	defer func() { s.scratch <- buffer }()
	err := buffer.drop(pipe, n)
	if err == nil {
		s.shown -= n
	}
	return err
}

// isNearlyFull says whether who writes to a pipe would soon have to wait.
func isNearlyFull(pipe int) bool {
	waits, err := unix.IoctlGetInt(pipe, unix.TIOCINQ) // FIONREAD
	has, sizeErr := unix.FcntlInt(uintptr(pipe), unix.F_GETPIPE_SZ, 0)
	return err != nil || sizeErr != nil || waits > has/2
}

// scratch is a pipe to look at another one's content with, and memory for it. A few serve all streams.
type scratch struct {
	read, write int
	memory      []byte
}

// newScratch makes n of them.
func newScratch(n int) (chan *scratch, error) {
	pool := make(chan *scratch, n)
	for range n {
		var ends [2]int
		if err := unix.Pipe2(ends[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
			return nil, fmt.Errorf("make pipe: %w", err)
		}
		pool <- &scratch{read: ends[0], write: ends[1], memory: make([]byte, scratchSize)}
	}
	return pool, nil
}

// peek answers what is at the head of a pipe without taking it out.
func (b *scratch) peek(pipe int) ([]byte, error) {
	n, err := unix.Tee(pipe, b.write, scratchSize, unix.SPLICE_F_NONBLOCK)
	if err != nil || n == 0 {
		return nil, err
	}
	got := 0
	for got < int(n) {
		m, err := unix.Read(b.read, b.memory[got:n])
		if err != nil {
			return nil, fmt.Errorf("read copied output: %w", err)
		}
		got += m
	}
	return b.memory[:n], nil
}

// drop takes n bytes out of a pipe. It may write over the memory: what peek answered is gone.
func (b *scratch) drop(pipe, n int) error {
	for n > 0 {
		m, err := unix.Read(pipe, b.memory[:n])
		if err != nil {
			return fmt.Errorf("take output: %w", err)
		}
		n -= m
	}
	return nil
}
