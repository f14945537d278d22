package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	v1 "k8s.io/api/core/v1"
	discovery "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/podkeeper/podkeeper/agent/services"
	"github.com/podkeeper/podkeeper/manifests"
	"github.com/podkeeper/podkeeper/server"
)

// serving is an agent with objects in a folder, where an earlier one may have left some.
func serving(t *testing.T, dir string) *Agent {
	t.Helper()
	a := followsIn(t, dir)
	a.cfg.ObjectsDir = dir
	return a
}

// put makes or edits the Service shop/NAME, of a spec in JSON, and answers its address, or what is wrong with it.
func (a *Agent) put(name, spec string) string {
	body := fmt.Appendf(nil, `{"apiVersion": "v1", "kind": "Service", "metadata": {"namespace": "shop", "name": %q}, "spec": {"ports": [{"port": 80}], "selector": {"app": "web"}%s}}`, name, spec)
	answer, err := a.PutObject(id("services", "shop", name), body, server.Condition{})
	if err != nil {
		return err.Error()
	}
	var s v1.Service
	if err := json.Unmarshal(answer, &s); err != nil {
		return err.Error()
	}
	if at := s.Spec.ClusterIP; at != "" && (len(s.Spec.ClusterIPs) != 1 || s.Spec.ClusterIPs[0] != at || len(s.Spec.IPFamilies) != 1 || s.Spec.IPFamilyPolicy == nil) {
		return fmt.Sprintf("%+v", s.Spec)
	}
	return s.Spec.ClusterIP
}

func TestServicesOfTheAPIGetAddresses(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	a := serving(t, dir)
	web := a.put("web", "")
	if at, err := netip.ParseAddr(web); err != nil || !services.Range.Contains(at) {
		t.Fatalf("it gets %q", web)
	}
	db := a.put("db", "")
	for sentence, of := range map[string]struct{ name, spec, want string }{
		"an edit that says nothing of it keeps it":           {"web", `, "sessionAffinity": "ClientIP"`, web},
		"one that says the same does, too":                   {"web", fmt.Sprintf(`, "clusterIP": %q`, web), web},
		"one that is asked for is given":                     {"static", `, "clusterIP": "10.96.0.10"`, "10.96.0.10"},
		"but not twice":                                      {"twice", fmt.Sprintf(`, "clusterIP": %q`, web), "provided IP is already allocated"},
		"nor from elsewhere":                                 {"away", `, "clusterIP": "10.43.0.10"`, "is not in the valid range. The range of valid IPs is 10.96.0.0/16"},
		"nor in place of the one before":                     {"db", `, "clusterIP": "10.96.0.11"`, "may not change once set"},
		"nor one that is none":                               {"none", `, "clusterIP": "x"`, `spec.clusterIPs[0]`},
		"a headless one has none":                            {"headless", `, "clusterIP": "None"`, "None"},
		"nor has a name of elsewhere":                        {"name", `, "type": "ExternalName", "externalName": "example.com"`, ""},
		"one that is edited with its old one is not doubled": {"db", "", db},
	} {
		if got := a.put(of.name, of.spec); got != of.want && (of.want == "" || !strings.Contains(got, of.want)) {
			t.Errorf("%s: %q, want %q", sentence, got, of.want)
		}
	}
	if web == db {
		t.Errorf("both are at %s", db)
	}
	if again := serving(t, dir).put("web", ""); again != web {
		t.Errorf("with another agent it is at %s, was %s", again, web)
	}
	if got := a.put("web", `, "type": "ExternalName", "externalName": "example.com"`); got != "" {
		t.Errorf("as a name it is at %q", got)
	}
}

// manifestService is one of the manifest directory.
func manifestService(name, at string) manifests.Object {
	s := &v1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name}, Spec: v1.ServiceSpec{ClusterIP: at, Selector: map[string]string{"app": "web"}}}
	s.Spec.Ports = []v1.ServicePort{{Port: 80}}
	return manifests.Object{Object: s, Kind: manifests.KindService, Revision: name + at, File: "web.yaml"}
}

func (a *Agent) addressOf(name string) string {
	o, _ := a.sources.object(manifests.Key{Kind: manifests.KindService, NamespacedName: types.NamespacedName{Namespace: "shop", Name: name}})
	s, ok := o.Object.(*v1.Service)
	if !ok {
		return "gone"
	}
	return s.Spec.ClusterIP
}

func TestServicesOfManifestsGetAddresses(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	a := serving(t, dir)
	a.offerObjects()
	written := manifestService("web", "")
	a.offer(SourceDirectory, manifests.Set{Objects: []manifests.Object{written, manifestService("static", "192.0.2.1")}})
	web := a.addressOf("web")
	if at, err := netip.ParseAddr(web); err != nil || !services.Range.Contains(at) || a.addressOf("static") != "192.0.2.1" {
		t.Fatalf("they get %q and %q", web, a.addressOf("static"))
	}
	if written.Object.(*v1.Service).Spec.ClusterIP != "" {
		t.Error("what was read is changed")
	}
	if got := a.put("other", fmt.Sprintf(`, "clusterIP": %q`, web)); !strings.Contains(got, "already allocated") {
		t.Errorf("another one gets the same: %s", got)
	}
	// One before it in every order asks for its address in vain.
	next := serving(t, dir)
	next.offerObjects()
	next.offer(SourceDirectory, manifests.Set{Err: errors.New("it cannot be read")})
	next.offer(SourceDirectory, manifests.Set{Objects: []manifests.Object{manifestService("a", ""), manifestService("web", "")}})
	if next.addressOf("web") != web || next.addressOf("a") == web {
		t.Errorf("with another agent it is at %s, was %s", next.addressOf("web"), web)
	}
	next.offer(SourceDirectory, manifests.Set{})
	if content, err := os.ReadFile(next.addressesFile()); err != nil || string(content) != "{}" {
		t.Errorf("when all are gone there is %s, %v", content, err)
	}
}

// showing has a Pod be reported.
func (a *Agent) showing(name string, ready v1.ConditionStatus) *worker {
	pod := &v1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name, UID: types.UID("p-" + name), Labels: map[string]string{"app": "web"}}}
	pod.Status.PodIP, pod.Status.PodIPs = "10.1.0.1", []v1.PodIP{{IP: "10.1.0.1"}}
	pod.Status.Conditions = []v1.PodCondition{{Type: v1.PodReady, Status: ready}}
	w := a.named(key(pod))
	if w == nil {
		w = newWorker(key(pod), a.surroundings)
		a.enlist(w)
	}
	w.show(pod)
	return w
}

func TestEndpointsFollowServicesAndPods(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := serving(t, t.TempDir())
		a.offer(SourceDirectory, manifests.Set{})
		if got := a.put("web", ""); !strings.HasPrefix(got, "10.96.") {
			t.Fatal(got)
		}
		f := a.followed(t)
		told := func() (lines []string) {
			t.Helper()
			time.Sleep(time.Second) // changes are gathered
			synctest.Wait()
			for {
				select {
				case c := <-f.changes:
					if c.Type == server.Bookmark {
						continue
					}
					switch c.Resource {
					case "endpoints":
						var e v1.Endpoints //nolint:staticcheck // deprecated, and asked for by clients all the same
						if err := json.Unmarshal(c.Object, &e); err != nil || e.UID == "" || e.CreationTimestamp.IsZero() {
							t.Fatal(e.UID, err)
						}
						line := string(c.Type) + " " + e.Name
						for _, s := range e.Subsets {
							line += fmt.Sprintf(" %d ready, %d not, at %d", len(s.Addresses), len(s.NotReadyAddresses), s.Ports[0].Port)
						}
						lines = append(lines, line)
					case "endpointslices.discovery.k8s.io":
						var e discovery.EndpointSlice
						if err := json.Unmarshal(c.Object, &e); err != nil || e.UID == "" || e.OwnerReferences[0].Name != "web" {
							t.Fatal(e.UID, err)
						}
						line := string(c.Type) + " slice"
						for _, p := range e.Endpoints {
							line += fmt.Sprintf(" %s ready %t", p.Addresses[0], *p.Conditions.Ready)
						}
						lines = append(lines, line)
					}
				default:
					slices.Sort(lines)
					return lines
				}
			}
		}
		expect := func(sentence string, want ...string) {
			t.Helper()
			if got := told(); !slices.Equal(got, want) {
				t.Errorf("%s:\n%s\nwant\n%s", sentence, strings.Join(got, "\n"), strings.Join(want, "\n"))
			}
		}
		expect("a Service without Pods", "ADDED slice", "ADDED web")
		a.showing("web-1", v1.ConditionFalse)
		expect("a Pod that is not ready", "MODIFIED slice 10.1.0.1 ready false", "MODIFIED web 0 ready, 1 not, at 80")
		a.showing("web-1", v1.ConditionTrue)
		expect("one that is", "MODIFIED slice 10.1.0.1 ready true", "MODIFIED web 1 ready, 0 not, at 80")
		a.showing("web-1", v1.ConditionTrue)
		expect("one of which nothing else matters")
		for _, of := range []string{"endpoints/web", "endpointslices.discovery.k8s.io/" + a.slice()} {
			resource, name, _ := strings.Cut(of, "/")
			if _, _, err := a.DeleteObject(id(resource, "shop", name), server.Condition{}, nil); !errors.Is(err, server.ErrForbidden) || !strings.Contains(err.Error(), "it follows from a Service and its Pods") {
				t.Errorf("%s is deleted: %v", of, err)
			}
		}
		if _, _, err := a.DeleteObject(id("services", "shop", "web"), server.Condition{}, nil); err != nil {
			t.Fatal(err)
		}
		expect("without the Service", "DELETED slice 10.1.0.1 ready true", "DELETED web 1 ready, 0 not, at 80")
	})
}

// slice is the name of the only EndpointSlice.
func (a *Agent) slice() string {
	for id := range a.sightings() {
		if id.Resource == "endpointslices.discovery.k8s.io" {
			return id.Name
		}
	}
	return ""
}

func TestContainersAreToldOfServicesOfTheirTime(t *testing.T) {
	inBubble(t, func(a *agency) {
		a.want("1", "app")
		a.pass(5)
		a.expect("told of")
		a.host.set(func() { a.host.services = []*v1.Service{{ObjectMeta: metav1.ObjectMeta{Name: "web"}}} })
		a.pass(20)
		a.expect("told of") // one that runs is not
		a.host.exit("app", 1)
		a.pass(50)
		a.expect("told of", "20 told of web")
	})
}
