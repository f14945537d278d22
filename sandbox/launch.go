package sandbox

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// user is who pause processes are: nobody else on the host, and nobody in a container that does not ask for it.
const user = 65535

// launch is one start of a pause process. All that is needed of the host is opened before its thread leaves it.
type launch struct {
	cfg    Config
	root   int   // mount namespace
	netNS  int   // -1 is the host's
	cgroup int   // -1 is none to be cloned into
	tasks  []int // of cgroups that the thread enters
	pipes  []int
	held   int // what the process waits at
	hold   int // and what it is let go by

	pid, pidfd int
	outside    bool // it could not be cloned into its cgroup
}

// openLaunch opens what a start needs. close closes it.
func openLaunch(cfg Config, root int) (_ *launch, err error) {
	l := &launch{cfg: cfg, root: root, netNS: -1, cgroup: -1, held: -1, hold: -1, pidfd: -1}
	defer func() {
		if err != nil {
			l.close()
		}
	}()
	if cfg.NetNS != "" {
		if l.netNS, err = unix.Open(cfg.NetNS, unix.O_RDONLY|unix.O_CLOEXEC, 0); err != nil {
			return nil, fmt.Errorf("open network namespace %s: %w", cfg.NetNS, err)
		}
	}
	if cfg.Cgroup.Dir != "" {
		if l.cgroup, err = unix.Open(cfg.Cgroup.Dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err != nil {
			return nil, fmt.Errorf("open cgroup %s: %w", cfg.Cgroup.Dir, err)
		}
	}
	for _, file := range cfg.Cgroup.Tasks {
		fd, err := unix.Open(file, unix.O_WRONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return nil, fmt.Errorf("open cgroup %s: %w", file, err)
		}
		l.tasks = append(l.tasks, fd)
	}
	for _, pipe := range cfg.Pipes {
		fd, err := openPipe(pipe)
		if err != nil {
			return nil, err
		}
		l.pipes = append(l.pipes, fd)
	}
	var ends [2]int
	if err := unix.Pipe2(ends[:], unix.O_CLOEXEC); err != nil {
		return nil, fmt.Errorf("make pipe: %w", err)
	}
	l.held, l.hold = ends[0], ends[1]
	return l, nil
}

// openPipe opens a named pipe to read and to write. Anything else at its path is an error.
func openPipe(path string) (int, error) {
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_NONBLOCK|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("open pipe %s: %w", path, err)
	}
	var stat unix.Stat_t
	err = unix.Fstat(fd, &stat)
	if err == nil && stat.Mode&unix.S_IFMT != unix.S_IFIFO {
		err = errors.New("it is no pipe")
	}
	if err != nil {
		return -1, errors.Join(fmt.Errorf("open pipe %s: %w", path, err), unix.Close(fd))
	}
	return fd, nil
}

// closeOnExec sees to what Go does not: what it was that started this process has left open. A pause process would hold it
// for ever.
func closeOnExec() error {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return fmt.Errorf("read open files: %w", err)
	}
	for _, e := range entries {
		if fd, err := strconv.Atoi(e.Name()); err == nil && fd > 2 {
			unix.CloseOnExec(fd)
		}
	}
	return nil
}

// close closes all that is open but the pidfd.
func (l *launch) close() {
	for _, fd := range append(append([]int{l.netNS, l.cgroup, l.held, l.hold}, l.tasks...), l.pipes...) {
		if fd >= 0 {
			_ = unix.Close(fd)
		}
	}
	l.netNS, l.cgroup, l.held, l.hold, l.tasks, l.pipes = -1, -1, -1, -1, nil, nil
}

// onThread does work on a thread of its own, which ends with it: whatever it has become, nothing else runs on it. It is
// never the main thread, which Go does not end, and whose namespaces /proc/self is about.
func onThread(work func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and never unlocked
		if unix.Gettid() == unix.Getpid() {
			done <- onThread(work) // held here, the main thread is not taken for that one
			runtime.UnlockOSThread()
			return
		}
		done <- work()
	}()
	return <-done
}

// fork makes the process, which is held, on a thread that goes where the process is to be.
func (l *launch) fork() error {
	err := onThread(func() error {
		if err := l.enter(); err != nil {
			return err
		}
		if err := dropCapabilities(); err != nil {
			return err
		}
		if l.cfg.Users.Count > 0 {
			if err := become(l.cfg.Users.First + user); err != nil {
				return err
			}
		}
		return l.spawn()
	})
	_ = unix.Close(l.held)
	l.held = -1
	return err
}

// enter takes the calling thread to the process's cgroups and namespaces.
func (l *launch) enter() error {
	for i, fd := range l.tasks {
		if _, err := unix.Write(fd, []byte("0")); err != nil { // 0 is who writes
			return fmt.Errorf("enter cgroup %s: %w", l.cfg.Cgroup.Tasks[i], err)
		}
	}
	if l.netNS >= 0 {
		if err := unix.Setns(l.netNS, unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("enter network namespace: %w", err)
		}
	}
	flags := unix.CLONE_FS
	if l.cfg.Users.Count == 0 { // else they begin with the process, in its user namespace
		flags |= l.cfg.shared()
	}
	if err := unix.Unshare(flags); err != nil {
		return fmt.Errorf("make namespaces: %w", err)
	}
	if l.cfg.Users.Count == 0 {
		if err := l.furnish(); err != nil {
			return err
		}
	}
	if err := unix.Setns(l.root, unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("enter root of sandboxes: %w", err)
	}
	return nil
}

// shared are the flags of the namespaces that containers share, but for those of processes and of the network.
func (c Config) shared() (flags int) {
	for _, k := range c.own() {
		switch k {
		case uts:
			flags |= unix.CLONE_NEWUTS
		case ipc:
			flags |= unix.CLONE_NEWIPC
		case pid, users: // begin with the process
		}
	}
	return flags
}

// furnish gives the namespaces that the calling thread is in the name of the host and the settings that they are to have.
func (l *launch) furnish() error {
	if l.cfg.shared()&unix.CLONE_NEWUTS != 0 {
		if err := unix.Sethostname([]byte(l.cfg.Hostname)); err != nil {
			return fmt.Errorf("set host name %q: %w", l.cfg.Hostname, err)
		}
	}
	for name, value := range l.cfg.Sysctls {
		isNet, hostNet := strings.HasPrefix(name, "net."), l.cfg.NetNS == "" && l.cfg.KeepNet == nil
		if isNet && hostNet || !isNet && l.cfg.HostIPC {
			return fmt.Errorf("set %s: it is the host's", name)
		}
		// The kernel shows each thread the settings of its own namespaces.
		if err := put("/proc/sys/"+path(name), value); err != nil {
			return fmt.Errorf("set %s: %w", name, err)
		}
	}
	return nil
}

// dropCapabilities keeps the calling thread, and what it starts, from gaining anything by a program, and what it starts
// from having any capability. Those that the thread has it keeps.
func dropCapabilities() error {
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("set no_new_privs: %w", err)
	}
	for c := uintptr(0); ; c++ {
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, c, 0, 0, 0); errors.Is(err, unix.EINVAL) && c > 0 {
			break // the kernel has no more
		} else if err != nil {
			return fmt.Errorf("drop capability %d: %w", c, err)
		}
	}
	if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0); err != nil {
		return fmt.Errorf("drop ambient capabilities: %w", err)
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var sets [2]unix.CapUserData
	if err := unix.Capget(&header, &sets[0]); err != nil {
		return fmt.Errorf("read capabilities: %w", err)
	}
	sets[0].Inheritable, sets[1].Inheritable = 0, 0
	if err := unix.Capset(&header, &sets[0]); err != nil {
		return fmt.Errorf("drop inheritable capabilities: %w", err)
	}
	return nil
}

// spawn starts the program from the calling thread, as nobody, with nothing open but what it waits at and the pipes.
func (l *launch) spawn() error {
	sys := &syscall.SysProcAttr{
		Setsid: true, Cloneflags: unix.CLONE_NEWNS, Credential: &syscall.Credential{Uid: user, Gid: user}, PidFD: &l.pidfd,
		UseCgroupFD: l.cgroup >= 0, CgroupFD: l.cgroup,
	}
	if l.cfg.SharedPID {
		sys.Cloneflags |= unix.CLONE_NEWPID
	}
	if l.cfg.Users.Count > 0 { // nobody is known in there yet: it stays who the thread has become
		sys.Cloneflags |= unix.CLONE_NEWUSER | uintptr(l.cfg.shared())
		sys.Credential = nil
		if l.cfg.KeepNet != nil {
			sys.Cloneflags |= unix.CLONE_NEWNET
		}
	}
	attr := &syscall.ProcAttr{Files: []uintptr{uintptr(l.held)}, Sys: sys}
	for _, fd := range l.pipes {
		attr.Files = append(attr.Files, uintptr(fd))
	}
	argv := []string{program, l.cfg.ID} // for people: which sandbox it is
	pid, err := syscall.ForkExec(program, argv, attr)
	if sys.UseCgroupFD && (errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.E2BIG) || errors.Is(err, unix.EINVAL)) {
		// A kernel before 5.7, or a filter that cannot look into clone3's arguments, as systemd's RestrictNamespaces=.
		sys.UseCgroupFD, l.outside = false, true
		pid, err = syscall.ForkExec(program, argv, attr)
	}
	if errors.Is(err, unix.ENOSPC) && l.cfg.Users.Count > 0 {
		err = fmt.Errorf("%w: the host has no more user namespaces: raise the sysctls user.max_*_namespaces", err)
	}
	if err != nil {
		return fmt.Errorf("start pause process: %w", err)
	}
	l.pid = pid
	if l.pidfd < 0 {
		return errors.New("start pause process: the kernel gives no handle of it")
	}
	return nil
}

// place brings the process, while it is held, where fork could not.
func (l *launch) place() error {
	process := strconv.Itoa(l.pid)
	if l.outside {
		if err := put(l.cfg.Cgroup.Dir+"/cgroup.procs", process); err != nil {
			return fmt.Errorf("enter cgroup %s: %w", l.cfg.Cgroup.Dir, err)
		}
	}
	if l.cfg.Cgroup.Adopt != nil {
		if err := l.cfg.Cgroup.Adopt(l.pid); err != nil {
			return err
		}
	}
	if err := put("/proc/"+process+"/oom_score_adj", strconv.Itoa(l.cfg.OOMScoreAdj)); err != nil {
		return fmt.Errorf("set oom_score_adj %d: %w", l.cfg.OOMScoreAdj, err)
	}
	if l.cfg.Users.Count > 0 {
		return l.settle()
	}
	return nil
}

// goPatience is how long the process may take from being let go to its sleep: its Pod may be short of CPU time.
const goPatience = 10 * time.Second

// letGo lets the process go, and returns when it has: from then on nothing holds it, and it holds what it is for.
func (l *launch) letGo() error {
	if _, err := unix.Write(l.hold, []byte{1}); err != nil {
		return fmt.Errorf("let pause process go: %w", err)
	}
	for deadline := time.Now().Add(goPatience); time.Now().Before(deadline); {
		// An error is what this end of a pipe reports once the other one is closed.
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(l.hold)}}, int(goPatience.Milliseconds()))
		if err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("let pause process go: %w", err)
		}
		if n > 0 {
			return nil
		}
	}
	return errors.New("let pause process go: it does not take notice")
}

// path is that of a setting: dots part its name, and a slash in it is a dot, as in the name of an interface.
func path(setting string) string {
	parts := strings.Split(setting, ".")
	for i := range parts {
		parts[i] = strings.ReplaceAll(parts[i], "/", ".")
	}
	return strings.Join(parts, "/")
}

// put writes to a file of the kernel.
func put(file, value string) error {
	f, err := os.OpenFile(file, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(value)
	return errors.Join(err, f.Close())
}
