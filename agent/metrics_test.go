package agent

import (
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/podkeeper/podkeeper/agent/node"
	"github.com/podkeeper/podkeeper/hack/metricsdoc"
)

// reporting is an agent that reports these Pods.
func reporting(pods ...*v1.Pod) *Agent {
	a := New(Config{Version: "v1.2.3"}, &node.Node{})
	for _, pod := range pods {
		w := newWorker(types.NamespacedName{Namespace: pod.Namespace, Name: pod.Name}, a.surroundings)
		w.published.Store(pod)
		a.enlist(w)
	}
	return a
}

func reportedPod(name string, phase v1.PodPhase, ready v1.ConditionStatus, containers ...v1.ContainerStatus) *v1.Pod {
	return &v1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name},
		Status:     v1.PodStatus{Phase: phase, ContainerStatuses: containers, Conditions: []v1.PodCondition{{Type: v1.PodReady, Status: ready}}},
	}
}

var described = regexp.MustCompile(`^Desc\{fqName: "([^"]*)", help: ".*", constLabels: \{(.*)\}, variableLabels: \{(.*)\}\}$`)

// Every metric that /metrics answers, or may once there is something to count, stands in docs/metrics.md with its type and
// labels, and no other does.
func TestEveryMetricIsToldOf(t *testing.T) {
	t.Parallel()
	a := reporting(reportedPod("web", v1.PodPending, v1.ConditionFalse, v1.ContainerStatus{Name: "app", State: v1.ContainerState{Waiting: &v1.ContainerStateWaiting{Reason: "x"}}}))
	a.metrics.probe.WithLabelValues("exec")
	a.images.counted.WithLabelValues("space")
	a.evictor.counted.WithLabelValues("memory.available")
	families, err := a.Metrics().Gather()
	if err != nil {
		t.Fatal(err)
	}
	there := map[string]metricsdoc.Metric{}
	for _, m := range metricsdoc.Of(families) {
		there[m.Name] = m
	}
	descs := make(chan *prometheus.Desc)
	go func() {
		a.registry.Describe(descs)
		close(descs)
	}()
	for desc := range descs {
		parts := described.FindStringSubmatch(desc.String())
		if parts == nil {
			t.Fatalf("%s is not understood", desc)
		}
		if _, gathered := there[parts[1]]; !gathered && !others(parts[1]) {
			t.Errorf("of %s nothing was gathered: have this test count one", parts[1])
		}
	}
	maps.DeleteFunc(there, func(name string, _ metricsdoc.Metric) bool { return others(name) })
	documented, err := metricsdoc.Read("../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range metricsdoc.Differences(documented["/metrics"], slices.Collect(maps.Values(there))) {
		t.Error(line)
	}
}

// others says whether a metric is Go's or the process's, which libraries tell.
func others(name string) bool {
	return strings.HasPrefix(name, "go_") || strings.HasPrefix(name, "process_")
}

func TestMetricsTellOfEachPod(t *testing.T) {
	t.Parallel()
	running := v1.ContainerState{Running: &v1.ContainerStateRunning{}}
	web := reportedPod("web", v1.PodRunning, v1.ConditionFalse, v1.ContainerStatus{Name: "app", Ready: true, RestartCount: 3, State: running},
		v1.ContainerStatus{Name: "side", State: v1.ContainerState{Waiting: &v1.ContainerStateWaiting{Reason: "CrashLoopBackOff"}}})
	web.Status.InitContainerStatuses = []v1.ContainerStatus{{Name: "init", Ready: true}}
	a := reporting(web, reportedPod("db", v1.PodRunning, v1.ConditionTrue, v1.ContainerStatus{Name: "db", Ready: true, State: running}),
		reportedPod("job", v1.PodSucceeded, v1.ConditionFalse, v1.ContainerStatus{Name: "job", RestartCount: 1}))
	want := `
# HELP podkeeper_pod_container_status_ready Whether a container of a Pod that has not ended is ready.
# TYPE podkeeper_pod_container_status_ready gauge
podkeeper_pod_container_status_ready{container="app",namespace="shop",pod="web"} 1
podkeeper_pod_container_status_ready{container="db",namespace="shop",pod="db"} 1
podkeeper_pod_container_status_ready{container="init",namespace="shop",pod="web"} 1
podkeeper_pod_container_status_ready{container="side",namespace="shop",pod="web"} 0
# HELP podkeeper_pod_container_status_restarts_total Restarts of a container in its Pod.
# TYPE podkeeper_pod_container_status_restarts_total counter
podkeeper_pod_container_status_restarts_total{container="app",namespace="shop",pod="web"} 3
podkeeper_pod_container_status_restarts_total{container="db",namespace="shop",pod="db"} 0
podkeeper_pod_container_status_restarts_total{container="init",namespace="shop",pod="web"} 0
podkeeper_pod_container_status_restarts_total{container="side",namespace="shop",pod="web"} 0
# HELP podkeeper_pod_container_status_waiting_reason 1 for the reason why a container waits.
# TYPE podkeeper_pod_container_status_waiting_reason gauge
podkeeper_pod_container_status_waiting_reason{container="side",namespace="shop",pod="web",reason="CrashLoopBackOff"} 1
# HELP podkeeper_pod_status_phase 1 for the phase that a Pod is in.
# TYPE podkeeper_pod_status_phase gauge
podkeeper_pod_status_phase{namespace="shop",phase="Running",pod="db"} 1
podkeeper_pod_status_phase{namespace="shop",phase="Running",pod="web"} 1
podkeeper_pod_status_phase{namespace="shop",phase="Succeeded",pod="job"} 1
# HELP podkeeper_pod_status_ready Whether a Pod that has not ended is ready.
# TYPE podkeeper_pod_status_ready gauge
podkeeper_pod_status_ready{namespace="shop",pod="db"} 1
podkeeper_pod_status_ready{namespace="shop",pod="web"} 0
# HELP podkeeper_pods Pods by phase.
# TYPE podkeeper_pods gauge
podkeeper_pods{phase="Failed"} 0
podkeeper_pods{phase="Pending"} 0
podkeeper_pods{phase="Running"} 2
podkeeper_pods{phase="Succeeded"} 1
podkeeper_pods{phase="Unknown"} 0
`
	if err := testutil.CollectAndCompare(podCollector{a}, strings.NewReader(want)); err != nil {
		t.Error(err)
	}
	if n, err := testutil.GatherAndCount(a.Metrics(), "podkeeper_build_info"); n != 1 || err != nil {
		t.Errorf("of the build %d series, %v", n, err)
	}
}
