package agent

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func somePod(name string) *v1.Pod {
	p := &v1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, UID: "u"}}
	p.Spec.InitContainers, p.Spec.Containers = []v1.Container{{Name: "init"}}, []v1.Container{{Name: "app"}}
	return p
}

func TestEventThatRepeatsIsCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEvents("node")
		begin := time.Now()
		for range 3 {
			e.add(somePod("web"), "app", v1.EventTypeWarning, "BackOff", "again")
			e.add(somePod("web"), "", v1.EventTypeNormal, "Other", "other")
			time.Sleep(time.Minute)
		}
		e.add(somePod("web"), "app", v1.EventTypeWarning, "BackOff", "again")
		list := e.List()
		if len(list) != 2 || list[0].Reason != "Other" {
			t.Fatalf("%+v", list)
		}
		got := list[1]
		if got.Count != 4 || !got.FirstTimestamp.Time.Equal(begin) || got.LastTimestamp.Sub(begin) != 3*time.Minute {
			t.Errorf("counted %d from %v to %v", got.Count, got.FirstTimestamp, got.LastTimestamp)
		}
		if got.InvolvedObject.FieldPath != "spec.containers{app}" || got.InvolvedObject.UID != "u" || got.Source.Host != "node" || got.Type != v1.EventTypeWarning {
			t.Errorf("%+v", got)
		}
	})
}

func TestEventsThatDiffer(t *testing.T) {
	t.Parallel()
	e := newEvents("node")
	e.add(somePod("web"), "app", v1.EventTypeNormal, "Reason", "message")
	e.add(somePod("web"), "init", v1.EventTypeNormal, "Reason", "message")
	e.add(somePod("web"), "", v1.EventTypeNormal, "Reason", "message")
	e.add(somePod("db"), "app", v1.EventTypeNormal, "Reason", "message")
	e.add(somePod("web"), "app", v1.EventTypeWarning, "Reason", "message")
	e.add(somePod("web"), "app", v1.EventTypeNormal, "Another", "message")
	e.add(somePod("web"), "app", v1.EventTypeNormal, "Reason", "another")
	names := map[string]bool{}
	for _, event := range e.List() {
		names[event.Name] = true
	}
	if len(names) != 7 {
		t.Errorf("%d events of different names, want 7", len(names))
	}
	if got := e.List()[1].InvolvedObject.FieldPath; got != "spec.initContainers{init}" {
		t.Errorf("field path %q", got)
	}
}

func TestOldestEventsAreForgotten(t *testing.T) {
	t.Parallel()
	e := newEvents("node")
	pod := somePod("web")
	for i := range maxPodEvents + 10 {
		if i == 25 {
			e.add(pod, "", v1.EventTypeNormal, "Reason", "0") // now among the latest
		}
		e.add(pod, "", v1.EventTypeNormal, "Reason", fmt.Sprint(i))
	}
	list := e.List()
	if len(list) != maxPodEvents || len(e.of(involved(pod)).byKey) != maxPodEvents {
		t.Fatalf("%d events, %d keys", len(list), len(e.of(involved(pod)).byKey))
	}
	if list[0].Message != "11" || list[len(list)-1].Message != fmt.Sprint(maxPodEvents+9) {
		t.Errorf("from %s to %s", list[0].Message, list[len(list)-1].Message)
	}
	e.add(pod, "", v1.EventTypeNormal, "Reason", "1")
	if got := e.List()[maxPodEvents-1]; got.Message != "1" || got.Count != 1 {
		t.Errorf("one that was forgotten is new again: %s counted %d", got.Message, got.Count)
	}
}

func TestListedEventsAreCopies(t *testing.T) {
	t.Parallel()
	e := newEvents("node")
	e.add(somePod("web"), "", v1.EventTypeNormal, "Reason", "message")
	list := e.List()
	e.add(somePod("web"), "", v1.EventTypeNormal, "Reason", "message")
	if list[0].Count != 1 {
		t.Error("a list changed after it was handed out")
	}
}

func involved(pod *v1.Pod) v1.ObjectReference {
	return v1.ObjectReference{Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID}
}

func TestEventOfTheNode(t *testing.T) {
	t.Parallel()
	e := newEvents("here")
	e.addNode(v1.EventTypeWarning, "FreeDiskSpaceFailed", "no room")
	e.addNode(v1.EventTypeWarning, "FreeDiskSpaceFailed", "no room")
	list := e.List()
	if len(list) != 1 || list[0].Count != 2 || list[0].Namespace != "default" {
		t.Fatalf("%+v", list)
	}
	if got, want := list[0].InvolvedObject, (v1.ObjectReference{APIVersion: "v1", Kind: "Node", Name: "here", UID: "here"}); got != want {
		t.Errorf("it is about %+v", got)
	}
}
