package usage

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	stats "k8s.io/kubelet/pkg/apis/stats/v1alpha1"
	"k8s.io/utils/ptr"

	"github.com/podkeeper/podkeeper/agent/node"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// host is a Host on which a container uses half a CPU, a Pod as much, and the node two.
type host struct {
	mu    sync.Mutex
	reads int             // of the node
	gone  map[string]bool // ids and UIDs
	sick  error
	since time.Time
}

func newHost() *host { return &host{gone: map[string]bool{}, since: time.Now()} }

func (h *host) used(cpus float64) node.Usage {
	busy := time.Since(h.since).Seconds() * cpus
	return node.Usage{At: time.Now(), CPU: uint64(busy * 1e9), Memory: 100, WorkingSet: 80, RSS: 60, PageFaults: 9, MajorPageFaults: 1}
}

func (h *host) NodeUsage() (node.Usage, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.reads++
	u := h.used(2)
	u.Limit, u.Swap = 1000, ptr.To[uint64](5)
	return u, h.sick
}

func (h *host) Usage(pod *v1.Pod, id string) (node.Usage, error) {
	if h.gone[id] || id == "" && h.gone[string(pod.UID)] {
		return node.Usage{}, fmt.Errorf("read: %w", fs.ErrNotExist)
	}
	return h.used(0.5), nil
}

func (h *host) Detail(pod *v1.Pod, id string) (node.Detail, error) {
	u, err := h.Usage(pod, id)
	d := node.Detail{Usage: u, Path: "/" + string(pod.UID) + "/" + id, User: time.Second, Periods: 5, ThrottledPeriods: 2, Throttled: time.Second, Cache: 11, OOMKills: 1, Processes: 2, Threads: 3}
	d.Devices = []node.Device{{Name: "/dev/vda", Reads: 1, Writes: 2, BytesRead: 512, BytesWritten: 1024}}
	d.Pressure = map[string]node.Pressure{"cpu": {Some: 2 * time.Second, Full: time.Second}}
	return d, err
}

func (h *host) Limits(*v1.Pod, string) node.Limits {
	return node.Limits{Shares: 102, Memory: 64, Quota: 50 * time.Millisecond, Period: 100 * time.Millisecond}
}

func (h *host) Capacity() v1.ResourceList {
	return v1.ResourceList{v1.ResourceCPU: resource.MustParse("4"), v1.ResourceMemory: resource.MustParse("1Ki")}
}

func (h *host) Traffic(pod *v1.Pod) ([]node.Interface, error) {
	switch {
	case pod == nil:
		return []node.Interface{{Name: "dummy0"}, {Name: "enp1s0", Default: true, RxBytes: 3}}, nil
	case h.gone[string(pod.UID)]:
		return nil, fs.ErrNotExist
	case pod.Spec.HostNetwork:
		return nil, nil
	}
	return []node.Interface{{Name: "eth0", Default: true, RxBytes: 1, TxBytes: 2}}, nil
}

func (h *host) RootDisk() (node.Disk, error) { return node.Disk{Capacity: 50, Available: 30}, nil }
func (h *host) Booted() (time.Time, error)   { return h.since, nil }

func (h *host) LogDisk(_ *v1.Pod, container string) (node.Disk, error) {
	if container == "init" {
		return node.Disk{}, fs.ErrNotExist
	}
	return node.Disk{Used: 7, InodesUsed: 2}, nil
}

// podOf is a Pod with a container that runs for each of these ids, named like them, and one that does not.
func podOf(name string, ids ...string) v1.Pod {
	p := v1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name, UID: types.UID("uid-" + name)}}
	for _, id := range ids {
		p.Status.ContainerStatuses = append(p.Status.ContainerStatuses, v1.ContainerStatus{
			Name: id, ContainerID: "containerd://" + id, State: v1.ContainerState{Running: &v1.ContainerStateRunning{}},
		})
	}
	p.Status.ContainerStatuses = append(p.Status.ContainerStatuses, v1.ContainerStatus{Name: "waits"})
	return p
}

func meterOf(h *host, pods *[]v1.Pod) *Meter {
	return New("here", h, func() []v1.Pod { return *pods }, slog.New(slog.DiscardHandler))
}

// shown is a summary as a table: the Pods' containers and their CPUs in thousandths, - where that is not known.
func shown(s stats.Summary) string {
	var b strings.Builder
	say := func(name string, cpu *stats.CPUStats) {
		switch {
		case cpu == nil || cpu.UsageNanoCores == nil:
			fmt.Fprintf(&b, " %s -", name)
		default:
			fmt.Fprintf(&b, " %s %d", name, (*cpu.UsageNanoCores+5e5)/1e6)
		}
	}
	say(s.Node.NodeName, s.Node.CPU)
	for _, p := range s.Pods {
		say(p.PodRef.Name+":", p.CPU)
		for _, c := range p.Containers {
			say(c.Name, c.CPU)
		}
	}
	return b.String()[1:]
}

func TestOverWhatTimeRatesAre(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost()
		pods := []v1.Pod{podOf("web", "a", "b"), podOf("idle")}
		m := meterOf(h, &pods)
		for _, step := range []struct {
			what   string
			after  time.Duration
			do     func()
			window time.Duration
			reads  int
			want   string
		}{
			{what: "the first who asks waits", window: pause, reads: 2, want: "here 2000 web: 500 a 500 b 500"},
			{what: "who asks at once is told the same", after: fresh / 2, window: pause, reads: 0, want: "here 2000 web: 500 a 500 b 500"},
			{what: "who asks later is told of the time since then", after: 15*time.Second - fresh/2, window: 15 * time.Second, reads: 1, want: "here 2000 web: 500 a 500 b 500"},
			{what: "a container that is new has everybody wait", after: 5 * time.Second, do: func() { pods[0] = podOf("web", "a", "c") }, window: pause, reads: 2, want: "here 2000 web: 500 a 500 c 500"},
			{what: "so has a Pod", after: 5 * time.Second, do: func() { pods[1] = podOf("idle", "d") }, window: pause, reads: 2, want: "here 2000 web: 500 a 500 c 500 idle: 500 d 500"},
			{what: "one that is gone is left out", after: 5 * time.Second, do: func() { h.gone["d"] = true }, window: 5 * time.Second, reads: 1, want: "here 2000 web: 500 a 500 c 500"},
			{what: "an old reading is none", after: stale + time.Second, do: func() { h.gone = map[string]bool{} }, window: pause, reads: 2, want: "here 2000 web: 500 a 500 c 500 idle: 500 d 500"},
		} {
			time.Sleep(step.after)
			if step.do != nil {
				step.do()
			}
			before := h.reads
			s, window, err := m.Summary(t.Context(), true)
			if err != nil || shown(s) != step.want || window != step.window || h.reads-before != step.reads {
				t.Errorf("%s: %s in %v by %d readings, %v; want %s in %v by %d", step.what, shown(s), window, h.reads-before, err, step.want, step.window, step.reads)
			}
		}
	})
}

func TestManyWhoAskAtOnceAreOneReading(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost()
		pods := []v1.Pod{podOf("web", "a")}
		m := meterOf(h, &pods)
		for range 20 {
			go func() {
				if s, window, err := m.Summary(t.Context(), true); err != nil || window != pause || shown(s) != "here 2000 web: 500 a 500" {
					t.Errorf("%s in %v: %v", shown(s), window, err)
				}
			}()
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		time.Sleep(pause / 2)
		if _, _, err := m.Summary(ctx, true); !errors.Is(err, context.Canceled) {
			t.Errorf("who has gone away: %v", err)
		}
		time.Sleep(pause)
		synctest.Wait()
		if h.reads != 2 {
			t.Errorf("%d readings, want 2", h.reads)
		}
	})
}

func TestWhoGoesAwayAmidAReadingLeavesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost()
		pods := []v1.Pod{podOf("web", "a")}
		m := meterOf(h, &pods)
		ctx, cancel := context.WithTimeout(t.Context(), pause/2)
		defer cancel()
		if _, _, err := m.Summary(ctx, true); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		if _, window, err := m.Summary(t.Context(), true); err != nil || window != pause {
			t.Errorf("the next one: %v, %v", window, err)
		}
		h.sick = errors.New("no cgroups")
		time.Sleep(fresh)
		if _, _, err := m.Summary(t.Context(), true); !errors.Is(err, h.sick) {
			t.Errorf("a node that cannot be read: %v", err)
		}
	})
}

func TestTheWholeSummary(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost()
		onHost := podOf("host", "h")
		onHost.Spec.HostNetwork = true
		onHost.Status.InitContainerStatuses = []v1.ContainerStatus{{Name: "init", ContainerID: "containerd://i", State: v1.ContainerState{Running: &v1.ContainerStateRunning{}}}}
		pods := []v1.Pod{podOf("web", "a"), onHost, podOf("ends", "e")}
		h.gone["uid-ends"] = true
		s, _, err := meterOf(h, &pods).Summary(t.Context(), false)
		if err != nil || shown(s) != "here 2000 web: 500 a 500 host: 500 init 500 h 500 ends: - e 500" {
			t.Errorf("%s: %v", shown(s), err)
		}
		at := metav1.NewTime(h.since.Add(pause))
		want := stats.ContainerStats{
			Name: "a",
			CPU:  &stats.CPUStats{Time: at, UsageNanoCores: ptr.To[uint64](5e8), UsageCoreNanoSeconds: ptr.To[uint64](25e7)},
			Memory: &stats.MemoryStats{
				Time: at, UsageBytes: ptr.To[uint64](100), WorkingSetBytes: ptr.To[uint64](80), RSSBytes: ptr.To[uint64](60),
				PageFaults: ptr.To[uint64](9), MajorPageFaults: ptr.To[uint64](1),
			},
		}
		got := s.Pods[0].Containers[0]
		got.Logs = nil
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
		n, web, host, ends := s.Node, s.Pods[0], s.Pods[1], s.Pods[2]
		if *n.Memory.AvailableBytes != 920 || *n.Swap.SwapUsageBytes != 5 || !n.StartTime.Time.Equal(h.since) || *n.Fs.CapacityBytes != 50 {
			t.Errorf("the node: %+v, %+v, %+v", n, n.Memory, n.Fs)
		}
		if n.Network.Name != "enp1s0" || len(n.Network.Interfaces) != 2 || web.Network.Name != "eth0" || host.Network != nil || ends.Network != nil {
			t.Errorf("networks: %+v, %+v, %+v, %+v", n.Network, web.Network, host.Network, ends.Network)
		}
		if *web.Containers[0].Logs.UsedBytes != 7 || host.Containers[0].Logs != nil || ends.Memory != nil || web.Memory.AvailableBytes != nil {
			t.Errorf("logs and memory: %+v, %+v, %+v", web, host, ends)
		}
	})
}

func TestACgroupThatWasMadeAnewHasNoRate(t *testing.T) {
	now := time.Now()
	w := window{began: reading{"a": {At: now, CPU: 10}}, now: reading{"a": {At: now.Add(time.Second), CPU: 3}}}
	if cpu, _, _ := w.figures("a"); cpu.UsageNanoCores != nil || *cpu.UsageCoreNanoSeconds != 3 {
		t.Errorf("it has %+v", cpu)
	}
}

// seriesOf are metrics as lines, sorted, with when they were read where that is told.
func seriesOf(t *testing.T, of prometheus.Gatherer) string {
	t.Helper()
	families, err := of.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, family := range families {
		for _, metric := range family.GetMetric() {
			var labels []string
			for _, l := range metric.GetLabel() {
				labels = append(labels, l.GetName()+"="+l.GetValue())
			}
			line := fmt.Sprintf("%s{%s} %v", family.GetName(), strings.Join(labels, ","), metric.GetCounter().GetValue()+metric.GetGauge().GetValue())
			if at := metric.GetTimestampMs(); at != 0 {
				line += fmt.Sprintf(" @%d", at/1000%100)
			}
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "\n")
}

func TestResources(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost()
		started := podOf("web", "app", "side")
		started.Status.ContainerStatuses[0].State.Running.StartedAt = metav1.Unix(1000, 0)
		pods := []v1.Pod{started, podOf("gone", "lost")}
		h.gone["lost"] = true
		m := meterOf(h, &pods)
		time.Sleep(10 * time.Second)
		want := `container_cpu_usage_seconds_total{container=app,namespace=shop,pod=web} 5 @10
container_cpu_usage_seconds_total{container=side,namespace=shop,pod=web} 5 @10
container_memory_working_set_bytes{container=app,namespace=shop,pod=web} 80 @10
container_memory_working_set_bytes{container=side,namespace=shop,pod=web} 80 @10
container_start_time_seconds{container=app,namespace=shop,pod=web} 1000
node_cpu_usage_seconds_total{} 20 @10
node_memory_working_set_bytes{} 80 @10
node_swap_usage_bytes{} 5 @10
pod_cpu_usage_seconds_total{namespace=shop,pod=web} 5 @10
pod_memory_working_set_bytes{namespace=shop,pod=web} 80 @10
resource_scrape_error{} 0`
		begin := time.Now()
		for range 3 { // whoever asks at once again is answered the same
			if diff := cmp.Diff(want, seriesOf(t, m.Resources(t.Context()))); diff != "" {
				t.Error(diff)
			}
		}
		if h.reads != 1 || time.Since(begin) != 0 {
			t.Errorf("%d readings in %s", h.reads, time.Since(begin))
		}
		time.Sleep(fresh)
		h.sick = errors.New("sick")
		if got := seriesOf(t, m.Resources(t.Context())); got != "resource_scrape_error{} 1" {
			t.Errorf("a node that cannot be read: %s", got)
		}
		h.sick = nil
		if got := seriesOf(t, m.Resources(t.Context())); !strings.Contains(got, "node_cpu_usage_seconds_total{} 22 @11") {
			t.Errorf("afterwards: %s", got)
		}
		m.turn <- struct{}{} // somebody else reads
		gone, cancel := context.WithCancel(t.Context())
		cancel()
		if got := seriesOf(t, m.Resources(gone)); got != "resource_scrape_error{} 1" {
			t.Errorf("somebody who has gone: %s", got)
		}
		<-m.turn
	})
}

func TestContainers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost()
		web := podOf("web", "app")
		web.Status.ContainerStatuses[0].Image = "demo:v1"
		web.Status.ContainerStatuses[0].State.Running.StartedAt = metav1.Unix(1000, 0)
		web.Status.StartTime = ptr.To(metav1.Unix(900, 0))
		pods := []v1.Pod{web, podOf("ends", "lost")}
		h.gone["uid-ends"] = true
		m := meterOf(h, &pods)
		time.Sleep(10 * time.Second)
		lines := strings.Split(seriesOf(t, m.Containers(t.Context())), "\n")
		const app = "container=app,%sid=/uid-web/app,image=demo:v1,name=app,namespace=shop,pod=web"
		of := func(more string) string { return strings.ReplaceAll(app, "%s", more) }
		for _, want := range []string{
			"container_cpu_usage_seconds_total{" + of("cpu=total,") + "} 5 @10",
			"container_cpu_user_seconds_total{" + of("") + "} 1 @10",
			"container_cpu_cfs_throttled_periods_total{" + of("") + "} 2 @10",
			"container_memory_working_set_bytes{" + of("") + "} 80 @10",
			"container_memory_failures_total{container=app,failure_type=pgmajfault,id=/uid-web/app,image=demo:v1,name=app,namespace=shop,pod=web,scope=hierarchy} 1 @10",
			"container_fs_writes_bytes_total{" + of("device=/dev/vda,") + "} 1024 @10",
			"container_oom_events_total{" + of("") + "} 1 @10",
			"container_processes{" + of("") + "} 2 @10",
			"container_pressure_cpu_waiting_seconds_total{" + of("") + "} 2 @10",
			"container_pressure_cpu_stalled_seconds_total{" + of("") + "} 1 @10",
			"container_spec_cpu_quota{" + of("") + "} 50000",
			"container_spec_cpu_period{" + of("") + "} 100000",
			"container_spec_memory_limit_bytes{" + of("") + "} 64",
			"container_start_time_seconds{" + of("") + "} 1000",
			"container_start_time_seconds{container=,id=/uid-web/,image=,name=,namespace=shop,pod=web} 900",
			"container_network_transmit_bytes_total{container=,id=/uid-web/,image=,interface=eth0,name=,namespace=shop,pod=web} 2 @10",
			"container_network_receive_bytes_total{container=,id=/,image=,interface=enp1s0,name=,namespace=,pod=} 3 @10",
			"container_cpu_usage_seconds_total{container=,cpu=total,id=/,image=,name=,namespace=,pod=} 20 @10",
			"machine_cpu_cores{} 4", "machine_memory_bytes{} 1024", "container_scrape_error{} 0",
		} {
			if !slices.Contains(lines, want) {
				t.Errorf("%s is not told", want)
			}
		}
		for _, line := range lines {
			if strings.Contains(line, "ends") || strings.Contains(line, "lost") || strings.Contains(line, "pressure") && !strings.Contains(line, "pod=web") {
				t.Errorf("%s is told", line)
			}
		}
		h.sick = errors.New("sick")
		if got := seriesOf(t, m.Containers(t.Context())); got != "container_scrape_error{} 1" {
			t.Errorf("a node that cannot be read: %s", got)
		}
	})
}
