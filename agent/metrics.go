package agent

import (
	goruntime "runtime"
	"slices"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	v1 "k8s.io/api/core/v1"
	"k8s.io/kubectl/pkg/util/podutils"
)

// metrics are what the agent counts.
type metrics struct {
	restarts, oomKills      prometheus.Counter
	podStart, sandbox, pull prometheus.Histogram
	lastStart               prometheus.Gauge
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
		lastStart: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "podkeeper_last_pod_start_timestamp_seconds", Help: "When every container of a Pod that was begun had started, the last time; 0 is not since the agent did.",
		}),
		sandbox: histogram("podkeeper_sandbox_create_duration_seconds", "Creation of a Pod's sandbox: namespaces, cgroup, volumes and pause process."),
		pull:    histogram("podkeeper_image_pull_duration_seconds", "Pull of an image, without the wait for its turn."),
		probe: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "podkeeper_probe_duration_seconds", Help: "One check of a probe.", Buckets: latencies,
		}, []string{"handler"}),
	}
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "podkeeper_build_info", Help: "1; the labels say which build runs.", ConstLabels: prometheus.Labels{"version": a.cfg.Version, "goversion": goruntime.Version()},
	})
	build.Set(1)
	registry.MustRegister(build, m.restarts, m.oomKills, m.podStart, m.lastStart, m.sandbox, m.pull, m.probe, podCollector{a},
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "podkeeper_manifest_errors", Help: "Faults in manifests that a user has to mend.",
		}, func() float64 { return float64(len(a.refused())) }),
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// podCollector tells of Pods when asked.
type podCollector struct{ agent *Agent }

// What is told of each Pod has the names and labels that kube-state-metrics gives to it, after podkeeper's own prefix.
var (
	podsByPhase       = prometheus.NewDesc("podkeeper_pods", "Pods by phase.", []string{"phase"}, nil)
	podPhase          = prometheus.NewDesc("podkeeper_pod_status_phase", "1 for the phase that a Pod is in.", []string{"namespace", "pod", "phase"}, nil)
	podReady          = prometheus.NewDesc("podkeeper_pod_status_ready", "Whether a Pod that has not ended is ready.", []string{"namespace", "pod"}, nil)
	containerReady    = prometheus.NewDesc("podkeeper_pod_container_status_ready", "Whether a container of a Pod that has not ended is ready.", ofContainer, nil)
	containerRestarts = prometheus.NewDesc("podkeeper_pod_container_status_restarts_total", "Restarts of a container in its Pod.", ofContainer, nil)
	containerWaiting  = prometheus.NewDesc("podkeeper_pod_container_status_waiting_reason", "1 for the reason why a container waits.",
		slices.Concat(ofContainer, []string{"reason"}), nil)

	ofContainer = []string{"namespace", "pod", "container"}
)

// Describe implements prometheus.Collector.
func (c podCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, desc := range []*prometheus.Desc{podsByPhase, podPhase, podReady, containerReady, containerRestarts, containerWaiting} {
		ch <- desc
	}
}

// Collect implements prometheus.Collector.
func (c podCollector) Collect(ch chan<- prometheus.Metric) {
	gauge := func(desc *prometheus.Desc, value float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value, labels...)
	}
	counts := map[v1.PodPhase]int{}
	for _, pod := range c.agent.Pods() {
		counts[pod.Status.Phase]++
		gauge(podPhase, 1, pod.Namespace, pod.Name, string(pod.Status.Phase))
		if isTerminal(pod.Status.Phase) {
			continue
		}
		gauge(podReady, number(podutils.IsPodReady(&pod)), pod.Namespace, pod.Name)
		for _, s := range slices.Concat(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses) {
			gauge(containerReady, number(s.Ready), pod.Namespace, pod.Name, s.Name)
			ch <- prometheus.MustNewConstMetric(containerRestarts, prometheus.CounterValue, float64(s.RestartCount), pod.Namespace, pod.Name, s.Name)
			if s.State.Waiting != nil {
				gauge(containerWaiting, 1, pod.Namespace, pod.Name, s.Name, s.State.Waiting.Reason)
			}
		}
	}
	for _, phase := range []v1.PodPhase{v1.PodPending, v1.PodRunning, v1.PodSucceeded, v1.PodFailed, v1.PodUnknown} {
		gauge(podsByPhase, float64(counts[phase]), string(phase))
	}
}

// number is 1 for what is so.
func number(is bool) float64 {
	if is {
		return 1
	}
	return 0
}
