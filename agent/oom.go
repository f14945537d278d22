package agent

import (
	"fmt"
	"maps"
	"strconv"
	"strings"
	"time"

	v1 "k8s.io/api/core/v1"

	"github.com/podkeeper/podkeeper/agent/node"
	"github.com/podkeeper/podkeeper/agent/plan"
)

// ranOut says whether processes of a container ran out of memory since that was last asked. If so it counts them, and tells
// people in these words.
func (w *worker) ranOut(name, words string) bool {
	rec := w.inst.Containers[name]
	kills, err := w.host.OOMKills(w.target(name))
	if err != nil {
		w.log.Warn("cannot tell whether a container ran out of memory", "pod", w.key.String(), "container", name, "error", err)
		return false
	}
	count, before := kills.Own, rec.OOMKills
	if kills.Gone {
		count, before = kills.Pod, w.inst.OOMKills
	}
	rec.OOMKills, w.inst.OOMKills = kills.Own, kills.Pod
	if count < before {
		before = 0 // after a reboot it counts anew
	}
	if count == before {
		return false
	}
	w.metrics.oomKills.Add(float64(count - before))
	w.event(name, v1.EventTypeWarning, "OOMKilling", words+memoryHint(w.inst.Pod, kills))
	return true
}

// memoryHint names what people forget to count: files in memory-backed volumes are memory of the Pod, charged to the
// container that wrote them while that lives and to the Pod from then on.
func memoryHint(pod *v1.Pod, kills node.OOMKills) string {
	var names []string
	for _, v := range pod.Spec.Volumes {
		if v.EmptyDir != nil && v.EmptyDir.Medium == v1.StorageMediumMemory {
			names = append(names, strconv.Quote(v.Name))
		}
	}
	if len(names) == 0 || kills.Shmem == 0 {
		return ""
	}
	return fmt.Sprintf(": %d MiB of the Pod's memory are files in memory-backed volumes (%s), which outlive a restart",
		kills.Shmem>>20, strings.Join(names, ", "))
}

// oomSettles is how long after a kill for want of memory a container must still run for that not to be its end: the events
// of both may come in any order.
const oomSettles = 2 * time.Second

// noteOOMs tells of processes that ran out of memory in containers that run on, and answers when to look again. Where the
// container ends, that is the reason of its end.
func (w *worker) noteOOMs(found sight, now time.Time) (next time.Time) {
	w.mu.Lock()
	oomed := maps.Clone(w.oomed)
	w.mu.Unlock()
	if len(oomed) == 0 {
		return next
	}
	for _, c := range plan.Containers(w.inst.Pod) {
		id := w.target(c.Name).ID()
		at, ran := oomed[id]
		g, asked := found[c.Name]
		if !ran || w.inst.Containers[c.Name].Exit != nil {
			continue
		}
		if !asked || g.err != nil || at.Add(oomSettles).After(now) {
			next = now.Add(oomSettles)
			delete(oomed, id) // the rest is done with
			continue
		}
		w.ranOut(c.Name, fmt.Sprintf("A process of container %s was killed for want of memory, and its main process runs on", c.Name))
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for id, at := range oomed {
		if w.oomed[id].Equal(at) {
			delete(w.oomed, id)
		}
	}
	return next
}
