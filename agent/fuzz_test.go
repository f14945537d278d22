package agent

import (
	"os"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/podkeeper/podkeeper/agent/node"
	"github.com/podkeeper/podkeeper/agent/objects"
	"github.com/podkeeper/podkeeper/manifests"
	"github.com/podkeeper/podkeeper/server"
)

// FuzzWrites writes whatever comes, as an object of each kind. What is taken can be read by the next agent, and be deleted.
func FuzzWrites(f *testing.F) {
	for _, body := range [][]byte{
		aPod("x", "", ""), aPod("x", "", `, "initContainers": [{"name": "a", "image": "b", "resources": {"limits": {"cpu": 1}}}], "overhead": {}`), aPod("x", `, "finalizers": ["a/b"], "deletionTimestamp": "2026-01-02T03:04:05Z"`, `, "nodeName": "here"`), aClaim("x"), anEvent("x", ""), []byte(aDisk), settingsIn("shop"),
		[]byte(`{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "x", "labels": 5}, "spec": {"finalizers": [null, 1]}}`),
		[]byte(`{"apiVersion": "v1", "kind": "Node", "metadata": {"name": "x", "annotations": []}, "spec": {"podCIDR": 1, "taints": [{}]}, "status": 7}`),
		[]byte(`{"metadata": [], "spec": "x", "status": null}`), []byte(`[]`), []byte(`null`), []byte(`{`),
	} {
		f.Add(body)
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		a := &Agent{node: &node.Node{Name: "here"}, sources: newSources(SourceDirectory, SourceAPI), bound: func() map[types.NamespacedName]string {
			return map[types.NamespacedName]string{{Namespace: "shop", Name: "x"}: "x"}
		}}
		cfg := objects.Config{Dir: t.TempDir(), Now: time.Now(), Complete: a.complete, Log: discard(), Write: func(file string, content []byte) error {
			return os.WriteFile(file, content, 0o600)
		}}
		store := objects.Open(cfg)
		a.objects, a.surroundings = store, &surroundings{roster: newRoster(node.NewObject("here", nil))}
		r := limitRange("1", "2", "3")
		r.SetNamespace("shop")
		a.sources.tell(SourceAPI, manifests.Set{})
		a.sources.tell(SourceDirectory, manifests.Set{Objects: []manifests.Object{r}})
		for _, kind := range manifests.Kinds() {
			id := objects.IDOf(manifests.Key{Kind: kind.Kind, NamespacedName: types.NamespacedName{Name: "x"}})
			if kind.Namespaced {
				id.Namespace = "shop"
			}
			for range 2 { // the second one is an edit
				judged, err := a.judged(id, body, false)
				if err != nil {
					continue
				}
				if _, err := store.Put(id, judged, objects.Condition{}); err != nil {
					continue
				}
				if refused := objects.Open(cfg).Set().Refused; len(refused) > 0 {
					t.Errorf("%s was taken, and then is refused: %v", id, refused)
				}
			}
			_, _ = store.Delete(id, objects.Condition{}) // of those that are there
		}
		e := newEvents("here")
		_, _ = e.Put(types.NamespacedName{Namespace: "shop", Name: "x"}, body, server.Condition{}, store.Next)
	})
}
