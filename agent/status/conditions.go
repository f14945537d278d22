package status

import (
	"fmt"
	"slices"
	"strings"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/podkeeper/podkeeper/agent/plan"
)

// conditions are the Pod's conditions, in the kubelet's order.
func (m *maker) conditions(s *v1.PodStatus) []v1.PodCondition {
	containersReady := m.containersReady(s)
	ready := containersReady
	ready.Type = v1.PodReady
	all := []v1.PodCondition{
		m.sandboxReady(),
		m.initialized(s),
		ready,
		containersReady,
		{Type: v1.PodScheduled, Status: v1.ConditionTrue},
	}
	if plan.MayRestartAll(m.pod) {
		all = append(all, m.restarting(s))
	}
	for i := range all {
		all[i].ObservedGeneration = m.pod.Generation
		all[i].LastTransitionTime = m.transition(&all[i])
	}
	return all
}

// transition keeps the time of the last change of a condition's status.
func (m *maker) transition(c *v1.PodCondition) metav1.Time {
	for _, old := range m.facts.Previous.Conditions {
		if old.Type == c.Type && old.Status == c.Status {
			return old.LastTransitionTime
		}
	}
	return metav1.NewTime(m.now)
}

func (m *maker) sandboxReady() v1.PodCondition {
	if s := m.facts.Seen.Sandbox; (s.State == plan.Running || s.State == plan.Unknown) && s.Attached && !s.Busy {
		return v1.PodCondition{Type: v1.PodReadyToStartContainers, Status: v1.ConditionTrue}
	}
	c := v1.PodCondition{Type: v1.PodReadyToStartContainers, Status: v1.ConditionFalse, Reason: "PodSandboxNotReady"}
	switch s := m.facts.Seen.Sandbox; { // kubernetes/kubernetes pkg/kubelet/types/constants.go
	case s.Attempt < 0:
		c.Message = "no pod sandbox exists"
	case s.State == plan.Running && !s.Busy:
		c.Message = "pod sandbox has no IP address"
	default:
		c.Message = "pod sandbox is not ready"
	}
	return c
}

// restarting is told of Pods in which an exit can restart all containers.
func (m *maker) restarting(s *v1.PodStatus) v1.PodCondition {
	c := v1.PodCondition{Type: v1.AllContainersRestarting, Status: v1.ConditionFalse}
	switch {
	case s.Phase == v1.PodSucceeded:
		c.Reason = "PodCompleted"
	case s.Phase == v1.PodFailed:
		c.Reason = "PodFailed"
	case m.facts.Seen.Restarting:
		c.Status, c.Reason, c.Message = v1.ConditionTrue, "RestartAllContainersStarted", "container exited with restart policy rule"
	}
	return c
}

func (m *maker) initialized(s *v1.PodStatus) v1.PodCondition {
	c := v1.PodCondition{Type: v1.PodInitialized, Status: v1.ConditionTrue}
	pending := m.uninitialized()
	switch {
	case s.Phase == v1.PodSucceeded:
		c.Reason = "PodCompleted"
	case m.wasInitialized(): // it stays so, though all containers restart
	case len(pending) > 0 && !m.mainStarted():
		c.Status, c.Reason = v1.ConditionFalse, "ContainersNotInitialized"
		c.Message = fmt.Sprintf("containers with incomplete status: [%s]", strings.Join(pending, " "))
	}
	return c
}

func (m *maker) wasInitialized() bool {
	return slices.ContainsFunc(m.facts.Previous.Conditions, func(c v1.PodCondition) bool {
		return c.Type == v1.PodInitialized && c.Status == v1.ConditionTrue
	})
}

func (m *maker) containersReady(s *v1.PodStatus) v1.PodCondition {
	c := v1.PodCondition{Type: v1.ContainersReady, Status: v1.ConditionFalse}
	switch s.Phase {
	case v1.PodSucceeded:
		c.Reason = "PodCompleted"
		return c
	case v1.PodFailed:
		c.Reason = "PodFailed"
		return c
	}
	var unready []string
	for i, status := range s.InitContainerStatuses {
		if plan.IsSidecar(&m.pod.Spec.InitContainers[i]) && !status.Ready {
			unready = append(unready, status.Name)
		}
	}
	for _, status := range s.ContainerStatuses {
		if !status.Ready {
			unready = append(unready, status.Name)
		}
	}
	if len(unready) == 0 {
		c.Status = v1.ConditionTrue
		return c
	}
	c.Reason = "ContainersNotReady"
	c.Message = fmt.Sprintf("containers with unready status: [%s]", strings.Join(unready, " "))
	return c
}
