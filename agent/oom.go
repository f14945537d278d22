package agent

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	v1 "k8s.io/api/core/v1"

	"github.com/podkeeper/podkeeper/agent/plan"
)

// newOOMs counts the processes of a container that ran out of memory and were not told of before.
func (w *worker) newOOMs(name string) uint64 {
	rec := w.inst.Containers[name]
	kills, err := w.host.OOMKills(w.target(name))
	if err != nil {
		w.log.Warn("cannot tell whether a container ran out of memory", "pod", w.key.String(), "container", name, "error", err)
		return 0
	}
	count, told := kills.Own, rec.OOMKills
	if kills.Gone {
		count, told = kills.Pod, w.inst.OOMKills
	}
	rec.OOMKills, w.inst.OOMKills = kills.Own, kills.Pod
	if count < told {
		told = 0 // after a reboot it counts anew
	}
	w.metrics.oomKills.Add(float64(count - told))
	return count - told
}

// oomSettles is how long after a kill for want of memory a container must still run for that not to be its end: the events
// of both may come in any order.
const oomSettles = 2 * time.Second

// noteOOMs tells of processes that ran out of memory in containers that run on, and answers when to look again. With the
// end of a container that is the reason of its end.
func (w *worker) noteOOMs(found sight, now time.Time) (next time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	names := map[string]string{}
	for _, c := range plan.Containers(w.inst.Pod) {
		names[w.target(c.Name).ID()] = c.Name
	}
	for id, at := range w.oomed {
		name, ours := names[id]
		g, asked := found[name]
		due := at.Add(oomSettles)
		switch {
		case !ours || w.inst.Containers[name].Exit != nil:
			delete(w.oomed, id)
		case !asked || g.err != nil || due.After(now):
			next = earliest(next, now.Add(oomSettles))
		case w.newOOMs(name) > 0:
			w.event(name, v1.EventTypeWarning, "OOMKilling",
				fmt.Sprintf("A process of container %s was killed for want of memory; its main process runs on%s", name, w.memoryHint()))
			fallthrough
		default:
			delete(w.oomed, id)
		}
	}
	return next
}

// memoryHint names what people forget to count: what stands in memory-backed volumes is memory of the Pod, charged to the
// container that wrote it while that lives and to the Pod from then on.
func (w *worker) memoryHint() string {
	var names []string
	for _, v := range w.inst.Pod.Spec.Volumes {
		if v.EmptyDir != nil && v.EmptyDir.Medium == v1.StorageMediumMemory {
			names = append(names, strconv.Quote(v.Name))
		}
	}
	if len(names) == 0 {
		return ""
	}
	return fmt.Sprintf("; what stands in memory-backed volumes (%s) is memory of the Pod, and outlives a restart of the container", strings.Join(names, ", "))
}
