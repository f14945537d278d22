package server

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func quantities(pairs ...string) v1.ResourceList {
	list := v1.ResourceList{}
	for i := 0; i < len(pairs); i += 2 {
		list[v1.ResourceName(pairs[i])] = resource.MustParse(pairs[i+1])
	}
	return list
}

func TestPrintNode(t *testing.T) {
	t.Parallel()
	begin := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	node := &v1.Node{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Node"}, ObjectMeta: metav1.ObjectMeta{Name: "edge", Labels: map[string]string{"b": "2", "a": "1"}}}
	node.Spec.Taints = []v1.Taint{{Key: "dedicated", Value: "gpu", Effect: v1.TaintEffectNoSchedule}}
	node.Status = v1.NodeStatus{
		Capacity:    quantities("cpu", "4", "memory", "8Gi", "pods", "110", "example.com/gpu", "2"),
		Allocatable: quantities("cpu", "2", "memory", "4Gi", "pods", "110", "example.com/gpu", "2", "hugepages-2Mi", "0"),
		Conditions:  []v1.NodeCondition{{Type: v1.NodeReady, Status: v1.ConditionTrue, LastHeartbeatTime: metav1.NewTime(begin), LastTransitionTime: metav1.NewTime(begin), Reason: "KubeletReady", Message: "kubelet is posting ready status"}},
		Addresses:   []v1.NodeAddress{{Type: v1.NodeInternalIP, Address: "192.0.2.1"}},
		NodeInfo:    v1.NodeSystemInfo{KernelVersion: "6.1"},
	}
	pod := func(name string, phase v1.PodPhase) v1.Pod {
		p := v1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name, CreationTimestamp: metav1.NewTime(begin)}}
		p.Spec.NodeName = "edge"
		p.Spec.Containers = []v1.Container{{Name: "app", Resources: v1.ResourceRequirements{
			Requests: quantities("cpu", "500m", "memory", "1Gi", "example.com/gpu", "1"), Limits: quantities("cpu", "1", "memory", "2Gi", "example.com/gpu", "1"),
		}}}
		p.Status.Phase = phase
		return p
	}
	waits := pod("waits", v1.PodPending)
	waits.Spec.NodeName = ""
	pods := []v1.Pod{pod("web", v1.PodRunning), pod("db", v1.PodRunning), pod("job", v1.PodSucceeded), waits}
	var out strings.Builder
	if err := PrintNode(&out, node, pods, "", begin.Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	want := `Name:           edge
Labels:         a=1
                b=2
Annotations:    <none>
Taints:         dedicated=gpu:NoSchedule
Unschedulable:  false
Conditions:
  Type   Status  LastHeartbeatTime                LastTransitionTime               Reason        Message
  ----   ------  -----------------                ------------------               ------        -------
  Ready  True    Fri, 02 Jan 2026 03:04:05 +0000  Fri, 02 Jan 2026 03:04:05 +0000  KubeletReady  kubelet is posting ready status
Addresses:
  InternalIP:  192.0.2.1
Capacity:
  cpu:              4
  example.com/gpu:  2
  memory:           8Gi
  pods:             110
Allocatable:
  cpu:              2
  example.com/gpu:  2
  hugepages-2Mi:    0
  memory:           4Gi
  pods:             110
System Info:
  Machine ID:                 
  System UUID:                
  Boot ID:                    
  Kernel Version:             6.1
  OS Image:                   
  Operating System:           
  Architecture:               
  Container Runtime Version:  
  Kubelet Version:            
Non-terminated Pods:          (2 in total)
  Namespace                   Name  CPU Requests  CPU Limits  Memory Requests  Memory Limits  Age
  ---------                   ----  ------------  ----------  ---------------  -------------  ---
  shop                        web   500m (25%)    1 (50%)     1Gi (25%)        2Gi (50%)      60m
  shop                        db    500m (25%)    1 (50%)     1Gi (25%)        2Gi (50%)      60m
Allocated resources:
  (Total limits may be over 100 percent, i.e., overcommitted.)
  Resource           Requests   Limits
  --------           --------   ------
  cpu                1 (50%)    2 (100%)
  memory             2Gi (50%)  4Gi (100%)
  ephemeral-storage  0 (0%)     0 (0%)
  example.com/gpu    2          2
  hugepages-2Mi      0 (0%)     0 (0%)
`
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Error(diff)
	}
	out.Reset()
	if err := PrintNode(&out, node, pods, "yaml", begin); err != nil || !strings.Contains(out.String(), "kind: Node\n") {
		t.Errorf("%v: %s", err, out.String())
	}
	if err := PrintNode(&out, node, pods, "table", begin); err == nil || err.Error() != `unknown output "table": it can be json or yaml` {
		t.Error(err)
	}
}
