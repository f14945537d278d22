package usage

import (
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	v1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"

	"github.com/podkeeper/podkeeper/agent/node"
	"github.com/podkeeper/podkeeper/hack/metricsdoc"
)

// talkative is a host that tells of everything.
type talkative struct{ *host }

func (h talkative) Usage(pod *v1.Pod, id string) (node.Usage, error) {
	u, err := h.host.Usage(pod, id)
	u.Swap = ptr.To[uint64](1)
	return u, err
}

func (h talkative) Detail(pod *v1.Pod, id string) (node.Detail, error) {
	d, err := h.host.Detail(pod, id)
	d.Swap = ptr.To[uint64](1)
	d.Pressure = map[string]node.Pressure{"cpu": {}, "memory": {}, "io": {}}
	return d, err
}

// Every series that there may be stands in docs/metrics.md with its type and labels, and no other does.
func TestEverySeriesIsToldOf(t *testing.T) {
	t.Parallel()
	web := podOf("web", "app")
	web.Status.ContainerStatuses[0].State.Running.StartedAt.Time = time.Unix(1000, 0)
	m := New("here", talkative{newHost()}, func() []v1.Pod { return []v1.Pod{web} }, nil)
	documented, err := metricsdoc.Read("../../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	for path, of := range map[string]prometheus.Gatherer{"/metrics/resource": m.Resources(t.Context()), "/metrics/cadvisor": m.Containers(t.Context())} {
		families, err := of.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range metricsdoc.Differences(documented[path], metricsdoc.Of(families)) {
			t.Errorf("%s: %s", path, line)
		}
	}
}
