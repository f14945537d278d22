package agent

import (
	"fmt"
	"slices"
	"sync"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// maxEvents is how many events are kept.
const maxEvents = 1000

// Events are the latest events of all Pods. One that repeats is counted, not listed again.
type Events struct {
	node string

	mu     sync.Mutex
	serial int
	list   []*v1.Event // by their last occurrence
	byKey  map[eventKey]*v1.Event
}

// eventKey is what makes two events the same.
type eventKey struct {
	pod, fieldPath, kind, reason, message string
}

func newEvents(node string) *Events {
	return &Events{node: node, byKey: map[eventKey]*v1.Event{}}
}

// add records that something happened to a Pod, or to one of its containers.
func (e *Events) add(pod *v1.Pod, container, kind, reason, message string) {
	now := metav1.NewTime(time.Now())
	key := eventKey{pod: string(pod.UID) + pod.Namespace + "/" + pod.Name, fieldPath: fieldPath(pod, container), kind: kind, reason: reason, message: message}
	e.mu.Lock()
	defer e.mu.Unlock()
	if known := e.byKey[key]; known != nil {
		known.Count++
		known.LastTimestamp = now
		i := slices.Index(e.list, known)
		e.list = append(slices.Delete(e.list, i, i+1), known)
		return
	}
	if len(e.list) == maxEvents {
		e.forget(e.list[0])
	}
	e.serial++
	event := &v1.Event{
		ObjectMeta: metav1.ObjectMeta{
			Name: fmt.Sprintf("%s.%x", pod.Name, now.UnixNano()+int64(e.serial)), Namespace: pod.Namespace, CreationTimestamp: now,
		},
		InvolvedObject: v1.ObjectReference{
			APIVersion: "v1", Kind: "Pod", Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID, FieldPath: key.fieldPath,
		},
		Reason: reason, Message: message, Type: kind, Count: 1, FirstTimestamp: now, LastTimestamp: now,
		Source: v1.EventSource{Component: "podkeeper", Host: e.node}, ReportingController: "podkeeper", ReportingInstance: e.node,
	}
	e.list = append(e.list, event)
	e.byKey[key] = event
}

// forget drops the oldest event.
func (e *Events) forget(event *v1.Event) {
	e.list = slices.Delete(e.list, 0, 1)
	for key, known := range e.byKey {
		if known == event {
			delete(e.byKey, key)
			return
		}
	}
}

// fieldPath names a container as Kubernetes' events do.
func fieldPath(pod *v1.Pod, container string) string {
	if container == "" {
		return ""
	}
	for _, c := range pod.Spec.InitContainers {
		if c.Name == container {
			return fmt.Sprintf("spec.initContainers{%s}", container)
		}
	}
	return fmt.Sprintf("spec.containers{%s}", container)
}

// List answers the events, the oldest first.
func (e *Events) List() []v1.Event {
	e.mu.Lock()
	defer e.mu.Unlock()
	all := make([]v1.Event, 0, len(e.list))
	for _, event := range e.list {
		all = append(all, *event)
	}
	return all
}
