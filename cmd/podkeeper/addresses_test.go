package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	discovery "k8s.io/api/discovery/v1"

	"github.com/podkeeper/podkeeper/server"
)

var errTold = errors.New("all is told of")

// endpoints are those of a Service, an address and whether it is ready.
func (n *node) endpoints(service string) (found []string) {
	n.t.Helper()
	err := n.client().Follow(context.Background(), func(c server.Change) error {
		var slice discovery.EndpointSlice
		switch {
		case c.Type == server.Bookmark:
			return errTold
		case c.Resource != "endpointslices.discovery.k8s.io":
			return nil
		case json.Unmarshal(c.Object, &slice) != nil || slice.Labels[discovery.LabelServiceName] != service:
			return nil
		}
		for _, e := range slice.Endpoints {
			found = append(found, fmt.Sprintf("%s:%d %t", e.Addresses[0], *slice.Ports[0].Port, *e.Conditions.Ready))
		}
		return nil
	})
	if !errors.Is(err, errTold) {
		n.t.Fatal(err)
	}
	return found
}

// TestAddressesOfServices has containers told of a Service by its address, which stays over an agent's end, and finds its Pods.
func TestAddressesOfServices(t *testing.T) {
	t.Parallel()
	n := launch(t)
	n.apply("service.yaml", `apiVersion: v1
kind: Service
metadata: {name: web-app}
spec: {selector: {app: web}, ports: [{name: http, port: 80, targetPort: http}]}
`)
	pod := func(name, image string) string {
		return fmt.Sprintf(`apiVersion: v1
kind: Pod
metadata: {name: %s, labels: {app: web}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: app
    image: %s
    command: [/bin/sh, -c, "echo at $WEB_APP_SERVICE_HOST $WEB_APP_PORT_80_TCP_PORT $URL; sleep 1000"]
    env: [{name: URL, value: "http://$(WEB_APP_SERVICE_HOST)/"}]
    ports: [{name: http, containerPort: 8080}]
`, name, image)
	}
	n.apply("one.yaml", pod("one", image))
	at := func(name string) string {
		t.Helper()
		p, told := n.awaitReady(name), ""
		n.eventually(name+" says an address", func() error {
			for _, line := range n.logLines(p, "app", 0) {
				if told = strings.TrimPrefix(line, "at "); strings.HasPrefix(told, "10.96.") {
					return nil
				}
			}
			return fmt.Errorf("it says %q", told)
		})
		return told
	}
	first := at("one")
	address, rest, _ := strings.Cut(first, " ")
	if rest != "80 http://"+address+"/" {
		t.Errorf("a container is told of %q", first)
	}
	if want := []string{n.awaitReady("one").Status.PodIP + ":8080 true"}; !slices.Equal(n.endpoints("web-app"), want) {
		t.Errorf("there are %q, want %q", n.endpoints("web-app"), want)
	}
	n.kill()
	n.restart()
	n.apply("two.yaml", pod("two", image))
	if again := at("two"); again != first {
		t.Errorf("another agent says %q, the one before %q", again, first)
	}
	if got := n.endpoints("web-app"); len(got) != 2 {
		t.Errorf("there are %q", got)
	}
	if s := containerStatus(n.awaitReady("one"), "app"); s.RestartCount != 0 {
		t.Errorf("the first Pod was restarted %d times", s.RestartCount)
	}
}
