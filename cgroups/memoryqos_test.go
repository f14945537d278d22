package cgroups

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/runtime-spec/specs-go"
	v1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"
)

func TestMemoryQoS(t *testing.T) {
	t.Parallel()
	throttled := Config{Unified: true, ThrottlingFactor: ptr.To(0.9), Allocatable: 1 << 30, SingleProcessOOMKill: true}
	reserved := Config{Unified: true, ReserveMemory: true, SingleProcessOOMKill: true}
	withPod := &v1.ResourceRequirements{Limits: list("memory", "256Mi")}
	for sentence, c := range map[string]struct {
		container v1.Container
		podLevel  *v1.ResourceRequirements
		cfg       Config
		want      map[string]string
	}{
		"nothing is asked for":                                {container(list("memory", "100Mi"), list("memory", "200Mi")), nil, Config{Unified: true, SingleProcessOOMKill: true}, map[string]string{}},
		"between request and limit, in whole pages":           {container(list("memory", "100Mi"), list("memory", "200Mi")), nil, throttled, map[string]string{memoryHigh: "199229440"}},
		"without a limit, what the node has for Pods":         {container(list("memory", "100Mi"), nil), nil, throttled, map[string]string{memoryHigh: "976850944"}},
		"without a request, from nothing on":                  {container(nil, list("memory", "10000")), nil, throttled, map[string]string{memoryHigh: "8192"}},
		"BestEffort, too":                                     {container(nil, nil), nil, throttled, map[string]string{memoryHigh: "966365184"}},
		"where both are one nobody is throttled":              {both("1", "64Mi"), nil, throttled, map[string]string{}},
		"a limit of the Pod throttles the Pod":                {container(list("memory", "64Mi"), nil), withPod, throttled, map[string]string{}},
		"too little between them for a page":                  {container(list("memory", "8192"), list("memory", "8200")), nil, throttled, map[string]string{}},
		"Guaranteed memory is never taken back":               {both("1", "64Mi"), nil, reserved, map[string]string{memoryMin: "67108864"}},
		"Burstable memory is, where there is no other":        {container(list("memory", "64Mi"), nil), nil, reserved, map[string]string{memoryLow: "67108864"}},
		"who requests nothing has nothing that is protected":  {container(list("cpu", "1"), nil), nil, reserved, map[string]string{}},
		"on v1 there are no such settings, and all is silent": {both("1", "64Mi"), nil, Config{ReserveMemory: true, ThrottlingFactor: ptr.To(0.9)}, nil},
	} {
		t.Run(sentence, func(t *testing.T) {
			t.Parallel()
			p := pod(c.container)
			p.Spec.Resources = c.podLevel
			if diff := cmp.Diff(c.want, ContainerResources(p, &p.Spec.Containers[0], c.cfg).Unified); diff != "" {
				t.Error(diff)
			}
		})
	}
	p := pod(container(list("memory", "64Mi"), nil))
	want := map[string]string{memoryMin: "0", memoryLow: "67108864", memoryHigh: "max"}
	if diff := cmp.Diff(want, Resized(p, &p.Spec.Containers[0], reserved).Unified); diff != "" {
		t.Errorf("after a resize:\n%s", diff)
	}
	if diff := cmp.Diff(noMemoryQoS(), PodResources(p, Config{Unified: true}).Unified); diff != "" {
		t.Errorf("the Pod's of an agent that neither protects nor throttles:\n%s", diff)
	}
}

func TestLimitedSwap(t *testing.T) {
	t.Parallel()
	priority := func(p *v1.Pod) *v1.Pod { p.Spec.Priority = ptr.To(int32(2000000000)); return p }
	for sentence, c := range map[string]struct {
		pod  *v1.Pod
		swap string
		both int64 // of memory and swap, in MiB; 0 is no limit
	}{
		"the part of the node's swap that it requests of its memory": {pod(container(list("memory", "256Mi"), list("memory", "512Mi"))), "134217728", 640},
		"without a limit of memory":                                  {pod(container(list("memory", "256Mi"), nil)), "134217728", 0},
		"Guaranteed Pods do not swap":                                {pod(both("1", "256Mi")), "0", 256},
		"nor BestEffort ones":                                        {pod(container(nil, nil)), "0", 0},
		"nor who may use no more than it requests":                   {pod(container(list("memory", "256Mi"), list("memory", "256Mi"))), "0", 256},
		"nor critical ones":                                          {priority(pod(container(list("memory", "256Mi"), nil))), "0", 0},
		"nor who requests more than there is":                        {pod(container(list("memory", "2Gi"), nil)), "0", 0},
	} {
		t.Run(sentence, func(t *testing.T) {
			t.Parallel()
			cfg := Config{Unified: true, CountsSwap: true, LimitedSwap: true, Memory: 1 << 30, Swap: 512 << 20}
			r := ContainerResources(c.pod, &c.pod.Spec.Containers[0], cfg)
			if got := r.Unified[swapMax]; got != c.swap {
				t.Errorf("it may swap %s, want %s", got, c.swap)
			}
			if c.both > 0 && *r.Memory.Swap != c.both<<20 {
				t.Errorf("memory and swap are limited to %d", *r.Memory.Swap)
			}
			if m := PodResources(c.pod, cfg).Memory; m != nil && m.Swap != nil {
				t.Error("its Pod's cgroup has a limit of swap")
			}
		})
	}
}

func TestPidsLimit(t *testing.T) {
	t.Parallel()
	for _, p := range []*v1.Pod{pod(container(nil, nil)), pod(both("1", "64Mi"))} {
		for _, of := range []func(Config) *specs.LinuxResources{
			func(cfg Config) *specs.LinuxResources { return PodResources(p, cfg) },
			func(cfg Config) *specs.LinuxResources { return ContainerResources(p, &p.Spec.Containers[0], cfg) },
		} {
			if got := of(Config{PidsLimit: 100}).Pids; got == nil || *got.Limit != 100 {
				t.Errorf("%+v", got)
			}
			if got := of(Config{PidsLimit: -1}).Pids; got != nil {
				t.Errorf("without a limit: %+v", got)
			}
		}
	}
}
