package agent

import (
	"encoding/json"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"github.com/podkeeper/podkeeper/agent/objects"
	"github.com/podkeeper/podkeeper/server"
)

func aClaim(name string) []byte {
	return fmt.Appendf(nil, `{"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"namespace": "shop", "name": %q}, "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}`, name)
}

const aDisk = `{"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "disk"}, "spec": {"accessModes": ["ReadWriteOnce", "ReadOnlyMany"], "capacity": {"storage": "3Gi"}, "hostPath": {"path": "/disk"}}}`

// last drains what a follower was told: the last of each name.
func (f *follower) last() map[string]json.RawMessage {
	all := map[string]json.RawMessage{}
	for {
		select {
		case c := <-f.changes:
			var o v1.Pod
			if c.Object != nil && json.Unmarshal(c.Object, &o) == nil {
				all[o.Name] = c.Object
			}
		default:
			return all
		}
	}
}

func TestWhatClaimsAreBoundToIsTold(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := follows(t)
		var bound atomic.Pointer[map[types.NamespacedName]string]
		bound.Store(&map[types.NamespacedName]string{})
		a.bound = func() map[types.NamespacedName]string { return *bound.Load() }
		put := func(of server.ObjectID, body []byte) {
			t.Helper()
			if _, err := a.PutObject(of, body, server.Condition{}); err != nil {
				t.Fatal(err)
			}
		}
		put(id("persistentvolumes", "", "disk"), []byte(aDisk))
		put(id("persistentvolumeclaims", "shop", "data"), aClaim("data"))
		put(id("persistentvolumeclaims", "shop", "own"), aClaim("own"))
		f := a.followed(t)
		synctest.Wait()
		told := func(when, want string) {
			t.Helper()
			last := f.last()
			show := func(name string) string {
				var o unstructured.Unstructured
				if last[name] == nil || json.Unmarshal(last[name], &o.Object) != nil {
					return name + " unchanged"
				}
				phase, _, _ := unstructured.NestedString(o.Object, "status", "phase")
				size, _, _ := unstructured.NestedString(o.Object, "status", "capacity", "storage")
				volume, _, _ := unstructured.NestedString(o.Object, "spec", "volumeName")
				by, _, _ := unstructured.NestedString(o.Object, "spec", "claimRef", "name")
				return fmt.Sprintf("%s %s%s%s%s", name, phase, size, volume, by)
			}
			if got := show("data") + ", " + show("own") + ", " + show("disk"); got != want {
				t.Errorf("%s: told of %s, want %s", when, got, want)
			}
		}
		told("at first", "data Pending, own Pending, disk Available")
		data, own := types.NamespacedName{Namespace: "shop", Name: "data"}, types.NamespacedName{Namespace: "shop", Name: "own"}
		bound.Store(&map[types.NamespacedName]string{data: "disk", own: ""})
		a.feed.Wake()
		time.Sleep(time.Second)
		last := f.last()
		for _, c := range last { // to be read once more
			f.changes <- server.Change{Object: c}
		}
		told("once they are used", "data Bound3Gidisk, own Bound1Gi, disk Bounddata")
		put(id("persistentvolumeclaims", "shop", "data"), last["data"])
		put(id("persistentvolumes", "", "disk"), last["disk"])
		for _, o := range a.objects.List() {
			volume, has, _ := unstructured.NestedString(o.Content, "spec", "volumeName")
			_, taken, _ := unstructured.NestedMap(o.Content, "spec", "claimRef")
			if has || taken || o.Content["status"] != nil {
				t.Errorf("kept is %s with volume %q: %v", o.ID, volume, o.Content)
			}
		}
		time.Sleep(time.Second)
		told("written back", "data unchanged, own unchanged, disk unchanged")
		if _, err := a.objects.Delete(objects.ID{Resource: claimResource, NamespacedName: data}, objects.Condition{}); err != nil {
			t.Fatal(err)
		}
		a.feed.Wake()
		time.Sleep(time.Second)
		told("without its claim", "data Bound3Gidisk, own unchanged, disk Releaseddata")
		_ = f.end()
	})
}
