package cgroups

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
	v1 "k8s.io/api/core/v1"
	resourcehelper "k8s.io/component-helpers/resource"
)

// SandboxOOMScoreAdj is the oom_score_adj of a Pod's pause process, which must outlive the containers.
const SandboxOOMScoreAdj = -998

const (
	lowestOOMScoreAdj     = -1000
	guaranteedOOMScoreAdj = -997
	bestEffortOOMScoreAdj = 1000
	nodeCritical          = "system-node-critical"
)

// OOMScoreAdj is the oom_score_adj of a container's processes on a node with this many bytes of memory, by the rules of
// the kubelet's pkg/kubelet/qos: node-critical and Guaranteed Pods are killed last, BestEffort ones first, Burstable ones
// by the share of the node's memory they request. A sidecar is never killed before the smallest main container.
func OOMScoreAdj(pod *v1.Pod, c *v1.Container, memoryCapacity int64) int {
	if pod.Spec.PriorityClassName == nodeCritical {
		return guaranteedOOMScoreAdj
	}
	switch Class(pod) {
	case v1.PodQOSGuaranteed:
		return guaranteedOOMScoreAdj
	case v1.PodQOSBestEffort:
		return bestEffortOOMScoreAdj
	case v1.PodQOSBurstable:
	}
	if memoryCapacity <= 0 {
		return bestEffortOOMScoreAdj - 1
	}
	request := c.Resources.Requests.Memory().Value()
	if sidecar(pod, c) {
		request = max(request, smallestMainRequest(pod))
	}
	adj := 1000 - 1000*(request+unclaimedShare(pod))/memoryCapacity
	return int(min(max(adj, 1000+guaranteedOOMScoreAdj), bestEffortOOMScoreAdj-1))
}

// sidecar says whether the container is one of the Pod's restartable init containers.
func sidecar(pod *v1.Pod, c *v1.Container) bool {
	return restartable(c) && slices.ContainsFunc(pod.Spec.InitContainers, func(i v1.Container) bool { return i.Name == c.Name })
}

func restartable(c *v1.Container) bool {
	return c.RestartPolicy != nil && *c.RestartPolicy == v1.ContainerRestartPolicyAlways
}

func smallestMainRequest(pod *v1.Pod) int64 {
	smallest := int64(math.MaxInt64)
	for _, c := range pod.Spec.Containers {
		smallest = min(smallest, c.Resources.Requests.Memory().Value())
	}
	if smallest == math.MaxInt64 {
		return 0
	}
	return smallest
}

// unclaimedShare is what a Pod-level memory request leaves beyond its containers' own, divided equally among all its
// containers, init containers too (KEP-2837).
func unclaimedShare(pod *v1.Pod) int64 {
	containers := int64(len(pod.Spec.Containers) + len(pod.Spec.InitContainers))
	if !resourcehelper.IsPodLevelRequestsSet(pod) || containers == 0 {
		return 0
	}
	asked := pod.Spec.Resources.Requests.Memory()
	claimed := resourcehelper.AggregateContainerRequests(pod, resourcehelper.PodResourcesOptions{})
	return max(asked.Value()-claimed.Memory().Value(), 0) / containers
}

// LowestOOMScoreAdj is the lowest oom_score_adj that a process can give to others, by its folder in /proc: without
// CAP_SYS_RESOURCE, its own.
func LowestOOMScoreAdj(proc string) (int, error) {
	status, err := os.ReadFile(filepath.Join(proc, "status"))
	if err != nil {
		return 0, fmt.Errorf("read capabilities: %w", err)
	}
	_, after, _ := strings.Cut(string(status), "\nCapEff:")
	line, _, _ := strings.Cut(after, "\n")
	effective, err := strconv.ParseUint(strings.TrimSpace(line), 16, 64)
	if err != nil {
		return 0, fmt.Errorf("read capabilities: CapEff in %s/status: %w", proc, err)
	}
	if effective&(1<<unix.CAP_SYS_RESOURCE) != 0 {
		return lowestOOMScoreAdj, nil
	}
	own, err := os.ReadFile(filepath.Join(proc, "oom_score_adj"))
	if err != nil {
		return 0, fmt.Errorf("read oom_score_adj: %w", err)
	}
	score, err := strconv.Atoi(strings.TrimSpace(string(own)))
	if err != nil {
		return 0, fmt.Errorf("read oom_score_adj of %s: %w", proc, err)
	}
	return score, nil
}
