package main

import (
	"fmt"
	"io"
	"net"
	"os/exec"
	goruntime "runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// ownHost takes the test's thread, and with it every program that it starts from now on, into a network namespace of its
// own, which has one address. The thread never comes back: it ends with the test.
func ownHost(t *testing.T, address string) {
	t.Helper()
	goruntime.LockOSThread()
	if err := syscall.Unshare(syscall.CLONE_NEWNET); err != nil {
		t.Fatal(err)
	}
	for _, args := range []string{"link set lo up", "link add outer type veth peer name far", "address add " + address + "/24 dev outer", "link set outer up", "link set far up"} {
		host(t, "ip", strings.Fields(args)...)
	}
}

// host runs a program on the test's own host.
func host(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v: %s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// firewall is every rule of the test's own host, whatever their order.
func firewall(t *testing.T) string {
	t.Helper()
	var rules []string
	for line := range strings.Lines(host(t, "iptables-save")) {
		if strings.HasPrefix(line, "-A") {
			rules = append(rules, line)
		}
	}
	slices.Sort(rules)
	return strings.Join(rules, "")
}

// TestAFirewallsReloadIsMadeGood flushes every table and deletes the bridge below Pods that run, also those of an earlier
// agent: within half a minute they are reached as before.
func TestAFirewallsReloadIsMadeGood(t *testing.T) {
	t.Parallel()
	n := launch(t)
	ownHost(t, "192.0.2.1")
	n.stopAgent()
	n.restart()
	n.apply("web.yaml", strings.Replace(simple("web", "mkdir /tmp/w; echo hello > /tmp/w/index.html; httpd -p 80 -h /tmp/w; "+forever),
		"    image:", "    ports: [{containerPort: 80, hostPort: 8080}]\n    image:", 1))
	n.awaitReady("web")
	answers := func() error {
		// The test's own thread dials: it is the one that is on its host.
		conn, err := net.DialTimeout("tcp", "192.0.2.1:8080", time.Second)
		if err != nil {
			return err
		}
		defer conn.Close()
		if _, err := fmt.Fprint(conn, "GET / HTTP/1.0\r\n\r\n"); err != nil {
			return err
		}
		if body, err := io.ReadAll(conn); err != nil || !strings.HasSuffix(string(body), "hello\n") {
			return fmt.Errorf("it says %q, %w", body, err)
		}
		return nil
	}
	n.eventually("the host port answers", answers)
	whole := firewall(t)
	bridge := ""
	for line := range strings.Lines(host(t, "ip", "-o", "link", "show", "type", "bridge")) {
		bridge = strings.TrimSuffix(strings.Fields(line)[1], ":")
	}
	sweep := func() {
		for _, table := range []string{"nat", "filter"} {
			host(t, "iptables", "-t", table, "-F")
			host(t, "iptables", "-t", table, "-X")
		}
		host(t, "ip", "link", "del", bridge)
		if answers() == nil {
			t.Error("the host port answers without a rule")
		}
	}
	for _, agent := range []func(){func() {}, func() { n.kill(); n.restart() }} {
		sweep()
		agent()
		swept := time.Now()
		n.eventually("the host port answers again", answers)
		if took := time.Since(swept); took > patience*3/4 {
			t.Errorf("that took %v", took)
		}
		n.eventually("the firewall is as before", func() error {
			if now := firewall(t); now != whole {
				return fmt.Errorf("it has\n%s\ninstead of\n%s", now, whole)
			}
			return nil
		})
	}
	n.remove("web.yaml")
	n.awaitGone("web")
}

// TestASecondAgentOnANamespaceIsRefused starts another agent with directories of its own, which forgets the namespace.
func TestASecondAgentOnANamespaceIsRefused(t *testing.T) {
	t.Parallel()
	n := launch(t)
	said, err := exec.Command(lab.podkeeper, "agent", "--pod-manifest-path", n.path("manifests"), "--root-dir", n.path("root2"),
		"--run-dir", n.path("run2"), "--container-runtime-endpoint", "unix://"+lab.containerd.Socket(), "--containerd-namespace", n.namespace).CombinedOutput()
	want := fmt.Sprintf("another agent (process %d, --root-dir %s)", n.agent.Process.Pid, n.path("root"))
	if err == nil || !strings.Contains(string(said), want) {
		t.Errorf("got %v: %s; want %q", err, said, want)
	}
}
