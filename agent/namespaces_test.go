package agent

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"github.com/podkeeper/podkeeper/agent/objects"
	"github.com/podkeeper/podkeeper/manifests"
	"github.com/podkeeper/podkeeper/server"
)

// kept are the objects that are kept, with the phases of namespaces.
// theCA is that of the API of agents that have one.
func theCA() ([]byte, error) { return []byte("the CA"), nil }

func (a *Agent) kept() []string {
	var all []string
	for _, o := range a.objects.List() {
		phase, _, _ := unstructured.NestedString(o.Content, "status", "phase")
		all = append(all, strings.TrimSpace(o.String()+" "+phase))
	}
	slices.Sort(all)
	return all
}

// inEvery is what is kept of namespaces with nothing of their own in them.
func inEvery(namespaces ...string) []string {
	var all []string
	for _, n := range namespaces {
		all = append(all, "configmaps/"+n+"/kube-root-ca.crt", "namespaces/"+n+" Active", "serviceaccounts/"+n+"/default")
	}
	slices.Sort(all)
	return all
}

func settingsIn(namespace string) []byte {
	return fmt.Appendf(nil, `{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"namespace": %q, "name": "settings"}}`, namespace)
}

func TestNamespacesAreMadeForWhoAsks(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := follows(t)
		a.sources.tell(SourceDirectory, manifestIn("front"))
		if _, err := a.PutObject(id("configmaps", "shop", "settings"), settingsIn("shop"), server.Condition{}); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]string{"configmaps/shop/settings"}, a.kept()); diff != "" {
			t.Errorf("without an API:\n%s", diff)
		}
		a.cfg.CA = theCA
		if _, err := a.PutObject(id("configmaps", "back", "settings"), settingsIn("back"), server.Condition{DryRun: true}); err != nil || len(a.kept()) > 1 {
			t.Errorf("a dry run makes %v: %v", a.kept(), err)
		}
		f := a.followed(t)
		synctest.Wait()
		want := append(inEvery("default", "front", "kube-node-lease", "kube-public", "kube-system", "shop"), "configmaps/shop/settings", "nodes/here")
		slices.Sort(want)
		if diff := cmp.Diff(want, a.kept()); diff != "" {
			t.Errorf("for the first who follows:\n%s", diff)
		}
		told := 0
		for c := range f.changes {
			if c.Type == server.Bookmark {
				break
			}
			told++
		}
		if told != len(want)+2 {
			t.Errorf("before the bookmark %d objects are told of, want %d, the one of the manifest and the lease of the node", told, len(want))
		}
		root, err := a.objects.Get(objects.ID{Resource: "configmaps", NamespacedName: types.NamespacedName{Namespace: "front", Name: "kube-root-ca.crt"}})
		if said, _, _ := unstructured.NestedString(root.Content, "data", "ca.crt"); err != nil || said != "the CA" {
			t.Errorf("the CA is %v: %v", root.Content, err)
		}
		front, err := a.objects.Get(namespaceID("front"))
		if label, _, _ := unstructured.NestedString(front.Content, "metadata", "labels", "kubernetes.io/metadata.name"); err != nil || label != "front" {
			t.Errorf("the namespace is %v: %v", front.Content, err)
		}
		if _, err := a.PutObject(id("configmaps", "late", "settings"), settingsIn("late"), server.Condition{}); err != nil || !slices.Contains(a.kept(), "namespaces/late Active") {
			t.Errorf("there is %v: %v", a.kept(), err)
		}
		if _, _, err := a.DeleteObject(id("serviceaccounts", "late", "default"), server.Condition{}, nil); err != nil {
			t.Error(err)
		}
		time.Sleep(time.Second)
		if !slices.Contains(a.kept(), "serviceaccounts/late/default") {
			t.Errorf("what is in every namespace is not made again: %v", a.kept())
		}
		empty := []byte(`{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "empty"}}`)
		if _, err := a.PutObject(id("namespaces", "", "empty"), empty, server.Condition{New: true}); err != nil || !slices.Contains(a.kept(), "serviceaccounts/empty/default") {
			t.Errorf("in a namespace with nothing in it there is %v: %v", a.kept(), err)
		}
		if err := f.end(); err == nil {
			t.Error("it ended for no reason")
		}
	})
}

func TestANamespaceGoesWithAllThatIsInIt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := follows(t)
		a.cfg.CA = theCA
		put := func(namespace string) error {
			_, err := a.PutObject(id("configmaps", namespace, "settings"), settingsIn(namespace), server.Condition{})
			return err
		}
		remove := func(name string) error {
			_, _, err := a.DeleteObject(id("namespaces", "", name), server.Condition{}, nil)
			return err
		}
		w := newWorker(types.NamespacedName{Namespace: "shop", Name: "web"}, a.surroundings)
		a.enlist(w)
		w.show(&v1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web"}})
		if err := errors.Join(put("shop"), put("team"), remove("shop")); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		if got := a.kept(); !slices.Contains(got, "namespaces/shop Terminating") || slices.ContainsFunc(got, func(o string) bool { return strings.Contains(o, "/shop/") }) {
			t.Errorf("while a Pod ends there is %v", got)
		}
		for sentence, c := range map[string]struct {
			err  error
			want string
		}{
			"a new object":                  {put("shop"), `configmaps "settings" is forbidden: unable to create new content in namespace shop because it is being terminated`},
			"a namespace of every cluster":  {remove("kube-system"), `namespaces "kube-system" is forbidden: this namespace may not be deleted`},
			"one that a manifest is in":     {func() error { a.sources.tell(SourceDirectory, manifestIn("team")); return remove("team") }(), `namespaces "team" is forbidden: the manifest team.yaml:3 on the node is in it: remove that first`},
			"one more time":                 {remove("shop"), ""},
			"into another one is no matter": {put("other"), ""},
		} {
			if c.want == "" && c.err != nil || c.want != "" && (!errors.Is(c.err, server.ErrForbidden) || c.err.Error() != c.want) {
				t.Errorf("%s: %v, want %q", sentence, c.err, c.want)
			}
		}
		w.adjust() // nothing is left, nor wanted
		time.Sleep(time.Second)
		if got := a.kept(); slices.ContainsFunc(got, func(o string) bool { return strings.Contains(o, "shop") }) {
			t.Errorf("in the end there is %v", got)
		}
		if err := put("shop"); err != nil {
			t.Errorf("anew: %v", err)
		}
	})
}

// manifestIn is an object of a manifest.
func manifestIn(namespace string) manifests.Set {
	return manifests.Decode("/etc/m/"+namespace+".yaml", []byte("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x, namespace: "+namespace+"}\n"))
}

func TestANamespaceGoesThoughTheAgentWasKilled(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		for name, text := range map[string]string{
			"namespaces_shop.yaml":          "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop, finalizers: [c/d], deletionTimestamp: \"2026-01-02T03:04:05Z\"}\nspec: {finalizers: [kubernetes]}\nstatus: {phase: Terminating}\n",
			"configmaps_shop_settings.yaml": string(settingsIn("shop")),
			"configmaps_shop_held.yaml":     "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: held, namespace: shop, finalizers: [a/b]}\n",
		} {
			if err := os.WriteFile(dir+"/"+name, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		a := followsIn(t, dir)
		time.Sleep(time.Second)
		if diff := cmp.Diff([]string{"configmaps/shop/held", "namespaces/shop Terminating"}, a.kept()); diff != "" {
			t.Errorf("what somebody holds:\n%s", diff)
		}
		held := `{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"namespace": "shop", "name": "held"}}`
		if _, err := a.PutObject(id("configmaps", "shop", "held"), []byte(held), server.Condition{}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		if got := a.kept(); len(got) != 1 {
			t.Errorf("what somebody else holds: %v", got)
		}
		namespace := `{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}}`
		if _, err := a.PutObject(id("namespaces", "", "shop"), []byte(namespace), server.Condition{}); err != nil {
			t.Fatal(err)
		}
		if got := a.kept(); len(got) > 0 {
			t.Errorf("in the end there is %v", got)
		}
	})
}
