package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"github.com/podkeeper/podkeeper/agent/inputs"
	"github.com/podkeeper/podkeeper/agent/node"
	"github.com/podkeeper/podkeeper/manifests"
)

// referring is a Pod with a volume of the ConfigMap "needed" and one of "spare", which need not be there.
func (a *agency) referring() *v1.Pod {
	p := a.pod("app")
	for _, name := range []string{"needed", "spare"} {
		p.Spec.Volumes = append(p.Spec.Volumes, v1.Volume{Name: name, VolumeSource: v1.VolumeSource{ConfigMap: &v1.ConfigMapVolumeSource{
			LocalObjectReference: v1.LocalObjectReference{Name: name}, Optional: ptr.To(name == "spare"),
		}}})
	}
	return p
}

// said are ConfigMaps that have a value under the key a: names and values in turn.
func said(namesAndValues ...string) inputs.Objects {
	objects := inputs.Objects{}
	for pair := range slices.Chunk(namesAndValues, 2) {
		o := configMap(pair[0], pair[1])
		objects[o.Key()] = o
	}
	return objects
}

func configMap(name, value string) manifests.Object {
	return manifests.Object{Kind: manifests.KindConfigMap, Revision: value, Object: &v1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}, Data: map[string]string{"a": value},
	}}
}

// offer has a Pod be wanted with these objects.
func (a *agency) offer(p *v1.Pod, objects inputs.Objects) {
	wish := wishFor(p, "1")
	wish.Objects = objects
	a.w.want(wish)
}

func (a *agency) given(want string) {
	a.Helper()
	if got := held(a.host, &a.host.given); got != want {
		a.Errorf("objects say %q, want %q", got, want)
	}
}

func TestFilesFollowObjects(t *testing.T) {
	inBubble(t, func(a *agency) {
		p := a.referring()
		a.offer(p, said("needed", "1"))
		a.pass(5)
		a.expect("refresh") // they are made with the sandbox
		a.given("needed=1")
		a.offer(p, said("needed", "1"))
		a.pass(10)
		a.expect("refresh")
		a.offer(p, said("needed", "2", "spare", "1"))
		a.pass(15)
		a.expect("refresh", "10 refresh ")
		a.given("needed=2 spare=1")
		a.expect("term")
	})
}

func TestWhatIsNeededAndGoneStaysAsItWas(t *testing.T) {
	inBubble(t, func(a *agency) {
		p := a.referring()
		a.offer(p, said("needed", "1", "spare", "1"))
		a.pass(5)
		a.offer(p, said())
		a.pass(10)
		a.given("needed=1")
		if events := a.reasons("ObjectNotFound"); !slices.Equal(events, []string{"ConfigMap default/needed is gone: the Pod goes on with what it said last"}) {
			t.Errorf("events %q", events)
		}
		a.host.exit("app", 1)
		a.pass(30)
		a.expect("start", "0 start app 0", "10 start app 1")
		a.given("needed=1")
		a.offer(p, said("needed", "2"))
		a.pass(40)
		a.given("needed=2")

		edited := wishFor(p, "2")
		edited.Pod.Spec.Hostname, edited.Objects = "edited", said()
		a.w.want(edited)
		a.pass(60) // the next instance has nothing of that
		a.given("")
	})
}

func TestNothingStartsBeforeTheObjectsAreKnown(t *testing.T) {
	inBubble(t, func(a *agency) {
		p := a.referring()
		a.offer(p, said("needed", "1"))
		a.pass(5)
		a.succeed() // the sources have not spoken yet
		a.host.exit("app", 1)
		a.pass(30)
		a.expect("start", "0 start app 0")
		a.expect("refresh")
		a.offer(p, said("needed", "2"))
		a.pass(31)
		a.expect("start", "0 start app 0", "30 start app 1")
		a.given("needed=2")
	})
}

func TestAnObjectThatAppearsEndsTheWait(t *testing.T) {
	inBubble(t, func(a *agency) {
		a.host.prepare = func(_ context.Context, t node.Target) error {
			if len(t.Objects) == 0 {
				return &node.Fault{Reason: node.ErrImagePull, Err: errors.New("unauthorized")}
			}
			return nil
		}
		p := a.pod("app")
		p.Spec.ImagePullSecrets = []v1.LocalObjectReference{{Name: "registry"}}
		a.offer(p, said())
		a.pass(3)
		a.expect("prepare", "0 prepare app 0")
		o := configMap("registry", "1")
		a.offer(p, inputs.Objects{{Kind: manifests.KindSecret, NamespacedName: types.NamespacedName{Namespace: "default", Name: "registry"}}: o})
		a.pass(4)
		a.expect("prepare", "0 prepare app 0", "3 prepare app 0")
		a.expect("start", "3 start app 0")
	})
}

func TestAPodMayBeRecreatedWithItsObjects(t *testing.T) {
	inBubble(t, func(a *agency) {
		p := a.referring()
		p.Annotations = map[string]string{manifests.RecreateOnChange: "true", "dir": a.dir}
		a.offer(p, said("needed", "1"))
		a.pass(5)
		a.offer(p, said("needed", "2"))
		a.pass(10)
		a.expect("start", "0 start app 0", "5 start app 0")
		a.given("needed=2")
		a.offer(p, said()) // is no reason to end it
		a.pass(15)
		a.succeed()
		a.offer(p, said())
		a.pass(20)
		a.expect("tear down", "5 tear down")
		a.offer(p, said("needed", "3")) // what happened while no agent ran counts, too
		a.pass(25)
		a.expect("tear down", "5 tear down", "20 tear down")
		a.given("needed=3")
	})
}

func TestObjectsWakeWhoeverRefersToThem(t *testing.T) {
	t.Parallel()
	s := newSources("directory", "api")
	pod := func(name, refersTo string) manifests.Pod {
		p := &v1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}}
		p.Spec.Containers = []v1.Container{{Name: "app", EnvFrom: []v1.EnvFromSource{{ConfigMapRef: &v1.ConfigMapEnvSource{
			LocalObjectReference: v1.LocalObjectReference{Name: refersTo},
		}}}}}
		return manifests.Pod{Pod: p, Revision: "1", File: name}
	}
	workers := map[string]*worker{}
	for _, name := range []string{"x", "y"} {
		workers[name] = &worker{key: types.NamespacedName{Namespace: "default", Name: name}, wake: make(chan struct{}, 1)}
	}
	woken := func(directory, api manifests.Set) (names string) {
		s.tell("directory", directory)
		s.tell("api", api)
		for key, wish := range s.wishes() {
			workers[key.Name].want(wish)
		}
		for _, name := range []string{"x", "y"} {
			select {
			case <-workers[name].wake:
				names += fmt.Sprintf("%s:%d ", name, len(workers[name].wanted.Objects))
			default:
			}
		}
		return names
	}
	pods := []manifests.Pod{pod("x", "mine"), pod("y", "other")}
	for _, step := range []struct {
		directory, api []manifests.Object
		want           string
	}{
		{nil, nil, "x:0 y:0 "},
		{nil, nil, ""},
		{[]manifests.Object{configMap("mine", "1")}, nil, "x:1 "},
		{[]manifests.Object{configMap("mine", "1"), configMap("nobodys", "1")}, nil, ""},
		{[]manifests.Object{configMap("mine", "1")}, []manifests.Object{configMap("mine", "2"), configMap("other", "1")}, "y:1 "},
		{nil, []manifests.Object{configMap("mine", "2"), configMap("other", "1")}, "x:1 "},
		{nil, []manifests.Object{configMap("mine", "2")}, "y:0 "},
	} {
		got := woken(manifests.Set{Pods: pods, Objects: step.directory}, manifests.Set{Objects: step.api})
		if got != step.want {
			t.Errorf("woken %q, want %q", got, step.want)
		}
	}
	if objects := newSources("a", "b").objects(); objects != nil {
		t.Errorf("before all have spoken there is %v", objects)
	}
}
