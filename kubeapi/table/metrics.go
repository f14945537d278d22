package table

import (
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metricsv1beta1 "k8s.io/metrics/pkg/apis/metrics/v1beta1"
)

// usageColumns are those of kubernetes-sigs/metrics-server, where it knows of CPU and memory.
func usageColumns() []metav1.TableColumnDefinition {
	return []metav1.TableColumnDefinition{
		{Name: "Name", Type: "string", Format: "name"}, {Name: "cpu", Type: "string", Format: "quantity"},
		{Name: "memory", Type: "string", Format: "quantity"}, {Name: "Window", Type: "string", Format: "duration"},
	}
}

// podMetrics adds up what the containers use.
func podMetrics(m *metricsv1beta1.PodMetrics, _ time.Time) []any {
	var cpu, memory resource.Quantity
	for _, c := range m.Containers {
		cpu.Add(c.Usage[v1.ResourceCPU])
		memory.Add(c.Usage[v1.ResourceMemory])
	}
	return []any{m.Name, cpu.String(), memory.String(), m.Window.Duration.String()}
}

func nodeMetrics(m *metricsv1beta1.NodeMetrics, _ time.Time) []any {
	return []any{m.Name, m.Usage.Cpu().String(), m.Usage.Memory().String(), m.Window.Duration.String()}
}
