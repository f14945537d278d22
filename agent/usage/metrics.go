package usage

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/podkeeper/podkeeper/agent/node"
)

var (
	ofContainer = []string{"container", "pod", "namespace"}
	ofPod       = []string{"pod", "namespace"}
)

// The kubelet's series at /metrics/resource, with its words (kubernetes/kubernetes pkg/kubelet/metrics/collectors).
var (
	nodeSeries = series{
		cpu:    prometheus.NewDesc("node_cpu_usage_seconds_total", "Cumulative cpu time consumed by the node in core-seconds", nil, nil),
		memory: prometheus.NewDesc("node_memory_working_set_bytes", "Current working set of the node in bytes", nil, nil),
		swap:   prometheus.NewDesc("node_swap_usage_bytes", "Current swap usage of the node in bytes. Reported only on non-windows systems", nil, nil),
	}
	podSeries = series{
		cpu:    prometheus.NewDesc("pod_cpu_usage_seconds_total", "Cumulative cpu time consumed by the pod in core-seconds", ofPod, nil),
		memory: prometheus.NewDesc("pod_memory_working_set_bytes", "Current working set of the pod in bytes", ofPod, nil),
		swap:   prometheus.NewDesc("pod_swap_usage_bytes", "Current amount of the pod swap usage in bytes. Reported only on non-windows systems", ofPod, nil),
	}
	containerSeries = series{
		cpu:    prometheus.NewDesc("container_cpu_usage_seconds_total", "Cumulative cpu time consumed by the container in core-seconds", ofContainer, nil),
		memory: prometheus.NewDesc("container_memory_working_set_bytes", "Current working set of the container in bytes", ofContainer, nil),
		swap:   prometheus.NewDesc("container_swap_usage_bytes", "Current amount of the container swap usage in bytes. Reported only on non-windows systems", ofContainer, nil),
	}
	containerStart = prometheus.NewDesc("container_start_time_seconds", "Start time of the container since unix epoch in seconds", ofContainer, nil)
	scrapeError    = prometheus.NewDesc("resource_scrape_error", "1 if there was an error while getting container metrics, 0 otherwise", nil, nil)
)

// series are what is told of one thing.
type series struct{ cpu, memory, swap *prometheus.Desc }

// told are metrics that were read.
type told []prometheus.Metric

// Describe says nothing: what is told depends on what is there.
func (told) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (t told) Collect(ch chan<- prometheus.Metric) {
	for _, metric := range t {
		ch <- metric
	}
}

// tell adds a metric that was read at a time.
func (t *told) tell(at time.Time, kind prometheus.ValueType, desc *prometheus.Desc, value float64, labels ...string) {
	*t = append(*t, prometheus.NewMetricWithTimestamp(at, prometheus.MustNewConstMetric(desc, kind, value, labels...)))
}

func (t *told) gauge(desc *prometheus.Desc, value float64, labels ...string) {
	*t = append(*t, prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value, labels...))
}

// addUsage tells what is used, and when that was read.
func (t *told) addUsage(s series, u node.Usage, labels ...string) {
	t.tell(u.At, prometheus.CounterValue, s.cpu, float64(u.CPU)/float64(time.Second), labels...)
	t.tell(u.At, prometheus.GaugeValue, s.memory, float64(u.WorkingSet), labels...)
	if u.Swap != nil {
		t.tell(u.At, prometheus.GaugeValue, s.swap, float64(*u.Swap), labels...)
	}
}

// Resources tells what is used now, as the kubelet's /metrics/resource does. One reading is enough: whoever asks makes rates of
// what was used since the beginning.
func (m *Meter) Resources(ctx context.Context) prometheus.Gatherer {
	var t told
	pods, now, err := m.once(ctx)
	failed := 0.0
	if err != nil {
		m.log.Warn("usage cannot be read", "error", err)
		failed = 1
	} else {
		t.addUsage(nodeSeries, now[nodeKey])
	}
	for _, p := range pods {
		known := false
		for _, c := range p.containers {
			u, there := now[c.id]
			if !there {
				continue
			}
			known = true
			labels := []string{c.name, p.pod.Name, p.pod.Namespace}
			if c.startedAt.Unix() > 0 {
				t.gauge(containerStart, float64(c.startedAt.UnixNano())/float64(time.Second), labels...)
			}
			t.addUsage(containerSeries, u, labels...)
		}
		if u, there := now[string(p.pod.UID)]; there && known {
			t.addUsage(podSeries, u, p.pod.Name, p.pod.Namespace)
		}
	}
	t.gauge(scrapeError, failed)
	registry := prometheus.NewRegistry()
	registry.MustRegister(t)
	return registry
}

// once answers a reading of now, or of a moment ago.
func (m *Meter) once(ctx context.Context) ([]running, reading, error) {
	if err := m.awaitTurn(ctx); err != nil {
		return nil, nil, err
	}
	defer m.endTurn()
	if m.scraped.now == nil || m.scraped.now.age() >= fresh {
		pods := runningOf(m.pods())
		now, err := m.read(pods)
		if err != nil {
			return nil, nil, err
		}
		m.scraped = window{pods: pods, now: now}
	}
	return m.scraped.pods, m.scraped.now, nil
}
