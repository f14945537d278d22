package network

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/containernetworking/cni/pkg/types/create"
)

// FuzzResults has plugins answer whatever comes: there are addresses in it, or an error.
func FuzzResults(f *testing.F) {
	for _, answer := range []string{
		`{"cniVersion": "1.0.0", "interfaces": [{"name": "cni0"}, {"name": "eth0", "sandbox": "/run/netns/x"}], "ips": [{"interface": 1, "address": "10.0.0.2/24"}]}`,
		`{"cniVersion": "1.0.0", "ips": [{"interface": -1, "address": "10.0.0.2/24"}]}`,
		`{"cniVersion": "1.0.0", "interfaces": [null], "ips": [{"interface": 0, "address": "10.0.0.2/24"}, null]}`,
		`{"cniVersion": "1.0.0", "interfaces": [{"name": "../../../etc"}], "ips": [{"address": "::ffff:10.0.0.2/120"}]}`,
		`{"cniVersion": "0.3.1", "interfaces": [], "ips": [{"version": "4", "address": "10.0.0.2/24", "interface": 7}]}`,
		`{"cniVersion": "0.2.0", "ip4": {"ip": "10.0.0.2/24"}, "ip6": {"ip": "fd00::2/64"}}`,
		`{"cniVersion": "9", "ips": null}`, `[]`, ``,
	} {
		f.Add([]byte(answer))
	}
	f.Fuzz(func(t *testing.T, answer []byte) {
		result, err := create.CreateFromBytes(answer)
		if err != nil {
			return
		}
		all, err := addresses(result)
		if err == nil && len(all) == 0 {
			t.Error("no address, and no error")
		}
		for _, addr := range all {
			if !addr.IsValid() || addr.Is4In6() || addr.Zone() != "" {
				t.Errorf("an address is %v", addr)
			}
		}
	})
}

// FuzzConfigurations has whatever comes be a network's configuration: it names its plugins, or is refused.
func FuzzConfigurations(f *testing.F) {
	for _, content := range []string{
		`{"cniVersion": "1.0.0", "name": "n", "plugins": [{"type": "bridge", "ipam": {"type": "host-local"}}, {"type": "portmap", "capabilities": {"portMappings": true}}]}`,
		`{"cniVersion": "1.0.0", "name": "n", "type": "bridge"}`, `{"name": "../x", "plugins": [null]}`, `{"plugins": [{}], "disableCheck": "x"}`,
		`{"cniVersion": "1.1.0", "cniVersions": [1], "name": "n", "plugins": [{"type": "../../bin/sh"}]}`, `[]`, ``,
	} {
		f.Add([]byte(content), true)
		f.Add([]byte(content), false)
	}
	f.Fuzz(func(t *testing.T, content []byte, several bool) {
		file := filepath.Join(t.TempDir(), map[bool]string{true: "n.conflist", false: "n.conf"}[several])
		if err := os.WriteFile(file, content, 0o600); err != nil {
			t.Fatal(err)
		}
		list, err := readConfiguration(file)
		if err != nil {
			return
		}
		if len(list.Plugins) == 0 {
			t.Error("no plugins, and no error")
		}
		for _, plugin := range list.Plugins {
			if plugin == nil || plugin.Network == nil || plugin.Network.Type == "" {
				t.Errorf("a plugin is %+v", plugin)
			}
		}
		n := &Network{leases: &leases{}}
		n.isBuiltIn(list)
	})
}
