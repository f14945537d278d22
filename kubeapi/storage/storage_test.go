package storage

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	v1 "k8s.io/api/core/v1"
	policy "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/apis/meta/internalversion"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/registry/rest"
	"k8s.io/utils/ptr"

	"github.com/podkeeper/podkeeper/kubeapi/mirror"
	"github.com/podkeeper/podkeeper/server"
)

// agent is one that has a Mirror follow it at once. Its objects are those of the mirror.
type agent struct {
	*testing.T
	mirror   *mirror.Mirror
	revision uint64
	refuse   error  // what it says to the next write
	meddle   func() // what happens before the next write, once
	asked    []string
}

func begin(t *testing.T) (*agent, *Changeable, *Changeable) {
	t.Helper()
	a := &agent{T: t, mirror: mirror.New(Decode), revision: 100}
	all := Storages(a.mirror, a, func(r *Resource) rest.TableConvertor { return rest.NewDefaultTableConvertor(r.GroupResource()) })[v1.SchemeGroupVersion]
	a.tell(server.Bookmark, "", nil)
	return a, all["pods"].(*Changeable), all["configmaps"].(*Changeable)
}

func (a *agent) tell(kind server.ChangeType, resource string, object map[string]any) []byte {
	a.Helper()
	a.revision++
	c := server.Change{Type: kind, Resource: resource, Revision: a.revision}
	if object != nil {
		metadata := object["metadata"].(map[string]any)
		metadata["resourceVersion"] = strconv.FormatUint(a.revision, 10)
		var err error
		if c.Object, err = json.Marshal(object); err != nil {
			a.Fatal(err)
		}
	}
	if err := a.mirror.Take(c); err != nil {
		a.Fatal(err)
	}
	return c.Object
}

func (a *agent) note(verb string, id server.ObjectID, want server.Condition) error {
	if a.meddle != nil {
		meddle := a.meddle
		a.meddle = nil
		meddle()
	}
	said := fmt.Sprintf("%s %s/%s", verb, id.Resource, id.Name)
	if want.New {
		said += " new"
	}
	if want.DryRun {
		said += " dry"
	}
	a.asked = append(a.asked, said)
	err := a.refuse
	a.refuse = nil
	return err
}

func (a *agent) PutObject(_ context.Context, id server.ObjectID, body []byte, want server.Condition) ([]byte, error) {
	if err := a.note("put", id, want); err != nil {
		return nil, err
	}
	var object map[string]any
	if err := json.Unmarshal(body, &object); err != nil {
		a.Fatal(err)
	}
	if want.DryRun {
		return body, nil
	}
	if want.New {
		return a.tell(server.Added, id.Resource, object), nil
	}
	return a.tell(server.Modified, id.Resource, object), nil
}

func (a *agent) DeleteObject(_ context.Context, id server.ObjectID, want server.Condition, grace *time.Duration) ([]byte, string, error) {
	verb := "delete"
	if grace != nil {
		verb += " in " + grace.String()
	}
	if err := a.note(verb, id, want); err != nil {
		return nil, "", err
	}
	was, err := a.mirror.Table(core(id.Resource).GroupResource()).Get(types.NamespacedName{Namespace: id.Namespace, Name: id.Name})
	if err != nil {
		return nil, "", server.ErrNoObject
	}
	kind := map[string]string{"pods": "Pod", "configmaps": "ConfigMap"}[id.Resource]
	object, err := runtime.DefaultUnstructuredConverter.ToUnstructured(was)
	if err != nil {
		a.Fatal(err)
	}
	object["apiVersion"], object["kind"] = "v1", kind
	answer, err := json.Marshal(object)
	if err != nil {
		a.Fatal(err)
	}
	if want.DryRun {
		return answer, "", nil
	}
	if id.Resource == "pods" && *grace > 0 {
		object["metadata"].(map[string]any)["deletionTimestamp"] = "2026-01-01T00:00:00Z"
		object["metadata"].(map[string]any)["deletionGracePeriodSeconds"] = *grace / time.Second
		a.tell(server.Modified, id.Resource, object)
		return answer, "", nil
	}
	a.tell(server.Deleted, id.Resource, object)
	return answer, "", nil
}

func (a *agent) PutStatus(_ context.Context, id server.ObjectID, body []byte, want server.Condition) ([]byte, error) {
	if err := a.note("status of", id, want); err != nil {
		return nil, err
	}
	var object map[string]any
	if err := json.Unmarshal(body, &object); err != nil {
		a.Fatal(err)
	}
	a.tell(server.Modified, id.Resource, object)
	return body, nil
}

func (a *agent) AddEphemeral(_ context.Context, pod types.NamespacedName, container *v1.EphemeralContainer) (*v1.Pod, error) {
	return nil, a.note("add "+container.Name+" to", server.ObjectID{Resource: "pods", Name: pod.Name}, server.Condition{})
}

// did checks what the agent was asked since.
func (a *agent) did(want ...string) {
	a.Helper()
	if got := strings.Join(a.asked, ", "); got != strings.Join(want, ", ") {
		a.Errorf("the agent was asked %q, want %q", got, want)
	}
	a.asked = nil
}

// asked is the context of a request by somebody about the namespace shop.
func asked() context.Context {
	return request.WithNamespace(context.Background(), "shop")
}

func settings(value string) *v1.ConfigMap {
	return &v1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "settings"}, Data: map[string]string{"a": value}}
}

func web() *v1.Pod {
	return &v1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web"}, Spec: v1.PodSpec{Containers: []v1.Container{{Name: "app", Image: "demo"}}}}
}

func (a *agent) make(in *Changeable, o runtime.Object) runtime.Object {
	a.Helper()
	Scheme.Default(o)
	made, err := in.Create(asked(), o, nil, &metav1.CreateOptions{})
	if err != nil {
		a.Fatal(err)
	}
	a.asked = nil
	return made
}

// edited is an update by a function.
func edited(change func(runtime.Object)) rest.UpdatedObjectInfo {
	return rest.DefaultUpdatedObjectInfo(nil, func(_ context.Context, _, old runtime.Object) (runtime.Object, error) {
		o := old.DeepCopyObject()
		change(o)
		return o, nil
	})
}

func update(in *Changeable, name string, change func(runtime.Object), dryRun ...string) (runtime.Object, error) {
	o, _, err := in.Update(asked(), name, edited(change), nil, nil, false, &metav1.UpdateOptions{DryRun: dryRun})
	return o, err
}

func TestCreate(t *testing.T) {
	a, pods, configMaps := begin(t)
	made := a.make(configMaps, settings("1")).(*v1.ConfigMap)
	if made.UID == "" || made.CreationTimestamp.IsZero() || made.ResourceVersion != "102" {
		t.Errorf("made was %+v", made.ObjectMeta)
	}
	pod := a.make(pods, web()).(*v1.Pod)
	if pod.Generation != 1 || pod.Status.Phase != v1.PodPending || pod.Spec.ServiceAccountName != "default" || pod.Spec.RestartPolicy != v1.RestartPolicyAlways {
		t.Errorf("made was %+v", pod)
	}
	_, err := configMaps.Create(asked(), settings("2"), nil, &metav1.CreateOptions{})
	if !errors.IsAlreadyExists(err) {
		t.Errorf("a second one: %v", err)
	}
	a.did()
	another := settings("2")
	another.Name, another.GenerateName = "", "other-"
	o, err := configMaps.Create(asked(), another, nil, &metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
	if err != nil {
		t.Fatalf("with a name to be made up: %v", err)
	}
	if name := o.(*v1.ConfigMap).Name; !strings.HasPrefix(name, "other-") || name == "other-" {
		t.Errorf("a name that was made up: %s", name)
	}
	if list, _ := configMaps.List(asked(), nil); len(list.(*v1.ConfigMapList).Items) != 1 {
		t.Errorf("a dry run made one: %v", list)
	}
	of := web()
	of.Name, of.Spec.ServiceAccountName = "of", "bot"
	Scheme.Default(of)
	_, err = pods.Create(asked(), of, nil, &metav1.CreateOptions{})
	if want := `pods "of" is forbidden: error looking up service account shop/bot: serviceaccount "bot" not found`; !errors.IsForbidden(err) || err.Error() != want {
		t.Errorf("one of an account that is not there: %v, want %s", err, want)
	}
	of = web()
	of.Name, of.Spec.PriorityClassName = "of", "high"
	Scheme.Default(of)
	_, err = pods.Create(asked(), of, nil, &metav1.CreateOptions{})
	if want := `pods "of" is forbidden: no PriorityClass with name high was found`; !errors.IsForbidden(err) || err.Error() != want {
		t.Errorf("one of a class that is not there: %v, want %s", err, want)
	}
	of = web()
	of.Name, of.Spec.RuntimeClassName = "of", ptr.To("heavy")
	Scheme.Default(of)
	_, err = pods.Create(asked(), of, nil, &metav1.CreateOptions{})
	if want := `pods "of" is forbidden: pod rejected: RuntimeClass "heavy" not found`; !errors.IsForbidden(err) || err.Error() != want {
		t.Errorf("one of a runtime class that is not there: %v, want %s", err, want)
	}
	a.tell(server.Added, "runtimeclasses.node.k8s.io", map[string]any{
		"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": map[string]any{"name": "heavy"}, "handler": "kata", "overhead": map[string]any{"podFixed": map[string]any{"cpu": "10m"}},
	})
	classed, err := pods.Create(asked(), of, nil, &metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
	if err != nil || classed.(*v1.Pod).Spec.Overhead.Cpu().String() != "10m" {
		t.Errorf("one of a class with an overhead: %v, %+v", err, classed)
	}
	if pod.Spec.Priority == nil || *pod.Spec.Priority != 0 {
		t.Errorf("the priority of one without a class is %v", pod.Spec.Priority)
	}
	bad := web()
	bad.Name, bad.Spec.Containers[0].Image = "bad", ""
	Scheme.Default(bad)
	_, err = pods.Create(asked(), bad, nil, &metav1.CreateOptions{})
	if want := `Pod "bad" is invalid: spec.containers[0].image: Required value`; !errors.IsInvalid(err) || err.Error() != want {
		t.Errorf("a wrong one: %v, want %s", err, want)
	}
}

func TestUpdate(t *testing.T) {
	a, pods, configMaps := begin(t)
	a.make(configMaps, settings("1"))
	set := func(value string) func(runtime.Object) {
		return func(o runtime.Object) { o.(*v1.ConfigMap).Data["a"] = value }
	}
	o, err := update(configMaps, "settings", set("2"))
	if err != nil || o.(*v1.ConfigMap).Data["a"] != "2" {
		t.Errorf("an edit: %v, %v", o, err)
	}
	a.did("put configmaps/settings")
	if _, err := update(configMaps, "settings", set("2")); err != nil {
		t.Errorf("the same again: %v", err)
	}
	a.did()
	if o, err := update(configMaps, "settings", set("3"), metav1.DryRunAll); err != nil || o.(*v1.ConfigMap).Data["a"] != "3" {
		t.Errorf("a dry run: %v, %v", o, err)
	}
	a.did("put configmaps/settings dry")
	if _, err := update(configMaps, "none", set("3")); !errors.IsNotFound(err) {
		t.Errorf("what is not there: %v", err)
	}
	a.make(pods, web())
	_, err = update(pods, "web", func(o runtime.Object) { o.(*v1.Pod).Spec.Hostname = "x" })
	if !errors.IsInvalid(err) || !strings.Contains(err.Error(), "pod updates may not change fields other than") {
		t.Errorf("what may not be edited: %v", err)
	}
	o, err = update(pods, "web", func(o runtime.Object) {
		pod := o.(*v1.Pod)
		pod.Spec.Containers[0].Image, pod.Status.Phase = "demo:2", v1.PodFailed
	})
	if pod := o.(*v1.Pod); err != nil || pod.Generation != 2 || pod.Status.Phase != v1.PodPending {
		t.Errorf("an image: %v, %v", o, err)
	}
	o, err = update(pods, "web", func(o runtime.Object) { o.(*v1.Pod).Labels = map[string]string{"a": "b"} })
	if pod := o.(*v1.Pod); err != nil || pod.Generation != 2 {
		t.Errorf("a label: %v, %v", o, err)
	}
}

func TestUpdatesThatRace(t *testing.T) {
	a, _, configMaps := begin(t)
	a.make(configMaps, settings("1"))
	tries := 0
	bump := func(version string) func(runtime.Object) {
		return func(o runtime.Object) {
			tries++
			c := o.(*v1.ConfigMap)
			c.Data["b"], c.ResourceVersion = c.Data["a"], version
		}
	}
	a.meddle = func() { // another one is faster, and the agent says so
		other := settings("2")
		other.UID = "u"
		body, err := configMaps.encode(other)
		if err != nil {
			t.Fatal(err)
		}
		var object map[string]any
		if err := json.Unmarshal(body, &object); err != nil {
			t.Fatal(err)
		}
		a.tell(server.Modified, "configmaps", object)
		a.refuse = server.ErrChanged
	}
	if o, err := update(configMaps, "settings", bump("")); err != nil || tries != 2 || o.(*v1.ConfigMap).Data["b"] != "2" {
		t.Errorf("without a version it is tried anew: %v, %v after %d tries", o, err, tries)
	}
	a.refuse = server.ErrChanged
	_, err := update(configMaps, "settings", func(o runtime.Object) { o.(*v1.ConfigMap).Data["b"] = "4" })
	if !errors.IsConflict(err) || !strings.HasSuffix(err.Error(), "the object has been modified; please apply your changes to the latest version and try again") {
		t.Errorf("with one it is a conflict: %v", err)
	}
	if _, err := update(configMaps, "settings", bump("x")); !errors.IsBadRequest(err) {
		t.Errorf("with one that is none: %v", err)
	}
	wrong := func(o runtime.Object) { o.(*v1.ConfigMap).UID = "another" }
	if _, err := update(configMaps, "settings", wrong); !errors.IsConflict(err) {
		t.Errorf("of another one: %v", err)
	}
}

func TestDelete(t *testing.T) {
	a, pods, configMaps := begin(t)
	a.make(configMaps, settings("1"))
	pod := a.make(pods, web()).(*v1.Pod)
	del := func(in *Changeable, name string, options metav1.DeleteOptions) (runtime.Object, bool, error) {
		return in.Delete(asked(), name, nil, &options)
	}
	for what, p := range map[string]metav1.Preconditions{
		"another UID":     {UID: ptr.To(types.UID("other"))},
		"another version": {ResourceVersion: ptr.To("1")},
	} {
		if _, _, err := del(pods, "web", metav1.DeleteOptions{Preconditions: &p}); !errors.IsConflict(err) {
			t.Errorf("%s: %v", what, err)
		}
	}
	a.did()
	o, gone, err := del(pods, "web", metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &pod.UID}})
	if is := o.(*v1.Pod); err != nil || gone || is.DeletionTimestamp == nil || *is.DeletionGracePeriodSeconds != 30 {
		t.Errorf("a Pod ends in its own time: %v, %v, %v", o, gone, err)
	}
	a.did("delete in 30s pods/web")
	second := web()
	Scheme.Default(second)
	if _, err := pods.Create(asked(), second, nil, &metav1.CreateOptions{}); err == nil || err.Error() != `object is being deleted: pods "web" already exists` {
		t.Errorf("another one meanwhile: %v", err)
	}
	if _, gone, err := del(pods, "web", metav1.DeleteOptions{}); err != nil || gone {
		t.Errorf("again: %v, %v", gone, err)
	}
	a.did()
	if _, gone, err := del(pods, "web", metav1.DeleteOptions{GracePeriodSeconds: ptr.To(int64(0))}); err != nil || !gone {
		t.Errorf("at once: %v, %v", gone, err)
	}
	a.did("delete in 0s pods/web")
	if _, gone, err := del(configMaps, "settings", metav1.DeleteOptions{DryRun: []string{metav1.DryRunAll}}); err != nil || !gone {
		t.Errorf("a dry run: %v, %v", gone, err)
	}
	if list, err := configMaps.DeleteCollection(asked(), nil, &metav1.DeleteOptions{}, &internalversion.ListOptions{}); err != nil || len(list.(*v1.ConfigMapList).Items) != 1 {
		t.Errorf("all of them: %v, %v", list, err)
	}
	a.did("delete configmaps/settings dry", "delete configmaps/settings")
	if _, _, err := del(configMaps, "settings", metav1.DeleteOptions{}); !errors.IsNotFound(err) {
		t.Errorf("what is not there: %v", err)
	}
}

func TestPartsOfAPod(t *testing.T) {
	a, pods, _ := begin(t)
	pod := a.make(pods, web()).(*v1.Pod)
	debug := v1.EphemeralContainer{EphemeralContainerCommon: v1.EphemeralContainerCommon{Name: "debug", Image: "demo"}}
	_, _, err := pods.ephemeral().Update(asked(), "web", edited(func(o runtime.Object) {
		pod := o.(*v1.Pod)
		pod.Spec.EphemeralContainers, pod.Labels = []v1.EphemeralContainer{debug}, map[string]string{"not": "changed"}
		Scheme.Default(pod)
	}), nil, nil, true, &metav1.UpdateOptions{})
	if err != nil {
		t.Error(err)
	}
	a.did("add debug to pods/web")
	o, _, err := pods.status().Update(asked(), "web", edited(func(o runtime.Object) {
		pod := o.(*v1.Pod)
		pod.Spec.Hostname = "not-changed"
		pod.Status.Conditions = append(pod.Status.Conditions, v1.PodCondition{Type: "example.com/open", Status: v1.ConditionTrue})
	}), nil, nil, true, &metav1.UpdateOptions{})
	if is := o.(*v1.Pod); err != nil || len(is.Status.Conditions) != 1 || is.Spec.Hostname != "" {
		t.Errorf("a condition: %v, %v", o, err)
	}
	a.did("status of pods/web")
	eviction := &Eviction{pods}
	if _, err := eviction.Create(asked(), "web", &policy.Eviction{ObjectMeta: metav1.ObjectMeta{Name: "other"}}, nil, &metav1.CreateOptions{}); !errors.IsBadRequest(err) {
		t.Errorf("an eviction of another one: %v", err)
	}
	if _, err := eviction.Create(asked(), "web", &policy.Eviction{DeleteOptions: &metav1.DeleteOptions{GracePeriodSeconds: ptr.To(int64(2))}}, nil, &metav1.CreateOptions{}); err != nil {
		t.Errorf("an eviction: %v", err)
	}
	a.did("delete in 2s pods/web")
	if _, err := (&Binding{pods}).Create(asked(), "web", &v1.Binding{}, nil, nil); !errors.IsConflict(err) || !strings.Contains(err.Error(), "pod web is already assigned to node") {
		t.Errorf("a binding of %v: %v", pod.Name, err)
	}
}

func TestResourcesOfAPod(t *testing.T) {
	a, pods, _ := begin(t)
	sized := web()
	limits := func(cpu string) v1.ResourceRequirements {
		return v1.ResourceRequirements{Limits: v1.ResourceList{v1.ResourceCPU: resource.MustParse(cpu)}}
	}
	sized.Spec.Containers[0].Resources = limits("1")
	a.make(pods, sized)
	resized := func(change func(*v1.Pod)) (*v1.Pod, error) {
		o, _, err := pods.resize().Update(asked(), "web", edited(func(o runtime.Object) {
			change(o.(*v1.Pod))
			Scheme.Default(o)
		}), nil, nil, true, &metav1.UpdateOptions{})
		if err != nil {
			return nil, err
		}
		return o.(*v1.Pod), nil
	}
	pod, err := resized(func(pod *v1.Pod) {
		pod.Spec.Containers[0].Resources = limits("2")
		pod.Spec.Containers[0].Resources.Requests = v1.ResourceList{v1.ResourceCPU: resource.MustParse("1")}
		pod.Spec.Containers[0].Image, pod.Labels = "another", map[string]string{"not": "changed"}
	})
	if err != nil || pod.Spec.Containers[0].Resources.Limits.Cpu().String() != "2" || pod.Spec.Containers[0].Image != "demo" || len(pod.Labels) > 0 || pod.Generation != 2 {
		t.Errorf("%+v, %v", pod, err)
	}
	a.did("put pods/web")
	for what, change := range map[string]func(*v1.Pod){
		"resource limits cannot be removed": func(pod *v1.Pod) { pod.Spec.Containers[0].Resources.Limits = nil },
		"only cpu and memory resources are muta": func(pod *v1.Pod) {
			pod.Spec.Containers[0].ResizePolicy = []v1.ContainerResizePolicy{{ResourceName: v1.ResourceCPU, RestartPolicy: v1.RestartContainer}}
		},
		"containers may not be renamed": func(pod *v1.Pod) { pod.Spec.Containers[0].Name = "b" },
	} {
		if _, err := resized(change); !errors.IsInvalid(err) || !strings.Contains(err.Error(), what) {
			t.Errorf("%s: %v", what, err)
		}
	}
	a.did()
}

func TestLists(t *testing.T) {
	a, pods, _ := begin(t)
	for i := range 3 {
		pod := web()
		pod.Name, pod.Labels = fmt.Sprintf("web-%d", i), map[string]string{"odd": fmt.Sprint(i % 2)}
		pod.Spec.HostNetwork = i == 2
		a.make(pods, pod)
	}
	names := func(o runtime.Object) string {
		var all []string
		for _, pod := range o.(*v1.PodList).Items {
			all = append(all, pod.Name)
		}
		return strings.Join(all, " ")
	}
	for what, of := range map[string]struct {
		options internalversion.ListOptions
		want    string
		err     func(error) bool
	}{
		"all":                    {internalversion.ListOptions{Limit: 1}, "web-0 web-1 web-2", nil},
		"by a field":             {internalversion.ListOptions{FieldSelector: fields.OneTermEqualSelector("spec.hostNetwork", "true")}, "web-2", nil},
		"by name":                {internalversion.ListOptions{FieldSelector: fields.OneTermEqualSelector("metadata.name", "web-1")}, "web-1", nil},
		"at the present version": {internalversion.ListOptions{ResourceVersion: "104", ResourceVersionMatch: metav1.ResourceVersionMatchExact}, "web-0 web-1 web-2", nil},
		"at an old version":      {internalversion.ListOptions{ResourceVersion: "102", ResourceVersionMatch: metav1.ResourceVersionMatchExact}, "", errors.IsResourceExpired},
		"not older than one":     {internalversion.ListOptions{ResourceVersion: "102", ResourceVersionMatch: metav1.ResourceVersionMatchNotOlderThan}, "web-0 web-1 web-2", nil},
		"going on":               {internalversion.ListOptions{Continue: "x"}, "", errors.IsResourceExpired},
		"at no version":          {internalversion.ListOptions{ResourceVersion: "x"}, "", errors.IsBadRequest},
	} {
		list, err := pods.List(asked(), &of.options)
		if of.err != nil {
			if !of.err(err) {
				t.Errorf("%s: %v", what, err)
			}
			continue
		}
		if err != nil || names(list) != of.want || list.(*v1.PodList).ResourceVersion != "104" {
			t.Errorf("%s: %s, %v, want %s", what, names(list), err, of.want)
		}
	}
	elsewhere, err := pods.List(request.WithNamespace(context.Background(), "default"), nil)
	if err != nil || names(elsewhere) != "" {
		t.Errorf("in another namespace: %s, %v", names(elsewhere), err)
	}
}

func TestBookmarksAreForWhoAllowsThem(t *testing.T) {
	for what, of := range map[string]struct {
		options internalversion.ListOptions
		want    string
	}{
		"who does is told that it was all": {internalversion.ListOptions{SendInitialEvents: ptr.To(true), AllowWatchBookmarks: true}, "ADDED BOOKMARK"},
		"who does not is told no more":     {internalversion.ListOptions{SendInitialEvents: ptr.To(true)}, "ADDED"},
	} {
		synctest.Test(t, func(t *testing.T) {
			a, pods, _ := begin(t)
			a.make(pods, web())
			w, err := pods.Watch(asked(), &of.options)
			if err != nil {
				t.Fatal(err)
			}
			var told []string
			for more := true; more; {
				synctest.Wait()
				select {
				case e := <-w.ResultChan():
					told = append(told, string(e.Type))
				default:
					more = false
				}
			}
			w.Stop()
			if got := strings.Join(told, " "); got != of.want {
				t.Errorf("%s: %s, want %s", what, got, of.want)
			}
		})
	}
}

func TestWhatTheAgentRefuses(t *testing.T) {
	a, _, configMaps := begin(t)
	a.make(configMaps, settings("1"))
	for what, of := range map[string]struct {
		err  error
		code int32
		want string
	}{
		"it is gone":              {server.As(server.ErrNoObject, "gone"), http.StatusNotFound, `configmaps "settings" not found`},
		"it stands in a manifest": {server.As(server.ErrForbidden, `configmaps "settings" is forbidden: edit that file instead`), http.StatusForbidden, `configmaps "settings" is forbidden: edit that file instead`},
		"it is wrong":             {server.As(server.ErrInvalid, "data: too long"), http.StatusUnprocessableEntity, "data: too long"},
		"it cannot be asked":      {server.BadRequest("no"), http.StatusBadRequest, "no"},
		"the disk is full":        {server.As(server.ErrNoSpace, "no space left on device"), http.StatusInsufficientStorage, `configmaps "settings" is not written: no space left on device`},
		"the agent is away":       {fmt.Errorf("no agent is running"), http.StatusServiceUnavailable, "no agent is running"},
	} {
		a.refuse = of.err
		_, err := update(configMaps, "settings", func(o runtime.Object) { o.(*v1.ConfigMap).Data["b"] = what })
		status, ok := err.(errors.APIStatus)
		if !ok || status.Status().Code != of.code || err.Error() != of.want {
			t.Errorf("%s: %v, want %d %s", what, err, of.code, of.want)
		}
	}
}
