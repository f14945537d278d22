package server

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/duration"
)

// The columns and what stands in them are those of kubectl: printPod in kubernetes/kubernetes,
// pkg/printers/internalversion/printers.go.

// PodColumns are the columns of `kubectl get pods`; those of priority 1 are of -o wide.
func PodColumns() []metav1.TableColumnDefinition {
	return []metav1.TableColumnDefinition{
		{Name: "Name", Type: "string", Format: "name"},
		{Name: "Ready", Type: "string"},
		{Name: "Status", Type: "string"},
		{Name: "Restarts", Type: "string"},
		{Name: "Age", Type: "string"},
		{Name: "IP", Type: "string", Priority: 1},
		{Name: "Node", Type: "string", Priority: 1},
		{Name: "Nominated Node", Type: "string", Priority: 1},
		{Name: "Readiness Gates", Type: "string", Priority: 1},
	}
}

// PodCells is what stands in a Pod's row, a cell for each of PodColumns.
func PodCells(pod *v1.Pod, now time.Time) []any {
	l := look(pod)
	return []any{
		pod.Name, l.readyCell(pod), l.status, l.restarts.cell(now), Age(pod.CreationTimestamp.Time, now),
		podIP(pod), orNone(pod.Spec.NodeName), orNone(pod.Status.NominatedNodeName), readinessGates(pod),
	}
}

func table(pods []v1.Pod, now time.Time) *metav1.Table {
	t := &metav1.Table{ColumnDefinitions: PodColumns()}
	for i := range pods {
		t.Rows = append(t.Rows, metav1.TableRow{Object: runtime.RawExtension{Object: &pods[i]}, Cells: PodCells(&pods[i], now)})
	}
	return t
}

// glance is what kubectl makes of a Pod's container statuses at a glance.
type glance struct {
	status   string
	ready    int
	restarts restarts
	sidecars restarts // the part of them that is the sidecars'
}

// restarts counts the restarts of some containers.
type restarts struct {
	count int
	last  time.Time // the zero time where it is not known
}

// add counts a container's restarts; the latest one was when its previous instance ended.
func (r *restarts) add(c v1.ContainerStatus) {
	r.count += int(c.RestartCount)
	if t := c.LastTerminationState.Terminated; t != nil && t.FinishedAt.After(r.last) {
		r.last = t.FinishedAt.Time
	}
}

// cell is "3", or "3 (5m ago)" where the time of the last is known.
func (r restarts) cell(now time.Time) string {
	if r.count == 0 || r.last.IsZero() {
		return strconv.Itoa(r.count)
	}
	return fmt.Sprintf("%d (%s ago)", r.count, Age(r.last, now))
}

// look reads a Pod's status from its init containers to its main ones, later facts overruling earlier ones.
func look(pod *v1.Pod) glance {
	l := glance{status: cmp.Or(pod.Status.Reason, string(pod.Status.Phase))}
	if c := condition(pod, v1.PodScheduled); c != nil && c.Reason == v1.PodReasonSchedulingGated {
		l.status = v1.PodReasonSchedulingGated
	}
	initializing := l.lookInit(pod)
	if c := condition(pod, v1.PodInitialized); !initializing || c != nil && c.Status == v1.ConditionTrue {
		l.lookMain(pod)
	}
	if pod.DeletionTimestamp != nil && !isTerminal(pod) {
		l.status = "Terminating"
	}
	return l
}

func isTerminal(pod *v1.Pod) bool {
	return pod.Status.Phase == v1.PodSucceeded || pod.Status.Phase == v1.PodFailed
}

// lookInit reads the init containers up to the first that is not done, which gives the status; it says whether there is
// one. A sidecar is done once it has started.
func (l *glance) lookInit(pod *v1.Pod) (initializing bool) {
	for i, c := range pod.Status.InitContainerStatuses {
		l.restarts.add(c)
		sidecar := isSidecar(pod, c.Name)
		if sidecar {
			l.sidecars.add(c)
		}
		if t := c.State.Terminated; t != nil && t.ExitCode == 0 {
			continue
		}
		if sidecar && c.Started != nil && *c.Started {
			if c.Ready {
				l.ready++
			}
			continue
		}
		l.status = fmt.Sprintf("Init:%d/%d", i, len(pod.Spec.InitContainers))
		if t, w := c.State.Terminated, c.State.Waiting; t != nil {
			l.status = "Init:" + terminated(t)
		} else if w != nil && w.Reason != "" && w.Reason != "PodInitializing" {
			l.status = "Init:" + w.Reason
		}
		return true
	}
	return false
}

// lookMain reads the main containers, last to first, so that the first one that is not simply running gives the status.
// Of the init containers only the sidecars' restarts still count.
func (l *glance) lookMain(pod *v1.Pod) {
	l.restarts = l.sidecars
	running, failure := false, ""
	for _, c := range slices.Backward(pod.Status.ContainerStatuses) {
		l.restarts.add(c)
		switch t, w := c.State.Terminated, c.State.Waiting; {
		case w != nil && w.Reason != "":
			l.status = w.Reason
		case t != nil:
			l.status = terminated(t)
			if t.ExitCode != 0 {
				failure = l.status
			}
		case c.Ready && c.State.Running != nil:
			running = true
			l.ready++
		}
	}
	if l.status != "Completed" {
		return
	}
	// One container is done, but the Pod may not be.
	ready := condition(pod, v1.PodReady)
	switch {
	case running && ready != nil && ready.Status == v1.ConditionTrue:
		l.status = "Running"
	case failure != "":
		l.status = failure
	case running:
		l.status = "NotReady"
	}
}

// readyCell counts ready containers; sidecars are in both numbers.
func (l glance) readyCell(pod *v1.Pod) string {
	total := len(pod.Spec.Containers)
	for _, c := range pod.Spec.InitContainers {
		if isSidecar(pod, c.Name) {
			total++
		}
	}
	return fmt.Sprintf("%d/%d", l.ready, total)
}

// terminated names the end of a container: its reason, else signal, else status.
func terminated(t *v1.ContainerStateTerminated) string {
	switch {
	case t.Reason != "":
		return t.Reason
	case t.Signal != 0:
		return fmt.Sprintf("Signal:%d", t.Signal)
	default:
		return fmt.Sprintf("ExitCode:%d", t.ExitCode)
	}
}

// isSidecar says whether the init container of that name is one that stays.
func isSidecar(pod *v1.Pod, name string) bool {
	return slices.ContainsFunc(pod.Spec.InitContainers, func(c v1.Container) bool {
		return c.Name == name && c.RestartPolicy != nil && *c.RestartPolicy == v1.ContainerRestartPolicyAlways
	})
}

// condition is a Pod's condition of that type, or nil.
func condition(pod *v1.Pod, t v1.PodConditionType) *v1.PodCondition {
	i := slices.IndexFunc(pod.Status.Conditions, func(c v1.PodCondition) bool { return c.Type == t })
	if i < 0 {
		return nil
	}
	return &pod.Status.Conditions[i]
}

// readinessGates counts the gates that are open, "<none>" without gates.
func readinessGates(pod *v1.Pod) string {
	gates := pod.Spec.ReadinessGates
	if len(gates) == 0 {
		return orNone("")
	}
	open := 0
	for _, g := range gates {
		if c := condition(pod, g.ConditionType); c != nil && c.Status == v1.ConditionTrue {
			open++
		}
	}
	return fmt.Sprintf("%d/%d", open, len(gates))
}

func podIP(pod *v1.Pod) string {
	if len(pod.Status.PodIPs) == 0 {
		return orNone("")
	}
	return orNone(pod.Status.PodIPs[0].IP)
}

func orNone(s string) string { return cmp.Or(s, "<none>") }

// Age is how long ago t was, in kubectl's words.
func Age(t, now time.Time) string {
	if t.IsZero() {
		return "<unknown>"
	}
	return duration.HumanDuration(now.Sub(t))
}
