package cgroups

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/runtime-spec/specs-go"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/utils/ptr"
)

// list makes a resource list of "cpu", "100m", "memory", "1Gi" …
func list(pairs ...string) v1.ResourceList {
	out := v1.ResourceList{}
	for i := 0; i+1 < len(pairs); i += 2 {
		out[v1.ResourceName(pairs[i])] = resource.MustParse(pairs[i+1])
	}
	return out
}

func container(requests, limits v1.ResourceList) v1.Container {
	return v1.Container{Name: "c", Resources: v1.ResourceRequirements{Requests: requests, Limits: limits}}
}

func sidecarOf(c v1.Container) v1.Container {
	c.Name, c.RestartPolicy = "sidecar", new(v1.ContainerRestartPolicyAlways)
	return c
}

func pod(containers ...v1.Container) *v1.Pod {
	p := &v1.Pod{}
	p.Namespace, p.Name = "default", "web"
	p.Spec.Containers = containers
	return p
}

func withInit(p *v1.Pod, init ...v1.Container) *v1.Pod {
	p.Spec.InitContainers = init
	return p
}

func withPodLevel(p *v1.Pod, requests, limits v1.ResourceList) *v1.Pod {
	p.Spec.Resources = &v1.ResourceRequirements{Requests: requests, Limits: limits}
	return p
}

func TestCPUFigures(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		milliCPU int64
		shares   uint64
		weight   uint64
		quota    int64
	}{
		{0, 2, 1, 0},
		{1, 2, 1, 1000},
		{10, 10, 4, 1000},
		{50, 51, 11, 5000},
		{100, 102, 17, 10000},
		{250, 256, 35, 25000},
		{500, 512, 59, 50000},
		{1000, 1024, 100, 100000},
		{2000, 2048, 174, 200000},
		{4000, 4096, 303, 400000},
		{16000, 16384, 942, 1600000},
		{256000, 262144, 10000, 25600000},
		{1000000, 262144, 10000, 100000000},
	} {
		t.Run(fmt.Sprintf("%dm", c.milliCPU), func(t *testing.T) {
			t.Parallel()
			shares := Shares(c.milliCPU)
			if quota := Quota(c.milliCPU, 100*time.Millisecond); shares != c.shares || Weight(shares) != c.weight || quota != c.quota {
				t.Errorf("got shares %d, weight %d, quota %d; want %d, %d, %d", shares, Weight(shares), quota, c.shares, c.weight, c.quota)
			}
			if back := sharesOf(c.weight); Weight(back) != c.weight || back < c.shares {
				t.Errorf("weight %d back: got %d shares", c.weight, back)
			}
		})
	}
}

func TestWeightNeverFalls(t *testing.T) {
	t.Parallel()
	last := uint64(0)
	for shares := uint64(0); shares <= 262144; shares += 7 {
		w := Weight(shares)
		if w < last || w < 1 || w > 10000 {
			t.Fatalf("shares %d: weight %d after %d", shares, w, last)
		}
		last = w
	}
}

func linuxCPU(shares uint64, quota int64, period uint64) *specs.LinuxCPU {
	out := &specs.LinuxCPU{Shares: &shares}
	if quota != 0 {
		out.Quota, out.Period = &quota, &period
	}
	return out
}

func memory(limit int64) *specs.LinuxMemory { return &specs.LinuxMemory{Limit: &limit} }

func TestContainerResources(t *testing.T) {
	t.Parallel()
	enforced := Config{CFSQuota: true}
	for sentence, c := range map[string]struct {
		container v1.Container
		podLevel  *v1.ResourceRequirements
		cfg       Config
		want      specs.LinuxResources
	}{
		"nothing asked, the least shares": {container(nil, nil), nil, enforced, specs.LinuxResources{CPU: linuxCPU(2, 0, 0)}},
		"requests and limits": {
			container(list("cpu", "250m", "memory", "64Mi"), list("cpu", "500m", "memory", "128Mi")), nil, enforced,
			specs.LinuxResources{CPU: linuxCPU(256, 50000, 100000), Memory: memory(128 << 20)},
		},
		"a limit without a request is the request too": {
			container(nil, list("cpu", "1")), nil, enforced, specs.LinuxResources{CPU: linuxCPU(1024, 100000, 100000)},
		},
		"a request of zero stays zero": {
			container(list("cpu", "0"), list("cpu", "1")), nil, enforced, specs.LinuxResources{CPU: linuxCPU(2, 100000, 100000)},
		},
		"quota is not enforced": {
			container(nil, list("cpu", "1")), nil, Config{}, specs.LinuxResources{CPU: linuxCPU(1024, 0, 0)},
		},
		"a period of its own": {
			container(nil, list("cpu", "1")), nil, Config{CFSQuota: true, CFSPeriod: 5 * time.Millisecond},
			specs.LinuxResources{CPU: linuxCPU(1024, 5000, 5000)},
		},
		"a tiny quota is raised to a millisecond": {
			container(nil, list("cpu", "1m")), nil, enforced, specs.LinuxResources{CPU: linuxCPU(2, 1000, 100000)},
		},
		"on v2 a container is killed as a whole": {
			container(nil, nil), nil, Config{Unified: true},
			specs.LinuxResources{CPU: linuxCPU(2, 0, 0), Unified: map[string]string{"memory.oom.group": "1"}},
		},
		"on v2 one process is killed where that is wanted": {
			container(nil, nil), nil, Config{Unified: true, SingleProcessOOMKill: true},
			specs.LinuxResources{CPU: linuxCPU(2, 0, 0), Unified: map[string]string{}},
		},
		"on v2 nothing swaps, with a limit or without": {
			container(nil, nil), nil, Config{Unified: true, CountsSwap: true},
			specs.LinuxResources{CPU: linuxCPU(2, 0, 0), Unified: map[string]string{"memory.oom.group": "1", "memory.swap.max": "0"}},
		},
		"the pod's limits hold where the container has none": {
			container(list("cpu", "100m"), list("memory", "32Mi")),
			&v1.ResourceRequirements{Limits: list("cpu", "2", "memory", "1Gi")}, enforced,
			specs.LinuxResources{CPU: linuxCPU(102, 200000, 100000), Memory: memory(32 << 20)},
		},
		"where the kernel counts swap, none comes on top of a limit": {
			container(nil, list("memory", "32Mi")), nil, Config{CountsSwap: true},
			specs.LinuxResources{CPU: linuxCPU(2, 0, 0), Memory: &specs.LinuxMemory{Limit: ptr.To[int64](32 << 20), Swap: ptr.To[int64](32 << 20)}},
		},
		"huge pages: of what is not asked for there is nothing": {
			container(nil, list("hugepages-2Mi", "4Mi")), nil, Config{PageSizes: []int64{64 << 10, 2 << 20, 1 << 30}},
			specs.LinuxResources{CPU: linuxCPU(2, 0, 0), HugepageLimits: []specs.LinuxHugepageLimit{
				{Pagesize: "64KB", Limit: 0}, {Pagesize: "2MB", Limit: 4 << 20}, {Pagesize: "1GB", Limit: 0},
			}},
		},
		"a size that is written in another way": {
			container(nil, list("hugepages-2048Ki", "4Mi")), nil, Config{PageSizes: []int64{2 << 20}},
			specs.LinuxResources{CPU: linuxCPU(2, 0, 0), HugepageLimits: []specs.LinuxHugepageLimit{{Pagesize: "2MB", Limit: 4 << 20}}},
		},
		"the pod's huge pages where the container has none": {
			container(nil, nil), &v1.ResourceRequirements{Limits: list("hugepages-2Mi", "6Mi")}, Config{PageSizes: []int64{2 << 20}},
			specs.LinuxResources{CPU: linuxCPU(2, 0, 0), HugepageLimits: []specs.LinuxHugepageLimit{{Pagesize: "2MB", Limit: 6 << 20}}},
		},
		"a kernel that cannot limit huge pages": {
			container(nil, list("hugepages-2Mi", "4Mi")), nil, enforced, specs.LinuxResources{CPU: linuxCPU(2, 0, 0)},
		},
	} {
		t.Run(sentence, func(t *testing.T) {
			t.Parallel()
			p := pod(c.container)
			p.Spec.Resources = c.podLevel
			if diff := cmp.Diff(&c.want, ContainerResources(p, &p.Spec.Containers[0], c.cfg)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// both has these requests, and limits like them.
func both(cpu, memory string) v1.Container {
	return container(list("cpu", cpu, "memory", memory), list("cpu", cpu, "memory", memory))
}

func TestPodResources(t *testing.T) {
	t.Parallel()
	overhead := func(p *v1.Pod) *v1.Pod { p.Spec.Overhead = list("cpu", "500m", "memory", "10Mi"); return p }
	for sentence, c := range map[string]struct {
		pod   *v1.Pod
		class v1.PodQOSClass
		want  specs.LinuxResources
	}{
		"BestEffort has the least shares and no limit": {pod(container(nil, nil)), v1.PodQOSBestEffort, specs.LinuxResources{CPU: linuxCPU(2, 0, 0)}},
		"Guaranteed has the sums": {
			pod(both("500m", "64Mi"), both("1", "64Mi")), v1.PodQOSGuaranteed,
			specs.LinuxResources{CPU: linuxCPU(1536, 150000, 100000), Memory: memory(128 << 20)},
		},
		"Burstable with all limits has both": {
			pod(container(list("cpu", "100m"), list("cpu", "1", "memory", "64Mi")), container(nil, list("cpu", "1", "memory", "64Mi"))), v1.PodQOSBurstable,
			specs.LinuxResources{CPU: linuxCPU(102, 200000, 100000), Memory: memory(128 << 20)},
		},
		"Burstable, one without a memory limit: only cpu is limited": {
			pod(container(list("cpu", "100m"), list("cpu", "1", "memory", "64Mi")), container(nil, list("cpu", "1"))), v1.PodQOSBurstable,
			specs.LinuxResources{CPU: linuxCPU(102, 200000, 100000)},
		},
		"an init container without limits frees the pod": {
			withInit(pod(both("1", "64Mi")), container(list("cpu", "100m"), nil)), v1.PodQOSBurstable,
			specs.LinuxResources{CPU: linuxCPU(1024, 0, 0)},
		},
		"the greatest init container counts, not the sum": {
			withInit(pod(both("1", "64Mi")), both("2", "32Mi"), both("1500m", "128Mi")), v1.PodQOSGuaranteed,
			specs.LinuxResources{CPU: linuxCPU(2048, 200000, 100000), Memory: memory(128 << 20)},
		},
		"sidecars are added to the containers": {
			withInit(pod(both("1", "64Mi")), sidecarOf(both("500m", "64Mi"))), v1.PodQOSGuaranteed,
			specs.LinuxResources{CPU: linuxCPU(1536, 150000, 100000), Memory: memory(128 << 20)},
		},
		"a sidecar before an init container runs beside it": {
			withInit(pod(both("1", "64Mi")), sidecarOf(both("500m", "64Mi")), both("2", "32Mi")), v1.PodQOSGuaranteed,
			specs.LinuxResources{CPU: linuxCPU(2560, 250000, 100000), Memory: memory(128 << 20)},
		},
		"overhead is added": {
			overhead(pod(both("1", "64Mi"))), v1.PodQOSGuaranteed,
			specs.LinuxResources{CPU: linuxCPU(1536, 150000, 100000), Memory: memory(74 << 20)},
		},
		"what is said for the pod holds, resource by resource": {
			withPodLevel(pod(container(list("memory", "10Mi"), nil)), list("cpu", "1"), list("memory", "1Gi", "cpu", "2")), v1.PodQOSBurstable,
			specs.LinuxResources{CPU: linuxCPU(1024, 200000, 100000), Memory: memory(1 << 30)},
		},
	} {
		t.Run(sentence, func(t *testing.T) {
			t.Parallel()
			if got := Class(c.pod); got != c.class {
				t.Errorf("got class %s, want %s", got, c.class)
			}
			if diff := cmp.Diff(&c.want, PodResources(c.pod, Config{CFSQuota: true})); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestHugePagesOfAPod(t *testing.T) {
	t.Parallel()
	asking := func(kv ...string) v1.Container {
		c := both("1", "64Mi")
		for name, quantity := range list(kv...) {
			c.Resources.Requests[name], c.Resources.Limits[name] = quantity, quantity
		}
		return c
	}
	for sentence, c := range map[string]struct {
		pod   *v1.Pod
		class v1.PodQOSClass
		want  []specs.LinuxHugepageLimit
	}{
		"the sums":                            {pod(asking("hugepages-2Mi", "4Mi"), asking("hugepages-2Mi", "2Mi")), v1.PodQOSGuaranteed, []specs.LinuxHugepageLimit{{Pagesize: "2MB", Limit: 6 << 20}, {Pagesize: "1GB"}}},
		"the greatest init container counts":  {withInit(pod(asking("hugepages-2Mi", "4Mi")), asking("hugepages-1Gi", "1Gi")), v1.PodQOSGuaranteed, []specs.LinuxHugepageLimit{{Pagesize: "2MB", Limit: 4 << 20}, {Pagesize: "1GB", Limit: 1 << 30}}},
		"a Pod that asks for nothing at all":  {pod(container(nil, nil)), v1.PodQOSBestEffort, []specs.LinuxHugepageLimit{{Pagesize: "2MB"}, {Pagesize: "1GB"}}},
		"huge pages make no Pod's class less": {pod(asking("hugepages-2Mi", "2Mi"), both("1", "1Mi")), v1.PodQOSGuaranteed, []specs.LinuxHugepageLimit{{Pagesize: "2MB", Limit: 2 << 20}, {Pagesize: "1GB"}}},
	} {
		t.Run(sentence, func(t *testing.T) {
			t.Parallel()
			if got := Class(c.pod); got != c.class {
				t.Errorf("got class %s, want %s", got, c.class)
			}
			r := PodResources(c.pod, Config{PageSizes: []int64{2 << 20, 1 << 30}})
			if diff := cmp.Diff(c.want, r.HugepageLimits); diff != "" {
				t.Error(diff)
			}
			files := map[string]uint64{}
			for _, e := range *unified(r).HugeTlb {
				files[e.HugePageSize] = e.Limit
			}
			if len(files) != 2 || files["2MB"] != c.want[0].Limit || files["1GB"] != c.want[1].Limit {
				t.Errorf("on v2: got %v, want %v", files, c.want)
			}
		})
	}
}

func TestHugePagesOfTheNode(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, number := range map[string]string{"hugepages-2048kB": "7\n", "hugepages-1048576kB": "0\n", "hugepages-64kB": "3\n"} {
		if err := errors.Join(os.Mkdir(filepath.Join(dir, name), 0o755), os.WriteFile(filepath.Join(dir, name, "nr_hugepages"), []byte(number), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	got, err := hugePagesIn(dir)
	if want := list("hugepages-2Mi", "14Mi", "hugepages-1Gi", "0", "hugepages-64Ki", "192Ki"); err != nil || !cmp.Equal(got, want) {
		t.Errorf("got %v (%v), want %v", got, err, want)
	}
	if got, err := hugePagesIn(filepath.Join(dir, "none")); len(got) > 0 || err != nil {
		t.Errorf("a kernel without them: got %v, %v", got, err)
	}
}

func TestPodResourcesWithoutQuota(t *testing.T) {
	t.Parallel()
	p := pod(container(nil, list("cpu", "1", "memory", "1Mi")))
	if diff := cmp.Diff(&specs.LinuxResources{CPU: linuxCPU(2, 0, 0), Memory: memory(1 << 20)}, PodResources(p, Config{})); diff != "" {
		t.Error(diff)
	}
}

func TestPodsDoNotSwapBeyondTheirLimit(t *testing.T) {
	t.Parallel()
	p := pod(container(nil, list("cpu", "1", "memory", "1Mi")))
	r := PodResources(p, Config{CountsSwap: true})
	if diff := cmp.Diff(&specs.LinuxMemory{Limit: ptr.To[int64](1 << 20), Swap: ptr.To[int64](1 << 20)}, r.Memory); diff != "" {
		t.Error(diff)
	}
	if got := unified(r).Memory; got.Swap == nil || *got.Swap != 0 || *got.Max != 1<<20 {
		t.Errorf("on v2: got %+v, want no swap", got)
	}
}

func TestOOMScoreAdj(t *testing.T) {
	t.Parallel()
	const capacity = 4 << 30
	mem := func(request string) v1.Container { return container(list("memory", request), nil) }
	critical := func(p *v1.Pod) *v1.Pod { p.Spec.PriorityClassName = "system-node-critical"; return p }
	for sentence, c := range map[string]struct {
		pod  *v1.Pod
		init bool // ask for the first init container
		want int
	}{
		"BestEffort goes first": {pod: pod(container(nil, nil)), want: 1000},
		"limits alone are not Guaranteed: the requests come from defaulting": {pod: pod(container(nil, list("cpu", "1", "memory", "1Gi"))), want: 999},
		"Guaranteed with its requests goes last":                             {pod: pod(container(list("cpu", "1", "memory", "1Gi"), list("cpu", "1", "memory", "1Gi"))), want: -997},
		"node-critical goes last":                                            {pod: critical(pod(container(nil, nil))), want: -997},
		"a quarter of the memory":                                            {pod: pod(mem("1Gi")), want: 750},
		"all of it is still worse than Guaranteed":                           {pod: pod(mem("4Gi")), want: 3},
		"more than there is":                                                 {pod: pod(mem("64Gi")), want: 3},
		"next to nothing is better than nothing":                             {pod: pod(mem("1Ki")), want: 999},
		"Burstable by cpu only":                                              {pod: pod(container(list("cpu", "1"), nil)), want: 999},
		"a small sidecar is as safe as the smallest main container": {
			pod: withInit(pod(mem("2Gi"), mem("1Gi")), sidecarOf(mem("1Mi"))), init: true, want: 750,
		},
		"a great sidecar keeps its own": {
			pod: withInit(pod(mem("1Gi")), sidecarOf(mem("2Gi"))), init: true, want: 500,
		},
		"an init container is no sidecar": {
			pod: withInit(pod(mem("2Gi")), mem("1Gi")), init: true, want: 750,
		},
		"what the pod asks beyond its containers is shared": {
			pod: withPodLevel(pod(mem("1Gi"), container(nil, nil)), list("memory", "2Gi"), nil), want: 625, // 1 + (2-1)/2 of 4
		},
		"init containers share too": {
			pod: withPodLevel(withInit(pod(mem("1Gi")), container(nil, nil)), list("memory", "2Gi"), nil), init: true, want: 875,
		},
	} {
		t.Run(sentence, func(t *testing.T) {
			t.Parallel()
			which := &c.pod.Spec.Containers[0]
			if c.init {
				which = &c.pod.Spec.InitContainers[0]
			}
			if got := OOMScoreAdj(c.pod, which, capacity); got != c.want {
				t.Errorf("got %d, want %d", got, c.want)
			}
		})
	}
}

func TestMemoryCapacity(t *testing.T) {
	t.Parallel()
	if got, err := MemoryCapacity(); err != nil || got < 16<<20 {
		t.Errorf("got %d, %v", got, err)
	}
}

func TestLowestOOMScoreAdj(t *testing.T) {
	t.Parallel()
	for sentence, c := range map[string]struct {
		status, own string
		want        int
		refused     bool
	}{
		"with CAP_SYS_RESOURCE any":           {"CapEff:\t000001ffffffffff\n", "5", -1000, false},
		"without it, the process's own":       {"CapEff:\t000001fffeffffff\n", "-5\n", -5, false},
		"what cannot be read is an error":     {"CapEff:\tx\n", "0", 0, true},
		"a score that is none is an error":    {"CapEff:\t0\n", "x", 0, true},
		"a status without it is an error too": {"", "0", 0, true},
	} {
		proc := t.TempDir()
		if err := errors.Join(os.WriteFile(filepath.Join(proc, "status"), []byte("Name:\tx\n"+c.status), 0o600),
			os.WriteFile(filepath.Join(proc, "oom_score_adj"), []byte(c.own), 0o600)); err != nil {
			t.Fatal(err)
		}
		if got, err := LowestOOMScoreAdj(proc); got != c.want || (err != nil) != c.refused {
			t.Errorf("%s: got %d, %v", sentence, got, err)
		}
	}
}
