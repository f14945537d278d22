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

// PutObject makes an object be what there is by a name. What stands in the manifest directory is not changed from here.
func (a *Agent) PutObject(id server.ObjectID, body []byte, want server.Condition) ([]byte, error) {
	key, err := a.changeable(id)
	if err != nil {
		return nil, err
	}
	o, err := a.objects.Put(key, body, objects.Condition(want))
	return a.changed(o, err)
}

// DeleteObject removes an object. A Pod ends as one whose manifest was removed does, within grace where that is less.
func (a *Agent) DeleteObject(id server.ObjectID, want server.Condition, grace *time.Duration) ([]byte, error) {
	key, err := a.changeable(id)
	if err != nil {
		return nil, err
	}
	o, err := a.objects.Delete(key, objects.Condition(want))
	answer, err := a.changed(o, err)
	if err == nil && grace != nil && key.Resource == "pods" {
		// It may have ended by now, or have no worker: then there is nothing to hasten.
		if err := a.Shorten(key.NamespacedName, *grace); err != nil && !errors.Is(err, server.ErrNoPod) && !errors.Is(err, server.ErrConflict) {
			return nil, err
		}
	}
	return answer, err
}

// changed answers a change, and hands it out.
func (a *Agent) changed(o objects.Object, err error) ([]byte, error) {
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
	a.offer(SourceAPI, a.objects.Set())
	answer, err := json.Marshal(o.Content)
	if err != nil {
		return nil, fmt.Errorf("encode object: %w", err)
	}
	return answer, nil
}

// changeable finds what an ID means. The error says that there is no such resource, or that the object stands in a manifest.
func (a *Agent) changeable(id server.ObjectID) (objects.ID, error) {
	kind, clusterWide := manifests.KindOf(id.Resource)
	switch {
	case kind == "":
		return objects.ID{}, server.As(server.ErrNoObject, id.Resource+": there is no such resource")
	case clusterWide != (id.Namespace == ""):
		return objects.ID{}, server.BadRequest(fmt.Sprintf("%s %q: namespace %q: %s are in a namespace unless they are the whole node's", id.Resource, id.Name, id.Namespace, id.Resource))
	}
	key := manifests.Key{Kind: kind, NamespacedName: types.NamespacedName{Namespace: id.Namespace, Name: id.Name}}
	if file, line := standsIn(a.sources.directory(), key); file != "" {
		return objects.ID{}, server.As(server.ErrForbidden, fmt.Sprintf("%s %q is forbidden: it comes from the manifest %s:%d on the node: edit that file instead",
			id.Resource, id.Name, filepath.Base(file), line))
	}
	return objects.ID{Resource: id.Resource, NamespacedName: key.NamespacedName}, nil
}

// standsIn is where an object stands in a Set, "" for nowhere.
func standsIn(set manifests.Set, key manifests.Key) (file string, line int) {
	for _, p := range set.Pods {
		if key.Kind == manifests.KindPod && p.Namespace == key.Namespace && p.Name == key.Name {
			return p.File, p.Line
		}
	}
	for _, o := range set.Objects {
		if o.Key() == key {
			return o.File, o.Line
		}
	}
	return "", 0
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
				a.offer(SourceAPI, a.objects.Set())
			}
		}
	}
}
