package runtime

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/containerd/api/services/tasks/v1"
	"github.com/containerd/errdefs"
	"github.com/containerd/errdefs/pkg/errgrpc"
	"golang.org/x/sys/unix"
)

// execMark names the variable in the environment of a command by whose value all that it starts is known: a process that
// has left its parents for another session is no descendant of the command any more.
const execMark = "PODKEEPER_EXEC"

// Pauses between two looks for processes that are left of a command.
const (
	firstKillPause = 10 * time.Millisecond
	lastKillPause  = 500 * time.Millisecond
)

// process is one process of this host, held: its pid may come to mean another, but the handle does not.
type process struct{ pid, fd int }

func hold(pid int) (process, error) {
	if pid <= 1 {
		return process{}, fmt.Errorf("hold process %d: %w", pid, unix.ESRCH)
	}
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return process{}, fmt.Errorf("hold process %d: %w", pid, err)
	}
	return process{pid, fd}, nil
}

func (p process) release() { _ = unix.Close(p.fd) }

func (p process) signal(sig unix.Signal) error { return unix.PidfdSendSignal(p.fd, sig, nil, 0) }

// killTree kills a process and all its descendants. Each is stopped before its children are read, so that none is missed.
func (p process) killTree() {
	if p.signal(unix.SIGSTOP) != nil {
		return
	}
	threads, _ := filepath.Glob("/proc/" + strconv.Itoa(p.pid) + "/task/*/children")
	for _, file := range threads {
		children, _ := os.ReadFile(file)
		for _, field := range strings.Fields(string(children)) {
			pid, err := strconv.Atoi(field)
			if err != nil {
				continue
			}
			child, err := hold(pid)
			if err != nil {
				continue
			}
			if parent(pid) == p.pid { // while both are held, it is the one that was read
				child.killTree()
			}
			child.release()
		}
	}
	_ = p.signal(unix.SIGKILL)
}

// parent is the pid of a process's parent, 0 where there is none.
func parent(pid int) int {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:])) // the state, and then the parent
	if len(fields) < 2 {
		return 0
	}
	ppid, _ := strconv.Atoi(fields[1])
	return ppid
}

// killMarked kills every process that list names and that has the mark in its environment, and returns when none is left. A
// process may start others meanwhile, and shows no environment for a moment while it becomes another program: two looks in a
// row must find none.
func killMarked(ctx context.Context, mark string, list func(context.Context) ([]int, error)) error {
	clean := 0
	for pause := firstKillPause; ; pause = min(2*pause, lastKillPause) {
		pids, err := list(ctx)
		if err != nil {
			return err
		}
		clean++
		for _, pid := range pids {
			found, err := killIfMarked(pid, mark)
			if err != nil {
				return err
			}
			if found {
				clean = 0
			}
		}
		if clean == 2 {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("kill what the command has started: %w", ctx.Err())
		case <-time.After(pause):
		}
	}
}

func killIfMarked(pid int, mark string) (bool, error) {
	p, err := hold(pid)
	if errors.Is(err, unix.ESRCH) || errors.Is(err, unix.EINVAL) { // gone, or a thread
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer p.release()
	environ, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/environ")
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("read environment of process %d: %w", pid, err)
	}
	if !slices.Contains(strings.Split(string(environ), "\x00"), mark) {
		return false, nil
	}
	if err := p.signal(unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
		return false, fmt.Errorf("kill process %d: %w", pid, err)
	}
	return true, nil
}

// pids are the processes in a container's cgroup. A container that is gone has none.
func (r *Runtime) pids(ctx context.Context, id string) ([]int, error) {
	answer, err := r.client.TaskService().ListPids(ctx, &tasks.ListPidsRequest{ContainerID: id})
	if err = errgrpc.ToNative(err); err != nil {
		if errdefs.IsNotFound(err) {
			return nil, nil
		}
		return nil, fmt.Errorf("list processes: %w", err)
	}
	var out []int
	for _, p := range answer.Processes {
		out = append(out, int(p.Pid))
	}
	return out, nil
}
