package objects

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/types"

	"github.com/podkeeper/podkeeper/manifests"
)

var errFull = errors.New("no space left on device")

// open opens the objects of a folder; while full is set nothing can be written.
func open(t *testing.T, dir string, now time.Time, full *bool) *Store {
	t.Helper()
	return Open(Config{Dir: dir, Now: now, Log: slog.New(slog.DiscardHandler), Write: func(file string, content []byte) error {
		if full != nil && *full {
			return errFull
		}
		return os.WriteFile(file, content, 0o600)
	}})
}

func named(resource, name string) ID {
	return ID{resource, types.NamespacedName{Namespace: "shop", Name: name}}
}

func configMap(name, value string, more ...string) []byte {
	return fmt.Appendf(nil, `{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"namespace": "shop", "name": %q%s}, "data": {"a": %q}}`, name, strings.Join(more, ""), value)
}

func pod(name, image string) []byte {
	return fmt.Appendf(nil, `{"apiVersion": "v1", "kind": "Pod", "metadata": {"namespace": "shop", "name": %q}, "spec": {"containers": [{"name": "app", "image": %q}]}}`, name, image)
}

// show is what a Set has: Pods by their image, ConfigMaps by their value.
func show(set manifests.Set) string {
	var all []string
	for _, p := range set.Pods {
		all = append(all, p.Name+"="+p.Spec.Containers[0].Image)
	}
	for _, o := range set.Objects {
		all = append(all, o.GetName())
	}
	for _, r := range set.Refused {
		all = append(all, fmt.Sprintf("refused %s kept %v", r.Of, r.Kept))
	}
	return strings.Join(all, " ")
}

func TestObjectsOutliveTheStore(t *testing.T) {
	t.Parallel()
	dir, now := t.TempDir(), time.UnixMicro(1_000_000)
	s := open(t, dir, now, nil)
	made, err := s.Put(named("configmaps", "settings"), configMap("settings", "1", `, "managedFields": [{"manager": "kubectl"}], "resourceVersion": "7"`), Condition{New: true})
	if err != nil {
		t.Fatal(err)
	}
	metadata := made.Content["metadata"].(map[string]any)
	if metadata["uid"] == "" || metadata["creationTimestamp"] == nil || metadata["resourceVersion"] != fmt.Sprint(made.Revision) || metadata["managedFields"] == nil {
		t.Errorf("made %v", metadata)
	}
	if _, err := s.Put(named("pods", "web"), pod("web", "demo:1"), Condition{}); err != nil {
		t.Fatal(err)
	}
	if got := show(s.Set()); got != "web=demo:1 settings" {
		t.Errorf("there are %s", got)
	}
	edited, err := s.Put(named("configmaps", "settings"), configMap("settings", "2"), Condition{Revision: made.Revision})
	if err != nil || edited.Revision <= made.Revision || edited.Content["metadata"].(map[string]any)["uid"] != metadata["uid"] {
		t.Errorf("edited %v: %v", edited, err)
	}
	if same, err := s.Put(named("configmaps", "settings"), configMap("settings", "2"), Condition{}); err != nil || same.Revision != edited.Revision || s.Revision() != edited.Revision {
		t.Errorf("the same again is another one, of revision %d: %v", same.Revision, err)
	}
	again := open(t, dir, now.Add(-time.Second), nil) // the clock was set back
	if got := show(again.Set()); got != "web=demo:1 settings" {
		t.Errorf("after a restart there are %s", got)
	}
	kept, err := again.Get(named("configmaps", "settings"))
	if err != nil || kept.Revision <= edited.Revision {
		t.Errorf("after a restart it is of revision %d, before it was %d: %v", kept.Revision, edited.Revision, err)
	}
	if diff := cmp.Diff(edited.Content["data"], kept.Content["data"]); diff != "" {
		t.Error(diff)
	}
	gone, err := again.Delete(named("pods", "web"), Condition{})
	if all, revision := again.List(), again.Revision(); err != nil || len(all) != 1 || revision != gone.Revision || gone.Revision <= kept.Revision {
		t.Errorf("after a removal at %d there are %v at %d: %v", gone.Revision, all, revision, err)
	}
	if left, _ := filepath.Glob(dir + "/*.yaml"); len(left) != 1 || filepath.Base(left[0]) != "configmaps_shop_settings.yaml" {
		t.Errorf("there are %q", left)
	}
}

func TestChangesWithConditions(t *testing.T) {
	t.Parallel()
	full := false
	s := open(t, t.TempDir(), time.UnixMicro(1), &full)
	id := named("configmaps", "x")
	first, err := s.Put(id, configMap("x", "1"), Condition{})
	if err != nil {
		t.Fatal(err)
	}
	for sentence, c := range map[string]struct {
		do   func() error
		want error
	}{
		"made twice": {func() error { _, err := s.Put(id, configMap("x", "2"), Condition{New: true}); return err }, ErrExists},
		"edited after another edit": {func() error {
			_, err := s.Put(id, configMap("x", "2"), Condition{Revision: first.Revision - 1})
			return err
		}, ErrChanged},
		"removed after another edit": {func() error { _, err := s.Delete(id, Condition{Revision: first.Revision - 1}); return err }, ErrChanged},
		"edited and not there": {func() error {
			_, err := s.Put(named("configmaps", "y"), configMap("y", "2"), Condition{Revision: 1})
			return err
		}, ErrNotFound},
		"removed and not there":     {func() error { _, err := s.Delete(named("configmaps", "y"), Condition{}); return err }, ErrNotFound},
		"read and not there":        {func() error { _, err := s.Get(named("configmaps", "y")); return err }, ErrNotFound},
		"of another name":           {func() error { _, err := s.Put(id, configMap("y", "2"), Condition{}); return err }, ErrInvalid},
		"of another kind":           {func() error { _, err := s.Put(id, pod("x", "demo"), Condition{}); return err }, ErrInvalid},
		"no JSON":                   {func() error { _, err := s.Put(id, []byte("{"), Condition{}); return err }, ErrInvalid},
		"nothing":                   {func() error { _, err := s.Put(id, []byte("null"), Condition{}); return err }, ErrInvalid},
		"what podkeeper cannot run": {func() error { _, err := s.Put(named("pods", "x"), pod("x", ""), Condition{}); return err }, ErrInvalid},
		"a field that does not work": {func() error {
			_, err := s.Put(id, configMap("x", "2", `, "ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "x", "uid": "1"}]`), Condition{})
			return err
		}, ErrInvalid},
		"nowhere to write to": {func() error {
			full = true
			defer func() { full = false }()
			_, err := s.Put(id, configMap("x", "2"), Condition{})
			return err
		}, errFull},
		"two objects where one belongs": {func() error { _, err := s.Put(id, []byte(`[]`), Condition{}); return err }, ErrInvalid},
	} {
		if err := c.do(); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", sentence, err, c.want)
		}
		if now, err := s.Get(id); err != nil || now.Revision != first.Revision {
			t.Errorf("%s: it is another one: %v, %v", sentence, now, err)
		}
	}
}

func TestADryRunChangesNothing(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, dir, time.UnixMicro(1), nil)
	id := named("configmaps", "x")
	made, err := s.Put(id, configMap("x", "1"), Condition{New: true, DryRun: true})
	if metadata := metadataOf(made.Content); err != nil || metadata["uid"] == nil || metadata["resourceVersion"] != nil || len(s.List()) > 0 {
		t.Errorf("made would be %v, made are %v: %v", made.Content, s.List(), err)
	}
	was, err := s.Put(id, configMap("x", "1"), Condition{})
	if err != nil {
		t.Fatal(err)
	}
	edited, err := s.Put(id, configMap("x", "2"), Condition{Revision: was.Revision, DryRun: true})
	if err != nil || edited.Revision != was.Revision || cmp.Diff(edited.Content["data"], map[string]any{"a": "2"}) != "" {
		t.Errorf("edited it would be %v: %v", edited, err)
	}
	if _, err := s.Delete(id, Condition{DryRun: true}); err != nil {
		t.Error(err)
	}
	if _, err := s.Put(id, configMap("y", "1"), Condition{DryRun: true}); !errors.Is(err, ErrInvalid) {
		t.Errorf("it is not checked: %v", err)
	}
	if now, err := s.Get(id); err != nil || cmp.Diff(now, was) != "" || s.Look() {
		t.Errorf("it is %v now: %v", now, err)
	}
}

func TestFinalizersHoldAnObject(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, dir, time.UnixMicro(1), nil)
	id := named("configmaps", "x")
	put := func(s *Store, value string, finalizers ...string) (Object, error) {
		return s.Put(id, configMap("x", value, fmt.Sprintf(`, "deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": [%s]`, strings.Join(finalizers, ", "))), Condition{})
	}
	if made, err := put(s, "1", `"a/b"`, `"c/d"`); err != nil || Ending(made.Content) {
		t.Fatalf("made %v: %v", made, err)
	}
	if would, err := s.Delete(id, Condition{DryRun: true}); err != nil || !Ending(would.Content) || Ending(s.List()[0].Content) {
		t.Errorf("it would be %v: %v", would, err)
	}
	marked, err := s.Delete(id, Condition{})
	if err != nil || !Ending(marked.Content) || marked.Revision != s.Revision() {
		t.Errorf("marked %v: %v", marked, err)
	}
	if again, err := s.Delete(id, Condition{}); err != nil || again.Revision != marked.Revision {
		t.Errorf("twice it is %v: %v", again, err)
	}
	if _, err := s.Put(id, configMap("x", "1"), Condition{New: true}); !errors.Is(err, ErrExists) || err.Error() != `object is being deleted: configmaps "x" already exists` {
		t.Errorf("made anew: %v", err)
	}
	s = open(t, dir, time.UnixMicro(2), nil)
	if edited, err := put(s, "2", `"c/d"`); err != nil || metadataOf(edited.Content)["deletionTimestamp"] != metadataOf(marked.Content)["deletionTimestamp"] {
		t.Errorf("after a restart, edited %v: %v", edited, err)
	}
	if _, err := put(s, "2", `"c/d"`, `"e/f"`); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), "no new finalizers can be added if the object is being deleted") {
		t.Errorf("one more: %v", err)
	}
	gone, err := put(s, "2")
	if err != nil || len(s.List()) > 0 || gone.Revision != s.Revision() {
		t.Errorf("without the last one there are %v: %v", s.List(), err)
	}
	if left, _ := filepath.Glob(dir + "/*.yaml"); len(left) > 0 {
		t.Errorf("there are %q", left)
	}
}

func TestNamesWithUnderscores(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, dir, time.UnixMicro(1), nil)
	role := func(kind, namespace string) []byte {
		return fmt.Appendf(nil, `{"apiVersion": "rbac.authorization.k8s.io/v1", "kind": %q, "metadata": {"name": "system:a_b"%s}, "rules": []}`, kind, namespace)
	}
	ids := []ID{
		{"clusterroles.rbac.authorization.k8s.io", types.NamespacedName{Name: "system:a_b"}},
		{"roles.rbac.authorization.k8s.io", types.NamespacedName{Namespace: "shop", Name: "system:a_b"}},
	}
	for i, body := range [][]byte{role("ClusterRole", ""), role("Role", `, "namespace": "shop"`)} {
		if _, err := s.Put(ids[i], body, Condition{}); err != nil {
			t.Error(err)
		}
	}
	var got []ID
	for _, o := range open(t, dir, time.UnixMicro(2), nil).List() {
		got = append(got, o.ID)
	}
	slices.SortFunc(got, ID.Compare)
	if diff := cmp.Diff(ids, got); diff != "" {
		t.Error(diff)
	}
}

func TestWhatCannotBeReadIsNotGone(t *testing.T) {
	t.Parallel()
	dir, full := t.TempDir(), true
	s := open(t, dir, time.UnixMicro(1), &full) // a full disk is no reason not to begin
	full = false
	if _, err := s.Put(named("pods", "web"), pod("web", "demo:1"), Condition{}); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "pods_shop_web.yaml")
	content, err := os.ReadFile(file)
	if err := errors.Join(err, os.Remove(file), os.Mkdir(file, 0o700)); err != nil {
		t.Fatal(err)
	}
	if set := s.Set(); !s.Look() || show(set) != "web=demo:1" || s.Set().Err == nil {
		t.Errorf("there are %s: %v", show(set), s.Set().Err)
	}
	if err := errors.Join(os.Remove(file), os.WriteFile(file, content, 0o600)); err != nil {
		t.Fatal(err)
	}
	if !s.Look() || show(s.Set()) != "web=demo:1" || s.Set().Err != nil {
		t.Errorf("mended there are %s: %v", show(s.Set()), s.Set().Err)
	}
}

func TestEditsThatKubernetesAllows(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir(), time.UnixMicro(1), nil)
	put := func(id ID, body []byte) error {
		_, err := s.Put(id, body, Condition{})
		return err
	}
	web, settings := named("pods", "web"), named("configmaps", "settings")
	frozen := func(value string) []byte {
		return []byte(strings.Replace(string(configMap("settings", value)), `"kind"`, `"immutable": true, "kind"`, 1))
	}
	labelled := []byte(strings.Replace(string(pod("web", "demo:2")), `"name": "web"}`, `"name": "web", "labels": {"a": "b"}}`, 1))
	for _, step := range []struct {
		does string
		err  error
		want string
	}{
		{"a Pod is made", put(web, pod("web", "demo:1")), ""},
		{"its image is edited", put(web, pod("web", "demo:2")), ""},
		{"its labels are", put(web, labelled), ""},
		{"its command is", put(web, []byte(strings.Replace(string(labelled), `"image"`, `"command": ["x"], "image"`, 1))), "spec: Forbidden: pod updates may not change fields other than"},
		{"its node is", put(web, []byte(strings.Replace(string(labelled), `"containers"`, `"nodeName": "there", "containers"`, 1))), "spec: Forbidden: pod updates may not change fields other than"},
		{"a ConfigMap is made", put(settings, frozen("1")), ""},
		{"one that is immutable is edited", put(settings, frozen("2")), "data: Forbidden: field is immutable when `immutable` is set"},
	} {
		if step.want == "" && step.err == nil {
			continue
		}
		if !errors.Is(step.err, ErrInvalid) || !strings.Contains(step.err.Error(), step.want) {
			t.Errorf("%s: %v, want %s", step.does, step.err, step.want)
		}
	}
}

func TestEditsByHand(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, dir, time.UnixMicro(1), nil)
	if _, err := s.Put(named("pods", "web"), pod("web", "demo:1"), Condition{}); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "pods_shop_web.yaml")
	write := func(content string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	look := func(changed bool, want string) {
		t.Helper()
		if got := s.Look(); got != changed {
			t.Errorf("changed %v, want %v", got, changed)
		}
		if got := show(s.Set()); got != want {
			t.Errorf("there are %s, want %s", got, want)
		}
	}
	look(false, "web=demo:1")
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	good := strings.ReplaceAll(string(content), "demo:1", "demo:2")
	write(good)
	look(true, "web=demo:2")
	look(false, "web=demo:2")
	write(strings.ReplaceAll(good, "image:", "imgae:"))
	look(true, "web=demo:2 refused Pod shop/web kept true")
	write(strings.ReplaceAll(good, "name: web", "name: other"))
	look(true, "web=demo:2 refused Pod shop/web kept true")
	write(good)
	look(true, "web=demo:2")
	if err := errors.Join(os.Remove(file), os.WriteFile(filepath.Join(dir, "configmaps_x.yaml"), nil, 0o600), os.WriteFile(filepath.Join(dir, "notes.yaml"), nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	look(true, "")
	before := s.Revision()
	if err := os.WriteFile(filepath.Join(dir, "configmaps_shop_x.yaml"), configMap("x", "1"), 0o600); err != nil {
		t.Fatal(err)
	}
	look(true, "x")
	if all, after := s.List(), s.Revision(); after <= before || !slices.ContainsFunc(all, func(o Object) bool { return o.ID == named("configmaps", "x") }) {
		t.Errorf("at %d after %d there are %v", after, before, all)
	}
}

func TestAPodHasTheGenerationThatIsWritten(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, dir, time.Now(), nil)
	body := []byte(`{"apiVersion": "v1", "kind": "Pod", "metadata": {"namespace": "shop", "name": "web", "generation": 3}, "spec": {"containers": [{"name": "app", "image": "demo"}]}}`)
	if _, err := s.Put(named("pods", "web"), body, Condition{}); err != nil {
		t.Fatal(err)
	}
	for _, s := range []*Store{s, open(t, dir, time.Now(), nil)} {
		if pods := s.Set().Pods; len(pods) != 1 || pods[0].Generation != 3 {
			t.Errorf("there is %v", pods)
		}
	}
}

// TestNamesLeadNowhere has clients name objects as nobody should, in the path and in the object alike: nothing is written, in
// the folder or outside of it.
func TestNamesLeadNowhere(t *testing.T) {
	t.Parallel()
	outside := t.TempDir()
	dir := filepath.Join(outside, "objects")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	s := open(t, dir, time.UnixMicro(1_000_000), nil)
	for _, name := range []string{"", ".", "..", "../escaped", "/escaped", "a/../../escaped", "a\x00", "a\n", strings.Repeat("a", 300)} {
		for _, r := range []struct{ resource, kind, version, rest string }{
			{"configmaps", "ConfigMap", "v1", ""}, {"roles", "Role", "rbac.authorization.k8s.io/v1", `, "rules": []`},
		} {
			for _, id := range []ID{named(r.resource, name), {r.resource, types.NamespacedName{Namespace: name, Name: "a"}}} {
				body := fmt.Appendf(nil, `{"apiVersion": %q, "kind": %q, "metadata": {"namespace": %q, "name": %q}%s}`, r.version, r.kind, id.Namespace, id.Name, r.rest)
				if _, err := s.Put(id, body, Condition{}); !errors.Is(err, ErrInvalid) {
					t.Errorf("%s: %v", id, err)
				}
			}
		}
		if _, err := s.Put(ID{name, types.NamespacedName{Namespace: "shop", Name: "a"}}, configMap("a", "1"), Condition{}); err == nil {
			t.Errorf("a resource of the name %q is taken", name)
		}
	}
	for _, folder := range []string{outside, dir} {
		entries, err := os.ReadDir(folder)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if e.Name() != "objects" && e.Name() != revisionFile {
				t.Errorf("there is %s", filepath.Join(folder, e.Name()))
			}
		}
	}
}
