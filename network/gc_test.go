package network

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// shortly is how long a plugin that hangs is waited for.
const shortly = 300 * time.Millisecond

// recorder is a configuration with one plugin, which answers with an address and writes down what it was asked for.
type recorder struct{ folder string }

func record(t *testing.T, script string) (*Network, recorder) {
	t.Helper()
	r := recorder{t.TempDir()}
	n := open(t, func(c *Config) { c.BinDir = r.folder })
	plugin := "#!/bin/sh\ncat >/dev/null\necho $CNI_COMMAND $CNI_CONTAINERID >> " + r.file() + "\n" + script + `
case $CNI_COMMAND in
ADD) nsenter --net=$CNI_NETNS ip link add $CNI_IFNAME type bridge || exit 1
	echo '{"cniVersion":"1.1.0","interfaces":[{"name":"eth0","sandbox":"'$CNI_NETNS'"}],"ips":[{"address":"10.193.79.2/24","interface":0}]}';;
VERSION) echo '{"cniVersion":"1.1.0","supportedVersions":["1.0.0","1.1.0"]}';;
esac
`
	if err := os.WriteFile(filepath.Join(r.folder, "recorder"), []byte(plugin), 0o755); err != nil {
		t.Fatal(err)
	}
	writeConf(t, n, "10-shared.conflist", `{"cniVersion":"1.1.0","name":"shared","plugins":[{"type":"recorder"}]}`)
	return n, r
}

func (r recorder) file() string { return filepath.Join(r.folder, "asked") }

// asked is what the plugin was asked for since the last time.
func (r recorder) asked(t *testing.T) []string {
	t.Helper()
	b, err := os.ReadFile(r.file())
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	if err := os.WriteFile(r.file(), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSpace(string(b)), "\n")
}

// TestGCLeavesOthersAttachmentsAlone has a configuration that speaks CNI 1.1: its plugins are asked to delete what is
// recorded here and not kept, and nothing else.
func TestGCLeavesOthersAttachmentsAlone(t *testing.T) {
	n, plugin := record(t, "")
	for _, id := range []string{"keep", "gone"} {
		add(t, n, sandbox(id))
	}
	if got := plugin.asked(t); !slices.Equal(got, []string{"ADD keep", "ADD gone"}) {
		t.Fatalf("the plugin was asked for %q", got)
	}
	if err := n.GC(context.Background(), only("keep")); err != nil {
		t.Fatal(err)
	}
	if got := plugin.asked(t); !slices.Equal(got, []string{"DEL gone"}) {
		t.Errorf("the plugin was asked for %q", got)
	}
}

// TestAPluginThatFailsIsAskedAgain has a plugin that fails, or hangs, to delete: the sandbox stays known until one of Remove
// and GC succeeds.
func TestAPluginThatFailsIsAskedAgain(t *testing.T) {
	for sentence, script := range map[string]string{
		"fails": `[ $CNI_COMMAND = DEL ] && { echo '{"code":999,"msg":"no way"}'; exit 1; }`,
		"hangs": `[ $CNI_COMMAND = DEL ] && exec sleep 1000`,
		"hangs, and its children hold its output": `[ $CNI_COMMAND = DEL ] && { sleep 1000 & sleep 1000; }`,
	} {
		t.Run(sentence, func(t *testing.T) {
			broken := filepath.Join(t.TempDir(), "broken")
			n, _ := record(t, fmt.Sprintf("if [ -e %s ]; then\n%s\nfi", broken, script))
			s := sandbox("d1")
			add(t, n, s)
			if err := os.WriteFile(broken, nil, 0o644); err != nil {
				t.Fatal(err)
			}
			for range 2 {
				ctx, cancel := context.WithTimeout(context.Background(), shortly)
				if err := n.Remove(ctx, s); err == nil {
					t.Error("removed, although the plugin failed")
				}
				if err := n.GC(ctx, nothing); err == nil {
					t.Error("collected, although the plugin failed")
				}
				cancel()
				if !n.hasInterface(s.ID) {
					t.Error("the namespace was let go of before the plugin succeeded")
				}
			}
			if err := os.Remove(broken); err != nil {
				t.Fatal(err)
			}
			if sentence == "fails" {
				if err := n.Remove(context.Background(), s); err != nil {
					t.Error(err)
				}
			} else if err := n.GC(context.Background(), nothing); err != nil {
				t.Error(err)
			}
			if left, err := n.cni.GetCachedAttachments(s.ID); err != nil || len(left) > 0 || n.pinned(s.ID) != "" {
				t.Errorf("something is left: %v, %v", left, err)
			}
		})
	}
}

func TestPortRulesThatCannotBeTold(t *testing.T) {
	const shell = "#!/bin/sh\n"
	for sentence, r := range map[string]struct {
		iptables string // the program; none where it is empty
		rules    string
		fails    bool
	}{
		"there is no iptables":   {"", "", false},
		"there are rules":        {shell + "echo '-N CNI-HOSTPORT-DNAT'", "-N CNI-HOSTPORT-DNAT\n", false},
		"there is no such chain": {shell + "exit 1", "", false},
		"there is no such table": {shell + "exit 3", "", false},
		"others have the lock":   {shell + "exit 4", "", true},
		"it is killed":           {shell + "kill -9 $$", "", true},
		"it cannot be run":       {"no program", "", true},
	} {
		t.Run(sentence, func(t *testing.T) {
			folder := t.TempDir()
			t.Setenv("PATH", folder)
			if r.iptables != "" {
				if err := os.WriteFile(filepath.Join(folder, "iptables"), []byte(r.iptables), 0o755); err != nil {
					t.Fatal(err)
				}
			}
			rules, err := portRules(t.Context())
			if rules != r.rules || (err != nil) != r.fails {
				t.Errorf("got %q, %v; want %q, fails %v", rules, err, r.rules, r.fails)
			}
		})
	}
}
