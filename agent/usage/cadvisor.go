package usage

import (
	"context"
	"errors"
	"io/fs"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/utils/ptr"

	"github.com/podkeeper/podkeeper/agent/node"
)

// The kubelet's series at /metrics/cadvisor that dashboards ask for, with its words and labels (google/cadvisor metrics/prometheus.go,
// kubernetes/kubernetes pkg/kubelet/server, containerPrometheusLabelsFunc). A Pod as a whole has no container, no image and no name,
// and the node has no Pod.
var (
	cadvisorLabels = []string{"container", "id", "image", "name", "namespace", "pod"}

	cpuTotal         = cadvisor("cpu_usage_seconds_total", "Cumulative cpu time consumed in seconds.", "cpu")
	cpuUser          = cadvisor("cpu_user_seconds_total", "Cumulative user cpu time consumed in seconds.")
	cpuSystem        = cadvisor("cpu_system_seconds_total", "Cumulative system cpu time consumed in seconds.")
	cfsPeriods       = cadvisor("cpu_cfs_periods_total", "Number of elapsed enforcement period intervals.")
	cfsThrottled     = cadvisor("cpu_cfs_throttled_periods_total", "Number of throttled period intervals.")
	cfsThrottledTime = cadvisor("cpu_cfs_throttled_seconds_total", "Total time duration the container has been throttled.")
	memoryUsage      = cadvisor("memory_usage_bytes", "Current memory usage in bytes, including all memory regardless of when it was accessed")
	memoryWorkingSet = cadvisor("memory_working_set_bytes", "Current working set in bytes.")
	memoryRSS        = cadvisor("memory_rss", "Size of RSS in bytes.")
	memoryCache      = cadvisor("memory_cache", "Number of bytes of page cache memory.")
	memoryMapped     = cadvisor("memory_mapped_file", "Size of memory mapped files in bytes.")
	memorySwap       = cadvisor("memory_swap", "Container swap usage in bytes.")
	memoryFailures   = cadvisor("memory_failures_total", "Cumulative count of memory allocation failures.", "failure_type", "scope")
	oomEvents        = cadvisor("oom_events_total", "Count of out of memory events observed for the container")
	fsReads          = cadvisor("fs_reads_total", "Cumulative count of reads completed", "device")
	fsWrites         = cadvisor("fs_writes_total", "Cumulative count of writes completed", "device")
	fsBytesRead      = cadvisor("fs_reads_bytes_total", "Cumulative count of bytes read", "device")
	fsBytesWritten   = cadvisor("fs_writes_bytes_total", "Cumulative count of bytes written", "device")
	rxBytes          = cadvisor("network_receive_bytes_total", "Cumulative count of bytes received", "interface")
	rxPackets        = cadvisor("network_receive_packets_total", "Cumulative count of packets received", "interface")
	rxErrors         = cadvisor("network_receive_errors_total", "Cumulative count of errors encountered while receiving", "interface")
	rxDropped        = cadvisor("network_receive_packets_dropped_total", "Cumulative count of packets dropped while receiving", "interface")
	txBytes          = cadvisor("network_transmit_bytes_total", "Cumulative count of bytes transmitted", "interface")
	txPackets        = cadvisor("network_transmit_packets_total", "Cumulative count of packets transmitted", "interface")
	txErrors         = cadvisor("network_transmit_errors_total", "Cumulative count of errors encountered while transmitting", "interface")
	txDropped        = cadvisor("network_transmit_packets_dropped_total", "Cumulative count of packets dropped while transmitting", "interface")
	processes        = cadvisor("processes", "Number of processes running inside the container.")
	threads          = cadvisor("threads", "Number of threads running inside the container")
	startTime        = cadvisor("start_time_seconds", "Start time of the container since unix epoch in seconds.")
	lastSeen         = cadvisor("last_seen", "Last time a container was seen by the exporter")
	specShares       = cadvisor("spec_cpu_shares", "CPU share of the container.")
	specQuota        = cadvisor("spec_cpu_quota", "CPU quota of the container.")
	specPeriod       = cadvisor("spec_cpu_period", "CPU period of the container.")
	specMemory       = cadvisor("spec_memory_limit_bytes", "Memory limit for the container.")

	machineCores  = prometheus.NewDesc("machine_cpu_cores", "Number of logical CPU cores.", nil, nil)
	machineMemory = prometheus.NewDesc("machine_memory_bytes", "Amount of memory installed on the machine.", nil, nil)
	cadvisorError = prometheus.NewDesc("container_scrape_error", "1 if there was an error while getting container metrics, 0 otherwise", nil, nil)
)

// pressures are the series of waiting for each resource: of some processes, and of all.
var pressures = map[string][2]*prometheus.Desc{
	"cpu": {
		cadvisor("pressure_cpu_waiting_seconds_total", "Total time duration tasks in the container have waited due to CPU congestion."),
		cadvisor("pressure_cpu_stalled_seconds_total", "Total time duration no tasks in the container could make progress due to CPU congestion."),
	},
	"memory": {
		cadvisor("pressure_memory_waiting_seconds_total", "Total time duration tasks in the container have waited due to memory congestion."),
		cadvisor("pressure_memory_stalled_seconds_total", "Total time duration no tasks in the container could make progress due to memory congestion."),
	},
	"io": {
		cadvisor("pressure_io_waiting_seconds_total", "Total time duration tasks in the container have waited due to IO congestion."),
		cadvisor("pressure_io_stalled_seconds_total", "Total time duration no tasks in the container could make progress due to IO congestion."),
	},
}

func cadvisor(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("container_"+name, help, slices.Concat(cadvisorLabels, labels), nil)
}

// Containers tells what the node, Pods and containers use now, as the kubelet's /metrics/cadvisor does.
func (m *Meter) Containers(ctx context.Context) prometheus.Gatherer {
	var t told
	failed := 0.0
	if err := m.addContainers(ctx, &t); err != nil {
		m.log.Warn("usage cannot be read", "error", err)
		t, failed = nil, 1
	}
	t.gauge(cadvisorError, failed)
	registry := prometheus.NewRegistry()
	registry.MustRegister(t)
	return registry
}

func (m *Meter) addContainers(ctx context.Context, t *told) error {
	if err := m.awaitTurn(ctx); err != nil {
		return err
	}
	defer m.endTurn()
	whole, err := m.host.NodeUsage()
	if err != nil {
		return err
	}
	capacity := m.host.Capacity()
	t.gauge(machineCores, float64(capacity.Cpu().Value()))
	t.gauge(machineMemory, float64(capacity.Memory().Value()))
	labels := []string{"", "/", "", "", "", ""}
	t.addDetail(node.Detail{Usage: whole, Path: "/"}, labels)
	interfaces, err := m.host.Traffic(nil)
	if err != nil {
		return err
	}
	t.addTraffic(interfaces, whole.At, labels)
	for _, p := range runningOf(m.pods()) {
		m.addPod(t, p)
	}
	return nil
}

// addPod tells of a Pod and its containers. What is gone meanwhile is left out, and so is what cannot be read.
func (m *Meter) addPod(t *told, p running) {
	pod := p.pod
	missed := func(err error) bool {
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			m.log.Warn("usage cannot be read", "pod", pod.Namespace+"/"+pod.Name, "error", err)
		}
		return err != nil
	}
	d, err := m.host.Detail(pod, "")
	if missed(err) {
		return
	}
	labels := []string{"", d.Path, "", "", pod.Namespace, pod.Name}
	t.addDetail(d, labels)
	t.gauge(startTime, float64(ptr.Deref(pod.Status.StartTime, pod.CreationTimestamp).Unix()), labels...)
	if interfaces, err := m.host.Traffic(pod); !missed(err) {
		t.addTraffic(interfaces, d.At, labels)
	}
	for _, c := range p.containers {
		d, err := m.host.Detail(pod, c.id)
		if missed(err) {
			continue
		}
		labels := []string{c.name, d.Path, c.image, c.id, pod.Namespace, pod.Name}
		t.addDetail(d, labels)
		t.gauge(startTime, float64(c.startedAt.Unix()), labels...)
		t.addLimits(m.host.Limits(pod, c.name), labels)
	}
}

// addDetail tells what is used.
func (t *told) addDetail(d node.Detail, labels []string) {
	counter := func(desc *prometheus.Desc, value float64, more ...string) {
		t.tell(d.At, prometheus.CounterValue, desc, value, slices.Concat(labels, more)...)
	}
	gauge := func(desc *prometheus.Desc, value uint64) {
		t.tell(d.At, prometheus.GaugeValue, desc, float64(value), labels...)
	}
	counter(cpuTotal, time.Duration(d.CPU).Seconds(), "total")
	gauge(memoryUsage, d.Memory)
	gauge(memoryWorkingSet, d.WorkingSet)
	gauge(memoryRSS, d.RSS)
	if d.Swap != nil {
		gauge(memorySwap, *d.Swap)
	}
	counter(memoryFailures, float64(d.PageFaults), "pgfault", "hierarchy")
	counter(memoryFailures, float64(d.MajorPageFaults), "pgmajfault", "hierarchy")
	gauge(lastSeen, uint64(d.At.Unix()))
	if d.Path == "/" { // of which no more is read
		return
	}
	counter(cpuUser, d.User.Seconds())
	counter(cpuSystem, d.System.Seconds())
	counter(cfsPeriods, float64(d.Periods))
	counter(cfsThrottled, float64(d.ThrottledPeriods))
	counter(cfsThrottledTime, d.Throttled.Seconds())
	gauge(memoryCache, d.Cache)
	gauge(memoryMapped, d.MappedFile)
	counter(oomEvents, float64(d.OOMKills))
	gauge(processes, d.Processes)
	gauge(threads, d.Threads)
	for _, device := range d.Devices {
		counter(fsReads, float64(device.Reads), device.Name)
		counter(fsWrites, float64(device.Writes), device.Name)
		counter(fsBytesRead, float64(device.BytesRead), device.Name)
		counter(fsBytesWritten, float64(device.BytesWritten), device.Name)
	}
	for of, p := range d.Pressure {
		counter(pressures[of][0], p.Some.Seconds())
		counter(pressures[of][1], p.Full.Seconds())
	}
}

// addTraffic tells what went through interfaces.
func (t *told) addTraffic(interfaces []node.Interface, at time.Time, labels []string) {
	for _, i := range interfaces {
		for desc, value := range map[*prometheus.Desc]uint64{
			rxBytes: i.RxBytes, rxPackets: i.RxPackets, rxErrors: i.RxErrors, rxDropped: i.RxDropped,
			txBytes: i.TxBytes, txPackets: i.TxPackets, txErrors: i.TxErrors, txDropped: i.TxDropped,
		} {
			t.tell(at, prometheus.CounterValue, desc, float64(value), slices.Concat(labels, []string{i.Name})...)
		}
	}
}

// addLimits tells what a container may use; a limit of 0 is none.
func (t *told) addLimits(l node.Limits, labels []string) {
	t.gauge(specShares, float64(l.Shares), labels...)
	t.gauge(specPeriod, float64(l.Period.Microseconds()), labels...)
	t.gauge(specMemory, float64(l.Memory), labels...)
	if l.Quota > 0 {
		t.gauge(specQuota, float64(l.Quota.Microseconds()), labels...)
	}
}
