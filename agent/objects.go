package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/fsnotify/fsnotify"
	"k8s.io/apimachinery/pkg/types"

	"github.com/podkeeper/podkeeper/agent/objects"
	"github.com/podkeeper/podkeeper/manifests"
	"github.com/podkeeper/podkeeper/server"
)

// offerObjects hands out the objects as they are now: of several changes at once the last one has all.
func (a *Agent) offerObjects() {
	a.offering.Lock()
	defer a.offering.Unlock()
	a.laps.objects.begin()
	defer a.laps.objects.end()
	set := a.objects.Set()
	a.heed(set)
	a.offer(SourceAPI, set)
}

// PutObject makes an object be what there is by a name. What stands in the manifest directory is not changed from here.
func (a *Agent) PutObject(id server.ObjectID, body []byte, want server.Condition) ([]byte, error) {
	key, err := a.changeable(id)
	if err != nil {
		return nil, err
	}
	if id.Resource == eventResource {
		return a.putEvent(key.NamespacedName, body, want)
	}
	if want.New && a.ends(key) && !a.keeps(key) {
		return nil, server.As(server.ErrConflict, fmt.Sprintf("object is being deleted: %s %q already exists", id.Resource, id.Name))
	}
	defer a.fulfil(key)
	o, err := a.putInto(key, body, objects.Condition(want))
	answer, err := a.handOutChange(o, err, want.DryRun)
	if err == nil && !want.DryRun {
		a.namespaces.Wake() // it may have been the last finalizer
		a.provideFor(map[objects.ID]sighting{key: {}})
	}
	return answer, err
}

// keeps says whether there is an object.
func (a *Agent) keeps(id objects.ID) bool {
	_, err := a.objects.Get(id)
	return err == nil
}

// hasten has a Pod that ends be over within grace, where that is given, and answers it.
func (a *Agent) hasten(pod types.NamespacedName, grace *time.Duration, dryRun bool) ([]byte, error) {
	return a.askReported(pod, func(w *worker) error {
		if grace == nil || dryRun {
			return nil
		}
		return w.shorten(*grace)
	})
}

// ends says whether there is a Pod by a name that is being ended.
func (a *Agent) ends(id objects.ID) bool {
	if id.Resource != podResource {
		return false
	}
	w := a.named(id.NamespacedName)
	if w == nil {
		return false
	}
	pod := w.published.Load()
	return pod != nil && pod.DeletionTimestamp != nil
}

// DeleteObject removes an object. A Pod ends as one whose manifest was removed does, within grace where that is given. One that
// stands in the manifest directory begins anew, unless that is on a condition: what it is has no revision here.
func (a *Agent) DeleteObject(id server.ObjectID, want server.Condition, grace *time.Duration) (answer []byte, warning string, err error) {
	key, err := a.changeable(id)
	switch {
	case errors.Is(err, server.ErrForbidden) && id.Resource == podResource && want == server.Condition{DryRun: want.DryRun}:
		if answer, err = a.beginAnew(key.NamespacedName, grace, want.DryRun); err != nil {
			return nil, "", err
		}
		warning = fmt.Sprintf("pod %q is started again, for it comes from the manifest %s on the node: remove it there to be rid of it", id.Name, a.manifestOf(manifests.PodKey(key.NamespacedName)))
	case err != nil:
		return nil, "", err
	case id.Resource == eventResource:
		answer, err = a.deleteEvent(key.NamespacedName, want.DryRun)
		return answer, "", err
	case a.ends(key) && !a.keeps(key):
		answer, err = a.hasten(key.NamespacedName, grace, want.DryRun)
		return answer, "", err
	case id.Resource == podResource && grace != nil && !want.DryRun:
		answer, err = a.deleteWithin(key, want, *grace)
	default:
		answer, err = a.deleteKept(key, want)
	}
	return answer, warning, err
}

// deleteWithin removes a Pod, and gives its end a time of its own.
func (a *Agent) deleteWithin(id objects.ID, want server.Condition, grace time.Duration) ([]byte, error) {
	w := a.named(id.NamespacedName)
	if w == nil {
		return a.deleteKept(id, want)
	}
	w.allot(&grace)
	answer, err := a.deleteKept(id, want)
	if err != nil {
		w.allot(nil)
		return nil, err
	}
	// Where an end has begun before, for an edit, it may only be hastened. There may be no Pod any more.
	if err := a.Shorten(id.NamespacedName, grace); err != nil && !errors.Is(err, server.ErrNoPod) && !errors.Is(err, server.ErrConflict) {
		return nil, err
	}
	return answer, nil
}

// deleteKept removes an object that is kept here. A namespace goes once it is empty.
func (a *Agent) deleteKept(id objects.ID, want server.Condition) ([]byte, error) {
	isNamespace := id == namespaceID(id.Name)
	if id == nodeID(id.Name) {
		return nil, server.As(server.ErrForbidden, fmt.Sprintf("nodes %q is forbidden: the node is there as long as its agent", id.Name))
	}
	if isNamespace {
		if err := a.deletable(id.Name); err != nil {
			return nil, err
		}
	}
	o, err := a.objects.Delete(id, objects.Condition(want))
	answer, err := a.handOutChange(o, err, want.DryRun)
	if err == nil && isNamespace && !want.DryRun {
		a.namespaces.begin()
	}
	return answer, err
}

// podResource is what Pods are called in paths.
const podResource = "pods"

// beginAnew ends the instance of a Pod that is wanted, so that another one follows, and answers the Pod as it was.
func (a *Agent) beginAnew(pod types.NamespacedName, grace *time.Duration, dryRun bool) ([]byte, error) {
	return a.askReported(pod, func(w *worker) error {
		if !dryRun && w.inst != nil && w.inst.Ending == nil {
			w.end("it was deleted", Ruling{})
			if grace != nil {
				w.endBy(deadlineIn(*grace))
			}
		}
		return nil
	})
}

// askReported has the worker of a Pod do something, and answers the Pod in JSON as it is reported then. The error is
// server.ErrNoObject where it has none.
func (a *Agent) askReported(pod types.NamespacedName, do func(w *worker) error) ([]byte, error) {
	reported, err := a.askOf(pod, do)
	if errors.Is(err, server.ErrNoPod) {
		return nil, server.As(server.ErrNoObject, err.Error())
	}
	if err != nil {
		return nil, err
	}
	return encoded(a.reported(reported))
}

func encoded(object any) ([]byte, error) {
	answer, err := json.Marshal(object)
	if err != nil {
		return nil, fmt.Errorf("encode object: %w", err)
	}
	return answer, nil
}

// handOutChange hands out a change, if it was made, and answers it.
func (a *Agent) handOutChange(o objects.Object, err error, dryRun bool) ([]byte, error) {
	switch {
	case errors.Is(err, objects.ErrNotFound):
		return nil, server.As(server.ErrNoObject, err.Error())
	case errors.Is(err, objects.ErrExists):
		return nil, server.As(server.ErrConflict, err.Error())
	case errors.Is(err, objects.ErrChanged):
		return nil, server.As(server.ErrChanged, err.Error())
	case errors.Is(err, objects.ErrInvalid):
		return nil, server.As(server.ErrInvalid, err.Error())
	case err != nil:
		return nil, err
	}
	if !dryRun {
		a.offerObjects()
	}
	return encoded(o.Content)
}

// changeable finds what an ID means. The error says that there is no such resource, or, with what it means, that the object
// stands in a manifest.
func (a *Agent) changeable(id server.ObjectID) (objects.ID, error) {
	kind, clusterWide := manifests.KindOf(id.Resource)
	switch {
	case kind == "":
		return objects.ID{}, server.As(server.ErrNoObject, id.Resource+": there is no such resource")
	case clusterWide != (id.Namespace == ""):
		return objects.ID{}, server.BadRequest(fmt.Sprintf("%s %q: namespace %q: %s are in a namespace unless they are the whole node's", id.Resource, id.Name, id.Namespace, id.Resource))
	}
	key := manifests.Key{Kind: kind, NamespacedName: types.NamespacedName{Namespace: id.Namespace, Name: id.Name}}
	found := objects.ID{Resource: id.Resource, NamespacedName: key.NamespacedName}
	switch {
	case kind == manifests.KindNode && id.Name != a.node.Name:
		return found, server.As(server.ErrForbidden, fmt.Sprintf("nodes %q is forbidden: there is but one node here, %q", id.Name, a.node.Name))
	case found == a.heart.leaseID():
		return found, server.As(server.ErrForbidden, fmt.Sprintf("%s %q is forbidden: it is the node's own", id.Resource, id.Name))
	}
	if place := a.manifestOf(key); place != "" {
		return found, server.As(server.ErrForbidden, fmt.Sprintf("%s %q is forbidden: it comes from the manifest %s on the node: edit that file instead", id.Resource, id.Name, place))
	}
	if a.derived(found) {
		return found, server.As(server.ErrForbidden, fmt.Sprintf("%s %q is forbidden: it follows from a Service and its Pods", id.Resource, id.Name))
	}
	return found, nil
}

// manifestOf is where an object stands in the manifest directory, such as web.yaml:12; "" for nowhere.
func (a *Agent) manifestOf(key manifests.Key) string {
	return firstOf(a.sources.directory(), func(k manifests.Key) bool { return k == key })
}

// firstOf is where the first Pod, or else the first other object, of those that are meant stands in a Set; "" for nowhere.
func firstOf(set manifests.Set, meant func(manifests.Key) bool) string {
	for _, p := range set.Pods {
		if meant(p.Key()) {
			return fmt.Sprintf("%s:%d", filepath.Base(p.File), p.Line)
		}
	}
	for _, o := range set.Objects {
		if meant(o.Key()) {
			return fmt.Sprintf("%s:%d", filepath.Base(o.File), o.Line)
		}
	}
	return ""
}

// lookAgain is how often the files of objects are looked at without any event, and settle how long is waited for more of
// them.
const (
	lookAgain = 20 * time.Second
	settle    = 50 * time.Millisecond
)

// watchObjects follows edits of the files of objects by hand until ctx ends.
func (a *Agent) watchObjects(ctx context.Context) {
	var events <-chan fsnotify.Event
	var lost <-chan error
	if notify, err := fsnotify.NewWatcher(); err == nil {
		defer notify.Close()
		if err := notify.Add(a.cfg.ObjectsDir); err == nil { // else the clock does
			events, lost = notify.Events, notify.Errors
		}
	}
	timer := time.NewTimer(lookAgain)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-events:
			timer.Reset(settle)
		case err := <-lost:
			a.log.Debug("events of objects were lost", "error", err)
			timer.Reset(settle)
		case <-timer.C:
			timer.Reset(lookAgain)
			if a.objects.Look() {
				a.offerObjects()
			}
		}
	}
}
