package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	v1 "k8s.io/api/core/v1"
)

// password is a text that stands nowhere but in a Secret.
const password = "hunter2-0f5b1c"

const settings = `---
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {colour: %s, game.properties: "lives=3\n"}
`

var keys = fmt.Sprintf(`---
apiVersion: v1
kind: Secret
metadata: {name: keys}
stringData: {user: admin}
data: {password: %s}
`, base64.StdEncoding.EncodeToString([]byte(password)))

// TestObjectsBesideThePod gives a container everything that it can have of a ConfigMap and of a Secret, and looks for the
// Secret where it should not be.
func TestObjectsBesideThePod(t *testing.T) {
	t.Parallel()
	n := launch(t)
	n.apply("all.yaml", simple("all", strings.Join([]string{
		"echo $colour $S_user $ONE $(echo $none)-",
		"cd /config; cat colour; echo; cat game.properties; stat -c '%n %F' ..data colour; readlink colour",
		"stat -L -c '%n %a' /config/colour /secret/password /all/in/colour /all/in/user; cat /all/in/colour /all/in/user; echo; cat /etc/one; echo",
		"cat /secret/password | md5sum; stat -f -c %T /secret; touch /secret/x 2>/dev/null || echo read-only; ls -A /may; " + forever,
	}, "; "), `  volumes:
  - {name: config, configMap: {name: settings}}
  - {name: secret, secret: {secretName: keys, defaultMode: 0400}}
  - {name: may, configMap: {name: none, optional: true}}
  - name: all
    projected:
      defaultMode: 0440
      sources:
      - configMap: {name: settings, items: [{key: colour, path: in/colour}]}
      - secret: {name: keys, items: [{key: user, path: in/user, mode: 0444}]}`)+`    envFrom: [{configMapRef: {name: settings}}, {secretRef: {name: keys}, prefix: S_}, {secretRef: {name: none, optional: true}}]
    env:
    - {name: ONE, valueFrom: {secretKeyRef: {name: keys, key: user}}}
    - {name: none, valueFrom: {configMapKeyRef: {name: settings, key: none, optional: true}}}
    volumeMounts:
    - {name: config, mountPath: /config}
    - {name: config, mountPath: /etc/one, subPath: colour}
    - {name: secret, mountPath: /secret}
    - {name: all, mountPath: /all}
    - {name: may, mountPath: /may}
`+fmt.Sprintf(settings, "blue")+keys)
	pod := n.awaitReady("all")
	n.says(pod, "app", "blue admin admin -", "blue", "lives=3", "..data symbolic link", "colour symbolic link", "..data/colour",
		"/config/colour 644", "/secret/password 400", "/all/in/colour 440", "/all/in/user 444", "blueadmin", "blue",
		"71d351c03e62fba8ec3edc312d569897  -", "tmpfs", "read-only")
	n.stopAgent()
	n.restart()
	n.awaitReady("all")
	n.hides(password)
	n.hides(base64.StdEncoding.EncodeToString([]byte(password)))
}

// hides looks for a text that nobody must see but containers: on disk, in the log, in what the socket answers.
func (n *node) hides(text string) {
	n.t.Helper()
	if strings.Contains(n.log.String(), text) {
		n.t.Errorf("the agent has logged %s", text)
	}
	pods, podsErr := n.client().Pods(context.Background())
	events, eventsErr := n.client().Events(context.Background())
	read, readErr := n.client().Manifests(context.Background())
	answers, err := json.Marshal([]any{pods, events, read})
	if err := errors.Join(podsErr, eventsErr, readErr, err); err != nil {
		n.t.Fatal(err)
	}
	if bytes.Contains(answers, []byte(text)) {
		n.t.Errorf("the socket answers %s", text)
	}
	for _, dir := range []string{"root", "run", "logs"} {
		err := filepath.WalkDir(n.path(dir), func(path string, d fs.DirEntry, err error) error {
			switch {
			case errors.Is(err, fs.ErrNotExist):
				return nil
			case err != nil:
				return err
			case d.IsDir() && (d.Name() == "volumes" || d.Name() == "netns"):
				return fs.SkipDir // volumes are in memory, as the container has seen
			case !d.Type().IsRegular():
				return nil
			}
			content, err := os.ReadFile(path)
			if bytes.Contains(content, []byte(text)) {
				n.t.Errorf("%s holds %s", path, text)
			}
			return err
		})
		if err != nil {
			n.t.Fatal(err)
		}
	}
}

// waits waits until a container waits with a reason, and compares the message.
func (n *node) waits(name, reason, message string) {
	n.t.Helper()
	pod := n.await(name, "waits with "+reason, func(p *v1.Pod) bool {
		w := containerStatus(p, "app").State.Waiting
		return w != nil && w.Reason == reason
	})
	if got := containerStatus(pod, "app").State.Waiting.Message; got != message {
		n.t.Errorf("%s says %q, want %q", name, got, message)
	}
}

// TestAPodWaitsForItsObjects has Pods begin before what they refer to is there, and go on when it changes, breaks or goes.
func TestAPodWaitsForItsObjects(t *testing.T) {
	t.Parallel()
	n := launch(t)
	env := simple("env", "echo $COLOUR; "+forever) + "    env: [{name: COLOUR, valueFrom: {configMapKeyRef: {name: settings, key: colour}}}]\n"
	files := simple("files", "while true; do cat /config/colour; echo; sleep 0.1; done", "  volumes: [{name: config, configMap: {name: settings}}]") +
		"    volumeMounts: [{name: config, mountPath: /config}]\n"
	n.apply("env.yaml", env)
	n.apply("files.yaml", files)
	n.waits("env", "CreateContainerConfigError", `configmap "settings" not found`)
	n.waits("files", "ContainerCreating", "")
	n.eventually("the event is there", func() error {
		events, err := n.client().Events(context.Background())
		if err == nil && !slices.ContainsFunc(events.Items, func(e v1.Event) bool {
			return e.InvolvedObject.Name == "files" && e.Reason == "FailedMount" && e.Message == `MountVolume.SetUp failed for volume "config" : configmap "settings" not found`
		}) {
			err = fmt.Errorf("there are %+v", events.Items)
		}
		return err
	})
	n.apply("settings.yaml", fmt.Sprintf(settings, "blue"))
	n.says(n.awaitReady("env"), "app", "blue")
	pod := n.awaitReady("files")
	n.says(pod, "app", "blue")
	n.apply("settings.yaml", fmt.Sprintf(settings, "red"))
	n.says(pod, "app", "red")
	n.kill()
	n.apply("settings.yaml", fmt.Sprintf(settings, "green"))
	n.restart()
	n.says(pod, "app", "green")
	n.apply("settings.yaml", fmt.Sprintf(strings.Replace(settings, "\ndata", "\ndta", 1), "broken"))
	n.eventually("the edit is refused", func() error {
		m, err := n.client().Manifests(context.Background())
		if err == nil && (len(m.Refused) != 1 || !m.Refused[0].Kept || m.Refused[0].Kind != "ConfigMap") {
			err = fmt.Errorf("refused is %+v", m.Refused)
		}
		return err
	})
	n.remove("settings.yaml")
	n.eventually("people are told", func() error {
		events, err := n.client().Events(context.Background())
		if err == nil && !slices.ContainsFunc(events.Items, func(e v1.Event) bool { return e.Reason == "ObjectNotFound" }) {
			err = errors.New("they are not")
		}
		return err
	})
	if err := syscall.Kill(n.pid(n.awaitReady("env"), "app"), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	again := n.await("env", "is restarted with what it had", func(p *v1.Pod) bool { return containerStatus(p, "app").RestartCount == 1 && isReady(p) })
	n.eventually("it says what it had", func() error {
		if lines := n.logLines(again, "app", 1); !slices.Equal(lines, []string{"green"}) {
			return fmt.Errorf("it says %q", lines)
		}
		return nil
	})
	if s := containerStatus(n.awaitReady("files"), "app"); s.RestartCount != 0 {
		t.Errorf("files was restarted %d times", s.RestartCount)
	}
}

// TestImagePullSecrets pulls a private image with the Secret that a Pod names, once it is there.
func TestImagePullSecrets(t *testing.T) {
	t.Parallel()
	n := launch(t)
	g := newGuardedRegistry(t)
	ref := g.push(t, "private/app:v1", 4321)
	g.set(func() { g.users["me"] = password })
	n.apply("private.yaml", strings.Replace(simple("private", forever, "  imagePullSecrets: [{name: mine}]"), image, ref, 1))
	n.await("private", "is refused its image", func(p *v1.Pod) bool {
		w := containerStatus(p, "app").State.Waiting
		return w != nil && w.Reason == "ErrImagePull"
	})
	auth := fmt.Sprintf(`{"auths": {%q: {"username": "me", "password": %q}}}`, g.address, password)
	n.apply("mine.yaml", fmt.Sprintf("apiVersion: v1\nkind: Secret\nmetadata: {name: mine}\ntype: kubernetes.io/dockerconfigjson\nstringData:\n  .dockerconfigjson: '%s'\n", auth))
	n.awaitReady("private")
	n.hides(password)
	n.apply("none.yaml", strings.Replace(simple("none", forever), image, ref, 1))
	n.await("none", "is refused what another Pod has pulled", func(p *v1.Pod) bool {
		w := containerStatus(p, "app").State.Waiting
		return w != nil && w.Reason == "ErrImagePull"
	})
}
