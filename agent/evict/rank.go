package evict

import (
	"cmp"
	"fmt"
	"slices"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	resourcehelper "k8s.io/component-helpers/resource"
	"k8s.io/component-helpers/scheduling/corev1"
	"k8s.io/klog/v2"
	"k8s.io/kubectl/pkg/util/qos"
)

// SystemCritical is the least priority of what a node does not work without (kubernetes/kubernetes pkg/apis/scheduling/types.go,
// SystemCriticalPriority).
const SystemCritical = 2_000_000_000

// Critical says whether a Pod is never evicted, and begins under any pressure.
func Critical(pod *v1.Pod) bool { return corev1.PodPriority(pod) >= SystemCritical }

// Hold says why a Pod may not begin under pressure, "" where it may: what asks for no memory and no CPU not under that of memory
// alone, unless it tolerates the taint of that, and nothing under any other; critical Pods excepted
// (eviction_manager.go, Admit; nodeConditionMessageFmt).
func Hold(pod *v1.Pod, pressure []v1.NodeConditionType) string {
	if len(pressure) == 0 || Critical(pod) {
		return ""
	}
	if len(pressure) == 1 && pressure[0] == v1.NodeMemoryPressure {
		taint := &v1.Taint{Key: v1.TaintNodeMemoryPressure, Effect: v1.TaintEffectNoSchedule}
		if qos.GetPodQOS(pod) != v1.PodQOSBestEffort || corev1.TolerationsTolerateTaint(klog.Background(), pod.Spec.Tolerations, taint, false) {
			return ""
		}
	}
	return fmt.Sprintf("The node had condition: %v. ", pressure)
}

// Amount is what something takes of a disk.
type Amount struct{ Bytes, Inodes int64 }

func (a Amount) of(r v1.ResourceName) int64 {
	if r == inodes {
		return a.Inodes
	}
	return a.Bytes
}

// Container is what one container uses.
type Container struct {
	Memory int64 // bytes of its working set
	Layer  Amount
	Logs   Amount
}

// Usage is what a Pod uses.
type Usage struct {
	Memory     int64 // bytes of its working set
	Processes  int64
	Containers map[string]Container // by name
	Volumes    map[string]Amount    // emptyDirs on disk, by name
	Files      Amount               // that its containers are given and may write to, /etc/hosts among them
}

// Candidate is a Pod that may have to go.
type Candidate struct {
	Pod   *v1.Pod
	Usage *Usage // nil is not known
}

// Layout says what is on which file system.
type Layout struct {
	ImagesApart bool // images are not on that of the root directory
	LayersApart bool // writable layers are not
}

// parts says what of a Pod is on a signal's file system.
func (l Layout) parts(s Signal) (layers, rest bool) {
	switch s {
	case ImageFSAvailable, ImageFSInodesFree:
		if l.ImagesApart {
			return l.LayersApart, false
		}
	case ContainerFSAvailable, ContainerFSInodesFree:
		if l.LayersApart {
			return true, false
		}
	}
	return !l.LayersApart, true
}

// uses is what a Pod uses of what a signal is about.
func (l Layout) uses(s Signal, u *Usage) int64 {
	switch s.Resource() {
	case v1.ResourceMemory:
		return u.Memory
	case pids:
		return u.Processes
	}
	layers, rest := l.parts(s)
	var sum int64
	for _, c := range u.Containers {
		if layers {
			sum += c.Layer.of(s.Resource())
		}
		if rest {
			sum += c.Logs.of(s.Resource())
		}
	}
	for _, v := range u.Volumes {
		if rest {
			sum += v.of(s.Resource())
		}
	}
	if rest {
		sum += u.Files.of(s.Resource())
	}
	return sum
}

// requests is what a Pod has asked for of what a signal is about.
func requests(s Signal, pod *v1.Pod) int64 {
	asked := resourcehelper.PodRequests(pod, resourcehelper.PodResourcesOptions{})[s.Resource()]
	return asked.Value()
}

// Rank puts Pods in the order in which they go for a signal: of memory and disk first who uses more than he asked for, then the
// lower priority, then who uses the most beyond that; processes and inodes nobody asks for. Who could not be measured goes first.
// Critical Pods are left out.
func (l Layout) Rank(s Signal, all []Candidate) []Candidate {
	type key struct {
		known, exceeds bool
		priority       int32
		beyond         int64
	}
	keys := map[*v1.Pod]key{}
	all = slices.DeleteFunc(slices.Clone(all), func(c Candidate) bool { return Critical(c.Pod) })
	for _, c := range all {
		k := key{priority: corev1.PodPriority(c.Pod), known: c.Usage != nil}
		if k.known {
			k.beyond = l.uses(s, c.Usage) - requests(s, c.Pod)
			k.exceeds = k.beyond > 0
		}
		if s.Resource() == pids { // kubernetes/kubernetes rankPIDPressure
			k.known, k.exceeds = true, true
		}
		keys[c.Pod] = k
	}
	slices.SortFunc(all, func(x, y Candidate) int {
		a, b := keys[x.Pod], keys[y.Pod]
		return cmp.Or(
			truth(a.known, b.known), truth(b.exceeds, a.exceeds), cmp.Compare(a.priority, b.priority), cmp.Compare(b.beyond, a.beyond),
			cmp.Compare(x.Pod.Namespace, y.Pod.Namespace), cmp.Compare(x.Pod.Name, y.Pod.Name))
	})
	return all
}

// truth puts what is not so before what is.
func truth(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}

// Message says why a Pod goes: what the node was low on, and which of its containers used more of that than they had asked for
// (nodeLowMessageFmt, thresholdMetMessageFmt, containerMessageFmt).
func Message(t Threshold, r Reading, c Candidate) string {
	short := t.Signal.Resource()
	text := fmt.Sprintf("The node was low on resource: %v. Threshold quantity: %v, available: %v. ",
		short, t.Signal.quantity(t.Below.Of(r.Capacity)), t.Signal.quantity(r.Available))
	if c.Usage == nil {
		return text
	}
	for _, of := range slices.Concat(c.Pod.Spec.Containers, c.Pod.Spec.InitContainers) {
		used, there := c.Usage.Containers[of.Name]
		var amount int64
		switch {
		case there && short == v1.ResourceMemory:
			amount = used.Memory
		case there && short == v1.ResourceEphemeralStorage:
			amount = used.Layer.Bytes + used.Logs.Bytes
		}
		asked := of.Resources.Requests[short]
		usage := resource.NewQuantity(amount, resource.BinarySI)
		if amount > 0 && usage.Cmp(asked) > 0 {
			text += fmt.Sprintf("Container %s was using %s, request is %s, has larger consumption of %v. ", of.Name, usage, &asked, short)
		}
	}
	return text
}
