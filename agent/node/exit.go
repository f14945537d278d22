package node

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/podkeeper/podkeeper/agent/plan"
	"github.com/podkeeper/podkeeper/runtime"
)

// Limits of a termination message (kubernetes/kubernetes pkg/kubelet/container).
const (
	maxMessage       = 4096
	maxMessageLog    = 2048
	maxMessageLines  = 80
	maxMessagesOfPod = 12 << 10
)

// Exit reports how an instance ended.
func (n *Node) Exit(t Target, c Container, startedAt time.Time) *v1.ContainerStateTerminated {
	exit := &v1.ContainerStateTerminated{
		ExitCode: int32(c.ExitCode), Reason: "Error", ContainerID: "containerd://" + t.ID(),
		StartedAt: metav1.NewTime(startedAt), FinishedAt: metav1.NewTime(c.ExitedAt),
	}
	if c.ExitCode == 0 {
		exit.Reason = "Completed"
	}
	exit.Message = head(n.terminationLog(t), messageLimit(t.Pod))
	return exit
}

// OOMKills are how many processes the kernel has killed for want of memory.
type OOMKills struct {
	Own  uint64 // of the container
	Gone bool   // its cgroup is gone, and its count with it: systemd removes a scope with its last process
	Pod  uint64 // of the whole Pod, on cgroup v2

	Shmem uint64 // bytes of the Pod's memory that are files in tmpfs, and so outlive its processes
}

// OOMKills counts. It is called before the task of a container that has ended is deleted, and its cgroup with it.
func (n *Node) OOMKills(t Target) (OOMKills, error) {
	var kills OOMKills
	var err error
	if kills.Pod, err = n.Cgroups.OOMKills(t.Pod, ""); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return kills, err
	}
	if kills.Own, err = n.Cgroups.OOMKills(t.Pod, t.ID()); errors.Is(err, fs.ErrNotExist) {
		kills.Gone, err = true, nil
	}
	kills.Shmem, _ = n.Cgroups.Shmem(t.Pod) // only a hint
	return kills, err
}

// messageLimit is a container's share of what the termination messages of a Pod may take.
func messageLimit(pod *v1.Pod) int {
	return min(maxMessage, maxMessagesOfPod/len(plan.Containers(pod)))
}

// LogMessage is the end of a log, for a container that failed without a word. The log must be complete: after Clean.
func (n *Node) LogMessage(t Target) string {
	text, _ := runtime.LastLines(n.logFile(t), maxMessageLines, min(maxMessageLog, messageLimit(t.Pod))) // no log is no text
	return text
}

func head(file string, limit int) string {
	f, err := os.Open(file)
	if err != nil {
		return ""
	}
	defer f.Close()
	content, _ := io.ReadAll(io.LimitReader(f, int64(limit)))
	return string(content)
}
