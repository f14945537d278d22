package activate

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"os/user"
	goruntime "runtime"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// accountName is the user and the group that the package makes.
	accountName = "podkeeper-api"
	// accountNumber is both where there is no such user: among those that Debian reserves and gives to nobody, above those that
	// systemd gives to services, and none that images are known to run as. It is not nobody, whose processes are not ours.
	accountNumber = 65530
	// endTime is how long a program may take to end once it is asked to.
	endTime = 2 * time.Second
	// disposable is what the kernel is told when memory runs out: what only answers goes before most Pods.
	disposable = 500
)

// Account is who a program runs as.
type Account struct{ UID, GID int }

// FindAccount is the user podkeeper-api, or a number of its own where this host has no such user.
func FindAccount() (Account, error) {
	found, err := user.Lookup(accountName)
	if unknown := user.UnknownUserError(""); errors.As(err, &unknown) {
		return Account{accountNumber, accountNumber}, nil
	}
	if err != nil {
		return Account{}, fmt.Errorf("look for user %s: %w", accountName, err)
	}
	uid, uidErr := strconv.Atoi(found.Uid)
	gid, gidErr := strconv.Atoi(found.Gid)
	if err := errors.Join(uidErr, gidErr); err != nil {
		return Account{}, fmt.Errorf("read user %s: %w", accountName, err)
	}
	if uid == 0 || gid == 0 {
		return Account{}, fmt.Errorf("read user %s: it is root, who must not serve the network", accountName)
	}
	return Account{uid, gid}, nil
}

// serve runs the program until it ends, or ctx does.
func serve(ctx context.Context, cfg Config, l *listener) error {
	if err := cfg.Prepare(); err != nil {
		return err
	}
	out := &lines{log: cfg.Log}
	defer out.flush()
	cmd := program(ctx, cfg, l, out)
	err := start(cmd)
	if errors.Is(err, fs.ErrPermission) {
		// The account may not enter a folder on the way to the program, which may be run nevertheless.
		var opened *os.File
		if opened, err = os.OpenFile(cfg.Program, unix.O_PATH, 0); err != nil {
			return fmt.Errorf("open %s: %w", cfg.Program, err)
		}
		defer opened.Close()
		cmd = program(ctx, cfg, l, out)
		cmd.ExtraFiles = append(cmd.ExtraFiles, opened)
		cmd.Path = "/proc/self/fd/4"
		err = start(cmd)
	}
	if err != nil {
		return fmt.Errorf("start %s: %w", cfg.Program, err)
	}
	cfg.Log.Info("the Kubernetes API is started for a client", "pid", cmd.Process.Pid)
	_ = os.WriteFile(fmt.Sprintf("/proc/%d/oom_score_adj", cmd.Process.Pid), strconv.AppendInt(nil, disposable, 10), 0) // it may have ended
	if err := cmd.Wait(); err != nil && ctx.Err() == nil {
		return fmt.Errorf("%s: %w", cfg.Program, err)
	}
	return nil
}

// program is what is started: with the socket as its first descriptor after the standard ones, and nothing else that is ours.
func program(ctx context.Context, cfg Config, l *listener, out *lines) *exec.Cmd {
	cmd := exec.CommandContext(ctx, cfg.Program, cfg.Args...)
	// LISTEN_PID, which systemd adds, cannot be told before there is a process.
	cmd.Dir, cmd.Env, cmd.ExtraFiles, cmd.Stdout, cmd.Stderr = "/", []string{"LISTEN_FDS=1"}, []*os.File{l.file}, out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Setsid: true, Credential: &syscall.Credential{Uid: uint32(cfg.Account.UID), Gid: uint32(cfg.Account.GID)}, // and no further groups
		Cloneflags: unix.CLONE_NEWNET, // clients reach it by the socket, which is of the host's network; it reaches nobody
	}
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = endTime
	return cmd
}

// start starts a program that gains no rights by what it runs.
func start(cmd *exec.Cmd) error {
	started := make(chan error)
	go func() {
		goruntime.LockOSThread() // for good: a thread that gains nothing any more ends with its goroutine
		err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
		if err == nil {
			err = cmd.Start()
		}
		started <- err
	}()
	return <-started
}

// longest is how much of a line of the program is logged as one.
const longest = 8 << 10

// lines logs what a program writes, a line each.
type lines struct {
	log  *slog.Logger
	rest []byte // of a line that is not whole
}

// Write implements io.Writer.
func (l *lines) Write(p []byte) (int, error) {
	l.rest = append(l.rest, p...)
	for {
		piece := l.rest[:min(len(l.rest), longest)]
		line, _, whole := bytes.Cut(piece, []byte{'\n'})
		switch {
		case whole:
			l.rest = l.rest[len(line)+1:]
		case len(piece) == longest:
			l.rest = l.rest[longest:]
		default:
			return len(p), nil
		}
		l.say(line)
	}
}

// flush logs what is not a whole line.
func (l *lines) flush() {
	l.say(l.rest)
	l.rest = nil
}

func (l *lines) say(line []byte) {
	if len(line) > 0 {
		l.log.Info("the Kubernetes API says", "api", string(line))
	}
}
