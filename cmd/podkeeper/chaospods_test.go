package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"text/template"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/podkeeper/podkeeper/server"
)

// subject is a Pod that is wanted of a node in chaos.
type subject struct {
	name    string
	kind    *kind
	version int // of its spec: another is another instance
	label   int // what its label says: another is told in place
	cpu     int // its limit, in milli: likewise
	api     bool
	spoiled types.UID // of an instance that could not be started, and is not tried again
}

// out is what Pods have of the host's folders. It is not on the node's disk, which may be full: then they would fail by themselves.
func (c *chaos) out() string { return filepath.Join(labDir, c.namespace+"-out") }

// kind is what Pods are like.
type kind struct {
	name   string
	runs   []string // containers that run
	spec   string   // of v1.PodSpec, a template: numbers CONTAINER FIRST is a script, Out a folder of the host
	ends   bool     // it succeeds
	inFile bool     // never made through the API
	more   string   // a further document
	serves func(*chaos, *subject, *v1.Pod) error
}

func nothingServed(*chaos, *subject, *v1.Pod) error { return nil }

// kinds are the kinds of Pods of a node in chaos.
var kinds = []*kind{
	{name: "plain", runs: []string{"app"}, serves: nothingServed, spec: `
  containers:
  - {name: app, image: {{.Image}}, command: [/bin/sh, -c, {{numbers "app" ""}}], resources: {limits: {cpu: {{.CPU}}m, memory: 64Mi}}}`},
	{name: "sidecar", runs: []string{"side", "app"}, serves: nothingServed, spec: `
  initContainers:
  - {name: init, image: {{.Image}}, command: [/bin/sh, -c, "echo {{.Version}} >> /work/inits"], volumeMounts: [{name: work, mountPath: /work}]}
  - {name: side, image: {{.Image}}, command: [/bin/sh, -c, {{numbers "side" ""}}], restartPolicy: Always, volumeMounts: [{name: work, mountPath: /work}],
     startupProbe: {exec: {command: [test, -e, /work/inits]}, periodSeconds: 1, timeoutSeconds: 5}}
  containers:
  - {name: app, image: {{.Image}}, command: [/bin/sh, -c, {{numbers "app" "test -e /work/inits || exit 9"}}], volumeMounts: [{name: work, mountPath: /work}]}
  volumes: [{name: work, emptyDir: {}}]`},
	{name: "hooks", runs: []string{"app"}, serves: nothingServed, spec: `
  containers:
  - name: app
    image: {{.Image}}
    command: [/bin/sh, -c, {{numbers "app" ""}}]
    lifecycle: {postStart: {exec: {command: [/bin/sh, -c, "sleep 0.1; echo > /tmp/begun"]}}, preStop: {exec: {command: [sleep, "0.2"]}}}
    readinessProbe: {exec: {command: [test, -e, /tmp/begun]}, periodSeconds: 2, timeoutSeconds: 5}`},
	{name: "web", runs: []string{"app"}, inFile: true, serves: (*chaos).webServes, spec: `
  containers:
  - name: app
    image: {{.Image}}
    command: [/bin/sh, -c, {{numbers "app" "mkdir /tmp/w && echo hello > /tmp/w/index.html || exit 7; httpd -p 8080 -h /tmp/w"}}]
    ports: [{containerPort: 8080, hostPort: {{.Port}}}]
    startupProbe: {httpGet: {port: 8080}, periodSeconds: 1, timeoutSeconds: 5, failureThreshold: 10}
    livenessProbe: {exec: {command: ["true"]}, periodSeconds: 1}
    readinessProbe: {httpGet: {port: 8080}, periodSeconds: 1, timeoutSeconds: 5}`},
	{name: "shared", runs: []string{"one", "two"}, serves: nothingServed, spec: `
  shareProcessNamespace: true
  hostUsers: {{.HostUsers}}
  containers:
  - {name: one, image: {{.Image}}, command: [/bin/sh, -c, {{numbers "one" ""}}]}
  - {name: two, image: {{.Image}}, command: [/bin/sh, -c, {{numbers "two" ""}}]}`},
	{name: "volumes", runs: []string{"app"}, inFile: true, serves: nothingServed, spec: `
  hostUsers: {{.HostUsers}}
  containers:
  - name: app
    image: {{.Image}}
    env: [{name: VERSION, value: "{{.Version}}"}]
    command: [/bin/sh, -c, {{numbers "app" "test $(cat /c/version) = $VERSION || exit 8"}}]
    volumeMounts: [{name: c, mountPath: /c}, {name: d, mountPath: /d}, {name: m, mountPath: /m}, {name: h, mountPath: /h, subPath: {{.Name}}}]
  volumes:
  - {name: c, configMap: {name: {{.Name}}}}
  - {name: d, downwardAPI: {items: [{path: labels, fieldRef: {fieldPath: metadata.labels}}]}}
  - {name: m, emptyDir: {medium: Memory}}
  - {name: h, hostPath: {path: {{.Out}}}}`, more: `---
apiVersion: v1
kind: ConfigMap
metadata: {name: {{.Name}}}
data: {version: "{{.Version}}"}
`},
	{name: "job", ends: true, serves: (*chaos).ranOnce, spec: `
  restartPolicy: Never
  containers:
  - {name: app, image: {{.Image}}, command: [/bin/sh, -c, "echo ran >> /out/{{.Name}}-{{.Version}}"], volumeMounts: [{name: out, mountPath: /out}]}
  volumes: [{name: out, hostPath: {path: {{.Out}}}}]`},
}

func (s *subject) mark(container string) string {
	return fmt.Sprintf("%s %s %d", s.name, container, s.version)
}

func (s *subject) port() string {
	number, _ := strconv.Atoi(strings.TrimLeft(s.name, "abcdefghijklmnopqrstuvwxyz"))
	return strconv.Itoa(20000 + number)
}

// manifest is the Pod, and what belongs to it, in YAML.
func (c *chaos) manifest(s *subject) string {
	c.t.Helper()
	// What a container runs says who it is, and counts.
	numbers := func(container, first string) string {
		return strconv.Quote(fmt.Sprintf(": chaos %s %s; trap 'exit 0' TERM; %s\ni=0; while :; do i=$((i+1)); echo n $i; sleep 0.4 & wait $!; done",
			c.namespace, s.mark(container), first))
	}
	const head = `apiVersion: v1
kind: Pod
metadata: {name: {{.Name}}, labels: {version: "{{.Version}}", label: "{{.Label}}"}}
spec:
  terminationGracePeriodSeconds: 5`
	of, err := template.New("").Funcs(template.FuncMap{"numbers": numbers}).Parse(head + s.kind.spec + "\n" + s.kind.more)
	if err != nil {
		c.t.Fatal(err)
	}
	var text strings.Builder
	err = of.Execute(&text, map[string]any{
		"Name": s.name, "Version": s.version, "Label": s.label, "CPU": s.cpu, "Image": image, "Out": c.out(), "Port": s.port(),
		"HostUsers": cannotMap(c.t, true) != "",
	})
	if err != nil {
		c.t.Fatal(err)
	}
	return text.String()
}

// isWanted says what is not as wanted of a Pod.
func (s *subject) isWanted(p *v1.Pod) error {
	switch {
	case p.Labels["version"] != strconv.Itoa(s.version) || p.DeletionTimestamp != nil:
		return errors.New("it is of another version")
	case p.Labels["label"] != strconv.Itoa(s.label):
		return errors.New("it has another label")
	case s.kind.ends && p.Status.Phase != v1.PodSucceeded && p.UID != s.spoiled:
		return errors.New("it has not succeeded")
	case s.kind.ends:
		return nil
	case !isReady(p):
		return errors.New("it is not Ready")
	}
	for _, name := range s.kind.runs {
		if containerStatus(p, name).State.Running == nil {
			return fmt.Errorf("%s does not run", name)
		}
	}
	if s.kind.name != "plain" {
		return nil
	}
	if given := containerStatus(p, "app").Resources; given == nil || given.Limits.Cpu().MilliValue() != int64(s.cpu) {
		return errors.New("it has other resources")
	}
	return nil
}

// webServes asks a web server, at its Pod and at its host's port.
func (c *chaos) webServes(s *subject, p *v1.Pod) error {
	for _, address := range []string{p.Status.PodIP + ":8080", "192.0.2.1:" + s.port()} {
		conn, err := net.DialTimeout("tcp", address, time.Second) // by the test's own thread, which is on its host
		if err != nil {
			return err
		}
		_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
		_, err = fmt.Fprint(conn, "GET / HTTP/1.0\r\n\r\n")
		body, readErr := io.ReadAll(conn)
		if err := errors.Join(err, readErr, conn.Close()); err != nil || !strings.HasSuffix(string(body), "hello\n") {
			return fmt.Errorf("%s says %q, %w", address, body, err)
		}
	}
	return nil
}

// ranOnce says whether the container of a job has done its work not at all, or twice.
func (c *chaos) ranOnce(s *subject, p *v1.Pod) error {
	if p.UID == s.spoiled {
		return nil
	}
	said, err := os.ReadFile(filepath.Join(c.out(), fmt.Sprintf("%s-%d", s.name, s.version)))
	if string(said) != "ran\n" {
		return fmt.Errorf("it has written %q, %w", said, err)
	}
	return nil
}

func kindOf(name string) *kind {
	return kinds[slices.IndexFunc(kinds, func(k *kind) bool { return k.name == name })]
}

// add wants one more Pod.
func (c *chaos) add() *subject { return c.addOf(kinds[c.made%len(kinds)]) }

// addOf wants one more Pod of a kind.
func (c *chaos) addOf(of *kind) *subject {
	c.made++
	s := &subject{name: fmt.Sprintf("%s%d", of.name, c.made), kind: of, version: 1, cpu: 100, api: !of.inFile && c.random.IntN(3) == 0}
	c.pods[s.name] = s
	c.write(s)
	return s
}

// write says to the agent what a Pod is to be.
func (c *chaos) write(s *subject) {
	c.t.Helper()
	if !s.api {
		c.apply(s.name+".yaml", c.manifest(s))
		return
	}
	if _, err := c.make(podID(s.name), c.manifest(s), server.Condition{New: true}); err != nil {
		c.t.Errorf("make %s: %v", s.name, err)
	}
}

func podID(name string) server.ObjectID {
	return server.ObjectID{Resource: "pods", Namespace: "default", Name: name}
}

// drop wants a Pod no more.
func (c *chaos) drop(name string) {
	c.t.Helper()
	s := c.pods[name]
	delete(c.pods, name)
	if !s.api {
		c.remove(name + ".yaml")
		return
	}
	if _, _, err := c.client().DeleteObject(c.t.Context(), podID(name), server.Condition{}, nil); err != nil {
		c.t.Errorf("remove %s: %v", name, err)
	}
}

// some is a Pod by chance that is one of those, nil where there is none.
func (c *chaos) some(is func(*subject) bool) *subject {
	var names []string
	for name, s := range c.pods {
		if is(s) {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return nil
	}
	slices.Sort(names)
	return c.pods[names[c.random.IntN(len(names))]]
}

func isRunning(s *subject) bool { return !s.kind.ends }
func isOfFile(s *subject) bool  { return !s.api }

// someContainer is a container that runs, by chance.
func (c *chaos) someContainer() (*subject, string) {
	s := c.some(isRunning)
	if s == nil {
		return nil, ""
	}
	return s, s.kind.runs[c.random.IntN(len(s.kind.runs))]
}

// uid is that of the instance that ran when all was as wanted.
func (c *chaos) uid(s *subject) types.UID { return c.before[s.name].uid }
