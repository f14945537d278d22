package status

import (
	"fmt"
	"slices"
	"strings"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/podkeeper/podkeeper/agent/plan"
)

// conditions are the Pod's conditions, in the kubelet's order.
func (m *maker) conditions(s *v1.PodStatus) []v1.PodCondition {
	containersReady := m.containersReady(s)
	all := []v1.PodCondition{
		m.sandboxReady(),
		m.initialized(s),
		ready(m.pod, containersReady, m.facts.Conditions),
		containersReady,
		{Type: v1.PodScheduled, Status: v1.ConditionTrue},
	}
	all = append(all, m.resizing()...)
	if plan.MayRestartAll(m.pod) {
		all = append(all, m.restarting(s))
	}
	for i := range all {
		if all[i].Type != v1.PodResizeInProgress {
			all[i].ObservedGeneration = m.pod.Generation
		}
		all[i].LastTransitionTime = transition(&all[i], m.facts.Previous.Conditions, m.now)
	}
	return append(all, m.facts.Conditions...)
}

// transition keeps the time of the last change of a condition's status.
func transition(c *v1.PodCondition, previous []v1.PodCondition, now time.Time) metav1.Time {
	for _, old := range previous {
		if old.Type == c.Type && old.Status == c.Status {
			return old.LastTransitionTime
		}
	}
	return metav1.NewTime(now)
}

// IsOwn says whether a condition is the kubelet's to tell (kubernetes/kubernetes pkg/kubelet/types/pod_status.go).
func IsOwn(of v1.PodConditionType) bool {
	switch of {
	case v1.PodScheduled, v1.PodReady, v1.PodInitialized, v1.ContainersReady, v1.PodResizeInProgress, v1.PodResizePending,
		v1.PodReadyToStartContainers, v1.AllContainersRestarting:
		return true
	}
	return false
}

// WithOthers answers the conditions of a Pod with those of others in place of the ones that there were. Whether it is ready
// follows.
func WithOthers(pod *v1.Pod, was, others []v1.PodCondition, now time.Time) []v1.PodCondition {
	var all []v1.PodCondition
	for _, c := range was {
		if !IsOwn(c.Type) {
			continue
		}
		if c.Type == v1.PodReady {
			c = ready(pod, conditionOf(v1.ContainersReady, was), others)
			c.ObservedGeneration, c.LastTransitionTime = pod.Generation, transition(&c, was, now)
		}
		all = append(all, c)
	}
	return append(all, others...)
}

// conditionOf is a condition by its type, a zero one where there is none.
func conditionOf(of v1.PodConditionType, all []v1.PodCondition) v1.PodCondition {
	for _, c := range all {
		if c.Type == of {
			return c
		}
	}
	return v1.PodCondition{}
}

// ready is whether a Pod is ready: its containers are, and its gates stand open.
func ready(pod *v1.Pod, containersReady v1.PodCondition, others []v1.PodCondition) v1.PodCondition {
	c := v1.PodCondition{Type: v1.PodReady, Status: containersReady.Status, Reason: containersReady.Reason, Message: containersReady.Message}
	if c.Status != v1.ConditionTrue {
		return c
	}
	var closed []string
	for _, gate := range pod.Spec.ReadinessGates {
		switch is := conditionOf(gate.ConditionType, others); is.Status {
		case v1.ConditionTrue:
		case "":
			closed = append(closed, fmt.Sprintf("corresponding condition of pod readiness gate %q does not exist.", gate.ConditionType))
		default:
			closed = append(closed, fmt.Sprintf("the status of pod readiness gate %q is not \"True\", but %v", gate.ConditionType, is.Status))
		}
	}
	if len(closed) > 0 {
		c.Status, c.Reason, c.Message = v1.ConditionFalse, "ReadinessGatesNotReady", strings.Join(closed, ", ")
	}
	return c
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

// resizing are the conditions of a Pod that is to have other resources, and has not got them everywhere.
func (m *maker) resizing() (all []v1.PodCondition) {
	r := m.facts.Resize
	if r.Pending != nil {
		all = append(all, v1.PodCondition{Type: v1.PodResizePending, Status: v1.ConditionTrue, Reason: r.Pending.Reason, Message: r.Pending.Message})
	}
	if r.InProgress {
		c := v1.PodCondition{Type: v1.PodResizeInProgress, Status: v1.ConditionTrue, ObservedGeneration: r.Generation}
		if r.Error != "" {
			c.Reason, c.Message = v1.PodReasonError, r.Error
		}
		all = append(all, c)
	}
	return all
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
