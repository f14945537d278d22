package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/podkeeper/podkeeper/server"
)

func anEvent(name, message string) []byte {
	return fmt.Appendf(nil, `{"apiVersion": "v1", "kind": "Event", "metadata": {"namespace": "shop", "name": %q}, "involvedObject": {"kind": "Pod", "namespace": "shop", "name": "web", "fieldPath": "spec.containers{app}"}, "reason": "Seen", "message": %q}`, name, message)
}

func TestEventsOfClients(t *testing.T) {
	t.Parallel()
	a := follows(t)
	put := func(name, message string, want server.Condition) (v1.Event, error) {
		var made v1.Event
		answer, err := a.PutObject(id("events", "shop", name), anEvent(name, message), want)
		if err == nil {
			err = json.Unmarshal(answer, &made)
		}
		return made, err
	}
	f := a.followed(t)
	f.expect("BOOKMARK")
	if _, err := put("web.1", "dry", server.Condition{New: true, DryRun: true}); err != nil || len(a.Events()) > 0 {
		t.Errorf("a dry run makes %v: %v", a.Events(), err)
	}
	made, err := put("web.1", "one", server.Condition{New: true})
	if err != nil || made.UID == "" || made.CreationTimestamp.IsZero() || made.InvolvedObject.FieldPath == "" {
		t.Fatalf("made %+v: %v", made, err)
	}
	f.expect("ADDED events/web.1")
	revision, err := strconv.ParseUint(made.ResourceVersion, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	edited, err := put("web.1", "two", server.Condition{Revision: revision})
	if err != nil || edited.UID != made.UID || edited.Message != "two" {
		t.Errorf("edited %+v: %v", edited, err)
	}
	f.expect("MODIFIED events/web.1")
	a.events.add(somePod("web"), "", v1.EventTypeNormal, "Own", "the agent's")
	f.expect("ADDED events/" + a.Events()[1].Name)
	own := a.Events()[1]
	if own.UID == "" || own.CreationTimestamp.IsZero() {
		t.Errorf("the agent's own is %+v", own)
	}
	remove := func(namespace, name string) error {
		_, _, err := a.DeleteObject(id("events", namespace, name), server.Condition{}, nil)
		return err
	}
	ownBody := []byte(strings.ReplaceAll(string(anEvent(own.Name, "x")), `"shop"`, `"default"`))
	for sentence, c := range map[string]struct {
		err, want error
	}{
		"made twice":           {func() error { _, err := put("web.1", "x", server.Condition{New: true}); return err }(), server.ErrConflict},
		"edited after an edit": {func() error { _, err := put("web.1", "x", server.Condition{Revision: revision}); return err }(), server.ErrChanged},
		"edited and not there": {func() error { _, err := put("web.2", "x", server.Condition{Revision: revision}); return err }(), server.ErrNoObject},
		"of another name": {func() error {
			_, err := a.PutObject(id("events", "shop", "web.3"), anEvent("web.1", "x"), server.Condition{})
			return err
		}(), server.ErrInvalid},
		"of another namespace": {func() error {
			_, err := a.PutObject(id("events", "shop", "x"), []byte(strings.Replace(string(anEvent("x", "")), `"shop", "name": "web"`, `"y", "name": "web"`, 1)), server.Condition{})
			return err
		}(), server.ErrInvalid},
		"the agent's own": {func() error {
			_, err := a.PutObject(id("events", "default", own.Name), ownBody, server.Condition{})
			return err
		}(), server.ErrForbidden},
		"removed and not there": {remove("shop", "web.2"), server.ErrNoObject},
	} {
		if !errors.Is(c.err, c.want) {
			t.Errorf("%s: %v, want %v", sentence, c.err, c.want)
		}
	}
	if err := errors.Join(remove("shop", "web.1"), remove("default", own.Name)); err != nil || len(a.Events()) > 0 {
		t.Errorf("left are %v: %v", a.Events(), err)
	}
}

func TestEventsOfClientsAreForgotten(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e := newEvents("node")
		revision := uint64(0)
		next := func() uint64 { revision++; return revision }
		for i := range maxClientEvents + 1 {
			name := fmt.Sprintf("web.%d", i)
			if _, err := e.Put(types.NamespacedName{Namespace: "shop", Name: name}, anEvent(name, ""), server.Condition{}, next); err != nil {
				t.Fatal(err)
			}
		}
		if all := e.List(); len(all) != maxClientEvents || all[0].Name == "web.0" {
			t.Errorf("kept are %d, from %s", len(all), all[0].Name)
		}
		time.Sleep(eventTTL + time.Second)
		if all := e.List(); len(all) > 0 {
			t.Errorf("an hour later there are %d", len(all))
		}
	})
}
