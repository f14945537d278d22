package agent

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	"github.com/podkeeper/podkeeper/agent/objects"
	"github.com/podkeeper/podkeeper/manifests"
	"github.com/podkeeper/podkeeper/server"
)

func id(resource, namespace, name string) server.ObjectID {
	return server.ObjectID{Resource: resource, Namespace: namespace, Name: name}
}

// aPod is a Pod in JSON, with more of its metadata and spec.
func aPod(name, metadata, spec string) []byte {
	return []byte(`{"apiVersion": "v1", "kind": "Pod", "metadata": {"namespace": "shop", "name": "` + name + `"` + metadata + `}, "spec": {"containers": [{"name": "app", "image": "demo:1"}]` + spec + `}}`)
}

func TestWhatWasReadMayBeWrittenBack(t *testing.T) {
	t.Parallel()
	a := follows(t)
	web := objects.IDOf(manifests.PodKey(types.NamespacedName{Namespace: "shop", Name: "web"}))
	put := func(body []byte) v1.Pod {
		t.Helper()
		o, err := a.objects.Put(web, body, objects.Condition{})
		if err != nil {
			t.Fatal(err)
		}
		var pod v1.Pod
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(o.Content, &pod); err != nil {
			t.Fatal(err)
		}
		return pod
	}
	made := put(aPod("web", "", ""))
	told := made.DeepCopy()
	told.Spec.NodeName, told.Status.Phase = "here", v1.PodRunning
	told.Annotations = map[string]string{"podkeeper/manifest": "/etc/m/web.yaml:3", "mine": "1"}
	told.Spec.EphemeralContainers = []v1.EphemeralContainer{{EphemeralContainerCommon: v1.EphemeralContainerCommon{Name: "look", Image: "busybox:1"}}}
	body, err := json.Marshal(told)
	if err != nil {
		t.Fatal(err)
	}
	kept := put(body)
	if kept.Status.Phase != "" || kept.Spec.NodeName != "" || len(kept.Spec.EphemeralContainers) > 0 || len(kept.Annotations) != 1 || kept.UID != made.UID {
		t.Errorf("kept is %+v", kept)
	}
	if there := a.objects.Set(); len(there.Pods) != 1 || len(there.Refused) > 0 {
		t.Errorf("wanted are %v, refused %v", there.Pods, there.Refused)
	}
	if _, err := a.objects.Put(web, aPod("web", "", `, "nodeName": "there"`), objects.Condition{}); !errors.Is(err, objects.ErrInvalid) {
		t.Errorf("it goes to another node: %v", err)
	}
	claim := []byte(`{"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"namespace": "shop", "name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1"}}}, "status": {"phase": "Bound"}}`)
	data := objects.ID{Resource: "persistentvolumeclaims", NamespacedName: types.NamespacedName{Namespace: "shop", Name: "data"}}
	if kept, err := a.objects.Put(data, claim, objects.Condition{}); err != nil || kept.Content["status"] != nil {
		t.Errorf("a claim is kept as %v: %v", kept.Content, err)
	}
}

func TestADryRunIsNotWanted(t *testing.T) {
	t.Parallel()
	a := follows(t)
	web := id("pods", "shop", "web")
	answer, err := a.PutObject(web, aPod("web", "", ""), server.Condition{New: true, DryRun: true})
	if err != nil || !strings.Contains(string(answer), `"uid"`) {
		t.Errorf("it would be %s: %v", answer, err)
	}
	if _, err := a.PutObject(web, aPod("web", `, "finalizers": ["a b"]`, ""), server.Condition{DryRun: true}); !errors.Is(err, server.ErrInvalid) || !strings.Contains(err.Error(), "metadata.finalizers") {
		t.Errorf("it is not checked: %v", err)
	}
	if len(a.objects.List()) > 0 || len(a.sources.sets[SourceAPI].Pods) > 0 {
		t.Errorf("there is %v", a.objects.List())
	}
}

func TestThePodOfANameThatEnds(t *testing.T) {
	t.Parallel()
	a := follows(t)
	w := newWorker(types.NamespacedName{Namespace: "shop", Name: "web"}, a.surroundings)
	a.enlist(w)
	w.show(&v1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web", DeletionTimestamp: &metav1.Time{Time: time.Now()}}})
	_, err := a.PutObject(id("pods", "shop", "web"), aPod("web", "", ""), server.Condition{New: true})
	if !errors.Is(err, server.ErrConflict) || err.Error() != `object is being deleted: pods "web" already exists` {
		t.Errorf("it is made: %v", err)
	}
	go func() { // the worker answers no more than this
		r := <-w.requests
		r.answer <- r.do()
	}()
	answer, _, err := a.DeleteObject(id("pods", "shop", "web"), server.Condition{}, nil)
	if err != nil || !strings.Contains(string(answer), `"deletionTimestamp"`) {
		t.Errorf("deleted once more it is %s: %v", answer, err)
	}
}

func TestAPodThatIsHeldIsToldOfToTheEnd(t *testing.T) {
	t.Parallel()
	a := follows(t)
	web := objects.IDOf(manifests.PodKey(types.NamespacedName{Namespace: "shop", Name: "web"}))
	held := aPod("web", `, "finalizers": ["a/b"]`, "")
	if _, err := a.objects.Put(web, held, objects.Condition{}); err != nil {
		t.Fatal(err)
	}
	last := &v1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web"}, Spec: v1.PodSpec{Containers: []v1.Container{{Name: "app"}}}, Status: v1.PodStatus{Phase: v1.PodRunning}}
	a.noteEnd(last)
	if o, err := a.objects.Get(web); err != nil || o.Content["status"] != nil {
		t.Errorf("while it is wanted its end is kept: %v: %v", o.Content, err)
	}
	if _, _, err := a.DeleteObject(id("pods", "shop", "web"), server.Condition{}, nil); err != nil {
		t.Fatal(err)
	}
	if wanted := a.objects.Set(); len(wanted.Pods) > 0 || len(wanted.Refused) > 0 {
		t.Errorf("wanted is %v", wanted)
	}
	a.noteEnd(last)
	if _, err := a.PutObject(id("pods", "shop", "web"), held, server.Condition{}); err != nil {
		t.Error(err)
	}
	f := a.followed(t)
	defer func() { _ = f.end() }()
	var pod v1.Pod
	if err := json.Unmarshal((<-f.changes).Object, &pod); err != nil || pod.Status.Phase != v1.PodFailed || pod.DeletionTimestamp == nil || pod.Spec.NodeName != "here" {
		t.Errorf("told of %+v: %v", pod, err)
	}
	f.expect("BOOKMARK")
	if _, err := a.PutObject(id("pods", "shop", "web"), aPod("web", "", ""), server.Condition{}); err != nil {
		t.Error(err)
	}
	f.expect("DELETED pods/web")
}
