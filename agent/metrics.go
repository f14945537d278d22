package agent

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	v1 "k8s.io/api/core/v1"
)

// metrics are what the agent counts.
type metrics struct {
	restarts, oomKills      prometheus.Counter
	podStart, sandbox, pull prometheus.Histogram
	probe                   *prometheus.HistogramVec // by handler
}

// latencies are buckets from a fast start to a slow pull, in seconds.
var latencies = []float64{0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300}

func newMetrics(registry *prometheus.Registry, a *Agent) *metrics {
	histogram := func(name, help string) prometheus.Histogram {
		return prometheus.NewHistogram(prometheus.HistogramOpts{Name: name, Help: help, Buckets: latencies})
	}
	m := &metrics{
		restarts: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "podkeeper_container_restarts_total", Help: "Containers started again after they had ended.",
		}),
		oomKills: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "podkeeper_oom_kills_total", Help: "Processes of containers that the kernel killed for want of memory, main processes and others.",
		}),
		podStart: histogram("podkeeper_pod_start_duration_seconds", "From a manifest being seen to every container of its Pod started."),
		sandbox:  histogram("podkeeper_sandbox_create_duration_seconds", "Creation of a Pod's sandbox: namespaces, cgroup, volumes and pause process."),
		pull:     histogram("podkeeper_image_pull_duration_seconds", "Pull of an image, without the wait for its turn."),
		probe: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "podkeeper_probe_duration_seconds", Help: "One check of a probe.", Buckets: latencies,
		}, []string{"handler"}),
	}
	registry.MustRegister(m.restarts, m.oomKills, m.podStart, m.sandbox, m.pull, m.probe, podCollector{a},
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "podkeeper_manifest_errors", Help: "Faults in manifests that a user has to mend.",
		}, func() float64 { return float64(len(a.refused())) }),
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// podCollector counts Pods by phase when asked.
type podCollector struct{ agent *Agent }

var podsByPhase = prometheus.NewDesc("podkeeper_pods", "Pods by phase.", []string{"phase"}, nil)

// Describe implements prometheus.Collector.
func (c podCollector) Describe(ch chan<- *prometheus.Desc) { ch <- podsByPhase }

// Collect implements prometheus.Collector.
func (c podCollector) Collect(ch chan<- prometheus.Metric) {
	counts := map[v1.PodPhase]int{}
	for _, pod := range c.agent.Pods() {
		counts[pod.Status.Phase]++
	}
	for _, phase := range []v1.PodPhase{v1.PodPending, v1.PodRunning, v1.PodSucceeded, v1.PodFailed, v1.PodUnknown} {
		ch <- prometheus.MustNewConstMetric(podsByPhase, prometheus.GaugeValue, float64(counts[phase]), string(phase))
	}
}
