package metrics

import (
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	stats "k8s.io/kubelet/pkg/apis/stats/v1alpha1"
	"k8s.io/metrics/pkg/apis/metrics/v1beta1"

	"github.com/podkeeper/podkeeper/server"
)

// ofPod is what a Pod uses: nil where it does not run, or where not all is known of its containers that do, which would look like
// a Pod that uses less.
func ofPod(o runtime.Object, s *server.Summary) runtime.Object {
	pod := o.(*v1.Pod)
	told := find(s.Pods, pod)
	if told == nil || pod.Status.Phase != v1.PodRunning {
		return nil
	}
	m := &v1beta1.PodMetrics{Window: s.Window, Containers: []v1beta1.ContainerMetrics{}}
	for _, c := range told.Containers {
		usage, at := usageOf(c.CPU, c.Memory, c.Swap)
		if usage == nil {
			return nil
		}
		if m.Timestamp.IsZero() || at.Before(&m.Timestamp) {
			m.Timestamp = at
		}
		m.Containers = append(m.Containers, v1beta1.ContainerMetrics{Name: c.Name, Usage: usage})
	}
	m.ObjectMeta = metaOf(pod, m.Timestamp)
	return m
}

// find answers what is told of a Pod, nil where that is nothing, or of another one by its name.
func find(told []stats.PodStats, pod *v1.Pod) *stats.PodStats {
	for i := range told {
		if told[i].PodRef.UID == string(pod.UID) {
			return &told[i]
		}
	}
	return nil
}

// ofNode is what the node uses.
func ofNode(o runtime.Object, s *server.Summary) runtime.Object {
	node := o.(*v1.Node)
	usage, at := usageOf(s.Node.CPU, s.Node.Memory, s.Node.Swap)
	if usage == nil || node.Name != s.Node.NodeName {
		return nil
	}
	return &v1beta1.NodeMetrics{ObjectMeta: metaOf(node, at), Timestamp: at, Window: s.Window, Usage: usage}
}

// metaOf is that of figures, which have the labels of what they are about, and are as old as they are.
func metaOf(of metav1.Object, at metav1.Time) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: of.GetNamespace(), Name: of.GetName(), Labels: of.GetLabels(), CreationTimestamp: at}
}

// resourceSwap is what `kubectl top --show-swap` asks for.
const resourceSwap v1.ResourceName = "swap"

// usageOf is nil where CPU or memory is not known; swap is told of where it is counted.
func usageOf(cpu *stats.CPUStats, memory *stats.MemoryStats, swap *stats.SwapStats) (v1.ResourceList, metav1.Time) {
	if cpu == nil || cpu.UsageNanoCores == nil || memory == nil || memory.WorkingSetBytes == nil {
		return nil, metav1.Time{}
	}
	usage := v1.ResourceList{
		v1.ResourceCPU:    *resource.NewScaledQuantity(int64(*cpu.UsageNanoCores), resource.Nano),
		v1.ResourceMemory: *resource.NewQuantity(int64(*memory.WorkingSetBytes), resource.BinarySI),
	}
	if swap != nil && swap.SwapUsageBytes != nil {
		usage[resourceSwap] = *resource.NewQuantity(int64(*swap.SwapUsageBytes), resource.BinarySI)
	}
	return usage, cpu.Time
}
