package agent

import (
	"cmp"
	"container/list"
	"fmt"
	"slices"
	"sync"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/uuid"
)

// How many events are kept of a Pod, of how many Pods, and for how long (kube-apiserver's --event-ttl). Each Pod has a
// share of its own, so that a noisy one hides the events of no other.
const (
	maxPodEvents = 50
	maxEventPods = 2000
	eventTTL     = time.Hour
)

// Events are the latest events of each Pod. One that repeats is counted, not listed again.
type Events struct {
	node string
	told func() // there is another event, or one more of one; may be nil

	mu     sync.Mutex
	serial int
	pods   map[string]*podEvents
	recent *list.List // of *podEvents, that which was heard of last at the end
	made   clientEvents
}

// podEvents are the events of one instance of a Pod.
type podEvents struct {
	key    string
	place  *list.Element
	events *list.List // of *keyedEvent, by their last occurrence
	byKey  map[eventKey]*list.Element
}

type keyedEvent struct {
	key   eventKey
	event *v1.Event
}

// eventKey is what makes two events of a Pod the same.
type eventKey struct{ fieldPath, kind, reason, message string }

func newEvents(node string) *Events {
	return &Events{node: node, pods: map[string]*podEvents{}, recent: list.New(), made: newClientEvents()}
}

// add records that something happened to a Pod, or to one of its containers.
func (e *Events) add(pod *v1.Pod, container, kind, reason, message string) {
	e.note(v1.ObjectReference{
		APIVersion: "v1", Kind: "Pod", Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID, FieldPath: fieldPath(pod, container),
	}, eventKey{kind: kind, reason: reason, message: message})
}

// addNode records that something happened to the node, which has the UID that kubectl looks for.
func (e *Events) addNode(kind, reason, message string) {
	e.note(v1.ObjectReference{APIVersion: "v1", Kind: "Node", Name: e.node, UID: types.UID(e.node)},
		eventKey{kind: kind, reason: reason, message: message})
}

// note records that something happened.
func (e *Events) note(to v1.ObjectReference, key eventKey) {
	if e.told != nil {
		defer e.told()
	}
	now := metav1.NewTime(time.Now())
	key.fieldPath = to.FieldPath
	e.mu.Lock()
	defer e.mu.Unlock()
	of := e.of(to)
	of.expire(now.Time)
	if place := of.byKey[key]; place != nil {
		known := place.Value.(*keyedEvent).event
		known.Count++
		known.LastTimestamp = now
		of.events.MoveToBack(place)
		return
	}
	if of.events.Len() == maxPodEvents {
		of.forgetOldest()
	}
	e.serial++
	event := &v1.Event{
		ObjectMeta: metav1.ObjectMeta{
			Name: fmt.Sprintf("%s.%x", to.Name, now.UnixNano()+int64(e.serial)), CreationTimestamp: now, UID: uuid.NewUUID(),
			Namespace: cmp.Or(to.Namespace, metav1.NamespaceDefault),
		},
		InvolvedObject: to,
		Reason:         key.reason, Message: key.message, Type: key.kind, Count: 1, FirstTimestamp: now, LastTimestamp: now,
		Source: v1.EventSource{Component: "podkeeper", Host: e.node}, ReportingController: "podkeeper", ReportingInstance: e.node,
	}
	of.byKey[key] = of.events.PushBack(&keyedEvent{key, event})
}

// of are the events of a Pod, or of the node. The one that was not heard of for the longest time makes room for a new one.
func (e *Events) of(to v1.ObjectReference) *podEvents {
	key := string(to.UID) + "/" + to.Namespace + "/" + to.Name
	if known := e.pods[key]; known != nil {
		e.recent.MoveToBack(known.place)
		return known
	}
	if len(e.pods) == maxEventPods {
		oldest := e.recent.Front()
		delete(e.pods, oldest.Value.(*podEvents).key)
		e.recent.Remove(oldest)
	}
	of := &podEvents{key: key, events: list.New(), byKey: map[eventKey]*list.Element{}}
	of.place = e.recent.PushBack(of)
	e.pods[key] = of
	return of
}

// expire drops what is too old.
func (p *podEvents) expire(now time.Time) {
	for first := p.events.Front(); first != nil && now.Sub(first.Value.(*keyedEvent).event.LastTimestamp.Time) > eventTTL; first = p.events.Front() {
		p.forgetOldest()
	}
}

func (p *podEvents) forgetOldest() {
	oldest := p.events.Front()
	delete(p.byKey, oldest.Value.(*keyedEvent).key)
	p.events.Remove(oldest)
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
	now := time.Now()
	all := append([]v1.Event{}, e.made.list(now)...)
	for key, of := range e.pods {
		of.expire(now)
		if of.events.Len() == 0 {
			e.recent.Remove(of.place)
			delete(e.pods, key)
		}
		for at := of.events.Front(); at != nil; at = at.Next() {
			all = append(all, *at.Value.(*keyedEvent).event)
		}
	}
	slices.SortFunc(all, func(a, b v1.Event) int {
		return cmp.Or(a.LastTimestamp.Compare(b.LastTimestamp.Time), cmp.Compare(a.Name, b.Name))
	})
	return all
}
