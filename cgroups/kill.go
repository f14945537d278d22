package cgroups

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	v1 "k8s.io/api/core/v1"
)

// A kill is given killRounds looks, the pause between them doubling from firstPause to lastPause: about two seconds in all.
const (
	killRounds = 20
	firstPause = time.Millisecond
	lastPause  = 200 * time.Millisecond
)

// Kill sends SIGKILL to every process in a container's cgroup or, with no id, in the Pod's, and returns when none is
// left. A cgroup that is gone is no error; processes that do not die within about two seconds, or before ctx ends, are:
// those that wait for a device or a file system.
func (t *Tree) Kill(ctx context.Context, pod *v1.Pod, id string) error {
	group := t.path(pod, id)
	pause, left := firstPause, 0
	for range killRounds {
		pids, err := t.processes(group)
		if err == nil && len(pids) > 0 {
			err = t.killAll(group, pids)
		}
		if err != nil {
			return fmt.Errorf("kill cgroup %s: %w", group, err)
		}
		if left = len(pids); left == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("kill cgroup %s: %d processes are left: %w", group, left, ctx.Err())
		case <-time.After(pause):
		}
		pause = min(2*pause, lastPause)
	}
	return fmt.Errorf("kill cgroup %s: %d processes do not die", group, left)
}

// Processes counts the processes of a container or, with no id, of the whole Pod: 0 when its cgroup is gone. A container
// whose runtime cannot tell of it lives as long as there are any.
func (t *Tree) Processes(pod *v1.Pod, id string) (int, error) {
	pids, err := t.processes(t.path(pod, id))
	if err != nil {
		return 0, fmt.Errorf("count processes of pod %s/%s: %w", pod.Namespace, pod.Name, err)
	}
	return len(pids), nil
}

// killAll sends one round of SIGKILL: at once where the kernel can (v2), else to each process. On v1 they are frozen
// meanwhile, so that none can fork away, and a container someone paused is thawed to die.
func (t *Tree) killAll(group string, pids []int) (err error) {
	if t.cfg.Unified {
		err := write(filepath.Join(t.mount, group, "cgroup.kill"), "1")
		if err == nil || !errors.Is(err, fs.ErrNotExist) {
			return ignoreGone(err)
		}
		return t.signal(group, pids) // a kernel before 5.14
	}
	state := filepath.Join(t.controllerMount("freezer"), group, "freezer.state")
	if err := ignoreGone(write(state, "FROZEN")); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, ignoreGone(write(state, "THAWED"))) }()
	pids, err = t.processes(group)
	if err != nil {
		return err
	}
	return t.signal(group, pids)
}

// signal kills these processes, each only if it is still of this cgroup: a pid may have been given to another since
// it was read.
func (t *Tree) signal(group string, pids []int) error {
	for _, pid := range pids {
		if err := killMember(group, pid); err != nil && !errors.Is(err, unix.ESRCH) && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("kill process %d: %w", pid, err)
		}
	}
	return nil
}

func killMember(group string, pid int) error {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	b, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "cgroup"))
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(b)) {
		fields := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(fields) == 3 && (fields[2] == group || strings.HasPrefix(fields[2], group+"/")) {
			return unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0)
		}
	}
	return nil
}

// processes are the pids in a cgroup and all below it, in any hierarchy.
func (t *Tree) processes(group string) ([]int, error) {
	seen := map[int]bool{}
	var out []int
	for _, hierarchy := range t.hierarchies {
		err := filepath.WalkDir(filepath.Join(hierarchy, group), func(folder string, e fs.DirEntry, err error) error {
			if err != nil || !e.IsDir() {
				return ignoreGone(err)
			}
			b, err := os.ReadFile(filepath.Join(folder, "cgroup.procs"))
			if err != nil {
				return ignoreGone(err)
			}
			for _, field := range strings.Fields(string(b)) {
				pid, err := strconv.Atoi(field)
				if err != nil {
					return fmt.Errorf("parse %s/cgroup.procs: %w", folder, err)
				}
				if pid != 0 && !seen[pid] { // 0: of another pid namespace
					seen[pid] = true
					out = append(out, pid)
				}
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}
