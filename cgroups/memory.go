package cgroups

import (
	"fmt"
	"io/fs"
	"path/filepath"

	v1 "k8s.io/api/core/v1"
)

// OOMKills counts the processes of a container, or with no id of the whole Pod (on v2), that the kernel killed for want of
// memory since its cgroup was made. A cgroup that is gone is an error that wraps fs.ErrNotExist.
//
// The count says nothing of which process it was. The container's main process was killed so where the container ended with
// 137, the code of SIGKILL, and the count has risen since it was last looked at (on v2 all of a container's processes die
// together, unless singleProcessOOMKill is set). A count that rises while the container runs, or ends with any other code,
// was a child; one that does not rise means that somebody else sent the SIGKILL. containerd's CRI plugin makes no such
// difference: there, any kill is the container's reason for ever after.
func (t *Tree) OOMKills(pod *v1.Pod, id string) (uint64, error) {
	n, err := t.oomKills(t.path(pod, id))
	if err != nil {
		return 0, fmt.Errorf("read oom kills of container %s: %w", id, asGone(err))
	}
	return n, nil
}

// Shmem is how many bytes of a Pod's memory are files in tmpfs, such as emptyDir volumes of medium Memory, and other shared
// memory: what stays charged to the Pod however often a container is started anew. A cgroup that is gone is an error that
// wraps fs.ErrNotExist.
func (t *Tree) Shmem(pod *v1.Pod) (uint64, error) {
	key := "total_shmem"
	if t.cfg.Unified {
		key = "shmem"
	}
	n, err := readKey(filepath.Join(t.controllerMount("memory"), t.path(pod, ""), "memory.stat"), key)
	if err != nil {
		return 0, fmt.Errorf("read shared memory of pod %s/%s: %w", pod.Namespace, pod.Name, asGone(err))
	}
	return n, nil
}

// asGone has the error of a cgroup that was removed between open and read (ENODEV) say so.
func asGone(err error) error {
	if gone(err) {
		return fmt.Errorf("%w: %w", fs.ErrNotExist, err)
	}
	return err
}

func (t *Tree) oomKills(group string) (uint64, error) {
	file := "memory.oom_control"
	if t.cfg.Unified {
		file = "memory.events"
	}
	return readKey(filepath.Join(t.controllerMount("memory"), group, file), "oom_kill")
}
