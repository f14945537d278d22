package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"
	nodev1 "k8s.io/api/node/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"github.com/podkeeper/podkeeper/manifests"
	"github.com/podkeeper/podkeeper/server"
)

// runtimeClass is a class with an overhead of CPU, "" for none.
func runtimeClass(name, handler, cpu string) manifests.Object {
	class := &nodev1.RuntimeClass{ObjectMeta: metav1.ObjectMeta{Name: name}, Handler: handler}
	if cpu != "" {
		class.Overhead = &nodev1.Overhead{PodFixed: v1.ResourceList{v1.ResourceCPU: resource.MustParse(cpu)}}
	}
	return manifests.Object{Kind: manifests.KindRuntimeClass, Object: class, Revision: handler + cpu}
}

// governed is a worker whose wishes come from sources.
type governed struct {
	*agency
	*sources
	set     manifests.Set
	objects []manifests.Object
}

func govern(a *agency) *governed {
	g := &governed{agency: a, sources: newSources(SourceDirectory, SourceAPI)}
	g.handles = func(name string) bool { return name == "crun" }
	return g
}

// wants has a Pod be written at a revision.
func (g *governed) wants(revision string, change func(*v1.Pod)) {
	p := g.pod("app")
	change(p)
	g.set.Pods = []manifests.Pod{{Pod: manifests.Normalise(p), Revision: revision, File: "web.yaml", Line: 3}}
	g.govern(g.objects...)
}

// govern has these be the objects that there are, and hands out what follows.
func (g *governed) govern(objects ...manifests.Object) {
	g.objects = objects
	g.tell(SourceDirectory, g.set)
	g.tell(SourceAPI, manifests.Set{Objects: objects})
	g.w.want(g.wishes()[g.w.key])
}

func (g *governed) refusal() string {
	if r := g.w.complaint.Load(); r != nil {
		return r.Error()
	}
	return ""
}

// TestAPodRunsAsItsRuntimeClassSays has one begin when its class comes, and be the same instance whatever becomes of that.
func TestAPodRunsAsItsRuntimeClassSays(t *testing.T) {
	inBubble(t, func(a *agency) {
		g := govern(a)
		classed := func(version string) func(*v1.Pod) {
			return func(p *v1.Pod) {
				p.Spec.RuntimeClassName, p.Labels = ptr.To("heavy"), map[string]string{"version": version}
			}
		}
		is := func(when, version, handler, cpu string) {
			t.Helper()
			pod := a.w.published.Load()
			overhead := pod.Spec.Overhead[v1.ResourceCPU]
			if pod.Labels["version"] != version || a.w.inst.Handler != handler || overhead.String() != cpu {
				t.Errorf("%s it is version %s by %q with an overhead of %s, want version %s by %q with %s", when, pod.Labels["version"], a.w.inst.Handler, &overhead, version, handler, cpu)
			}
		}
		g.wants("1", classed("1"))
		a.pass(1)
		const missing = `pod rejected: RuntimeClass "heavy" not found`
		if c := scheduled(a.w); c.Reason != notClassified || c.Message != missing {
			t.Errorf("without its class: %+v", c)
		}
		if got := g.refusal(); got != "web.yaml:3: "+missing {
			t.Errorf("to be mended is %q", got)
		}
		g.govern(runtimeClass("heavy", "kata", "100m"))
		a.pass(2)
		is("first", "1", "kata", "100m")
		g.govern(runtimeClass("heavy", "runc", "200m"))
		a.pass(3)
		is("with another class", "1", "kata", "100m")
		g.wants("2", classed("2"))
		a.pass(4)
		is("after an edit", "2", "kata", "100m")
		g.wants("3", classed("3"))
		a.pass(5)
		is("after another edit", "3", "kata", "100m")
		g.govern()
		g.wants("4", func(p *v1.Pod) { classed("4")(p); p.Spec.Containers[0].Command = []string{"another"} })
		a.pass(6)
		is("while what is written may not begin", "3", "kata", "100m")
		if got := g.refusal(); got != "web.yaml:3: "+missing {
			t.Errorf("to be mended is %q", got)
		}
		a.dismiss()
		a.employ(a.written())
		g.govern()
		a.pass(7)
		is("under another agent", "3", "kata", "100m")
		g.govern(runtimeClass("heavy", "runc", "200m"))
		a.pass(60)
		is("as another instance", "4", "runc", "200m")
		if got := g.refusal(); got != "" {
			t.Errorf("to be mended is %q", got)
		}
	})
}

func TestAHandlerNeedsNoRuntimeClass(t *testing.T) {
	t.Parallel()
	for sentence, r := range map[string]struct {
		source  string
		names   string
		classes []manifests.Object
		handler string
		wait    string
	}{
		"a class says the handler":              {SourceDirectory, "fast", []manifests.Object{runtimeClass("fast", "kata", "")}, "kata", ""},
		"the name of a handler is enough":       {SourceDirectory, "crun", nil, "crun", ""},
		"but a class of that name comes first":  {SourceDirectory, "crun", []manifests.Object{runtimeClass("crun", "runc", "")}, "runc", ""},
		"and another name is none":              {SourceDirectory, "nurc", nil, "", `pod rejected: RuntimeClass "nurc" not found`},
		"nor for one that was made by an API":   {SourceAPI, "nurc", nil, "", `pod rejected: RuntimeClass "nurc" not found`},
		"what the API gave it is not asked for": {SourceAPI, "fast", []manifests.Object{runtimeClass("fast", "kata", "1")}, "kata", ""},
		"a Pod without a class has the default": {SourceDirectory, "", []manifests.Object{runtimeClass("fast", "kata", "")}, "", ""},
	} {
		t.Run(sentence, func(t *testing.T) {
			t.Parallel()
			pod := &v1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web"}}
			if r.names != "" {
				pod.Spec.RuntimeClassName = &r.names
			}
			s := newSources(SourceDirectory, SourceAPI)
			s.handles = func(name string) bool { return name == "crun" }
			s.tell(SourceAPI, manifests.Set{})
			s.tell(SourceDirectory, manifests.Set{Objects: r.classes})
			s.tell(r.source, manifests.Set{Objects: r.classes, Pods: []manifests.Pod{{Pod: pod, Revision: "1"}}})
			wish := s.wishes()[key(pod)]
			if wish.Handler != r.handler || wish.Wait.Message != r.wait {
				t.Errorf("handler %q, waits for %q, want %q and %q", wish.Handler, wish.Wait.Message, r.handler, r.wait)
			}
		})
	}
}

// TestTheAPIMakesNoPodThatItsClassForbids has the agent judge again what it is asked to keep.
func TestTheAPIMakesNoPodThatItsClassForbids(t *testing.T) {
	t.Parallel()
	a := follows(t)
	a.sources.tell(SourceDirectory, manifests.Set{})
	class := []byte(`{"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": "heavy"}, "handler": "kata", "overhead": {"podFixed": {"cpu": "10m"}}}`)
	web := id("pods", "shop", "web")
	put := func(spec string) error {
		_, err := a.PutObject(web, aPod("web", "", spec), server.Condition{New: true})
		return err
	}
	err := put(`, "runtimeClassName": "heavy"`)
	if want := `pods "web" is forbidden: pod rejected: RuntimeClass "heavy" not found`; !errors.Is(err, server.ErrForbidden) || err.Error() != want {
		t.Errorf("without its class: %v, want %s", err, want)
	}
	if _, err := a.PutObject(server.ObjectID{Resource: "runtimeclasses.node.k8s.io", Name: "heavy"}, class, server.Condition{}); err != nil {
		t.Fatal(err)
	}
	err = put(`, "runtimeClassName": "heavy", "overhead": {"cpu": "20m"}`)
	if want := `pods "web" is forbidden: pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead`; !errors.Is(err, server.ErrForbidden) || err.Error() != want {
		t.Errorf("with another overhead: %v, want %s", err, want)
	}
	answer, err := a.PutObject(web, aPod("web", "", `, "runtimeClassName": "heavy"`), server.Condition{New: true, DryRun: true})
	if err != nil {
		t.Fatal(err)
	}
	var made v1.Pod
	if err := json.Unmarshal(answer, &made); err != nil {
		t.Fatal(err)
	}
	if overhead := made.Spec.Overhead[v1.ResourceCPU]; overhead.String() != "10m" {
		t.Errorf("it would be made with an overhead of %s", &overhead)
	}
}

// limitRange is one of namespace default, of containers' CPU: a default request, a default limit and a maximum, "" for none.
func limitRange(request, limit, most string) manifests.Object {
	item := v1.LimitRangeItem{Type: v1.LimitTypeContainer}
	for text, list := range map[*string]*v1.ResourceList{&request: &item.DefaultRequest, &limit: &item.Default, &most: &item.Max} {
		if *text != "" {
			*list = v1.ResourceList{v1.ResourceCPU: resource.MustParse(*text)}
		}
	}
	r := &v1.LimitRange{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "limits"}, Spec: v1.LimitRangeSpec{Limits: []v1.LimitRangeItem{item}}}
	manifests.Default(r)
	return manifests.Object{Kind: manifests.KindLimitRange, Object: r, Revision: request + "/" + limit + "/" + most}
}

// TestAPodHasWhatItsLimitRangeGives has one begin with the defaults, go on whatever they are later, and be held to the limits only when
// it is to begin anew.
func TestAPodHasWhatItsLimitRangeGives(t *testing.T) {
	inBubble(t, func(a *agency) {
		g := govern(a)
		labelled := func(version, limit string) func(*v1.Pod) {
			return func(p *v1.Pod) {
				p.Labels = map[string]string{"version": version}
				if limit != "" {
					p.Spec.Containers[0].Resources.Limits = v1.ResourceList{v1.ResourceCPU: resource.MustParse(limit)}
				}
			}
		}
		is := func(when, version, request, limit, told string) {
			t.Helper()
			pod := a.w.published.Load()
			resources := pod.Spec.Containers[0].Resources
			got := [4]string{pod.Labels["version"], resources.Requests.Cpu().String(), resources.Limits.Cpu().String(), pod.Annotations["kubernetes.io/limit-ranger"]}
			if want := [4]string{version, request, limit, told}; got != want {
				t.Errorf("%s it is %q, want %q", when, got, want)
			}
		}
		const (
			told     = "LimitRanger plugin set: cpu request for container app; cpu limit for container app"
			tooMuch  = "maximum cpu usage per Container is 1, but limit is 2"
			tooLarge = `Pod "web" is invalid: spec.containers[0].resources.requests: Invalid value: "3": must be less than or equal to cpu limit of 1`
		)
		g.objects = []manifests.Object{limitRange("500m", "1", "1")}
		g.wants("1", labelled("1", "2"))
		a.pass(1)
		if c := scheduled(a.w); c.Reason != notWithin || c.Message != tooMuch {
			t.Errorf("with a limit above the maximum: %+v", c)
		}
		if got := g.refusal(); got != "web.yaml:3: "+tooMuch {
			t.Errorf("to be mended is %q", got)
		}
		g.wants("2", labelled("2", ""))
		a.pass(2)
		is("first", "2", "500m", "1", told)
		g.govern(limitRange("100m", "200m", "300m"))
		a.pass(3)
		is("with another range", "2", "500m", "1", told)
		g.wants("3", labelled("3", ""))
		a.pass(4)
		is("after an edit of a label", "3", "500m", "1", told)
		g.govern()
		g.wants("4", labelled("4", ""))
		a.pass(5)
		is("after an edit without a range", "4", "500m", "1", told)
		g.govern(limitRange("500m", "1", "1"))
		g.wants("5", labelled("5", "2"))
		a.pass(6)
		is("while what is written may not begin", "4", "500m", "1", told)
		if got := g.refusal(); got != "web.yaml:3: "+tooMuch {
			t.Errorf("to be mended is %q", got)
		}
		if got := a.reasons("InvalidManifest"); len(got) != 1 || got[0] != "web.yaml:3: "+tooMuch {
			t.Errorf("events tell %q", got)
		}
		g.wants("6", func(p *v1.Pod) {
			p.Spec.Containers[0].Resources.Requests = v1.ResourceList{v1.ResourceCPU: resource.MustParse("3")}
		})
		a.pass(7)
		if got := g.refusal(); got != "web.yaml:3: "+tooLarge {
			t.Errorf("to be mended is %q", got)
		}
		g.govern()
		a.pass(50)
		is("without a range", "", "3", "0", "")
		g.govern(limitRange("500m", "1", "1"))
		g.wants("7", func(p *v1.Pod) {
			labelled("7", "")(p)
			p.Spec.Containers[0].Resources.Requests = v1.ResourceList{v1.ResourceCPU: resource.MustParse("3")}
		})
		g.govern(limitRange("500m", "4", "9"))
		a.pass(60)
		is("a Pod that began without a range", "7", "3", "0", "")
	})
}

func TestAClaimIsHeldToItsLimitRange(t *testing.T) {
	t.Parallel()
	const tooMuch = `persistentvolumeclaims "%s" is forbidden: maximum storage usage per PersistentVolumeClaim is 1Gi, but request is 2Gi`
	r := manifests.Object{Kind: manifests.KindLimitRange, Object: &v1.LimitRange{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "claims"}, Spec: v1.LimitRangeSpec{Limits: []v1.LimitRangeItem{
		{Type: v1.LimitTypePersistentVolumeClaim, Max: v1.ResourceList{v1.ResourceStorage: resource.MustParse("1Gi")}},
	}}}}
	spec := func(size string) v1.PersistentVolumeClaimSpec {
		return v1.PersistentVolumeClaimSpec{Resources: v1.VolumeResourceRequirements{Requests: v1.ResourceList{v1.ResourceStorage: resource.MustParse(size)}}}
	}
	claim := func(size string) manifests.Object {
		return manifests.Object{Kind: manifests.KindClaim, Object: &v1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "data"}, Spec: spec(size)}}
	}
	named := v1.Volume{Name: "data", VolumeSource: v1.VolumeSource{PersistentVolumeClaim: &v1.PersistentVolumeClaimVolumeSource{ClaimName: "data"}}}
	own := func(size string) v1.Volume {
		return v1.Volume{Name: "own", VolumeSource: v1.VolumeSource{Ephemeral: &v1.EphemeralVolumeSource{VolumeClaimTemplate: &v1.PersistentVolumeClaimTemplate{Spec: spec(size)}}}}
	}
	for sentence, c := range map[string]struct {
		volume    v1.Volume
		directory []manifests.Object
		api       []manifests.Object
		bound     string
		wait      string
	}{
		"a claim that may be":                         {volume: named, directory: []manifests.Object{claim("1Gi"), r}},
		"one that is too large":                       {volume: named, directory: []manifests.Object{claim("2Gi"), r}, wait: fmt.Sprintf(tooMuch, "data")},
		"a range may be made through the API":         {volume: named, directory: []manifests.Object{claim("2Gi")}, api: []manifests.Object{r}, wait: fmt.Sprintf(tooMuch, "data")},
		"what is bound has its data":                  {volume: named, directory: []manifests.Object{claim("2Gi"), r}, bound: "data"},
		"the API has judged its own":                  {volume: named, directory: []manifests.Object{r}, api: []manifests.Object{claim("2Gi")}},
		"a claim that there is not":                   {volume: named, directory: []manifests.Object{r}},
		"a claim of the Pod's own":                    {volume: own("2Gi"), directory: []manifests.Object{r}, wait: fmt.Sprintf(tooMuch, "web-own")},
		"one that may be":                             {volume: own("1Gi"), directory: []manifests.Object{r}},
		"one that is bound":                           {volume: own("2Gi"), directory: []manifests.Object{r}, bound: "web-own"},
		"who has no claim is not concerned by ranges": {volume: v1.Volume{Name: "none"}, directory: []manifests.Object{claim("2Gi"), r}},
	} {
		t.Run(sentence, func(t *testing.T) {
			t.Parallel()
			pod := &v1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web"}, Spec: v1.PodSpec{Volumes: []v1.Volume{c.volume}}}
			s := newSources(SourceDirectory, SourceAPI)
			s.bound = func() map[types.NamespacedName]string {
				return map[types.NamespacedName]string{{Namespace: "default", Name: c.bound}: ""}
			}
			s.tell(SourceAPI, manifests.Set{Objects: c.api})
			s.tell(SourceDirectory, manifests.Set{Objects: c.directory, Pods: []manifests.Pod{{Pod: pod, Revision: "1"}}})
			if wait := s.wishes()[key(pod)].Wait; wait.Message != c.wait || c.wait != "" && wait.Reason != notWithin {
				t.Errorf("it waits for %+v, want %q", wait, c.wait)
			}
		})
	}
}

// TestTheAPIKeepsToLimitRanges has the agent fill in what it is asked to keep, and refuse what goes beyond.
func TestTheAPIKeepsToLimitRanges(t *testing.T) {
	t.Parallel()
	a := follows(t)
	a.sources.tell(SourceDirectory, manifests.Set{})
	put := func(to server.ObjectID, body []byte) ([]byte, error) {
		return a.PutObject(to, body, server.Condition{DryRun: to.Resource == "pods"}) // nothing runs Pods here
	}
	r := []byte(`{"apiVersion": "v1", "kind": "LimitRange", "metadata": {"namespace": "shop", "name": "limits"}, "spec": {"limits": [
		{"type": "Container", "max": {"cpu": "1"}, "default": {"cpu": "500m"}}, {"type": "PersistentVolumeClaim", "max": {"storage": "1Gi"}}]}}`)
	if _, err := put(id("limitranges", "shop", "limits"), r); err != nil {
		t.Fatal(err)
	}
	answer, err := put(id("pods", "shop", "web"), aPod("web", "", ""))
	if err != nil {
		t.Fatal(err)
	}
	var made v1.Pod
	if err := json.Unmarshal(answer, &made); err != nil {
		t.Fatal(err)
	}
	if got := made.Spec.Containers[0].Resources; got.Limits.Cpu().String() != "500m" || got.Requests.Cpu().String() != "500m" || made.Annotations["kubernetes.io/limit-ranger"] == "" {
		t.Errorf("it was given %+v, and tells %v", got, made.Annotations)
	}
	wide := []byte(strings.Replace(string(aPod("wide", "", "")), `"demo:1"`, `"demo:1", "resources": {"limits": {"cpu": "2"}}`, 1))
	_, err = put(id("pods", "shop", "wide"), wide)
	if want := `pods "wide" is forbidden: maximum cpu usage per Container is 1, but limit is 2`; !errors.Is(err, server.ErrForbidden) || err.Error() != want {
		t.Errorf("one above the maximum: %v, want %s", err, want)
	}
	claim := func(size string) []byte {
		return []byte(`{"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"namespace": "shop", "name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "` + size + `"}}}}`)
	}
	_, err = put(id("persistentvolumeclaims", "shop", "data"), claim("2Gi"))
	if want := `persistentvolumeclaims "data" is forbidden: maximum storage usage per PersistentVolumeClaim is 1Gi, but request is 2Gi`; !errors.Is(err, server.ErrForbidden) || err.Error() != want {
		t.Errorf("a claim above the maximum: %v, want %s", err, want)
	}
	if _, err := put(id("persistentvolumeclaims", "shop", "data"), claim("1Gi")); err != nil {
		t.Errorf("a claim of the maximum: %v", err)
	}
	for what, body := range map[string]string{"no object": "[]", "nothing": "null", "no containers": `{"spec": {"containers": [null]}}`, "no list of them": `{"spec": {"containers": 1}}`} {
		if _, err := put(id("pods", "shop", "wrong"), []byte(body)); !errors.Is(err, server.ErrInvalid) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// TestAResizeIsHeldToItsLimitRange has an edit that goes beyond not be followed, and one that does not be made in place.
func TestAResizeIsHeldToItsLimitRange(t *testing.T) {
	inBubble(t, func(a *agency) {
		g := govern(a)
		asking := func(limit string) func(*v1.Pod) {
			return func(p *v1.Pod) {
				p.Spec.Containers[0].Resources.Limits = v1.ResourceList{v1.ResourceCPU: resource.MustParse(limit)}
			}
		}
		has := func(when, limit, refusal string) {
			t.Helper()
			resources := a.w.inst.Pod.Spec.Containers[0].Resources
			if got := resources.Limits.Cpu().String(); got != limit || g.refusal() != refusal {
				t.Errorf("%s its limit is %s, and to be mended is %q, want %s and %q", when, got, g.refusal(), limit, refusal)
			}
		}
		g.objects = []manifests.Object{limitRange("", "", "1")}
		g.wants("1", asking("500m"))
		a.pass(1)
		uid := a.w.inst.Pod.UID
		g.wants("2", asking("1"))
		a.pass(2)
		has("within the range", "1", "")
		g.wants("3", asking("2"))
		a.pass(3)
		has("beyond it", "1", "web.yaml:3: maximum cpu usage per Container is 1, but limit is 2")
		g.govern(limitRange("", "", "2"))
		a.pass(4)
		has("under a wider range", "2", "")
		if a.w.inst.Pod.UID != uid {
			t.Error("it is another instance")
		}
	})
}
