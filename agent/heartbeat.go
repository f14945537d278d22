package agent

import (
	"context"
	"errors"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	utilerrors "k8s.io/apimachinery/pkg/util/errors"
	"k8s.io/apimachinery/pkg/util/uuid"
	"k8s.io/utils/ptr"

	"github.com/podkeeper/podkeeper/agent/node"
	"github.com/podkeeper/podkeeper/agent/objects"
	"github.com/podkeeper/podkeeper/manifests"
)

// How often the node is looked at and its lease renewed, how often it says that nothing has changed, and how often it lists
// its images: as the kubelet does (nodeStatusUpdateFrequency, nodeStatusReportFrequency), but only while somebody follows.
const (
	beatEvery     = 10 * time.Second
	reportEvery   = 5 * time.Minute
	imagesEvery   = time.Minute
	leaseDuration = 40 * time.Second // nodeLeaseDurationSeconds
	beatPatience  = 2 * time.Second  // with a containerd that does not answer
)

// selfReport is what the node says of itself: node.Node, or in tests something that pretends to be one.
type selfReport interface {
	Facts(ctx context.Context) (v1.NodeStatus, error)
	Images(ctx context.Context) ([]v1.ContainerImage, error)
	PodCIDR() string
}

// heartbeat is what is told of the node: nothing, until somebody follows.
type heartbeat struct {
	name  string
	of    selfReport
	under func() []v1.NodeConditionType // the pressures that the node is under; may be nil
	ends  func() bool                   // whether the host is about to shut down; may be nil
	begun chan struct{}                 // of size 1: somebody follows
	last  atomic.Pointer[pulse]

	mu       sync.Mutex // held while the node is looked at
	hasty    bool       // the next beat is due at once
	listed   time.Time  // when the images were
	reported time.Time  // when the status was
}

// pulse is the node at one moment. Of two pulses that tell the same, the status is one and the same.
type pulse struct {
	at     time.Time
	status *v1.NodeStatus
	cidr   string
	lease  *coordinationv1.Lease
}

func newHeartbeat(n *node.Node) *heartbeat {
	return &heartbeat{name: n.Name, of: n, begun: make(chan struct{}, 1)}
}

// beat looks at the node, unless that was done just now, and answers what it is. uid is that of its object.
func (h *heartbeat) beat(ctx context.Context, uid types.UID) *pulse {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := time.Now()
	was := h.last.Load()
	if was == nil {
		was = &pulse{status: &v1.NodeStatus{}, lease: h.newLease(uid, now)}
	} else if now.Sub(was.at) < beatEvery && !h.hasty {
		return was
	}
	h.hasty = false
	ctx, cancel := context.WithTimeout(ctx, beatPatience)
	defer cancel()
	facts, away := h.of.Facts(ctx)
	facts.Images = was.status.Images
	if away == nil && now.Sub(h.listed) >= imagesEvery {
		if images, err := h.of.Images(ctx); err == nil { // else they are listed with the next beat
			facts.Images, h.listed = images, now
		}
	}
	var under []v1.NodeConditionType
	if h.under != nil {
		under = h.under()
	}
	facts.Conditions = conditions(was.status.Conditions, under, h.faults(away), now)
	next := &pulse{at: now, status: was.status, cidr: h.of.PodCIDR(), lease: was.lease.DeepCopy()}
	next.lease.Spec.RenewTime = &metav1.MicroTime{Time: now}
	if now.Sub(h.reported) >= reportEvery || !sameStatus(was.status, &facts) {
		next.status, h.reported = &facts, now
	}
	h.last.Store(next)
	return next
}

// faults is why the node is not ready, nil where it is. away is why its runtime does not answer.
func (h *heartbeat) faults(away error) error {
	var all []error
	if away != nil {
		all = append(all, errors.New("container runtime is down"))
	}
	if h.ends != nil && h.ends() {
		all = append(all, errors.New("node is shutting down"))
	}
	return utilerrors.NewAggregate(all)
}

// hasten has the next beat not wait for its time.
func (h *heartbeat) hasten() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.hasty = true
}

// newLease is the node's lease as a kubelet has it.
func (h *heartbeat) newLease(uid types.UID, now time.Time) *coordinationv1.Lease {
	return &coordinationv1.Lease{
		TypeMeta: metav1.TypeMeta{APIVersion: coordinationv1.SchemeGroupVersion.String(), Kind: manifests.KindLease},
		ObjectMeta: metav1.ObjectMeta{
			Namespace: v1.NamespaceNodeLease, Name: h.name, UID: uuid.NewUUID(), CreationTimestamp: metav1.NewTime(now),
			OwnerReferences: []metav1.OwnerReference{{APIVersion: "v1", Kind: manifests.KindNode, Name: h.name, UID: uid}},
		},
		Spec: coordinationv1.LeaseSpec{HolderIdentity: ptr.To(h.name), LeaseDurationSeconds: ptr.To(int32(leaseDuration / time.Second))},
	}
}

// conditions are those of the node, in the kubelet's words.
func conditions(was []v1.NodeCondition, under []v1.NodeConditionType, faults error, now time.Time) []v1.NodeCondition {
	ready := v1.NodeCondition{Type: v1.NodeReady, Status: v1.ConditionTrue, Reason: "KubeletReady", Message: "kubelet is posting ready status"}
	if faults != nil {
		ready.Status, ready.Reason, ready.Message = v1.ConditionFalse, "KubeletNotReady", faults.Error()
	}
	all := append(pressureConditions(under), ready)
	for i := range all {
		all[i].LastHeartbeatTime, all[i].LastTransitionTime = metav1.NewTime(now), metav1.NewTime(now)
		if i < len(was) && was[i].Status == all[i].Status {
			all[i].LastTransitionTime = was[i].LastTransitionTime
		}
	}
	return all
}

// sameStatus says whether two statuses differ in nothing but when they were taken.
func sameStatus(a, b *v1.NodeStatus) bool {
	timeless := func(s *v1.NodeStatus) *v1.NodeStatus {
		s = s.DeepCopy()
		for i := range s.Conditions {
			s.Conditions[i].LastHeartbeatTime = metav1.Time{}
		}
		return s
	}
	return equality.Semantic.DeepEqual(timeless(a), timeless(b))
}

// nodeResource is what nodes are called in paths.
const nodeResource = "nodes"

func nodeID(name string) objects.ID {
	return objects.ID{Resource: nodeResource, NamespacedName: types.NamespacedName{Name: name}}
}

func (h *heartbeat) leaseID() objects.ID {
	return objects.IDOf(manifests.Key{Kind: manifests.KindLease, NamespacedName: types.NamespacedName{Namespace: v1.NamespaceNodeLease, Name: h.name}})
}

// showNode has whoever follows be told of the node from now on.
func (a *Agent) showNode(ctx context.Context) {
	if a.cfg.CA == nil {
		return
	}
	a.beat(ctx)
	select {
	case a.heart.begun <- struct{}{}:
	default:
	}
}

func (a *Agent) beat(ctx context.Context) {
	if o, err := a.objects.Get(nodeID(a.node.Name)); err == nil { // else it could not be written, which was told
		a.heart.beat(ctx, uidOf(o))
	}
}

func uidOf(o objects.Object) types.UID {
	return (&unstructured.Unstructured{Object: o.Content}).GetUID()
}

// keepBeating looks at the node while somebody follows, until ctx ends.
func (a *Agent) keepBeating(ctx context.Context) {
	timer := time.NewTimer(beatEvery)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-a.heart.begun:
			timer.Reset(beatEvery)
		case <-timer.C:
			if a.feed.followed() {
				a.beat(ctx)
				a.feed.Wake()
				timer.Reset(beatEvery)
			}
		}
	}
}

// seeNode adds the node to what there is, as its object with what it says of itself, and its lease.
func (a *Agent) seeNode(seen map[objects.ID]sighting) {
	pulse := a.heart.last.Load()
	id := nodeID(a.node.Name)
	kept, ok := seen[id]
	if pulse == nil || !ok {
		return
	}
	seen[id] = sighting{[3]any{kept.mark, pulse.status, pulse.cidr}, func() (map[string]any, error) {
		fields, err := kept.write()
		if err != nil {
			return nil, err
		}
		labels := child(child(fields, "metadata"), "labels")
		for name, value := range a.node.Object().Labels {
			labels[name] = value
		}
		if pulse.cidr != "" {
			maps.Copy(child(fields, "spec"), map[string]any{"podCIDR": pulse.cidr, "podCIDRs": []any{pulse.cidr}})
		}
		addPressureTaints(child(fields, "spec"), pulse.status)
		fields["status"], err = runtime.DefaultUnstructuredConverter.ToUnstructured(pulse.status)
		return fields, err
	}, kept.kept}
	seen[a.heart.leaseID()] = sighting{pulse.lease, func() (map[string]any, error) {
		return runtime.DefaultUnstructuredConverter.ToUnstructured(pulse.lease)
	}, 0}
}

// heed has Pods that begin meet the node as clients want it: with their labels and taints, and maybe closed.
func (a *Agent) heed(set manifests.Set) {
	self := a.node.Object()
	for _, o := range set.Objects {
		if wanted, ok := o.Object.(*v1.Node); ok && wanted.Name == self.Name {
			labels := maps.Clone(wanted.Labels)
			if labels == nil {
				labels = map[string]string{}
			}
			maps.Copy(labels, self.Labels)
			self.Labels, self.Spec.Unschedulable, self.Spec.Taints = labels, wanted.Spec.Unschedulable, wanted.Spec.Taints
		}
	}
	if a.become(self) {
		a.wakeAll()
	}
}
