// Package status makes a Pod's status from what was seen, in the words that Kubernetes uses. It is pure and decides
// nothing: what it reports, plan has decided. Rules: kubernetes/kubernetes pkg/kubelet/kubelet_pods.go (getPhase,
// convertToAPIContainerStatuses) and pkg/kubelet/status/generate.go (conditions).
package status

import (
	"fmt"
	"slices"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	resourcehelper "k8s.io/component-helpers/resource"
	"k8s.io/kubectl/pkg/util/qos"

	"github.com/podkeeper/podkeeper/agent/plan"
)

// Facts is what a status is made of.
type Facts struct {
	Seen       plan.Seen
	Containers map[string]Container
	HostIPs    []string // the node's
	PodIPs     []string // of the sandbox; the node's on the host's network
	StartTime  time.Time
	Previous   v1.PodStatus      // conditions that stay as they are keep the time of their last change
	Conditions []v1.PodCondition // that others than the kubelet have set
	Reason     string            // why the Pod as a whole is held up
	Message    string
	Resize     Resize

	RecursiveReadOnly bool // the node can make all that is mounted below a mount read-only
}

// Container is what is reported of a container beside what plan needs to know of it.
type Container struct {
	ID      string // of the present instance, containerd://…; empty before the first
	Image   string
	ImageID string
	Ready   bool // its readiness probe, if any, has passed
	Exit    *v1.ContainerStateTerminated
	Last    *v1.ContainerStateTerminated // of the instance before
	Waiting *Fault                       // the last action on it failed

	StopSignal *v1.Signal // what it is told to end with; nil is SIGTERM

	User *v1.ContainerUser // who its main process was started as

	Given *v1.ResourceRequirements // what the present instance was given last; nil is what the Pod has
}

// Resize is how far the Pod is on the way to other resources than it has had.
type Resize struct {
	Pending    *Fault // why what is wanted was not granted yet: v1.PodReasonInfeasible or Deferred; nil where nothing is wanted
	InProgress bool   // what was granted was not given to all containers yet
	Error      string // why not, where that was tried in vain
	Generation int64  // of the Pod when it was granted
}

// Fault is why a container waits: one of Kubernetes' waiting reasons, and the words behind it.
type Fault struct{ Reason, Message string }

// Make makes the status of a Pod.
func Make(pod *v1.Pod, f Facts, now time.Time) v1.PodStatus {
	f.Seen.Containers = lastKnown(pod, f)
	m := maker{pod: pod, facts: f, now: now}
	s := v1.PodStatus{
		ObservedGeneration: pod.Generation,
		Reason:             f.Reason,
		Message:            f.Message,
		HostIP:             first(f.HostIPs),
		PodIP:              first(f.PodIPs),
		QOSClass:           qos.GetPodQOS(pod),
		StartTime:          &metav1.Time{Time: f.StartTime},
		AllocatedResources: resourcehelper.PodRequests(pod, resourcehelper.PodResourcesOptions{}),
	}
	s.Resources = &v1.ResourceRequirements{Requests: s.AllocatedResources, Limits: resourcehelper.PodLimits(pod, resourcehelper.PodResourcesOptions{})}
	for _, ip := range f.HostIPs {
		s.HostIPs = append(s.HostIPs, v1.HostIP{IP: ip})
	}
	for _, ip := range f.PodIPs {
		s.PodIPs = append(s.PodIPs, v1.PodIP{IP: ip})
	}
	for i := range pod.Spec.InitContainers {
		s.InitContainerStatuses = append(s.InitContainerStatuses, m.container(&pod.Spec.InitContainers[i], true))
	}
	for i := range pod.Spec.Containers {
		s.ContainerStatuses = append(s.ContainerStatuses, m.container(&pod.Spec.Containers[i], false))
	}
	for i := range pod.Spec.EphemeralContainers {
		c := m.container((*v1.Container)(&pod.Spec.EphemeralContainers[i].EphemeralContainerCommon), false)
		c.Ready, c.Started = false, nil // nothing waits for it
		s.EphemeralContainerStatuses = append(s.EphemeralContainerStatuses, c)
	}
	s.Phase = m.phase()
	s.Conditions = m.conditions(&s)
	if len(s.PodIPs) == 0 && (s.Phase == v1.PodSucceeded || s.Phase == v1.PodFailed) {
		s.PodIP, s.PodIPs = f.Previous.PodIP, f.Previous.PodIPs // what it had stays told
	}
	return s
}

// Held makes the status of a Pod that may not begin now, as the scheduler reports one that it finds no room for. Reasons that
// are not the scheduler's are those of a kubelet that rejects a Pod, and stand where that puts them, too.
func Held(pod *v1.Pod, reason, message string, previous v1.PodStatus, now time.Time) v1.PodStatus {
	scheduled := v1.PodCondition{
		Type: v1.PodScheduled, Status: v1.ConditionFalse, Reason: reason, Message: message, ObservedGeneration: pod.Generation,
	}
	scheduled.LastTransitionTime = transition(&scheduled, previous.Conditions, now)
	s := v1.PodStatus{
		ObservedGeneration: pod.Generation, Phase: v1.PodPending, QOSClass: qos.GetPodQOS(pod), Conditions: []v1.PodCondition{scheduled},
	}
	if reason != v1.PodReasonUnschedulable && reason != v1.PodReasonSchedulingGated {
		s.Reason, s.Message = reason, message
	}
	return s
}

// Final makes the last status of a Pod that has ended for good: it has succeeded if all of its containers have, else it has
// failed (kubernetes/kubernetes pkg/kubelet/kubelet_pods.go, getPhase of a Pod that is terminal).
func Final(pod *v1.Pod, now time.Time) v1.PodStatus {
	s := *pod.Status.DeepCopy()
	if s.Phase == v1.PodSucceeded || s.Phase == v1.PodFailed {
		return s
	}
	succeeded := 0
	for _, c := range s.ContainerStatuses {
		if t := c.State.Terminated; t != nil && t.ExitCode == 0 {
			succeeded++
		}
	}
	reason := "PodCompleted"
	if s.Phase = v1.PodSucceeded; succeeded < len(pod.Spec.Containers) {
		s.Phase, reason = v1.PodFailed, "PodFailed"
	}
	for i := range s.Conditions {
		if c := &s.Conditions[i]; c.Type == v1.PodReady || c.Type == v1.ContainersReady {
			was := *c
			c.Status, c.Reason, c.Message = v1.ConditionFalse, reason, ""
			c.LastTransitionTime = transition(c, []v1.PodCondition{was}, now)
		}
	}
	return s
}

// lastKnown takes what cannot be told of for what it was last known to be: it runs, or it has not started. What waits for its
// postStart hook has not either (kubernetes.io/docs "container lifecycle hooks").
func lastKnown(pod *v1.Pod, f Facts) map[string]plan.Container {
	known := make(map[string]plan.Container, len(f.Seen.Containers))
	for name, c := range f.Seen.Containers {
		if c.State == plan.Unknown {
			c.State = plan.Running
			if c.StartedAt.IsZero() {
				c.State = plan.None
			}
		}
		if c.State == plan.Running && c.Unhooked {
			c.State = plan.None
		}
		if c.State == plan.Exited && (c.Redo || f.Seen.Restarting && !plan.IsEphemeral(pod, name)) {
			c.State = plan.None
			c.Attempt++ // it is reported as one whose restart is under way
		}
		known[name] = c
	}
	return known
}

// RestartingAll is the reason of a container that waits, or was killed, because all containers of its Pod restart
// (kubernetes/kubernetes pkg/kubelet/kubelet_pods.go).
const RestartingAll = "RestartingAllContainers"

// RemovedForAll is the message beside it.
const RemovedForAll = "The container is removed because RestartAllContainers in place"

// succeeded says whether an init container has done its work. What was stopped for an edit has not: it runs again.
func succeeded(c plan.Container) bool {
	return c.State == plan.Exited && c.ExitCode == 0 && !c.Stop.ForEdit()
}

// maker is one making of a status.
type maker struct {
	pod   *v1.Pod
	facts Facts
	now   time.Time
}

func first(s []string) string {
	if len(s) == 0 {
		return ""
	}
	return s[0]
}

// container reports one container. An init container that is no sidecar is ready once it has succeeded.
func (m *maker) container(c *v1.Container, isInit bool) v1.ContainerStatus {
	seen, facts := m.facts.Seen.Containers[c.Name], m.facts.Containers[c.Name]
	started := seen.State == plan.Running && seen.Started
	s := v1.ContainerStatus{
		Name:         c.Name,
		Image:        c.Image,
		ImageID:      facts.ImageID,
		ContainerID:  facts.ID,
		RestartCount: int32(seen.Attempt),
		Started:      &started,
		Ready:        started && facts.Ready,
		VolumeMounts: m.volumeMounts(c),
	}
	if facts.ID != "" {
		s.Resources, s.AllocatedResources = c.Resources.DeepCopy(), c.Resources.Requests
		if facts.Given != nil && seen.State == plan.Running {
			s.Resources = facts.Given
		}
		s.StopSignal, s.User = facts.StopSignal, facts.User
	}
	if seen.State == plan.None && seen.Attempt > 0 {
		s.RestartCount-- // the restart is under way
	}
	if facts.Image != "" {
		s.Image = facts.Image
	}
	if seen.State == plan.None && facts.Exit != nil { // it is to be done over
		facts.Last = facts.Exit
	}
	if facts.Last != nil {
		s.LastTerminationState.Terminated = facts.Last
	}
	switch seen.State {
	case plan.Running:
		s.State.Running = &v1.ContainerStateRunning{StartedAt: metav1.NewTime(seen.StartedAt)}
	case plan.Exited:
		m.exited(c, &s)
	case plan.None:
		s.State.Waiting = m.waiting(facts, seen.Redo || m.facts.Seen.Restarting)
	}
	if isInit && !plan.IsSidecar(c) {
		s.Ready = s.State.Terminated != nil && succeeded(seen)
	}
	return s
}

// volumeMounts are the container's own: what Kubernetes gives to all is not told of. Of what is read-only it is told whether all
// below is, too; what is to be so if possible is or is not.
func (m *maker) volumeMounts(c *v1.Container) []v1.VolumeMountStatus {
	var out []v1.VolumeMountStatus
	for _, mount := range c.VolumeMounts {
		status := v1.VolumeMountStatus{Name: mount.Name, MountPath: mount.MountPath, ReadOnly: mount.ReadOnly}
		if mount.ReadOnly {
			mode := v1.RecursiveReadOnlyDisabled
			asked := mount.RecursiveReadOnly
			if asked != nil && (*asked == v1.RecursiveReadOnlyEnabled || *asked == v1.RecursiveReadOnlyIfPossible && m.facts.RecursiveReadOnly) {
				mode = v1.RecursiveReadOnlyEnabled
			}
			status.RecursiveReadOnly = &mode
		}
		out = append(out, status)
	}
	return out
}

// exited reports an instance that has ended: as terminated, or, while its restart waits, as waiting with the end behind it.
func (m *maker) exited(c *v1.Container, s *v1.ContainerStatus) {
	seen, facts := m.facts.Seen.Containers[c.Name], m.facts.Containers[c.Name]
	due := plan.BackingOff(m.pod, m.facts.Seen, c, m.now)
	switch {
	case facts.Waiting != nil && plan.Restarts(m.pod, m.facts.Seen, c) && !plan.Done(m.pod, m.facts.Seen):
		s.LastTerminationState.Terminated = facts.Exit
		s.State.Waiting = &v1.ContainerStateWaiting{Reason: facts.Waiting.Reason, Message: facts.Waiting.Message}
	case !due.IsZero():
		s.LastTerminationState.Terminated = facts.Exit
		s.State.Waiting = &v1.ContainerStateWaiting{Reason: "CrashLoopBackOff", Message: BackoffMessage(m.pod, c.Name, due.Sub(seen.FinishedAt))}
	default:
		s.State.Terminated = facts.Exit
	}
}

// BackoffMessage is the kubelet's text for a container that waits to be restarted.
func BackoffMessage(pod *v1.Pod, container string, delay time.Duration) string {
	return fmt.Sprintf("back-off %s restarting failed container=%s pod=%s_%s(%s)", delay, container, pod.Name, pod.Namespace, pod.UID)
}

// waiting says why a container has not started.
func (m *maker) waiting(c Container, redo bool) *v1.ContainerStateWaiting {
	switch {
	case redo:
		return &v1.ContainerStateWaiting{Reason: RestartingAll, Message: RemovedForAll}
	case c.Waiting != nil:
		return &v1.ContainerStateWaiting{Reason: c.Waiting.Reason, Message: c.Waiting.Message}
	case len(m.pod.Spec.InitContainers) > 0:
		return &v1.ContainerStateWaiting{Reason: "PodInitializing"}
	default:
		return &v1.ContainerStateWaiting{Reason: "ContainerCreating"}
	}
}

// phase is the kubelet's getPhase: sidecars count while they run, and a container that waits for its restart counts as
// stopped, so that a Pod in CrashLoopBackOff is Running. A terminal phase is never left.
func (m *maker) phase() v1.PodPhase {
	if p := m.facts.Previous.Phase; p == v1.PodSucceeded || p == v1.PodFailed {
		return p
	}
	if m.initFailed() {
		return v1.PodFailed
	}
	done := plan.Done(m.pod, m.facts.Seen) && !m.leftover()
	if m.initPending() && !done && !m.redoing() { // a Pod that runs does not go back to be pending
		return v1.PodPending
	}
	running, stopped, succeeded := 0, 0, 0
	for _, c := range m.pod.Spec.InitContainers {
		if plan.IsSidecar(&c) && m.facts.Seen.Containers[c.Name].State == plan.Running {
			running++
		}
	}
	for _, c := range m.pod.Spec.Containers {
		seen, facts := m.facts.Seen.Containers[c.Name], m.facts.Containers[c.Name]
		switch {
		case seen.State == plan.Running:
			running++
		case seen.State == plan.Exited:
			stopped++
			if seen.ExitCode == 0 {
				succeeded++
			}
		case facts.Last != nil || facts.Exit != nil:
			stopped++
		case !done:
			return v1.PodPending
		}
	}
	switch {
	case running > 0:
		return v1.PodRunning
	case !done:
		return v1.PodRunning // some will restart
	case succeeded == stopped && stopped == len(m.pod.Spec.Containers):
		return v1.PodSucceeded
	default:
		return v1.PodFailed
	}
}

// initFailed says whether an init container has failed for good: the Pod has failed, sidecars that still run or not.
func (m *maker) initFailed() bool {
	return slices.ContainsFunc(m.pod.Spec.InitContainers, func(c v1.Container) bool {
		seen := m.facts.Seen.Containers[c.Name]
		return !plan.IsSidecar(&c) && seen.State == plan.Exited && seen.ExitCode != 0 && !plan.Restarts(m.pod, m.facts.Seen, &c)
	})
}

// leftover says whether a container's output may still be on its way to its log: a Pod that is reported as ended has
// complete logs.
func (m *maker) leftover() bool {
	for _, c := range m.facts.Seen.Containers {
		if c.Leftover {
			return true
		}
	}
	return false
}

// initPending says whether an init container, or the start of a sidecar, still holds back the other containers.
func (m *maker) initPending() bool {
	return !m.mainStarted() && len(m.uninitialized()) > 0
}

// redoing says whether all containers restart.
func (m *maker) redoing() bool {
	return m.facts.Seen.Restarting || slices.ContainsFunc(m.pod.Spec.Containers, func(c v1.Container) bool {
		return m.facts.Seen.Containers[c.Name].Redo
	})
}

func (m *maker) mainStarted() bool {
	return slices.ContainsFunc(m.pod.Spec.Containers, func(c v1.Container) bool {
		seen, facts := m.facts.Seen.Containers[c.Name], m.facts.Containers[c.Name]
		return seen.State != plan.None || facts.Last != nil && !seen.Redo && !m.facts.Seen.Restarting
	})
}

// uninitialized are the init containers that have not succeeded, and the sidecars that have not started.
func (m *maker) uninitialized() []string {
	var names []string
	for _, c := range m.pod.Spec.InitContainers {
		seen := m.facts.Seen.Containers[c.Name]
		switch {
		case plan.IsSidecar(&c) && seen.State == plan.Running && seen.Started:
		case !plan.IsSidecar(&c) && succeeded(seen):
		default:
			names = append(names, c.Name)
		}
	}
	return names
}
