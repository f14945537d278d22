package agent

import (
	"encoding/json"
	"errors"
	"testing"

	v1 "k8s.io/api/core/v1"
	nodev1 "k8s.io/api/node/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
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
