package agent

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"

	"github.com/podkeeper/podkeeper/agent/plan"
)

// FuzzInstances has the record of a Pod be whatever: it is read, or set aside. What is read names no other folder than the Pod's
// own, and can be told of and written anew.
func FuzzInstances(f *testing.F) {
	const uid = "c1f7a04e"
	pod := func(name string, containers ...v1.Container) *v1.Pod {
		p := &v1.Pod{}
		p.UID, p.Namespace, p.Name, p.Spec.Containers = uid, "default", name, containers
		return p
	}
	for _, p := range []*v1.Pod{
		pod("web", v1.Container{Name: "app", Image: "a"}), pod("../../../../etc/cron.d/x", v1.Container{Name: "app"}),
		pod("web", v1.Container{Name: "../../x"}), pod("web", v1.Container{}), pod("web"), pod(""),
	} {
		inst := newInstance("/pods", p, "r1")
		content, err := json.Marshal(inst)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(content)
	}
	for _, content := range []string{
		`{"version": 1, "pod": {"metadata": {"uid": "c1f7a04e", "namespace": "default", "name": "web"}}, "containers": {"x": null}}`,
		`{"version": 1, "pod": {"metadata": {"uid": "c1f7a04e", "namespace": "..", "name": "web"}, "spec": {"volumes": [{"name": "../x", "emptyDir": {}}]}}, "sandbox": {"attempt": -9}}`,
		`{"version": 1, "pod": {"metadata": {"uid": "c1f7a04e", "namespace": "default", "name": "web"}}, "asked": {"metadata": {"name": "/"}}, "resizing": {}, "wanted": {}, "ending": {}}`,
		`{"version": 9}`, `null`, `[]`, ``,
	} {
		f.Add([]byte(content))
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		dir := t.TempDir()
		file := recordFile(dir, uid)
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, content, 0o600); err != nil {
			t.Fatal(err)
		}
		inst, err := loadInstance(file, uid)
		if err != nil {
			return
		}
		names := []string{inst.Pod.Namespace, inst.Pod.Name, string(inst.Pod.UID)}
		for _, c := range plan.Containers(inst.Pod) {
			names = append(names, c.Name)
			inst.target(c.Name)
		}
		for name := range inst.attempts() {
			names = append(names, name)
		}
		for _, v := range inst.Pod.Spec.Volumes {
			names = append(names, v.Name)
		}
		for _, name := range names {
			if name == "" || name == "." || name == ".." || strings.ContainsAny(name, "/\x00") {
				t.Errorf("a part of a path is %q", name)
			}
		}
		inst.asked()
		inst.ids()
		if _, err := json.Marshal(inst); err != nil {
			t.Error(err)
		}
	})
}
