package agent

import (
	"container/list"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/uuid"

	"github.com/podkeeper/podkeeper/agent/objects"
	"github.com/podkeeper/podkeeper/manifests"
	"github.com/podkeeper/podkeeper/server"
)

// maxClientEvents is how many events of clients are kept, beside those of Pods.
const maxClientEvents = 1000

// clientEvents are events that clients of an API have made: in memory only, as the agent's own. They are Events' own to guard.
type clientEvents struct {
	byName map[types.NamespacedName]*list.Element
	recent *list.List // of clientEvent, that which was written last at the end
}

type clientEvent struct {
	v1.Event // with the revision of its last change
	at       time.Time
}

func newClientEvents() clientEvents {
	return clientEvents{byName: map[types.NamespacedName]*list.Element{}, recent: list.New()}
}

// get is an event by its name, nil where there is none.
func (c *clientEvents) get(name types.NamespacedName) *v1.Event {
	if place := c.byName[name]; place != nil {
		return &place.Value.(*clientEvent).Event
	}
	return nil
}

// put keeps an event. The one that was not written for the longest time makes room for a new one.
func (c *clientEvents) put(e v1.Event, now time.Time) {
	name := types.NamespacedName{Namespace: e.Namespace, Name: e.Name}
	c.remove(name)
	if c.recent.Len() == maxClientEvents {
		c.removeOldest()
	}
	c.byName[name] = c.recent.PushBack(&clientEvent{e, now})
}

func (c *clientEvents) remove(name types.NamespacedName) {
	if place := c.byName[name]; place != nil {
		c.recent.Remove(place)
		delete(c.byName, name)
	}
}

func (c *clientEvents) removeOldest() {
	oldest := c.recent.Front().Value.(*clientEvent)
	c.remove(types.NamespacedName{Namespace: oldest.Namespace, Name: oldest.Name})
}

// list answers the events, without those that are too old.
func (c *clientEvents) list(now time.Time) []v1.Event {
	for first := c.recent.Front(); first != nil && now.Sub(first.Value.(*clientEvent).at) > eventTTL; first = c.recent.Front() {
		c.removeOldest()
	}
	var all []v1.Event
	for at := c.recent.Front(); at != nil; at = at.Next() {
		all = append(all, at.Value.(*clientEvent).Event)
	}
	return all
}

// own finds an event of the agent itself by its name.
func (e *Events) own(name types.NamespacedName) (of *podEvents, place *list.Element) {
	for _, of := range e.pods {
		for at := of.events.Front(); at != nil; at = at.Next() {
			if event := at.Value.(*keyedEvent).event; event.Namespace == name.Namespace && event.Name == name.Name {
				return of, at
			}
		}
	}
	return nil, nil
}

// Put keeps an event of a client, as the object of an API, at a revision that next gives. The error is server.ErrConflict,
// server.ErrNoObject, server.ErrChanged, server.ErrForbidden or server.ErrInvalid, in full.
func (e *Events) Put(name types.NamespacedName, body []byte, want server.Condition, next func() uint64) (*v1.Event, error) {
	var event v1.Event
	if err := json.Unmarshal(body, &event); err != nil {
		return nil, server.As(server.ErrInvalid, fmt.Sprintf("events/%s: not an event: %v", name, err))
	}
	if event.Namespace != name.Namespace || event.Name != name.Name {
		return nil, server.As(server.ErrInvalid, fmt.Sprintf("events/%s: it is %s/%s", name, event.Namespace, event.Name))
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	was := e.made.get(name)
	if err := e.allows(name, was, want); err != nil {
		return nil, err
	}
	faults := manifests.Check(&event)
	event.TypeMeta = metav1.TypeMeta{APIVersion: "v1", Kind: manifests.KindEvent}
	if was != nil {
		event.UID, event.CreationTimestamp = was.UID, was.CreationTimestamp
		faults = manifests.CheckEdit(&event, was)
	}
	if len(faults) > 0 {
		return nil, server.As(server.ErrInvalid, fmt.Sprintf("events/%s: %v", name, faults.ToAggregate()))
	}
	if event.UID == "" {
		event.UID = uuid.NewUUID()
	}
	if event.CreationTimestamp.IsZero() {
		event.CreationTimestamp = metav1.NewTime(time.Now())
	}
	if want.DryRun {
		return &event, nil
	}
	event.ResourceVersion = strconv.FormatUint(next(), 10)
	e.made.put(event, time.Now())
	return &event, nil
}

// allows says whether a change may be made of an event, nil for none, of a client.
func (e *Events) allows(name types.NamespacedName, was *v1.Event, want server.Condition) error {
	_, own := e.own(name)
	version := uint64(0)
	if was != nil {
		version, _ = strconv.ParseUint(was.ResourceVersion, 10, 64) // it is of Put
	}
	switch {
	case own != nil:
		return server.As(server.ErrForbidden, fmt.Sprintf("events %q is forbidden: it is the agent's own", name.Name))
	case was != nil && want.New:
		return server.As(server.ErrConflict, fmt.Sprintf("events/%s: %v", name, objects.ErrExists))
	case was == nil && want.Revision != 0:
		return server.As(server.ErrNoObject, fmt.Sprintf("events/%s: %v", name, objects.ErrNotFound))
	case was != nil && want.Revision != 0 && want.Revision < version:
		return server.As(server.ErrChanged, fmt.Sprintf("events/%s: %v", name, objects.ErrChanged))
	}
	return nil
}

// Delete forgets an event, be it a client's or the agent's own, and answers it. The error is server.ErrNoObject, in full.
func (e *Events) Delete(name types.NamespacedName, dryRun bool) (*v1.Event, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if made := e.made.get(name); made != nil {
		if !dryRun {
			e.made.remove(name)
		}
		return made, nil
	}
	of, place := e.own(name)
	if place == nil {
		return nil, server.As(server.ErrNoObject, fmt.Sprintf("events/%s: %v", name, objects.ErrNotFound))
	}
	known := place.Value.(*keyedEvent)
	event := *known.event // which goes on to be counted
	if !dryRun {
		delete(of.byKey, known.key)
		of.events.Remove(place)
	}
	return &event, nil
}

// putEvent is PutObject of an event.
func (a *Agent) putEvent(name types.NamespacedName, body []byte, want server.Condition) ([]byte, error) {
	event, err := a.events.Put(name, body, want, a.objects.Next)
	return a.answerEvent(event, err)
}

// deleteEvent is DeleteObject of one.
func (a *Agent) deleteEvent(name types.NamespacedName, dryRun bool) ([]byte, error) {
	event, err := a.events.Delete(name, dryRun)
	return a.answerEvent(event, err)
}

func (a *Agent) answerEvent(event *v1.Event, err error) ([]byte, error) {
	if err != nil {
		return nil, err
	}
	a.feed.Wake()
	return encoded(event)
}
