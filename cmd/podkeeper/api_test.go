package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"github.com/podkeeper/podkeeper/server"
)

// make makes an object through the socket, from YAML, and answers its revision.
func (n *node) make(id server.ObjectID, text string, want server.Condition) (uint64, error) {
	n.t.Helper()
	body, err := yaml.YAMLToJSON([]byte(text))
	if err != nil {
		n.t.Fatal(err)
	}
	answer, err := n.client().PutObject(context.Background(), id, body, want)
	if err != nil {
		return 0, err
	}
	var made v1.Pod // for what all objects have
	if err := json.Unmarshal(answer, &made); err != nil {
		n.t.Fatal(err)
	}
	revision, err := strconv.ParseUint(made.ResourceVersion, 10, 64)
	if err != nil || made.UID == "" {
		n.t.Errorf("made %s: %v", answer, err)
	}
	return revision, nil
}

// TestObjectsThroughTheSocket makes a Pod and what it refers to through the socket, edits and removes them, with agents killed
// in between, and beside Pods of the manifest directory.
func TestObjectsThroughTheSocket(t *testing.T) {
	t.Parallel()
	n := launch(t)
	pod := func(name string) server.ObjectID {
		return server.ObjectID{Resource: "pods", Namespace: "default", Name: name}
	}
	settingsID := server.ObjectID{Resource: "configmaps", Namespace: "default", Name: "settings"}
	reads := func(name string, labels string) string {
		return strings.Replace(simple(name, "while true; do cat /config/colour; echo; sleep 0.1; done", "  volumes: [{name: config, configMap: {name: settings}}]"),
			"metadata: {name: "+name+"}", "metadata: {name: "+name+", namespace: default, labels: {version: \""+labels+"\"}}", 1) +
			"    volumeMounts: [{name: config, mountPath: /config}]\n"
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var mu sync.Mutex
	seen := map[string]string{} // type and phase of Pods, where their object stands, as told last
	go func() {
		_ = n.client().Follow(ctx, func(c server.Change) error {
			var o v1.Pod
			if c.Object != nil && json.Unmarshal(c.Object, &o) == nil {
				mu.Lock()
				defer mu.Unlock()
				seen[c.Resource+"/"+o.Name] = strings.TrimSpace(fmt.Sprintf("%s %s %s", c.Type, o.Status.Phase, filepath.Base(o.Annotations["podkeeper/manifest"])))
			}
			return nil
		})
	}()
	told := func(object, want string) {
		t.Helper()
		n.eventually("followers are told of "+object, func() error {
			mu.Lock()
			defer mu.Unlock()
			if !strings.HasPrefix(seen[object], want) {
				return fmt.Errorf("of %v", seen)
			}
			return nil
		})
	}
	n.apply("file.yaml", reads("file", "1"))
	if _, err := n.make(pod("web"), reads("web", "1"), server.Condition{New: true}); err != nil {
		t.Fatal(err)
	}
	revision, err := n.make(settingsID, strings.Replace(fmt.Sprintf(settings, "blue"), "{name: settings}", "{name: settings, namespace: default}", 1), server.Condition{New: true})
	if err != nil {
		t.Fatal(err)
	}
	web := n.awaitReady("web")
	n.says(web, "app", "blue")
	n.says(n.awaitReady("file"), "app", "blue") // files may refer to what was made here
	told("pods/web", "MODIFIED Running .")
	told("pods/file", "MODIFIED Running file.yaml:3")
	told("configmaps/settings", "ADDED")

	for sentence, c := range map[string]struct {
		id   server.ObjectID
		text string
		want server.Condition
		err  error
		says string
	}{
		"made twice":               {pod("web"), reads("web", "2"), server.Condition{New: true}, server.ErrConflict, "already exists"},
		"edited after an edit":     {settingsID, fmt.Sprintf(settings, "red"), server.Condition{Revision: revision - 1}, server.ErrChanged, "the object has been modified"},
		"what stands in a file":    {pod("file"), reads("file", "2"), server.Condition{}, server.ErrForbidden, `pods "file" is forbidden: it comes from the manifest file.yaml:3 on the node: edit that file instead`},
		"what is wrong":            {pod("bad"), strings.Replace(reads("bad", "1"), "image:", "imgae:", 1), server.Condition{}, server.ErrInvalid, `did you mean "image"?`},
		"what there is no kind of": {server.ObjectID{Resource: "jobs", Namespace: "default", Name: "x"}, reads("x", "1"), server.Condition{}, server.ErrNoObject, "jobs: there is no such resource"},
	} {
		if _, err := n.make(c.id, c.text, c.want); !errors.Is(err, c.err) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want %q", sentence, err, c.says)
		}
	}

	n.kill()
	n.restart()
	if again := n.awaitReady("web"); again.UID != web.UID || containerStatus(again, "app").RestartCount != 0 {
		t.Errorf("after a restart it is another one: %+v", containerStatus(again, "app"))
	}
	if _, err := n.make(pod("web"), reads("web", "2"), server.Condition{}); err != nil {
		t.Fatal(err)
	}
	n.await("web", "has its new label", func(p *v1.Pod) bool { return p.Labels["version"] == "2" && p.UID == web.UID && isReady(p) })
	n.edit("objects/configmaps_default_settings.yaml", "blue", "green")
	n.says(web, "app", "green")

	n.kill()
	n.edit("objects/configmaps_default_settings.yaml", "green", "red")
	n.restart()
	n.says(web, "app", "red")
	begin := time.Now()
	grace := time.Second
	if _, _, err := n.client().DeleteObject(context.Background(), pod("web"), server.Condition{}, &grace); err != nil {
		t.Fatal(err)
	}
	n.awaitGone("web")
	t.Logf("it was gone after %v", time.Since(begin).Round(time.Millisecond))
	if _, _, err := n.client().DeleteObject(context.Background(), pod("web"), server.Condition{}, nil); !errors.Is(err, server.ErrNoObject) {
		t.Errorf("removed twice: %v", err)
	}
	file := n.awaitReady("file")
	if _, _, err := n.client().DeleteObject(context.Background(), pod("file"), server.Condition{}, &grace); err != nil {
		t.Fatal(err)
	}
	n.await("file", "begins anew", func(p *v1.Pod) bool { return p.UID != file.UID && isReady(p) })
	n.remove("file.yaml")
	n.awaitGone("file")
}

// TestGatesNodeAndNamespacesThroughTheSocket has a Pod wait for its readiness gate and for the node to be opened, and end with
// its namespace, with agents killed in between.
func TestGatesNodeAndNamespacesThroughTheSocket(t *testing.T) {
	t.Parallel()
	n := launch(t)
	web := server.ObjectID{Resource: "pods", Namespace: "default", Name: "web"}
	nodeID := server.ObjectID{Resource: "nodes", Name: "testnode"}
	space := server.ObjectID{Resource: "namespaces", Name: "shop"}
	closed := func(unschedulable bool) {
		t.Helper()
		text := fmt.Sprintf("apiVersion: v1\nkind: Node\nmetadata: {name: %s}\nspec: {unschedulable: %v}\n", "testnode", unschedulable)
		if _, err := n.make(nodeID, text, server.Condition{}); err != nil {
			t.Fatal(err)
		}
	}
	closed(true)
	n.kill()
	n.restart()
	gated := strings.Replace(simple("web", "sleep 1000", "  readinessGates: [{conditionType: shop.example/open}]"), "{name: web}", "{name: web, namespace: default}", 1)
	if _, err := n.make(web, gated, server.Condition{New: true}); err != nil {
		t.Fatal(err)
	}
	n.await("web", "waits for the node", func(p *v1.Pod) bool {
		return p.Status.Conditions[0].Message == "0/1 nodes are available: 1 node(s) were unschedulable"
	})
	closed(false)
	n.await("web", "waits for its gate", func(p *v1.Pod) bool {
		return strings.Contains(fmt.Sprint(p.Status.Conditions), "ReadinessGatesNotReady")
	})
	open := []byte(`{"status": {"conditions": [{"type": "shop.example/open", "status": "True"}]}}`)
	answer, err := n.client().PutStatus(context.Background(), web, open, server.Condition{})
	if err != nil || !strings.Contains(string(answer), "shop.example/open") {
		t.Errorf("its status is %s: %v", answer, err)
	}
	was := n.awaitReady("web")
	n.kill()
	n.restart()
	if again := n.awaitReady("web"); again.UID != was.UID {
		t.Error("it is another one")
	}

	if _, err := n.make(space, "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n", server.Condition{New: true}); err != nil {
		t.Fatal(err)
	}
	inside := server.ObjectID{Resource: "pods", Namespace: "shop", Name: "inside"}
	if _, err := n.make(inside, strings.Replace(simple("inside", "sleep 1000"), "{name: inside}", "{name: inside, namespace: shop}", 1), server.Condition{}); err != nil {
		t.Fatal(err)
	}
	n.awaitReady("inside")
	if _, _, err := n.client().DeleteObject(context.Background(), space, server.Condition{}, nil); err != nil {
		t.Fatal(err)
	}
	n.kill()
	n.restart()
	n.awaitGone("inside")
	n.eventually("the namespace is gone", func() error {
		if _, err := os.Stat(n.path("root", "objects", "namespaces_shop.yaml")); !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("it is there: %w", err)
		}
		return nil
	})
}

// TestAPodWithAFinalizerThroughTheSocket has a Pod end whose object somebody holds: how it has ended is told until that one
// lets go, by the next agent, too.
func TestAPodWithAFinalizerThroughTheSocket(t *testing.T) {
	t.Parallel()
	n := launch(t)
	id := server.ObjectID{Resource: "pods", Namespace: "default", Name: "held"}
	text := strings.Replace(simple("held", "sleep 1000"), "{name: held}", "{name: held, namespace: default, finalizers: [shop.example/held]}", 1)
	if _, err := n.make(id, text, server.Condition{New: true}); err != nil {
		t.Fatal(err)
	}
	n.awaitReady("held")
	grace := time.Second
	if _, _, err := n.client().DeleteObject(context.Background(), id, server.Condition{}, &grace); err != nil {
		t.Fatal(err)
	}
	n.awaitGone("held")
	n.kill()
	n.restart()
	errFound := errors.New("found")
	var held v1.Pod
	err := n.client().Follow(t.Context(), func(c server.Change) error {
		if c.Resource == "pods" && json.Unmarshal(c.Object, &held) == nil && held.Name == "held" {
			return errFound
		}
		return nil
	})
	if !errors.Is(err, errFound) || held.Status.Phase != v1.PodFailed || held.DeletionTimestamp == nil || len(held.Status.ContainerStatuses) != 1 {
		t.Fatalf("told of %+v: %v", held, err)
	}
	if ended := held.Status.ContainerStatuses[0].State.Terminated; ended == nil || ended.ExitCode != 137 {
		t.Errorf("its container is %+v", held.Status.ContainerStatuses[0])
	}
	if _, err := n.make(id, text, server.Condition{New: true}); !errors.Is(err, server.ErrConflict) {
		t.Errorf("made anew: %v", err)
	}
	if _, err := n.make(id, strings.Replace(text, ", finalizers: [shop.example/held]", "", 1), server.Condition{}); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(n.path("root", "objects", "pods_default_held.yaml")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("its object is there: %v", err)
	}
}

// edit replaces a text in a file below the root directory.
func (n *node) edit(file, old, text string) {
	n.t.Helper()
	path := n.path("root", file)
	content, err := os.ReadFile(path)
	if err == nil {
		err = os.WriteFile(path, []byte(strings.ReplaceAll(string(content), old, text)), 0o600)
	}
	if err != nil {
		n.t.Fatal(err)
	}
}
