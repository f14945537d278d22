package network

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
)

func TestNeedsOfTheNetworkThatAPodWouldGet(t *testing.T) {
	for what, c := range map[string]struct {
		files map[string]string
		want  Needs
		says  string // of what is skipped and of faults
	}{
		"the built-in one": {
			want: Needs{Plugins: []string{"portmap"}, Optional: true, Links: true, Forwards: true, Iptables: true},
		},
		"one of the host, with a broken file before it and one after it": {
			files: map[string]string{
				"10-broken.conflist": `{`,
				"20-mine.conflist":   `{"cniVersion": "1.0.0", "name": "mine", "plugins": [{"type": "macvlan", "ipam": {"type": "dhcp"}}]}`,
				"30-unused.conflist": `{`,
			},
			want: Needs{Plugins: []string{"macvlan", "dhcp"}}, says: "10-broken.conflist",
		},
		"a bridge without a gateway": {
			files: map[string]string{"1.conflist": `{"cniVersion": "1.0.0", "name": "mine", "plugins": [{"type": "bridge"}]}`},
			want:  Needs{Plugins: []string{"bridge"}, Links: true},
		},
		"a bridge that is a masquerading gateway": {
			files: map[string]string{"1.conflist": `{"cniVersion": "1.0.0", "name": "mine", "plugins": [{"type": "bridge", "isGateway": true, "ipMasq": true}]}`},
			want:  Needs{Plugins: []string{"bridge"}, Links: true, Forwards: true, Iptables: true},
		},
		"a plugin that is not there": {
			files: map[string]string{"1.conflist": `{"cniVersion": "1.0.0", "name": "mine", "plugins": [{"type": "nowhere"}, {"type": "tuning"}]}`},
			want:  Needs{Plugins: []string{"nowhere", "tuning"}, Missing: []string{"nowhere"}},
		},
		"a version that no plugin knows": {
			files: map[string]string{"1.conflist": `{"cniVersion": "0.9.9", "name": "mine", "plugins": [{"type": "tuning"}]}`},
			want:  Needs{Plugins: []string{"tuning"}}, says: "does not know cniVersion 0.9.9",
		},
	} {
		t.Run(what, func(t *testing.T) {
			n := open(t, nil)
			for file, text := range c.files {
				writeConf(t, n, file, text)
			}
			got, err := n.Needs(context.Background())
			if err != nil {
				t.Fatal(err)
			}
			said := fmt.Sprint(got.Skipped, got.Faults)
			if !strings.Contains(said, c.says) || c.says == "" && said != "[] []" || strings.Contains(said, "unused") {
				t.Errorf("it says %s, want %q", said, c.says)
			}
			if got.Subnet.IsValid() != (c.files == nil) {
				t.Errorf("subnet %v", got.Subnet)
			}
			if !slices.Equal(got.Plugins, c.want.Plugins) || !slices.Equal(got.Missing, c.want.Missing) || got.Optional != c.want.Optional ||
				got.Links != c.want.Links || got.Forwards != c.want.Forwards || got.Iptables != c.want.Iptables {
				t.Errorf("got %+v, want %+v", got, c.want)
			}
		})
	}
}

func TestNoNetworkIsThereWhereNoConfigurationCanBeRead(t *testing.T) {
	n := open(t, nil)
	writeConf(t, n, "1.conflist", "{")
	if _, err := n.Needs(context.Background()); err == nil || !strings.Contains(err.Error(), "1.conflist") {
		t.Errorf("got %v", err)
	}
	if err := os.RemoveAll(n.cfg.ConfDir); err != nil { // or the network could not be taken down
		t.Fatal(err)
	}
}

func TestARehearsalLeavesNothing(t *testing.T) {
	n := open(t, nil)
	if err := n.Rehearse(context.Background(), true); err != nil {
		t.Fatal(err)
	}
	n.noRules(t)
	for _, name := range []string{"bridge", "veth", "peer"} {
		if _, err := netlink.LinkByName(name); err == nil {
			t.Errorf("link %s is left", name)
		}
	}
}

func TestARehearsalSaysWhatDoesNotWork(t *testing.T) {
	n := open(t, nil)
	t.Setenv("PATH", t.TempDir())
	if err := n.Rehearse(context.Background(), true); err == nil || !strings.Contains(err.Error(), "install iptables") {
		t.Errorf("got %v", err)
	}
	if err := n.Rehearse(context.Background(), false); err != nil {
		t.Errorf("links need no iptables: %v", err)
	}
}
