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

// holdOf holds a process of a container. A pid that was told late may mean a process of somebody else by now.
func holdOf(container string, pid int) (process, error) {
	p, err := hold(pid)
	if err != nil {
		return process{}, err
	}
	groups, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cgroup") // each has the container's id in its path
	if err == nil && !strings.Contains(string(groups), container) {
		err = unix.ESRCH
	}
	if err != nil {
		p.release()
		return process{}, fmt.Errorf("hold process %d of container %s: %w", pid, container, err)
	}
	return p, nil
}

func (p process) release() { _ = unix.Close(p.fd) }

func (p process) signal(sig unix.Signal) error { return unix.PidfdSendSignal(p.fd, sig, nil, 0) }

// ended says whether it has ended, be it that nobody has buried it.
func (p process) ended() bool {
	polled := []unix.PollFd{{Fd: int32(p.fd), Events: unix.POLLIN}}
	n, err := unix.Poll(polled, 0)
	return err == nil && n == 1
}

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
	stat, _ := readStat(pid)
	return int(stat.ppid)
}

// processStat is what is read of /proc/<pid>/stat: a size in bytes, and addresses. A zombie has no memory, and a process amid
// becoming another program no code yet: the kernel says where that is last of all.
type processStat struct{ ppid, memory, code, environ, environEnd uint64 }

func readStat(pid int) (out processStat, err error) {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return out, err
	}
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	const third = 3 // the number that proc(5) gives the first of these
	for number, to := range map[int]*uint64{4: &out.ppid, 23: &out.memory, 26: &out.code, 50: &out.environ, 51: &out.environEnd} {
		if len(fields) <= number-third {
			return out, fmt.Errorf("process %d has %d fields in its stat", pid, len(fields))
		}
		if *to, err = strconv.ParseUint(fields[number-third], 10, 64); err != nil {
			return out, fmt.Errorf("process %d: field %d of its stat: %w", pid, number, err)
		}
	}
	return out, nil
}

// killMarked kills every process that list names and that has the mark in its environment, and returns when none is left. A
// process may start others meanwhile: two looks in a row must find none.
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

// killIfMarked says whether there is something to look at again: a process that was killed, or one whose mark cannot be seen yet.
func killIfMarked(pid int, mark string) (bool, error) {
	p, err := hold(pid)
	if errors.Is(err, unix.ESRCH) || errors.Is(err, unix.EINVAL) { // gone, or a thread
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer p.release()
	is, err := marked(pid, mark)
	if err != nil || is == unmarked {
		return false, err
	}
	if is == unknown {
		return true, nil
	}
	if err := p.signal(unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
		return false, fmt.Errorf("kill process %d: %w", pid, err)
	}
	return true, nil
}

// marking is what a process's environment says of a mark.
type marking int

const (
	unmarked marking = iota
	isMarked
	unknown // it is becoming another program, and shows less than all
)

func marked(pid int, mark string) (marking, error) {
	environ, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/environ")
	if err == nil && slices.Contains(strings.Split(string(environ), "\x00"), mark) {
		return isMarked, nil
	}
	var stat processStat
	if err == nil {
		stat, err = readStat(pid)
	}
	switch {
	case errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH):
		return unmarked, nil
	case err != nil:
		return unmarked, fmt.Errorf("read environment of process %d: %w", pid, err)
	case stat.memory > 0 && (stat.code == 0 || uint64(len(environ)) != stat.environEnd-stat.environ):
		return unknown, nil
	}
	return unmarked, nil
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
