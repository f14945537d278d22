package network

import (
	"context"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
)

// run runs a program, which must succeed.
func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v: %s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// rules are all rules there are, whatever their order.
func rules(t *testing.T) []string {
	t.Helper()
	var out []string
	for line := range strings.Lines(run(t, "iptables-save")) {
		if strings.HasPrefix(line, "-A") {
			out = append(out, strings.TrimSpace(line))
		}
	}
	slices.Sort(out)
	return out
}

// TestWhatAFirewallSweptAwayComesBack has a host that forwards nothing, a neighbour of it and a Pod with a host port, and
// sweeps in every way that firewalls and people do. Traffic flows again, and every rule is there once.
func TestWhatAFirewallSweptAwayComesBack(t *testing.T) {
	n := open(t, nil)
	asHost(t, func() {
		ctx := context.Background()
		reach := amongNeighbours(t, n, "w1")
		whole := rules(t)
		for sentence, sweep := range map[string]func(){
			"nothing": func() {},
			"everything, as a firewall's reload does": func() {
				for _, table := range []string{"nat", "filter"} {
					run(t, "iptables", "-t", table, "-F")
					run(t, "iptables", "-t", table, "-X")
				}
			},
			"the rules, with the chains left": func() {
				run(t, "iptables", "-t", "nat", "-F")
				run(t, "iptables", "-F")
			},
			"the chains' content, with the jumps left": func() {
				run(t, "iptables", "-t", "nat", "-F", n.chain())
				run(t, "iptables", "-F", n.chain())
			},
			"the rules of host ports, with the jump to them left": func() { run(t, "iptables", "-t", "nat", "-F", portChain) },
			"the jumps, with the chains left": func() {
				run(t, "iptables", "-t", "nat", "-F", "POSTROUTING")
				run(t, "iptables", "-t", "nat", "-F", "PREROUTING")
				run(t, "iptables", "-F", "FORWARD")
			},
			"the bridge": func() {
				link, err := netlink.LinkByName(n.bridge)
				if err == nil {
					err = netlink.LinkDel(link)
				}
				if err != nil {
					t.Fatal(err)
				}
			},
		} {
			for _, keeper := range []*Network{n, another(t, n)} { // an agent, and the one that came after it
				sweep()
				if err := keeper.Restore(ctx); err != nil {
					t.Fatalf("%s: %v", sentence, err)
				}
				if got := rules(t); !slices.Equal(got, whole) {
					t.Errorf("swept: %s: got\n%s\nwant\n%s", sentence, strings.Join(got, "\n"), strings.Join(whole, "\n"))
				}
				reach("swept: " + sentence)
			}
		}
		if err := n.GC(ctx, nothing); err != nil {
			t.Error(err)
		}
		if err := n.Destroy(); err != nil {
			t.Error(err)
		}
		if got := rules(t); slices.ContainsFunc(got, func(rule string) bool { return strings.Contains(rule, "CNI-DN") }) {
			t.Errorf("a host port is left:\n%s", strings.Join(got, "\n"))
		}
	})
}

// another is the network as an agent that was started anew has it.
func another(t *testing.T, n *Network) *Network {
	t.Helper()
	other, err := Open(n.cfg)
	if err != nil {
		t.Fatal(err)
	}
	return other
}

// TestNothingIsRestoredThatIsNotInUse has a host without Pods: it gets no rules and no bridge.
func TestNothingIsRestoredThatIsNotInUse(t *testing.T) {
	n := open(t, nil)
	asHost(t, func() {
		if err := n.Restore(context.Background()); err != nil {
			t.Fatal(err)
		}
		n.noRules(t)
		if _, err := netlink.LinkByName(n.bridge); err == nil {
			t.Error("there is a bridge")
		}
	})
}

// TestAHostPortIsNotRestoredWhileItsPodIsRemoved has Restore wait for whoever works on the sandbox, and find it gone.
func TestAHostPortIsNotRestoredWhileItsPodIsRemoved(t *testing.T) {
	eachWay(t, func(t *testing.T, open way) {
		n := open(t, nil)
		asHost(t, func() {
			ctx := context.Background()
			pod := sandbox("w2")
			pod.Ports = []Port{{HostPort: 8081, ContainerPort: 80}}
			add(t, n, pod)
			other := sandbox("w3")
			add(t, n, other)
			run(t, "iptables", "-t", "nat", "-F")
			release, err := n.hold(ctx, pod.ID)
			if err != nil {
				t.Fatal(err)
			}
			limited, cancel := context.WithTimeout(ctx, shortly)
			defer cancel()
			if err := n.Restore(limited); err == nil {
				t.Error("restored while someone works on the sandbox")
			}
			release()
			if err := n.Remove(ctx, pod); err != nil {
				t.Fatal(err)
			}
			if added, err := n.restorePortsOf(ctx, pod.ID); added || err != nil {
				t.Fatal(added, err)
			}
			if err := n.Restore(ctx); err != nil {
				t.Fatal(err)
			}
			if got := rules(t); slices.ContainsFunc(got, func(rule string) bool { return strings.Contains(rule, "8081") }) {
				t.Errorf("the host port is back:\n%s", strings.Join(got, "\n"))
			}
			if err := n.GC(ctx, nothing); err != nil {
				t.Error(err)
			}
			if err := n.Destroy(); err != nil {
				t.Error(err)
			}
		})
	})
}
