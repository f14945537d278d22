package usage

import (
	"context"
	"errors"
	"io/fs"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	stats "k8s.io/kubelet/pkg/apis/stats/v1alpha1"
	"k8s.io/utils/ptr"

	"github.com/podkeeper/podkeeper/agent/node"
)

// Summary tells what is used now, and over what time the rates in it are. What the kubelet would tell and is not known, or would
// take a walk through a file system, is left out: writable layers, volumes, and ephemeral storage, which is the sum of these.
// Of CPUs and memory alone it is cheaper.
func (m *Meter) Summary(ctx context.Context, onlyCPUAndMemory bool) (stats.Summary, time.Duration, error) {
	w, err := m.measure(ctx)
	if err != nil {
		return stats.Summary{}, 0, err
	}
	s := w.summary(m.name)
	booted, err := m.host.Booted()
	if err != nil {
		return stats.Summary{}, 0, err
	}
	s.Node.StartTime = metav1.NewTime(booted)
	if !onlyCPUAndMemory {
		err = m.addDevices(&s, w)
	}
	return s, w.now[nodeKey].At.Sub(w.began[nodeKey].At), err
}

// summary is what a window says of CPUs and memory. A container that was not there at both ends of it has no figures.
func (w window) summary(name string) stats.Summary {
	s := stats.Summary{Node: stats.NodeStats{NodeName: name}, Pods: []stats.PodStats{}}
	s.Node.CPU, s.Node.Memory, s.Node.Swap = w.figures(nodeKey)
	for _, p := range w.pods {
		of := stats.PodStats{
			PodRef:    stats.PodReference{Namespace: p.pod.Namespace, Name: p.pod.Name, UID: string(p.pod.UID)},
			StartTime: ptr.Deref(p.pod.Status.StartTime, metav1.Time{}), Containers: []stats.ContainerStats{},
		}
		of.CPU, of.Memory, of.Swap = w.figures(string(p.pod.UID))
		for _, c := range p.containers {
			if _, known := w.now[c.id]; !known {
				continue
			}
			one := stats.ContainerStats{Name: c.name, StartTime: metav1.NewTime(c.startedAt)}
			one.CPU, one.Memory, one.Swap = w.figures(c.id)
			of.Containers = append(of.Containers, one)
		}
		if len(of.Containers) > 0 {
			s.Pods = append(s.Pods, of)
		}
	}
	return s
}

// figures are nil where nothing is known.
func (w window) figures(key string) (*stats.CPUStats, *stats.MemoryStats, *stats.SwapStats) {
	u, known := w.now[key]
	if !known {
		return nil, nil, nil
	}
	at := metav1.NewTime(u.At)
	cpu := &stats.CPUStats{Time: at, UsageCoreNanoSeconds: &u.CPU}
	if before, ok := w.began[key]; ok && u.At.After(before.At) && u.CPU >= before.CPU { // else the cgroup was made anew
		cpu.UsageNanoCores = ptr.To(uint64(float64(u.CPU-before.CPU) / u.At.Sub(before.At).Seconds()))
	}
	memory := &stats.MemoryStats{
		Time: at, UsageBytes: &u.Memory, WorkingSetBytes: &u.WorkingSet, RSSBytes: &u.RSS, PageFaults: &u.PageFaults, MajorPageFaults: &u.MajorPageFaults,
	}
	if u.Limit > 0 {
		memory.AvailableBytes = ptr.To(u.Limit - min(u.Limit, u.WorkingSet))
	}
	if u.Swap == nil {
		return cpu, memory, nil
	}
	return cpu, memory, &stats.SwapStats{Time: at, SwapUsageBytes: u.Swap}
}

// addDevices adds what is told of networks and file systems. What is gone meanwhile is left out.
func (m *Meter) addDevices(s *stats.Summary, w window) error {
	root, err := m.host.RootDisk()
	if err != nil {
		return err
	}
	s.Node.Fs = fsStats(root)
	if s.Node.Network, err = m.network(nil); err != nil {
		return err
	}
	pods := map[string]*v1.Pod{}
	for _, p := range w.pods {
		pods[string(p.pod.UID)] = p.pod
	}
	for i := range s.Pods {
		told := &s.Pods[i]
		pod := pods[told.PodRef.UID]
		if told.Network, err = m.network(pod); err != nil && !errors.Is(err, fs.ErrNotExist) {
			m.log.Warn("network usage cannot be read", "pod", pod.Namespace+"/"+pod.Name, "error", err)
		}
		for j := range told.Containers {
			c := &told.Containers[j]
			logs, err := m.host.LogDisk(pod, c.Name)
			switch {
			case err == nil:
				c.Logs = fsStats(logs)
			case !errors.Is(err, fs.ErrNotExist):
				m.log.Warn("size of logs cannot be read", "pod", pod.Namespace+"/"+pod.Name, "container", c.Name, "error", err)
			}
		}
	}
	return nil
}

// network is that of a Pod, or without one the node's; nil where there is none.
func (m *Meter) network(pod *v1.Pod) (*stats.NetworkStats, error) {
	found, err := m.host.Traffic(pod)
	if err != nil || len(found) == 0 {
		return nil, err
	}
	n := &stats.NetworkStats{Time: metav1.Now()}
	for _, i := range found {
		one := stats.InterfaceStats{Name: i.Name, RxBytes: &i.RxBytes, RxErrors: &i.RxErrors, TxBytes: &i.TxBytes, TxErrors: &i.TxErrors}
		n.Interfaces = append(n.Interfaces, one)
		if i.Default {
			n.InterfaceStats = one
		}
	}
	return n, nil
}

func fsStats(d node.Disk) *stats.FsStats {
	return &stats.FsStats{
		Time: metav1.NewTime(d.At), AvailableBytes: &d.Available, CapacityBytes: &d.Capacity, UsedBytes: &d.Used,
		Inodes: &d.Inodes, InodesFree: &d.InodesFree, InodesUsed: &d.InodesUsed,
	}
}
