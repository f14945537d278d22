package agent

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/component-helpers/scheduling/corev1"

	"github.com/podkeeper/podkeeper/agent/node"
	"github.com/podkeeper/podkeeper/agent/plan"
)

// listTimeout bounds what the start of the agent waits for.
const listTimeout = 30 * time.Second

// adopt gives what earlier agents have left to workers: instances whose record is whole, and those that only containerd
// knows of. What belongs to no instance is removed beside them.
func (a *Agent) adopt(ctx context.Context) error {
	instances, broken, err := loadInstances(a.podsDir)
	if err != nil {
		return err
	}
	for _, b := range broken {
		a.log.Error("record of a pod cannot be read: it is set aside", "uid", b.uid, "error", b.err)
	}
	limited, cancel := context.WithTimeout(ctx, listTimeout)
	defer cancel()
	items, err := a.node.Find(limited)
	if err != nil {
		return err
	}
	items, inUse := a.ours(items, instances)
	instances = append(instances, a.rebuild(items, instances)...)
	strays := strays(items, instances)
	endExecs := a.node.LeftExecs()       // before a worker runs any
	if len(instances) > a.turns.atOnce { // of fewer nobody has to wait
		a.turns.gather(gathering)
	}
	for _, all := range inOrder(byKey(instances)) {
		w := a.takeOver(all)
		a.running.Go(func() { w.run(ctx) })
	}
	for _, inst := range instances {
		inUse = append(inUse, inst.target("").SandboxID())
	}
	a.running.Go(func() {
		a.removeStrays(ctx, strays)
		if err := endExecs(ctx); err != nil {
			a.log.Warn("commands of an earlier agent are not ended", "error", err)
		}
		a.node.EndLostShims(func() []string { return append(a.registered(), inUse...) })
		_ = a.collectNetworks(ctx) // it is logged
	})
	return nil
}

// takeOver gives a Pod of which there are instances its worker, with what was ruled about it. The first one goes on.
func (a *Agent) takeOver(all []*instance) *worker {
	w := newWorker(key(all[0].Pod), a.surroundings)
	for _, old := range all[1:] { // successors came before their last leftovers could be removed
		a.take(w.key, old.Pod)
		a.retain(old)
		a.freePorts(old.Pod)
		w.remains = append(w.remains, &remains{target: old.target(""), attempts: old.attempts()})
	}
	w.adopt(all[0]) // after them: the place is its own
	if r := a.shutdown.inherited(all[0]); r.Verdict != Admitted {
		a.sources.rule(w.key, all[0].Revision, r)
	}
	a.enlist(w)
	return w
}

// ours leaves out what was made for another root directory, and tells of it: another agent may run it, or the root
// directory is not mounted yet. What one of our records names is ours, whoever has made it. foreign are the sandboxes of the
// rest.
func (a *Agent) ours(items []node.Item, instances []*instance) (ours []node.Item, foreign []string) {
	recorded := uidsOf(instances)
	pods := map[string]bool{}
	for _, i := range items {
		if i.Ours || recorded[i.UID] {
			ours = append(ours, i)
			continue
		}
		foreign = append(foreign, i.SandboxID())
		pods[i.Namespace+"/"+i.Pod] = true
	}
	for pod := range pods {
		a.log.Warn("containers of another root directory are left alone: give one of the agents a --containerd-namespace of its own", "pod", pod)
	}
	return ours, foreign
}

// uidsOf are the UIDs of the Pods that instances are of.
func uidsOf(instances []*instance) map[string]bool {
	uids := map[string]bool{}
	for _, inst := range instances {
		uids[string(inst.Pod.UID)] = true
	}
	return uids
}

// byKey sorts instances by Pod. The first of each is the one that goes on: not one that ends, and the youngest.
func byKey(instances []*instance) map[types.NamespacedName][]*instance {
	out := map[types.NamespacedName][]*instance{}
	for _, inst := range instances {
		out[key(inst.Pod)] = append(out[key(inst.Pod)], inst)
	}
	for _, all := range out {
		slices.SortStableFunc(all, func(x, y *instance) int {
			if (x.Ending == nil) != (y.Ending == nil) {
				if x.Ending == nil {
					return -1
				}
				return 1
			}
			return y.Pod.CreationTimestamp.Compare(x.Pod.CreationTimestamp.Time)
		})
	}
	return out
}

// inOrder puts Pods into the order in which they begin where all of them have to: those of the highest priority first.
func inOrder(pods map[types.NamespacedName][]*instance) [][]*instance {
	return slices.SortedFunc(maps.Values(pods), func(x, y []*instance) int {
		return cmp.Compare(corev1.PodPriority(y[0].Pod), corev1.PodPriority(x[0].Pod))
	})
}

// rebuild makes instances of what containerd has of Pods that have no record. Nothing is done to them until their source
// has spoken: then they are run on, or ended in peace.
func (a *Agent) rebuild(items []node.Item, instances []*instance) []*instance {
	recorded := uidsOf(instances)
	rebuilt := map[string]*instance{}
	slices.SortFunc(items, func(x, y node.Item) int {
		return cmp.Or(cmp.Compare(x.Container, y.Container), cmp.Compare(x.Attempt, y.Attempt))
	})
	for _, i := range items {
		if recorded[i.UID] || i.IsPause() {
			continue
		}
		inst := rebuilt[i.UID]
		if inst == nil {
			a.log.Warn("pod without a record is rebuilt from what containerd knows", "pod", i.Namespace+"/"+i.Pod, "uid", i.UID)
			pod := &v1.Pod{ObjectMeta: metav1.ObjectMeta{
				Namespace: i.Namespace, Name: i.Pod, UID: types.UID(i.UID), CreationTimestamp: metav1.NewTime(time.Now()),
			}}
			inst = newInstance(a.podsDir, pod, i.Revision)
			inst.rebuilt = true
			rebuilt[i.UID] = inst
		}
		inst.remember(i)
	}
	var out []*instance
	for _, inst := range rebuilt {
		out = append(out, inst)
	}
	return out
}

// remember records what containerd knows of a part of the instance. Later attempts come after earlier ones.
func (i *instance) remember(item node.Item) {
	i.Users = item.Users
	i.Sandbox = sandboxRecord{Attempt: max(i.Sandbox.Attempt, item.Sandbox), Made: true, Ready: true}
	if i.Containers[item.Container] == nil {
		i.Pod.Spec.Containers = append(i.Pod.Spec.Containers, v1.Container{Name: item.Container})
	}
	i.Containers[item.Container] = &record{Attempt: item.Attempt, Sandbox: item.Sandbox, CreatedAt: time.Now(), Launched: true}
}

// strays are the containers of instances that are past: an agent was killed between two steps. containerd's pause processes
// are strays, too.
func strays(items []node.Item, instances []*instance) []node.Item {
	known := map[string]bool{}
	for _, inst := range instances {
		for _, c := range plan.Containers(inst.Pod) {
			known[inst.target(c.Name).ID()] = true
		}
	}
	return slices.DeleteFunc(items, func(i node.Item) bool { return known[i.ID] && !i.IsPause() })
}

// removeStrays removes what no instance knows. It goes on beside the workers: what hangs holds up nobody.
func (a *Agent) removeStrays(ctx context.Context, strays []node.Item) {
	for _, i := range strays {
		a.log.Info("remove stray container", "id", i.ID, "pod", i.Namespace+"/"+i.Pod, "container", i.Container)
		if err := a.node.Remove(ctx, i); err != nil {
			a.log.Warn("stray container stays until the next sweep", "id", i.ID, "error", err)
		}
	}
}

// collectNetworks frees what sandboxes that are gone still have of the network.
func (a *Agent) collectNetworks(ctx context.Context) error {
	err := a.node.CollectNetworks(ctx, func(sandbox string) bool { return a.of(sandbox) != nil })
	if err != nil {
		a.log.Warn("leftovers of networks stay", "error", err)
	}
	return err
}

// freeNetworks has what is left of networks be freed whenever somebody says that there is some, until ctx ends: addresses, and rules of
// host ports, which come before those of the sandbox that has replaced theirs.
func freeNetworks(ctx context.Context, said <-chan struct{}, free func(context.Context) error) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-said:
		}
		for wait := firstRetry; free(ctx) != nil; wait = min(2*wait, maxSweepRetry) {
			select {
			case <-ctx.Done():
				return
			case <-time.After(wait):
			}
		}
	}
}
