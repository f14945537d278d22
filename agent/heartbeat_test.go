package agent

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/podkeeper/podkeeper/server"
)

// selfTold is a node that says what it is told to.
type selfTold struct {
	mu     sync.Mutex
	asked  int
	memory int64
	away   error
}

func (p *selfTold) Facts(context.Context) (v1.NodeStatus, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asked++
	return v1.NodeStatus{Capacity: v1.ResourceList{v1.ResourceMemory: *resource.NewQuantity(p.memory, resource.BinarySI)}}, p.away
}

func (p *selfTold) Images(context.Context) ([]v1.ContainerImage, error) {
	return []v1.ContainerImage{{Names: []string{"demo:1"}}}, nil
}

func (p *selfTold) PodCIDR() string { return "10.1.0.0/24" }

func (p *selfTold) becomes(memory int64, away error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.memory, p.away = memory, away
}

// nodes drains what a follower was told, and answers every version of the node, and how often its lease was told of.
func (f *follower) nodes() (nodes []v1.Node, renewed int, lease coordinationv1.Lease) {
	f.Helper()
	for {
		select {
		case c := <-f.changes:
			var err error
			switch c.Resource {
			case "nodes":
				nodes = append(nodes, v1.Node{})
				err = json.Unmarshal(c.Object, &nodes[len(nodes)-1])
			case "leases.coordination.k8s.io":
				renewed++
				err = json.Unmarshal(c.Object, &lease)
			}
			if err != nil {
				f.Fatal(err)
			}
		default:
			return nodes, renewed, lease
		}
	}
}

func TestTheNodeIsToldOfWhileSomebodyFollows(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := follows(t)
		a.cfg.CA = theCA
		host := a.heart.of.(*selfTold)
		f := a.followed(t)
		synctest.Wait()
		nodes, renewed, lease := f.nodes()
		if len(nodes) != 1 || renewed != 1 {
			t.Fatalf("at first there are %d nodes and %d leases", len(nodes), renewed)
		}
		n := nodes[0]
		if n.Labels[v1.LabelHostname] != "here" || n.Spec.PodCIDR != "10.1.0.0/24" || len(n.Status.Conditions) != 4 || n.Status.Conditions[3].Reason != "KubeletReady" || n.Status.Images[0].Names[0] != "demo:1" {
			t.Errorf("the node is %+v", n)
		}
		if owner := lease.OwnerReferences[0]; owner.UID != n.UID || n.UID == "" || *lease.Spec.HolderIdentity != "here" || lease.Namespace != "kube-node-lease" {
			t.Errorf("the lease is %+v, of the node %s", lease, n.UID)
		}
		time.Sleep(reportEvery - time.Second)
		if nodes, renewed, again := f.nodes(); len(nodes) != 0 || renewed != 29 || again.UID != lease.UID {
			t.Errorf("while nothing changes it was told of %d times, its lease %d times", len(nodes), renewed)
		}
		time.Sleep(beatEvery)
		if nodes, _, _ := f.nodes(); len(nodes) != 1 || !nodes[0].Status.Conditions[0].LastHeartbeatTime.After(n.Status.Conditions[0].LastHeartbeatTime.Time) ||
			!nodes[0].Status.Conditions[0].LastTransitionTime.Equal(&n.Status.Conditions[0].LastTransitionTime) {
			t.Errorf("its heartbeat is %+v", nodes)
		}
		under := []v1.NodeConditionType{v1.NodeDiskPressure}
		a.heart.under = func() []v1.NodeConditionType { return under }
		a.notePressure(t.Context())
		synctest.Wait()
		if nodes, _, _ := f.nodes(); len(nodes) != 1 || nodes[0].Status.Conditions[1].Status != v1.ConditionTrue || nodes[0].Status.Conditions[1].Reason != "KubeletHasDiskPressure" ||
			nodes[0].Status.Conditions[0].Status != v1.ConditionFalse {
			t.Errorf("under pressure it is told at once of %+v", nodes)
		} else if taints := nodes[0].Spec.Taints; len(taints) != 1 || taints[0].Key != "node.kubernetes.io/disk-pressure" || taints[0].Effect != v1.TaintEffectNoSchedule {
			t.Errorf("its taints are %+v", taints)
		}
		under = nil
		a.notePressure(t.Context())
		time.Sleep(time.Second) // for what is told is told in batches
		if nodes, _, _ := f.nodes(); len(nodes) != 1 || nodes[0].Status.Conditions[1].Reason != "KubeletHasNoDiskPressure" || len(nodes[0].Spec.Taints) != 0 {
			t.Errorf("afterwards of %+v", nodes)
		}
		host.becomes(1<<20, errors.New("containerd is away"))
		time.Sleep(beatEvery)
		if nodes, _, _ := f.nodes(); len(nodes) != 1 || nodes[0].Status.Capacity.Memory().Value() != 1<<20 || nodes[0].Status.Conditions[3].Status != v1.ConditionFalse {
			t.Errorf("changed it is %+v", nodes)
		}
		_ = f.end()
		synctest.Wait()
		asked := host.asked
		time.Sleep(time.Hour)
		if host.asked != asked {
			t.Errorf("with nobody who follows it was looked at %d times", host.asked-asked)
		}
		f = a.followed(t)
		synctest.Wait()
		if again, _, _ := f.nodes(); len(again) != 1 || again[0].UID != n.UID {
			t.Errorf("later it is %+v", again)
		}
	})
}

func TestWhatClientsSayOfTheNode(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := follows(t)
		a.cfg.CA = theCA
		f := a.followed(t)
		synctest.Wait()
		nodes, _, _ := f.nodes()
		put := func(name string, otherwise func(*v1.Node)) error {
			n := nodes[0].DeepCopy()
			n.Kind, n.APIVersion, n.Name = "Node", "v1", name
			otherwise(n)
			body, err := json.Marshal(n)
			if err != nil {
				t.Fatal(err)
			}
			_, err = a.PutObject(id("nodes", "", name), body, server.Condition{})
			return err
		}
		if err := put("here", func(n *v1.Node) {
			n.Labels = map[string]string{"disk": "ssd"}
			pressure := v1.Taint{Key: v1.TaintNodeMemoryPressure, Effect: v1.TaintEffectNoSchedule} // as it was read
			n.Spec.Unschedulable, n.Spec.Taints = true, []v1.Taint{pressure, {Key: "a", Effect: v1.TaintEffectNoSchedule}}
		}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		if told, _, _ := f.nodes(); len(told) != 1 || !told[0].Spec.Unschedulable || len(told[0].Spec.Taints) != 1 || told[0].Labels["disk"] != "ssd" || told[0].Labels[v1.LabelHostname] != "here" || len(told[0].Status.Conditions) != 4 {
			t.Errorf("told of %+v", told)
		}
		if self := a.roster.node(); !self.Spec.Unschedulable || len(self.Spec.Taints) != 1 || self.Labels["disk"] != "ssd" || self.Labels[v1.LabelOSStable] == "" {
			t.Errorf("Pods meet %+v", self)
		}
		remove := func(resource, namespace, name string) error {
			_, _, err := a.DeleteObject(id(resource, namespace, name), server.Condition{}, nil)
			return err
		}
		evicts := func(n *v1.Node) { n.Spec.Taints = []v1.Taint{{Key: "a", Effect: v1.TaintEffectNoExecute}} }
		for sentence, c := range map[string]struct {
			err, want error
			says      string
		}{
			"a taint that evicts": {put("here", evicts), server.ErrInvalid, `spec.taints[0].effect: "NoExecute": not supported: supported values: "NoSchedule", "PreferNoSchedule"`},
			"another node":        {put("there", func(*v1.Node) {}), server.ErrForbidden, `there is but one node here, "here"`},
			"to be rid of it":     {remove("nodes", "", "here"), server.ErrForbidden, "the node is there as long as its agent"},
			"to be rid of its lease": {
				remove("leases.coordination.k8s.io", "kube-node-lease", "here"), server.ErrForbidden, "it is the node's own",
			},
		} {
			if !errors.Is(c.err, c.want) || !strings.Contains(c.err.Error(), c.says) {
				t.Errorf("%s: %v, want %s", sentence, c.err, c.says)
			}
		}
		if err := put("here", func(*v1.Node) {}); err != nil || a.roster.node().Spec.Unschedulable {
			t.Errorf("open again: %v", err)
		}
		_ = f.end()
	})
}
